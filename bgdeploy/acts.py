"""The six steps as they are done to hosts. No rules: what to do, and whether, decide.py has said.

1 standby, 2 converge (its drain is a wait), 3 sanity, 4 live; 5 is the same for the next stack; 6 migrate.
Each function acts on one host and returns a Result; an answer that was lost is `unknown`, and only a look can tell.
"""

import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from bgdeploy.errors import NoAnswer, Trouble
from bgdeploy.model import DOWN, LIVE, STANDBY, Result
from bgdeploy.outside import chef, heartbeat, sanity as sanity_port

AT_ONCE = 16        # hosts acted on at the same time; `parallel` bounds converges before this does


class Acts:
    """:param cookbooks: (revision, tar bytes) for local mode, or None. :param migrate: () -> Result."""

    def __init__(self, site, shell, run, by, cookbooks=None, migrate=None):
        self.site, self.shell, self.run, self.by = site, shell, run, by
        self.cookbooks, self.migrate = cookbooks, migrate

    def __call__(self, do, seen, attempt):
        """Do one step. Yields a Result a host, as each ends. Never raises for what a host does."""
        if do.step == "migrate":
            yield self.migrate()
        elif do.step == "sanity":
            yield from sanity_port.check(self.site, list(do.hosts), do.release, self.site.policy.limits.sanity)
        else:
            step = {"standby": self.standby, "converge": self.converge, "live": self.live}[do.step]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                begun = [pool.submit(timed, step, self.site.host(name), seen.host(name), do, attempt) for name in do.hosts]
                for done in as_completed(begun):
                    yield done.result()

    def standby(self, host, seen, do, attempt):
        """1: tell what is live on the host to be in standby; the components in reverse order."""
        live = [c for c in reversed(self.ordered(seen)) if c.heartbeat == LIVE]
        return self.flip(host, live, STANDBY, do)

    def live(self, host, seen, do, attempt):
        """4: compare-and-set: live only if exactly the processes that were looked at still run; in the inventory's order."""
        return self.flip(host, [c for c in self.ordered(seen) if c.heartbeat == STANDBY], LIVE, do, guarded=True)

    def flip(self, host, components, word, do, guarded=False):
        for c in components:
            result = heartbeat.flip(self.site, host, self.site.component(c.name), word,
                                    run=self.run, by=self.by, reason=do.why[:200], shell=self.shell,
                                    release_version=c.release if guarded else None, started=c.started if guarded else None)
            if result.outcome != "ok":
                return Result(host.name, result.outcome, f"{c.name}: {result.detail}", 0, result.evidence)
        return Result(host.name, "ok", f"{', '.join(c.name for c in components) or 'nothing'} {word}")

    def converge(self, host, seen, do, attempt):
        """2: park what is down, bring the cookbooks, start Chef. It goes on by itself; looks follow it."""
        for c in seen.components:
            if c.heartbeat == DOWN or c.sick:
                parked = self.park(host, c, do)
                if parked.outcome != "ok":
                    return Result(host.name, parked.outcome, f"{c.name} could not be parked in standby: {parked.detail}")
        if self.cookbooks:
            sent = chef.send_cookbooks(self.shell, self.site, host, *self.cookbooks)
            if sent.outcome != "ok":
                return sent
        run = self.run if attempt == 1 else f"{self.run}.{attempt}"
        stale = [c.name for c in seen.components if c.installed == do.release.version(c.name) and self.may_be_old(c, do, attempt)]
        return chef.start(self.shell, self.site, host, run, do.release, restart=tuple(stale))

    def may_be_old(self, c, do, attempt):
        """Its package is right, and Chef, which finds nothing to do, would leave a process that is not."""
        if c.release is None:
            return c.heartbeat != DOWN and self.site.component(c.name).heartbeat.by_package
        return attempt > 1 and c.release != do.release.version(c.name)

    def park(self, host, c, do):
        """A component that is down must not come up live; one that hangs is told to be in standby where it can be."""
        if c.sick:
            flipped = heartbeat.flip(self.site, host, self.site.component(c.name), STANDBY, run=self.run, by=self.by,
                                     reason=do.why[:200], shell=self.shell)
            if flipped.outcome == "ok":
                return flipped
        return chef.park(self.shell, self.site, host, self.site.component(c.name))

    def ordered(self, seen):
        order = [c.name for c in self.site.components]
        return sorted(seen.components, key=lambda c: order.index(c.name))


def timed(step, host, seen, do, attempt):
    """Run one step on one host; a lost answer is unknown, a refusal failed; never an exception."""
    since = time.monotonic()
    try:
        result = step(host, seen, do, attempt)
    except NoAnswer as e:
        result = Result(host.name, "unknown", e.sentence)
    except Trouble as e:
        result = Result(host.name, "failed", e.sentence)
    return Result(host.name, result.outcome, result.detail, time.monotonic() - since, result.evidence)
