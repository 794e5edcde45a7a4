"""The loop: look, decide, write, look again, act; what interrupts it, and the exit code of every end."""

from dataclasses import replace

import pytest

from bgdeploy.drive import Interrupt, Ports, drive
from bgdeploy import report
from bgdeploy.errors import NoAnswer, Unwritable
from bgdeploy.model import Closed, Policy, Result
from tests.datacentre import Notebook, World, Instance, Machine
from tests.scenes import (NOW, TWO, back, by_hand, dark, deploy, did, foreign, host, job, mixed, part, passed, rollout,
                          steady)
from tests import simulate


class Book:
    """A journal in memory whose clock is the last look's."""

    def __init__(self, *events):
        self.events, self.at = [], NOW
        for event in events:
            self.events.append({"n": len(self.events) + 1, "at": NOW, **event})

    def write(self, kind, **fields):
        self.events.append({"n": len(self.events) + 1, "at": self.at, "kind": kind, **fields})
        return self.events[-1]

    def kinds(self):
        return [e["kind"] for e in self.events]

    def last(self, kind):
        return next(e for e in reversed(self.events) if e["kind"] == kind)


class Script:
    """Ports that show the given worlds one after the other (the last one for ever), a second apart, and note what is done."""

    def __init__(self, book, *worlds, **ports):
        self.book, self.worlds, self.done, self.said, self.hooks = book, list(worlds), [], [], []
        self.answers = ports.pop("answers", {})
        self.refusing = ports.pop("refusing", {})
        self.ports = Ports(**{"look": self.look, "act": self.act, "hook": self.hook, "sleep": self.sleep,
                              "say": lambda wait, seconds: self.said.append((wait.kind, round(seconds))), **ports})

    def look(self):
        world = self.worlds.pop(0) if len(self.worlds) > 1 else self.worlds[0]
        if isinstance(world, Exception):
            raise world
        self.book.at += 1.0
        return replace(world, at=self.book.at)

    def sleep(self, seconds):
        self.book.at += 1.0

    def act(self, do, seen, attempt):
        self.done.append((do.step, do.hosts, attempt))
        for name in do.hosts or ("",):
            yield Result(name, self.answers.get(name, "ok"), "", 0.1)

    def hook(self, name, step, outcome):
        self.hooks.append(name)
        return self.refusing.get(name, ("absent", ""))


def began(world, **options):
    return {"kind": "began", "run": "run", "seen": world.to_json(), "options": options, "goal": deploy().to_json()}


OUT = steady(host("green-1", "standby"), host("green-2", "standby"))
READY = steady(*(host(n, "standby", "2", job=job(), started="s2") for n in ("green-1", "green-2")))
SERVED = steady(*(host(n, "live", "2", job=job(), started="s2") for n in ("green-1", "green-2")))
DONE = steady(*(host(n, "live", "2", job=job(run="another"), started="s2") for n in ("green-1", "green-2")))
TAKEN = did("standby", "green-1 green-2", steady())
TESTED = [TAKEN, did("converge", "green-1 green-2", OUT), *passed("green-1 green-2", READY)]
ENDLESS = Policy(limits=simulate.LIMITS)


def run(goal, *worlds, events=(), policy=Policy(), accept=(), interrupt=None, **ports):
    book = Book(began(worlds[0] if not isinstance(worlds[0], Exception) else steady()), *events)
    script = Script(book, *worlds, **ports)
    return drive(goal, policy, book, script.ports, interrupt, accept), book, script


