"""What past runs say: open or not, what a stack served, which versions proved bad, what resume goes on with."""

import pytest

from bgdeploy import records
from bgdeploy.model import Release
from tests.scenes import ONE, TWO, back, by_hand, deploy, did, host, job, passed, rollout, seen, steady

OUT = steady(host("green-1", "standby"), host("green-2", "standby"))


def run(*events, task="deploy", goal=None, first=None, name="r1"):
    """A run's events, numbered. Its first look is the steady state."""
    goal = goal or deploy()
    begun = {"kind": "began", "run": name, "task": task, "goal": goal.to_json(), "seen": (first or steady()).to_json()}
    flat = [e for each in (begun, *events) for e in (each if isinstance(each, list) else [each])]
    return [{"n": n + 1, "at": float(n), **e} for n, e in enumerate(flat)]


def ended(outcome, world=None, code=0):
    return {"kind": "ended", "outcome": outcome, "exit_code": code, "seen": world.to_json() if world else None}


def joined(goal, task="x"):
    return {"kind": "joined", "task": task, "goal": goal.to_json()}


ACT = did("standby", "green-1 green-2", steady())


class TestOpen:
    @pytest.mark.parametrize("outcome", ["failed", "interrupted", "waiting"])
    def test_4_5_7_and_8_leave_it_open(self, outcome):
        assert records.is_open(run(ACT, ended(outcome)))

    @pytest.mark.parametrize("outcome", ["done", "warned", "stopped", "superseded"])
    def test_done_a_persons_stop_and_another_run_over_it_end_it(self, outcome):
        assert not records.is_open(run(ACT, ended(outcome)))

    def test_3_never_opens_one(self):
        assert not records.is_open(run(ended("refused")))
        assert records.is_open(run(ACT, joined(by_hand("live")), ended("refused")))

    def test_neither_does_an_interruption_before_the_first_act(self):
        assert not records.is_open(run(ended("interrupted"))) and not records.is_open(run())

    def test_one_that_asks_before_its_first_act_is_open_and_can_be_answered(self):
        asked = {"kind": "asked", "gate": "standby", "stack": "green"}
        assert records.is_open(run(asked, ended("waiting")))
        assert not records.is_open(run(asked, ended("waiting"), {"kind": "answered", "choice": "stop"}, ended("stopped")))

    def test_a_killed_one_is_open_from_its_first_act(self):
        assert records.is_open(run(ACT)) and records.is_open(run(ACT, ended("failed"), {"kind": "resumed"}))

    @pytest.mark.parametrize("step, stays",
                             [("standby", True), ("drain", True), ("converge", True), ("sanity", True), ("live", False)])
    def test_steps_by_hand_keep_it_open_until_live(self, step, stays):
        assert records.is_open(run(ACT, ended("done"), goal=by_hand(step), task=step)) is stays
        assert records.is_open(run(ACT, ended("failed"), joined(by_hand(step), step), ended("done"))) is stays

    def test_a_live_of_some_hosts_keeps_it_open_for_the_others_with_all_that_was_proved_of_them(self):
        """`live --hosts green-1` ended the run, and green-2, which had passed the same sanity test, was refused."""
        half, whole = steady(host("green-2", "standby")), joined(by_hand("live"), "live")
        assert records.is_open(run(ACT, ended("done"), whole, ended("done", half), goal=by_hand("sanity")))
        assert not records.is_open(run(ACT, ended("done"), whole, ended("done", steady()), goal=by_hand("sanity")))
        left_out = {"kind": "excluded", "hosts": {"green-2": "its disk"}}
        assert not records.is_open(run(ACT, ended("done"), whole, left_out, ended("warned", half), goal=by_hand("sanity")))
        other = did("standby", "green-1", steady())
        assert not records.is_open(run(other, ended("done"), whole, ended("done", half), goal=by_hand("sanity"))), "not its own"

    def test_a_step_that_is_resumed_keeps_it_open_too(self):
        events = run(ACT, ended("interrupted"), {"kind": "resumed", "task": "resume"}, ended("done"), goal=by_hand("standby"))
        assert records.is_open(events)

    def test_back_ends_it_unless_it_was_refused(self):
        assert not records.is_open(run(ACT, ended("failed"), joined(back(), "back"), ended("warned")))
        assert records.is_open(run(ACT, ended("failed"), joined(back(), "back"), ended("refused")))

    def test_what_a_driver_that_was_told_late_to_stop_writes_after_back_opens_it_no_more(self):
        """A sanity test or a hook may take a minute; back waits five seconds for it, flips, and has ended by then."""
        late = [{"kind": "result"}, {"kind": "interrupted"}, ended("interrupted")]
        assert not records.is_open(run(ACT, joined(back(), "back"), did("standby", "green-1", OUT), ended("done"), *late))
        assert not records.is_open(run(ACT, ended("superseded"), ended("failed")))


