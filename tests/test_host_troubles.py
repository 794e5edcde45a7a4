"""bgdeploy-host on a host that is unwell: full disks, set clocks, processes that end meanwhile, odd things in its way."""

import errno
import gzip
import hashlib
import io
import json
import os
import resource
import socket
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

from bgdeploy import prove
from bgdeploy.model import Job
from tests.hostfolder import START, answer, booted

from bgdeploy_host import facts, files, outcome, rehearsal, reserve, runs, verbs


@pytest.fixture
def at(tmp_path, monkeypatch):
    place = booted(tmp_path)
    monkeypatch.setattr(runs, "_launch", lambda *words: None)
    monkeypatch.setattr(facts, "unit_active", lambda run: True)
    return place


def chef(at, script="exit 0\n"):
    Path(at("/usr/bin/chef-client")).write_text("#!/bin/sh\n" + script)
    os.chmod(at("/usr/bin/chef-client"), 0o755)
    files.folder(at(files.COOKBOOKS + "/3f2a9c01"))


def test_after_a_clock_was_set_back_what_a_run_needs_is_not_taken_for_the_eldest(at):
    chef(at)
    ahead = time.time() + 10 ** 6
    for number in range(runs.KEPT_COOKBOOKS + 1):
        os.utime(files.folder(at(files.COOKBOOKS + "/aaaaaaa" + str(number))), (ahead, ahead))
    assert answer(START, at)[0] == 0
    assert "3f2a9c01" in os.listdir(at(files.COOKBOOKS)) and len(os.listdir(at(files.COOKBOOKS))) == runs.KEPT_COOKBOOKS + 1


def test_chefs_lock_is_kept_though_the_disk_is_too_full_for_the_number_in_it(at):
    """Measured by a limit on the size of files: what is written to the lock file fails, an empty mark does not."""
    files.folder(at(files.CACHE))
    files.write(at(reserve.NOTE), json.dumps({"run": "r1", "until": 1e12}))
    before, looks = resource.getrlimit(resource.RLIMIT_FSIZE), []

    def sleep(seconds):
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        looks.append(os.path.exists(at(reserve.HELD)))
        if len(looks) == 2:
            os.unlink(at(reserve.NOTE))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        reserve.keep(at, lambda run: False, sleep)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert looks == [True, True] and not os.path.exists(at(reserve.HELD))


def test_a_look_needs_no_room_for_what_it_remembers(at, monkeypatch):
    said = subprocess.CompletedProcess((), 0, b"package web is not installed\n")
    monkeypatch.setattr(facts.subprocess, "run", lambda *words, **more: said)
    monkeypatch.setattr(files, "write", lambda *words: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    assert facts.packages(at, ["web"])[0] == {"web": ""}


def test_a_process_that_ends_while_it_is_read_is_one_that_is_not_there(monkeypatch):
    process, opened = subprocess.Popen(["sleep", "30"]), os.open

    def open_and_end(*words, **more):
        descriptor = opened(*words, **more)
        process.kill()
        process.wait()
        return descriptor
    monkeypatch.setattr(files.os, "open", open_and_end)
    assert files.read("/proc/{}/cgroup".format(process.pid)) is None


def test_what_a_rehearsal_began_does_not_outlive_its_limit(at, monkeypatch, tmp_path):
    chef(at, "sleep 60 & echo $! >{}/began\nwait\n".format(tmp_path))
    monkeypatch.setattr(runs, "command", lambda *words: [at("/usr/bin/chef-client")])
    asked = dict(verbs.parse(["why-run", "--limit", "10", "--versions", "web=2.0.0-1", "--cookbooks", "3f2a9c01"])[1], limit=1)
    assert rehearsal.rehearse(at, asked, lambda run: False)["state"] == "timeout"
    left = Path("/proc/{}/stat".format((tmp_path / "began").read_text().strip()))
    until = time.monotonic() + 10
    while left.exists() and left.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < until:
        time.sleep(0.02)
    assert not left.exists() or left.read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_lies_in_the_way_of_a_parked_heartbeat_is_named(at, monkeypatch):
    os.makedirs(at(files.HEARTBEATS + "/web/state/x"))
    monkeypatch.setattr(facts, "systemctl_show", lambda units: {"web.service": {"ActiveState": "inactive"}})
    code, said = answer(["park", "--component", "web"], at)
    assert code == 3 and "/web/state cannot be written: Is a directory" in said["refused"]


def _named(name):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"path": name}
        archive.addfile(member)
    return plain.getvalue()


