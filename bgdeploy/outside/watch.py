"""Samples LIVE during a run, and STANDBY a little, as evidence for the report. Never an input to what is decided.

GET only, on new and on kept connections in turn, never retried: what a client without patience would have seen.
One thread and one selector, because the two cores of a small controller are shared with everything else; measured at
300 requests a second: see docs/balancers.md.
"""

import errno
import os
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from itertools import cycle, product

from bgdeploy.clean import clean
from bgdeploy.errors import Trouble
from bgdeploy.outside.availability import Availability
from bgdeploy.outside.exchange import authority, compose, server_name, tls
from bgdeploy.outside.http1 import Malformed, reading

LIMIT = 5.0                 # seconds after which a request counts as failed
OPEN = 128                  # requests under way; more are not begun (they would only measure ourselves)
STANDBY_RATE = 2.0
ADDRESS = 30.0              # seconds for which a looked up address is kept
CAP = 1 << 20


class Watch:
    """start(), snapshot(), stop(). Nothing that happens in the thread is ever raised to the caller.

    :param site: site.Site; its watch_rate is LIVE's requests a second (0: nothing is sent).
    """

    def __init__(self, site):
        self._site, self._lock, self._over = site, threading.Lock(), threading.Event()
        self._thread, self._cpu, self._skipped, self._trouble = None, 0.0, 0, ""
        self._tallies = {}

    def start(self):
        """Begin to sample; returns self. A second call does nothing."""
        if self._thread is None:
            began, names = time.monotonic(), [c.name for c in self._site.components]
            self._tallies = {b: Availability(names, began) for b in ("live", "standby")}
            self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
            self._thread.start()
        return self

    def stop(self):
        """End it and return the availability; within about a second, whatever hangs."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(LIMIT)
        return self.snapshot()

    def snapshot(self):
        """The contract's `availability` so far: LIVE's numbers, and both balancers' under "balancers"."""
        now = time.monotonic()
        with self._lock:
            balancers = {name: tally.summary(now) for name, tally in self._tallies.items()}
        live = balancers.get("live") or Availability((), now).summary(now)
        keys = ("requests", "failed", "longest_gap_ms", "p50_ms", "p99_ms")
        return {**{key: live[key] for key in keys}, "balancers": balancers,
                "watcher": {"cpu_seconds": round(self._cpu, 3), "skipped": self._skipped, "trouble": self._trouble}}

    def _run(self):
        try:
            if self._site.watch_rate > 0:
                self._sample()
        except Exception as trouble:        # evidence is lost, the deployment is not: told in the report
            self._trouble = clean(f"{type(trouble).__name__}: {trouble}", 200)

    def _sample(self):
        began, self._selector, self._probes = time.monotonic(), selectors.DefaultSelector(), {}
        streams = [_Stream(self._site, self._site.live, "live", self._site.watch_rate, began),
                   _Stream(self._site, self._site.standby, "standby", min(STANDBY_RATE, self._site.watch_rate), began)]
        swept = began
        try:
            while not self._over.is_set():
                now = time.monotonic()
                for stream in streams:
                    if now >= stream.due:
                        self._begin(stream, now)
                if now - swept > 0.25:
                    swept = now
                    self._sweep(now)
                    self._cpu = time.thread_time()
                pause = max(0.0, min(0.25, min(stream.due for stream in streams) - time.monotonic()))
                for key, _ in self._selector.select(pause):
                    self._step(key.data)
        finally:
            for probe in list(self._probes):
                self._close(probe)
            for stream in streams:
                for sock in stream.kept:
                    sock.close()
            self._selector.close()
            self._cpu = time.thread_time()

    def _begin(self, stream, now):
        target = stream.next(now)
        if len(self._probes) >= OPEN:
            self._skipped += 1
            return
        probe = _Probe(stream, target, now)
        self._probes[probe] = None
        try:
            probe.open()
            self._selector.register(probe.sock, selectors.EVENT_WRITE, probe)
        except (OSError, ValueError, Trouble) as trouble:
            self._end(probe, what=_what(trouble))

    def _step(self, probe):
        try:
            came = probe.step(self._selector)
        except (OSError, ValueError, Malformed) as trouble:
            self._end(probe, what=_what(trouble))
            return
        if came is not None:
            self._end(probe, came)

    def _sweep(self, now):
        for probe in [p for p in self._probes if now - p.began > LIMIT]:
            self._end(probe, what=f"no whole answer within {LIMIT:g} s")

    def _end(self, probe, came=None, what=""):
        now, tally = time.monotonic(), self._tallies[probe.stream.name]
        if came is not None and came.status >= 500:
            what = f"status {came.status}"
        elif came is not None and not came.whole and not came.flaw.startswith("longer"):
            what = came.flaw
        with self._lock:
            if what == "status 503" and probe.stream.name == "standby":
                tally.empty()
            elif what:
                tally.failure(time.time(), probe.component, probe.node.name, what)
            else:
                tally.success(now, probe.component, now - probe.began, _answered(probe, came))
        self._close(probe, keep=came is not None and came.keep and probe.keep)

    def _close(self, probe, keep=False):
        self._probes.pop(probe, None)
        if probe.sock is None:
            return
        try:
            self._selector.unregister(probe.sock)
        except (KeyError, ValueError):
            pass
        if keep:
            probe.stream.idle(probe)
        else:
            probe.sock.close()


class _Stream:
    """The requests to one balancer: when the next is due, and to whom. Late ones are not made up for."""

    def __init__(self, site, balancer, name, rate, began):
        self.balancer, self.name, self.due, self._every = balancer, name, began, 1.0 / rate
        self.kept, self._idle, self._addresses = set(), {}, {}
        parts = [c for c in site.components if balancer.port(c.name)]
        self.paths = {c.name: c.sanity[0].path if c.sanity else "/" for c in parts}
        # node by node within a kind: a prime-free order, so that every pair (node, component) gets new and kept ones
        self._turns = cycle([(keep, node, c.name) for keep, c, node in product((False, True), parts, balancer.nodes)])
        if not parts or not balancer.nodes:
            self.due = float("inf")

    def next(self, now):
        self.due = max(self.due + self._every, now - self._every)
        return next(self._turns)

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


class _Probe:
    """One request under way."""

    def __init__(self, stream, target, began):
        self.keep, self.node, self.component = target
        self.stream, self.began, self.sock = stream, began, None
        self.key = (self.node.name, self.component)
        balancer = stream.balancer
        port = balancer.port(self.component)
        host = balancer.host_header or authority(self.node.address, port, balancer.scheme)
        self._out = compose("GET", stream.paths[self.component], (), None, host, keep=self.keep)
        self._answer, self._begun, self._secure = reading("GET", CAP), False, balancer.scheme == "https"
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

    def _write(self, selector):
        trouble = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if trouble:
            raise OSError(trouble, "")
        if self._secure:
            if not isinstance(self.sock, ssl.SSLSocket):        # possible only once it is connected
                selector.unregister(self.sock)
                name = server_name(self.stream.balancer.host_header, self.node.address)
                self.sock = tls(None).wrap_socket(self.sock, server_hostname=name, do_handshake_on_connect=False)
                selector.register(self.sock, selectors.EVENT_WRITE, self)
            self.sock.do_handshake()
            self._secure = False
        self._out = self._out[self.sock.send(self._out):]


def _answered(probe, came):
    host = came.headers.get("x-served-by")
    return clean(f"{probe.component} {host} {came.headers.get('x-version', '')}".strip(), 120) if host else ""


def _what(trouble):
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
