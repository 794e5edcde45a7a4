"""The vocabulary: what is seen, what is wanted, what is remembered, what to do next. No I/O, no rules.

Everywhere in here None means *unknown*, and no rule may read it as good.
"""

from dataclasses import asdict, dataclass, field

LIVE, STANDBY, DOWN = "live", "standby", "down"
YES, NO, MOVING = "yes", "no", "moving"


@dataclass(frozen=True)
class Release:
    """All that Chef is told: a version for each component, and the cookbooks' revision.

    :param versions: sorted pairs (component, "VERSION-RELEASE" as RPM writes it, epoch in front if not 0).
    :param cookbooks: content hash of the cookbooks (local mode), or "" where the Chef Server has them.
    """

    versions: tuple
    cookbooks: str = ""

    @property
    def id(self):
        """The text that journal and hosts keep: 'api=2.0.0-1,web=2.0.0-1@3f2a'."""
        return ",".join(f"{name}={version}" for name, version in self.versions) + (f"@{self.cookbooks}" if self.cookbooks else "")

    def version(self, component):
        return dict(self.versions).get(component)

    @classmethod
    def parse(cls, text):
        versions, _, cookbooks = text.partition("@")
        return cls(tuple(tuple(pair.split("=", 1)) for pair in versions.split(",") if pair), cookbooks)


@dataclass(frozen=True)
class Job:
    """A Chef run that lies on a host.

    :param kind: "chef" (ours) or "foreign" (somebody else's holds the lock; `run` is then its pid and owner).
    :param release: Release.id, or None for a foreign run.
    :param state: running | ok | failed | locked | reboot | again | config | lost. Exit codes are translated by the
        port. lost: it ended, or its host went away, and no result was left.
    :param tail: last lines, cleaned and capped.
    """

    kind: str
    run: str
    release: str = None
    state: str = "running"
    tail: str = ""
    seconds: float = None


@dataclass(frozen=True)
class ComponentSeen:
    """One component on one host, as it is now.

    :param heartbeat: live | standby | down | None. down: SSH answers and the service does not run or is not installed.
    :param release: version of the *running process* ("2.0.0-1"), None if unknown or down.
    :param started: the service's own start id (systemd's InvocationID): ties a passed sanity test to a process.
    :param live_pool: yes | no | moving | None: what every named node of LIVE says (yes only if all say yes).
    :param sessions: requests in flight, heartbeats not counted.
    :param sick: runs, and gives no valid answer for longer than every LIVE node's detection time.
    :param installed: the package's version on the host, "" if there is none, None if unknown.
    :param since_age: seconds since its heartbeat was last flipped, by its own clock; for people (status), never for a rule.
    :param counted_by: who counted `sessions`: kit | balancer | connections, "" where nobody could; for people, like the above.
    :param live_nodes: what each node of LIVE says, in words, where they do not all say yes or all no; for people.
    :param standby_nodes: likewise.
    """

    name: str
    heartbeat: str = None
    release: str = None
    started: str = None
    live_pool: str = None
    standby_pool: str = None
    sessions: int = None
    sick: bool = False
    installed: str = None
    note: str = ""
    since_age: float = field(default=None, compare=False)
    counted_by: str = field(default="", compare=False)
    live_nodes: str = field(default="", compare=False)
    standby_nodes: str = field(default="", compare=False)

    @property
    def serves(self):
        """Proved to be live: by its own word, and by every named node of LIVE."""
        return self.heartbeat == LIVE and self.live_pool == YES and not self.sick


@dataclass(frozen=True)
class HostSeen:
    name: str
    stack: str
    reachable: bool = None
    components: tuple = ()
    job: Job = None
    boot: str = None

    def component(self, name):
        return next((c for c in self.components if c.name == name), None)

    @property
    def sessions(self):
        counts = [0 if c.heartbeat == DOWN else c.sessions for c in self.components]
        return None if None in counts else sum(counts)

    @property
    def in_flight(self):
        """Requests that are known to be in flight; where `sessions` is None there may be more, which nobody counts."""
        return sum(c.sessions or 0 for c in self.components if c.heartbeat != DOWN)

    @property
    def counted_by(self):
        """Who counted the requests in flight: "kit", "nothing", "api by balancer, web by nothing"; "" if nothing runs."""
        by = {c.name: c.counted_by or "nothing" for c in self.components if c.heartbeat != DOWN and not c.sick}
        return "".join(set(by.values())) if len(set(by.values())) < 2 else ", ".join(f"{n} by {who}" for n, who in by.items())

    @property
    def started(self):
        """The start ids of all components as one comparable value; None as soon as one is unknown."""
        ids = [(c.name, c.started if c.heartbeat != DOWN else DOWN) for c in self.components]
        return None if any(i is None for _, i in ids) else ",".join(f"{n}={i}" for n, i in sorted(ids))