def _heads(count):
    """An archive of extended headers that describe each other; tarfile calls itself for each."""
    head = tarfile.TarInfo("head")
    head.type = tarfile.XHDTYPE
    return head.tobuf(tarfile.USTAR_FORMAT) * count + tarfile.TarInfo("x").tobuf() + bytes(10240)


@pytest.mark.parametrize("plain", [_named("a\0b"), _named("a/" * 1500 + "x"), _heads(3000)],
                         ids=["nul", "deep", "heads"])
def test_an_archive_that_no_tar_would_write_is_refused_in_a_sentence_and_leaves_nothing(at, plain):
    code, said = answer(["cookbooks", "--hash", hashlib.sha256(plain).hexdigest()[:16]], at, gzip.compress(plain))
    assert code == 3 and "could not be unpacked" in said["refused"] and os.listdir(at(files.COOKBOOKS)) == []


@pytest.mark.parametrize("paths", ["api=shop.web,web=shop.web.version", "web=shop.web.version,api=shop.web", "web=bgdeploy.run.x",
                                   "web=bgdeploy"])
def test_attributes_that_cannot_stand_together_are_a_wrong_argument_and_no_run(at, paths):
    chef(at)
    code, said = answer(["start", "--run", "r1", "--release", "x", "--limit", "900", "--mode", "server",
                         "--versions", "web=2.0.0-1,api=2.0.0-1", "--attributes", paths], at)
    assert code == 2 and "lies in" in said["error"] and not os.path.exists(at(files.RUNS + "/r1"))


@pytest.mark.parametrize("size", [b"-5", b"zz", b"9" * 300])
def test_an_application_whose_chunks_are_nonsense_is_no_answer_and_no_traceback(at, size):
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            connection = server.accept()[0]
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nlive\r\n0\r\n\r\n")
            connection.close()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        code, said = answer(["heartbeat", "--component", "w", "--port", str(server.getsockname()[1]), "--path", "/h"], at)
        thread.join(10)
    assert code == 0 and said["body"] != "live"


def test_of_a_service_that_does_not_start_the_resource_and_its_place_are_told_whole():
    """Chef tells the command three times and what it said in between: a line cut at 500 ended in the resource's name."""
    command = '["/usr/bin/systemctl", "--system", "restart", "web"]'
    said = ("Expected process to exit with [0], but received '1'\n---- Begin output of " + command + " ----\nSTDOUT: \n"
            "STDERR: Job for web.service failed because the control process exited with error code.\nSee \"systemctl status "
            "web.service\" and \"journalctl -xeu web.service\" for details.\n---- End output of " + command + " ----\n"
            "Ran " + command + " returned 1")
    where = {"resource": "service[web]", "line": "bgdeploy/resources/component.rb:126"}
    for message in (said, said.replace("Job for", "Job for " * 500)):
        report = {"exception": {"class": "Mixlib::ShellOut::ShellCommandFailed", "message": message}, "failed": where}
        why = outcome.translate("exit-code exited 1", "", report)[2]
        job = Job("chef", "1", None, "failed", why, 1.0)
        assert "Job for" in prove.reason(job) and "returned 1" not in why
        assert prove.reason(job).endswith("(service[web], bgdeploy/resources/component.rb:126)")
