"""What the journal's events mean to the rules, event by event, and from any prefix."""

import random
from functools import reduce

import pytest
from hypothesis import given, settings, strategies as st

from bgdeploy.drive import drive
from bgdeploy.memory import CHANGES, fold, remember
from bgdeploy.model import Goal, Memory, Policy, Release, Want
from tests import simulate
from tests.datacentre import Instance, Killed, Machine, Notebook, World
from tests.scenes import NOW, TWO, began, did, host, passed, remembers, steady, waiting

TAKEN = did("standby", "green-1 green-2", steady())
OUT = steady(host("green-1", "standby"), host("green-2", "standby"))
CONVERGED = did("converge", "green-1", OUT)
BEFORE = {name: "api=s1,web=s1" for name in ("green-1", "green-2")}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 40))
def test_the_fold_is_incremental_and_every_prefix_of_a_run_is_a_memory(seed):
    events = events_of(seed)
    cut = random.Random(seed).randint(0, len(events))
    assert reduce(remember, events[cut:], fold(events[:cut])) == fold(events)


def events_of(seed):
    """The journal of an arbitrary trial."""
    rng, books = random.Random(seed), []
    world = simulate.arbitrary_world(rng, {"lost": 0.1, "chef_fails": 0.2, "sanity_fails": 0.2})
    goal, policy = simulate.arbitrary_goal(rng, world), simulate.arbitrary_policy(rng, world)
    books.append(Notebook(world))
    simulate.begin(world, books[0], goal)
    drive(goal, policy, books[0], world.ports())
    return books[0].events


JUNK = (None, True, 0, -1, 2.5, "", "x", "green-1", [], [None], ["green-1"], [["x", 1]], {}, {"x": None}, {"green-1": "api=s1"},
        {"hosts": 5}, {"exclude": [1]}, {"exclude": {"green-1": 1}})
FIELDS = ("at", "run", "seen", "options", "wait", "stack", "hosts", "step", "release", "started", "served", "host", "outcome",
          "outcomes", "choice", "gate", "detail", "reason", "passed", "sanity", "evidence")


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 1 << 40))
def test_the_fold_is_total_an_event_that_cannot_be_read_is_skipped(seed):
    rng = random.Random(seed)
    events = [{"kind": rng.choice([*CHANGES, "later", None]),
               **{name: rng.choice(JUNK) for name in rng.sample(FIELDS, rng.randint(0, 9))}}
              for _ in range(rng.randint(1, 6))]
    assert isinstance(fold([began(steady()), *events]), Memory)


def test_a_missing_field_counts_as_absent():
    for kind in CHANGES:
        assert isinstance(fold([{"kind": kind}]), Memory)


def test_no_event_changes_the_memory_that_it_is_given():
    before = remembers(TAKEN)
    copy = remembers(TAKEN)
    remember(before, CONVERGED)
    assert before == copy


def test_began_names_the_run_its_first_look_and_who_is_left_out():
    memory = fold([began(steady(), exclude={"green-2": "disk"})])
    assert memory.run == "run" and memory.first_seen == steady() and memory.excluded == {"green-2": "disk"} and not memory.acted


def test_a_first_look_of_another_bgdeploy_is_not_known():
    assert fold([{**began(steady()), "seen": {"at": 1, "hosts": [{"name": "x", "new_field": 1}]}}]).first_seen is None


def test_a_later_process_leaves_out_more_and_counts_no_time_that_nobody_watched():
    memory = remembers(waiting("pool", "green", NOW), waiting("soak", "green", NOW),
                       {"kind": "resumed", "at": NOW + 50, "options": {"exclude": {"blue-1": "fan"}}})
    assert memory.waits == {("soak", "green"): NOW} and memory.excluded == {"blue-1": "fan"}


def test_a_wait_runs_from_its_first_event_until_an_act_on_its_stack():
    first, second = waiting("pool", "green", NOW), waiting("pool", "green", NOW + 5)
    assert remembers(first, second).waits == {("pool", "green"): NOW}
    assert remembers(first, TAKEN).waits == {}
    assert remembers(waiting("pool", "blue", NOW), waiting("soak", "green", NOW), TAKEN).waits == {
        ("pool", "blue"): NOW, ("soak", "green"): NOW}