@dataclass(frozen=True)
class Seen:
    """The data centre at one moment. Dumps to JSON; a unit test's input and a bug report.

    :param at: seconds since the epoch, by the driver's clock.
    :param migration: {"name", "state": absent|started|done|failed, "run"} of the migration asked for, or None (unknown).
    """

    at: float
    hosts: tuple
    migration: dict = None

    def host(self, name):
        return next((h for h in self.hosts if h.name == name), None)

    def stack(self, name):
        return tuple(h for h in self.hosts if h.stack == name)

    @property
    def stacks(self):
        return tuple(dict.fromkeys(h.stack for h in self.hosts))

    def to_json(self):
        return asdict(self)

    @classmethod
    def from_json(cls, document):
        return cls(document["at"], tuple(
            HostSeen(**{**h, "components": tuple(ComponentSeen(**c) for c in h["components"]),
                        "job": Job(**h["job"]) if h["job"] else None}) for h in document["hosts"]), document.get("migration"))


@dataclass(frozen=True)
class Want:
    """One stack as it is to become.

    :param hosts: names, or () for all hosts of the stack.
    :param mode: live | standby.
    :param release: Release, or None: leave what is installed alone.
    """

    stack: str
    mode: str
    release: Release = None
    hosts: tuple = ()


@dataclass(frozen=True)
class Goal:
    """:param only: a step's name: run the ladder for this step alone. :param kind: deploy|rollout|rollback|back|step|migrate."""

    wants: tuple = ()
    migrate: str = None         # the migration's name
    needs: tuple = ()           # what the migration asks for: pairs (component, version)
    only: str = None
    kind: str = "deploy"

    def to_json(self):
        return {**asdict(self), "wants": [{**asdict(w), "release": w.release.id if w.release else None} for w in self.wants]}

    @classmethod
    def from_json(cls, document):
        wants = tuple(Want(w["stack"], w["mode"], Release.parse(w["release"]) if w.get("release") else None,
                           tuple(w.get("hosts") or ())) for w in document.get("wants") or ())
        return cls(wants, document.get("migrate"), tuple(tuple(n) for n in document.get("needs") or ()), document.get("only"),
                   document.get("kind") or "deploy")


@dataclass(frozen=True)
class Limits:
    """The longest each wait may take, in seconds."""

    pool: float = 60.0
    drain: float = 60.0
    chef: float = 1200.0
    host: float = 180.0
    sanity: float = 60.0


@dataclass(frozen=True)
class Closed:
    """Hours in which no run begins: days as 0 (Monday) to 6, minutes since midnight, in the named time zone."""

    days: tuple
    start: int
    end: int
    zone: str = "UTC"


@dataclass(frozen=True)
class Policy:
    """What the site allows. Counts are instances.

    :param floor: pairs (component, count); a missing component has the default: as many as its smallest stack holds.
    :param wave: "stack", a count, or "25%" of a stack's hosts (rounded down, at least one).
    :param gates: names of steps before which a person approves ("live", "migrate"), or "stack": before the next stack.
    :param unmeasured: seconds to wait for requests in flight where nothing can count them.
    :param detection: seconds after which LIVE, and STANDBY, have surely noticed a flip.
    """

    floor: tuple = ()
    wave: object = "stack"
    canary: bool = True
    parallel: int = 4
    max_failed: int = 0
    limits: Limits = Limits()
    drain_then: str = "stop"
    unmeasured: float = 30.0
    on_failure: str = "stop"
    gates: tuple = ()
    gate_expiry: float = 86400.0
    closed: tuple = ()
    soak: float = 0.0
    max_in_flight: int = None
    tries: int = 3
    detection: float = 4.0
    order: tuple = ()           # components as they go live


