"""Whole rollouts through real sshd, systemd, chef-client, dnf, signed RPMs and HAProxy, under traffic, typed as a person types.

One data centre for the file: two hosts a stack, and blue-3, which runs api only. `at` brings it where a test begins.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from bgdeploy import journal
from bgdeploy.model import Seen
from bgdeploy.outside import balancer
from tests.lab.labs import PROJECT

LONG = 600      # seconds; the machine that runs the tests may be busy with others


def with_blue_3(text):
    """A fifth host, and balancers as patient as a test machine with two cores."""
    text = text.replace("timeout: 2}", "timeout: 3}")
    text = text.replace("\nlab: {}", "\ndrain: {limit: 300}\nlab: {}")
    return re.sub(r"(\n +)(blue-2: .*)", r"\1\2\1blue-3: {address: 10.77.0.23, components: [api]}", text)


class Shop:
    """The lab with its runs: type a task, read what it left."""

    def __init__(self, lab):
        self.lab, self.invoke = lab, lab.invoke

    def ok(self, *words, code=0):
        done = self.invoke(*words, limit=LONG)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
        return done

    def status(self):
        return json.loads(self.invoke("status", "--json").stdout)

    def verdicts(self):
        return {stack["name"]: stack["verdict"] for stack in self.status()["stacks"]}

    def versions(self):
        return {(h["name"], c["name"]): c["version"]
                for s in self.status()["stacks"] for h in s["hosts"] for c in h["components"]}

    def runs(self):
        return sorted(pathlib.Path(self.lab.folder, "state", "runs").iterdir())

    def last(self):
        """(result.json, events) of the newest run."""
        folder = self.runs()[-1]
        return json.loads((folder / "result.json").read_text()), journal.read(folder / "journal.jsonl")

    def at(self, version):
        """Both stacks live on this version."""
        if set(self.versions().values()) != {f"{version}-1"} or set(self.verdicts().values()) != {"live"}:
            self.ok("rollout", "--version", version, "--older")

    def at_least_two_versions(self):
        """green on 1.0.0, blue on 2.0.0, both live."""
        if set(self.verdicts().values()) != {"live"} or self.versions()["green-1", "api"] == self.versions()["blue-1", "api"]:
            self.at("2.0.0")
            self.ok("deploy", "--stack", "green", "--version", "1.0.0", "--older")

    def start(self, *words):
        """A task in the background, in a process of its own."""
        self.before = set(self.runs())
        return subprocess.Popen([sys.executable, "-m", "invoke", words[0], "--env", self.lab.name, *words[1:]],
                                cwd=PROJECT, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env={**os.environ, "BGDEPLOY_STATE": str(self.lab.folder / "state")})

    def until(self, process, kind, **fields):
        """Wait for an event in the journal of the run that this process began; returns its run's folder."""
        end = time.monotonic() + LONG
        while time.monotonic() < end and process.poll() is None:
            folder = self.runs()[-1]
            for event in journal.read(folder / "journal.jsonl") if folder not in self.before else ():
                if event["kind"] == kind and all(event.get(k) == v for k, v in fields.items()):
                    return folder
            time.sleep(0.1)
        raise AssertionError(f"no {kind} {fields}: {process.communicate()[0]}")


@pytest.fixture(scope="module")
def shop(make_lab):
    one = Shop(make_lab("r", with_blue_3))
    for version in ("1.0.0", "2.0.0", "2.0.1", "2.0.2"):
        for component in ("api", "web"):
            one.ok("publish", "--component", component, "--version", version)
    return one


def acts(events):
    return [(e["step"], tuple(e["hosts"])) for e in events if e["kind"] == "doing"]


def test_an_empty_data_centre_is_deployed_by_the_same_command(shop):
    assert set(shop.verdicts().values()) == {"down"}
    shop.ok("rollout", "--version", "1.0.0")
    assert shop.verdicts() == {"green": "live", "blue": "live"}
    assert set(shop.versions().values()) == {"1.0.0-1"} and len(shop.versions()) == 9


