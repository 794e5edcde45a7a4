"""The watcher's requests: when the next one is due, and one request under way, without ever waiting for it."""

import errno
import os
import selectors
import socket
import ssl
import time
from collections import deque
from functools import lru_cache
from itertools import cycle, product

from bgdeploy.clean import clean
from bgdeploy.outside import served
from bgdeploy.outside.exchange import authority, compose, server_name, tls
from bgdeploy.outside.http1 import Malformed, reading

ADDRESS = 30.0              # seconds for which a looked up address is kept
CAP = 1 << 20               # bytes of an answer that are read


class Stream:
    """The requests to one balancer: when the next is due, and to whom. Late ones are not made up for."""

    def __init__(self, site, balancer, name, rate, began):
        self.balancer, self.name, self.due, self._every = balancer, name, began, 1.0 / rate
        self.names = tuple(host.name for host in site.hosts)
        self.kept, self._idle, self._addresses, self._requests, self._context = set(), {}, {}, {}, None
        parts = [c for c in site.components if balancer.port(c.name)]
        self._paths = {c.name: c.sanity[0].path if c.sanity else "/" for c in parts}
        # node by node within a kind: a prime-free order, so that every pair (node, component) gets new and kept ones
        self._turns = cycle([(keep, node, c.name) for keep, c, node in product((False, True), parts, balancer.nodes)])
        if not parts or not balancer.nodes:
            self.due = float("inf")

    def next(self, now):
        self.due = max(self.due + self._every, now - self._every)
        return next(self._turns)

    def request(self, target):
        """The bytes to send; the same every time."""
        if target not in self._requests:
            keep, node, component = target
            host = self.balancer.host_header or authority(node.address, self.balancer.port(component), self.balancer.scheme)
            self._requests[target] = compose("GET", self._paths[component], (), None, host, keep=keep)
        return self._requests[target]

    def take(self, key):
        """An idle kept connection, or None. One that the other side closed meanwhile is dropped, as any client does."""
        waiting = self._idle.get(key)
        while waiting:
            sock = waiting.popleft()
            self.kept.discard(sock)
            try:
                sock.recv(1)
            except (BlockingIOError, ssl.SSLWantReadError):
                return sock
            except OSError:
                pass
            sock.close()
        return None

    def idle(self, probe):
        self.kept.add(probe.sock)
        self._idle.setdefault(probe.key, deque()).append(probe.sock)

    def context(self):
        if self._context is None:
            self._context = tls(self.balancer.ca_file)
        return self._context

    def address(self, node, port):
        """(family, where) of a node, looked up at most twice a minute; the old one as long as no new one is found."""
        until, found = self._addresses.get((node.name, port), (0.0, None))
        if time.monotonic() > until:
            try:
                family, _, _, _, where = socket.getaddrinfo(node.address.strip("[]"), port, type=socket.SOCK_STREAM)[0]
                found = family, where
            except OSError:
                if found is None:
                    raise
            self._addresses[node.name, port] = (time.monotonic() + ADDRESS, found)
        return found


class Probe:
    """One request under way."""

    def __init__(self, stream, target, began):
        self.keep, self.node, self.component = target
        self.stream, self.began, self.sock = stream, began, None
        self.key = (self.node.name, self.component)
        self._out = stream.request(target)
        self._answer, self._begun, self._secure = reading("GET", CAP), False, stream.balancer.scheme == "https"
        next(self._answer)

    def open(self):
        self.sock = self.stream.take(self.key) if self.keep else None
        if self.sock is not None:
            self._secure = False        # the handshake is behind it
            return
        balancer = self.stream.balancer
        family, where = self.stream.address(self.node, balancer.port(self.component))
        sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock = sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trouble = sock.connect_ex(where)
        if trouble not in (0, errno.EINPROGRESS):
            raise OSError(trouble, "")

    def step(self, selector):
        """Go on as far as it goes without waiting. :returns: the http1.Came once it is whole, else None."""
        try:
            if self._out:
                self._write(selector)
            while not self._out:
                piece = self.sock.recv(65536)
                if not piece and not self._begun:
                    raise OSError(0, "closed without an answer")
                self._begun = True
                self._answer.send(piece)
        except StopIteration as end:
            return end.value
        except ssl.SSLWantWriteError:
            selector.modify(self.sock, selectors.EVENT_WRITE, self)
        except (BlockingIOError, ssl.SSLWantReadError):
            selector.modify(self.sock, selectors.EVENT_READ, self)
        return None

    def named(self, came):
        """(host, "COMPONENT HOST VERSION") as the answer names them, or ("", "")."""
        said = came.headers.get(served.SERVED_BY) if came else None
        return _named(self.component, said, came.headers.get(served.VERSION, ""), self.stream.names) if said else ("", "")

    def _write(self, selector):
        trouble = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if trouble:
            raise OSError(trouble, "")
        if self._secure:
            if not isinstance(self.sock, ssl.SSLSocket):        # possible only once it is connected
                selector.unregister(self.sock)
                name = server_name(self.stream.balancer.host_header, self.node.address)
                self.sock = self.stream.context().wrap_socket(self.sock, server_hostname=name, do_handshake_on_connect=False)
                selector.register(self.sock, selectors.EVENT_WRITE, self)
            self.sock.do_handshake()
            self._secure = False
        self._out = self._out[self.sock.send(self._out):]


@lru_cache(maxsize=1024)
def _named(component, said, version, names):
    host = served.host(said, names)
    return host, clean(f"{component} {host} {version}".strip(), 160)


def what_failed(trouble):
    """A failure's kind, without what varies from one to the next."""
    if isinstance(trouble, Malformed):
        return "not HTTP" if not str(trouble).startswith("closed") else "closed in the middle of its head"
    if isinstance(trouble, ssl.SSLError):
        return f"TLS: {trouble.reason or 'failed'}"
    if isinstance(trouble, socket.gaierror):
        return "no address"
    if isinstance(trouble, OSError):
        return os.strerror(trouble.errno).lower() if trouble.errno else (trouble.strerror or "connection lost")
    return clean(str(trouble), 120)
