"""A run is told truly from its journal alone, also from a torn one, in forms that machines accept and people understand."""

import copy
import json
import os
import xml.dom.minidom
from collections import Counter
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st

from bgdeploy import report
from bgdeploy.model import ComponentSeen, HostSeen, Seen

RUNS = os.path.join(os.path.dirname(__file__), "runs")
NAMES = ("rollout", "failed-converge", "interrupted")


def events(name):
    with open(os.path.join(RUNS, name + ".jsonl"), encoding="utf-8") as file:
        return [json.loads(row) for row in file]


def strict(text):
    """Parsed by expat, which refuses what XML 1.0 does not allow."""
    return xml.dom.minidom.parseString(text.encode("utf-8")).documentElement


class Balanced(HTMLParser):
    """Raises where a tag is not closed, and gathers what the page would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags, self.shown = [], [], Counter(), []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] != "style":
            self.shown.append(text)


def page(text):
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


# ---- the sample runs

@pytest.mark.parametrize("name", NAMES)
def test_the_recap_reads_as_it_is_kept_beside_the_run(name):
    with open(os.path.join(RUNS, name + ".recap.txt"), encoding="ascii") as file:
        assert "\n".join(report.recap(events(name))) + "\n" == file.read()


@pytest.mark.parametrize("name", NAMES)
def test_the_result_has_exactly_the_keys_of_the_contract(name):
    result = report.result(events(name))
    assert set(result) == {"run", "task", "env", "by", "reason", "started", "ended", "outcome", "exit_code", "versions", "stacks",
                           "steps", "availability", "warnings", "excluded", "next"}
    assert all(set(stack) == {"name", "before", "after", "versions"} for stack in result["stacks"])
    assert all(set(step) == {"name", "stack", "hosts"} for step in result["steps"])
    assert all(set(host) == {"name", "outcome", "seconds", "detail"} for step in result["steps"] for host in step["hosts"])
    assert {"requests", "failed", "longest_gap_ms", "p50_ms", "p99_ms", "balancers"} == set(result["availability"])
    assert set(result["availability"]["balancers"]) == {"live", "standby"}
    json.dumps(result, allow_nan=False)


def test_a_finished_rollout_names_its_steps_versions_and_verdicts():
    result = report.result(events("rollout"))
    assert (result["outcome"], result["exit_code"], result["started"]) == ("done", 0, "2026-11-25T02:15:30.000Z")
    assert [(s["stack"], s["name"]) for s in result["steps"]] == [
        (stack, step) for stack in ("green", "blue") for step in ("standby", "drain", "converge", "sanity", "live")]
    assert result["stacks"][0] == {"name": "green", "before": "live", "after": "live",
                                   "versions": {"api": ["2.0.0-1"], "web": ["2.0.0-1"]}}
    assert {host["outcome"] for step in result["steps"] for host in step["hosts"]} == {"ok"}
    assert [h["seconds"] for h in result["steps"][2]["hosts"]] == [3.9, 4.2]


def test_a_failed_converge_is_a_failed_host_though_starting_it_went_well():
    result = report.result(events("failed-converge"))
    host = result["steps"][-1]["hosts"][0]
    assert (host["name"], host["outcome"], host["seconds"]) == ("green-1", "failed", 6.3)
    assert "Job for web.service failed" in host["detail"]
    assert "S3cret" not in json.dumps(result) and "\x1b" not in json.dumps(result, ensure_ascii=False)
    assert {s["name"]: s["after"] for s in result["stacks"]} == {"green": "mixed", "blue": "live"}


def test_an_interrupted_converge_is_neither_ok_nor_failed():
    result = report.result(events("interrupted"))
    assert (result["outcome"], result["exit_code"], result["next"]) == ("interrupted", 5, ["invoke resume"])
    assert result["steps"][-1]["hosts"][0]["outcome"] == "unknown"
    assert "Chef still ran" in result["steps"][-1]["hosts"][0]["detail"]


def test_a_journal_without_an_end_has_no_outcome():
    result = report.result(events("rollout")[:-1])
    assert result["outcome"] is result["exit_code"] is result["ended"] is None
    assert "not ended" in report.recap(events("rollout")[:-1])[0]


def test_a_resumed_run_is_judged_by_its_last_part_and_the_time_nobody_drove_does_not_count():
    first = events("interrupted")
    whole = events("rollout")
    later = [dict(copy.deepcopy(e), at=e["at"] + 30_000, n=100 + e["n"]) for e in whole]
    for e in later:                                     # the second driver re-attaches to the converge of the first one
        e["run"] = first[0]["run"]
        for h in (e.get("seen") or {}).get("hosts", []):
            if h["job"]:
                h["job"]["run"] = first[0]["run"] + ".1"
    start = next(n for n, e in enumerate(later) if e["kind"] == "waiting" and e["wait"] == "chef")
    resumed = {"n": 99, "at": later[start]["at"] - 0.5, "kind": "resumed", "by": {"user": "deploy"}}
    result = report.result([*first, resumed, *later[start:]])
    assert (result["outcome"], result["exit_code"]) == ("done", 0)
    assert report.history([[*first, resumed, *later[start:]]])[0]["seconds"] < 60
    suites = strict(report.junit([*first, resumed, *later[start:]]))
    assert suites.getAttribute("failures") == suites.getAttribute("errors") == "0"
    assert result["availability"]["requests"] == 1740 + 8132


def test_a_wait_that_ended_in_a_stop_fails_the_hosts_of_its_step():
    run = events("rollout")
    wait = next(n for n, e in enumerate(run) if e["kind"] == "waiting")
    why = "LIVE has not let go of green-1 green-2 within 60 s; is its check a substring?"
    at = run[wait]["at"] + 60
    run = run[:wait + 1] + [
        {"at": at, "kind": "waited", "wait": "pool", "stack": "green", "hosts": ["green-1", "green-2"], "outcome": "stopped"},
        {"at": at, "kind": "ended", "outcome": "failed", "exit_code": 4, "why": why, "next": ["invoke live --stack green"]}]
    step = report.result(run)["steps"][-1]
    assert step["name"] == "standby"
    assert [(h["outcome"], h["detail"]) for h in step["hosts"]] == [("failed", why)] * 2


@pytest.mark.parametrize("outcome, word", [("drained", "ok"), ("drained, by the kit's count", "ok"), ("unmeasured", "unknown"),
                                           ("timed-out 3 left", "failed")])
def test_a_drain_says_how_it_ended_host_by_host(outcome, word):
    run = events("rollout")
    drain = next(e for e in run if e["kind"] == "waited" and e["wait"] == "drain")
    drain.update(outcome=outcome, outcomes={"green-1": outcome, "green-2": "drained"})
    hosts = report.result(run)["steps"][1]["hosts"]
    assert [(h["name"], h["outcome"], h["detail"]) for h in hosts] == [("green-1", word, outcome), ("green-2", "ok", "drained")]


def test_excluded_hosts_are_named_whichever_way_the_journal_names_them():
    run = events("rollout")
    run[0]["options"] = {"exclude": {"blue-2": "its disk is broken"}}
    run.insert(3, {"kind": "excluded", "at": run[2]["at"], "hosts": {"blue-1": "failed"}})
    run.insert(4, {"kind": "excluded", "at": run[2]["at"], "host": "green-2", "reason": "slow"})
    assert [(e["host"], e["reason"]) for e in report.result(run)["excluded"]] == [
        ("blue-2", "its disk is broken"), ("blue-1", "failed"), ("green-2", "slow")]
    assert "  blue-2: its disk is broken" in report.recap(run)


def test_an_open_question_is_waiting_for_a_person():
    run = events("rollout")[:20]
    run.append({"kind": "asked", "at": run[-1]["at"] + 1, "gate": "live", "stack": "green", "choices": ["approve", "stop"]})
    assert (report.result(run)["outcome"], report.result(run)["exit_code"]) == ("waiting", 7)
    assert strict(report.junit(run)).getElementsByTagName("skipped")


def test_hours_until_a_person_answers_are_not_the_runs_time():
    run = events("rollout")
    gate = next(n for n, e in enumerate(run) if e["kind"] == "doing" and e["step"] == "live")
    at = run[gate]["at"]
    asked = [{"at": at - 0.2, "kind": "asked", "gate": "live", "stack": "green", "choices": ["approve", "stop"]},
             {"at": at - 0.1, "kind": "ended", "outcome": "waiting", "exit_code": 7, "why": "next is live"}]
    assert report.result([*run[:gate], *asked])["exit_code"] == 7
    answered = [{"at": at + 7000, "kind": "answered", "choice": "approve", "gate": "live", "stack": "green"},
                {"at": at + 7100, "kind": "resumed", "by": {"user": "deploy"}}]
    later = [dict(e, at=e["at"] + 7200) for e in run[gate:]]
    whole = [*run[:gate], *asked, *answered, *later]
    assert report.result(whole)["outcome"] == "done"
    assert report.history([whole])[0]["seconds"] < 200
    assert strict(report.junit(whole)).getAttribute("failures") == "0"


def test_steps_by_hand_are_one_run_that_names_them_all():
    run = events("rollout")[:10]
    run[0].update(task="standby", versions={}, goal={"wants": [{"stack": "green", "mode": "standby", "release": None}]})
    run.append({"at": run[-1]["at"] + 1, "kind": "ended", "outcome": "done", "exit_code": 0, "why": "standby is done on green"})
    goal = {"wants": [{"stack": "green", "mode": "live", "release": "api=2.0.0-1,web=2.0.0-1@3f2a"}]}
    run.append({"at": run[-1]["at"] + 1, "kind": "joined", "task": "converge", "by": {"user": "deploy"}, "goal": goal})
    result = report.result(run)
    assert (result["task"], result["versions"], result["outcome"]) == ("standby", {"api": "2.0.0-1", "web": "2.0.0-1"}, None)
    assert report.recap(run)[0].startswith("standby, converge of api 2.0.0-1, web 2.0.0-1 in lab: not ended")


def test_a_run_that_another_one_took_the_place_of_says_so_without_counting_the_time_between():
    run = events("interrupted")
    run.append({"at": run[-1]["at"] + 90000, "kind": "ended", "outcome": "superseded", "exit_code": 0, "why": "by deploy"})
    assert report.result(run)["outcome"] == "superseded"
    assert report.history([run])[0]["seconds"] < 10


def test_nothing_secret_that_began_the_run_is_repeated():
    run = events("rollout")
    run[0]["by"]["build_url"] = "https://ci:hunter2hunter2@ci.example.org/job/1/"
    run[0]["reason"] = "password=hunter2hunter2"
    told = json.dumps(report.result(run)) + report.html(run) + report.junit(run) + report.markdown(run) + str(report.recap(run))
    assert "hunter2" not in told


# ---- JUnit

@pytest.mark.parametrize("name, failed, errors", [("rollout", 0, 0), ("failed-converge", 2, 0), ("interrupted", 1, 1)])
def test_junit_has_a_suite_for_each_stack_and_a_case_for_each_step_and_host(name, failed, errors):
    root = strict(report.junit(events(name)))
    assert (int(root.getAttribute("failures")), int(root.getAttribute("errors"))) == (failed, errors)
    suites = {s.getAttribute("name"): [c.getAttribute("name") for c in s.getElementsByTagName("testcase")]
              for s in root.getElementsByTagName("testsuite")}
    assert list(suites)[0] == "run" and all(suites.values())
    assert suites["green"][:5] == ["standby green-1", "standby green-2", "drain green-1", "drain green-2", "converge green-1"]
    for suite in root.getElementsByTagName("testsuite"):
        assert int(suite.getAttribute("tests")) == len(suite.getElementsByTagName("testcase"))


def test_junit_of_a_host_that_prints_escapes_and_secrets_is_well_formed_and_clean():
    text = report.junit(events("failed-converge"))
    failure = strict(text).getElementsByTagName("failure")[-1].firstChild.data
    assert "Error executing action `restart` on resource 'service[web]'" in failure
    assert "S3cret" not in text and "\x1b" not in text


@pytest.mark.parametrize("broken", [[], [{}], [{"kind": "ended"}], None, "junk", [{"kind": "newer", "at": 1}]])
def test_junit_of_nothing_is_one_suite_with_one_case(broken):
    root = strict(report.junit(broken))
    assert [len(s.getElementsByTagName("testcase")) for s in root.getElementsByTagName("testsuite")] == [1]


# ---- HTML and Markdown

@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_whole_and_loads_nothing_from_elsewhere(name):
    text = report.html(events(name))
    parsed = page(text)
    assert text.startswith("<!DOCTYPE html>") and not parsed.links and not parsed.tags["script"]
    assert "url(" not in text and "@import" not in text
    assert "S3cret" not in text and "\x1b" not in text


def test_the_page_tells_a_manager_what_happened():
    shown = " ".join(page(report.html(events("rollout"))).shown)
    for words in ("Rollout of api 2.0.0-1, web 2.0.0-1 in lab", "The goal is reached, and was seen to be.", "8,132", "4 of 4",
                  "35.8 s", "1.0.0-1 -> 2.0.0-1"):
        assert words in shown


def test_what_a_host_says_can_not_become_markup():
    run = events("rollout")
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y> & | `x` [a](b)"
    for e in run:
        if e["kind"] in ("result", "doing"):
            e["detail"] = e["why"] = evil
    run[0]["reason"] = run[-1]["why"] = run[0]["task"] = evil
    parsed = page(report.html(run))
    assert not parsed.tags["script"] and not parsed.tags["img"]
    assert evil in " ".join(parsed.shown)
    strict(report.junit(run))
    assert "<script" not in report.markdown(run).replace("\\<", "")


def test_markdown_shows_steps_versions_requests_and_the_next_command():
    text = report.markdown(events("failed-converge"))
    assert "| green converge | green-1 | 7.2 s | 6.3 s | - | - | failed: green-1 |" in text
    assert "| green-1 | 1.0.0-1 -\\> down |" in text
    assert "invoke resume, or the deploy with another --version" in text
    assert "requests through LIVE: 3,011, failed 0" in text


def test_history_has_a_row_for_each_run_in_order():
    rows = report.history([events("rollout"), ("20261125-101500-0c4d", events("interrupted")[3:]), []])
    assert [(r["run"], r["outcome"], r["stacks"]) for r in rows] == [
        ("20261125-021530-3f2a", "done", ["green", "blue"]), ("20261125-101500-0c4d", "interrupted", ["green"]),
        (None, None, [])]
    assert (rows[0]["by"], rows[0]["reason"], rows[0]["exit_code"]) == ("deploy on ci-1", "CHG-1017", 0)


# ---- torn journals

JUNK = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=5)
POOL = [e for name in NAMES for e in events(name)]


@st.composite
def torn(draw):
    """A run whose events are cut off, left out, doubled or swapped, whose fields are missing or of another kind."""
    run = copy.deepcopy(events(draw(st.sampled_from(NAMES))))
    run = run[draw(st.integers(0, 3)):draw(st.integers(0, len(run)))]
    for _ in range(draw(st.integers(0, 8))):
        if not run:
            break
        n = draw(st.integers(0, len(run) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                del run[n]
            case 1:
                run.insert(n, copy.deepcopy(draw(st.sampled_from(POOL))))
            case 2:
                run[n] = {"kind": draw(st.text(max_size=8)), "at": draw(JUNK)}
            case 3 | 4:
                if isinstance(run[n], dict) and run[n]:
                    run[n][draw(st.sampled_from(sorted(run[n])))] = draw(JUNK)
            case 5:
                seen = run[n].get("seen") if isinstance(run[n], dict) else None
                if isinstance(seen, dict) and seen.get("hosts") and isinstance(seen["hosts"][0], dict):
                    seen["hosts"][0][draw(st.sampled_from(sorted(seen["hosts"][0]) or ["x"]))] = draw(JUNK)
    return run


@given(torn())
@settings(max_examples=120, deadline=None)
def test_a_torn_journal_is_told_as_far_as_it_goes(run):
    result = report.result(run)
    json.dumps(result, allow_nan=False)
    strict(report.junit(run))
    page(report.html(run))
    assert isinstance(report.markdown(run), str)
    assert all("\n" not in row for row in report.recap(run))
    assert report.history([run])[0]["seconds"] >= 0


@given(torn())
@settings(max_examples=80, deadline=None)
def test_no_share_of_the_time_is_negative_and_the_shares_are_no_more_than_the_whole(run):
    from bgdeploy.storyteller import tell
    story = tell(run)
    for phase in story.phases:
        parts = [phase.chef, *(phase.waited(kind) for kind in ("pool", "drain", "host", "soak", "person"))]
        assert min([phase.own, *parts]) >= 0 and sum(parts) <= phase.seconds + 0.01


# ---- status

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