@dataclass(frozen=True)
class Memory:
    """What the journal remembers of the open run; a fold over its events. Per host, with process or release where it matters.

    :param first_seen: the Seen of the run's first look, or None.
    :param sane: {(host, release id, started)} that passed sanity through STANDBY.
    :param insane: {(host, release id, started): detail} that failed it.
    :param taken: {host: started} that served with every component when this run put it to standby; cleared by a later live.
    :param put, released: {host: started} whom this run put live; and of those, who was then seen to serve.
    :param lived: {host} that this run put live and saw serve, whatever became of it later.
    :param jobs: {host: started} on which this run started a converge, and how it ran before the first one.
    :param forgiven: hosts whose earlier failure does not count any more (resume, retry).
    :param approved: gates that a person approved: {(gate, stack)}.
    :param excluded: {host: reason}.
    :param waits: {(kind, stack): since}: running since the last act on the stack, so that waits cannot feed each other.
    :param tries: {(step, host, release id, started): count}. :param said: {(step, host): why its last try did not end ok}.
    :param converges: {host: how often this run started Chef there}. :param spent: {host: how many of them were forgiven}.
    :param drains: {host: drained | timed-out N left | unmeasured}, until the host goes live, or leaves LIVE again.
    :param undrained: {host: how a drain of it ended} where that was not "drained", for the whole run: a person must read it.
    :param untested: {host: (started, reason)}: a person said that these processes may go live without sanity.
    :param quiet, silent, short_since: noted by the driver from look to look, not journalled: since when a host counts 0 requests
        in flight, is not known, and since when fewer than the floor serve.
    """

    first_seen: Seen = None
    sane: frozenset = frozenset()
    insane: dict = field(default_factory=dict)
    taken: dict = field(default_factory=dict)
    put: dict = field(default_factory=dict)
    released: dict = field(default_factory=dict)
    lived: frozenset = frozenset()
    jobs: dict = field(default_factory=dict)
    forgiven: frozenset = frozenset()
    approved: frozenset = frozenset()
    answers: dict = field(default_factory=dict)
    excluded: dict = field(default_factory=dict)
    waits: dict = field(default_factory=dict)
    tries: dict = field(default_factory=dict)
    said: dict = field(default_factory=dict)
    converges: dict = field(default_factory=dict)
    spent: dict = field(default_factory=dict)
    drains: dict = field(default_factory=dict)
    undrained: dict = field(default_factory=dict)
    untested: dict = field(default_factory=dict)
    run: str = None
    acted: bool = False
    quiet: dict = field(default_factory=dict)
    silent: dict = field(default_factory=dict)
    short_since: float = None


@dataclass(frozen=True)
class Question:
    """What `decide` was asked; handed from rung to rung.

    :param now: seconds since the epoch.
    """

    goal: Goal
    seen: Seen
    memory: Memory
    policy: Policy
    now: float


@dataclass(frozen=True)
class Do:
    """An act. step: standby | converge | sanity | live | migrate.

    :param rescue: it makes things safe: no gate, hour or hook holds it.
    """

    step: str
    stack: str
    hosts: tuple
    why: str
    release: Release = None
    rescue: bool = False


@dataclass(frozen=True)
class Wait:
    """kind: pool | drain | chef | host | soak. until: seconds since the epoch at which this wait becomes a Stop or an Ask."""

    kind: str
    stack: str
    hosts: tuple
    since: float
    until: float
    why: str


@dataclass(frozen=True)
class Ask:
    """A person decides. choices: what `answer --choice` takes."""

    gate: str
    stack: str
    hosts: tuple
    choices: tuple
    why: str


@dataclass(frozen=True)
class Stop:
    """Cannot go on: refused before the first act (exit 3), else a step failed (exit 4).

    :param next_command: what to type; alternatives are joined by " | ".
    :param short: all that is wrong is that too few would serve: what is out already may be finished first.
    """

    why: str
    next_command: str
    hosts: tuple = ()
    short: bool = False


@dataclass(frozen=True)
class Done:
    why: str
    warnings: tuple = ()


@dataclass(frozen=True)
class Result:
    """How one act ended on one host. outcome: ok | failed | unknown (nobody knows: look again)."""

    host: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    evidence: dict = None