class TestActing:
    def test_it_is_written_before_it_is_done_and_each_result_as_it_comes(self):
        end, book, script = run(deploy(), READY, READY, SERVED, events=TESTED)
        assert end.exit_code == 0 and script.done == [("live", ("green-1", "green-2"), 2)]
        kinds = book.kinds()[len(TESTED) + 1:]
        assert kinds == ["doing", "result", "result", "acted", "seen_live", "ended"]
        assert book.last("doing")["started"] == {n: "api=s2,web=s2" for n in ("green-1", "green-2")}

    def test_a_world_that_moved_between_the_looks_is_not_acted_on(self):
        moved = steady(host("green-1", "standby", "2", job=job(), started="s3"), READY.host("green-2"))
        end, book, script = run(deploy(), READY, moved, SERVED, events=TESTED)
        dropped = book.last("dropped")
        assert script.done == [] and dropped["step"] == "live" and "tested through STANDBY" in dropped["why"]

    def test_the_why_may_change_between_the_looks(self):
        one, two = steady(host("green-1", sessions=1)), steady(host("green-1", release="0", sessions=5))
        _, _, script = run(deploy(), one, two, dark("x") and steady(dark("blue-1"), *OUT.stack("green")), policy=ENDLESS)
        assert script.done[0][:2] == ("standby", ("green-1", "green-2"))

    def test_what_makes_things_safe_is_done_to_whom_both_looks_name(self):
        born = {n: host(n, "live", "2", job=job(), started="s2") for n in ("green-1", "green-2")}
        one, two = steady(born["green-1"], host("green-2", "standby")), steady(*born.values())
        events = [TAKEN, did("converge", "green-1 green-2", OUT)]
        for worlds in ((one, two), (two, one)):
            _, _, script = run(deploy(), *worlds, OUT, events=events, policy=ENDLESS)
            assert script.done[0][:2] == ("standby", ("green-1",))

    def test_dropping_for_ever_is_no_progress(self):
        end, book, _ = run(deploy(), *[steady(), dark_blue()] * 20, policy=ENDLESS)
        assert end.exit_code == 3 and book.kinds().count("dropped") <= 3 and "doing" not in book.kinds()

    def test_a_lost_answer_is_neither_done_nor_failed_only_the_next_look_decides(self):
        end, book, script = run(deploy(), READY, READY, SERVED, events=TESTED,
                                answers={"green-1": "unknown", "green-2": "unknown"})
        assert end.exit_code == 0 and len(script.done) == 1 and book.last("result")["outcome"] == "unknown"

    def test_what_did_not_happen_is_done_again(self):
        end, _, script = run(deploy(), READY, READY, READY, READY, SERVED, events=TESTED)
        assert end.exit_code == 0 and len(script.done) == 2

    def test_converges_are_numbered_by_journal_and_by_what_lies_on_the_host(self):
        again = steady(host("green-1", "standby", job=job(state="again", run="run.3")), OUT.host("green-2"))
        events = [TAKEN, {"kind": "waited", "wait": "drain", "outcomes": {"green-1": "drained", "green-2": "drained"}}]
        _, _, script = run(deploy(), again, again, READY, events=events)
        assert script.done[0] == ("converge", ("green-1",), 4)
        events.append(did("converge", "green-1", OUT))
        fresh = steady(host("green-1", "standby"), OUT.host("green-2"))
        _, _, script = run(deploy(), fresh, fresh, READY, events=events)
        assert script.done[0] == ("converge", ("green-1",), 2)

    def test_who_did_not_serve_is_not_written_down_as_having_served(self):
        half = steady(host("green-1", live_pool="no"))
        _, book, _ = run(deploy(), half, half, dark_blue(), policy=ENDLESS)
        assert book.last("doing")["served"] == ["green-2"]


def dark_blue():
    return steady(dark("blue-1"), dark("blue-2"))


class TestTheLock:
    def test_whoever_lost_it_stops_before_the_next_act(self):
        end, book, script = run(deploy(), READY, events=TESTED, lost=lambda: "the lock is not ours any more")
        assert end.exit_code == 4 and script.done == [] and "not ours any more" in end.why

    def test_back_asks_a_running_driver_to_stop_and_it_does_at_its_next_look(self):
        end, book, script = run(deploy(), READY, events=TESTED, told=lambda: "invoke back was typed")
        assert (end.outcome, end.exit_code) == ("interrupted", 5) and script.done == []


