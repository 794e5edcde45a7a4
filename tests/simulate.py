"""Arbitrary worlds, goals, policies and misfortunes for the driver, and the judgement of each trial.

`trial` is asked by the property tests, by the mutants, and by `make soak`.
Run by hand: python3 -m tests.simulate TRIALS [SEED] prints trials, acts judged and violations; `hunt trials|hands TRIALS SEED`
ends at the first violation.
"""

import random
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace
from unittest.mock import patch

from bgdeploy import drive as driving
from bgdeploy.memory import fold
from bgdeploy.model import Ask, Goal, Limits, Policy, Release, Stop, Want
from tests.datacentre import Instance, Killed, Machine, Notebook, World
from tests.laws import Rules

BOUND = 4000        # looks after which a run counts as endless
ANSWERS = 8         # questions that a person answers in one trial
LIMITS = Limits(pool=20, drain=15, chef=30, host=20, sanity=20)
STEPS = ("standby", "drain", "converge", "sanity", "live")


@dataclass
class Verdict:
    world: object
    ends: list
    violations: list
    looks: int


def arbitrary_world(rng, nemesis):
    """Any start state: mixed versions, words, services down, hosts with only some components, 2-4 stacks."""
    names = rng.choice([["api"], ["api", "web"], ["api", "web"], ["api", "web", "job"]])
    machines = []
    calm = rng.random() < 0.5       # half of the worlds begin in the steady state
    blind = rng.random() < 0.15     # apps that do not count their requests, beside one that does
    for stack in ["green", "blue", "red", "grey"][:rng.choice([2, 2, 2, 3, 4])]:
        version = rng.choice(["1", "1", "2"])
        for n in range(rng.choice([1, 2, 2, 3])):
            instances = []
            for name in names if n == 0 or rng.random() < 0.8 else rng.sample(names, 1):
                i = Instance(name, version=version, installed=version, boots_live=rng.random() < nemesis.get("boots_live", 0),
                             counts=not blind or name == names[0], stuck=2 if rng.random() < nemesis.get("stuck", 0) else 0)
                if rng.random() < nemesis.get("lies", 0):
                    i.lies = rng.choice(["live", "standby"])
                if not calm:
                    i.word = rng.choice(["live", "live", "live", "standby"])
                    i.up = rng.random() < 0.9
                    i.version = i.installed = rng.choice([version, version, version, "1", "2"])
                    if not i.up and rng.random() < 0.3:
                        i.installed = ""
                instances.append(i)
            m = Machine(f"{stack}-{n + 1}", stack, instances)
            if not calm and rng.random() < 0.1:
                m.reachable, m.away = False, rng.randint(1, 60)
            if not calm and rng.random() < 0.15:
                version_ids = ",".join(f"{i.name}={rng.choice('12')}" for i in sorted(instances, key=lambda i: i.name))
                m.job = {"run": "earlier", "release": version_ids, "state": rng.choice(["ok", "failed", "running"]), "left": 3}
            machines.append(m)
    world = World(machines, rng.random(), nemesis, untestable={"3"} if rng.random() < 0.1 else ())
    world.migration["repeatable"] = rng.random() < 0.3
    return world


def arbitrary_release(rng, world):
    names = sorted({i.name for m in world.machines for i in m.instances})
    version = rng.choice(["2", "2", "2", "1", "3"])
    return Release(tuple((name, version) for name in names))


def arbitrary_goal(rng, world):
    release = arbitrary_release(rng, world)
    stacks = list(dict.fromkeys(m.stack for m in world.machines))
    kind = rng.choice(["deploy", "rollout", "rollout", "rollback", "back", "step"])
    if kind == "back":
        return Goal((Want(stacks[0], "standby"),), kind="back")
    if kind == "step":
        return by_hand(rng.choice(STEPS), stacks[0], release if rng.random() < 0.7 else None, release)
    first = rng.choice(stacks)
    rest = [s for s in stacks if s != first] if kind == "rollout" else []
    migrate = "m" if kind == "rollout" and rng.random() < 0.4 else None
    world.needs = tuple(release.versions[:1]) if migrate else ()
    hosts = [m.name for m in world.machines if m.stack == first]
    some = tuple(rng.sample(hosts, 1)) if kind == "deploy" and rng.random() < 0.15 else ()
    return Goal(tuple(Want(s, "live", release, some) for s in [first, *rest]), migrate, world.needs, kind=kind)


