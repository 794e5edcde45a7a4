"""A real Jenkins whose builds deploy to a real lab: jobs made and started through its HTTP interface, as its pages do it.

Where its gem or a JDK is missing these are skipped; with BGDEPLOY_LAB=required that is a failure. The tests build on each other.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from bgdeploy import journal, telling
from lab import jenkins, jenkins_jobs, lab as data_centre, layout
from tests.lab.labs import PROJECT

TOKEN = "it's-a-T0KEN&x=1"      # characters that shells, HTML, XML and URLs change, each in its own way
LONG = 900


class Works:
    """Lab and Jenkins of this file. `builds` keeps what was started, `seen` the command lines of all processes meanwhile."""

    def __init__(self, lab, door):
        self.lab, self.jenkins, self.builds, self.seen = lab, jenkins_jobs.Jenkins(door), [], set()

    def start(self, name, **parameters):
        self.builds.append(self.jenkins.start(name, **parameters))
        return self.builds[-1]

    def end(self, build):
        """Its result, and its console; looks at all processes while it waits."""
        until = time.monotonic() + LONG
        while build.result() is None and time.monotonic() < until:
            self.seen.update(subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout.splitlines())
            time.sleep(1)
        return build.ended(1), build.console()

    def invoke(self, *words):
        return self.lab.invoke(*words, limit=LONG, BGDEPLOY_HEARTBEAT_TOKEN=TOKEN)

    def in_background(self, task):
        return subprocess.Popen([sys.executable, "-m", "invoke", task, "--env", self.lab.name], cwd=PROJECT, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env={**os.environ, **self.environment})

    @property
    def environment(self):
        return {"BGDEPLOY_STATE": str(self.lab.folder / "state"), "BGDEPLOY_HEARTBEAT_TOKEN": TOKEN}

    def status(self):
        return json.loads(self.invoke("status", "--json").stdout)

    def runs(self):
        return sorted((self.lab.folder / "state/runs").iterdir())

    def run_of(self, build):
        """The folder of the run that this build began, as soon as there is one."""
        found = []
        until = time.monotonic() + LONG
        while not found and time.monotonic() < until:
            found = [folder for folder in self.runs() if build.url in began(folder).values()]
            time.sleep(0.2)
        return found[0]

    def until(self, folder, kind, build=None, **fields):
        """Wait for an event in a run's journal; returns it."""
        until = time.monotonic() + LONG
        while time.monotonic() < until and not (build and build.result()):
            for event in journal.read(folder / "journal.jsonl"):
                if event["kind"] == kind and all(event.get(key) == value for key, value in fields.items()):
                    return event
            time.sleep(0.1)
        raise AssertionError(f"{folder}: no {kind} {fields}: {build and build.console()}")


def began(folder):
    events = journal.read(folder / "journal.jsonl")
    return events[0]["by"] if events else {}


def described(text):
    """The token comes by the environment, as a build gets it; the lab's hosts get the same one. The balancers have patience: what
    is tried here is not how fast they are."""
    folder = PROJECT / ".lab" / re.search(r"^name: (\S+)", text, re.MULTILINE)[1]
    folder.mkdir(parents=True, mode=0o700)
    (folder / "token").write_text(TOKEN + "\n")
    return re.sub(r"interval: .*timeout: 2", "interval: 2, fall: 2, rise: 2, timeout: 3", re.sub(r"\ntoken_file: .*", "", text))


@pytest.fixture(scope="module")
def works(make_lab):
    if gone := jenkins.missing():
        (pytest.fail if os.environ.get("BGDEPLOY_LAB") == "required" else pytest.skip)(
            f"no Jenkins: not installed: {', '.join(gone)}; run: /usr/bin/python3 lab/setup.py jenkins")
    one = make_lab("j", described)
    environment = {"BGDEPLOY_STATE": str(one.folder / "state"), "BGDEPLOY_HEARTBEAT_TOKEN": TOKEN}
    return Works(one, jenkins.start(one.site, layout.of(one.site), lambda text: None, environment))


def test_a_green_pipeline_goes_from_source_to_both_stacks(works):
    build = works.start("deliver", VERSION="1.0.0")
    result, console = works.end(build)
    assert result == "SUCCESS", console
    status = works.status()
    assert {s["name"]: s["verdict"] for s in status["stacks"]} == {"green": "live", "blue": "live"}
    assert {c["version"] for s in status["stacks"] for h in s["hosts"] for c in h["components"]} == {"1.0.0-1"}
    runs = works.runs()
    assert [began(folder)["build_url"] for folder in runs] == [build.url, build.url]

    files = build.artifacts()
    kept = ("journal.jsonl", "result.json", "junit.xml", "report.html")         # and not hosts/: who knows what Chef printed
    assert set(files) == {f"bgdeploy-runs/{folder.name}/{name}" for folder in runs for name in kept}
    assert json.loads(build.artifact(f"bgdeploy-runs/{runs[0].name}/result.json"))["outcome"] == "done"
    cases = build.cases()
    hosts = [host.name for host in works.lab.site.hosts]
    assert {f"{step} {host}" for step in ("converge", "sanity", "live") for host in hosts} < set(cases)
    assert {status for status, _ in cases.values()} == {"PASSED"}


def test_the_console_shows_an_event_a_line_and_no_escapes(works):
    console = works.builds[0].console()
    lines = console.splitlines()
    for folder in works.runs():
        for event in journal.read(folder / "journal.jsonl"):
            if (said := telling.event_line(event)) and event["kind"] in ("doing", "result", "waited"):
                assert said in lines
    assert max(map(len, lines)) > 100 and not re.search(r"[\x00-\x08\x0b-\x1f]", console.replace("\r\n", "\n"))


