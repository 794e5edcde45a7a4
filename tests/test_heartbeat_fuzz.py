"""Fuzzed answers: no traceback, and what is read as live is live for a reader that shares no code with ours."""

import dataclasses
import http.client
import io
import random
import re
import threading
import time

from bgdeploy.model import LIVE, STANDBY
from bgdeploy.outside import heartbeat, heartbeat_answer, http1
from tests.heartbeats import PLAIN, place
from tests.scripted import Scripted

STATUSES = [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 503 No", b"HTTP/1.1 404 live", b"HTTP/2 200",
            b"200 OK", b"HTTP/1.1 2_00 OK", b"HTTP/1.1 +200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 301 live", b"http/1.1 200 OK",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 206 Partial"]
LENGTHS = (b"4", b"5", b"7", b"40", b"0", b"-1", b"4, 4", b"4, 5", b"+4", b"9999999999999999999999")
FIELDS = [*(b"Content-Length: " + length for length in LENGTHS), b"content-length:4", b"Content-Length : 4",
          b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip", b"Content-Encoding: gzip",
          b"Content-Encoding: identity", b"Connection: close", b"X: live", b" folded: live", b"",
          b"Content-Type: text/plain; charset=utf-16"]
BODIES = [b"live", b"live\n", b"live\r\n", b"standby\n", b"\xef\xbb\xbflive", b"not live", b"olive", b"LIVE", b"live\0",
          b"live\nstandby", b"4\r\nlive\r\n0\r\n\r\n", b"2\r\nli\r\n2\r\nve\r\n0\r\n\r\n", b"5\r\nlive\n\r\n0\r\n\r\n",
          b"4\r\nlive\r\n", b"0x4\r\nlive\r\n0\r\n\r\n", b"-4\r\nlive\r\n0\r\n\r\n", b"", b"l", b"liv", b"live" * 20000,
          b'{"state":"live"}', b"4\r\nlive\r\n0\r\n\r\nlive", b"8\r\nnot live\r\n0\r\n\r\n"]


def fuzzed(chance):
    fields = [chance.choice(FIELDS) for _ in range(chance.choice([0, 1, 1, 1, 2, 3]))]
    end, body = chance.choice([b"\r\n", b"\r\n", b"\r\n", b"\n"]), chance.choice(BODIES)
    if chance.random() < 0.4:       # nearly right, so that a single wrong byte has its chance
        body = chance.choice(BODIES[:6])
        fields = [b"Content-Length: %d" % len(body)]
    status = chance.choice(STATUSES[:3] if chance.random() < 0.6 else STATUSES)
    raw = bytearray(end.join([status, *fields]) + end * 2 + body)
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