class TestInterruption:
    def test_nothing_new_is_started_and_the_last_look_is_written_down(self):
        interrupt = Interrupt("SIGTERM")
        end, book, script = run(deploy(), READY, events=TESTED, interrupt=interrupt)
        assert (end.outcome, end.exit_code, end.next) == ("interrupted", 5, ("invoke resume",)) and script.done == []
        assert book.last("interrupted")["signal"] == "SIGTERM" and book.kinds()[-1] == "ended"
        assert end.why == "interrupted by SIGTERM; nothing was looked at"

    def test_one_that_comes_with_the_second_look_still_starts_nothing(self):
        interrupt, book = Interrupt(), Book(began(READY), *TESTED)
        script = Script(book, READY)
        looks = []

        def look():
            looks.append(1)
            interrupt.wanted = "SIGINT" if len(looks) == 2 else None
            return script.look()
        end = drive(deploy(), Policy(), book, replace(script.ports, look=look), interrupt)
        assert end.exit_code == 5 and script.done == [] and "doing" not in book.kinds()[len(TESTED) + 1:]
        assert "at the last look green does not serve, blue serves" in end.why

    def test_during_an_act_its_results_are_still_written(self):
        interrupt, book = Interrupt(), Book(began(READY), *TESTED)
        script = Script(book, READY)

        def act(do, seen, attempt):
            interrupt.wanted = "SIGHUP"
            yield from script.act(do, seen, attempt)
        end = drive(deploy(), Policy(), book, replace(script.ports, act=act), interrupt)
        assert end.exit_code == 5 and book.kinds()[-5:] == ["result", "result", "acted", "interrupted", "ended"]
        assert book.last("ended")["seen"] is not None


class TestExitCodes:
    def test_0_the_goal_is_reached_nothing_to_do_is_0_too(self):
        end, book, _ = run(deploy(), DONE)
        assert (end.outcome, end.exit_code) == ("done", 0) and book.kinds() == ["began", "ended"]
        assert end.why.startswith("nothing to do, it is so already: green is live on")
        for more in (did("live", "green-1 green-2", READY), {"kind": "waiting", "wait": "pool", "stack": "green", "hosts": []}):
            assert run(deploy(), DONE, events=[more])[0].why.startswith("green is live on")

    def test_3_refused_before_the_first_act(self):
        end, _, _ = run(deploy(), steady(host("blue-1", "down")))
        assert (end.outcome, end.exit_code) == ("refused", 3)

    def test_4_a_step_failed_and_the_rest_serves_and_the_ways_on_are_named(self):
        failed = steady(host("green-1", "standby", job=job(state="failed")), host("green-2", "standby"))
        end, _, _ = run(deploy(), failed, events=[TAKEN, did("converge", "green-1", OUT)])
        assert (end.outcome, end.exit_code) == ("failed", 4)
        assert "invoke resume" in end.next and "invoke back --stack green" in end.next

    def test_8_it_stopped_and_the_floor_is_not_proved_whatever_it_stopped_for(self):
        failed = steady(host("green-1", "standby", job=job(state="failed")), host("green-2", "standby"), host("blue-1", "down"))
        for policy in (Policy(), Policy(on_failure="ask")):
            end, _, _ = run(deploy(), failed, events=[TAKEN, did("converge", "green-1 green-2", OUT)], policy=policy)
            assert (end.outcome, end.exit_code) == ("failed", 8) and "ACT NOW" in end.why and "blue-1 (down)" in end.why

    def test_7_waiting_for_a_person_with_the_commands(self):
        end, book, _ = run(rollout(), SERVED, events=lived(), policy=Policy(gates=("stack",)))
        assert (end.outcome, end.exit_code) == ("waiting", 7)
        assert end.next == ("invoke answer --run run --choice approve", "invoke answer --run run --choice stop", "invoke resume")
        asked = book.last("asked")
        assert asked["choices"] == ["approve", "stop"]
        assert asked["expires"] == pytest.approx(asked["at"] + Policy().gate_expiry, abs=60)

    def test_7_closed_hours_met_between_stacks(self):
        always = (Closed(tuple(range(7)), 0, 1440),)
        assert run(rollout(), SERVED, events=lived(), policy=Policy(closed=always))[0].exit_code == 7
        assert run(rollout(), steady(), policy=Policy(closed=always))[0].exit_code == 3

    def test_5_before_all(self):
        end, _, _ = run(deploy(), steady(host("blue-1", "down")), events=[TAKEN], interrupt=Interrupt("SIGINT"))
        assert end.exit_code == 5

    def test_6_only_if_the_goal_was_reached_and_accept_turns_known_warnings_into_notes(self):
        excluded = {"kind": "excluded", "hosts": {"green-2": "disk"}}
        end, book, _ = run(deploy(), DONE, events=[excluded])
        assert (end.outcome, end.exit_code, end.warnings) == ("warned", 6, ("green-2 is excluded: disk",))
        assert book.last("warned")["key"] == "excluded"
        end, book, _ = run(deploy(), DONE, events=[excluded], accept=("excluded",))
        assert end.exit_code == 0 and book.last("warned")["key"] == "excluded"

    def test_6_done_but_meanwhile_the_floor_is_not_served(self):
        world = steady(DONE.host("green-1"), host("green-2", "down"), host("blue-1", "down"), host("blue-2", "down"))
        end, _, _ = run(deploy(hosts=("green-1",)), world, events=[TAKEN])
        assert end.exit_code == 6 and "the floor is not proved" in end.warnings[0]

    def test_a_port_that_does_not_answer_at_all_ends_in_a_sentence(self):
        end, _, _ = run(deploy(), NoAnswer("the store is silent", "invoke check"))
        assert (end.exit_code, end.why, end.next) == (3, "the store is silent", ("invoke check",))


