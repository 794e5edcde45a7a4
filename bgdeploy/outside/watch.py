"""Samples LIVE during a run, and STANDBY a little, as evidence for the report. Never an input to what is decided.

GET only, on new and on kept connections in turn, never retried: what a client without patience would have seen.
One thread and one selector, because the two cores of a small controller are shared with everything else; measured at
300 requests a second: see docs/balancers.md.
"""

import selectors
import threading
import time

from bgdeploy.clean import clean
from bgdeploy.errors import Trouble
from bgdeploy.model import LIVE, NO
from bgdeploy.outside.availability import Availability
from bgdeploy.outside.http1 import Malformed
from bgdeploy.outside.probes import Probe, Stream, what_failed

LIMIT = 5.0                 # seconds a request may take
OPEN = 128                  # requests under way; more are not begun (they would only measure ourselves)
STANDBY_RATE = 2.0
JOIN = 5.0                  # seconds that stop() waits for the thread


class Watch:
    """start(), snapshot(), stop(). Nothing that happens in the thread is ever raised to the caller.

    :param site: site.Site; its watch_rate is LIVE's requests a second (0: nothing is sent).
    :param limit: seconds after which a request counts as failed.
    """

    def __init__(self, site, limit=LIMIT):
        self._site, self._limit, self._lock, self._over = site, limit, threading.Lock(), threading.Event()
        self._thread, self._cpu, self._skipped, self._trouble = None, 0.0, 0, ""
        self._tallies, self._out = {}, {}

    def expect_out(self, hosts):
        """From now on LIVE should not send requests to these hosts (names): all of its nodes have let them go.

        What they answer through LIVE to a request begun after this call is counted under `strays`, by node and with the
        times: a balancer that was reloaded without its server states sends some (docs/balancers.md). Each call replaces the last.
        """
        now = time.monotonic()
        self._out = {host: self._out.get(host, now) for host in hosts}

    def looked(self, seen):
        """Take from a look (model.Seen) which hosts every node of LIVE has let go; returns the same Seen.

        One that says live is on its way in, however long a node has not noticed.
        """
        self.expect_out([h.name for h in seen.hosts
                         if h.components and all(c.live_pool == NO and c.heartbeat != LIVE for c in h.components)])
        return seen

    def doing(self, do):
        """Hosts that an act (model.Do) puts live are to be served from now on, before a look can show it; returns the same Do."""
        if do.step == "live":
            self.expect_out([host for host in self._out if host not in do.hosts])
        return do

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
            self._thread.join(JOIN)
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
        streams = [Stream(self._site, self._site.live, "live", self._site.watch_rate, began),
                   Stream(self._site, self._site.standby, "standby", min(STANDBY_RATE, self._site.watch_rate), began)]
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
        probe = Probe(stream, target, now)
        self._probes[probe] = None
        try:
            probe.open()
            self._selector.register(probe.sock, selectors.EVENT_WRITE, probe)
        except (OSError, ValueError, Trouble) as trouble:
            self._end(probe, what=what_failed(trouble))

    def _step(self, probe):
        try:
            came = probe.step(self._selector)
        except (OSError, ValueError, Malformed, Trouble) as trouble:
            self._end(probe, what=what_failed(trouble))
            return
        if came is not None:
            self._end(probe, came)

    def _sweep(self, now):
        for probe in [p for p in self._probes if now - p.began > self._limit]:
            self._end(probe, what=f"no whole answer within {self._limit:g} s")

    def _end(self, probe, came=None, what=""):
        now, tally = time.monotonic(), self._tallies[probe.stream.name]
        if came is not None and came.status >= 500:
            what = f"status {came.status}"
        elif came is not None and not came.whole and not came.flaw.startswith("longer"):
            what = came.flaw
        host, answered_by = probe.named(came)
        with self._lock:
            if probe.began > self._out.get(host, now) and probe.stream.name == "live":
                tally.stray(time.time(), probe.component, probe.node.name, host)
            if what == "status 503" and probe.stream.name == "standby":
                tally.empty()
            elif what:
                tally.failure(time.time(), probe.component, probe.node.name, what)
            else:
                tally.success(now, probe.component, now - probe.began, answered_by)
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
