"""What holds the ladder back, or goes around it: gates, hours, soak, too many tries, steps by hand, rescue, back."""

from dataclasses import replace

import pytest

from bgdeploy.model import Ask, Closed, Do, Done, Goal, Memory, Stop, Wait
from bgdeploy.prove import drained
from tests.scenes import (NOW, ONE, POLICY, TWO, asked, back, by_hand, dark, deploy, did, foreign, host, job, mixed, part, passed,
                          remembers, rollout, steady, waiting)

TAKEN = did("standby", "green-1 green-2", steady())
OUT = steady(host("green-1", "standby"), host("green-2", "standby"))
QUIET = {"quiet": {n: NOW - 2 for n in ("green-1", "green-2", "blue-1", "blue-2")}}
READY = steady(*(host(n, "standby", "2", job=job(), started="s2") for n in ("green-1", "green-2")))
SERVED = steady(*(host(n, "live", "2", job=job(), started="s2") for n in ("green-1", "green-2")))
TESTED = (TAKEN, did("converge", "green-1 green-2", OUT), passed("green-1 green-2", READY))
LIVED = (*TESTED, did("live", "green-1 green-2", READY),
         {"kind": "seen_live", "hosts": {h.name: h.started for h in SERVED.stack("green")}})
RESUMED = [{"kind": "resumed", "at": NOW}, {"kind": "forgave", "hosts": ["green-1", "green-2", "migrate"]}]
ALWAYS = (Closed(tuple(range(7)), 0, 1440),)


def is_do(step, kind, *hosts):
    return isinstance(step, Do) and step.step == kind and step.hosts == hosts


class TestGates:
    @pytest.mark.parametrize("gate, world, events", [
        ("standby", steady(), ()), ("converge", OUT, (TAKEN,)), ("sanity", READY, TESTED[:2]), ("live", READY, TESTED)])
    def test_before_a_gated_step_a_person_approves(self, gate, world, events):
        memory = remembers(*events, **QUIET)
        step = asked(deploy(), world, memory, gates=(gate,))
        assert isinstance(step, Ask) and (step.gate, step.stack, step.choices) == (gate, "green", ("approve", "stop"))
        approved = {"kind": "answered", "choice": "approve", "gate": gate, "stack": "green"}
        assert asked(deploy(), world, remembers(*events, approved, **QUIET), gates=(gate,)).step == gate

    def test_an_approval_is_for_one_stack(self):
        approved = {"kind": "answered", "choice": "approve", "gate": "standby", "stack": "blue"}
        assert isinstance(asked(deploy(), steady(), remembers(approved), gates=("standby",)), Ask)

    def test_between_stacks_a_person_approves_and_resume_alone_is_no_approval(self):
        for events in (LIVED, (*LIVED, *RESUMED)):
            step = asked(rollout(), SERVED, remembers(*events), gates=("stack",))
            assert isinstance(step, Ask) and (step.gate, step.stack) == ("stack", "blue")

    def test_nothing_holds_the_way_back_or_what_makes_things_safe(self):
        assert is_do(asked(back(), steady(), gates=("standby", "stack")), "standby", "green-1", "green-2")
        down = steady(*OUT.stack("green"), host("blue-1", "down"), host("blue-2", "down"))
        memory = remembers(TAKEN, short_since=NOW - 5)
        assert asked(deploy(), down, memory, gates=("live",)).rescue