def lived():
    return [*TESTED, did("live", "green-1 green-2", READY),
            {"kind": "seen_live", "hosts": {h.name: h.started for h in SERVED.stack("green")}}]


class TestWaits:
    def test_a_wait_is_written_when_it_starts_or_its_hosts_change_and_when_it_is_over(self):
        late = steady(*(host(n, "standby", live_pool="moving") for n in ("green-1", "green-2")))
        half = steady(late.host("green-1"), host("green-2", "standby"))
        end, book, _ = run(by_hand("standby"), late, late, late, half, half, OUT, events=[TAKEN])
        waits = [(e["kind"], e["hosts"]) for e in book.events if e["kind"] in ("waiting", "waited")]
        assert end.exit_code == 0
        assert waits == [("waiting", ["green-1", "green-2"]), ("waiting", ["green-1"]), ("waited", ["green-1", "green-2"])]
        assert book.last("waited")["outcome"] == "over" and book.last("waited")["seconds"] > 0

    def test_a_host_is_given_its_time_to_answer_after_chef_and_not_while_chef_restarts_it(self):
        mute = mixed("green-1", part("api", "standby"), part("web", None, started=None), job=job(state="running"))
        done = replace(mute, job=job())
        worlds = [steady(mute, OUT.host("green-2"))] * 12 + [steady(done, OUT.host("green-2"))] * 3 + [READY]
        end, book, _ = run(deploy(), *worlds, events=[TAKEN, did("converge", "green-1", OUT)], policy=ENDLESS)
        assert "for more than" not in end.why and any(e["wait"] == "host" for e in book.events if e["kind"] == "waiting")

    def test_the_end_of_a_wait_for_chef_tells_where_chef_was_not_seen_to_end(self):
        """Chef has ended also where what follows is another wait."""
        at_work = steady(host("green-1", "standby", job=job(state="running")), OUT.host("green-2"))
        ended = steady(mixed("green-1", part("api", "standby"), part("web", None), job=job()), OUT.host("green-2"))
        lost = steady(dark("green-1"), OUT.host("green-2"))
        for after, going in ((ended, []), (lost, ["green-1"])):
            drained = {"kind": "waited", "wait": "drain", "outcomes": {"green-1": "drained", "green-2": "drained"}}
            events = [TAKEN, drained, did("converge", "green-1", OUT)]
            _, book, _ = run(deploy(), *[at_work] * 3, *[after] * 3, READY, events=events, policy=ENDLESS)
            assert next(e for e in book.events if e["kind"] == "waited" and e["wait"] == "chef")["going"] == going

    def test_silence_is_never_longer_than_a_minute(self):
        _, book, script = run(deploy(), steady(host("green-1", "standby", job=foreign()), OUT.host("green-2")), events=[TAKEN])
        waiting = [e for e in book.events if e["kind"] in ("waiting", "waited")]
        total = waiting[-1]["at"] - waiting[0]["at"]
        assert total > 1000 and len(script.said) >= total // 62 and script.said[0] == ("chef", 60)

    def test_how_a_drain_ended_is_named_host_by_host(self):
        full = steady(host("green-1", "standby", sessions=2), host("green-2", "standby", sessions=None))
        end, book, _ = run(by_hand("drain"), full, events=[TAKEN],
                           policy=Policy(drain_then="proceed", unmeasured=5, limits=simulate.LIMITS))
        assert book.last("waited")["outcomes"] == {"green-1": "timed-out 4 left", "green-2": "unmeasured"}
        assert end.exit_code == 6 and len(end.warnings) == 2

    def test_who_counted_the_requests_in_flight_stands_beside_how_the_drain_ended(self):
        def by(name, api, web):
            return mixed(name, part("api", "standby", counted_by=api), part("web", "standby", counted_by=web))
        counted = steady(by("green-1", "kit", "kit"), by("green-2", "balancer", ""))
        _, book, _ = run(by_hand("drain"), counted, events=[TAKEN])
        assert book.last("waited")["counted_by"] == {"green-1": "kit", "green-2": "api by balancer, web by nothing"}

    def test_a_wait_for_a_host_that_never_answered_names_it(self):
        off = steady(dark("green-1"), host("green-2", "standby"))
        end, book, _ = run(by_hand("drain"), off, events=[TAKEN], policy=ENDLESS)
        assert end.exit_code == 6 and book.last("waited")["silent"] == ["green-1"]

    def test_what_was_quiet_before_anybody_had_to_wait_has_an_end_and_a_witness_too(self):
        quiet = steady(*(host(name, "standby", counted_by="kit") for name in ("green-1", "green-2")))
        slow = steady(*(host(name, "standby", counted_by="kit", live_pool="moving") for name in ("green-1", "green-2")))
        _, book, _ = run(deploy(), slow, slow, *[quiet] * 4, steady(dark("green-1")), events=[TAKEN], policy=ENDLESS)
        drains = [e for e in book.events if e["kind"] == "waited" and e["wait"] == "drain"]
        assert [(e["outcomes"], e["counted_by"], e["seconds"]) for e in drains] == [
            ({"green-1": "drained", "green-2": "drained"}, {"green-1": "kit", "green-2": "kit"}, 0.0)]

    def test_a_drain_that_another_question_interrupts_has_not_ended(self):
        full = steady(host("green-1", "standby", sessions=2), OUT.host("green-2"))
        lost = steady(dark("green-1"), OUT.host("green-2"))
        _, book, script = run(by_hand("drain"), full, full, lost, lost, full, policy=ENDLESS, events=[TAKEN])
        first = next(e for e in book.events if e["kind"] == "waited")
        assert "green-1" not in first["outcomes"] and first["outcome"] == "stopped" and book.events[-1]["exit_code"] == 4

    def test_a_question_at_the_limit_of_a_drain_is_no_answer_to_it(self):
        full = steady(host("green-1", "standby", sessions=2), OUT.host("green-2"))
        policy = Policy(drain_then="ask", limits=simulate.LIMITS)
        end, book, _ = run(by_hand("drain"), full, events=[TAKEN], policy=policy)
        assert end.exit_code == 7 and "green-1" not in book.last("waited")["outcomes"]
        assert drive(by_hand("drain"), policy, book, Script(book, full).ports).exit_code == 7

    def test_a_wait_that_was_got_past_gives_the_next_one_its_whole_time(self):
        flap = host("green-1", "live", "2", job=job(), started="s2", live_pool="moving")
        chef = [host(name, "standby", job=job(state="running")) for name in ("blue-1", "blue-2")]
        works, flaps = steady(*SERVED.stack("green"), *chef), steady(flap, SERVED.host("green-2"), *chef)
        events = [*lived(), did("standby", "blue-1 blue-2", steady()), did("converge", "blue-1 blue-2", works)]
        end, book, _ = run(rollout(), flaps, *[works] * 11, flaps, flaps, works, events=events, policy=ENDLESS)
        pools = [e["at"] for e in book.events if e["kind"] == "waiting" and e["wait"] == "pool"]
        assert pools[1] - pools[0] > ENDLESS.limits.pool and end.why.startswith("Chef has not ended within 30 s: blue-1")


