"""The reader of answers: it is done with the last byte and not before, knows what may be kept, and stops at its caps."""

import pytest

from bgdeploy.outside.http1 import HEAD_CAP, Malformed, reading


def fed(raw, method="GET", cap=64 * 1024, end=False):
    """(Came or None, bytes that were left over), fed byte by byte. :param end: say at last that the sender closed."""
    reader = reading(method, cap)
    next(reader)
    for at in range(len(raw)):
        try:
            reader.send(raw[at:at + 1])
        except StopIteration as done:
            return done.value, raw[at + 1:]
    if end:
        try:
            reader.send(b"")
        except StopIteration as done:
            return done.value, b""
    return None, b""


def at_once(raw, method="GET"):
    reader = reading(method)
    next(reader)
    try:
        reader.send(raw)
    except StopIteration as done:
        return done.value
    return None


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("raw, method, status, body", [
    (OK + b"Content-Length: 4\r\n\r\nlive", "GET", 200, b"live"),
    (OK + b"Content-Length: 0\r\n\r\n", "GET", 200, b""),
    (OK + b"Content-Length: 4\r\n\r\n", "HEAD", 200, b""),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n", "HEAD", 200, b""),
    (b"HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\n", "GET", 204, b""),
    (b"HTTP/1.1 304 No\r\nContent-Length: 4\r\n\r\n", "GET", 304, b""),
    (b"HTTP/1.1 101 Switching\r\n\r\n", "GET", 101, b""),
    (b"HTTP/1.1 102 Processing\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx", "GET", 200, b"x"),
    (b"HTTP/1.1 305 Use\r\nContent-Length: 1\r\n\r\nx", "GET", 305, b"x"),
    (CHUNKED + b"a\r\n0123456789\r\n0\r\n\r\n", "GET", 200, b"0123456789"),
    (CHUNKED + b"1A;name=value\r\n" + b"x" * 26 + b"\r\n0;last\r\nTrailer: y\r\n\r\n", "GET", 200, b"x" * 26),
    (CHUNKED + b"0\r\n\r\n", "GET", 200, b""),
    (CHUNKED.replace(b"\r\n", b"\n") + b"2\nok\n0\n\n", "GET", 200, b"ok"),
])
def test_an_answer_is_whole_with_its_last_byte_and_not_before(raw, method, status, body):
    came, left = fed(raw, method)
    assert (came.status, came.body, came.whole, came.flaw, left) == (status, body, True, "", b"")
    assert fed(raw[:-1], method)[0] is None


@pytest.mark.parametrize("head, keep", [
    (b"HTTP/1.1 200 OK\r\n", True), (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
    (b"HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\n", False), (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", True),
    (b"HTTP/1.0 200 OK\r\n", False), (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
    (b"HTTP/1.0 200 OK\r\nConnection: x\r\n", False),
])
def test_a_connection_is_kept_when_both_sides_know_where_the_answer_ended(head, keep):
    sized = head + b"Content-Length: 2\r\n\r\nok"
    assert at_once(sized).keep is keep
    assert at_once(sized + b"more").keep is False
    assert at_once(head + b"Content-Length: 2\r\n\r\n", "HEAD").keep is keep
    assert at_once(head + b"Content-Length: 2\r\n\r\nmore", "HEAD").keep is False
    assert fed(head + b"\r\nok", end=True)[0].keep is False
    assert fed(head + b"Content-Length: 3\r\n\r\nok", end=True)[0].keep is False


def test_after_a_change_of_protocol_nothing_is_kept():
    assert at_once(b"HTTP/1.1 101 Switching\r\n\r\n").keep is False


@pytest.mark.parametrize("frame", ids=("counted", "chunked", "until the end"), argvalues=[
    lambda body: OK + b"Content-Length: %d\r\n\r\n" % len(body) + body,
    lambda body: CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
    lambda body: OK + b"\r\n" + body,
])
def test_a_body_may_be_as_long_as_the_cap_and_not_longer(frame):
    came, _ = fed(frame(b"x" * 100), cap=100, end=True)
    assert (came.whole, came.body) == (True, b"x" * 100)
    came, _ = fed(frame(b"x" * 101), cap=100, end=True)
    assert (came.whole, came.keep, came.flaw) == (False, False, "longer than 100 bytes") and len(came.body) <= 100


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in {
    "one long line": OK + b"X: " + b"y" * HEAD_CAP, "many lines": OK + b"X: y\r\n" * (HEAD_CAP // 6 + 1),
    "interim answers": b"HTTP/1.1 100 Go\r\n\r\n" * (HEAD_CAP // 15), "a status line": b"y" * (HEAD_CAP + 1),
    "a chunk's line": CHUNKED + b"1;" + b"y" * 2000, "trailers": CHUNKED + b"0\r\n" + b"X: y\r\n" * 2000,
}.items()])
def test_a_head_that_does_not_end_is_given_up(raw):
    with pytest.raises(Malformed):
        fed(raw)


def test_chunks_that_carry_nearly_nothing_are_given_up_too():
    came, left = fed(CHUNKED + (b"1;" + b"y" * 500 + b"\r\nx\r\n") * 400)
    assert came.whole is False and left and "longer" in came.flaw


def test_headers_are_joined_folded_and_trimmed():
    came, _ = fed(OK + b"A:  1 \r\nb: x\r\n  y\r\nA:2\r\nContent-Length: 0\r\n\r\n")
    assert came.headers == {"a": "1, 2", "b": "x y", "content-length": "0"}


@pytest.mark.parametrize("raw", [
    b"HTTP/1.1 200 OK\r\n first: folded\r\n\r\n", OK + b": x\r\n\r\n", OK + b"a b: x\r\n\r\n", OK + b"ab : x\r\n\r\n",
    OK + b"a\x00: x\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 020 OK\r\n\r\n", b"HTTP/1.2 200 OK\r\n\r\n", b"\r\n",
    CHUNKED + b"\r\n", CHUNKED + b"g\r\n", CHUNKED + b"123456789\r\n", CHUNKED + b"2\r\nokx\r\n", CHUNKED + b"2\r\nok\rx",
    OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
])
def test_what_breaks_the_protocol_is_malformed(raw):
    with pytest.raises(Malformed):
        fed(raw)