class TestSoak:
    def test_the_first_stack_serves_a_while_before_the_next_leaves(self):
        step = asked(rollout(), SERVED, remembers(*LIVED), soak=10)
        assert isinstance(step, Wait) and (step.kind, step.stack) == ("soak", "green") and step.until == NOW + 10
        assert is_do(asked(rollout(), SERVED, remembers(*LIVED, waiting("soak", "green", NOW - 11)), soak=10), "standby",
                     "blue-1", "blue-2")

    def test_soak_goes_on_over_a_resume_and_is_not_skipped(self):
        begun = waiting("soak", "green", NOW - 4)
        assert asked(rollout(), SERVED, remembers(*LIVED, begun, *RESUMED), soak=10).until == NOW + 6

    def test_a_clock_set_back_in_between_makes_it_no_longer_than_a_whole_soak(self):
        step = asked(rollout(), SERVED, remembers(*LIVED, waiting("soak", "green", NOW + 3600), *RESUMED), soak=10)
        assert step.until == NOW + 10

    def test_a_stack_that_was_as_wanted_before_needs_none(self):
        done = steady(*(host(n, release="2", job=job(run="another")) for n in ("green-1", "green-2")))
        assert is_do(asked(rollout(), done, soak=10), "standby", "blue-1", "blue-2")

    def test_a_stack_in_between_that_was_as_wanted_does_not_skip_it(self):
        red = [host(n, release="2", job=job(run="another")) for n in ("red-1", "red-2")]
        step = asked(rollout("green", "red", "blue"), steady(*SERVED.stack("green"), *red), remembers(*LIVED), soak=10)
        assert (step.kind, step.stack) == ("soak", "green")


class TestClosedHours:
    def test_no_run_begins_in_them(self):
        step = asked(deploy(), steady(), closed=ALWAYS)
        assert isinstance(step, Stop) and "00:00-24:00 UTC" in step.why and "--override-hours" in step.next_command

    def test_not_on_a_stack_that_is_out_of_live_either(self):
        assert isinstance(asked(deploy(), OUT, Memory(run="run", **QUIET), closed=ALWAYS), Stop)

    def test_met_between_stacks_a_person_is_asked(self):
        step = asked(rollout(), SERVED, remembers(*LIVED), closed=ALWAYS)
        assert isinstance(step, Ask) and (step.gate, step.stack) == ("hours", "blue")
        approved = {"kind": "answered", "choice": "approve", "gate": "hours", "stack": "blue"}
        assert is_do(asked(rollout(), SERVED, remembers(*LIVED, approved), closed=ALWAYS), "standby", "blue-1", "blue-2")

    def test_what_was_begun_goes_on(self):
        assert is_do(asked(deploy(), OUT, remembers(TAKEN, **QUIET), closed=ALWAYS), "converge", "green-1")
        assert is_do(asked(deploy(), READY, remembers(*TESTED), closed=ALWAYS), "live", "green-1", "green-2")

    @pytest.mark.parametrize("goal", [back(), replace(deploy(), kind="rollback")])
    def test_they_never_hold_back_or_rollback(self, goal):
        assert is_do(asked(goal, steady(), closed=ALWAYS), "standby", "green-1", "green-2")

    @pytest.mark.parametrize("at, shut", [      # 1970-01-01 was a Thursday
        (9 * 3600, True), (17 * 3600 + 3599, True), (18 * 3600, False), (7 * 3600, False), (9 * 3600 + 86400, False)])
    def test_days_and_minutes_are_the_zones_own(self, at, shut):
        hours = (Closed((3,), 8 * 60, 18 * 60, "UTC"),)
        assert isinstance(asked(deploy(), replace(steady(), at=float(at)), closed=hours), Stop) is shut
        east = (Closed((3,), 9 * 60, 19 * 60, "Europe/Berlin"),)
        assert isinstance(asked(deploy(), replace(steady(), at=float(at)), closed=east), Stop) is shut

    @pytest.mark.parametrize("at, shut",
                             [(23 * 3600, True), (86400 + 3 * 3600, True), (86400 + 7 * 3600, False), (3 * 3600, False)])
    def test_hours_over_midnight_belong_to_the_day_they_begin_on(self, at, shut):
        hours = (Closed((3,), 22 * 60, 6 * 60, "UTC"),)
        assert isinstance(asked(deploy(), replace(steady(), at=float(at)), closed=hours), Stop) is shut