def test_a_wait_that_was_got_past_leaves_nothing_to_the_next_of_its_kind():
    over = {"kind": "waited", "wait": "pool", "stack": "green"}
    assert remembers(waiting("pool", "green", NOW), {**over, "passed": True}).waits == {}
    assert remembers(waiting("pool", "green", NOW), over).waits == {("pool", "green"): NOW}
    soak = remembers(waiting("soak", "green", NOW), {**over, "wait": "soak", "passed": True})
    assert soak.waits == {("soak", "green"): NOW}


def test_only_a_drain_has_outcomes_and_they_last_until_the_host_leaves_live_again():
    waited = {"kind": "waited", "wait": "drain", "stack": "green", "outcomes": {"green-1": "unmeasured"}}
    assert remembers(TAKEN, waited).drains == {"green-1": "unmeasured"}
    assert remembers(TAKEN, {**waited, "wait": "pool"}).drains == {}
    assert remembers(TAKEN, waited, TAKEN).drains == {}


def test_a_drain_is_over_once_its_host_goes_live_again_whoever_takes_it_out_after_that():
    """By hand, say: new requests are in flight then, and they were not waited for."""
    waited = {"kind": "waited", "wait": "drain", "stack": "green", "outcomes": {"green-1": "timed-out 3 left"}}
    assert remembers(TAKEN, waited, did("live", "green-1", OUT, release=None)).drains == {}


def test_a_drain_that_did_not_end_well_is_told_at_the_end_though_its_host_left_live_again():
    """As an application that boots as live does after each converge."""
    waited = {"kind": "waited", "wait": "drain", "outcomes": {"green-1": "unmeasured", "green-2": "drained"}}
    assert remembers(TAKEN, waited, TAKEN).undrained == {"green-1": "unmeasured"}


def test_standby_remembers_how_it_ran_of_those_that_served():
    assert remembers(did("standby", "green-1 green-2", steady(), served="green-2")).taken == {"green-2": "api=s1,web=s1"}


def test_standby_repeated_after_a_lost_answer_keeps_what_was_taken_out():
    assert remembers(TAKEN, did("standby", "green-1 green-2", OUT, served="")).taken == BEFORE


def test_a_converge_voids_what_was_known_of_the_host():
    after = steady(host("green-1", "standby", "2", started="s2"), OUT.host("green-2"))
    known = [TAKEN, CONVERGED, passed("green-1", after), {"kind": "seen_live", "hosts": {"green-1": "x"}},
             {"kind": "untested", "hosts": {"green-1": "y"}}]
    memory = remembers(*known, did("converge", "green-1", after))
    assert not memory.sane and not memory.insane and not memory.released and not memory.untested
    assert memory.jobs == {"green-1": "api=s1,web=s1"} and memory.converges == {"green-1": 2} and memory.lived == {"green-1"}


def test_sanity_is_of_host_release_and_process_and_the_last_result_counts():
    after = steady(host("green-1", "standby", "2", started="s2"))
    key = ("green-1", TWO.id, "api=s2,web=s2")
    ok, wrong = passed("green-1", after), passed("green-1", after, outcome="failed", detail="no")
    assert remembers(ok).sane == {key} and remembers(wrong).insane == {key: "no"}
    assert remembers(wrong, ok).insane == {} and remembers(ok, wrong).sane == frozenset()
    assert remembers(passed("green-1", after, outcome="unknown")).sane == frozenset()


def test_whoever_was_put_live_is_released_only_when_seen_to_serve():
    put = did("live", "green-1 green-2", OUT)
    assert remembers(TAKEN, put).put == BEFORE and not remembers(TAKEN, put).released
    seen = remembers(TAKEN, put, {"kind": "seen_live", "hosts": {"green-1": "api=s1,web=s1"}})
    assert seen.released == {"green-1": "api=s1,web=s1"} == {"green-1": seen.released["green-1"]}
    assert set(seen.put) == {"green-2"} == set(seen.taken) and seen.lived == {"green-1"}


