"""A run is told in forms that machines accept and people understand, also from a torn journal: JUnit, HTML, Markdown, history."""

import copy
import json

import pytest
from hypothesis import given, settings

from bgdeploy import report
from tests.sample_runs import NAMES, events, page, strict, torn


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


def test_failures_of_a_run_that_began_where_nobody_served_are_explained():
    said = "nobody served when the run began"
    for down, failed in ((True, 5), (True, 0), (False, 5)):
        run = copy.deepcopy(events("rollout"))
        for event in run:
            if event["kind"] == "watched":
                event["availability"]["failed"] = event["availability"]["balancers"]["live"]["failed"] = failed
            if event["kind"] == "began" and down:
                for host in event["seen"]["hosts"]:
                    for component in host["components"]:
                        component["heartbeat"] = "down"
        for text in (report.markdown(run), report.junit(run)):
            assert (said in text) == (down and failed > 0)


def test_history_has_a_row_for_each_run_in_order():
    rows = report.history([events("rollout"), ("20261125-101500-0c4d", events("interrupted")[3:]), []])
    assert [(r["run"], r["outcome"], r["stacks"]) for r in rows] == [
        ("20261125-021530-3f2a", "done", ["green", "blue"]), ("20261125-101500-0c4d", "interrupted", ["green"]),
        (None, None, [])]
    assert (rows[0]["by"], rows[0]["reason"], rows[0]["exit_code"]) == ("deploy on ci-1", "CHG-1017", 0)


# ---- torn journals

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