class TestPatience:
    def test_the_same_act_on_the_same_process_is_tried_so_often_and_then_shown(self):
        memory = remembers(*[TAKEN] * 3)
        step = asked(deploy(), steady(), memory)
        assert isinstance(step, Stop) and "standby on green-1 was tried 3 times" in step.why and "api live 1" in step.why

    def test_what_the_last_try_said_is_told_unless_a_later_one_ended_well(self):
        """bgdeploy-host refuses to start Chef, say: nothing on the host shows why."""
        def answer(outcome, detail):
            return {"kind": "result", "step": "standby", "host": "green-1", "outcome": outcome, "detail": detail}
        refused = answer("failed", "green-1: 401\nand more")
        why = asked(deploy(), steady(), remembers(*[TAKEN, refused] * 3)).why
        assert "was tried 3 times and it is still due: green-1: 401; now api live 1" in why
        why = asked(deploy(), steady(), remembers(*[TAKEN, refused] * 2, TAKEN, answer("ok", ""))).why
        assert "still due: now api live 1" in why

    def test_a_host_whose_chef_cannot_even_be_started_has_failed_like_any_other(self):
        memory = remembers(TAKEN, *[did("converge", "green-1", OUT)] * 3, **QUIET)
        assert isinstance(asked(deploy(), OUT, memory), Stop)
        step = asked(deploy(), OUT, memory, on_failure="ask")
        assert isinstance(step, Ask) and step.hosts == ("green-1",) and "was tried 3 times" in step.why
        assert is_do(asked(deploy(), OUT, memory, max_failed=1), "converge", "green-2")
        assert isinstance(asked(deploy(), steady(), remembers(*[TAKEN] * 3), on_failure="ask"), Ask)

    def test_a_chef_that_wants_to_run_again_each_time_is_told_with_its_reason(self):
        again = steady(*(host(n, "standby", job=job(state="again", tail="the client upgraded itself (exit code 213)\nmore"))
                         for n in ("green-1", "green-2")))
        step = asked(deploy(), again, remembers(TAKEN, *[did("converge", "green-1", again)] * 3, **QUIET))
        assert isinstance(step, Stop) and "Chef ended again: the client upgraded itself (exit code 213); now api" in step.why

    def test_an_act_dropped_at_the_second_look_counts_as_a_try(self):
        assert isinstance(asked(deploy(), steady(), remembers(*[{**TAKEN, "kind": "dropped"}] * 3)), Stop)

    def test_a_process_that_changes_each_time_does_not_make_it_endless(self):
        tries = [{**TAKEN, "started": {"green-1": f"api=s{n},web=s{n}", "green-2": "x"}} for n in range(9)]
        assert isinstance(asked(deploy(), steady(), remembers(*tries[:2])), Do)
        assert isinstance(asked(deploy(), steady(), remembers(*tries)), Stop)

    def test_resume_gives_new_tries(self):
        assert isinstance(asked(deploy(), steady(), remembers(*[TAKEN] * 3, *RESUMED)), Do)

    def test_a_migration_is_not_tried_for_ever_either(self):
        goal = Goal((), "m", (("web", "1"),), kind="migrate")
        tried = {"kind": "doing", "step": "migrate", "stack": "", "hosts": [], "started": {}}
        assert isinstance(asked(goal, replace(steady(), migration={"state": "absent"}), remembers(*[tried] * 3)), Stop)