class TestWhatGoesOn:
    def test_what_was_refused_in_it_does_not_say_how_it_goes_on(self):
        events = run(ACT, ended("failed"), joined(back(), "back"), ended("refused"))
        assert records.end_of(events)["outcome"] == "failed" and records.end_of(events[:-3]) is None

    def test_resume_pursues_the_runs_goal(self):
        assert records.goal_of(run(ACT, goal=rollout())) == rollout().to_json()

    def test_a_step_by_hand_within_a_deployment_is_not_what_resume_pursues(self):
        events = run(ACT, ended("failed"), joined(by_hand("sanity", release=TWO)), did("sanity", "green-1", OUT), ended("done"))
        assert records.goal_of(events) == deploy().to_json()

    def test_where_there_are_only_steps_the_last_of_them(self):
        events = run(ACT, ended("done"), joined(by_hand("drain")), did("converge", "green-1", OUT), ended("failed"),
                     goal=by_hand("standby"))
        assert records.goal_of(events)["only"] == "drain"

    def test_back_that_was_refused_does_not_replace_it_and_back_that_began_does(self):
        refused = run(ACT, ended("failed"), joined(back()), ended("refused"))
        assert records.goal_of(refused)["kind"] == "deploy"
        began = run(ACT, ended("failed"), joined(back()), did("standby", "green-1", OUT, release=None), ended("interrupted"))
        assert records.goal_of(began)["kind"] == "back"

    def test_the_pinned_release_is_the_last_that_was_pursued_on_that_stack(self):
        events = run(ACT, ended("failed"), joined(by_hand("converge", release=ONE)), ended("refused"))
        assert records.pinned(events) == TWO == records.pinned(events, "green") and records.pinned(events, "blue") is None

    def test_a_torn_journal_without_a_goal_pursues_nothing(self):
        assert records.goal_of([ACT]) == {"wants": []} and records.pinned([]) is None

    def test_stacks_that_the_run_has_out_of_live(self):
        assert records.taken_out(run(ACT), OUT) == {"green"} and records.taken_out(run(ACT), steady()) == set()
        assert records.taken_out(run(), OUT) == set()


def on(version, word="live"):
    return steady(*(host(name, word, version) for name in ("green-1", "green-2")))


class TestServed:
    def test_what_a_run_found_live_when_it_began_counts(self):
        assert records.served([run()], "green") == [{"api": "1", "web": "1"}]

    def test_in_order_and_each_change_once(self):
        runs = [run(ended("done", on("2"))), run(ended("done", on("3")), first=on("2"))]
        assert [one["web"] for one in records.served(runs, "green")] == ["1", "2", "3"]

    def test_what_was_only_installed_was_not_served(self):
        assert records.served([run(ACT, ended("failed", on("2", "standby")))], "green") == [{"api": "1", "web": "1"}]

    def test_a_component_that_runs_in_two_versions_is_left_out(self):
        assert records.served([run(first=steady(host("green-1", release="2")))], "green") == []

    def test_a_look_of_another_bgdeploy_is_skipped(self):
        events = run()
        events[0]["seen"] = {"hosts": "?"}
        assert records.served([events], "green") == []


def failed_test(*names, release=TWO, **more):
    after = on("2", "standby")
    return [did("sanity", " ".join(names), after, release=release), *passed(" ".join(names), after, release, "failed", **more)]


