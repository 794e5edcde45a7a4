"""A flip is sent once, says whom it means, and ends as ok, failed or unknown: never as a hope. No token shows in any sentence."""

import dataclasses
import socket
import time

import pytest

from bgdeploy import site as sites
from bgdeploy.model import LIVE, STANDBY
from bgdeploy.outside import heartbeat
from tests.heartbeats import KIT, PLAIN, Shell, by_method, flip, look, place
from tests.scripted import Scripted, answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirected_flip_is_not_followed_and_names_the_cure(status):
    script = [answer("", f"{status} Moved", ["Location: /heartbeat/"])]

    result, requests = flip(PLAIN, script)

    assert result.outcome == "failed"
    assert result.detail == f"web on green-1: {status} to /heartbeat/: correct the path in the inventory"
    assert len(requests) == 1 and requests[0].startswith(b"PUT /heartbeat HTTP/1.1\r\n") and requests[0].endswith(b"\r\n\r\nlive")


@pytest.mark.parametrize("end", ["reset", "close", "hang"])
def test_a_flip_whose_answer_is_lost_is_unknown_and_is_never_repeated(end):
    result, requests = flip(KIT, [end])

    assert result.outcome == "unknown" and "look again" in result.detail
    assert len(requests) == 1


def test_a_flip_that_could_not_be_sent_is_failed_since_nothing_happened():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        result = heartbeat.flip(*place(KIT, held.getsockname()[1]), "web", LIVE, run="r", by="b", reason="c")
    assert result.outcome == "failed" and "it was not flipped" in result.detail


@pytest.mark.parametrize("put, get, outcome, words", [
    (answer("live\n"), None, "ok", ""),
    (answer("", "204 No Content"), answer("live"), "ok", ""),
    (answer("", "202 Accepted"), answer("live"), "ok", ""),
    (answer("queued", "202 Accepted"), answer("standby"), "failed", "still says standby"),
    (answer('<meta http-equiv="refresh" content="0; url=/login">'), answer("standby"), "failed", "still says standby"),
    (answer("live", "300 Multiple Choices"), None, "failed", "300 to nowhere"),
    (answer("live", "304 Not Modified"), None, "failed", "304 to nowhere"),
    (answer("standby\n"), answer("standby"), "failed", "still says standby"),
    (answer("standby\n"), answer("who knows"), "unknown", "not known"),
    (answer("runs \"3.0/x\"", "412 Precondition Failed"), None, "failed", 'runs "3.0/x"'),
    (answer("wrong token", "403 Forbidden"), None, "failed", "without a token"),
    (answer("who?", "401 Unauthorized"), None, "failed", "name one: token_file in the inventory, or BGDEPLOY_HEARTBEAT_TOKEN"),
    (answer("live or standby", "400 Bad Request"), None, "failed", '400 "live or standby"'),
    (answer("Client sent an HTTP request to an HTTPS server.", "400 Bad Request"), None, "failed", "scheme: https"),
    (answer("", "404 Not Found"), None, "failed", "correct flip_method or flip_path"),
    (answer("", "405 Method Not Allowed", ["Allow: POST"]), None, "failed", "correct flip_method (it allows POST) or flip_path"),
    (answer("", "409 Conflict"), answer("live"), "failed", "refuses the flip: 409"),
    (answer("wait", "429 Too Many"), None, "failed", '429 "wait"; try again later'),
    (answer("wait", "429 Too Many", ["Retry-After: 8"]), None, "failed", '429 "wait"; try again in 8 s'),
    (answer("not changed", "503 Service Unavailable", ["Retry-After: 1"]), answer("standby"), "failed", "still says standby"),
    (answer("", "503 Service Unavailable"), answer("live"), "unknown", "look again"),
    (answer("live", "206 Partial Content"), answer("live"), "ok", ""),
    (answer("live\n", length=40), answer("standby"), "failed", "still says standby"),
    (answer("disk full", "500 Oops"), answer("standby"), "failed", "disk full"),
    (answer("disk full", "500 Oops"), answer("live"), "unknown", "look again"),
    (answer("", "502 Bad Gateway"), answer("", "502 Bad Gateway"), "unknown", "502"),
])
def test_a_flips_answer_is_judged(put, get, outcome, words):
    result, requests = flip(KIT, by_method(put, get or answer("unexpected", "500 Oops")))

    assert (result.outcome, words in result.detail) == (outcome, True), result.detail
    assert sum(request.startswith(b"PUT") for request in requests) == 1