class TestStepsByHand:
    @pytest.mark.parametrize("step, world, events", [
        ("standby", OUT, (TAKEN,)), ("drain", OUT, (TAKEN,)), ("converge", READY, TESTED[:2]), ("sanity", READY, TESTED)])
    def test_a_later_rung_is_done_not_begun(self, step, world, events):
        release = None if step in ("standby", "drain") else TWO
        assert isinstance(asked(by_hand(step, release=release), world, remembers(*events, **QUIET)), Done)

    @pytest.mark.parametrize("step, world, events, due", [
        ("drain", steady(), (), "standby"), ("converge", steady(), (), "standby"), ("sanity", OUT, (TAKEN,), "converge"),
        ("live", OUT, (TAKEN, did("converge", "green-1", OUT)), "converge"), ("live", READY, TESTED[:2], "sanity")])
    def test_an_earlier_rung_that_is_due_is_named_to_be_typed(self, step, world, events, due):
        release = None if step == "drain" else TWO
        stop = asked(by_hand(step, release=release), world, remembers(*events, **QUIET))
        assert isinstance(stop, Stop) and stop.next_command == f"invoke {due} --stack green"

    def test_the_named_command_is_for_the_same_hosts(self):
        stop = asked(by_hand("converge", release=TWO, hosts=("green-2",)), steady())
        assert stop.next_command == "invoke standby --stack green --hosts green-2"

    def test_already_so_is_done(self):
        assert isinstance(asked(by_hand("standby"), OUT), Done)
        assert isinstance(asked(by_hand("live"), steady()), Done)

    def test_live_returns_the_same_processes_as_they_were(self):
        step = asked(by_hand("live"), OUT, remembers(TAKEN))
        assert is_do(step, "live", "green-1", "green-2") and "the same processes as before" in step.why

    def test_live_of_what_nobody_tested_is_refused_unless_a_person_insists_on_exactly_these_processes(self):
        stop = asked(by_hand("live"), OUT, remembers())
        assert isinstance(stop, Stop) and stop.next_command == "invoke sanity --stack green"
        told = {"kind": "untested", "hosts": {h.name: h.started for h in OUT.stack("green")}, "reason": "no time"}
        step = asked(by_hand("live"), OUT, remembers(told))
        assert is_do(step, "live", "green-1", "green-2") and "untested, as told" in step.why
        other = steady(host("green-1", "standby", started="s9"), OUT.host("green-2"))
        assert isinstance(asked(by_hand("live"), other, remembers(told)), Stop)

    def test_the_end_says_that_it_went_live_untested(self):
        told = {"kind": "untested", "hosts": {h.name: h.started for h in steady().stack("green")}, "reason": "no time"}
        assert ("untested", "green-1 went live untested: no time") in asked(by_hand("live"), steady(), remembers(told)).warnings

    def test_a_component_that_did_not_serve_when_its_host_was_taken_out_is_not_as_before(self):
        half = steady(mixed("green-1", part("api"), part("web", "standby")), host("green-2"))
        memory = remembers(did("standby", "green-1 green-2", half, served="green-2"))
        stop = asked(by_hand("live"), OUT, memory)
        assert isinstance(stop, Stop) and stop.hosts == ("green-1",)

    def test_live_waits_for_a_chef_run_that_goes_on(self):
        world = steady(host("green-1", "standby", job=foreign()), OUT.host("green-2"))
        assert asked(by_hand("live"), world, remembers(TAKEN)).kind == "chef"

    def test_sanity_of_what_is_live_names_standby(self):
        half = mixed("green-1", part("api", "standby", "2", started="s2"), part("web", "live", "2", started="s2"), job=job())
        for world, release in ((steady(), ONE), (steady(half, READY.host("green-2")), TWO)):
            stop = asked(by_hand("sanity", release=release), world, remembers(*TESTED))
            assert isinstance(stop, Stop) and stop.next_command == "invoke standby --stack green"

    def test_drain_of_a_host_that_is_out_of_reach_ends_with_a_warning_and_never_hangs(self):
        world = steady(dark("green-1"), host("green-2", "standby"))
        assert asked(by_hand("drain"), world).kind == "host"
        end = asked(by_hand("drain"), world, Memory(run="run", silent={"green-1": NOW - 181}, **QUIET))
        assert isinstance(end,
                          Done) and end.warnings[0][0] == "drain-unmeasured" and "green-1 (out of reach)" in end.warnings[0][1]

    def test_a_release_free_want_is_one_wave_whatever_the_policy_says(self):
        assert is_do(asked(by_hand("standby"), steady(), wave=1), "standby", "green-1", "green-2")

    def test_an_untested_app_that_came_up_live_is_named_and_not_taken_out_by_another_step(self):
        born = steady(host("green-1", "live", "2", job=job(), started="s2"), OUT.host("green-2"))
        memory = remembers(TAKEN, did("converge", "green-1", OUT), **QUIET)
        stop = asked(by_hand("converge", release=TWO), born, memory)
        assert isinstance(stop, Stop) and stop.next_command == "invoke standby --stack green --hosts green-1"


