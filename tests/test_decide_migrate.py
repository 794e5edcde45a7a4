"""Step 6 in the rules: once, when every host of every stack runs what it needs."""

from dataclasses import replace

import pytest

from bgdeploy.model import Ask, Do, Done, Goal, Memory, Stop, Wait
from tests.scenes import NOW, asked, dark, host, mixed, part, remembers, rollout, seen, steady

RESUMED = [{"kind": "resumed", "at": NOW}, {"kind": "forgave", "hosts": ["green-1", "green-2", "migrate"]}]


def is_do(step, kind, *hosts):
    return isinstance(step, Do) and step.step == kind and step.hosts == hosts


class TestMigrate:
    GOAL = Goal((), "m", (("web", "1.9"),), kind="migrate")

    def world(self, *hosts, release="1.10", **marker):
        return replace(seen(*hosts) if hosts else seen(host("green-1", release=release), host("blue-1", release=release)),
                       migration={"name": "m", "state": "absent", "run": None, **marker})

    def test_once_every_host_runs_what_it_needs_or_newer_by_rpms_order(self):
        assert is_do(asked(self.GOAL, self.world()), "migrate")

    @pytest.mark.parametrize("late", [host("blue-1", release="1.8"), host("blue-1", "down"), dark("blue-1"),
                                      replace(host("blue-1", release="1.10"), reachable=False),
                                      mixed("blue-1", part("web", release=None)), host("blue-1", release="1.9~rc1")])
    def test_mixed_or_unknown_stops_and_names_the_host(self, late):
        silent = Memory(run="run", silent={"blue-1": NOW - 200})
        stop = asked(self.GOAL, self.world(host("green-1", release="1.10"), late), silent)
        assert isinstance(stop, Stop) and "blue-1" in stop.why

    def test_a_host_that_is_silent_for_a_look_is_waited_for(self):
        step = asked(self.GOAL, self.world(host("green-1", release="1.10"), dark("blue-1")))
        assert isinstance(step, Wait) and step.kind == "host" and step.hosts == ("blue-1",)

    def test_excluded_hosts_count(self):
        world = self.world(host("green-1", release="1.10"), host("blue-1", release="1"))
        assert isinstance(asked(self.GOAL, world, Memory(run="run", excluded={"blue-1": "x"})), Stop)

    def test_done_is_done(self):
        assert isinstance(asked(self.GOAL, self.world(state="done")), Done)

    def test_a_database_that_does_not_say_stops(self):
        assert isinstance(asked(self.GOAL, replace(self.world(), migration=None)), Stop)

    def test_one_that_goes_on_elsewhere_is_left_alone(self):
        for alive in (True, None):
            assert "at this moment" in asked(self.GOAL, self.world(state="started", run="x", alive=alive)).why

    @pytest.mark.parametrize("state", ["started", "failed"])
    def test_one_found_begun_is_a_persons_question_unless_it_may_be_repeated(self, state):
        world = self.world(state=state, run="x", alive=False, detail="250 of 500")
        step = asked(self.GOAL, world)
        assert isinstance(step, Ask) and step.choices == ("repeat", "done", "stop") and "250 of 500" in step.why
        assert is_do(asked(self.GOAL, self.world(state=state, run="x", alive=False, repeatable=True)), "migrate")
        told = {"kind": "answered", "choice": "repeat", "gate": "migration", "stack": ""}
        assert is_do(asked(self.GOAL, world, remembers(told)), "migrate")

    def test_one_that_failed_in_this_run_stops_until_it_is_forgiven(self):
        world = self.world(state="failed", run="run", alive=False, repeatable=True)
        assert isinstance(asked(self.GOAL, world, remembers()), Stop)
        assert is_do(asked(self.GOAL, world, remembers(*RESUMED)), "migrate")

    def test_it_comes_last(self):
        goal = rollout("green", migrate="m", needs=(("web", "2"),))
        assert asked(goal, replace(steady(), migration={"state": "absent"})).step == "standby"
