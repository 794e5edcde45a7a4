"""One HTTP exchange: a request out, one capped answer in. The library of the HTTP ports; it knows no component and no rule.

Each exchange has its own connection, ends within its limit whatever the other side does, follows no redirect, decodes
nothing, and looks at no proxy variable, no netrc file and no cookie. Why a new connection each time: a kept one may lead
to a process that is on its way out (a worker that finishes what it has), and a look asks who answers *now*.
"""

import ipaddress
import os
import queue
import re
import socket
import ssl
import threading
import time
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote

from bgdeploy.clean import hide
from bgdeploy.errors import BadInput
from bgdeploy.outside.http1 import Malformed, reading

CAP = 64 * 1024
HANDSHAKE = "did not finish the TLS handshake"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


class Lost(Exception):
    """No whole answer came.

    :param why: a sentence without subject ("refused the connection"); raw text of the other side may be in it.
    :param sent: whether the other side may have got the request. False: it certainly was not acted on.
    :param empty: the connection ended before the first byte of an answer (an app that was just restarting).
    """

    def __init__(self, why, sent=False, empty=False):
        super().__init__(why)
        self.why, self.sent, self.empty = why, sent, empty


def ask(address, port, path, *, method="GET", headers=(), body=None, scheme="http", host_header=None, ca_file=None,
        limit=3.0, cap=CAP, tunnel=None):
    """Send one request and return the `http1.Came`.

    A GET or HEAD whose connection ended before the first byte is tried once more, within the same limit; anything else never.

    :param limit: seconds for all of it: name, connection, TLS, request, the last byte; the time in `tunnel` not counted.
    :param tunnel: a callable (address, port) that returns a connected socket-like object (an SSH channel), or None.
    :raises Lost: refused, reset, too slow, not HTTP, a certificate that does not fit. Never anything else for what the
        other side does; an unreadable ca_file is BadInput; what `tunnel` raises goes through.
    """
    deadline = time.monotonic() + limit
    request = compose(method, path, headers, body, host_header or authority(address, port, scheme))
    name = server_name(host_header, address)
    context = tls(ca_file, _stamp(ca_file)) if scheme == "https" else None
    for last in (method not in ("GET", "HEAD"), True):
        try:
            return _once(address, port, request, method, cap, deadline, limit, context, name, tunnel)
        except Lost as lost:
            if last or not lost.empty:
                raise


def authority(address, port, scheme="http"):
    """What a Host header says of this address: IPv6 in brackets, the scheme's own port left out."""
    bare = address.strip("[]")
    name = f"[{bare}]" if ":" in bare else bare
    return name if port == {"http": 80, "https": 443}.get(scheme) else f"{name}:{port}"


def server_name(host_header, address):
    """The name that the other side's certificate has to bear: the Host header's without its port, else the address. Without the
    root's dot, which certificates never have."""
    if not host_header:
        return address.strip("[]").rstrip(".")
    return host_header.partition("]")[0][1:] if host_header.startswith("[") else host_header.partition(":")[0].rstrip(".")


def compose(method, path, headers, body, host, keep=False):
    """The bytes of a request. :raises BadInput: for a method, header or path that cannot be sent as it is."""
    body = body.encode() if isinstance(body, str) else body
    lines = [("Host", host), ("Accept-Encoding", "identity"), ("User-Agent", "bgdeploy"), ("Accept", "*/*"),
             ("Connection", "keep-alive" if keep else "close")]
    named = {name.lower() for name, _ in headers}
    lines = [pair for pair in lines if pair[0].lower() not in named] + list(headers)
    if body is not None or method in ("PUT", "POST", "PATCH"):      # RFC 9110 8.6: servers answer 411 to such a one without
        lines.append(("Content-Length", str(len(body or b""))))
    for name, value in lines:
        if not _TOKEN.match(name) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise BadInput(f"the header {name!r} has a character that no header may have; correct it in the inventory")
    if not _TOKEN.match(method) or not path.startswith("/") or re.search(r"[\x00-\x1f\x7f]", path):
        raise BadInput(f"{method} {path!r} is not a request; a path begins with / in the inventory")
    target = quote(path, safe="%/:=&?~+!$,;'@()*[]")
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    return head.encode("utf-8") + (body or b"")