class TestHooks:
    def test_before_an_act_a_hook_may_refuse_3_before_the_first_act_4_after_it(self):
        for refusal in (("refused", "not on Fridays"), ("failed", "it crashed")):
            end, book, script = run(deploy(), steady(), refusing={"before-standby": refusal})
            assert end.exit_code == 3 and refusal[1] in end.why and script.done == []
            assert book.last("hook")["outcome"] == refusal[0]
            end, _, script = run(deploy(), READY, events=TESTED, refusing={"before-live": refusal})
            assert end.exit_code == 4 and script.done == []

    def test_after_an_act_it_only_warns(self):
        end, book, _ = run(deploy(), READY, READY, SERVED, events=TESTED, refusing={"after-live": ("failed", "no mail")})
        assert end.exit_code == 6 and end.warnings == ("hook after-live: no mail",)

    def test_none_runs_for_back_or_before_what_makes_things_safe(self):
        _, _, script = run(back(), steady(), steady(), OUT)
        assert [h for h in script.hooks if h != "run-ended"] == []
        down = steady(*OUT.stack("green"), host("blue-1", "down"), host("blue-2", "down"))
        _, _, script = run(deploy(), *[down] * 20, events=[TAKEN], policy=Policy(detection=2.0, limits=simulate.LIMITS))
        assert script.done[0][0] == "live" and "before-live" not in script.hooks


