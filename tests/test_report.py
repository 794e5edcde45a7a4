"""A run is told truly from its journal alone: steps, hosts, versions, whose time it was, how it ended."""

import copy
import json
import os

import pytest

from bgdeploy import report
from tests.sample_runs import NAMES, RUNS, events, strict


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


def test_a_converge_that_left_the_old_process_running_is_a_failed_host_though_chef_ended_ok():
    """The screen said why the run stopped; scripts that read the steps were told that all of them were ok."""
    run = events("failed-converge")
    for e in run:
        for h in (e.get("seen") or {}).get("hosts", ()):
            if h["name"] == "green-1" and h["job"] and h["job"]["state"] == "failed":
                h["job"]["state"] = "ok"
                for c in h["components"]:
                    c["release"] = {"api": "2.0.0-1", "web": "1.0.0-1"}[c["name"]]
    step = report.result(run)["steps"][-1]
    assert (step["name"], step["hosts"][0]["outcome"]) == ("converge", "failed")
    assert step["hosts"][0]["detail"] == "Chef ended ok, but web 2.0.0-1 was wanted, and 1.0.0-1 runs"
    assert 'name="converge green-1"' in report.junit(run) and report.junit(run).count("<failure") == 2
    run[-1]["exit_code"] = 0
    assert report.result(run)["steps"][-1]["hosts"][0]["outcome"] == "ok", "what is seen at a good end is no failure"


def test_an_interrupted_converge_is_neither_ok_nor_failed():
    result = report.result(events("interrupted"))
    assert (result["outcome"], result["exit_code"], result["next"]) == ("interrupted", 5, ["invoke resume"])
    assert result["steps"][-1]["hosts"][0]["outcome"] == "unknown"
    assert "Chef still ran" in result["steps"][-1]["hosts"][0]["detail"]


def test_a_journal_without_an_end_has_no_outcome():
    result = report.result(events("rollout")[:-1])
    assert result["outcome"] is result["exit_code"] is result["ended"] is None
    assert "not ended" in report.recap(events("rollout")[:-1])[0]


def test_availability_is_an_object_of_the_same_form_where_nobody_watched():
    """A driver that was killed wrote nothing down; who reads a number in it must not meet null there."""
    watched, killed = (report.result([e for e in events("rollout") if n or e["kind"] != "watched"]) for n in (1, 0))
    assert set(killed["availability"]) == set(watched["availability"])
    assert (killed["availability"]["requests"], killed["availability"]["failed"]) == (0, 0)
    assert killed["availability"]["p99_ms"] is None and killed["availability"]["balancers"]["live"]["requests"] == 0
    assert set(killed["availability"]["balancers"]["standby"]) >= {"requests", "failed", "longest_gap_ms", "p50_ms", "p99_ms"}


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


@pytest.mark.parametrize("outcome, word", [("drained", "ok"), ("unmeasured", "unknown"), ("timed-out 3 left", "failed")])
def test_a_drain_says_how_it_ended_host_by_host_and_who_counted(outcome, word):
    run = events("rollout")
    drain = next(e for e in run if e["kind"] == "waited" and e["wait"] == "drain")
    drain.update(outcome=outcome, outcomes={"green-1": outcome, "green-2": "drained"},
                 counted_by={"green-1": "connections", "green-2": ""})
    hosts, said = report.result(run)["steps"][1]["hosts"], f"{outcome} (counted by connections)"
    assert [(h["name"], h["outcome"], h["detail"]) for h in hosts] == [("green-1", word, said), ("green-2", "ok", "drained")]
    assert any(row.endswith(f"drained: green-2; {said}: green-1") or row.endswith(f"{said}: green-1; drained: green-2")
               for row in report.recap(run)), report.recap(run)


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