def reveal(secret, what):
    """The text of a site.Secret. :raises BadInput: not set, unreadable, empty, or not fit for a header; never shows it."""
    if secret.env:
        text, where = os.environ.get(secret.env), f"the environment variable {secret.env}"
    else:
        where = f"the file {secret.file}"
        try:
            with open(secret.file, encoding="utf-8", errors="replace") as file:
                text = file.read(4096)
        except OSError as trouble:
            raise BadInput(f"{what}: {where} cannot be read ({trouble.strerror}); write it, or name another") from None
    text = (text or "").strip()
    if not text:
        raise BadInput(f"{what}: {where} is empty or not set; put it there")
    if not re.fullmatch(r"[\x20-\x7e]+", text):
        raise BadInput(f"{what}: {where} holds characters that no header may have; one line of plain ASCII is expected")
    hide(text)
    return text


def _stamp(path):
    try:
        return os.stat(path).st_mtime_ns if path else None
    except OSError as trouble:
        raise BadInput(f"ca_file {path} cannot be read ({trouble.strerror}); correct it in the inventory") from None


@lru_cache(maxsize=16)
def tls(ca_file, stamp=None):
    """A TLS context that trusts ca_file only, or the system's authorities. :param stamp: the file's mtime: a new one counts."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as trouble:
        raise BadInput(f"ca_file {ca_file} holds no certificate that can be read ({trouble}); PEM is expected") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _once(address, port, request, method, cap, deadline, limit, context, name, tunnel):
    line, sent, first, began, stage = None, False, b"", time.monotonic(), "did not take the connection"
    try:
        sock = tunnel(address, port) if tunnel else connect(address, port, deadline)
        if tunnel:      # logging in at the host has a limit of its own
            deadline += time.monotonic() - began
        line = Line(sock, deadline)
        if context:
            stage = HANDSHAKE
            line = Tls(line, context, name)
        sent, stage = True, "gave no whole answer"
        _send(line, request)
        answer = reading(method, cap)
        next(answer)
        while True:
            piece = line.recv(16384)
            if not piece and not first:
                raise Lost("closed the connection without an answer", sent=True, empty=True)
            first = first or piece
            answer.send(piece)
    except StopIteration as end:
        return replace(end.value, seconds=time.monotonic() - began)
    except Malformed as trouble:
        if first[:2] == b"\x15\x03":        # a TLS alert, the answer of many servers to a request in plain text
            raise Lost("answered in TLS: write scheme: https in the inventory", sent=True) from None
        raise Lost(f"answered what is not HTTP: {trouble}", sent=True) from None
    except ssl.SSLError as trouble:
        raise Lost(_tls_why(trouble), sent) from None
    except socket.gaierror as trouble:
        raise Lost(f"has no address: {trouble.strerror}") from None
    except (TimeoutError, socket.timeout):      # one and the same only from Python 3.10 on
        raise Lost(f"{stage} within {limit:g} s" + (f"; {_PLAIN}" if stage == HANDSHAKE else ""), sent) from None
    except ValueError as trouble:       # a name that TLS cannot ask for
        raise Lost(f"cannot be asked for as {name!r}: {trouble}", sent) from None
    except (OSError, EOFError) as trouble:
        why = os.strerror(trouble.errno).lower() if getattr(trouble, "errno", None) else str(trouble) or "connection lost"
        raise Lost(why, sent, empty=sent and not first) from None
    finally:
        if line is not None:
            line.close()


def _send(line, request):
    """Send; a peer that answers early and closes (401 before the body) breaks the pipe, and its answer still counts."""
    try:
        line.sendall(request)
    except (BrokenPipeError, ConnectionResetError):
        pass


def _tls_why(trouble):
    """What is wrong, and the cure where the library's code leaves no doubt. X509_V_ERR numbers are OpenSSL's (x509_vfy.h)."""
    if isinstance(trouble, ssl.SSLCertVerificationError):
        cure = {9: "set the clocks", 10: "renew it", 62: _NAME, 64: _NAME, **dict.fromkeys((2, 18, 19, 20, 21), _AUTHORITY)}.get(
            trouble.verify_code, "compare ca_file and host_header in the inventory with it")
        return f"shows a certificate that does not fit: {trouble.verify_message.rstrip('.')}; {cure}"
    reason = str(trouble.reason or trouble)
    return f"TLS failed: {reason}" + next((f"; {cure}" for part, cure in _TLS_CURES if part in reason), "")


_AUTHORITY = "name the authority that signed it (ca_file in the inventory)"
_NAME = "name what it bears (host_header in the inventory)"
_PLAIN = "if that port speaks no TLS, write scheme: http in the inventory"
_OLD = "it speaks only TLS older than 1.2: renew what serves it"
_TLS_CURES = (("WRONG_VERSION_NUMBER", _PLAIN), ("UNSUPPORTED_PROTOCOL", _OLD), ("PROTOCOL_VERSION", _OLD),
              ("legacy sigalg", _OLD),
              ("CERTIFICATE_REQUIRED", "it wants a certificate from who asks, and bgdeploy has none: let it do without"),
              ("HANDSHAKE_FAILURE", "it may want a certificate from who asks, and bgdeploy has none"))


def connect(address, port, deadline):
    """A TCP connection before the deadline (time.monotonic), to the first of the name's addresses that takes it.

    Each address gets its share of the time: one that swallows packets must not use up what the next one needs.
    """
    trouble, found = None, _resolve(address.strip("[]"), port, deadline)
    for nth, (family, kind, protocol, _, where) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_left(deadline) / (len(found) - nth))
            sock.connect(where)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as this:
            sock.close()
            trouble = this
    raise trouble


def _resolve(address, port, deadline):
    """getaddrinfo has no time limit of its own (a dead name server: 10 s and more), so a name is looked up aside."""
    try:
        ipaddress.ip_address(address.partition("%")[0])
        return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except ValueError:
        pass
    found = queue.Queue()

    def look_up():
        try:
            found.put(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as trouble:
            found.put(trouble)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        answer = found.get(timeout=_left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, UnicodeError):
        raise socket.gaierror(socket.EAI_NONAME, "not a host name")
    if isinstance(answer, Exception):
        raise answer
    return answer


def _left(deadline):
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class Line:
    """A socket or an SSH channel on which no operation outlasts one deadline."""

    def __init__(self, sock, deadline):
        self._sock, self._deadline = sock, deadline

    def recv(self, size):
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv(size)

    def sendall(self, content):
        self._sock.settimeout(_left(self._deadline))
        self._sock.sendall(content)

    def close(self):
        self._sock.close()


class Tls:
    """TLS on a Line. By memory buffers and not wrap_socket, because an SSH channel is no socket to the TLS library."""

    def __init__(self, line, context, name):
        self._line, self._in, self._out = line, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        try:
            self._pump(self._tls.do_handshake)
        except BaseException:
            line.close()
            raise

    def recv(self, size):
        try:
            return self._pump(lambda: self._tls.read(size))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""          # many servers close without a goodbye; the answer's own length says if it is whole

    def sendall(self, content):
        while content:
            content = content[self._pump(lambda: self._tls.write(content)):]

    def close(self):
        self._line.close()

    def _pump(self, step):
        while True:
            try:
                done = step()
                self._flush()
                return done
            except ssl.SSLWantReadError:
                self._flush()
                piece = self._line.recv(16384)
                self._in.write(piece) if piece else self._in.write_eof()

    def _flush(self):
        if self._out.pending:
            self._line.sendall(self._out.read())
