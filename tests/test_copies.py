"""What a shared store has of a run: every event once, also those that it missed while it was silent."""

import os

import pytest

from bgdeploy.copies import LACKING, QUIET, Copies, Spared, hand_in
from bgdeploy.errors import Failed, NoAnswer
from bgdeploy.journal import Journal


class Store:
    def __init__(self):
        self.down, self.asked, self.kept, self.whole = False, 0, {}, {}

    def append(self, run, event):
        self._ask()
        if event.get("kind") == "huge":
            raise Failed("the document is over 16 MiB")
        assert event["n"] not in self.kept.setdefault(run, {})
        self.kept[run][event["n"]], self.whole[run, event["n"]] = event["kind"], event

    def events(self, run):
        self._ask()
        return [self.whole[run, n] for n in self.kept.get(run, {})]

    def _ask(self):
        self.asked += 1
        if self.down:
            raise NoAnswer("the store at db:27017 does not answer")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def world(tmp_path):
    store, clock, said = Store(), Clock(), []
    ask = Spared(lambda: store, clock)
    journal = Journal(str(tmp_path / "r1"), lambda: 1.0)
    journal.tellers.append(Copies(ask, "r1", journal, said.append))
    yield store, clock, said, ask, journal
    journal.close()


def test_each_event_is_copied_as_it_is_written_and_one_too_large_is_named(world):
    store, _, said, _, journal = world
    for kind in ("began", "huge", "ended"):
        journal.write(kind)
    assert store.kept["r1"] == {1: "began", 3: "ended"}
    assert said == ["the store has no copy of event 2: the document is over 16 MiB"]


def test_a_silent_store_is_left_alone_for_a_while_and_then_gets_what_it_missed_in_order(world):
    store, clock, said, _, journal = world
    journal.write("began")
    store.down, before = True, store.asked
    for _ in range(5):
        journal.write("doing")
    assert store.asked == before + 1 and len(said) == 1 and "lacks events" in said[0]
    assert os.path.exists(os.path.join(journal.folder, LACKING))
    store.down, clock.now = False, clock.now + QUIET + 1
    journal.write("ended")
    assert list(store.kept["r1"]) == [1, 2, 3, 4, 5, 6, 7] and len(said) == 2
    assert not os.path.exists(os.path.join(journal.folder, LACKING))


def test_a_run_that_ended_while_the_store_was_silent_is_handed_in_by_a_later_command(world, tmp_path):
    store, clock, said, _, journal = world
    journal.write("began")
    store.down = True
    journal.write("ended")
    later = Spared(lambda: store, clock)
    runs = {"r1": journal.events, "r0": [{"n": 1, "kind": "began"}]}
    with pytest.raises(NoAnswer):
        later(lambda store: store.events("r1"))
    hand_in(later, str(tmp_path), runs, said.append)         # still silent: nothing is lost
    clock.now += QUIET + 1
    store.down = False
    hand_in(later, str(tmp_path), runs, said.append)
    assert store.kept == {"r1": {1: "began", 2: "ended"}} and said[-1].startswith("run r1: ")


def test_a_run_that_goes_on_is_compared_with_what_is_there_and_lacks_nothing_afterwards(world, tmp_path):
    store, clock, said, ask, journal = world
    journal.write("began")
    journal.close()
    again = Journal(journal.folder, lambda: 2.0)
    again.write("doing")                                     # its driver was killed before the copy
    again.tellers.append(Copies(ask, "r1", again, said.append))
    again.write("resumed")
    again.close()
    assert store.kept["r1"] == {1: "began", 2: "doing", 3: "resumed"} and said == []


def test_what_was_done_here_without_knowing_of_another_machine_s_part_stands_behind_that_and_once(world, tmp_path):
    store, clock, said, ask, journal = world
    journal.write("began")
    store.down = True
    journal.write("joined")                                  # `back`, with the store down
    journal.write("ended")
    store.down, clock.now = False, clock.now + QUIET + 1
    store.append("r1", {"n": 2, "kind": "resumed", "at": 7.0})       # meanwhile elsewhere
    for _ in range(2):
        open(os.path.join(journal.folder, LACKING), "w", encoding="ascii").close()
        hand_in(ask, str(tmp_path), {"r1": journal.events}, said.append)
    assert store.kept["r1"] == {1: "began", 2: "resumed", 3: "joined", 4: "ended"}
