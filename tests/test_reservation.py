"""Other Chef runs go on again where a host is live, or where nobody carries the run on; until then they wait."""

from types import SimpleNamespace

from bgdeploy import reservation
from bgdeploy.model import Result
from bgdeploy.reservation import Reservation
from tests.scenes import deploy


class World:
    def __init__(self, events=(), all_hosts=("g1", "g2", "b1")):
        self.said, self.written, self.asked, self.released, self.silent = [], [], [], [], ()
        self.interrupted = False
        self.told = Reservation(events, all_hosts, 900.0, self.renew, self.release, self.write, self.said.append,
                                lambda: self.interrupted)

    def renew(self, name):
        self.asked.append(name)
        return Result(name, "ok")

    def release(self, name):
        if name in self.silent:
            return Result(name, "unknown", "no answer")
        self.released.append(name)
        return Result(name, "ok", "", 0, {"released": name != "b1"})

    def write(self, kind, **fields):
        self.written.append((kind, fields["hosts"]))

    def tell(self, kind, at=0.0, **fields):
        self.told({"kind": kind, "at": at, **fields})


def kept(host, at=0.0):
    return {"kind": "result", "at": at, "step": "converge", "host": host, "outcome": "ok", "evidence": {"reserved": True}}


def test_a_host_is_free_again_as_soon_as_it_is_seen_live_and_the_journal_says_so():
    world = World([kept("g1"), kept("g2")])
    world.tell("seen_live", hosts={"g1": "s", "b1": "s"})
    assert world.released == ["g1"] and world.written == [("released", ["g1"])]
    world.tell("seen_live", hosts={"g1": "s"})
    assert world.released == ["g1"]


def test_a_resumed_run_knows_who_still_waits():
    world = World([kept("g1"), kept("g2"), {"kind": "released", "hosts": ["g1"]}])
    assert world.told.due == {"g2"}


def test_who_has_been_taken_from_the_inventory_since_is_asked_no_more():
    """A dead host of a run, and its whole stack with it: `resume` ended as a bug."""
    left = SimpleNamespace(name="b1", stack="blue")
    site = SimpleNamespace(chef=SimpleNamespace(cookbooks="server", reserve=60.0), hosts=(left,))
    journal = SimpleNamespace(events=[kept("g1")], write=None, tellers=[])
    mine = reservation.of(site, None, "r1", deploy(), journal, print)
    mine.longer(9999.0)
    assert journal.tellers == [mine] and not mine.due and not mine.all_hosts


def test_at_the_end_of_a_run_that_nobody_carries_on_all_of_its_hosts_are_free_whoever_kept_them():
    world = World([kept("g1")])
    world.tell("ended", outcome="done")
    assert world.released == ["b1", "g1", "g2"] and world.written == [] and "on g1 g2" in world.said[0]


def test_a_run_that_is_still_open_and_a_step_by_hand_leave_them_waiting():
    for outcome, hosts in (("failed", ("g1",)), ("interrupted", ("g1",)), ("waiting", ("g1",)), ("done", ())):
        world = World([kept("g1")], hosts)
        world.tell("ended", outcome=outcome)
        assert world.released == [] and world.asked == []


def test_a_long_run_asks_for_longer_now_and_then():
    world = World([kept("g1", at=100.0)])
    world.tell("waiting", at=900.0)
    assert world.asked == []
    world.tell("waiting", at=1001.0)
    world.told.longer(1002.0)
    world.told.longer(1902.0)
    assert world.asked == ["g1", "g1"]


def test_it_never_comes_between_the_last_look_and_the_act_nor_holds_up_an_abort():
    """A host that hangs costs seconds: the act would stand on an old look, and Jenkins would kill before the end was written."""
    world = World([kept("g1", at=100.0)])
    world.tell("doing", at=1001.0)
    assert world.asked == []
    world.interrupted = True
    world.tell("acted", at=1002.0)
    world.tell("interrupted", at=1003.0)
    assert world.asked == []


def test_a_host_that_does_not_answer_is_said_to_go_on_by_itself():
    world = World([kept("g1")])
    world.silent = ("g1",)
    world.tell("seen_live", hosts={"g1": "s"})
    assert "g1: other Chef runs go on by themselves when their time has come" in world.said[0]