def test_a_token_that_was_sent_and_refused_is_to_be_compared(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "sesame-open")
    result, _ = flip(dataclasses.replace(KIT, token=sites.Secret(env="A_TOKEN")), [answer("wrong token", "403 Forbidden")])
    assert result.outcome == "failed" and "token refused" in result.detail and "compare" in result.detail


def test_a_flip_without_a_body_says_that_it_has_none():
    """Servers answer 411 to a PUT without a length."""
    beat = dataclasses.replace(PLAIN, flip_body="", flip_path="/to/{word}")
    result, requests = flip(beat, [answer("live")])
    assert result.outcome == "ok" and b"\r\nContent-Length: 0\r\n" in requests[0] and b"Content-Type" not in requests[0]
    _, requests = flip(dataclasses.replace(beat, flip_method="GET"), [answer("live")])
    assert b"Content-Length" not in requests[0] and requests[0].startswith(b"GET /to/live ")


def test_a_flip_tells_who_why_and_which_process_is_meant(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "sesame-open")
    beat = dataclasses.replace(KIT, token=sites.Secret(env="A_TOKEN"), headers=(("X-Site", "a"),))
    script = [answer("live\n", headers=['ETag: "2.0.0-1/abc"'])]

    result, requests = flip(beat, script, release_version="2.0.0-1", started="abc")

    sent = requests[0].decode()
    for line in ("Authorization: Bearer sesame-open", 'If-Match: "2.0.0-1/abc"', "X-Bgdeploy-Run: r-1", "X-Site: a",
                 "X-Bgdeploy-By: jenkins@ci", "X-Bgdeploy-Reason: a reason", "Accept-Encoding: identity"):
        assert f"\r\n{line}\r\n" in sent
    assert result.outcome == "ok" and result.evidence == {"version": "2.0.0-1", "started": "abc"}


def test_a_reason_with_line_ends_cannot_become_a_header(monkeypatch):
    with Scripted([answer("live\n")]) as server:
        heartbeat.flip(*place(KIT, server.port), "web", LIVE, run="r", by="b", reason="x\r\nIf-Match: \"y\"\r\n\r\nstandby")
        assert b"\r\nIf-Match" not in server.requests[0] and server.requests[0].endswith(b"\r\n\r\nlive")


@pytest.mark.parametrize("echo", ["you sent Bearer {0}", "{0}" * 30, " " * 700 + "{0}", "<p>{0}</p>"])
@pytest.mark.parametrize("status", ["403 Forbidden", "200 OK", "412 Precondition Failed", "302 {0}", "500 Oops"])
def test_a_token_that_is_echoed_appears_in_no_sentence(monkeypatch, echo, status):
    token = "s3same"
    monkeypatch.setenv("A_TOKEN", token)
    beat = dataclasses.replace(KIT, token=sites.Secret(env="A_TOKEN"), timeout=0.3)
    script = [answer(echo.format(token), status.format(token), [f"Location: /{token}"])]

    result, _ = flip(beat, script)
    with Scripted(script) as server:
        seen = heartbeat.read(*place(beat, server.port), "web")

    assert token not in result.detail + seen.why and "s3sam" not in result.detail + seen.why


@pytest.mark.parametrize("content, words", [
    (None, "cannot be read"), ("", "is empty"), ("  \n", "is empty"), ("two\nlines", "one line"), ("caf\u00e9", "plain ASCII"),
])
def test_a_token_that_cannot_be_used_is_said_without_contacting_anybody(tmp_path, content, words):
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    beat = dataclasses.replace(KIT, token=sites.Secret(file=str(path)))

    result, requests = flip(beat, [answer("live")])

    assert result.outcome == "failed" and words in result.detail and str(path) in result.detail
    assert requests == []


