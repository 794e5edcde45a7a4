"""A bounded load on the LIVE balancer: reads only, on new and on kept connections, never retried, sent when due.

What is late does not hold up what comes after it (an open loop): a host that hangs costs its own requests and no others.
`run` prints a table for a person; the fault campaign keeps every request as a Sample.
"""

import asyncio
import collections
import os
import threading
import time
from dataclasses import dataclass

from bgdeploy import errors
from bgdeploy.outside import served
from bgdeploy.outside.http1 import Malformed, reading

MOST_SECONDS, MOST_RATE = 3600, 2000
OPEN = 512                  # requests under way; more are not sent, and count as failed
PATIENCE = 5.0              # seconds after which a client gives up


@dataclass(frozen=True)
class Sample:
    """One request and what became of it. Times are seconds since the epoch, by a clock that never goes back.

    :param what: "" if it was answered, else how it failed. :param host, version: who answered, as the answer says.
    """

    begin: float
    end: float
    node: str
    component: str
    kept: bool
    what: str = ""
    host: str = ""
    version: str = ""


class Load:
    """start(), stop(); `samples` grows meanwhile. The thread that calls start has to be in the lab's network.

    :param rate: requests a second, spread over all components and nodes of LIVE, every second one on a kept connection.
    :param patience: seconds after which a request counts as failed.
    """

    def __init__(self, site, rate, patience=PATIENCE):
        self.samples = []
        self._rate, self._patience, self._over = rate, patience, threading.Event()
        self._targets = [(keep, component.name, node.name, node.address, site.live.port(component.name), _path(component),
                          site.live.host_header or node.address)
                         for keep in (False, True) for component in site.components for node in site.live.nodes
                         if site.live.port(component.name)]
        self._idle, self._under_way, self._thread = collections.defaultdict(list), set(), None
        self._zero = time.time() - time.monotonic()

    def start(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), name="load", daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """Ends it, waits for requests under way, and returns the samples."""
        self._over.set()
        self._thread.join(self._patience + 5)
        return self.samples

    def aside(self, component, node, path, patience):
        """One more request, of another path: a long one, say. Its Sample comes to the returned list."""
        target = next(t for t in self._targets if not t[0] and t[1:3] == (component, node))
        found = []
        self._loop.call_soon_threadsafe(self._begin, (*target[:5], path, target[6]), found, patience)
        return found

    def now(self):
        return self._zero + time.monotonic()

    async def _send(self):
        self._loop = asyncio.get_running_loop()
        due, turn = time.monotonic(), 0
        while not self._over.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._begin(self._targets[turn % len(self._targets)], self.samples, self._patience)
            turn += 1
            due = max(due + 1 / self._rate, time.monotonic() - 1)       # a machine that stood still need not catch up
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._patience + 1)
        for writers in self._idle.values():
            for _, writer in writers:
                writer.close()

    def _begin(self, target, samples, patience):
        if len(self._under_way) >= OPEN:
            now = self.now()
            samples.append(Sample(now, now, target[2], target[1], target[0], "not sent: too many are under way"))
            return
        task = self._loop.create_task(self._one(target, samples, patience))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _one(self, target, samples, patience):
        keep, component, node, address, port, path, header = target
        begin, what, came, writer = self.now(), "", None, None
        try:
            async with asyncio.timeout(patience):
                reader, writer = self._kept(target) if keep else (None, None)
                if writer is None:
                    reader, writer = await asyncio.open_connection(address, port)
                close = "" if keep else "Connection: close\r\n"
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {header}\r\n{close}\r\n".encode())
                came = await answer_of(reader)
        except TimeoutError:
            what = f"no answer within {patience:g} s"
        except OSError as error:
            what = os.strerror(error.errno).lower() if error.errno else "the connection was lost"
        except Malformed as error:
            what = "closed without an answer" if "closed" in str(error) else "not HTTP"
        if came is not None and (came.status >= 400 or not came.whole):
            what = f"status {came.status}" if came.status >= 400 else came.flaw
        said = came.headers if came else {}
        samples.append(Sample(begin, self.now(), node, component, keep, what, said.get(served.SERVED_BY, ""),
                              said.get(served.VERSION, "")))
        if writer is not None:
            if keep and came is not None and came.keep:
                self._idle[target].append((reader, writer))
            else:
                writer.transport.abort() if what else writer.close()

    def _kept(self, target):
        """An idle kept connection; one that the other side closed meanwhile is dropped, as any client does."""
        while self._idle[target]:
            reader, writer = self._idle[target].pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None, None


async def answer_of(reader):
    """The http1.Came that a StreamReader brings. :raises Malformed, OSError: it brings none."""
    parser = reading("GET", 1 << 20)
    next(parser)
    while True:
        piece = await reader.read(65536)
        try:
            parser.send(piece)
        except StopIteration as end:
            return end.value


def run(site, seconds, rate, say=print):
    """Send rate requests a second for so many seconds, then print a table. The calling process has to be in the lab's network.

    :returns: {"requests", "failed", "longest_gap_ms", "p50_ms", "p99_ms"} over everything.
    :raises errors.BadInput: more than this machine should be asked for, or nothing.
    """
    if not 0 < seconds <= MOST_SECONDS or not 0 < rate <= MOST_RATE:
        raise errors.BadInput(f"a load of {rate} a second for {seconds} s: give 1 to {MOST_RATE} a second, 1 to {MOST_SECONDS} s")
    load = Load(site, rate)
    load.start()
    time.sleep(seconds)
    return _table(load.stop(), say)


def _path(component):
    return component.sanity[0].path if component.sanity else component.heartbeat.path


def longest_gap(samples):
    """The longest time in seconds without a good answer of a component, through any node; what is begun and what is
    over at the edges counts."""
    if not samples:
        return 0.0
    first, last = min(s.begin for s in samples), max(s.begin for s in samples)
    gap = 0.0
    for name in {s.component for s in samples}:
        good = sorted(s.end for s in samples if s.component == name and not s.what)
        moments = [first, *good, max(last, good[-1] if good else last)]
        gap = max([gap, *(later - earlier for earlier, later in zip(moments, moments[1:]))])
    return gap


def figures(samples):
    spent = sorted(s.end - s.begin for s in samples if not s.what)
    at = (lambda share: round(1000 * spent[int(share * (len(spent) - 1))], 1)) if spent else (lambda share: None)
    return {"requests": len(samples), "failed": sum(bool(s.what) for s in samples),
            "longest_gap_ms": round(1000 * longest_gap(samples)), "p50_ms": at(0.5), "p99_ms": at(0.99)}


def _table(samples, say):
    say(f"{'component':10} {'node':10} {'requests':>8} {'failed':>7} {'gap ms':>7} {'p50 ms':>7} {'p99 ms':>7}  served by")
    for component, node in dict.fromkeys((s.component, s.node) for s in samples):
        some = [s for s in samples if (s.component, s.node) == (component, node)]
        row, who = figures(some), collections.Counter((s.host or "?", s.version or "?") for s in some if not s.what)
        said = ", ".join(f"{host} {version} {number}" for (host, version), number in sorted(who.items()))
        flaws = collections.Counter(s.what for s in some if s.what).most_common(3)
        failed = ", ".join(f"{what} {number}" for what, number in flaws)
        say(f"{component:10} {node:10} {row['requests']:8} {row['failed']:7} {row['longest_gap_ms']:7} {row['p50_ms'] or '-':>7} "
            f"{row['p99_ms'] or '-':>7}  {said or 'nobody'}" + (f"; failed: {failed}" if failed else ""))
    return figures(samples)