class TestWhoIsOutGoesFirst:
    def test_what_is_out_is_finished_first_where_too_few_would_serve(self):
        """In the middle of a run; a run that has not begun is refused."""
        ready = steady(host("green-1", "live", "2", job=foreign("ok")), host("blue-1", "down"), host("blue-2", "down"),
                       host("green-2", "standby", "2", job=job(), started="s2"))
        memory = remembers(did("standby", "green-2", steady()), did("converge", "green-2", OUT))
        for wave in (1, "stack"):
            assert is_do(asked(deploy(), ready, memory, wave=wave, floor=(("*", 1),)), "sanity", "green-2")
        assert isinstance(asked(deploy(), ready, Memory(run="run"), wave=1, floor=(("*", 1),)), Stop)
        blue_out = steady(host("blue-1", "standby"), host("blue-2", "standby"))
        memory = remembers(did("standby", "blue-1 blue-2", steady()), **{"quiet": {"blue-1": NOW - 2, "blue-2": NOW - 2}})
        assert is_do(asked(rollout(), blue_out, memory), "converge", "blue-1")

    def test_what_is_half_out_leaves_whole_while_somebody_earlier_may_not_leave(self):
        """Else each waits for the other: answers to half of a stack's flips were lost, and a foreign Chef run ended on blue-2."""
        half = [mixed(name, part("api"), part("web", "standby")) for name in ("green-1", "green-2")]
        done = [host(name, "live", "2", job=by, started="s2") for name, by in (("blue-1", job()), ("blue-2", foreign("ok")))]
        world = steady(*half, *done)
        memory = remembers(did("converge", "blue-1 blue-2", steady()), passed("blue-1 blue-2", world), TAKEN)
        assert is_do(asked(rollout("blue", "green"), world, memory), "standby", "green-1", "green-2")
        assert is_do(asked(rollout("blue", "green"), steady(*done), memory), "standby", "blue-2"), "nothing keeps blue-2 in"
        down = steady(*half, done[1], host("blue-1", "down"))
        assert is_do(asked(rollout("blue", "green"), down, memory), "converge", "blue-1"), "what is out already is finished first"
        lacking = asked(rollout("blue", "green"), down, replace(memory, excluded={"blue-1": "no power"}))
        assert not isinstance(lacking, Do), "what half of it has leaves by the interlock only"
        assert "invoke resume" in lacking.next_command, "the run is open"


class TestRescue:
    DOWN = steady(*OUT.stack("green"), host("blue-1", "down"), host("blue-2", "down"))

    def test_what_this_run_took_out_and_did_not_touch_goes_back_when_the_floor_is_not_served(self):
        step = asked(deploy(), self.DOWN, remembers(TAKEN, short_since=NOW - 4))
        assert is_do(step, "live", "green-1", "green-2") and step.rescue and "rescue" in step.why

    def test_a_single_lost_look_is_no_shortfall(self):
        for since in (None, NOW - 3.9):
            assert not getattr(asked(deploy(), self.DOWN, remembers(TAKEN, short_since=since, **QUIET)), "rescue", False)

    def test_what_was_touched_never_goes_back(self):
        memory = remembers(TAKEN, did("converge", "green-1", OUT), short_since=NOW - 4, **QUIET)
        assert asked(deploy(), self.DOWN, memory).hosts == ("green-2",)
        restarted = steady(host("green-1", "standby", started="s7"), OUT.host("green-2"), *self.DOWN.stack("blue"))
        assert asked(deploy(), restarted, remembers(TAKEN, short_since=NOW - 4)).hosts == ("green-2",)

    def test_a_torn_journal_that_forgot_the_converge_asks_the_host(self):
        worked = steady(host("green-1", "standby", job=job(state="failed")), OUT.host("green-2"), *self.DOWN.stack("blue"))
        assert asked(deploy(), worked, remembers(TAKEN, short_since=NOW - 4)).hosts == ("green-2",)

    def test_at_its_end_back_says_whether_anything_older_serves_and_where_it_is_refused_it_warns_of_nothing(self):
        """A warning of a `back` that was refused made the run that went on end with 6."""
        out = [host(f"green-{n}", "standby", release="2") for n in (1, 2)]
        assert asked(back(), steady(*out)).warnings == ()
        (key, said), = asked(back(), steady(host("green-1", "standby"), host("green-2", "standby"))).warnings
        assert key == "nothing-older" and "invoke rollback --stack green" in said
        assert isinstance(asked(back(), steady(host("blue-1", "down"))), Stop)

    def test_what_lacks_elsewhere_and_this_host_does_not_have_is_no_reason_to_put_it_back(self):
        before = steady(mixed("green-2", part("api")), mixed("blue-2", part("api"), part("web", "down")))
        after = steady(mixed("green-2", part("api", "standby")), before.host("blue-2"))
        memory = remembers(did("standby", "green-2", before), short_since=NOW - 9, **QUIET)
        assert is_do(asked(deploy(hosts=("green-2",)), after, memory, floor=(("web", 3), ("api", 3))), "converge", "green-2")

    def test_by_hand_it_is_named_and_not_done(self):
        stop = asked(by_hand("drain"), self.DOWN, remembers(TAKEN, short_since=NOW - 4))
        assert isinstance(stop, Stop) and stop.next_command == "invoke live --stack green"


