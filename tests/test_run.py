"""What one invocation does around the drive: which run it joins, and whose place it takes, and when."""

import json
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bgdeploy import opening, run as running
from bgdeploy.drive import Interrupt
from bgdeploy.errors import BadInput, NoAnswer, Refused
from bgdeploy.goals import Asked
from bgdeploy.interruption import AtOnce
from bgdeploy.journal import Journal, read
from bgdeploy.memory import fold
from bgdeploy.model import Goal, Policy
from tests.scenes import ONE, TWO, back, by_hand, deploy, did, host, job, rollout, steady
from tests.test_records import OUT, ended, run

TAKEN = did("standby", "green-1 green-2", steady())


@pytest.fixture
def session(tmp_path):
    """As much of a session as the run records need, in a folder of its own."""
    def folder(name):
        return str(tmp_path / "runs" / name)
    return SimpleNamespace(folder=folder, state=str(tmp_path), site=SimpleNamespace(name="shop"), journal=lambda name, events=(),
                           tellers=(): Journal(folder(name), lambda: 99.0, tellers, events))


def kept(session, name):
    return read(os.path.join(session.folder(name), "journal.jsonl"))


def test_who_cannot_ask_for_the_lock_is_refused_before_any_act(session):
    """Not a failed step: a driver stopped in mid-change of the lock kept others out, and they ended with 4."""
    def silent(*_, **__):
        raise NoAnswer("guard: another process has been in the middle of a change for 3 s")
    session.store, session.begun = SimpleNamespace(take=silent), False
    session.console = SimpleNamespace(line=print)
    with pytest.raises(Refused, match="in the middle of a change"):
        running.pursue(session, Asked("standby", "green"), {})


@pytest.mark.parametrize("asked, named", [
    (Asked("resume"), "r1"), (Asked("converge", "green"), "r1"), (Asked("converge", "blue"), "new"),
    (Asked("deploy", "green"), "new"), (Asked("back", "green"), "new")])
