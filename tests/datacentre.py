"""A data centre in memory, as nasty as wanted, behind the same ports as the real one. Shares no code with bgdeploy.plan.

The truth lives in `World`; what the driver gets to see (`World.look`) may be late, missing or a lie. Every act is judged
against the truth at the moment it happens (tests/laws.py); what breaks a law is noted in `World.broken`.
"""

import random
from dataclasses import dataclass, field

from bgdeploy.drive import Ports
from bgdeploy.model import ComponentSeen, HostSeen, Job, Result, Seen
from tests import laws


class Killed(Exception):
    """The driver dies here (kill -9)."""


@dataclass
class Instance:
    """The truth about one component on one host."""

    name: str
    word: str = "live"              # stored heartbeat
    up: bool = True
    version: str = "1"              # of the running process
    installed: str = "1"
    start: int = 1
    sessions: int = 0
    stuck: int = 0                  # requests in flight that never end
    counts: bool = True             # the app says how many requests are in flight
    sick: bool = False
    lies: str = None                # what it tells the driver, whatever the balancers hear
    boots_live: bool = False
    by_our_converge: bool = False   # the running process was started by a converge of the run that is judged
    passed: bool = True             # the running process served before, or passed the site's test through STANDBY
    proved: bool = False            # it passed that test after the last converge of the run that is judged
    pools: dict = field(default_factory=dict)   # node -> [in its pool, ticks since the word changed]

    def says(self):
        return self.word if self.up and not self.sick else None

    def restart(self, version=None):
        self.start += 1
        self.up, self.sick, self.sessions, self.stuck, self.passed = True, False, 0, 0, False
        self.version = version or self.installed
        if self.boots_live:
            self.word = "live"


@dataclass
class Machine:
    name: str
    stack: str
    instances: list
    reachable: bool = True
    away: int = 0                   # ticks until it answers again
    job: dict = None                # {"run", "release", "state", "left"}
    boot: int = 1
    started: set = field(default_factory=set)   # ids of runs that were ever started here: the same id never starts twice
    proved: str = None              # the processes with which the run that is judged noted that it serves again
    taken_out: str = None           # the same, taken out by a person after that

    def starts(self):
        return ",".join(f"{i.name}={f's{i.start}' if i.up else 'down'}" for i in sorted(self.instances, key=lambda i: i.name))