def test_the_environment_names_the_token_where_the_inventory_does_not(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("BGDEPLOY_HEARTBEAT_TOKEN_FILE", str(tmp_path / "token"))
    _, requests = flip(KIT, [answer("live\n")])
    assert b"Authorization: Bearer from-file\r\n" in requests[0]
    monkeypatch.setenv("BGDEPLOY_HEARTBEAT_TOKEN", "from-env")
    _, requests = flip(KIT, [answer("live\n")])
    assert b"Authorization: Bearer from-env\r\n" in requests[0]


def test_method_path_and_body_of_a_foreign_flip_come_from_the_inventory():
    beat = dataclasses.replace(PLAIN, live="on", standby="off", path="/state", flip_method="POST", flip_path="/switch?to={word}",
                               flip_body='{"mode": "{word}"}', flip_headers=(("Content-Type", "application/json"),))
    result, requests = flip(beat, lambda _, request: [answer("done" if request.startswith(b"POST") else "off")], STANDBY)

    assert result.outcome == "ok"
    assert requests[0].startswith(b"POST /switch?to=off HTTP/1.1\r\n") and requests[0].endswith(b'\r\n\r\n{"mode": "off"}')
    assert b"Content-Type: application/json\r\n" in requests[0] and b"X-Bgdeploy" not in requests[0]
    assert requests[1].startswith(b"GET /state ")


def test_a_foreign_app_is_read_back_for_as_long_as_one_answer_may_take():
    began = time.monotonic()
    result, _ = flip(PLAIN, lambda _, r: [answer("ok" if r.startswith(b"PUT") else
                                                 "live" if time.monotonic() - began > 0.3 else "standby")])
    assert result.outcome == "ok"


@pytest.mark.parametrize("path, pattern, text, version", [
    ("/version", None, "2.0.0-1\n", "2.0.0-1"),
    ("/version", r'"version": "([^"]+)"', '{"version": "2.0.0-1"}', "2.0.0-1"),
    ("/version", r"\d+\.\d+\.\d+", "shop 2.0.0 (build 7)", "2.0.0"),
    ("/version", r"release (\S+)", "nothing here", None),
    ("/version", None, "", None),
])
def test_the_version_of_a_foreign_app_is_found_by_path_and_pattern(path, pattern, text, version):
    beat = dataclasses.replace(PLAIN, version_path=path, version_pattern=pattern)
    seen = look(beat, lambda _, request: [answer(text if request.startswith(b"GET /version") else "live")])
    assert (seen.state, seen.version) == (LIVE, version)
    assert bool(seen.why) == (version is None)


def test_a_foreign_app_that_was_restarted_is_not_put_live():
    result, requests = flip(PLAIN, [answer("live")], started="a" * 32, shell=Shell("b" * 32))
    assert result.outcome == "failed" and "restarted" in result.detail and requests == []


def test_a_foreign_app_that_restarts_while_it_goes_live_is_put_back_to_standby_at_once():
    word = ["standby"]

    def app(_, request):
        if request.startswith(b"PUT"):
            word[0] = request.rpartition(b"\r\n\r\n")[2].decode()
        return [answer(word[0])]

    result, requests = flip(PLAIN, app, started="a" * 32, shell=Shell("a" * 32, "b" * 32))

    assert result.outcome == "failed" and "put back to standby" in result.detail and word == ["standby"]


def test_a_foreign_app_of_another_version_is_not_put_live():
    beat = dataclasses.replace(PLAIN, version_path="/version")
    result, requests = flip(beat, [answer("1.0.0-1")], release_version="2.0.0-1")
    assert result.outcome == "failed" and "1.0.0-1 runs, and 2.0.0-1 was meant" in result.detail
    assert not any(request.startswith(b"PUT") for request in requests)


def test_taking_a_foreign_app_out_asks_no_questions():
    result, requests = flip(PLAIN, [answer("standby")], STANDBY, release_version="2.0.0-1", started="x", shell=Shell("y"))
    assert result.outcome == "ok" and requests[0].startswith(b"PUT")