class TestBack:
    def test_it_flips_the_whole_stack_in_one_wave_without_a_look_at_gates_waves_or_load(self):
        assert is_do(asked(back(), steady(host("green-1", sessions=None)), wave=1, max_in_flight=1), "standby", "green-1",
                     "green-2")

    def test_what_the_run_took_out_and_did_not_touch_is_put_back_first(self):
        world = steady(host("blue-1", "standby"), host("blue-2", "standby"))
        memory = remembers(did("standby", "blue-1 blue-2", steady(), served="blue-1 blue-2"))
        goal = back("green", ("blue", ("blue-1", "blue-2")))
        assert is_do(asked(goal, world, memory), "live", "blue-1", "blue-2")
        joining = steady(host("blue-1", live_pool="moving"), host("blue-2"))
        assert asked(goal, joining, memory).kind == "pool"
        assert is_do(asked(goal, steady(), memory), "standby", "green-1", "green-2")

    def test_what_cannot_be_put_back_does_not_hold_it_where_the_rest_serves(self):
        memory = remembers(did("standby", "blue-1", steady()))
        goal = back("green", ("blue", ("blue-1",)))
        for lost in (dark("blue-1"), host("blue-1", "standby", job=job(state="failed", run="x")),
                     host("blue-1", "standby", started="s5")):
            assert asked(goal, steady(lost), memory, floor=(("*", 1),)).step == "standby"
            stop = asked(goal, steady(lost), memory)    # green's alone is refused while the run has blue-1 out
            assert isinstance(stop, Stop) and stop.next_command == "invoke rollback"

    @pytest.mark.parametrize("state", ["running", "failed", "lost", "again", "reboot"])
    def test_whoever_is_to_serve_must_have_no_chef_run_going_on_or_failed(self, state):
        stop = asked(back(), steady(host("blue-2", job=job(state=state, run="another"))))
        assert isinstance(stop,
                          Stop) and "blue-2 does not count" in stop.why and stop.next_command == "invoke rollback --stack green"
        assert isinstance(asked(back(), steady(host("blue-2", job=job(run="another")))), Do)

    def test_somebody_elses_chef_run_counts_as_going_on(self):
        assert isinstance(asked(back(), steady(host("blue-2", job=foreign()))), Stop)

    def test_a_dead_host_of_the_leaving_stack_is_skipped_at_once_and_the_end_says_so(self):
        assert is_do(asked(back(), steady(dark("green-2"))), "standby", "green-1")
        end = asked(back(), steady(host("green-1", "standby"), dark("green-2")))
        assert isinstance(end, Done) and ("unreachable", "green-2 was not reached and not flipped") in end.warnings
        cut = replace(host("green-2", "standby"), reachable=False)
        assert "unreachable" not in dict(asked(back(), steady(host("green-1", "standby"), cut)).warnings)

    def test_where_nobody_is_known_to_serve_dead_hosts_are_no_success(self):
        stop = asked(back(), steady(*map(dark, ("green-1", "green-2", "blue-1", "blue-2"))))
        assert isinstance(stop, Stop) and stop.next_command == "invoke rollback --stack green" and "green-1" in stop.why
        assert isinstance(asked(back(), steady(dark("green-1"), dark("green-2"))), Done)

    def test_a_host_whose_heartbeat_answers_is_flipped_though_ssh_does_not(self):
        cut = replace(host("green-2"), reachable=False)
        assert is_do(asked(back(), steady(cut)), "standby", "green-1", "green-2")

    def test_one_that_answers_without_sense_is_waited_for_only_after_the_rest_is_flipped(self):
        mute = mixed("green-2", part("api", None), part("web", None))
        assert is_do(asked(back(), steady(mute)), "standby", "green-1")
        assert asked(back(), steady(host("green-1", "standby"), mute)).kind == "host"

    def test_it_waits_for_live_and_never_for_standby(self):
        world = steady(host("green-1", "standby", live_pool="moving"), host("green-2", "standby", standby_pool="no"))
        assert asked(back(), world).hosts == ("green-1",)

    def test_an_untested_app_that_came_up_live_may_always_leave(self):
        born = steady(*SERVED.stack("green"), host("blue-1", "down"), host("blue-2", "down"))
        assert is_do(asked(back(), born, remembers(*TESTED[:2])), "standby", "green-1", "green-2")