class World:
    """:param seed: everything that happens by chance comes from it.
    :param nemesis: probabilities by name: drift, lost, lag, silent, blur, slow, robbed, chef_fails, sanity_fails, boots_live,
        stale, lies.
    """

    LIVE, STANDBY = ("live-1", "live-2"), ("standby-1",)

    def __init__(self, machines, seed=0, nemesis=None, floor=None, untestable=()):
        self.machines, self.random = machines, random.Random(seed)
        self.nemesis, self.now = nemesis or {}, 1_000_000.0
        self.silent, self.broken, self.acts, self.calls, self.looks = set(), [], [], 0, 0
        self.kill_at, self.untestable, self.run, self.looked = None, set(untestable), "run", 0.0
        self.migration = {"name": "m", "state": "absent", "run": None, "repeatable": False, "alive": False}
        self.needs, self.excused, self.shown = (), set(), {}
        self.rules = laws.Rules()
        self.floor = floor if floor is not None else self.default_floor()
        for m in machines:
            for i in m.instances:
                for node in self.LIVE + self.STANDBY:
                    i.pools.setdefault(node, [i.says() == self.word_of(node), 0])

    def default_floor(self):
        sizes = {}
        for m in self.machines:
            for i in m.instances:
                sizes.setdefault(i.name, {}).setdefault(m.stack, 0)
                sizes[i.name][m.stack] += 1
        return {name: min(by.values()) for name, by in sizes.items()}

    def word_of(self, node):
        return "live" if node in self.LIVE else "standby"

    def machine(self, name):
        return next(m for m in self.machines if m.name == name)

    def chance(self, name):
        p = self.nemesis.get(name, 0)
        return p > 0 and self.random.random() < p

    def ours(self, job):
        return bool(job) and str(job["run"]).split(".")[0] == self.run

    # ---- time

    def tick(self, seconds=0.5, drifts=True):
        self.now += seconds
        for m in self.machines:
            if m.away:
                m.away -= 1
                m.reachable = m.away == 0
                if m.reachable and m.job and m.job["state"] == "reboot":
                    m.job["state"] = "again"
            self.run_job(m)
            for i in m.instances:
                loaded = i.says() is not None and any(i.pools[n][0] for n in self.LIVE)
                i.sessions = (self.random.randint(0, 3) if self.nemesis else 1) if loaded else max(i.stuck, i.sessions - 1)
                for node, state in i.pools.items():
                    wanted = i.says() == self.word_of(node)
                    if state[0] != wanted:
                        state[1] += 1
                        if state[1] > (self.random.randint(1, 6) if self.chance("lag") else 1):
                            state[0], state[1] = wanted, 0
                    else:
                        state[1] = 0
        if drifts and self.chance("drift"):
            self.drift()

    def run_job(self, m):
        j = m.job
        if not j or j["state"] != "running":
            return
        j["left"] -= 1
        if j["left"] > 0:
            return
        if j["run"] == "foreign":
            m.job = None if self.random.random() < 0.5 else {**j, "run": "other", "state": "ok"}
            return
        if self.chance("chef_fails"):
            j["state"] = self.random.choice(["failed", "failed", "lost", "config", "again", "locked", "reboot", "half"])
            if j["state"] == "half":            # failed after some services were restarted
                j["state"] = "failed"
                self.bring(m, j, [i for i in m.instances if self.random.random() < 0.5])
            elif j["state"] == "reboot":
                m.reachable, m.away, m.boot = False, self.random.randint(2, 6), m.boot + 1
                for i in m.instances:
                    if i.installed:
                        i.restart()
                        i.by_our_converge = self.ours(j)
            for i in m.instances:
                if self.random.random() < 0.2:
                    i.up = False
            return
        j["state"] = "ok"
        self.bring(m, j, m.instances, stale=self.chance("stale"))

    def bring(self, m, j, instances, stale=False):
        """What Chef does to these: the version of the release, and a restart where something changed."""
        wanted = dict(pair.split("=") for pair in j["release"].split(","))
        for i in instances:
            if i.installed != wanted[i.name] or not i.up or i.version != wanted[i.name]:
                i.installed = wanted[i.name]
                theirs = i.up and i.word == "live"          # no driver runs Chef there: somebody put it live meanwhile
                if not stale:
                    i.restart()
                    i.by_our_converge = self.ours(j)
                    if theirs:
                        self.excused.add((m.name, i.name, i.start))

    def drift(self):
        """Somebody, or the weather, changes something behind the driver's back."""
        m = self.random.choice(self.machines)
        i = self.random.choice(m.instances)
        what = self.random.choice(["flip", "flip", "crash", "restart", "install", "away", "sick", "silent", "heal", "heal",
                                   "foreign", "forget", "take out", "put live", "reboot"])
        if what == "flip" and i.up:
            if i.by_our_converge and i.word == "standby":
                self.excused.add((m.name, i.name, i.start))     # a person put it live, not the driver
            i.word = "standby" if i.word == "live" else "live"
        elif what == "crash":
            i.up = False
        elif what == "restart" and i.installed:
            self.again(m, i)
        elif what == "install":
            i.installed = self.random.choice(["1", "2", "3"])
            same = i.up and i.version == i.installed
            if same:
                self.again(m, i)
            else:
                i.restart()
                i.by_our_converge = self.ours(m.job)    # on a host that our run works on: it may not go live on old evidence
            if i.word == "live":
                self.excused.add((m.name, i.name, i.start))
        elif what == "away":
            m.reachable, m.away = False, self.random.randint(2, 30)
        elif what == "sick":
            i.sick = True
        elif what == "silent":
            self.silent = {self.random.choice(self.LIVE + self.STANDBY)}
        elif what == "foreign" and not (m.job and m.job["state"] == "running"):
            m.job = {"run": "foreign", "release": None, "state": "running", "left": self.random.randint(1, 8)}
        elif what == "forget":                      # a balancer node restarts with everything UP
            node = self.random.choice(self.LIVE + self.STANDBY)
            for each in (x for y in self.machines for x in y.instances if x.up):
                each.pools[node] = [True, 0]
        elif what in ("take out", "put live"):
            self.person(m, what)
        elif what == "reboot" and m.reachable:
            m.reachable, m.away, m.boot = False, self.random.randint(2, 8), m.boot + 1
            for each in m.instances:
                if each.installed:
                    self.again(m, each)
        elif what == "heal":
            self.silent = set()
            for each in m.instances:
                self.heal(m, each)

    def person(self, m, what):
        """Somebody flips a whole host by hand, and means it."""
        for i in m.instances:
            if i.up and not i.sick and i.word == ("live" if what == "take out" else "standby"):
                if what == "put live" and i.by_our_converge:
                    self.excused.add((m.name, i.name, i.start))
                i.word = "standby" if what == "take out" else "live"
        m.taken_out = m.starts() if what == "take out" and m.proved == m.starts() else None

    def again(self, m, i):
        """A process comes back on the same release: one that served goes on serving, in the laws' eyes too; but what our run
        brought to the host needs the test that this run made of it."""
        brought = self.brought(m, i.name, i.installed)
        tested = i.word == "live" and (i.proved if brought else i.passed)
        i.restart()
        i.passed, i.by_our_converge = tested, i.by_our_converge or brought

    def brought(self, m, name, version):
        return self.ours(m.job) and f"{name}={version}" in m.job["release"].split(",")

    def heal(self, m, i):
        i.sick, i.lies, i.stuck = False, None, 0
        if not i.up and i.installed:
            self.again(m, i)

    # ---- what the driver sees

    def serving(self, i):
        """The truth: it says live, and every node of LIVE sends to it."""
        return i.says() == "live" and all(i.pools[n][0] for n in self.LIVE)

    def look(self):
        self.call()
        self.tick()
        self.looks, self.looked = self.looks + 1, self.now
        hosts = tuple(self.seen_host(m) for m in self.machines)
        laws.judge_look(self, hosts)
        return Seen(self.now, hosts, dict(self.migration))

    def seen_host(self, m):
        if not m.reachable or self.chance("silent"):
            return HostSeen(m.name, m.stack, False, tuple(ComponentSeen(i.name) for i in m.instances))
        j = m.job
        job = None
        if j:
            job = Job("foreign" if j["run"] == "foreign" else "chef", j["run"], j["release"], j["state"], "last line", 1.0)
        return HostSeen(m.name, m.stack, True, tuple(self.seen_component(i) for i in m.instances), job, str(m.boot))

    def seen_component(self, i):
        if not i.up:
            return ComponentSeen(i.name, "down", None, None, None, None, None, False, i.installed or "")
        if i.sick:
            return ComponentSeen(i.name, None, None, f"s{i.start}", None, None, None, True, i.installed)

        def pool(nodes):
            if self.silent & set(nodes) or self.chance("blur"):
                return None
            said = {i.pools[n][0] for n in nodes}
            return "moving" if len(said) > 1 else "yes" if said.pop() else "no"
        dim = self.chance("blur") and self.random.choice(["word", "version", "start", "sessions"])     # for this one look
        return ComponentSeen(i.name, None if dim == "word" else i.lies or i.word, None if dim == "version" else i.version,
                             None if dim == "start" else f"s{i.start}", pool(self.LIVE), pool(self.STANDBY),
                             i.sessions if i.counts and dim != "sessions" else None, False, i.installed)

    # ---- what the driver does

    def lost(self):
        """Is the lock ours? A store may take its time over the answer, or not know us any more."""
        self.dawdle()
        return "the lock is not ours any more" if self.chance("robbed") else None

    def dawdle(self):
        """Up to 9 s go by. Nobody interferes in the first 5: after so short a time the driver acts, and none could see that."""
        if self.chance("slow"):
            ticks = self.random.randint(6, 18)
            for _ in range(ticks):
                self.tick(drifts=ticks > 10)

    def call(self):
        self.calls += 1
        if self.kill_at is not None and self.calls >= self.kill_at:
            self.kill_at = None
            raise Killed()

    def act(self, do, seen, attempt):
        for name in do.hosts:
            self.call()
            laws.judge(self, do, name)
            yield self.one(do, name, attempt, seen)
            self.call()

    def one(self, do, name, attempt, seen):
        m = self.machine(name)
        self.acts.append((do.step, name))
        self.shown = {key: n for key, n in self.shown.items() if key[0] != name or do.step != "standby"}
        if self.chance("lost") and self.random.random() < 0.5 or not m.reachable:
            return Result(name, "unknown", "the answer was lost")
        outcome = getattr(self, "do_" + do.step)(m, do, attempt, seen)
        return Result(name, "unknown", "the answer was lost") if self.chance("lost") else outcome

    def do_standby(self, m, do, attempt, seen):
        return self.flip(m, seen, "live", "standby")

    def flip(self, m, seen, word, to):
        """As acts.py does it: one by one what was seen to say the one word is told the other; a lost answer ends it half way."""
        for i, c in zip(m.instances, seen.host(m.name).components):
            if c.heartbeat == word and i.up and not i.sick:
                i.word = to
                if self.chance("lost"):
                    return Result(m.name, "unknown", "the answer was lost")
        return Result(m.name, "ok")

    def do_converge(self, m, do, attempt, seen):
        for i in m.instances:
            if not i.up or i.sick:
                i.word = "standby"      # parked
        run = self.run if attempt == 1 else f"{self.run}.{attempt}"
        if run in m.started:
            return Result(m.name, "ok", "already started")
        if m.job and m.job["state"] == "running":
            return Result(m.name, "failed", "a Chef run goes on")
        m.started.add(run)
        for i in m.instances:
            i.proved = False
        m.job = {"run": run, "release": do.release.id, "state": "running",
                 "left": self.random.randint(1, 5) if self.nemesis else 3}
        return Result(m.name, "ok")

    def do_sanity(self, m, do, attempt, seen):
        if self.chance("sanity_fails") or any(i.version in self.untestable for i in m.instances):
            return Result(m.name, "failed", "the page is wrong")
        for i in m.instances:
            i.passed = i.proved = True
        return Result(m.name, "ok")

    def do_live(self, m, do, attempt, seen):
        ids = dict(pair.split("=") for pair in seen.host(m.name).started.split(","))
        if any(i.up and ids[i.name] != f"s{i.start}" for i in m.instances):
            return Result(m.name, "failed", "412: another process runs")       # compare-and-set
        return self.flip(m, seen, "standby", "live")

    def do_migrate(self):
        laws.judge_migration(self)
        self.acts.append(("migrate", ""))
        self.migration = {**self.migration, "state": "started", "run": self.run, "alive": True}
        self.call()
        self.migration = {**self.migration, "state": "failed" if self.chance("lost") else "done", "alive": False}
        return Result("", "ok" if self.migration["state"] == "done" else "failed")

    def ports(self):
        def act(do, seen, attempt):
            if do.step != "migrate":
                return self.act(do, seen, attempt)
            self.call()
            return [self.do_migrate()]
        return Ports(self.look, act, lost=self.lost, sleep=lambda seconds: self.tick(seconds))


class Notebook:
    """A journal in memory, with the fields that the driver uses."""

    def __init__(self, world):
        self.world, self.events = world, []

    def write(self, kind, **fields):
        self.world.call()
        event = {"n": len(self.events) + 1, "at": self.world.now, "kind": kind, **fields}
        self.events.append(event)
        for name, started in (fields["hosts"] if kind == "seen_live" else {}).items():
            self.world.machine(name).proved = started
        if kind == "doing":
            self.world.dawdle()
        return event
