"""Asks a running instance, in the way balancers and drivers do, and says plainly what came back. No judgement here."""

import http.client
import re
import socket
import ssl
import threading
import time
from collections import namedtuple
from urllib.parse import quote, unquote, urlsplit

CAP = 65536                 # bytes of an answer that are read

Seen = namedtuple("Seen", "status headers body seconds")
Seen.__doc__ = """headers: lower-case names; body: bytes; seconds: from connecting to the last byte."""


class Probe:
    """One instance's heartbeat. Never follows a redirect, never decodes, never uses a proxy of the environment.

    :param url: http(s)://HOST[:PORT]/PATH of the heartbeat.
    :param timeout: seconds for a connection, and for all of its answer.
    :param ca_file: for https with a private CA.
    :param host: the Host header that it wants, and the name in its certificate; None: any will do.
    :raises ValueError: no such URL, host or CA file.
    """

    def __init__(self, url, token=None, timeout=5.0, ca_file=None, host=None):
        self.place, self.host = urlsplit(url), host
        if host is not None and not re.match(r"[A-Za-z0-9._-]+(:[0-9]+)?\Z|\[[0-9a-fA-F:.]+\](:[0-9]+)?\Z", host):
            raise ValueError("%r is no Host header: write a name such as shop.example" % host)
        if self.place.scheme not in ("http", "https") or not self.place.hostname or self.place.query:
            raise ValueError("%r is no URL of a heartbeat: write http://HOST:PORT/heartbeat" % url)
        if ca_file is not None and self.place.scheme != "https":
            raise ValueError("the CA file %s is for an https address, and %s is none" % (ca_file, url))
        self.address = unquote(self.place.hostname)     # RFC 6874 writes the zone of fe80::1%eth0 as %25eth0
        self.path, self.token, self.timeout = self.place.path or "/heartbeat", token, timeout
        try:
            self.tls = ssl.create_default_context(cafile=ca_file) if self.place.scheme == "https" else None
            self.place.port                             # parsed only when asked for
        except ValueError as error:
            raise ValueError("%r is no URL of a heartbeat: %s" % (url, error))
        except OSError as error:
            raise ValueError("the CA file %s cannot be read: %s" % (ca_file, error))

    def get(self, path=None, method="GET", host="", old=False, **headers):
        """:param host: the Host header if not the usual one, None for none. :param old: speak HTTP/1.0.
        :raises OSError, http.client.HTTPException:"""
        return self._ask(method, path or self.path, None, host, old, headers)

    def put(self, word, token=True, **headers):
        """:param token: True for the right one, None for none, else what to send instead."""
        if token:
            headers["Authorization"] = "Bearer %s" % (self.token if token is True else token)
        return self._ask("PUT", self.path, word.encode(), "", False, headers)

    def words(self, count):
        """The trimmed answers of `count` requests over connections of their own, in the order they came."""
        return [self.get().body.strip() for _ in range(count)]

    def at_once(self, calls):
        """Make calls in threads of their own; return their results, None for one without an answer."""
        results = [None] * len(calls)

        def run(index, call):
            try:
                results[index] = call()
            except (OSError, http.client.HTTPException):
                pass
        threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(4 * self.timeout)
        return results

    def _ask(self, method, path, body, host, old, headers):
        host = self.host or "heartbeat" if host == "" else host
        if self.tls:
            name = re.sub(r":[0-9]+\Z", "", self.host).strip("[]") if self.host else self.place.hostname
            connection = _Secure(self.address, self.place.port or 443, self.tls, name, self.timeout)
        else:
            connection = http.client.HTTPConnection(self.address, self.place.port or 80, timeout=self.timeout)
        if old:
            connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"
        began, cut = time.monotonic(), None
        try:
            connection.connect()
            cut = _Cut(connection.sock, self.timeout)
            connection.putrequest(method, quote(path, safe="/?%:@!$&'()*+,;=~[]"), skip_host=True, skip_accept_encoding=True)
            if host:
                connection.putheader("Host", host)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            try:
                answer = connection.getresponse()
                content, given = answer.read(CAP), {}
            except ValueError as error:                     # a chunk of a negative length
                raise http.client.HTTPException("what came is no HTTP: %s" % error)
            for name, value in answer.getheaders():         # a header that is there twice must not look like one
                given[name.lower()] = "%s, %s" % (given[name.lower()], value) if name.lower() in given else value
            cut.check()
            return Seen(answer.status, given, content, time.monotonic() - began)
        except (OSError, http.client.HTTPException, ValueError):
            if cut:
                cut.check()
            raise
        finally:
            if cut:
                cut.cancel()
            connection.close()


class _Cut(threading.Timer):
    """Ends an exchange in time: a socket's own time-out begins anew with each byte, so an answer that drips would never end."""

    def __init__(self, sock, limit):
        super().__init__(limit, self._end)
        self.sock, self.limit, self.done, self.daemon = sock, limit, False, True
        self.start()

    def _end(self):
        self.done = True
        try:
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        except OSError:
            pass

    def check(self):
        """:raises TimeoutError: it was cut off here."""
        if self.done:
            raise TimeoutError("no whole answer within %g s" % self.limit)


class _Secure(http.client.HTTPConnection):
    """HTTPS whose certificate has to bear another name than the one that is connected to."""

    def __init__(self, address, port, context, name, timeout):
        super().__init__(address, port, timeout=timeout)
        self._context, self._name = context, name

    def connect(self):
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)