def test_of_two_builds_at_once_the_second_is_refused_and_told_who_deploys(works):
    for component in ("api", "web"):
        assert works.invoke("publish", "--component", component, "--version", "2.0.0").returncode == 0
    first = works.start("deploy", STACK="green", VERSION="2.0.0")
    works.until(works.run_of(first), "waiting", first, wait="chef")
    second = works.start("deploy", STACK="blue", VERSION="2.0.0")
    result, console = works.end(second)
    assert result == "FAILURE" and "ended with exit code 3" in console and first.url in console, console
    assert first.result() is None


def test_an_abort_in_mid_converge_leaves_5_a_free_lock_and_no_process(works):
    build = works.builds[-2]
    folder = works.run_of(build)
    build.abort()
    assert build.ended(60) == "ABORTED"
    end = works.until(folder, "ended")
    interrupted = works.until(folder, "interrupted")
    assert end["exit_code"] == 5 and "invoke resume" in end["next"] and interrupted["signal"] == "SIGTERM"
    assert end["at"] - interrupted["at"] < 5
    assert works.status()["lock"] is None
    assert_gone(f"BUILD_TAG=jenkins-deploy-{build.path.rpartition('/')[2]}")


def test_the_shell_resumes_what_was_aborted_while_a_build_that_may_wait_waits(works):
    folder = works.run_of(works.builds[-2])
    shell = works.in_background("resume")
    works.until(folder, "resumed")
    waiting = works.start("deploy", STACK="green", VERSION="2.0.0", WAIT="yes")
    said = shell.communicate(timeout=LONG)[0]
    assert shell.returncode == 0, said
    result, console = works.end(waiting)
    assert result == "SUCCESS" and "wait" in console.partition("deploy.sh")[2], console
    status = works.status()
    assert {s["name"]: s["verdict"] for s in status["stacks"]} == {"green": "live", "blue": "live"} and status["run"] is None
    converged = [e["hosts"] for e in journal.read(folder / "journal.jsonl") if e["kind"] == "doing" and e["step"] == "converge"]
    assert converged == [["green-1"], ["green-2"]]          # the one that Chef worked on went on by itself


def test_a_failing_host_shows_on_the_junit_page(works):
    for component in ("api", "web"):
        assert works.invoke("publish", "--component", component, "--version", "2.0.1").returncode == 0
    build = works.start("deploy", STACK="green", VERSION="2.0.1")
    result, console = works.end(build)
    assert result == "FAILURE" and "ended with exit code 4" in console and "invoke resume" in console, console
    cases = build.cases()
    assert cases["converge green-1"][0] in ("FAILED", "REGRESSION"), cases
    assert "green-1" in cases["converge green-1"][1] and cases["deploy"][0] in ("FAILED", "REGRESSION")
    assert len(build.artifacts()) == 4


def test_the_token_is_nowhere(works):
    """Not in a console, in a command line, in what Jenkins keeps of its builds, in journals, reports and Chef's output."""
    spellings = [TOKEN, TOKEN.replace("'", "&#x27;"), TOKEN.replace("'", "&#39;"), TOKEN.replace("&", "&amp;"), "T0KEN"]
    texts = {build.url: build.console() for build in works.builds}
    texts["ps"] = "\n".join(works.seen)
    for folder in (works.lab.folder / "state", works.lab.folder / "jenkins/jobs", works.lab.folder / "log"):
        texts |= {str(file): file.read_text(errors="replace") for file in pathlib.Path(folder).rglob("*") if file.is_file()}
    assert len(texts) > 20 and "invoke" in texts["ps"]
    assert [name for name, text in texts.items() if any(spelling in text for spelling in spellings)] == []


def test_strangers_cannot_make_a_job_or_start_a_build(works):
    import requests
    session = requests.Session()
    session.trust_env = False
    assert session.get(f"{works.jenkins.url}/job/deploy/", timeout=60).status_code == 403
    assert session.post(f"{works.jenkins.url}/job/deploy/build", timeout=60).status_code == 403
    session.auth = works.jenkins.session.auth
    # A page in the person's browser would send the password, and no crumb.
    assert session.post(f"{works.jenkins.url}/job/deploy/build", timeout=60).status_code == 403


def test_the_lab_takes_jenkins_down_with_it_and_what_its_builds_have_started(works):
    sleeps = "BUILD_ID=dontKillMe setsid sleep 987 & sleep 986"
    works.jenkins.make("sleeper", jenkins_jobs.Job("Leaves a process behind.", (sleeps,)))
    works.start("sleeper")
    home = f"JENKINS_HOME={works.lab.folder / 'jenkins'}"
    until = time.monotonic() + 60
    while len(with_environment(home)) < 4 and time.monotonic() < until:
        time.sleep(0.2)
    assert len(with_environment(home)) >= 4         # Jenkins, the step's shell, the two that sleep
    data_centre.down(works.lab.site, lambda text: None)
    assert_gone(home)


def with_environment(entry):
    """Numbers of the processes that have this in their environment."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if entry.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder.name)
        except OSError:
            pass
    return found


def assert_gone(entry):
    until = time.monotonic() + 20
    while with_environment(entry) and time.monotonic() < until:
        time.sleep(0.2)
    left = {number: pathlib.Path(f"/proc/{number}/cmdline").read_bytes() for number in with_environment(entry)}
    assert not left, left
