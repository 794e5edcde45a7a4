"""What the driver makes of what a heartbeat answers: read exactly, capped, never with a wish for an answer."""

import dataclasses
import socket
import time

import pytest

from bgdeploy import site as sites
from bgdeploy.model import LIVE, STANDBY
from bgdeploy.outside import heartbeat, heartbeat_answer
from tests.heartbeats import KIT, LIMIT, PLAIN, TABLE, look, place
from tests.scripted import Scripted, answer


def brief(value):
    """A short name for a case whose value may be long."""
    return str(value)[:30]


@pytest.mark.parametrize("case", TABLE)
def test_what_a_heartbeat_answers_has_one_known_outcome(case):
    script, state, words = TABLE[case]
    began = time.monotonic()

    seen = look(PLAIN, script if isinstance(script, list) else [script])

    assert seen.state == state, seen.why
    assert words in seen.why and (state is None) == bool(seen.why)
    assert "web on green-1" in seen.why or state
    assert len(seen.why) < 500 and seen.why.isprintable()
    assert time.monotonic() - began < 2 * LIMIT + 1, "a slow answer must not outlast the limit"


def test_a_port_that_speaks_tls_is_named_where_its_answer_says_so():
    for text in ("The plain HTTP request was sent to HTTPS port", "This combination of host and port requires TLS."):
        assert "write scheme: https" in look(PLAIN, [answer(text, "400 Bad Request")]).why


@pytest.mark.parametrize("user, scheme, words", [
    (None, "Basic", "wants a user and a password"), ("bob", "Basic", "compare user and password"),
    ("bob", "Digest", "only Basic")])
def test_a_password_that_is_missing_or_wrong_is_named(user, scheme, words, monkeypatch):
    monkeypatch.setenv("A_PASSWORD", "hunter2")
    beat = dataclasses.replace(PLAIN, user=user, password=user and sites.Secret(env="A_PASSWORD"))
    seen = look(beat, [answer("no", "401 Unauthorized", [f'WWW-Authenticate: {scheme} realm="shop"'])])
    assert seen.state is None and words in seen.why


@pytest.mark.parametrize("body", ['{"status.mode": "live"}', '{"status": {"mode": "live"}, "x": {"a": 1, "a": 2}}', "live", ""])
def test_where_a_key_is_named_the_sentence_says_where_it_was_looked_for(body):
    seen = look(dataclasses.replace(PLAIN, json_key="status.mode"), [answer(body)])
    assert seen.state is None and "exactly live or standby is expected at status.mode, in JSON that has no key twice" in seen.why


@pytest.mark.parametrize("body, settings, state", ids=brief, argvalues=[
    ("LIVE\n", {"ignore_case": True}, LIVE),
    ("StandBy", {"ignore_case": True}, STANDBY),
    ("not live", {"ignore_case": True}, None),
    ("lıve", {"ignore_case": True}, None),                          # a letter that folds to i in some tables
    ("active", {"live": "active", "standby": "passive"}, LIVE),
    ("live", {"live": "active", "standby": "passive"}, None),
    ('{"state": "live"}', {"json_key": "state"}, LIVE),
    ('\n{"app": {"mode": "standby"}, "x": [1]}\n', {"json_key": "app.mode"}, STANDBY),
    ('{"state": "alive"}', {"json_key": "state"}, None),
    ('{"state": ["live"]}', {"json_key": "state"}, None),
    ('{"state": "standby", "state": "live"}', {"json_key": "state"}, None),
    ('{"other": "live"}', {"json_key": "state"}, None),
    ('["live"]', {"json_key": "state"}, None),
    ("live", {"json_key": "state"}, None),
    ('{"state": "live"', {"json_key": "state"}, None),
    ('{"alive": true}', {"json_key": "alive", "live": "true", "standby": "false"}, LIVE),
    ('{"alive": 1}', {"json_key": "alive", "live": "true", "standby": "false"}, None),
    ('{"alive": null}', {"json_key": "alive", "live": "true", "standby": "false"}, None),
    ("[" * 30000, {"json_key": "state"}, None),
    ('{"state": ' + "9" * 5000 + "}", {"json_key": "state"}, None),
    ('{"state": "\\ud800"}', {"json_key": "state"}, None),
])
def test_the_inventory_says_what_the_words_are(body, settings, state):
    seen = look(dataclasses.replace(PLAIN, **settings), [answer(body)])

    assert seen.state == state, seen.why


def test_a_get_is_tried_once_more_when_the_connection_ended_before_the_first_byte():
    for end in ("reset", "close"):
        seen = look(PLAIN, lambda number, _: [end] if number == 0 else [answer("live")])
        assert seen.state == LIVE, seen.why


def test_a_get_is_tried_twice_at_most():
    with Scripted(["reset"]) as server:
        heartbeat.read(*place(PLAIN, server.port), "web")
        time.sleep(0.1)
        assert len(server.requests) == 2