class TestBad:
    def test_what_failed_its_sanity_test_and_the_run_is_named(self):
        assert records.bad([run(failed_test("green-1"))]) == {
            ("api", "2"): "it failed its sanity test in run r1", ("web", "2"): "it failed its sanity test in run r1"}

    def test_a_later_pass_makes_it_good_again(self):
        after = on("2", "standby")
        again = run(did("sanity", "green-1", after), passed("green-1", after), name="r2")
        assert records.bad([run(failed_test("green-1")), again]) == {}

    def test_a_host_that_passes_in_the_same_test_does_not(self):
        assert set(records.bad([run(failed_test("green-1"), passed("green-2", on("2", "standby")))])) == {("api", "2"),
                                                                                                          ("web", "2")}

    def test_only_the_component_whose_check_failed_is_blamed(self):
        assert set(records.bad([run(failed_test("green-1", evidence={"component": "web"}))])) == {("web", "2")}

    def test_where_no_check_is_named_what_served_before_is_not_blamed(self):
        release = Release((("api", "1"), ("web", "2")))
        assert set(records.bad([run(failed_test("green-1", release=release))])) == {("web", "2")}

    def test_what_was_rolled_back(self):
        gone_back = run(ended("done"), task="rollback", goal=deploy(release=ONE), first=on("2"))
        assert set(records.bad([gone_back])) == {("api", "2"), ("web", "2")}

    def test_not_what_another_stack_runs(self):
        world = seen(host("green-1", release="2"), host("blue-1", release="3"))
        assert set(records.bad([run(ended("done"), task="rollback", goal=deploy(release=ONE), first=world)])) == {("api", "2"),
                                                                                                                  ("web", "2")}

    def test_not_by_a_rollback_that_did_not_happen(self):
        assert records.bad([run(ended("refused"), task="rollback", goal=deploy(release=ONE), first=on("2"))]) == {}

    def test_a_chef_run_that_failed_is_no_verdict_on_the_version(self):
        failed = steady(host("green-1", "standby", job=job(state="failed")))
        assert records.bad([run(ACT, did("converge", "green-1", OUT), ended("failed", failed))]) == {}


class TestBefore:
    HISTORY = [{"web": "1"}, {"web": "2", "api": "1"}, {"web": "3", "api": "1"}]

    def test_per_component_the_last_that_is_not_the_current_one(self):
        assert records.before(self.HISTORY, {"web": "3", "api": "1"}) == {"web": "2"}
        assert records.before(self.HISTORY, {"web": "2", "api": "2"}) == {"web": "3", "api": "1"}

    def test_never_one_that_proved_bad(self):
        assert records.before(self.HISTORY, {"web": "3"}, {("web", "2"): "x"}) == {"web": "1"}

    def test_nothing_served_before_is_nothing(self):
        assert records.before([], {"web": "1"}) == {}


class TestRestarts:
    """host(..., started=) is another process; a step's name is what a run told green-1."""

    S1, L1, S2, L2 = (steady(host("green-1", word, started=start)) for start in ("s1", "s2") for word in ("standby", "live"))
    GONE, BARE = steady(host("green-1", "down", "1")), steady(host("green-1", "down", ""))

    @pytest.mark.parametrize("events, found", [
        ([S1, L2], {"live"}), ([L1, S2], {"standby"}), ([BARE, L2], {"live"}), ([L1, L2], set()), ([S1, L1], set()),
        ([L1, GONE, L2], set()), ([GONE, L2], set()), ([GONE, "converge", GONE, L2], {"live"}),
        ([L1, "converge", GONE, S2], set()), ([L1, S2, "live", L1], {"standby"}),
        ([S1, "live", L2], set()), ([L1, "standby", S2], set()), ([steady(host("green-1", None, started="s2"))], set()),
        ([S1, "standby, rescue", S2], {"live"}),
        ([S1, L2, S2, S1], set()), ([L1, S2, L2, L1], set()), ([L1, S2, "live", L1, L2], set())])
    def test_what_a_new_process_says_untold_is_noticed_and_what_it_was_told_is_not(self, events, found):
        runs = [[{"kind": "began", "run": f"r-{n}"}, self.event(event)] for n, event in enumerate(events)]
        for journals in (runs, [[{"kind": "began", "run": "r"}] + [self.event(event) for event in events]]):
            assert {word for _, word in records.restarts(journals)} == found

    def event(self, event):
        if not isinstance(event, str):
            return {"kind": "ended", "seen": event.to_json()}
        return {"kind": "doing", "step": event.split(",")[0], "hosts": ["green-1"], "rescue": "rescue" in event,
                "live": {"green-1": ["web"]}}
