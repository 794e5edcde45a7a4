"""Chef's run lock is kept for a deployment by a process of its own, and let go by itself: never for ever."""

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from tests.hostfolder import answer, booted, run_folder

from bgdeploy_host import client, files, reserve, verbs


class Keeper:
    """Stands in for systemd: the very `keep`, in a thread."""

    def __init__(self, at, monkeypatch):
        self.at, self.threads, self.running = at, [], False
        monkeypatch.setattr(reserve, "_active", lambda: any(thread.is_alive() for thread in self.threads))
        monkeypatch.setattr(reserve, "_launch", self.launch)
        monkeypatch.setattr(reserve, "PACE", 0.02)
        monkeypatch.setattr(reserve, "LOOK", 0.02)
        monkeypatch.setattr(reserve.runs, "systemctl", lambda *words: None)
        monkeypatch.setattr("bgdeploy_host.facts.unit_active", lambda run: self.running)

    def launch(self):
        self.threads.append(threading.Thread(target=reserve.keep, args=(self.at, lambda run: self.running), daemon=True))
        self.threads[-1].start()

    def stop(self):
        Path(self.at(reserve.NOTE)).unlink(missing_ok=True)
        self.ended()

    def ended(self, limit=10.0):
        """Has it ended by itself within the limit?"""
        for thread in self.threads:
            thread.join(limit)
            assert not thread.is_alive()
        return True


@pytest.fixture
def at(tmp_path):
    return booted(tmp_path)


@pytest.fixture
def keeper(at, monkeypatch):
    one = Keeper(at, monkeypatch)
    yield one
    one.running = False
    one.stop()


def free(at):
    """Would a plain chef-client get its lock now?"""
    path = at(client.lockfile(at))
    if not os.path.exists(path):
        return True
    with open(path, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def test_the_lock_is_got_at_once_where_nobody_converges_and_whoever_waits_sees_for_whom(at, keeper):
    code, said = answer(["reserve", "--run", "r1.2", "--for", "60"], at)
    assert code == 0 and said == {"run": "r1", "held": True} and not free(at)
    assert Path(at(client.lockfile(at))).read_text() == str(os.getpid())
    seen = reserve.state(at, True)
    assert seen["run"] == "r1" and 50 < seen["left"] <= 60 and seen["held"] is True


def test_its_time_ends_it_whatever_becomes_of_the_driver(at, keeper):
    answer(["reserve", "--run", "r1", "--for", "1"], at)
    assert keeper.ended() and free(at) and not os.path.exists(at(reserve.NOTE)) and not os.path.exists(at(reserve.HELD))
    assert reserve.state(at, False) is None


def test_a_run_of_ours_that_goes_on_is_waited_for_past_the_time_and_no_longer(at, keeper):
    run_folder(at)
    keeper.running = True
    answer(["reserve", "--run", "r1", "--for", "1"], at)
    time.sleep(1.3)
    assert keeper.threads[0].is_alive()
    keeper.running = False
    assert keeper.ended()


def test_asking_again_makes_it_longer_and_starts_no_second_keeper(at, keeper):
    answer(["reserve", "--run", "r1", "--for", "1"], at)
    answer(["reserve", "--run", "r2", "--for", "60"], at)
    time.sleep(1.3)
    assert len(keeper.threads) == 1 and keeper.threads[0].is_alive() and reserve.state(at, True)["run"] == "r2"


def test_somebody_elses_run_is_waited_for_and_never_stopped(at, keeper):
    path = at(client.lockfile(at))
    os.makedirs(os.path.dirname(path))
    with open(path, "a+") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        assert answer(["reserve", "--run", "r1", "--for", "60"], at)[1]["held"] is False
        assert Path(path).read_text() == ""
    until = time.monotonic() + 10
    while not os.path.exists(at(reserve.HELD)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not free(at)


def test_a_release_is_refused_while_a_run_goes_on_and_does_nothing_where_nothing_is_kept(at, keeper):
    assert answer(["release"], at) == (0, {"released": False, "run": None})
    answer(["reserve", "--run", "r1", "--for", "60"], at)
    run_folder(at)
    keeper.running = True
    assert answer(["release"], at)[0] == 3 and os.path.exists(at(reserve.NOTE))
    keeper.running = False
    assert answer(["release"], at)[1] == {"released": True, "run": "r1"} and not os.path.exists(at(reserve.NOTE))


def test_where_systemd_does_not_start_the_keeper_nothing_is_said_to_be_kept(at, keeper, monkeypatch):
    monkeypatch.setattr(reserve, "_launch", lambda: "Failed to connect to bus")
    code, said = answer(["reserve", "--run", "r1", "--for", "60"], at)
    assert code == 3 and "Failed to connect to bus" in said["refused"] and reserve.state(at, True) is None


def test_our_own_run_takes_another_lock_and_waits_for_the_first(at, keeper, monkeypatch):
    Path(at("/usr/bin/chef-client")).write_text("#!/bin/sh\n")
    os.chmod(at("/usr/bin/chef-client"), 0o755)
    started = []
    monkeypatch.setattr(reserve.runs, "_launch", lambda run, limit, command: started.append(command))
    said = answer(["start", "--run", "r1", "--release", "web=2.0.0-1", "--limit", "60", "--versions", "web=2.0.0-1",
                   "--mode", "server", "--reserve", "60"], at)[1]
    assert said["reserved"] is True and started[0][:3] == ["/usr/lib/bgdeploy-host/reserved.sh", reserve.HELD, "60"]
    assert 'lockfile "{}"'.format(client.OWN_LOCK) in files.read_text(at(files.RUNS + "/r1/client.rb"))


@pytest.mark.parametrize("arguments", [
    ["reserve"], ["reserve", "--run", "r1"], ["reserve", "--run", "r1", "--for", "0"],
    ["reserve", "--run", "r1", "--for", "99999999"],
    ["reserve", "--run", "../x", "--for", "60"], ["release", "--run", "r1"], ["release", "x"]])
def test_anything_else_is_a_wrong_argument(arguments, at):
    assert answer(arguments, at)[0] == 2
    with pytest.raises(verbs.Wrong):
        verbs.parse(arguments)
