"""Arbitrary worlds, goals, policies and misfortunes for the driver, and the judgement of each trial.

`trial(...)` is asked by the property tests, by the mutants, and by `make soak`.
Run by hand: python3 -m tests.simulate TRIALS [SEED] prints trials, acts judged and violations.
"""

import random
import sys
from dataclasses import dataclass

from bgdeploy.drive import drive
from bgdeploy.model import Goal, Limits, Policy, Release, Want
from tests.datacentre import Instance, Killed, Machine, Notebook, World

BOUND = 4000        # looks after which a run counts as endless
LIMITS = Limits(pool=20, drain=15, chef=30, host=20, sanity=20)


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
    for stack in ["green", "blue", "red", "grey"][:rng.choice([2, 2, 2, 3, 4])]:
        version = rng.choice(["1", "1", "2"])
        for n in range(rng.choice([1, 2, 2, 3])):
            instances = []
            for name in names if n == 0 or rng.random() < 0.8 else rng.sample(names, 1):
                i = Instance(name, version=version, installed=version, boots_live=rng.random() < nemesis.get("boots_live", 0))
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
    return World(machines, rng.random(), nemesis, untestable={"3"} if rng.random() < 0.1 else ())


def arbitrary_goal(rng, world):
    names = sorted({i.name for m in world.machines for i in m.instances})
    release = Release(tuple((n, rng.choice(["2", "2", "2", "1", "3"]) if k == 0 else None) for k, n in enumerate(names)))
    release = Release(tuple((n, v or release.versions[0][1]) for n, v in release.versions))
    stacks = list(dict.fromkeys(m.stack for m in world.machines))
    kind = rng.choice(["deploy", "rollout", "rollout", "back", "step"])
    if kind == "back":
        return Goal((Want(stacks[0], "standby"),), kind="back"), release
    if kind == "step":
        only = rng.choice(["standby", "drain", "converge", "sanity", "live"])
        mode, wanted = ("standby", None) if only in ("standby", "drain") else ("live", release if rng.random() < 0.7 or only != "live" else None)
        return Goal((Want(stacks[0], mode, wanted),), only=only, kind="step"), release
    first = rng.choice(stacks)
    rest = [s for s in stacks if s != first] if kind == "rollout" else []
    migrate = "m" if kind == "rollout" and rng.random() < 0.3 else None
    world.needs = tuple(release.versions[:1]) if migrate else ()
    return Goal(tuple(Want(s, "live", release) for s in [first, *rest]), migrate, world.needs, kind=kind), release


def arbitrary_policy(rng, world):
    floor = ()
    if rng.random() < 0.3:
        floor = tuple((name, max(0, n - rng.randint(0, 1))) for name, n in world.floor.items())
        world.floor = dict(floor)
    return Policy(floor=floor, wave=rng.choice(["stack", "stack", 1, "50%"]), canary=rng.random() < 0.7, parallel=rng.randint(1, 4),
                  max_failed=rng.choice([0, 0, 1]), limits=LIMITS, drain_then=rng.choice(["stop", "proceed"]), unmeasured=3.0,
                  soak=rng.choice([0, 0, 2]), detection=3.0, on_failure=rng.choice(["stop", "stop", "ask"]))


def trial(seed, nemesis=None, kills=0, tear=False):
    """One world from the seed; the driver runs, is killed and started again `kills` times, while the world moves.

    :returns: Verdict; its violations are sentences, empty if every law held.
    """
    rng = random.Random(seed)
    world = arbitrary_world(rng, nemesis or {})
    goal, release = arbitrary_goal(rng, world)
    policy = arbitrary_policy(rng, world)
    return pursue(world, goal, policy, rng, kills, tear)


def pursue(world, goal, policy, rng, kills=0, tear=False, run="run"):
    book, ends, violations = Notebook(world), [], []
    for life in range(kills + 1):
        world.kill_at = world.calls + rng.randint(1, 60) if life < kills else None
        try:
            if life == 0:
                book.events.append({"kind": "began", "run": run, "at": world.now, "seen": world.look().to_json()})
            else:
                book.events.append({"kind": "joined", "at": world.now})
            looks = world.looks
            end = drive(goal, policy, book, bounded(world, run, looks + BOUND))
            ends.append(end)
            break
        except Killed:
            if tear and book.events:
                book.events[:] = book.events[:-1] or book.events
            for _ in range(rng.randint(0, 20)):
                world.tick()
        except Endless:
            violations.append(f"no end within {BOUND} looks")
            break
    violations += world.broken
    if ends and ends[-1].exit_code in (0, 6) and not world.nemesis.get("drift"):
        violations += unreached(world, goal, " ".join(ends[-1].warnings))
    return Verdict(world, ends, violations, world.looks)


class Endless(Exception):
    pass


def bounded(world, run, bound):
    ports = world.ports(run)

    def look():
        if world.looks > bound:
            raise Endless()
        return world.look()
    return type(ports)(look, ports.act, sleep=ports.sleep)


def unreached(world, goal, warnings):
    """What a Done claims and the truth denies; asked only where nobody else moved the world. Hosts named in a warning are excused."""
    found = []
    for want in goal.wants if not goal.only else ():
        for m in world.machines:
            if m.stack != want.stack or m.name in warnings or (want.hosts and m.name not in want.hosts):
                continue
            for i in m.instances:
                if want.mode == "standby" and world.serving(i):
                    found.append(f"done, but {m.name} {i.name} still serves")
                if want.mode == "live" and i.up and not i.sick and want.release and m.job and m.job["state"] == "ok" and i.version != want.release.version(i.name):
                    found.append(f"done, but {m.name} runs {i.name} {i.version}")
                if want.mode == "live" and world.serving(i) and i.by_our_converge and not i.passed:
                    found.append(f"done, but {m.name} {i.name} serves untested")
    return found


NEMESES = (
    {},
    {"drift": 0.02},
    {"drift": 0.05, "lost": 0.1, "lag": 0.3},
    {"lost": 0.2, "chef_fails": 0.2, "sanity_fails": 0.2},
    {"boots_live": 0.5, "drift": 0.02},
    {"stale": 0.3, "lag": 0.5, "silent": 0.02},
)


def misfortune(seed):
    """(nemesis, kills, torn journal?) of a trial, from its seed."""
    rng = random.Random(seed ^ 0x5EED)
    return rng.choice(NEMESES), rng.choice([0, 0, 1, 3]), rng.random() < 0.2


def main(trials, seed):
    rng, acts, looks, bad, codes = random.Random(seed), 0, 0, [], {}
    for n in range(trials):
        one = rng.randrange(1 << 48)
        verdict = trial(one, *misfortune(one))
        acts, looks = acts + len(verdict.world.acts), looks + verdict.looks
        code = verdict.ends[-1].exit_code if verdict.ends else None
        codes[code] = codes.get(code, 0) + 1
        if verdict.violations:
            bad.append((one, verdict.violations))
    print(f"trials {trials}  looks {looks}  acts judged {acts}  ends by exit code {dict(sorted(codes.items(), key=str))}  violations {len(bad)}")
    for one, violations in bad[:10]:
        print(f"  seed {one}: {violations[0]}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
