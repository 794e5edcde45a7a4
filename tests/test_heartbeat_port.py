"""What the driver makes of what a heartbeat answers: read exactly, capped, never with a wish for an answer."""

import dataclasses
import gzip
import http.client
import io
import os
import random
import re
import socket
import threading
import time

import pytest

from bgdeploy import site as sites
from bgdeploy.model import LIVE, STANDBY, Policy
from bgdeploy.outside import exchange, heartbeat, heartbeat_answer, http1
from tests.authority import authority  # noqa: F401  (a fixture)
from tests.scripted import LATE, Scripted, answer

LIMIT = 0.5
PLAIN = sites.Heartbeat(detail=None, timeout=LIMIT)
KIT = sites.Heartbeat(timeout=LIMIT)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def place(beat, port, address="127.0.0.1"):
    """A site of one component on one host, with this heartbeat at this port: (site, host)."""
    beat = dataclasses.replace(beat, port=port)
    web = sites.Component("web", "web", "web", "web", beat)
    host = sites.Host("green-1", "green", address, components=("web",))
    nodes = (sites.Node("live-1", "127.0.0.1", 0.5, 2, 2),)
    balancers = (sites.Balancer("live", nodes, (("web", 1),)), sites.Balancer("standby", nodes, (("web", 1),)))
    return sites.Site("t", "t.yml", "/", (web,), (sites.Stack("green", (host,)),), *balancers, Policy()), host


def look(beat, script, **options):
    """What `read` makes of one scripted server: the Answer."""
    with Scripted(script, **options) as server:
        return heartbeat.read(*place(beat, server.port), "web")


def flip(beat, script, word=LIVE, **options):
    """(Result, requests seen) of a flip towards one scripted server."""
    with Scripted(script) as server:
        result = heartbeat.flip(*place(beat, server.port), "web", word, run="r-1", by="jenkins@ci", reason="a reason",
                                **options)
        return result, server.requests