def test_a_rollout_under_traffic_loses_no_request_and_does_exactly_its_plan(shop):
    shop.at("1.0.0")
    plan = json.loads(shop.ok("plan", "--version", "2.0.0", "--json").stdout)
    shop.ok("rollout", "--version", "2.0.0")
    result, events = shop.last()
    assert (result["outcome"], result["exit_code"]) == ("done", 0)
    assert result["availability"]["failed"] == 0, result["availability"]
    assert result["availability"]["requests"] > 1000 and result["availability"]["longest_gap_ms"] < 3000
    assert {s["name"]: (s["after"], s["versions"]["api"]) for s in result["stacks"]} == {
        "green": ("live", ["2.0.0-1"]), "blue": ("live", ["2.0.0-1"])}
    assert acts(events) == [(s["step"], tuple(s["hosts"])) for s in plan["steps"] if s["kind"] == "do"]
    assert set(shop.versions().values()) == {"2.0.0-1"}
    assert set(Seen.from_json(events[-1]["seen"]).stacks) == {"green", "blue"} and events[-1]["kind"] == "ended"
    logs = {path.parent.name for path in shop.runs()[-1].glob("hosts/*/chef.log") if "Infra Phase complete" in path.read_text()}
    assert logs == {h.name for h in shop.lab.site.hosts}


def test_a_version_whose_service_does_not_start_stops_with_4_and_the_next_deploy_goes_over_it(shop):
    shop.at("2.0.0")
    done = shop.ok("deploy", "--stack", "green", "--version", "2.0.1", code=4)
    assert "green-1" in done.stdout and "invoke resume" in done.stdout and "invoke rollback --stack green" in done.stdout
    assert shop.last()[0]["availability"]["failed"] == 0
    status = shop.status()
    assert [s["name"] for s in status["serving"]] == ["blue"] and status["run"]["task"] == "deploy"
    assert {v for (h, c), v in shop.versions().items() if h == "green-2"} == {"2.0.0-1"}      # the canary alone was touched
    shop.ok("deploy", "--stack", "green", "--version", "2.0.0")
    assert shop.verdicts()["green"] == "live" and shop.status()["run"] is None


def test_a_version_with_wrong_pages_is_stopped_by_sanity_and_never_serves(shop):
    shop.at("2.0.0")
    done = shop.ok("deploy", "--stack", "green", "--version", "2.0.2", code=4)
    result, _ = shop.last()
    assert result["availability"]["failed"] == 0 and "sanity" in done.stdout
    served = result["availability"]["balancers"]["live"].get("answers", {})
    assert not [name for name in served if name.endswith(" 2.0.2-1")], served
    skipped = shop.ok("plan", "--stack", "green")
    assert "2.0.2-1 is skipped" in skipped.stdout + skipped.stderr
    shop.ok("rollback", "--stack", "green")
    assert set(shop.versions().values()) == {"2.0.0-1"} and set(shop.verdicts().values()) == {"live"}


def test_a_deploy_is_refused_while_the_other_stack_is_not_proved_to_serve(shop):
    shop.at("2.0.0")
    shop.ok("standby", "--stack", "blue")
    done = shop.ok("deploy", "--stack", "green", "--version", "1.0.0", "--older", code=3)
    assert "blue" in done.stdout + done.stderr
    assert shop.verdicts() == {"green": "live", "blue": "standby"}
    done = shop.ok("standby", "--stack", "green", code=3)
    assert "api would be served by 0, the floor is 2" in done.stdout and "blue-1 (standby)" in done.stdout
    shop.ok("live", "--stack", "blue")
    assert set(shop.verdicts().values()) == {"live"}


def test_killed_in_mid_converge_the_next_driver_follows_the_same_chef_run(shop):
    shop.at("2.0.0")
    process = shop.start("deploy", "--stack", "green", "--version", "1.0.0", "--older")
    folder = shop.until(process, "acted", step="converge")
    process.kill()
    process.communicate()
    shop.ok("unlock")
    shop.ok("resume")
    events = journal.read(folder / "journal.jsonl")
    assert [e["hosts"] for e in events if e["kind"] == "doing" and e["step"] == "converge"] == [["green-1"], ["green-2"]]
    for host in ("green-1", "green-2"):
        made = shop.lab.root(host, f"ls -d /var/lib/bgdeploy/runs/{folder.name}*").split()
        assert made == [f"/var/lib/bgdeploy/runs/{folder.name}"]
        report = json.loads(shop.lab.root(host, f"cat {made[0]}/report.json"))
        assert report.get("success") is True
    assert shop.verdicts()["green"] == "live"