def test_the_lock_names_the_run_that_is_gone_on_with_and_none_that_will_never_be(session, asked, named):
    events = run(TAKEN, goal=by_hand("standby"))
    events[0] = {**events[0], "env": "shop"}
    os.makedirs(session.folder("r1"))
    with open(os.path.join(session.folder("r1"), "journal.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"n": n, **e}) + "\n" for n, e in enumerate(events, 1))
    session.store = SimpleNamespace(take=lambda holder, **_: holder, holder=lambda: None)
    session.console = SimpleNamespace(line=print)
    assert running.take_lock(session, asked, "new", {})["run"] == named


def test_a_signal_while_the_lock_is_let_go_does_not_cut_the_end_of_a_run_short(session, monkeypatch):
    """A second Ctrl-C, some seconds after the first: the recap still has to come."""
    class Grip:
        def keep(self):
            return self

        def release(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)

    def whole(session, asked, options, run, grip, begins):
        begins()
        session.begun = True
        return "end", run
    session.store, session.begun, session.interrupt = SimpleNamespace(take=lambda *_, **__: Grip()), False, Interrupt()
    session.console = SimpleNamespace(line=print)
    monkeypatch.setattr(running, "locked", whole)
    before = signal.signal(signal.SIGTERM, AtOnce())
    try:
        assert running.pursue(session, Asked("deploy", "green"), {})[0] == "end"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert session.interrupt.wanted == "SIGTERM"


class TestTakingAPlace:
    OPEN = [("r1", run(TAKEN, ended("failed", OUT)))]

    def test_an_open_run_ends_when_the_new_one_does_its_first_act(self, session):
        tell = running.superseding(session, Asked("deploy", "green"), self.OPEN)
        tell({"kind": "began"})
        assert kept(session, "r1") == []
        tell({"kind": "doing", "step": "converge"})
        last = kept(session, "r1")[-1]
        assert (last["kind"], last["outcome"], last["why"]) == ("ended", "superseded", "superseded by deploy")
        with open(os.path.join(session.folder("r1"), "result.json"), encoding="utf-8") as f:
            assert json.load(f)["outcome"] == "superseded"
        tell({"kind": "doing"})
        assert len(kept(session, "r1")) == len(self.OPEN[0][1]) + 1

    def test_one_that_is_refused_takes_nobodys_place_and_one_that_had_nothing_to_do_does(self, session):
        tell = running.superseding(session, Asked("rollout"), self.OPEN)
        tell({"kind": "ended", "outcome": "refused"})
        assert kept(session, "r1") == []
        tell({"kind": "ended", "outcome": "done"})
        assert kept(session, "r1")[-1]["outcome"] == "superseded"

    @pytest.mark.parametrize("task", ["resume", "back", "standby", "live", "migrate"])
    def test_what_joins_a_run_or_stands_beside_it_ends_none(self, session, task):
        running.superseding(session, Asked(task, "green"), self.OPEN)({"kind": "doing"})
        assert kept(session, "r1") == []

    @pytest.mark.parametrize("begins", [{"kind": "doing", "step": "migrate"}, {"kind": "asked", "choices": ["repeat", "done"]}])
    def test_a_migration_typed_again_takes_the_place_of_one_that_failed_and_of_nothing_else(self, session, begins):
        """The one that failed would have stayed open for ever: `status` went on naming it."""
        failed = ({"kind": "doing", "step": "migrate", "hosts": []}, ended("failed", steady()))
        alone = run(*failed, goal=Goal(migrate="m", kind="migrate"))
        tell = running.superseding(session, Asked("migrate"), [("m1", alone), *self.OPEN])
        tell({"kind": "began"})
        assert kept(session, "m1") == []
        tell(begins)
        assert kept(session, "m1")[-1]["outcome"] == "superseded" and kept(session, "r1") == []

    def test_a_deployment_that_only_asks_takes_nobodys_place(self, session):
        running.superseding(session, Asked("deploy", "green"), self.OPEN)({"kind": "asked", "choices": ["approve", "stop"]})
        assert kept(session, "r1") == []

    def test_a_run_that_leaves_a_stack_out_of_live_is_not_passed_by(self):
        with pytest.raises(Refused, match="run r1 is open and has green out of LIVE") as refused:
            running.refuse_left_out(Asked("deploy", "blue"), deploy("blue"), OUT, self.OPEN)
        assert "invoke resume" in refused.value.next_command and "invoke back --stack green" in refused.value.next_command
        running.refuse_left_out(Asked("rollout"), rollout(), OUT, self.OPEN)
        running.refuse_left_out(Asked("deploy", "blue"), deploy("blue"), steady(), self.OPEN)


class TestJoining:
    def test_resume_and_back_take_the_newest_open_run(self):
        ones = [("r1", run(TAKEN)), ("r2", run(TAKEN))]
        assert opening.joins(Asked("resume"), ones)[0] == "r2" == opening.joins(Asked("back", "green"), ones)[0]
        assert opening.joins(Asked("back", "green"), []) is None
        with pytest.raises(Refused, match="no open run"):
            opening.joins(Asked("resume"), [])

    @pytest.mark.parametrize("hosts, command", [
        ([host("green-1", "standby", "2", job()), host("green-2", "standby", "1", job(ONE))],       # killed after the canary
         "invoke deploy --stack green --version api=2,web=2"),
        ([host("green-1", "down", "1", job(TWO, "running")), host("green-2", "standby", "1", job(ONE))],
         "invoke deploy --stack green --version api=2,web=2"),
        ([host("green-1", "standby", "1", job(ONE)), host("green-2", "standby", "1", job(ONE)), host("blue-1", job=job(ONE))],
         "invoke deploy --stack green"),                                                            # nothing was brought yet
        ([host("green-1", "standby", "1", job(ONE, run="r2")), host("green-2", "standby", "1", job(ONE, run="r2")),
          host("blue-1", job=job(ONE, run="r1"))], "invoke deploy --stack green --version api=1,web=1"),    # Chef went on alone
        ([host("blue-1", "standby", "1", job(ONE)), host("blue-2", "standby", "1", job(ONE)), host("green-1", release="2"),
          host("green-2", release="2")], "invoke deploy --stack blue --version api=2,web=2"),       # the rollout's second stack
        ([], "invoke status")])
    def test_resume_without_the_run_s_records_names_the_command_that_reaches_the_same_end(self, hosts, command):
        with pytest.raises(Refused, match="there is no open run here") as refused:
            opening.joins(Asked("resume"), [], steady(*hosts))
        assert refused.value.next_command == command

    def test_a_step_by_hand_joins_the_open_run_of_its_stack_only(self):
        ones = [("r1", run(TAKEN, goal=by_hand("standby")))]
        assert opening.joins(Asked("converge", "green"), ones)[0] == "r1"
        assert opening.joins(Asked("converge", "blue"), ones) is None

    def test_a_new_deployment_joins_none(self):
        assert opening.joins(Asked("deploy", "green"), [("r1", run(TAKEN))]) is None


@pytest.mark.parametrize("goal", [back("green"), by_hand("standby"), by_hand("live")])
def test_what_is_typed_again_by_hand_is_tried_again_however_often_it_failed_before(session, goal):
    """A flip that a host refused three times ended `back` with 4; once the host was mended, `back` must go on."""
    session.by, session.site = dict, SimpleNamespace(name="lab")
    tried = [did("standby", "green-1", steady()) for _ in range(3)]
    events = run(*tried, goal=goal)
    journal = session.journal("r1", events)
    assert fold(events).tries
    opening.begin(session, journal, Asked(goal.kind, "green"), goal, steady(), {}, ("r1", events), None)
    assert not fold(journal.events).tries


@pytest.mark.parametrize("goal, stays", [(back("green"), True), (by_hand("standby"), True), (by_hand("live"), False)])
def test_only_live_typed_by_hand_puts_back_whom_a_person_took_out(session, goal, stays):
    """After a `standby` that the floor refused, `resume` put the host live again: it fought the person."""
    session.by, session.site = dict, SimpleNamespace(name="lab")
    events = run(did("live", "green-1", OUT), {"kind": "seen_live", "hosts": {"green-1": "api=s1,web=s1"}}, goal=deploy())
    journal = session.journal("r1", events)
    opening.begin(session, journal, Asked(goal.kind, "green"), goal, steady(host("green-1", "standby")), {}, ("r1", events), None)
    assert ("green-1" in fold(journal.events).released) == stays


def test_resume_forgives_what_failed_and_each_stack_by_its_own_release(tmp_path):
    journal = Journal(str(tmp_path / "r"), lambda: 1.0)
    for event in run(TAKEN, did("converge", "green-1", OUT)):
        journal.events.append(event)
    opening.forgive(journal, steady(host("green-1", "standby")))
    assert journal.events[-1]["hosts"] == ["green-1", "green-2"]


def test_resume_forgives_a_migration_only_where_the_run_has_one(tmp_path):
    journal = Journal(str(tmp_path / "r"), lambda: 1.0)
    journal.events += run(goal=Goal(migrate="m", kind="migrate"))
    opening.forgive(journal, steady())
    assert journal.events[-1]["hosts"] == ["migrate"]


@pytest.mark.parametrize("more, excluded, refused", [
    (("green-1",), {}, False), (("green-1", "green-2"), {}, True), (("green-1",), {"green-2": "its disk"}, True),
    ((), {"green-1": "its disk", "green-2": "its disk"}, False)])
def test_hosts_can_be_left_out_of_a_run_while_somebody_is_left(more, excluded, refused):
    """The run could never go on after that: each `resume` ended with 4, and no question was open any more."""
    green = SimpleNamespace(hosts=[SimpleNamespace(name="green-1"), SimpleNamespace(name="green-2")])
    site, events = SimpleNamespace(stack=lambda name: green), run(TAKEN)
    events[0]["options"] = {"exclude": excluded}
    if refused:
        with pytest.raises(BadInput, match="--exclude: no host of green is left in this run then"):
            running.refuse_nobody(site, deploy(), events, more, "--exclude")
    else:
        running.refuse_nobody(site, deploy(), events, more, "--exclude")
    with pytest.raises(BadInput):
        running.refuse_nobody(site, Goal((replace(deploy().wants[0], hosts=("green-1",)),)), run(), ("green-1",), "--exclude")


def test_a_floor_that_was_lowered_for_a_run_holds_when_that_goes_on_and_the_last_word_counts():
    site, begun = SimpleNamespace(policy=Policy()), run(TAKEN)
    begun[0]["options"] = {"floor": 1}
    assert running.policy_of(site, {}, begun).floor == (("*", 1),)
    again = [*begun, {"kind": "resumed", "options": {"floor": 0}}, {"kind": "resumed", "options": {}}]
    assert running.policy_of(site, {}, again).floor == (("*", 0),)
    assert running.policy_of(site, {"floor": 2}, again).floor == (("*", 2),)
    for nothing in ((), [{"kind": "began", "options": {"floor": True}}, {"kind": "began", "options": 5}, {"kind": "joined"}]):
        assert running.policy_of(site, {}, nothing) == Policy()


@pytest.mark.parametrize("task, goal", [("resume", deploy()), ("converge", by_hand("converge"))])
def test_whom_a_person_excludes_from_a_run_that_goes_on_is_left_out_of_it(session, task, goal):
    events = run(TAKEN, ended("failed", OUT))
    session.by, session.site = lambda: {"user": "ann"}, SimpleNamespace(name="shop", policy=None)
    journal = session.journal("r1", events)
    opening.begin(session, journal, Asked(task, "green"), goal, OUT, {"exclude": {"green-2": "its disk"}}, ("r1", events), None)
    assert fold(kept(session, "r1")).excluded == {"green-2": "its disk"}
    assert "green-2" in [host for e in kept(session, "r1") if e["kind"] == "excluded" for host in e["hosts"]]


def test_whom_a_person_left_out_is_not_asked_about_again_when_the_run_goes_on():
    """A host left out for its read-only disk: `resume` refused for just that disk, and for cookbooks that it would not get."""
    release = replace(TWO, cookbooks="c1")
    events = run(TAKEN, {"kind": "answered", "choice": "exclude", "gate": "failure", "stack": "green", "hosts": ["green-2"]},
                 goal=deploy(release=release))
    done = steady(host("green-1", "standby", "2", job=job(release)), host("green-2", "standby"))
    names = [h.name for _, h in opening.concerned(deploy(release=release), done, fold(events).excluded)]
    assert names == ["green-1"]
    opening.refuse_other_cookbooks(deploy(release=release), done, events, "c2")
    with pytest.raises(Refused, match="cookbooks here have changed"):
        opening.refuse_other_cookbooks(deploy(release=release), steady(*OUT.stack("green")), events, "c2")
