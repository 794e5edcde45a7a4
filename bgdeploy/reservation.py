"""Where a Chef Server brings the cookbooks, other Chef runs on a host wait from our converge there until it serves again.

A daemon's, a timer's, cron's, a person's: the host keeps them off, and lets them go on by itself at its time (docs/chef.md). This
asks for longer while the run goes on, and ends it where the host is live, or the run is over.
"""

from concurrent.futures import ThreadPoolExecutor

from bgdeploy.outside import chef

AT_ONCE = 8
LIMIT = 4.0             # seconds for a host to answer: a run waits for it, and an abort leaves five
OVER = ("done", "warned", "stopped")        # ends of a run that nobody carries on


def of(site, shell, run, goal, journal, say, stopped=lambda: False):
    """The reservation of a run, among those who are told its events; None where none is wanted.

    :param stopped: () -> the run was interrupted: ask for nothing more.
    """
    if site.chef.cookbooks != "server" or not site.chef.reserve:
        return None
    wanted = {want.stack for want in goal.wants} if goal.only is None else ()
    names = [host.name for host in site.hosts if host.stack in wanted]
    mine = Reservation(journal.events, names, site.chef.reserve / 4,
                       lambda name: chef.reserve(shell, site, site.host(name), run, limit=LIMIT),
                       lambda name: chef.release(shell, site, site.host(name), limit=LIMIT), journal.write, say, stopped)
    mine.due &= {host.name for host in site.hosts}      # who has been taken from the inventory since cannot be asked
    journal.tellers.append(mine)
    return mine


class Reservation:
    """Told every event of a run.

    :param events: what the journal holds already. :param all_hosts: names of all that the run is for, or () for a step by hand,
        whose stack stays out of LIVE when it has ended. :param every: seconds after which the hosts are asked for longer.
    :param renew, release: (name) -> model.Result. :param write: journal.write. :param say: gets a sentence.
    """

    def __init__(self, events, all_hosts, every, renew, release, write, say, stopped=lambda: False):
        self.all_hosts, self.every, self.renew, self.release, self.write, self.say = all_hosts, every, renew, release, write, say
        self.stopped = stopped
        self.due, self.asked = set(), None
        for event in events:
            self._noted(event)

    def __call__(self, event):
        self._noted(event)
        if event["kind"] == "seen_live":
            self.end(self.due & set(event["hosts"]), self.write)
        elif event["kind"] == "ended" and event["outcome"] in OVER:
            self.end(self.due | set(self.all_hosts) if self.all_hosts else set(), None)
        elif event["kind"] not in ("ended", "doing"):       # the act that is begun stands on a look of a moment ago
            self.longer(event["at"])

    def longer(self, now):
        """To be called now and then while nothing happens."""
        if self.due and now - self.asked > self.every and not self.stopped():
            self.asked = now
            self._each(self.renew, self.due)        # one that does not answer has its time from before

    def end(self, names, write):
        """Let other Chef runs go on there; write tells the journal, which an ended run's does not take any more."""
        results = self._each(self.release, names)
        gone = [result.host for result in results if result.outcome == "ok" and (result.evidence or {}).get("released")]
        if gone and write:
            write("released", hosts=gone, why=f"other Chef runs go on again on {' '.join(gone)}")
        elif gone:
            self.say(f"other Chef runs go on again on {' '.join(gone)}")
        for result in results:
            if result.outcome != "ok" and result.host in self.due:
                self.say(f"{result.host}: other Chef runs go on by themselves when their time has come: {result.detail}")
        self.due -= set(names)

    def _noted(self, event):
        if event["kind"] == "result" and event["step"] == "converge" and (event.get("evidence") or {}).get("reserved"):
            self.due.add(event["host"])
            self.asked = event["at"]
        elif event["kind"] == "released":
            self.due -= set(event["hosts"])

    @staticmethod
    def _each(ask, names):
        if not names:
            return []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(ask, sorted(names)))
