"""A run as people are told of it: phases with their acts and waits, and what of their time was whose. Pure data.

storyteller.py makes it from a journal; reports are made from it.
"""

from dataclasses import dataclass, field

from bgdeploy.model import Policy, Seen

STEPS = ("standby", "drain", "converge", "sanity", "live", "migrate")
BAD_JOBS = ("failed", "locked", "config")


@dataclass
class Part:
    """One act or one wait. kind: act | pool | drain | chef | host | soak | person."""

    kind: str
    step: str
    stack: str
    hosts: tuple
    start: float
    end: float = None
    why: str = ""
    outcome: str = None
    results: dict = field(default_factory=dict)     # host -> (outcome, detail, seconds)
    release: str = None

    @property
    def seconds(self):
        return max(0.0, (self.end if self.end is not None else self.start) - self.start)


@dataclass
class Phase:
    """One step on one stack, with its waits: from its first part to the next phase."""

    step: str
    stack: str
    parts: list
    end: float
    jobs: dict = field(default_factory=dict)        # host -> model.Job as it was last seen in this phase
    old: dict = field(default_factory=dict)         # host -> what runs there, where the run stopped without what was wanted

    @property
    def start(self):
        return self.parts[0].start

    @property
    def seconds(self):
        return max(0.0, self.end - self.start)

    @property
    def hosts(self):
        return tuple(dict.fromkeys(name for part in self.parts for name in (*part.hosts, *part.results)))

    def waited(self, kind):
        return sum(part.seconds for part in self.parts if part.kind == kind)

    @property
    def chef(self):
        """Seconds that went into Chef: the wait for it, but no more than its runs took by the hosts' own clocks."""
        acts = [part for part in self.parts if part.kind == "act"]
        took = [[self.jobs[h].seconds for h in part.hosts if h in self.jobs] for part in acts]
        if self.step != "converge" or not acts or any(not group or None in group for group in took):
            return self.waited("chef")
        return min(self.seconds, self.waited("chef") + sum(a.seconds for a in acts), sum(max(group) for group in took))

    @property
    def own(self):
        """Seconds that nobody else took: bgdeploy's looks, flips and connections."""
        return max(0.0, self.seconds - self.chef - sum(self.waited(k) for k in ("pool", "drain", "host", "soak", "person")))

    def outcome(self, host):
        """(outcome, detail, seconds) of one host: what was seen of it last counts most."""
        said = None
        for part in self.parts:
            said = part.results.get(host) or said
            if said is None and part.outcome == "over" and host in part.hosts:
                said = ("ok", "", round(part.seconds, 3))
        if said is None:
            return "unknown", "no result was recorded", None
        if self.step != "converge" or said[0] != "ok":
            return said
        job = self.jobs.get(host)
        if job is None:
            over = any(part.kind == "chef" and part.outcome == "over" and host in part.hosts for part in self.parts)
            return said if over else ("unknown", "Chef was started; how it ended is not recorded", None)
        if job.state == "ok":
            old = self.old.get(host)
            said = job.tail.partition("\n")[0]      # what it updated, where the port knows; else the output's first line
            return ("failed", f"Chef ended ok, but {old}", job.seconds) if old else \
                ("ok", said if " updated: " in said else "", job.seconds)
        what = "Chef still ran" if job.state == "running" else f"Chef ended {job.state}"
        return "failed" if job.state in BAD_JOBS else "unknown", f"{what}\n{job.tail}".rstrip(), job.seconds


@dataclass
class Story:
    """A whole run. Times are seconds since the epoch; None is what the journal does not say."""

    run: str = None
    task: str = None
    tasks: tuple = ()               # what was typed, in order: steps by hand share a run
    env: str = None
    by: object = None
    reason: str = None
    started: float = None
    ended: float = None
    last: float = None
    outcome: str = None
    exit_code: int = None
    why: str = ""
    versions: dict = field(default_factory=dict)
    detection: float = Policy.detection
    phases: list = field(default_factory=list)
    before: Seen = None
    after: Seen = None
    availability: dict = None
    warnings: list = field(default_factory=list)
    excluded: dict = field(default_factory=dict)
    next: tuple = ()
    breaks: list = field(default_factory=list)      # [(gone, again)]: between them nobody drove

    @property
    def seconds(self):
        """How long it was driven: from its beginning to its last event, without the time in which nobody drove."""
        return self.elapsed(self.last or 0.0)

    def elapsed(self, at):
        """Driven seconds from the beginning to `at`."""
        gone = sum(max(0.0, min(again, at) - left) for left, again in self.breaks)
        return max(0.0, at - (self.started or 0.0) - gone)

    @property
    def stacks(self):
        named = [*(self.before.stacks if self.before else ()), *(self.after.stacks if self.after else ())]
        return tuple(dict.fromkeys([*named, *(p.stack for p in self.phases if p.stack)]))

    @property
    def components(self):
        """Names of all components that were seen, in the order of the hosts that have them."""
        hosts = [h for seen in (self.before, self.after) if seen for h in seen.hosts]
        return tuple(dict.fromkeys(c.name for h in hosts for c in h.components))

    @property
    def changes(self):
        """[(stack, host, {component: (version before, version after)})]: what ran at the first and at the last look."""
        hosts = {h.name: h.stack for seen in (self.before, self.after) if seen for h in seen.hosts}
        return [(stack, host, {c: (_version(self.before, host, c), _version(self.after, host, c)) for c in self.components
                               if _component(self.before, host, c) or _component(self.after, host, c)})
                for host, stack in hosts.items()]


def _component(seen, host, component):
    h = seen.host(host) if seen else None
    return h.component(component) if h else None


def _version(seen, host, component):
    c = _component(seen, host, component)
    return None if c is None else c.release or ("down" if c.heartbeat == "down" else None)