@pytest.mark.parametrize("pool, nodes, note, asked_for", [
    ("moving", "live-1: DOWN, live-2: UP", "", "is its check a substring?"),
    (None, "live-1: DOWN, live-2: never heard", "", "is http-check send-state set there"),
    (None, "live-1: DOWN, live-2: never heard", "the statistics page of live-2 answers 401", None)])
def test_a_wait_for_a_pool_names_the_node_that_is_late_and_what_it_may_lack(pool, nodes, note, asked_for):
    world = steady(host("green-1", "standby", live_pool=pool, live_nodes=nodes, note=note), host("green-2", "standby"))
    step = asked(deploy(), world, remembers(TAKEN, waiting("pool", "green", NOW - 61)))
    said = "; ".join(filter(None, (nodes, note)))
    assert isinstance(step, Stop) and f"green-1 web: LIVE says {pool or 'nothing yet'} ({said})" in step.why
    assert asked_for in step.why if asked_for else "; is " not in step.why, "the note says what is wrong there"
    begun = asked(deploy(), world, remembers(TAKEN, waiting("pool", "green", NOW - 1)))
    assert isinstance(begun, Wait) and (nodes not in begun.why), "what every flip shows for a moment is not told"


def test_requests_that_are_counted_are_waited_for_though_nothing_counts_those_of_the_component_beside():
    """One with the kit, one with `in_flight: none`: what was counted was cut off after the wait that is for the other."""
    half = mixed("green-1", part("api", "standby", sessions=5), part("web", "standby", sessions=None))
    world, quiet = steady(half, host("green-2", "standby")), {"quiet": {"green-2": NOW - 61}}
    taken = did("standby", "green-1 green-2", steady())
    step = asked(deploy(), world, remembers(taken, waiting("drain", "green", NOW - 31), **quiet))
    assert isinstance(step, Wait) and "green-1: 5, and nothing counts those of web" in step.why and step.until == NOW + 29
    memory = remembers(taken, waiting("drain", "green", NOW - 61), **quiet)
    assert isinstance(asked(deploy(), world, memory, drain_then="stop"), Stop)
    assert asked(deploy(), world, memory, drain_then="proceed").step == "converge"
    assert drained(half, memory, replace(POLICY, drain_then="proceed"), NOW) == "timed-out 5 left"
    none = replace(half, components=tuple(replace(c, sessions=0 if c.name == "api" else None) for c in half.components))
    assert drained(none, memory, POLICY, NOW) == "unmeasured"


def test_an_excluded_host_that_nobody_reaches_may_come_back_live_on_an_old_version_and_that_is_said():
    world = replace(SERVED, hosts=tuple(dark("green-2") if h.name == "green-2" else h for h in SERVED.hosts))
    end = asked(deploy(), world, replace(remembers(*LIVED, **QUIET), excluded={"green-2": "its fan"}))
    assert end.warnings[0][1] == ("green-2 is excluded: its fan; out of reach: it may come back live on an old version, until "
                                  "invoke deploy --stack green --hosts green-2")
