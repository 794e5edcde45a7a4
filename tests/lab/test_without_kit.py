"""Whole rollouts of applications without the kit, as an inventory describes them: api loses its word, web boots as live.

Version and start id come from the package database and systemd, who is in which pool from the balancers' statistics pages,
requests in flight from LIVE's sessions (api) and from connections counted on the host (web).
"""

import json
import pathlib
import re
import shutil

import pytest

from bgdeploy import journal
from tests.lab.labs import PROJECT

LONG = 600
BEGINS = {"api": "standby", "web": "live"}
BEAT = "    heartbeat: {detail: none, in_flight: %s}\n"


def described(text):
    """One host a stack, no kit, statistics pages, and cookbooks of this lab's own."""
    text = re.sub(r"\n +(?:green|blue)-2: .*", "", text)
    text = text.replace("    port: 8081\n", "    port: 8081\n" + BEAT % "balancer")
    text = text.replace("    port: 8080\n", "    port: 8080\n" + BEAT % "connections")
    text = re.sub(r"\{address: (10\.77\.0\.[345]), ", r"{address: \1, stats: 'http://\1:8404/', ", text)
    text = text.replace("path: cookbooks", f"path: {cookbooks_of(text)}")
    return text.replace("\nlab: {}", "\ndrain: {limit: 20, wait: 2}\nlab: {}")


def cookbooks_of(text):
    return re.search(r"\.lab/[^/]+/", text)[0] + "cookbooks"


class Shop:
    def __init__(self, lab):
        self.lab = lab
        own = lab.folder / "cookbooks"
        shutil.copytree(PROJECT / "cookbooks", own)
        for name, word in BEGINS.items():
            with open(own / name / "attributes/default.rb", "a") as file:
                file.write(f"default['{name}']['config']['without_kit'] = '{word}'\n")

    def ok(self, *words, code=0):
        done = self.lab.invoke(*words, limit=LONG)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
        return done

    def last(self):
        folder = max(pathlib.Path(self.lab.folder, "state", "runs").iterdir())
        return json.loads((folder / "result.json").read_text()), journal.read(folder / "journal.jsonl")


@pytest.fixture(scope="module")
def shop(make_lab):
    one = Shop(make_lab("k", described))
    for version in ("1.0.0", "2.0.0"):
        for component in BEGINS:
            one.ok("publish", "--component", component, "--version", version)
    return one


def flips(events, stack):
    """[(step, rescue)] of what was told to a stack, and to which components."""
    return [(e["step"], e["rescue"]) for e in events if e["kind"] == "doing" and e["stack"] == stack]


def test_a_rollout_under_traffic_takes_out_at_its_next_look_what_boots_as_live_and_loses_no_request(shop):
    shop.ok("rollout", "--version", "1.0.0")
    shop.ok("rollout", "--version", "2.0.0")
    result, events = shop.last()
    assert result["exit_code"] == 0 and result["availability"]["failed"] == 0, result["availability"]
    for stack in ("green", "blue"):
        assert flips(events, stack) == [("standby", False), ("converge", False), ("standby", True), ("sanity", False),
                                        ("live", False)]
        chef = next(e for e in events if e["kind"] == "waited" and e["wait"] == "chef" and e["stack"] == stack)
        out = next(e for e in events if e["kind"] == "doing" and e["stack"] == stack and e["rescue"])
        between = [e["kind"] for e in events if chef["n"] < e["n"] < out["n"]]
        assert between == [] and out["live"] == {f"{stack}-1": ["web"]}, "nothing else is done, and no look passes it over"
        drain = next(e for e in events if e["kind"] == "waited" and e["wait"] == "drain" and e["stack"] == stack)
        assert drain["outcomes"] == {f"{stack}-1": "drained"}
        assert drain["counted_by"] == {f"{stack}-1": "api by balancer, web by connections"}
    assert {tuple(versions) for s in result["stacks"] for versions in s["versions"].values()} == {("2.0.0-1",)}


def test_a_live_instance_that_crashes_and_loses_its_word_is_named_and_comes_back_tested(shop):
    shop.lab.break_("crash", "blue-1", component="api")
    shop.lab.root("blue-1", "timeout 60 sh -c 'until systemctl is-active --quiet api; do sleep 0.2; done'")
    status = json.loads(shop.lab.invoke("status", "--json").stdout)
    blue = next(s for s in status["stacks"] if s["name"] == "blue")
    assert blue["verdict"] == "mixed"
    refused = shop.ok("deploy", "--stack", "green", "--version", "1.0.0", "--older", code=3)
    assert "blue-1 (standby)" in refused.stdout
    shop.ok("deploy", "--stack", "blue")
    _, events = shop.last()
    assert ("converge", False) not in flips(events, "blue") and flips(events, "blue")[-2:] == [("sanity", False), ("live", False)]
    rows = [line.split() for line in shop.lab.invoke("check").stdout.splitlines() if " restart " in line]
    assert [(row[0], row[2], row[4]) for row in rows] == [("warn", "api", "loses"), ("warn", "web", "comes")]


def test_a_process_that_is_older_than_its_package_is_started_anew_and_never_taken_for_the_new_one(shop):
    """As a Chef run that is killed between dnf and the restart leaves it; nothing but the package database names a version."""
    shop.lab.root("green-1", "dnf -q -y downgrade web-1.0.0-1")
    before = shop.lab.root("green-1", "systemctl show -p InvocationID --value web").strip()
    status = json.loads(shop.lab.invoke("status", "--json").stdout)
    found = {(h["name"], c["name"]): c["version"] for s in status["stacks"] for h in s["hosts"] for c in h["components"]}
    assert found["green-1", "web"] is None and found["blue-1", "web"] == "2.0.0-1"
    shop.ok("deploy", "--stack", "green", "--version", "api=2.0.0,web=1.0.0", "--older")
    assert shop.lab.root("green-1", "systemctl show -p InvocationID --value web").strip() != before
    page = shop.lab.run("curl", "-s", "http://10.77.0.11:8080/").stdout
    assert "web 1.0.0-1, api 2.0.0-1" in page, page
