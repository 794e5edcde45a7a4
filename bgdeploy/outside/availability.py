"""What a series of requests says about one balancer: counts, the longest hole, latencies. Pure; its memory is bounded."""

import math
from collections import Counter

STEP = 1.02                 # a latency is kept to within 2 %
KINDS = 200                 # different failures, and different answering instances, that are told apart


class Availability:
    """A tally of one balancer's answers. All times are seconds by one monotonic clock, but for `clock` (since the epoch)."""

    def __init__(self, components, began):
        self.requests = self.failed = self.no_instance = 0
        self._last, self._gap = {name: began for name in components}, 0.0
        self._slots, self._failures, self._strays, self._answers = Counter(), {}, {}, Counter()

    def success(self, at, component, seconds, answered_by=""):
        """:param answered_by: "COMPONENT HOST VERSION", as the answer names them; "" if it does not."""
        self.requests += 1
        self._gap = max(self._gap, at - self._last.get(component, at))
        self._last[component] = at
        self._slots[round(math.log(max(seconds, 1e-5)) / math.log(STEP))] += 1
        if answered_by and (answered_by in self._answers or len(self._answers) < KINDS):
            self._answers[answered_by] += 1

    def failure(self, clock, component, node, what):
        self.requests += 1
        self.failed += 1
        _count(self._failures, (node, component, what), clock)

    def stray(self, clock, component, node, host):
        """An answer of an instance that this balancer had let go (counted besides, whatever it was)."""
        _count(self._strays, (node, component, host), clock)

    def empty(self):
        """The balancer itself says that nobody is in its pool."""
        self.requests += 1
        self.no_instance += 1

    def summary(self, now):
        """The contract's keys; `longest_gap_ms` is between two successes of one component (through any node), the running
        one included. Also which instances answered, and with first and last time the failures by node, component and kind, and
        the strays by instance."""
        gap = max([self._gap] + [now - last for last in self._last.values()]) if self.requests else 0.0
        failures = _told(self._failures, "what")
        return {"requests": self.requests, "failed": self.failed, "longest_gap_ms": round(gap * 1000, 1),
                "p50_ms": self._percentile(0.5), "p99_ms": self._percentile(0.99), "no_instance": self.no_instance,
                "answers": dict(self._answers), "failures": failures,
                "strays": _told(self._strays, "host")}

    def _percentile(self, share):
        left = share * sum(self._slots.values())
        for slot in sorted(self._slots):
            left -= self._slots[slot]
            if left <= 0:
                return round(STEP ** slot * 1000, 2)
        return None


def _count(table, key, clock):
    if key in table or len(table) < KINDS:
        first, _, count = table.get(key, (clock, clock, 0))
        table[key] = (first, clock, count + 1)


def _told(table, third):
    return [{"node": node, "component": component, third: what, "count": count, "first": first, "last": last}
            for (node, component, what), (first, last, count) in table.items()]
