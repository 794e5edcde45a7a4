"""A run that one machine began and another one finishes: the store is a MongoDB, and the second machine has other records,
another name and another boot. Hooks that call bgdeploy itself, and a database that is down when `back` is typed, on the way.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from bgdeploy import journal
from tests.lab.labs import PROJECT

LONG = 600      # seconds; the machine that runs the tests may be busy with others
HOOK = """#!/bin/sh
cd {project}
for task in status "sanity --stack green"; do
    timeout 60 {python} -m invoke $task --env {env} >{folder}/hook.out 2>&1
    echo "$task: $? $(grep 'lock is held' {folder}/hook.out)" >>{folder}/hook.log
done
"""


def with_a_shared_store(text):
    text = text.replace("timeout: 2}", "timeout: 3}")
    rows = [row for row in text.split("\n") if not row.startswith("store:")]
    name = next(row.split()[1] for row in rows if row.startswith("name:"))
    return "\n".join(rows + ["store: mongodb://10.77.0.6:27017/bgdeploy", f"hooks: .lab/{name}/hooks"])


class Machine:
    """Where somebody types. :param name: its host name; the second one has a boot id of its own, too."""

    def __init__(self, lab, name):
        self.lab, self.state = lab, lab.folder / f"state-{name}"
        self.prefix = ["unshare", "--uts", "--mount", "sh", "-c", 'hostname "$1"; mount --bind "$2" "$3"; shift 3; exec "$@"',
                       "sh", name, str(lab.folder / f"boot-{name}"), "/proc/sys/kernel/random/boot_id"]
        (lab.folder / f"boot-{name}").write_text(f"{uuid.uuid4()}\n")

    def start(self, *words):
        return subprocess.Popen([*self.prefix, sys.executable, "-m", "invoke", words[0], "--env", self.lab.name, *words[1:]],
                                cwd=PROJECT, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**os.environ, "BGDEPLOY_STATE": str(self.state)})

    def ok(self, *words, code=0):
        process = self.start(*words)
        out, err = process.communicate(timeout=LONG)
        assert process.returncode == code, f"{words}: {process.returncode}\n{out[-4000:]}\n{err[-2000:]}"
        return out if "--json" in words else out + err

    def runs(self):
        folder = self.state / "runs"
        there = sorted(os.listdir(folder)) if folder.exists() else ()
        return {run: journal.read(folder / run / "journal.jsonl") for run in there}


@pytest.fixture(scope="module")
def machines(make_lab):
    lab = make_lab("m", with_a_shared_store)
    (lab.folder / "hooks").mkdir()
    hook = lab.folder / "hooks" / "after-live"
    hook.write_text(HOOK.format(project=PROJECT, python=sys.executable, env=lab.name, folder=lab.folder))
    hook.chmod(0o755)
    first, second = Machine(lab, "ci-1"), Machine(lab, "ci-2")
    for component in ("api", "web"):
        first.ok("publish", "--component", component, "--version", "1.0.0")
    return first, second


def until(machine, found):
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        for run, events in machine.runs().items():
            if any(found(e) for e in events):
                return run
        time.sleep(0.2)
    raise AssertionError("it did not come to that")


def test_a_run_that_was_killed_in_mid_converge_is_finished_from_another_machine_with_one_chef_run_a_host(machines):
    first, second = machines
    process = first.start("rollout", "--version", "1.0.0", "--reason", "T-1")
    run = until(first, lambda e: e["kind"] == "acted" and e["step"] == "converge")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    held = second.ok("resume", code=3)              # to this machine the holder may be alive
    assert "root on ci-1" in held and run in held and "T-1" in held
    assert json.loads(second.ok("status", "--json", code=8))["run"]["run"] == run
    said = second.ok("resume", "--wait")
    assert "took over the lock of root on ci-1" in said
    events = second.runs()[run]
    assert [e["by"]["host"] for e in events if e["kind"] in ("began", "resumed")] == ["ci-1", "ci-2"]
    brought = [host for e in events if e["kind"] == "doing" and e["step"] == "converge" for host in e["hosts"]]
    assert sorted(brought) == ["blue-1", "blue-2", "green-1", "green-2"]
    for host in brought:
        assert second.lab.root(host, "ls /var/lib/bgdeploy/runs").split() == [run]
    assert "root on ci-1" in second.ok("history") and f"run {run}" in first.ok("report", "--run", run, "--format", "md")
    assert [row["outcome"] for row in json.loads(first.ok("history", "--json"))] == ["done"]


def test_a_hook_may_ask_and_is_refused_what_its_own_run_has_locked(machines):
    log = (machines[0].lab.folder / "hook.log").read_text().splitlines()
    assert len(log) == 4                            # two stacks went live
    assert log[0] in ("status: 0 ", "status: 6 ", "status: 8 ")      # the balancers have not noticed yet
    assert log[1].startswith("sanity --stack green: 3 bgdeploy: the lock is held by root on ci-2")


def test_back_needs_no_store_and_the_other_machine_learns_later_what_it_did(machines):
    first, second = machines
    first.lab.break_("dead", "database")
    try:
        began = time.monotonic()
        said = first.ok("back", "--stack", "green", code=6)         # all is on one version: nothing older serves
        took = time.monotonic() - began
    finally:
        first.lab.mend()
    assert "the store is down" in said and "without the lock" in said and took < 60
    run = max(first.runs())
    assert (first.state / "runs" / run / "not-copied").exists()
    assert {s["name"]: s["verdict"] for s in json.loads(first.ok("status", "--json"))["stacks"]} == {
        "green": "standby", "blue": "live"}
    assert run in second.ok("history") and not (first.state / "runs" / run / "not-copied").exists()
    assert json.loads(second.ok("status", "--json"))["run"] is None
