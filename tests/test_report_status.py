"""The verdict on a stack and the status document: proved by pools and heartbeats; what is not known is never a yes."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from bgdeploy import report, status, telling
from bgdeploy.model import ComponentSeen, HostSeen, Seen
from tests.scenes import by_hand

SITE = SimpleNamespace(
    name="lab", components=(SimpleNamespace(name="api"), SimpleNamespace(name="web")),
    live=SimpleNamespace(detection=3.0), standby=SimpleNamespace(detection=2.0),
    stacks=tuple(SimpleNamespace(name=s, hosts=tuple(SimpleNamespace(name=f"{s}-{n}", components=("api", "web")) for n in (1, 2)))
                 for s in ("green", "blue")))
LIVE = dict(heartbeat="live", release="2.0.0-1", started="a", live_pool="yes", standby_pool="no", sessions=0, since_age=60.0)
STANDBY = {**LIVE, "heartbeat": "standby", "live_pool": "no", "standby_pool": "yes"}
DOWN = dict(heartbeat="down", live_pool="no", standby_pool="no", sessions=0, installed="1.0.0-1")


def host(name, *parts, reachable=True):
    return HostSeen(name, name.split("-")[0], reachable, tuple(ComponentSeen(c, **p) for c, p in zip(("api", "web"), parts)))


def green(*parts):
    """A stack of two hosts; the second one is live."""
    return [host("green-1", *parts), host("green-2", LIVE, LIVE)]


@pytest.mark.parametrize("hosts, word", [
    (green(LIVE, LIVE), "live"),
    ([host("green-1", STANDBY, STANDBY)], "standby"),
    ([host("green-1", STANDBY, STANDBY), host("green-2", STANDBY, {**STANDBY, "release": "1.0.0-1"})], "mixed"),
    (green({**LIVE, "release": "1.0.0-1"}, LIVE), "mixed"),
    (green(STANDBY, STANDBY), "mixed"),
    (green(DOWN, LIVE), "mixed"),
    ([host("green-1", DOWN, DOWN)], "down"),
    (green({**LIVE, "live_pool": "no"}, STANDBY), "split"),
    (green({**LIVE, "standby_pool": "yes"}, LIVE), "split"),
    ([host("green-1", {**STANDBY, "live_pool": "yes"}, STANDBY)], "split"),
    ([host("green-1", {**STANDBY, "live_pool": "yes", "since_age": 1.0}, STANDBY)], "standby"),
    ([host("green-1", {**STANDBY, "standby_pool": "no", "since_age": 1.0}, STANDBY)], "standby"),
    ([host("green-1", {**STANDBY, "standby_pool": "moving", "since_age": 2.5}, STANDBY)], "split"),
    ([host("green-1", {**LIVE, "live_pool": "moving", "since_age": None}, LIVE)], "live"),
    ([host("green-1", {**LIVE, "live_pool": "moving", "since_age": 9.0}, LIVE)], "split"),
    (green({**LIVE, "live_pool": None}, STANDBY), "unknown"),
    (green({**LIVE, "standby_pool": None}, LIVE), "unknown"),
    (green({**LIVE, "heartbeat": None}, LIVE), "unknown"),
    (green({**LIVE, "release": None}, LIVE), "unknown"),
    ([host("green-1", LIVE, LIVE, reachable=False)], "unknown"),
    ([host("green-1")], "unknown"),
    ([host("green-1", LIVE, LIVE), None], "unknown"),
    ([], "unknown"),
])
def test_the_verdict_is_the_first_of_the_list_that_applies(hosts, word):
    assert report.verdict(hosts, 3.0, 2.0) == word


def document(*hosts, **more):
    return report.status_document(SITE, Seen(1795572930.0, tuple(hosts)), {"api": 2, "web": 2}, **more)


def both(green_part, blue_part):
    return [host(f"{s}-{n}", part, part) for s, part in (("green", green_part), ("blue", blue_part)) for n in (1, 2)]


def test_the_status_document_has_exactly_the_keys_of_the_contract():
    found = document(*both(LIVE, STANDBY), excluded={"blue-2": "slow"})
    assert set(found) == {"env", "at", "stacks", "serving", "floor", "lock", "hold", "excluded", "run"}
    assert [(s["name"], s["verdict"]) for s in found["stacks"]] == [("green", "live"), ("blue", "standby")]
    assert set(found["stacks"][0]["hosts"][0]) == {"name", "reachable", "components"}
    assert found["stacks"][0]["hosts"][0]["components"][0] == {
        "name": "api", "version": "2.0.0-1", "heartbeat": "live", "live_pool": "yes", "standby_pool": "no", "in_flight": 0}
    assert found["excluded"] == [{"host": "blue-2", "reason": "slow"}]
    assert [s["name"] for s in found["serving"]] == ["green"]
    json.dumps(found)


def test_a_host_of_the_inventory_that_was_not_seen_is_unknown():
    found = document(*both(LIVE, LIVE)[:3])
    assert found["stacks"][1]["verdict"] == "unknown"
    assert found["stacks"][1]["hosts"][1] == {"name": "blue-2", "reachable": None, "components": [
        {"name": c, "version": None, "heartbeat": "unknown", "live_pool": "unknown", "standby_pool": "unknown", "in_flight": None}
        for c in ("api", "web")]}


def test_who_serves_is_proved_by_pools_and_shown_by_answers():
    answers = Counter({("green-1", "2.0.0-1"): 3, ("blue-1", "1.0.0-1"): 1, (None, "x"): 2})
    found = document(*both(LIVE, STANDBY), serving={"api": answers})
    assert [(s["name"], [(p["name"], p["instances"], p["requests"]) for p in s["components"]]) for s in found["serving"]] == [
        ("green", [("api", 2, 3), ("web", 2, 0)]), ("blue", [("api", 0, 1)])]
    assert "api 2.0.0-1: 2 in the pool of every LIVE node, 3 requests answered" in found["serving"][0]["evidence"]


@pytest.mark.parametrize("hosts, code", [
    (both(LIVE, STANDBY), 0), (both(LIVE, LIVE), 0), (both(LIVE, DOWN), 0),
    (both(LIVE, {**STANDBY, "release": None}), 6), (both(LIVE, {**STANDBY, "live_pool": "yes"}), 6),
    (both(STANDBY, STANDBY), 8), (both(DOWN, DOWN), 8), (both({**LIVE, "live_pool": None}, STANDBY), 8), ([], 8),
    ([host(f"{s}-{n}", part, STANDBY) for s, part in (("green", LIVE), ("blue", STANDBY)) for n in (1, 2)], 8),
])
def test_the_exit_code_of_status(hosts, code):
    assert report.exit_code(document(*hosts)) == code


def test_a_store_that_is_silent_is_neither_free_nor_frozen_and_not_everybody_answered():
    silent = status.not_known("the store does not answer")
    found = document(*both(LIVE, LIVE), lock=silent, hold=silent, run=silent)
    assert report.exit_code(document(*both(LIVE, LIVE), run=silent)) == 6
    assert found["lock"]["unknown"] is True and report.exit_code(found) == 6
    said = "\n".join(telling.status_lines(found))
    assert "lock: not known" in said and "hold: not known" in said and "open run: not known" in said and "frozen" not in said
    assert report.exit_code(document(*both(LIVE, LIVE), lock={"text": "ann, deploy"}, hold={"reason": "stocktaking"})) == 0
    assert report.exit_code(document(*both(STANDBY, STANDBY), lock=silent, hold=silent)) == 8


def test_a_run_that_somebody_drives_says_nothing_to_type_and_one_whose_driver_died_says_so_and_not_how_it_stopped_before():
    events = [{"n": 1, "kind": "began", "task": "deploy"}, {"n": 2, "kind": "doing"},
              {"n": 3, "kind": "ended", "outcome": "interrupted", "why": "interrupted by SIGHUP", "next": ["invoke resume"]},
              {"n": 4, "kind": "resumed"}]
    def said(known, lock):
        run = status.open_run("r1", known, 60.0, lock)
        return run["why"], run["next"]
    assert said(events, {"run": "r1", "expired": False}) == (None, [])
    dead = "its driver ended without a word", ["invoke resume"]
    for lock in ({"run": "r1", "expired": True}, {"run": "r2", "expired": False}, None):
        assert said(events, lock) == dead
    assert said(events, status.not_known("silent")) == (None, ["invoke resume"])
    assert said(events[:3], None) == ("interrupted by SIGHUP", ["invoke resume"])


@pytest.mark.parametrize("asked, until", [({"expires": 86400.0}, "1970-01-02T00:00:00.000Z"), ({}, "1970-01-01T00:01:40.000Z")])
def test_an_open_run_says_what_it_asks_and_until_when(asked, until):
    events = [{"n": 1, "kind": "began", "task": "deploy", "by": {"user": "ann"}},
              {"n": 2, "at": 40.0, "kind": "asked", "gate": "live", "stack": "green", "choices": ["approve", "stop"],
               "why": "next", **asked},
              {"n": 3, "kind": "ended", "outcome": "waiting", "exit_code": 7, "why": "next", "next": ["invoke answer"]}]
    run = status.open_run("r1", events, 60.0)
    assert run["question"] == {"gate": "live", "stack": "green", "choices": ["approve", "stop"], "why": "next", "expires": until}
    assert run["next"] == ["invoke answer"]
    said = telling.status_lines(document(*both(LIVE, LIVE), run=run))
    assert f"  asks approve|stop, until {until}" in said
    assert status.open_run("r1", [*events, {"n": 4, "kind": "resumed"}], 60.0)["question"] is None


def test_after_a_step_by_hand_the_open_run_names_what_ends_it_and_no_resume():
    events = [{"n": 1, "kind": "began", "task": "standby", "goal": by_hand("standby").to_json()},
              {"n": 2, "kind": "doing", "step": "standby", "hosts": ["green-1"]},
              {"n": 3, "kind": "ended", "outcome": "done", "exit_code": 0, "next": []}]
    assert status.open_run("r1", events, 60.0)["next"] == ["invoke live --stack green", "invoke back --stack green"]
    assert status.open_run("r1", events[:2], 60.0)["next"] == ["invoke resume"]
    failed = {"n": 3, "kind": "ended", "outcome": "failed", "exit_code": 4, "next": ["invoke live --stack green"]}
    assert status.open_run("r1", [*events[:2], failed], 60.0)["next"] == failed["next"]
