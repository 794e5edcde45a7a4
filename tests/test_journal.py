"""The journal: on disk before the effect, whole lines only, readable after any crash, and refused in words where it cannot be."""

import json
import os
import pathlib
import resource
import signal
import stat
import tempfile
import time

import pytest

from bgdeploy import journal as journals
from bgdeploy.drive import drive
from bgdeploy.errors import Refused, Unwritable
from bgdeploy.journal import Journal, monotonic_clock, new_id, read
from bgdeploy.model import Policy
from tests.datacentre import Instance, Machine, World
from tests.scenes import deploy

NOBODY = 65534


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "runs" / "20260101-000000-abcd")


@pytest.fixture
def shared():
    """A folder that other users reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


def written(folder):
    with open(os.path.join(folder, "journal.jsonl"), "rb") as f:
        return f.read()


def test_events_are_numbered_stamped_and_read_back_in_order(folder):
    ticks = iter([10.0, 11.5])
    journal = Journal(folder, lambda: next(ticks))
    journal.write("began", run="r", seen=None)
    journal.write("doing", step="standby", hosts=["green-1"])
    assert read(journal.path) == journal.events == [
        {"n": 1, "at": 10.0, "kind": "began", "run": "r", "seen": None},
        {"n": 2, "at": 11.5, "kind": "doing", "step": "standby", "hosts": ["green-1"]}]


def test_two_lives_in_one_file_are_one_run(folder):
    first = Journal(folder, time.time)
    first.write("began", run="r")
    first.close()
    second = Journal(folder, time.time)
    assert second.write("resumed")["n"] == 2 and [e["kind"] for e in read(second.path)] == ["began", "resumed"]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_last_line_torn_by_a_crash_is_no_event_and_tears_no_later_one(folder, cut):
    journal = Journal(folder, time.time)
    journal.write("began", run="r")
    journal.write("doing", step="standby")
    os.truncate(journal.path, len(written(folder)) - cut)
    again = Journal(folder, time.time)
    whole = ["began"] + (["doing"] if cut == 1 else [])      # only its line's end is missing: the event itself is whole
    assert [e["kind"] for e in again.events] == whole
    again.write("resumed")
    assert [e["kind"] for e in read(again.path)] == [*whole, "resumed"]


@pytest.mark.parametrize("junk", [b"\x00" * 40 + b"\n", b"[1,2]\n", b"17\n", b'{"no": "kind"}\n', b"\xff\xfe{}\n", b"\n\n",
                                  b"[" * 100000 + b"\n", b'{"a":' * 100000 + b"\n", b'{"kind": "doing", "hosts": 5}\n',
                                  b'{"kind": "x", "n": "2"}\n', b'{"kind": "x", "at": NaN}\n', b'{"kind": ["x"]}\n',
                                  b'{"kind": "began", "goal": "all"}\n', b'{"kind": "began", "options": {"exclude": ["a"]}}\n'])
def test_whatever_else_lies_in_the_file_is_skipped(folder, junk):
    Journal(folder, time.time).write("began", run="r")
    with open(os.path.join(folder, "journal.jsonl"), "ab") as f:
        f.write(junk)
    assert [e["kind"] for e in Journal(folder, time.time).events] == ["began"]


def test_an_event_is_on_disk_before_anybody_is_told(folder, monkeypatch):
    order, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (fsync(fd), order.append(("on disk", written(folder).count(b"\n")))))
    journal = Journal(folder, time.time, [lambda event: order.append(("told", event["n"]))])
    order.clear()
    journal.write("began")
    journal.write("doing")
    assert order == [("on disk", 1), ("told", 1), ("on disk", 2), ("told", 2)]


def test_the_driver_acts_only_after_its_intention_is_on_disk(folder):
    world = World([Machine(f"{stack}-1", stack, [Instance("web")]) for stack in ("green", "blue")])
    journal = Journal(folder, lambda: world.now)
    journal.write("began", run="run", seen=world.look().to_json())
    ports, checked = world.ports(), []

    def act(do, seen, attempt):
        last = json.loads(written(folder).splitlines()[-1])
        checked.append((last["kind"], last["step"], last["hosts"]) == ("doing", do.step, list(do.hosts)))
        return ports.act(do, seen, attempt)
    release = deploy().wants[0].release
    end = drive(deploy(release=type(release)((("web", "2"),))), Policy(), journal,
                type(ports)(ports.look, act, sleep=ports.sleep))
    assert end.exit_code == 0 and len(checked) == 4 and all(checked)


def test_a_full_disk_ends_in_an_error_before_the_effect_and_spoils_no_later_event(folder):
    journal = Journal(folder, time.time)
    journal.write("began", run="r")
    told, soft = [], resource.getrlimit(resource.RLIMIT_FSIZE)
    journal.tellers.append(told.append)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(written(folder)) + 20, soft[1]))
        with pytest.raises(Unwritable, match="the journal cannot be written"):
            journal.write("doing", step="standby", hosts=["green-1", "green-2"])
        with pytest.raises(Refused, match="File too large"):        # the next driver, whose place is as full
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(written(folder)), soft[1]))
            Journal(folder, time.time)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
        signal.signal(signal.SIGXFSZ, before)
    assert told == [] and len(journal.events) == 1
    journal.write("ended", outcome="failed")
    assert [e["kind"] for e in read(journal.path)] == ["began", "ended"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_folder_of_another_user_is_refused_with_path_owner_and_cure_and_without_half_a_journal(shared, umask):
    old = os.umask(umask)
    try:
        Journal(str(shared / "runs" / "one"), time.time).close()
        os.seteuid(NOBODY)
        try:
            with pytest.raises(Refused) as refused:
                Journal(str(shared / "runs" / "two"), time.time)
        finally:
            os.seteuid(0)
    finally:
        os.umask(old)
    assert refused.value.exit_code == 3
    for part in (str(shared / "runs"), "belongs to root", "you are nobody", "BGDEPLOY_STATE"):
        assert part in refused.value.sentence + refused.value.next_command
    assert not (shared / "runs" / "two").exists()


def test_a_path_that_cannot_be_a_folder_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be written"):
        Journal(str(tmp_path / "file" / "run"), time.time)


def test_only_the_user_may_read_it(folder):
    journal = Journal(folder, time.time)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700 and stat.S_IMODE(os.stat(journal.path).st_mode) == 0o600


def test_the_clock_of_a_run_does_not_go_back_with_the_machines(monkeypatch):
    clock, real = monotonic_clock(), time.time
    first = clock()
    monkeypatch.setattr(journals.time, "time", lambda: real() - 3600)
    assert clock() >= first


def test_run_ids_sort_by_time_and_never_meet():
    ids = [new_id(1_000_000_000 + n) for n in range(3)]
    assert ids == sorted(ids) and len({new_id(5) for _ in range(50)}) == 50
    assert ids[0].startswith("20010909-014640-")


def test_no_journal_is_no_events(tmp_path):
    assert read(str(tmp_path / "nothing.jsonl")) == []


def test_a_run_that_began_on_another_machine_goes_on_here_with_all_that_is_known_of_it(folder):
    elsewhere = [{"n": 1, "at": 5.0, "kind": "began", "run": "r"}, {"n": 2, "at": 6.0, "kind": "doing", "step": "standby"}]
    told = []
    journal = Journal(folder, time.time, [told.append], elsewhere)
    assert journal.events == elsewhere == read(journal.path) and told == []
    assert journal.write("resumed")["n"] == 3 and len(told) == 1


def test_what_another_machine_did_in_between_is_caught_up_with(folder):
    first = Journal(folder, time.time)
    began = first.write("began", run="r")
    first.close()
    there = [began, {"n": 2, "at": 1.0, "kind": "resumed"}, {"n": 3, "at": 2.0, "kind": "ended"}]
    again = Journal(folder, time.time, (), there)
    assert [e["kind"] for e in read(again.path)] == ["began", "resumed", "ended"] and again.write("resumed")["n"] == 4
    assert [e["n"] for e in Journal(folder, time.time, (), there).events] == [1, 2, 3, 4]
