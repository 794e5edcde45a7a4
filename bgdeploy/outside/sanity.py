"""The site's own test of a new version, through the STANDBY balancer: the way that traffic will come.

Every instance of the wave has to answer each check of its component once, on the right version. The balancer picks who
answers, so requests go on until everybody has been met; answers of others (another stack, a host parked by hand) are
counted and never judged.
"""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from bgdeploy.clean import clean
from bgdeploy.model import Result
from bgdeploy.outside import served

SLOWEST = 10.0              # seconds for one answer
PAUSE = 0.1                 # seconds to wait after an answer that named nobody (an empty pool answers 503 at once)
OTHERS = 0.02               # ... and after one of somebody else: a test must not become a load
BODY = 1 << 20              # bytes of a page that a check looks at
QUOTED = 200
AT_ONCE = 4                 # requests; each check has its own thread, so that one which waits keeps no other from its time


def check(site, hosts, release, limit=60.0):
    """Test `hosts` through STANDBY's addresses, all its nodes in turn. Sends GET only.

    :param hosts: site.Host, or names. :param release: model.Release, or None: no version is asked for.
    :param limit: seconds for everything.
    :returns: one Result a host, in order. ok; failed: a check failed on it (the first one is quoted); unknown: it was never
        met through STANDBY. evidence: {"passed": {"web /": n}, "others": {"web blue-1 1.0.0-1": n}, "nobody": {...}};
        of a failed one also "component": whose check it was.
    """
    hosts = [site.host(host) if isinstance(host, str) else host for host in hosts]
    until, began = time.monotonic() + limit, time.monotonic()
    ledger = _Ledger(hosts)
    jobs = [(component, nth) for component in site.components for nth in range(len(component.sanity))
            if any(component.name in host.components for host in hosts)]
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as threads:
        asked = [threads.submit(_until_met, site, component, nth, hosts, release, until, ledger) for component, nth in jobs]
        for each in asked:
            each.result()
    return [ledger.result(host, time.monotonic() - began, limit) for host in hosts]


class _Ledger:
    """What came, by host; shared by the threads of one check."""

    def __init__(self, hosts):
        self.failed, self.culprit = {}, {}
        self.unmet = {host.name: [] for host in hosts}
        self.passed = {host.name: Counter() for host in hosts}
        self.others, self.nobody, self.lock = Counter(), Counter(), threading.Lock()
        self.turns = threading.BoundedSemaphore(AT_ONCE)

    def result(self, host, seconds, limit):
        evidence = {"passed": dict(self.passed[host.name]), "others": dict(self.others), "nobody": dict(self.nobody)}
        if host.name in self.failed:
            evidence["component"] = self.culprit[host.name]
            return Result(host.name, "failed", self.failed[host.name], seconds, evidence)
        if self.unmet[host.name]:
            what = ", ".join(self.unmet[host.name])
            others = ", ".join(f"{name} {count}" for name, count in self.others.most_common(3)) or "nobody else"
            blanks = "; without a name came " + ", ".join(f"{count} x {what}" for what, count in self.nobody.most_common(2)) \
                if self.nobody else ""
            return Result(host.name, "unknown", f"{host.name} never answered {what} through STANDBY in {limit:g} s"
                                                f" (answered: {others}{blanks})", seconds, evidence)
        return Result(host.name, "ok", "", seconds, evidence)


def _until_met(site, component, nth, hosts, release, until, ledger):
    """Request one check until every instance of the wave has answered it, or the time is over."""
    wanted, turn = component.sanity[nth], nth
    missing = {host.name for host in hosts if component.name in host.components}
    version = release.version(component.name) if release else None
    what, names = f"{component.name} {wanted.path}", [host.name for host in site.hosts]
    while missing and time.monotonic() < until:
        node = site.standby.nodes[turn % len(site.standby.nodes)]
        turn += 1
        with ledger.turns:
            limit = min(SLOWEST, max(0.1, until - time.monotonic()))
            came = served.request(site.standby, node, component.name, wanted.path, limit, BODY)
        host, runs = served.named(came, names)
        with ledger.lock:
            if host is None:
                ledger.nobody[runs] += 1
            elif host not in ledger.passed or component.name not in site.host(host).components:
                ledger.others[f"{component.name} {host} {runs}"] += 1
            else:
                flaw = _flaw(wanted, came, version, runs)
                if flaw:
                    ledger.failed.setdefault(host, f"{what} on {host}: {flaw}")
                    ledger.culprit.setdefault(host, component.name)
                else:
                    ledger.passed[host][what] += 1
            missing -= set(ledger.failed) | ({host} if host else set())
            met = not missing or host in ledger.passed
        time.sleep(PAUSE if host is None else 0 if met else OTHERS)
    with ledger.lock:
        for host in missing - set(ledger.failed):
            ledger.unmet[host].append(what)


def _flaw(wanted, came, version, runs):
    """What is wrong with an answer of an instance of the wave, "" if nothing is: expected, then what came."""
    if version and runs != version:
        return f"version {version} expected, {runs or 'no version'} came"
    if came.status != wanted.status:
        return f"status {wanted.status} expected, {came.status} came: {_quote(came.body)}"
    text = came.body.decode("utf-8", "replace")
    if wanted.text is not None and wanted.text not in text:
        return f"the text {wanted.text!r} expected, {_quote(came.body)} came"
    for name, value in wanted.header:
        got = came.headers.get(name.lower())
        if got != value:
            return f"the header {name}: {value} expected, {'no such header' if got is None else _quote(got.encode())} came"
    if not came.whole and came.flaw and not came.flaw.startswith("longer"):
        return f"a whole answer expected, {came.flaw}"
    return ""


def _quote(body):
    text = " ".join(clean(body[:8 * QUOTED].decode("utf-8", "replace"), 4 * QUOTED).split())
    return '"' + (text if len(text) <= QUOTED else text[:QUOTED] + "...") + '"'