def test_a_live_that_forgets_everything_during_chef_sends_nobody_to_the_stack_in_standby(shop):
    """HAProxy reloaded without its states counts every server as UP: the kit's guard answers LIVE 503, and LIVE asks another."""
    shop.at_least_two_versions()

    def asked(at, *ports):
        """The statuses that green's instances answer to somebody there."""
        urls = [f"http://10.77.0.{host}:{port}/" for host in (11, 12) for port in ports]
        return {shop.lab.run("curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", url, at=at).stdout for url in urls}
    process = shop.start("deploy", "--stack", "green", "--version", "2.0.0")
    try:
        shop.until(process, "doing", step="converge")
        end, guarded = time.monotonic() + LONG, set()
        while guarded != {"503"} and process.poll() is None and time.monotonic() < end:     # guard_after: 10 s from the flip
            guarded = asked("live-1", 8080, 8081)
        assert guarded == {"503"} and "200" in asked("ctl", 8080), "LIVE alone is refused"
        served = Counter()
        for node in ("live-1", "live-2") * 2:
            shop.lab.break_("reload-forget", node)
            with shop.lab.inside() as site:
                served += balancer.who(site, site.live, "web", 80)
        assert process.poll() is None and {host for host, _ in served} == {"blue-1", "blue-2"}, served
    finally:
        said = process.communicate(timeout=LONG)[0]
    assert process.returncode == 0, said
    assert shop.last()[0]["availability"]["failed"] == 0, said


def test_an_abort_ends_with_5_leaves_the_lock_free_and_says_what_to_type(shop):
    shop.at("2.0.0")
    process = shop.start("deploy", "--stack", "green", "--version", "1.0.0", "--older")
    folder = shop.until(process, "waiting", wait="chef")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)         # Jenkins sends it twice, 10 ms apart (measured)
    said = process.communicate(timeout=LONG)[0]
    assert process.returncode == 5 and "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("interrupted by SIGTERM; at the last look green does not serve, blue serves; Chef goes on on green-1")
    assert last.endswith(f"; next: invoke resume --env {shop.lab.name}")
    events = journal.read(folder / "journal.jsonl")
    assert "interrupted" in {e["kind"] for e in events} and shop.status()["lock"] is None
    shop.ok("resume")
    assert shop.verdicts()["green"] == "live"


def test_of_twenty_whole_drivers_at_once_one_wins_and_the_others_name_it_and_flip_nothing(shop):
    """L03; fifty by hand, with the same result: each costs half a second of both cores."""
    shop.at_least_two_versions()
    slow = [shop.lab.begin("curl", "-s", f"http://10.77.0.{3 + n % 2}:8080/slow?s=110") for n in range(8)]
    time.sleep(1)
    winner = shop.start("deploy", "--stack", "green", "--version", "2.0.0")
    try:
        folder = shop.until(winner, "waiting", wait="drain")
        others = [shop.start("deploy", "--stack", ("green", "blue")[n % 2], "--version", "2.0.0") for n in range(19)]
        for other in others:
            said = other.communicate(timeout=LONG)[0]
            assert other.returncode == 3, said
            assert f"the lock is held by root on {os.uname().nodename} (pid {winner.pid}), deploy, run {folder.name}" in said
        assert winner.poll() is None and shop.runs()[-1] == folder          # the losers have not even a journal
        assert acts(journal.read(folder / "journal.jsonl")) == [("standby", ("green-1", "green-2"))]
    finally:
        winner.terminate()
        winner.communicate(timeout=LONG)
        for one in slow:
            one.kill()
            one.wait()
    assert winner.returncode == 5 and shop.verdicts() == {"green": "standby", "blue": "live"}
    shop.ok("live", "--stack", "green")


