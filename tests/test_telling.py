"""What a line says is so, and no more than what is known."""

import time

import pytest

from bgdeploy import telling


def said(**event):
    return telling.event_line({"at": 0, **event}).partition(" ")[2]


@pytest.mark.parametrize("going, outcome, line", [
    ([], "over", "green Chef has ended after 35.0 s"), (None, "over", "green Chef has ended after 35.0 s"),
    ([], "stopped", "green waits for Chef no longer: stopped after 35.0 s"),
    (["green-1"], "over", "green waits for Chef no longer: it may go on on green-1, after 35.0 s")])
def test_that_chef_has_ended_is_said_only_where_it_was_seen(going, outcome, line):
    """A host that falls silent ends the wait too: under load it was seen that the wait began again."""
    event = {"kind": "waited", "wait": "chef", "stack": "green", "hosts": ["green-1"], "seconds": 35.0, "outcome": outcome}
    assert said(**event, going=going) == line


@pytest.mark.parametrize("silent, line", [
    (["green-1"], "green waits for an answer no longer: none came from green-1 after 9.0 s"),
    ([], "green the answer is there after 9.0 s"), (None, "green the answer is there after 9.0 s")])
def test_an_answer_is_there_only_where_it_came(silent, line):
    """A drain goes on from a host that is switched off: nothing of it can be measured."""
    event = {"kind": "waited", "wait": "host", "stack": "green", "hosts": ["green-1"], "seconds": 9.0, "outcome": "over"}
    assert said(**event, silent=silent) == line


@pytest.mark.parametrize("host, line", [("green-1", "green converge failed on green-1:"), ("", "green converge failed:")])
def test_a_migration_fails_on_no_host(host, line):
    hosts = [{"name": host, "outcome": "failed", "detail": "why"}]
    assert telling.failure_lines({"steps": [{"stack": "green", "name": "converge", "hosts": hosts}]}) == [line, "  | why"]


@pytest.mark.parametrize("name, word", [("before-live", "refused"), ("during-soak", "refused"), ("after-live", "failed"),
                                        ("run-ended", "failed")])
def test_a_hook_that_may_only_warn_is_not_said_to_refuse(name, word):
    assert said(kind="hook", name=name, outcome="refused", detail="no") == f"hook {name}: {word} no"


@pytest.mark.parametrize("by, words", [
    ({"green-1": "kit", "green-2": "kit"}, " (counted by kit)"), ({"green-1": ""}, ""), (None, ""),
    ({"green-1": "kit", "green-2": "api by balancer, web by nothing"},
     " (counted by green-1: kit; green-2: api by balancer, web by nothing)")])
def test_a_drain_says_who_counted(by, words):
    event = {"kind": "waited", "wait": "drain", "stack": "green", "outcome": "drained", "counted_by": by}
    assert said(**event, seconds=2) == "green drained after 2.0 s" + words
    assert said(**event, seconds=0.0) == "green drained already" + words


def test_a_question_says_until_when_it_stands(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    event = {"kind": "asked", "stack": "green", "choices": ["approve", "stop"], "why": "next is live"}
    assert said(**event, expires=86400) == ("green a person decides (approve|stop): next is live (an answer is taken until "
                                            "1970-01-02 00:00)")
    for odd in (None, "soon", -1, 1e300):
        assert said(**event, expires=odd) == "green a person decides (approve|stop): next is live"
    monkeypatch.undo()
    time.tzset()
