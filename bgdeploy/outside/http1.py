"""One HTTP/1 answer, read strictly from bytes as they come. Pure: no sockets, no clock, no meaning.

Why not a library's reader: this one can be driven from a blocking socket, from an SSH channel and from a selector, it
counts every byte, and it refuses what proxies and clients are known to read differently (signs, underscores and hex
prefixes in lengths, conflicting lengths). RFC 9112 is the source; an answer that breaks it is `Malformed`.
"""

import re
from dataclasses import dataclass, field

HEAD_CAP = 32 * 1024        # bytes of status line and headers, interim answers (1xx) included
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([^\r\n]*))?\Z")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?\Z", re.DOTALL)


class Malformed(Exception):
    """The bytes are not an HTTP/1 answer; its text quotes them raw and must be cleaned before anybody sees it."""


@dataclass(frozen=True)
class Came:
    """What came back.

    :param headers: names in lower case; repeated ones joined by ", ".
    :param whole: False: cut off by the sender, or by our cap; then `flaw` says which.
    :param keep: the connection may carry another request.
    """

    status: int
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    whole: bool = True
    flaw: str = ""
    keep: bool = False
    seconds: float = 0.0


def reading(method="GET", cap=64 * 1024):
    """A generator that is sent bytes (b"" = the sender closed) and returns a `Came`.

    :param cap: bytes of body at most; a longer one ends with whole=False, nothing more is read.
    :raises Malformed: on anything that RFC 9112 does not allow in an answer. Never anything else.
    """
    buffer, spent = bytearray(), 0
    while True:
        minor, status, fields, size = yield from _head(buffer, HEAD_CAP - spent)
        spent += size
        if status >= 200 or status == 101:
            break
    keep = _keeps(minor, fields)
    if method == "HEAD" or status in (101, 204, 304):
        return Came(status, fields, keep=keep and not buffer and status != 101)
    coding = fields.get("transfer-encoding")
    if coding is not None:
        if minor == 0 or coding.strip().lower() != "chunked":
            raise Malformed(f"transfer coding {coding!r} in HTTP/1.{minor}")
        body, flaw = yield from _chunks(buffer, cap)
    elif "content-length" in fields:
        body, flaw = yield from _counted(buffer, _length(fields["content-length"]), cap)
    else:
        keep = False
        body, flaw = yield from _rest(buffer, cap)
    return Came(status, fields, bytes(body), not flaw, flaw, keep and not flaw and not buffer)


def _head(buffer, room):
    line = yield from _line(buffer, room)
    match = _STATUS.match(line)
    if not match:
        raise Malformed(f"no HTTP/1 status line: {bytes(line[:80])!r}")
    size, fields, last = len(line), {}, None
    while True:
        line = yield from _line(buffer, room - size)
        size += len(line) + 2
        if not line:
            return int(match[1]), int(match[2]), fields, size
        if line[:1] in b" \t":
            if last is None:
                raise Malformed("a continued header without a first line")
            fields[last] += " " + _text(line)
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.match(name):
            raise Malformed(f"not a header: {bytes(line[:80])!r}")
        if b"\0" in value or b"\r" in value:
            raise Malformed(f"a header with NUL or CR in it: {bytes(line[:80])!r}")
        last = name.decode("ascii").lower()
        fields[last] = f"{fields[last]}, {_text(value)}" if last in fields else _text(value)


def _text(value):
    return value.strip(b" \t").decode("latin-1")


def _keeps(minor, fields):
    tokens = {token.strip().lower() for token in fields.get("connection", "").split(",")}
    return "keep-alive" in tokens if minor == 0 else "close" not in tokens


def _length(text):
    if not re.fullmatch("[0-9]{1,18}", text, re.ASCII):         # repeated ones ("4, 4") too: RFC 9110 8.6 allows to refuse them
        raise Malformed(f"Content-Length {text[:60]!r}")
    return int(text)


def _line(buffer, room):
    """A line without its end (CRLF, or a bare LF as RFC 9112 2.2 lets a reader accept)."""
    start = 0
    while True:
        end = buffer.find(b"\n", start)
        if end > room or (end < 0 and len(buffer) > room):
            raise Malformed("a head or a chunk line that is longer than allowed")
        if end >= 0:
            line = bytes(buffer[:end])
            del buffer[:end + 1]
            return line[:-1] if line.endswith(b"\r") else line
        start = len(buffer)
        more = yield
        if not more:
            raise Malformed(f"closed after {bytes(buffer[:80])!r}" if buffer else "closed before the end of its head")
        buffer += more


def _counted(buffer, length, cap):
    while len(buffer) < min(length, cap):
        more = yield
        if not more:
            return buffer, f"{len(buffer)} of {length} bytes came"
        buffer += more
    if length > cap:
        return buffer[:cap], f"longer than {cap} bytes"
    body = buffer[:length]
    del buffer[:length]
    return body, ""


def _rest(buffer, cap):
    while len(buffer) <= cap:
        more = yield
        if not more:
            return buffer, ""
        buffer += more
    return buffer[:cap], f"longer than {cap} bytes"


def _chunks(buffer, cap):
    body, overhead = bytearray(), 0
    while True:
        try:
            line = yield from _line(buffer, 1024)
            match = _SIZE.match(line)
            if not match:
                raise Malformed(f"chunk size {line[:40]!r}")
            size = int(match[1], 16)
            overhead += len(line) + 4
            if len(body) + size > cap or overhead > cap + HEAD_CAP:
                return body, f"longer than {cap} bytes"
            if size == 0:
                yield from _trailers(buffer)
                return body, ""
        except Malformed as trouble:
            if str(trouble).startswith("closed"):
                return body, "cut off between two chunks"
            raise
        while len(buffer) < size + 2:
            more = yield
            if not more:
                return body + buffer[:size], "cut off inside a chunk"
            buffer += more
        end = 2 if buffer[size:size + 2] == b"\r\n" else 1
        if buffer[size + end - 1:size + end] != b"\n":
            raise Malformed("a chunk that is longer than it says")
        body += buffer[:size]
        del buffer[:size + end]


def _trailers(buffer):
    room = 4096
    while True:
        line = yield from _line(buffer, room)
        room -= len(line) + 2
        if not line:
            return
