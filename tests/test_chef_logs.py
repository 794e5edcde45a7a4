"""Chef's full output is kept for every converge that ended, however it ended, and never costs the run its time."""

import os
import stat

import pytest

from bgdeploy import chef_logs
from bgdeploy.chef_logs import ChefLogs
from bgdeploy.errors import NoAnswer
from bgdeploy.model import Job

RUN = "20260101-000000-abcd"
DOING = {"kind": "doing", "step": "converge", "hosts": ["a", "b"]}
WAITED = {"kind": "waited", "wait": "chef", "hosts": ["a", "b"]}
ENDED = {"kind": "ended", "exit_code": 4}


class Hosts:
    """What lies on hosts: {name: (job or an exception, output)}."""

    def __init__(self, folder, **hosts):
        self.folder, self.hosts, self.said, self.interrupted, self.asked = folder, hosts, [], False, []

    def logs(self, events=()):
        return ChefLogs(str(self.folder), RUN, events, self.look, self.output, self.said.append, lambda: self.interrupted)

    def look(self, name):
        self.asked.append(name)
        job = self.hosts[name][0]
        if isinstance(job, Exception):
            raise job
        return job

    def output(self, name, run, offset):
        piece = self.hosts[name][1][offset:offset + 10]
        return piece, offset + len(piece), len(self.hosts[name][1])

    def kept(self):
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        return {str(file.relative_to(self.folder / "hosts")): file.read_bytes() for file in files}


def job(state="ok", run=RUN):
    return Job("chef", run, state=state)


def test_after_the_wait_the_whole_output_is_kept_as_it_is_for_its_owner_alone(tmp_path):
    hosts = Hosts(tmp_path, a=(job(), b"gr\xfcn\x1b[1m\0" * 5), b=(job("failed"), b""))
    tell = hosts.logs()
    tell(DOING), tell(WAITED)
    assert hosts.kept() == {"a/chef.log": b"gr\xfcn\x1b[1m\0" * 5, "b/chef.log": b""}
    assert stat.S_IMODE(os.stat(tmp_path / "hosts/a/chef.log").st_mode) == 0o600
    assert not tell.due


def test_a_chef_that_ended_before_anybody_waited_for_it_is_kept_at_the_end(tmp_path):
    hosts = Hosts(tmp_path, a=(job("failed"), b"why"), b=(None, b""))
    tell = hosts.logs()
    tell(DOING), tell(ENDED)
    assert hosts.kept() == {"a/chef.log": b"why"}


def test_a_wait_that_is_over_because_a_host_is_silent_is_no_end_of_chef(tmp_path):
    hosts = Hosts(tmp_path, a=(job("running"), b"so far"), b=(NoAnswer("b does not answer"), b""))
    tell = hosts.logs()
    tell(DOING), tell(WAITED)
    assert hosts.kept() == {} and hosts.said == ["b: Chef's full output could not be fetched: b does not answer"]
    hosts.hosts["a"] = (job(), b"so far, and so good")
    tell(WAITED)
    assert hosts.kept() == {"a/chef.log": b"so far, and so good"}


def test_a_second_converge_hides_nothing_of_the_first(tmp_path):
    hosts = Hosts(tmp_path, a=(job("failed"), b"first"), b=(job(), b"fine"))
    tell = hosts.logs()
    tell(DOING), tell({**DOING, "hosts": ["a"]})
    hosts.hosts["a"] = (job("ok", RUN + ".2"), b"second")
    tell(ENDED)
    assert hosts.kept() == {"a/chef.log": b"first", "a/chef.2.log": b"second", "b/chef.log": b"fine"}


def test_the_output_of_another_run_is_not_this_runs(tmp_path):
    hosts = Hosts(tmp_path, a=(job(run="20250101-000000-0000"), b"old"), b=(job(run=RUN + "0"), b"other"))
    tell = hosts.logs()
    tell(DOING), tell(WAITED), tell(ENDED)
    assert hosts.kept() == {}


def test_a_resumed_run_keeps_what_ended_while_no_driver_was_there(tmp_path):
    hosts = Hosts(tmp_path, a=(job(), b"went on by itself"), b=(job(), b"x"))
    hosts.logs([{"kind": "began"}, DOING, {"kind": "interrupted"}, {"kind": "ended", "exit_code": 5}])(ENDED)
    assert hosts.kept() == {"a/chef.log": b"went on by itself", "b/chef.log": b"x"}
    hosts.asked.clear()
    hosts.logs([DOING, WAITED])(ENDED)
    assert hosts.asked == []


def test_an_interrupted_run_fetches_nothing_more(tmp_path):
    hosts = Hosts(tmp_path, a=(job(), b"x" * 100), b=(job(), b"y"))
    tell = hosts.logs()
    tell(DOING)
    hosts.interrupted = True
    tell(ENDED)
    assert hosts.kept() == {} and hosts.asked == []


def test_an_interruption_in_mid_fetch_leaves_no_file_that_looks_whole(tmp_path):
    hosts = Hosts(tmp_path, a=(job(), b"x" * 100), b=(job(), b"y"))
    tell, fetch = hosts.logs(), hosts.output

    def output(name, run, offset):
        hosts.interrupted = offset > 20
        return fetch(name, run, offset)
    tell.output = output
    tell({**DOING, "hosts": ["a"]}), tell(WAITED)
    assert set(hosts.kept()) <= {"a/chef.log.part"} and tell.due == {"a"}


def test_of_a_flood_the_middle_is_left_out_and_that_is_said_and_its_end_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(chef_logs, "MOST", 50)
    hosts = Hosts(tmp_path, a=(job(), b"b" * 30 + b"x" * 1000 + b"e" * 24 + b"!"), b=(None, b""))
    tell = hosts.logs()
    tell({**DOING, "hosts": ["a"]}), tell(WAITED)
    kept = hosts.kept()["a/chef.log"]
    assert kept.startswith(b"b" * 30 + b"\n... 1000 bytes are left out here") and kept.endswith(b"...\n" + b"e" * 24 + b"!")
    assert hosts.said == ["a: 0 MB in the middle of Chef's output were left on the host"]


def test_an_output_as_long_as_allowed_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(chef_logs, "MOST", 50)
    hosts = Hosts(tmp_path, a=(job(), b"0123456789" * 5), b=(None, b""))
    tell = hosts.logs()
    tell({**DOING, "hosts": ["a"]}), tell(WAITED)
    assert hosts.kept()["a/chef.log"] == b"0123456789" * 5 and hosts.said == []


@pytest.mark.parametrize("event", [{"kind": "watched"}, {"kind": "doing", "step": "standby", "hosts": ["a"]},
                                   {"kind": "waited", "wait": "pool", "hosts": ["a"]}])
def test_other_events_fetch_nothing(tmp_path, event):
    hosts = Hosts(tmp_path, a=(job(), b"x"), b=(job(), b"y"))
    tell = hosts.logs([DOING])
    tell(event)
    assert hosts.asked == []