def test_what_came_up_live_untested_is_taken_out_though_another_stack_has_one_at_the_second_look():
    """It is the other one's turn at the next look. Else the two put each other off, and both went on serving."""
    up = {name: host(name, "live", "2", job=job(), started="s2") for name in ("green-1", "blue-1")}
    one, two = steady(up["blue-1"], *OUT.stack("green")), steady(up["blue-1"], up["green-1"])
    events = [TAKEN, did("converge", "green-1", OUT), did("converge", "blue-1", OUT)]
    _, _, script = run(rollout(), one, two, two, two, steady(up["green-1"]), events=events)
    assert [(step, hosts) for step, hosts, _ in script.done][0] == ("standby", ("blue-1",))


def test_what_serves_after_this_run_put_it_live_is_remembered_once():
    _, book, _ = run(deploy(), READY, READY, SERVED, SERVED, events=TESTED)
    assert book.kinds().count("seen_live") == 1


def test_a_shortfall_must_last_before_anything_is_rescued():
    blink = steady(*OUT.stack("green"), dark("blue-1"), dark("blue-2"))
    _, _, script = run(by_hand("live"), blink, *[OUT] * 3, events=[did("converge", "green-1", OUT)], policy=ENDLESS)
    assert all(step != "live" for step, _, _ in script.done)


@pytest.mark.parametrize("events, last, code", [
    ([began(READY)], READY, 3), ([began(READY), *TESTED], READY, 4),
    ([began(READY), *TESTED], steady(*OUT.stack("green"), dark("blue-1")), 8)])
def test_a_journal_that_cannot_be_written_lets_nothing_happen_and_the_end_says_what_serves(events, last, code):
    book = Book(*events)
    script = Script(book, READY, last, last)
    book.write = lambda kind, **fields: (_ for _ in ()).throw(Unwritable("j: cannot be written: No space left", "make room"))
    end = drive(deploy(), Policy(), book, script.ports)
    assert script.done == [] and end.exit_code == code and "No space left" in end.why and end.next == ("make room",)
    assert ("ACT NOW" in end.why) == (code == 8)
    told = report.result([*events, end.event()])
    assert (told["exit_code"], told["next"]) == (code, ["make room"])


@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_is_resumed_again_and_again_changes_nothing_once_it_is_done(seed):
    world = World([Machine(f"{stack}-1", stack, [Instance("web")]) for stack in ("green", "blue")], seed)
    book, goal = Notebook(world), rollout(release=replace(TWO, versions=(("web", "2"),)))
    simulate.begin(world, book, goal)
    assert drive(goal, Policy(), book, world.ports()).exit_code == 0
    acts = len(world.acts)
    simulate.resume(world, book)
    assert drive(goal, Policy(), book, world.ports()).exit_code == 0 and len(world.acts) == acts