def by_hand(step, stack, pinned, release):
    """The goal of a step by hand, as goals.step makes it."""
    if step in ("standby", "drain"):
        return Goal((Want(stack, "standby", None),), only=step, kind="step")
    return Goal((Want(stack, "live", pinned if step == "live" else pinned or release),), only=step, kind="step")


def arbitrary_policy(rng, world):
    floor = ()
    if rng.random() < 0.3:
        floor = tuple((name, max(0, n - rng.randint(0, 1))) for name, n in world.floor.items())
        world.floor = dict(floor)
    gates = tuple(gate for gate in ("standby", "converge", "sanity", "live", "migrate", "stack") if rng.random() < 0.15)
    return Policy(floor=floor, wave=rng.choice(["stack", "stack", 1, "50%"]), canary=rng.random() < 0.7,
                  parallel=rng.randint(1, 4), max_failed=rng.choice([0, 0, 1]), limits=LIMITS,
                  drain_then=rng.choice(["stop", "proceed", "ask"]), unmeasured=3.0,
                  soak=rng.choice([0, 0, 2]), detection=3.0, on_failure=rng.choice(["stop", "stop", "ask"]), gates=gates,
                  max_in_flight=rng.choice([None, None, None, 6]))


def trial(seed, nemesis=None, kills=0, tear=False, lose=False):
    """One world from the seed; the driver runs, is killed and started again `kills` times, while the world moves.

    :param tear: a kill costs the journal its last event. :param lose: it costs the whole journal: the command is typed again.
    :returns: Verdict; its violations are sentences, empty if every law held.
    """
    rng = random.Random(seed)
    world = arbitrary_world(rng, nemesis or {})
    goal = arbitrary_goal(rng, world)
    policy = arbitrary_policy(rng, world)
    excluded = {m.name: "told" for m in world.machines if rng.random() < 0.05} if goal.kind != "back" else {}
    return pursue(world, goal, policy, rng, kills, tear, lose, excluded)


def pursue(world, goal, policy, rng, kills=0, tear=False, lose=False, excluded=None):
    world.rules = rules_of(goal, policy, excluded, strict=not (tear and kills))
    book, ends, violations, answers = Notebook(world), [], [], 0
    begin(world, book, goal, excluded)
    while True:
        world.kill_at = world.calls + rng.randint(1, 60) if kills > 0 else None
        try:
            end = driven(world, goal, policy, book)
            ends.append(end)
            if not isinstance(end.step, Ask) or answers >= ANSWERS:
                break
            answers += 1
            if rng.random() < 0.8 and not answer(world, book, end.step, rng.choice(end.step.choices)):
                break
            book.events.append({"kind": "joined", "at": world.now})
        except Killed:
            kills -= 1
            if world.migration["state"] == "started":
                world.migration["alive"] = False
            nobody_drives(world, rng, book, goal, tear, lose)
        except Endless:
            violations.append(f"no end within {BOUND} looks")
            break
    world.kill_at = None
    violations += world.broken
    if ends and ends[-1].exit_code in (0, 6) and not world.nemesis.get("drift"):
        violations += unreached(world, goal, " ".join(ends[-1].warnings))
    if not violations and goal.kind in ("deploy", "rollout", "rollback") and rng.random() < 0.3:
        violations += unfinished(world, goal, policy, book)
    return Verdict(world, ends, violations, world.looks)


def rules_of(goal, policy, excluded, strict=True):
    back = goal.kind == "back"
    return Rules(goal.only, back, tuple(w.stack for w in goal.wants), policy.gates, excluded=set(excluded or ()),
                 proceed=policy.drain_then == "proceed", strict=strict)


def begin(world, book, goal, excluded=None):
    book.events.append({"kind": "began", "run": world.run, "at": world.now, "seen": world.look().to_json(),
                        "goal": goal.to_json(), "options": {"exclude": excluded or {}}})


def nobody_drives(world, rng, book, goal, tear, lose):
    """After a kill: time goes by and the world moves. Then the run is resumed, or, with the journal lost, typed again."""
    if tear and len(book.events) > 1:
        book.events[:] = book.events[:-1]
    for _ in range(rng.randint(0, 20)):
        world.tick()
    world.shown = {}
    if lose:
        excluded = book.events[0]["options"]["exclude"]
        book.events[:] = []
        world.run += "x"
        for i in (i for m in world.machines for i in m.instances):
            i.by_our_converge = False       # another run's: live already when this one first looks
        for m in world.machines:
            m.taken_out = None
        world.rules.approved, world.rules.lived, world.rules.excluded = set(), set(), set(excluded)
        begin(world, book, goal, excluded)
    else:
        resume(world, book)