def test_an_app_that_closes_idle_connections_or_was_restarted_between_two_looks_is_never_unreachable():
    with Scripted(lambda *_: [answer("live", headers=["Connection: keep-alive"]), 0.05, "close"]) as server:
        for _ in range(4):
            assert heartbeat.read(*place(PLAIN, server.port), "web").state == LIVE
            time.sleep(0.1)


def test_nobody_listening_is_told_with_address_and_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        seen = heartbeat.read(*place(PLAIN, held.getsockname()[1]), "web")
        assert seen.state is None and f"127.0.0.1:{held.getsockname()[1]}) connection refused" in seen.why


def test_a_name_without_an_address_is_told():
    seen = heartbeat.read(*place(PLAIN, 80, "no-such-host.invalid"), "web")
    assert seen.state is None and ("has no address" in seen.why or "within" in seen.why)


DETAIL = ('{"component": "web", "version": "2.0.0-1", "start": "abc", "state": "standby", "since_age": 12.5, "in_flight": 3,'
          ' "busy": 1, "healthy": true, "balancers": [{"node": "live-1", "name": "web/green-1", "state": "DOWN",'
          ' "age": 0.2, "scur": 1}]}')


def with_detail(text, word="standby"):
    return lambda _, request: [answer(text if b"/detail" in request.partition(b"\r\n")[0] else word)]


def test_the_kits_detail_view_is_read():
    seen = look(KIT, with_detail(DETAIL))
    assert (seen.state, seen.version, seen.started, seen.in_flight, seen.since_age) == (STANDBY, "2.0.0-1", "abc", 4, 12.5)
    assert seen.balancers == (heartbeat.Witness("live-1", "web/green-1", "DOWN", 0.2, 1),)
    assert seen.healthy is True and seen.counted_by == "kit" and seen.why == ""


def test_a_heartbeat_and_a_detail_view_that_differ_are_unknown_this_time():
    seen = look(KIT, with_detail(DETAIL, "live"))
    assert seen.state is None and "look again" in seen.why


def test_a_word_that_was_never_changed_is_as_old_as_can_be():
    assert look(KIT, with_detail(DETAIL.replace("12.5", "null"))).since_age == heartbeat_answer.NEVER


@pytest.mark.parametrize("text", ids=brief, argvalues=[
    "", "live", "[]", "null", "[" * 40000, '{"version": 1}', '{"version": "2 0"}', '{"in_flight": -1, "busy": "x"}',
    '{"in_flight": true}', '{"balancers": {"a": 1}}', '{"balancers": [1, null, {}, {"node": 1, "state": "UP", "age": 1}]}',
    '{"since_age": "old"}',
    '{"since_age": NaN}', '{"since_age": 1e400}', '{"since_age": %s}' % ("9" * 400), '{"in_flight": %s}' % ("9" * 400),
    '{"balancers": [{"node": "a", "state": "UP", "age": -1}]}', '{"healthy": "yes", "start": null, "busy": null, "in_flight": 1}',
    '{"start": "a b"}', '{"start": "\\u0007"}', '{"version": "' + "1" * 500 + '"}',
])
def test_what_a_detail_view_says_wrongly_stays_unknown_and_never_breaks_a_look(text):
    seen = look(KIT, with_detail(text))
    assert seen.state == STANDBY
    assert (seen.version, seen.started, seen.in_flight, seen.since_age, seen.healthy) == (None,) * 5
    assert seen.balancers == ()


@pytest.mark.parametrize("scur, age, count", [(0, 0.2, 0), (3, 0.2, 3), (None, 0.2, None), (0, 9.0, None)])
def test_in_flight_can_be_what_live_says_it_has_open(scur, age, count):
    said = DETAIL.replace('"scur": 1', f'"scur": {"null" if scur is None else scur}').replace('"age": 0.2', f'"age": {age}')
    seen = look(dataclasses.replace(KIT, in_flight="balancer"), with_detail(said))
    assert (seen.in_flight, seen.counted_by) == (count, "balancer" if count is not None else "")


def test_in_flight_is_not_known_where_nothing_counts_it():
    seen = look(dataclasses.replace(KIT, in_flight="none"), with_detail(DETAIL))
    assert (seen.in_flight, seen.counted_by) == (None, "")


@pytest.mark.parametrize("reply", [
    answer(DETAIL, "500 Oops"), answer(DETAIL, "203 Guess"), answer(DETAIL, length=len(DETAIL) + 1), answer("", "404 Not Found"),
], ids=["500", "203", "cut off", "404"])
def test_a_detail_view_that_is_not_answered_well_is_not_believed(reply):
    seen = look(KIT, lambda _, request: [reply if b"/detail" in request.partition(b"\r\n")[0] else answer("standby")])
    assert (seen.state, seen.version, seen.in_flight, seen.balancers) == (STANDBY, None, None, ())
    assert "detail view" in seen.why