def test_five_steps_by_hand_are_one_run(shop):
    shop.at("2.0.0")
    before = len(shop.runs())
    refused = shop.ok("converge", "--stack", "green", "--version", "1.0.0", "--older", code=3)
    assert "invoke standby --stack green" in refused.stdout
    for words in (["standby"], ["drain"], ["converge", "--version", "1.0.0", "--older"], ["sanity"]):
        shop.ok(words[0], "--stack", "green", *words[1:])
    shop.lab.root("green-1", "systemctl restart web")       # B11: what was proved of the process before holds no more
    refused = shop.ok("live", "--stack", "green", code=3)
    assert "green-1" in refused.stdout and "invoke sanity --stack green" in refused.stdout
    for step in ("sanity", "live"):
        shop.ok(step, "--stack", "green")
    runs = [folder for folder in shop.runs()[before:] if json.loads((folder / "result.json").read_text())["outcome"] != "refused"]
    assert len(runs) == 1
    assert [s for s, _ in acts(journal.read(runs[0] / "journal.jsonl"))] == [
        "standby", "converge", "converge", "sanity", "sanity", "live"]
    again = shop.ok("live", "--stack", "green")
    assert "done" in again.stdout and shop.verdicts()["green"] == "live" and not acts(shop.last()[1])


def test_back_takes_a_version_out_in_flips_alone_and_never_the_last_one(shop):
    shop.at_least_two_versions()
    shop.ok("back", "--stack", "green")
    assert shop.verdicts() == {"green": "standby", "blue": "live"}
    assert [s for s, _ in acts(shop.last()[1])] == ["standby"]
    refused = shop.ok("back", "--stack", "blue", code=3)
    assert "invoke rollback --stack blue" in refused.stdout and shop.verdicts()["blue"] == "live"
    shop.ok("sanity", "--stack", "green")
    shop.ok("live", "--stack", "green")


def test_a_token_is_in_no_argument_no_output_and_no_record(shop):
    """J10: what `sh -xe` of a Jenkins shell step prints, what ps shows everybody meanwhile, and every file of the runs."""
    token = (shop.lab.folder / "token").read_text().strip()
    type_it = f"{sys.executable} -m invoke {{}} --stack green --env {shop.lab.name}\n"
    step = subprocess.Popen(["sh", "-xe"], cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, env={**os.environ, "BGDEPLOY_STATE": str(shop.lab.folder / "state"),
                                                           "BGDEPLOY_HEARTBEAT_TOKEN": token})
    step.stdin.write("".join(map(type_it.format, ("standby", "sanity", "live"))))
    step.stdin.close()
    arguments = set()
    while step.poll() is None:
        for place in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments.add(place.read_bytes().decode(errors="replace"))
            except OSError:
                pass        # it has ended
        time.sleep(0.05)
    said = step.stdout.read()
    step.stdout.close()
    assert step.returncode == 0 and "+ " in said, said
    assert any("invoke\0standby" in words for words in arguments)
    kept = {path: path.read_text(errors="replace") for path in (shop.lab.folder / "state").rglob("*") if path.is_file()}
    assert any(path.name == "journal.jsonl" for path in kept) and len(token) > 20
    assert not [where for where, text in {**kept, "console": said, "ps": "\n".join(arguments)}.items() if token in text]


def test_a_version_that_is_not_published_is_refused_before_anything(shop):
    done = shop.ok("deploy", "--stack", "green", "--version", "7.7.7", code=3)
    assert "7.7.7 is not published" in done.stderr and "invoke publish" in done.stderr


def test_the_migration_waits_for_every_stack_runs_once_and_closes_the_way_to_older_versions(shop):
    shop.at_least_two_versions()
    refused = shop.ok("migrate", code=3)
    assert "needs api 2.0.0 everywhere; green-1 runs 1.0.0-1" in refused.stdout
    shop.ok("rollout", "--version", "2.0.0", "--migrate")
    result, events = shop.last()
    assert acts(events)[-1] == ("migrate", ()) and result["availability"]["failed"] == 0
    assert "every migration is done" in shop.ok("migrate").stdout
    refused = shop.ok("deploy", "--stack", "green", "--version", "1.0.0", "--older", code=3)
    assert "which the migration orders-customer needs" in refused.stderr
    assert set(shop.versions().values()) == {"2.0.0-1"}