def resume(world, book):
    """What `invoke resume` writes before it drives: every failure of before gets another try."""
    book.events.append({"kind": "resumed", "at": world.now})
    memory = fold(book.events)
    hosts = {name for name, _, _ in memory.insane} | {key[1] for key in memory.tries} | set(memory.jobs)
    book.events.append({"kind": "forgave", "hosts": sorted(hosts) + ["migrate"], "named": False, "at": world.now})


def answer(world, book, question, choice):
    """A person's choice, as `invoke answer` writes it. Returns False after stop."""
    book.events.append({"kind": "answered", "choice": choice, "gate": question.gate, "stack": question.stack,
                        "hosts": list(question.hosts), "at": world.now})
    if choice == "approve":
        world.rules.approved.add((question.gate, question.stack))
    elif choice == "exclude":
        world.rules.excluded |= set(question.hosts)
    elif choice == "proceed":
        world.rules.proceed = True
    elif choice == "repeat":
        world.rules.may_repeat = True
    elif choice == "done":
        world.migration = {**world.migration, "state": "done"}
    return choice != "stop"


class Endless(Exception):
    pass


def bounded(world, bound):
    ports = world.ports()

    def look():
        if world.looks > bound:
            raise Endless()
        return world.look()
    return replace(ports, look=look)


def driven(world, goal, policy, book, interrupt=None):
    """One drive; its clock is the world's."""
    with patch.object(driving, "time", SimpleNamespace(monotonic=lambda: world.now)):
        return driving.drive(goal, policy, book, bounded(world, world.looks + BOUND), interrupt)


def unreached(world, goal, warnings):
    """What a Done claims and the truth denies; asked only where nobody else moved the world. Hosts named in a warning are
    excused."""
    found = []
    for want in goal.wants if not goal.only else ():
        for m in world.machines:
            if m.stack != want.stack or m.name in warnings or (want.hosts and m.name not in want.hosts):
                continue
            for i in m.instances:
                if i.lies:
                    continue
                if want.mode == "standby" and world.serving(i):
                    found.append(f"done, but {m.name} {i.name} still serves")
                if want.mode == "live" and i.up and not i.sick and want.release and m.job and m.job["state"] == "ok" \
                        and i.version != want.release.version(i.name):
                    found.append(f"done, but {m.name} runs {i.name} {i.version}")
                if want.mode == "live" and world.serving(i) and i.by_our_converge and not i.passed:
                    found.append(f"done, but {m.name} {i.name} serves untested")
    return found


def unfinished(world, goal, policy, book):
    """Liveness: once the misfortunes end and a person mends what is not this run's, resume finishes."""
    if set(world.untestable) & {v for w in goal.wants for _, v in w.release.versions} or world.rules.excluded:
        return []       # a bad release, or hosts left out, rightly keep a run from its end
    policy = replace(policy, max_in_flight=None)
    memory = fold(book.events)
    mended(world, {*memory.taken, *memory.jobs})
    for _ in range(80):        # each question of each stack is one
        resume(world, book)
        try:
            end = driven(world, goal, policy, book)
        except Endless:
            return [f"no end within {BOUND} looks after all was mended"]
        if isinstance(end.step, Ask):
            answer(world, book, end.step, end.step.choices[0])
        elif end.exit_code in (0, 6):
            return world.broken
        elif isinstance(end.step, Stop) and "someone took" in end.why:     # a person types what the sentence names
            book.events.append({"kind": "forgave", "hosts": list(end.step.hosts), "at": world.now})
            for name in end.step.hosts:
                world.machine(name).taken_out = None
    return [f"not finished after all was mended: {end.why}", *world.broken]


def mended(world, theirs):
    """Every misfortune ends, and a person mends what is no run's. :param theirs: names of hosts that a run has in hand."""
    world.nemesis, world.silent, world.untestable = {}, set(), set()
    for m in world.machines:
        m.reachable, m.away = True, 0
        if m.job and m.job["state"] == "reboot":        # a person reboots it
            m.job["state"] = "again"
        for i in m.instances:
            world.heal(m, i)
            if m.name not in theirs:
                i.word = "live"
                if not i.up:
                    i.installed = i.installed or "1"
                    world.again(m, i)
    if world.migration["state"] in ("started", "failed"):
        world.migration = {**world.migration, "state": "absent"}
    for _ in range(10):
        world.tick(5.0)


