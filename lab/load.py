"""A bounded load on the LIVE balancer, for people who want to see a deployment under traffic: reads only, never retried.

For watching by eye; a run's own evidence comes from bgdeploy/outside/watch.py.
"""

import collections
import http.client
import threading
import time
from dataclasses import dataclass, field

from bgdeploy import errors

MOST_SECONDS, MOST_RATE, WORKERS = 3600, 2000, 8


@dataclass
class Count:
    """What one component's frontend on one node answered."""

    times: list = field(default_factory=list)           # (end, seconds) of good answers
    failed: collections.Counter = field(default_factory=collections.Counter)
    served: collections.Counter = field(default_factory=collections.Counter)


def run(site, seconds, rate, say=print):
    """Send rate requests a second for so many seconds, spread over all components and nodes of LIVE, half of them on kept
    connections; then print a table. The calling process has to be in the lab's network (lab.enter).

    :returns: {"requests", "failed", "longest_gap_ms", "p50_ms", "p99_ms"} over everything.
    :raises errors.BadInput: more than this machine should be asked for, or nothing.
    """
    if not 0 < seconds <= MOST_SECONDS or not 0 < rate <= MOST_RATE:
        raise errors.BadInput(f"a load of {rate} a second for {seconds} s: give 1 to {MOST_RATE} a second, 1 to {MOST_SECONDS} s")
    targets = [(component.name, node.name, node.address, site.live.port(component.name), _path(component), site.live.host_header)
               for component in site.components for node in site.live.nodes if site.live.port(component.name)]
    counts = {target[:2]: Count() for target in targets}
    started = time.monotonic()
    threads = [threading.Thread(target=_work, args=(targets, counts, started + number / rate, WORKERS / rate, started + seconds,
                                                    number)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _table(counts, started, time.monotonic(), say)


def _path(component):
    return component.sanity[0].path if component.sanity else component.heartbeat.path


def _work(targets, counts, due, pace, end, turn):
    kept = {}
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        component, node, address, port, path, header = target = targets[turn % len(targets)]
        keep = (turn // len(targets)) % 2 == 0
        connection = kept.pop(target, None) if keep else None
        connection = connection or http.client.HTTPConnection(address, port, timeout=10)
        _once(connection, path, header, counts[component, node])
        if keep and connection.sock:
            kept[target] = connection
        else:
            connection.close()
        turn += WORKERS if WORKERS % len(targets) else WORKERS + 1
        due += pace
    for connection in kept.values():
        connection.close()


def _once(connection, path, header, count):
    began = time.monotonic()
    try:
        connection.request("GET", path, headers={"Host": header} if header else {})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        count.failed[type(error).__name__] += 1
        connection.close()
        return
    ended = time.monotonic()
    if answer.status < 400:
        count.times.append((ended, ended - began))
        count.served[answer.headers.get("X-Served-By", "?"), answer.headers.get("X-Version", "?")] += 1
    else:
        count.failed[str(answer.status)] += 1


def _figures(times, failed, started, ended):
    spent = sorted(seconds for _, seconds in times)
    moments = [started, *sorted(moment for moment, _ in times), ended]
    gap = max(later - earlier for earlier, later in zip(moments, moments[1:]))
    at = (lambda share: round(1000 * spent[int(share * (len(spent) - 1))], 1)) if spent else (lambda share: None)
    return {"requests": len(times) + failed, "failed": failed, "longest_gap_ms": round(1000 * gap), "p50_ms": at(0.5),
            "p99_ms": at(0.99)}


def _table(counts, started, ended, say):
    say(f"{'component':10} {'node':10} {'requests':>8} {'failed':>7} {'gap ms':>7} {'p50 ms':>7} {'p99 ms':>7}  served by")
    for (component, node), count in counts.items():
        row = _figures(count.times, count.failed.total(), started, ended)
        served = ", ".join(f"{host} {version} {number}" for (host, version), number in sorted(count.served.items()))
        failed = ", ".join(f"{what} {number}" for what, number in count.failed.most_common(3))
        say(f"{component:10} {node:10} {row['requests']:8} {row['failed']:7} {row['longest_gap_ms']:7} {row['p50_ms'] or '-':>7} "
            f"{row['p99_ms'] or '-':>7}  {served or 'nobody'}" + (f"; failed: {failed}" if failed else ""))
    everything = [one for count in counts.values() for one in count.times]
    return _figures(everything, sum(count.failed.total() for count in counts.values()), started, ended)