# The table of cases.md: what came, the right state, and words of the sentence that has to explain an unknown one.
TABLE = {
    "live": (answer("live"), LIVE, ""),
    "live and a line feed": (answer("live\n"), LIVE, ""),
    "live and CRLF": (answer("live\r\n"), LIVE, ""),
    "standby": (answer("standby\n"), STANDBY, ""),
    "a byte order mark before live": (answer(b"\xef\xbb\xbflive"), LIVE, ""),
    "capitals": (answer("LIVE"), None, '200 "LIVE"'),
    "two line ends": (answer("live\n\n"), None, "exactly live or standby"),
    "a blank before": (answer(" live"), None, "exactly"),
    "JSON with the word": (answer('{"state":"live"}'), None, '{"state":"live"}'),
    "JSON that is alive": (answer('{"alive": true}'), None, "alive"),
    "not live": (answer("not live"), None, '"not live"'),
    "olive": (answer("olive"), None, '"olive"'),
    "a login page": (answer("<html><form>login</form> we are live</html>"), None, "login"),
    "404 live": (answer("live", "404 Not Found"), None, '404 "live"'),
    "503 live": (answer("live", "503 Service Unavailable"), None, "calls itself sick"),
    "500 live": (answer("live", "500 Oops"), None, '500 "live"'),
    "301 with live in it": (answer("live", "301 Moved", ["Location: /heartbeat/"]), None,
                            "301 to /heartbeat/: correct the path in the inventory"),
    "302": (answer("", "302 Found", ["Location: http://elsewhere/login"]), None, "302 to http://elsewhere/login"),
    "303": (answer("", "303 See Other", ["Location: /x"]), None, "303 to /x"),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", None, "304"),
    "206 standby": (answer("standby", "206 Partial Content"), None, "206"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", None, "204"),
    "201 live": (answer("live", "201 Created"), None, "201"),
    "empty 200": (answer(""), None, '200 ""'),
    "chunked": ([CHUNKED + b"4\r\nlive\r\n0\r\n\r\n"], LIVE, ""),
    "chunked, the word split, with a pause": ([CHUNKED + b"2\r\nli\r\n", 0.1, b"2;a=b\r\nve\r\n", 0.1, b"0\r\nX: y\r\n\r\n"], LIVE, ""),
    "chunked in single bytes": ([CHUNKED] + [b"1\r\n%c\r\n" % c for c in b"standby"] + [b"0\r\n\r\n"], STANDBY, ""),
    "chunked and cut off": ([CHUNKED + b"4\r\nlive\r\n", "close"], None, "not whole"),
    "chunked and cut inside": ([CHUNKED + b"14\r\nlive", "close"], None, "not whole"),
    "chunked, size with a sign": ([CHUNKED + b"+4\r\nlive\r\n0\r\n\r\n"], None, "not HTTP"),
    "chunked, size like hex in C": ([CHUNKED + b"0x4\r\nlive\r\n0\r\n\r\n"], None, "not HTTP"),
    "chunked, longer than it says": ([CHUNKED + b"4\r\nliveXX\r\n0\r\n\r\n"], None, "not HTTP"),
    "head, pause, body": ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", 0.2, b"live"], LIVE, ""),
    "head in single bytes": ([bytes([c]) for c in answer("live")], LIVE, ""),
    "HTTP/1.0 without length": ([b"HTTP/1.0 200 OK\r\n\r\nlive\n"], LIVE, ""),
    "HTTP/1.1 without length, closed at the end": ([b"HTTP/1.1 200 OK\r\n\r\nlive"], LIVE, ""),
    "HTTP/1.1 without length, never closed": ([b"HTTP/1.1 200 OK\r\n\r\nlive", "hang"], None, "within 0.5 s"),
    "kept alive": ([answer("live\n", headers=["Connection: keep-alive"]), "hang"], LIVE, ""),
    "line feeds only": ([b"HTTP/1.1 200 OK\nContent-Length: 4\n\nlive"], LIVE, ""),
    "no reason phrase": ([b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nlive"], LIVE, ""),
    "an interim answer before": ([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer("live")], LIVE, ""),
    "interim answers for ever": ([b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, "hang"], None, "not HTTP"),
    "gzip though nobody asked": (answer(gzip.compress(b"live"), headers=["Content-Encoding: gzip"]), None, "gzip though nobody asked"),
    "says gzip and is not": (answer("live", headers=["Content-Encoding: gzip"]), None, "gzip"),
    "gzip as transfer coding": ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\nlive\r\n0\r\n\r\n"], None, "not HTTP"),
    "identity": (answer("live", headers=["Content-Encoding: identity"]), LIVE, ""),
    "HTTP/0.9": ([b"live"], None, "not HTTP"),
    "HTTP/2": ([b"HTTP/2 200\r\n\r\nlive"], None, "not HTTP"),
    "an SSH banner": ([b"SSH-2.0-OpenSSH_9.2\r\n"], None, "not HTTP"),
    "status with an underscore": ([b"HTTP/1.1 2_00 OK\r\n\r\nlive"], None, "not HTTP"),
    "length 40, 4 bytes": ([answer("live", length=40), "close"], None, "4 of 40 bytes came"),
    "length 40, 4 bytes, never closed": ([answer("live", length=40), "hang"], None, "within 0.5 s"),
    "length 4, more behind": (answer("livestandby", length=4), LIVE, ""),
    "two lengths": ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 11\r\n\r\nlive\nstandby"], None, "Content-Length"),
    "a length with a sign": ([b"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nlive"], None, "Content-Length"),
    "a length that is no number": ([b"HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\nlive"], None, "Content-Length"),
    "the word after 40 kB": (answer(b" " * 40000 + b"live"), None, "exactly"),
    "the word, then 40 kB": (answer(b"live" + b" " * 40000), None, "exactly"),
    "the word, then 200 kB": (answer(b"live" + b"\n" * 200000), None, "longer than 65536 bytes"),
    "endless": ([b"HTTP/1.1 200 OK\r\n\r\n"] + [b"live\n" * 20000] * 3 + ["hang"], None, "longer than"),
    "an endless head": ([b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n" * 2000] * 5 + ["hang"], None, "not HTTP"),
    "NUL behind": (answer(b"live\0"), None, "exactly"),
    "live, standby": (answer("live\nstandby"), None, "live standby"),
    "UTF-16": (answer("live".encode("utf-16")), None, "exactly"),
    "Latin-1": (answer(b"\xe4live"), None, "exactly"),
    "colours": (answer(b"\x1b[31mlive\x1b[0m"), None, '200 "live"'),
    "a header that is none": ([b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\nlive"], None, "not HTTP"),
    "a blank in a header's name": ([b"HTTP/1.1 200 OK\r\nContent Length: 4\r\n\r\nlive"], None, "not HTTP"),
    "too late": ([LATE, answer("live")], None, "within 0.5 s"),
    "accepts and says nothing": (["hang"], None, "within 0.5 s"),
    "drips": ([part for c in answer("live") for part in (bytes([c]), 0.02)], None, "within 0.5 s"),
    "drips its head for ever": ([b"HTTP/1.1 200 OK\r\n"] + [b"X", 0.1] * 30, None, "within 0.5 s"),
    "closes at once": (["close"], None, "closed the connection without an answer"),
    "resets at once": (["reset"], None, "connection reset by peer"),
    "resets in the middle": ([b"HTTP/1.1 200 OK\r\nContent-Le", 0.1, "reset"], None, "connection reset by peer"),
    "closes in the middle of the head": ([b"HTTP/1.1 200 OK\r\nContent-Le", "close"], None, "not HTTP"),
}


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


@pytest.mark.parametrize("body, settings, state", [
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


def by_method(put, get):
    return lambda _, request: [put] if request.startswith(b"PUT") else [get]


@pytest.mark.parametrize("put, get, outcome, words", [
    (answer("live\n"), None, "ok", ""),
    (answer("", "204 No Content"), answer("live"), "ok", ""),
    (answer("standby\n"), answer("standby"), "failed", "still says standby"),
    (answer("standby\n"), answer("who knows"), "unknown", "not known"),
    (answer("runs \"3.0/x\"", "412 Precondition Failed"), None, "failed", 'runs "3.0/x"'),
    (answer("wrong token", "403 Forbidden"), None, "failed", "token refused"),
    (answer("who?", "401 Unauthorized"), None, "failed", "token refused"),
    (answer("live or standby", "400 Bad Request"), None, "failed", '400 "live or standby"'),
    (answer("", "405 Method Not Allowed"), None, "failed", "refuses the flip"),
    (answer("wait", "429 Too Many"), None, "failed", '429 "wait"'),
    (answer("disk full", "500 Oops"), answer("standby"), "failed", "disk full"),
    (answer("disk full", "500 Oops"), answer("live"), "unknown", "look again"),
    (answer("", "502 Bad Gateway"), answer("", "502 Bad Gateway"), "unknown", "502"),
])
def test_a_flips_answer_is_judged(put, get, outcome, words):
    result, requests = flip(KIT, by_method(put, get or answer("unexpected", "500 Oops")))

    assert (result.outcome, words in result.detail) == (outcome, True), result.detail
    assert sum(request.startswith(b"PUT") for request in requests) == 1


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


def test_proxies_netrc_and_cookies_of_the_user_take_no_part(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login bob password hunter2\n")
    os.chmod(tmp_path / ".netrc", 0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("A_TOKEN", "sesame-open")
    beat = dataclasses.replace(KIT, token=sites.Secret(env="A_TOKEN"))

    result, requests = flip(beat, [answer("live\n", headers=["Set-Cookie: a=b"])])

    assert result.outcome == "ok"
    assert re.findall(rb"(?i)authorization: (.*)\r\n", requests[0]) == [b"Bearer sesame-open"]
    assert b"hunter2" not in requests[0] and b"ookie" not in requests[0]
    assert look(PLAIN, [answer("live")]).state == LIVE


def test_basic_auth_is_sent_when_reading_and_yields_to_the_token_when_flipping(monkeypatch):
    monkeypatch.setenv("A_PASSWORD", "hunter2")
    monkeypatch.setenv("A_TOKEN", "sesame-open")
    beat = dataclasses.replace(PLAIN, user="bob", password=sites.Secret(env="A_PASSWORD"))
    with Scripted([answer("live")]) as server:
        heartbeat.read(*place(beat, server.port), "web")
        assert b"\r\nAuthorization: Basic Ym9iOmh1bnRlcjI=\r\n" in server.requests[0]
    _, requests = flip(dataclasses.replace(beat, token=sites.Secret(env="A_TOKEN")), [answer("live")])
    assert re.findall(rb"Authorization: (\S+)", requests[0]) == [b"Bearer"]


def test_an_app_that_checks_the_host_header_is_named_one():
    def strict(_, request):
        return [answer("live") if b"\r\nHost: shop.lab\r\n" in request else answer("Invalid host", "403 Forbidden")]
    refused = look(PLAIN, strict)
    assert refused.state is None and "host_header" in refused.why and "Invalid host" in refused.why
    assert look(dataclasses.replace(PLAIN, host_header="shop.lab"), strict).state == LIVE


def test_ipv6_addresses_are_written_in_brackets():
    try:
        server = Scripted([answer("live")], address="::1", family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        for address in ("::1", "[::1]"):
            assert heartbeat.read(*place(PLAIN, server.port, address), "web").state == LIVE
        assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in server.requests[0]


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


class Shell:
    """Stands in for the SSH port: says what systemctl says, and opens connections from here."""

    def __init__(self, *starts):
        self.starts, self.tunnels = list(starts), []

    def run(self, host, argv, **_):
        assert argv[:4] == ["systemctl", "show", "-p", "InvocationID"]
        start = self.starts.pop(0) if len(self.starts) > 1 else self.starts[0]
        return type("Answer", (), {"exit": 0, "out": f"InvocationID={start}\n".encode(), "err": b""})()

    def tunnel(self, host, address, port):
        self.tunnels.append((host.name, address, port))
        return socket.create_connection((address, port))


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


def test_by_ssh_the_request_goes_to_the_hosts_own_loopback():
    beat = dataclasses.replace(PLAIN, via="ssh")
    with Scripted([answer("live")]) as server:
        site, host = place(beat, server.port, "192.0.2.1")
        shell = Shell("x")
        assert heartbeat.read(site, host, "web", shell).state == LIVE
        assert shell.tunnels == [("green-1", "127.0.0.1", server.port)]
    assert "SSH" in heartbeat.read(site, host, "web").why


DETAIL = ('{"component": "web", "version": "2.0.0-1", "start": "abc", "state": "standby", "since_age": 12.5, "in_flight": 3, "busy": 1,'
          ' "healthy": true, "balancers": [{"node": "live-1", "name": "web/green-1", "state": "DOWN", "age": 0.2, "scur": 1}]}')


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


@pytest.mark.parametrize("text", [
    "", "live", "[]", "null", "[" * 40000, '{"version": 1}', '{"version": "2 0"}', '{"in_flight": -1, "busy": "x"}', '{"in_flight": true}',
    '{"balancers": {"a": 1}}', '{"balancers": [1, null, {}, {"node": 1, "state": "UP", "age": 1}]}', '{"since_age": "old"}',
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


# Fuzz: what is read as live must be live for a reader that shares no code with ours.

STATUSES = [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 503 No", b"HTTP/1.1 404 live", b"HTTP/2 200", b"200 OK",
            b"HTTP/1.1 2_00 OK", b"HTTP/1.1 +200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 301 live", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
            b"http/1.1 200 OK", b"HTTP/1.1 206 Partial"]
FIELDS = [b"Content-Length: 4", b"Content-Length: 5", b"Content-Length: 7", b"Content-Length: 40", b"Content-Length: 0", b"Content-Length: -1",
          b"Content-Length: 4, 4", b"Content-Length: 4, 5", b"content-length:4", b"Content-Length : 4", b"Transfer-Encoding: chunked",
          b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip", b"Content-Encoding: gzip", b"Content-Encoding: identity", b"Connection: close",
          b"X: live", b" folded: live", b"", b"Content-Type: text/plain; charset=utf-16", b"Content-Length: 9999999999999999999999"]
BODIES = [b"live", b"live\n", b"live\r\n", b"standby\n", b"\xef\xbb\xbflive", b"not live", b"olive", b"LIVE", b"live\0", b"live\nstandby",
          b"4\r\nlive\r\n0\r\n\r\n", b"2\r\nli\r\n2\r\nve\r\n0\r\n\r\n", b"5\r\nlive\n\r\n0\r\n\r\n", b"4\r\nlive\r\n", b"0x4\r\nlive\r\n0\r\n\r\n",
          b"-4\r\nlive\r\n0\r\n\r\n", b"", b"l", b"liv", b"live" * 20000, b'{"state":"live"}', b"4\r\nlive\r\n0\r\n\r\nlive", b"8\r\nnot live\r\n0\r\n\r\n"]


def fuzzed(chance):
    fields = [chance.choice(FIELDS) for _ in range(chance.choice([0, 1, 1, 1, 2, 3]))]
    end, body = chance.choice([b"\r\n", b"\r\n", b"\r\n", b"\n"]), chance.choice(BODIES)
    if chance.random() < 0.4:       # nearly right, so that a single wrong byte has its chance
        body = chance.choice(BODIES[:6])
        fields = [b"Content-Length: %d" % len(body)]
    raw = bytearray(end.join([chance.choice(STATUSES[:3] if chance.random() < 0.6 else STATUSES), *fields]) + end * 2 + body)
    for _ in range(chance.choice([0, 0, 0, 1, 1, 2, 5])):
        at = chance.randrange(len(raw) + 1)
        kind = chance.random()
        if kind < 0.3:
            raw[at:at] = bytes([chance.randrange(256)])
        elif kind < 0.6:
            del raw[at:at + chance.choice([1, 2, 4, 10])]
        elif kind < 0.8:
            raw[at:at + 1] = chance.choice([b"\r\n", b"\0", b"live", b"standby", b" ", b"\xff", b":", b";"])
        else:
            raw = raw[:at]
    return bytes(raw)


def taken(raw, sizes, cap=64 * 1024):
    """Feed our reader in pieces: the Came, or the Malformed's text."""
    reader, at = http1.reading("GET", cap), 0
    try:
        next(reader)
        while at < len(raw):
            size = sizes()
            reader.send(raw[at:at + size])
            at += size
        reader.send(b"")
    except StopIteration as end:
        return end.value
    except http1.Malformed as trouble:
        return str(trouble)
    raise AssertionError("the reader wants more after the end")


def gist(came):
    return "malformed" if isinstance(came, str) else (came.status, came.headers, came.body, came.whole, came.flaw)


class Stream:
    def __init__(self, raw):
        self.raw = raw

    def makefile(self, *_):
        return io.BytesIO(self.raw)


def oracle(raw):
    """Whether the standard library's reader finds status 200 and, but for a mark and a line end, the word alone."""
    try:
        reply = http.client.HTTPResponse(Stream(raw), method="GET")
        reply.begin()
        body = reply.read()
    except (http.client.HTTPException, ValueError):
        return None
    if reply.status != 200 or reply.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        return None
    return {b"live": LIVE, b"standby": STANDBY}.get(re.sub(rb"\A\xef\xbb\xbf|\r?\n\Z", b"", body))


def test_ten_thousand_fuzzed_answers_break_nothing_and_none_is_read_as_live_that_is_not():
    chance, counts = random.Random(20771), {LIVE: 0, STANDBY: 0, None: 0}
    for _ in range(10000):
        raw = fuzzed(chance)
        came = taken(raw, lambda: chance.choice([1, 2, 3, 7, 50, 100000]))
        assert gist(came) == gist(taken(raw, lambda: 100000)), (raw, "depends on how the bytes were cut")
        state = None
        if not isinstance(came, str):
            state, why = heartbeat_answer.state(PLAIN, came, "web on green-1", str)
            assert (state is None) == bool(why)
        counts[state] += 1
        assert state is None or state == oracle(raw), (raw, came)
    assert counts[LIVE] > 500 and counts[STANDBY] > 50 and counts[None] > 2000, "the fuzz has lost its variety"


def test_five_hundred_fuzzed_answers_over_sockets_end_in_time_and_in_a_sentence():
    chance, before = random.Random(42), threading.active_count()
    with Scripted(lambda *_: [fuzzed(chance), chance.choice(["close", "reset", "close"])]) as server:
        site, host = place(dataclasses.replace(PLAIN, timeout=2.0), server.port)
        for _ in range(500):
            seen = heartbeat.read(site, host, "web")
            assert (seen.state is None) == bool(seen.why) and seen.why.isprintable() and len(seen.why) < 600
    time.sleep(0.3)
    assert threading.active_count() <= before + 2


def test_an_https_heartbeat_is_checked_against_the_sites_own_authority(authority):  # noqa: F811
    with Scripted([answer("live")], context=authority.server) as server:
        https = dataclasses.replace(PLAIN, scheme="https", host_header="shop.lab", timeout=3)
        assert "certificate" in heartbeat.read(*place(https, server.port), "web").why
        private = dataclasses.replace(https, ca_file=authority.file)
        assert heartbeat.read(*place(private, server.port), "web").state == LIVE
        other = dataclasses.replace(private, host_header="other.lab")
        assert "certificate that does not fit" in heartbeat.read(*place(other, server.port), "web").why
        by_ssh = dataclasses.replace(private, via="ssh")
        site, host = place(by_ssh, server.port)
        assert heartbeat.read(site, host, "web", Shell("x")).state == LIVE
    hasty = dataclasses.replace(private, timeout=LIMIT)
    with Scripted(["hang"]) as mute:
        assert "TLS handshake within 0.5 s" in heartbeat.read(*place(hasty, mute.port), "web").why
    with Scripted([answer("live")], read=False) as plain:
        assert "TLS failed" in heartbeat.read(*place(private, plain.port), "web").why


def test_a_ca_file_that_is_none_is_named(tmp_path):
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in ("ca.pem", "none.pem"):
        beat = dataclasses.replace(PLAIN, scheme="https", ca_file=str(tmp_path / name))
        assert name in heartbeat.read(*place(beat, 1), "web").why


def test_a_request_that_no_server_may_get_is_refused_before_it_is_sent():
    for method, path, headers in (("GET", "/a\r\nX: y", ()), ("GET", "nothing", ()), ("G T", "/", ()), ("GET", "/", (("A B", "c"),)),
                                  ("GET", "/", (("A", "c\r\nd: e"),))):
        with pytest.raises(exchange.BadInput):
            exchange.compose(method, path, headers, None, "x")
    assert exchange.compose("GET", "/a b?c=d&e=ä", (), None, "x").startswith(b"GET /a%20b?c=d&e=%C3%A4 HTTP/1.1\r\nHost: x\r\n")