NEMESES = (
    {},
    {"drift": 0.02},
    {"drift": 0.05, "lost": 0.1, "lag": 0.3},
    {"lost": 0.2, "chef_fails": 0.2, "sanity_fails": 0.2},
    {"boots_live": 0.5, "drift": 0.02, "chef_fails": 0.2},
    {"stale": 0.3, "lag": 0.5, "silent": 0.02},
    {"lies": 0.1, "stuck": 0.2},
    {"blur": 0.04, "drift": 0.03, "slow": 0.1},
    {"slow": 0.3, "lost": 0.05, "robbed": 0.03, "chef_fails": 0.1},
)


def misfortune(seed):
    """(nemesis, kills, torn journal?, lost journal?) of a trial, from its seed."""
    rng = random.Random(seed ^ 0x5EED)
    return rng.choice(NEMESES), rng.choice([0, 0, 1, 3]), rng.random() < 0.2, rng.random() < 0.1


def hand_trial(seed):
    """The five steps by hand, each a drive of its own, in order or not, in a world that may move: none does another's work."""
    rng = random.Random(seed)
    nemesis = rng.choice(NEMESES)
    world = arbitrary_world(rng, nemesis)
    release, policy = arbitrary_release(rng, world), arbitrary_policy(rng, world)
    stack = world.machines[0].stack
    book, ends, violations = Notebook(world), [], []
    steps = list(STEPS) if rng.random() < 0.6 else [rng.choice(STEPS) for _ in range(6)]
    for step in steps:
        memory = fold(book.events)
        ours = any(m.name in memory.jobs for m in world.machines if m.stack == stack)
        goal = by_hand(step, stack, release if ours or step != "live" else None, release)
        before, world.rules, world.shown = world.rules, rules_of(goal, policy, None), {}
        world.rules.approved, world.rules.excluded = before.approved, before.excluded
        world.rules.proceed |= before.proceed
        if book.events:
            book.events.append({"kind": "joined", "at": world.now})
        else:
            begin(world, book, goal)
        for m in world.machines if step == "live" else ():
            m.taken_out = None
        if step == "live":
            book.events.append({"kind": "forgave", "hosts": [m.name for m in world.machines if m.stack == stack],
                                "at": world.now})
        try:
            end = driven(world, goal, policy, book)
            ends.append(end)
            if isinstance(end.step, Ask):
                answer(world, book, end.step, rng.choice(end.step.choices))
        except Endless:
            violations.append(f"{step} by hand: no end within {BOUND} looks")
        violations += [f"{step} by hand, in {steps}: {sentence}" for sentence in world.broken]
        world.broken = []
    return Verdict(world, ends, violations, world.looks)


def hunt(kind, trials, seed):
    """Until the first violation: a mutant is found by one. Returns 1 if there was one. An error of the driver is one too."""
    rng = random.Random(seed)
    for _ in range(trials):
        one = rng.randrange(1 << 48)
        try:
            verdict = trial(one, *misfortune(one)) if kind == "trials" else hand_trial(one)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            print(f"{kind} {one}: {error!r}")
            return 1
        if verdict.violations:
            print(f"{kind} {one}: {verdict.violations[0]}")
            return 1
    return 0


def main(trials, seed):
    """As many trials as told, a tenth of them by hand; every 20,000 a line on stderr. Returns whether a law was broken."""
    rng, acts, looks, bad, codes = random.Random(seed), 0, 0, [], {}
    for n in range(trials):
        one = rng.randrange(1 << 48)
        verdict = trial(one, *misfortune(one)) if n % 10 else hand_trial(one)
        acts, looks = acts + len(verdict.world.acts), looks + verdict.looks
        code = verdict.ends[-1].exit_code if verdict.ends else None
        codes[code] = codes.get(code, 0) + 1
        if verdict.violations:
            bad.append((one, n % 10 == 0, verdict.violations))
        if (n + 1) % 20000 == 0 and n + 1 < trials:
            print(f"{n + 1} of {trials} trials, {acts} acts judged, {len(bad)} with violations", file=sys.stderr, flush=True)
    print(f"trials {trials}  looks {looks}  acts judged {acts}  ends by exit code {dict(sorted(codes.items(), key=str))}  "
          f"violations {len(bad)}")
    for one, hand, violations in bad[:10]:
        print(f"  {'hand_trial' if hand else 'trial'} {one}: {violations[0]}")
    return bool(bad)


if __name__ == "__main__":
    if sys.argv[1] == "hunt":
        sys.exit(hunt(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