def test_dropped_and_begun_acts_are_tries_by_process():
    memory = remembers(TAKEN, {**TAKEN, "kind": "dropped"})
    assert memory.tries[("standby", "green-1", TWO.id, "api=s1,web=s1")] == 2
    assert remembers({**TAKEN, "kind": "dropped"}).acted is False


def test_answers():
    def answered(choice, **more):
        return remembers({"kind": "answered", "choice": choice, "gate": "g", "stack": "green", "hosts": ["green-1"], **more})
    assert answered("approve").approved == {("g", "green")}
    assert answered("retry").forgiven == {"green-1"}
    assert answered("exclude").excluded == {"green-1": "failed"} and answered("exclude", reason="x").excluded == {"green-1": "x"}
    assert "green-1" in answered("proceed").drains
    assert answered("repeat").answers == {("g", "green"): "repeat"}


def test_forgiving_gives_another_try_and_keeps_count_of_the_converges():
    wrong = passed("green-1", OUT, outcome="failed")
    memory = remembers(TAKEN, CONVERGED, CONVERGED, wrong, {"kind": "forgave", "hosts": ["green-1"]})
    assert memory.forgiven == {"green-1"} and not memory.insane
    assert memory.converges == {"green-1": 2} and memory.spent == {"green-1": 1}
    assert {key[1] for key in memory.tries} == {"green-2"}


def test_whom_a_person_took_out_is_forgiven_only_where_a_person_names_the_host():
    """`resume`, which a CI job types by itself, put such a host live again: it fought the person."""
    lived = [did("live", "green-1", OUT), {"kind": "seen_live", "hosts": {"green-1": "api=s1,web=s1"}}]
    forgave = {"kind": "forgave", "hosts": ["green-1"]}
    assert remembers(*lived, {**forgave, "named": False}).released == {"green-1": "api=s1,web=s1"}
    assert not remembers(*lived, {**forgave, "named": False}).tries
    assert not remembers(*lived, forgave).released
    assert remembers(*lived, forgave).put == {"green-1": "api=s1,web=s1"}      # who serves is proved anew at the next look


def test_asking_for_sanity_again_forgets_the_old_evidence():
    ok = passed("green-1", OUT)
    assert remembers(ok, {"kind": "forgave", "hosts": ["green-1"]}).sane
    assert not remembers(ok, {"kind": "forgave", "hosts": ["green-1"], "sanity": True}).sane


def whole_rollout(kill_at):
    """A faultless rollout of two stacks, killed at one port call or journal write and resumed. Returns (world, End, calls)."""
    world = World([Machine(f"{stack}-{n}", stack, [Instance("web")]) for stack in ("green", "blue") for n in (1, 2)])
    goal = Goal(tuple(Want(stack, "live", Release((("web", "2"),))) for stack in ("green", "blue")), "m", (("web", "2"),),
                kind="rollout")
    book = Notebook(world)
    simulate.begin(world, book, goal)
    world.kill_at, world.migration["repeatable"] = kill_at, True
    for _ in range(2):
        try:
            return world, drive(goal, Policy(), book, world.ports()), world.calls
        except Killed:
            world.migration["alive"] = False
            simulate.resume(world, book)
    raise AssertionError("killed twice")


def test_killed_between_any_two_calls_or_events_resume_finishes_and_no_law_is_broken():
    _, end, calls = whole_rollout(None)
    assert end.exit_code == 0
    for n in range(2, calls + 1):
        world, end, _ = whole_rollout(n)
        assert (end.exit_code, world.broken) == (0, []), f"killed at call {n}: {end.why}"
        assert {i.version for m in world.machines for i in m.instances} == {"2"} and world.migration["state"] == "done"


@pytest.mark.parametrize("kind", ["watched", "hook", "warned", "ended", "acted", "of-a-newer-bgdeploy"])
def test_events_for_people_change_nothing(kind):
    assert remember(remembers(TAKEN), {"kind": kind, "hosts": ["green-1"], "step": "converge"}) == remembers(TAKEN)
