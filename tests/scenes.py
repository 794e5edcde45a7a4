"""What a rule is asked about, built in few words: components, hosts, worlds, memories. For the tests of rules only."""

from dataclasses import replace

from bgdeploy.decide import decide
from bgdeploy.memory import fold
from bgdeploy.model import ComponentSeen, Goal, HostSeen, Job, Memory, Policy, Release, Seen, Want

NOW = 1_000_000.0
ONE, TWO = Release((("api", "1"), ("web", "1"))), Release((("api", "2"), ("web", "2")))
POLICY = Policy(detection=4.0)


def part(name, heartbeat="live", release="1", started="s1", sessions=0, **more):
    """A component that the balancers agree with; `down` and None (unknown) as observe shows them."""
    if heartbeat == "down":
        return replace(ComponentSeen(name, "down", installed=release or ""), **more)
    if heartbeat is None:
        return replace(ComponentSeen(name, started=started), **more)
    pools = {"live": ("yes", "no"), "standby": ("no", "yes")}[heartbeat]
    return replace(ComponentSeen(name, heartbeat, release, started, *pools, sessions, False, release), **more)


def host(name, heartbeat="live", release="1", job=None, parts=("api", "web"), **more):
    """A host whose components are all alike; its stack is the part of the name before the dash."""
    components = tuple(part(each, heartbeat, release, **more) for each in parts)
    return HostSeen(name, name.split("-")[0], True, components, job, "boot-1")


def mixed(name, *components, job=None):
    return HostSeen(name, name.split("-")[0], True, components, job, "boot-1")


def dark(name, parts=("api", "web")):
    """A host that does not answer."""
    return HostSeen(name, name.split("-")[0], False, tuple(ComponentSeen(each) for each in parts))


def job(release=TWO, state="ok", run="run", tail=""):
    return Job("chef", run, release.id, state, tail, 1.0)


def foreign(state="running"):
    return Job("foreign", "pid 77 of root", None, state)


def seen(*hosts, migration=None, at=NOW):
    return Seen(at, hosts, migration)


def steady(*others):
    """Green and blue, two hosts each, all live on 1. Hosts that are given stand in for those of the same name."""
    given = {h.name: h for h in others}
    names = ["green-1", "green-2", "blue-1", "blue-2"] + [n for n in given if n not in ("green-1", "green-2", "blue-1", "blue-2")]
    return seen(*(given.get(name) or host(name) for name in names))


def began(first=None, run="run", **options):
    return {"kind": "began", "run": run, "at": NOW, "seen": first.to_json() if first else None, "options": options}


def did(step, hosts, before, release=TWO, served=None, **more):
    """The event of an act on hosts as they were in `before`, a Seen."""
    hosts = hosts.split()
    return {"kind": "doing", "step": step, "stack": before.host(hosts[0]).stack, "hosts": hosts,
            "release": release.id if release else None,
            "started": {name: before.host(name).started for name in hosts}, "served": hosts if served is None else served.split(),
            "at": NOW, **more}


def passed(hosts, after, release=TWO, outcome="ok", **more):
    """The events of a sanity test of hosts as they are in `after`."""
    return [{"kind": "result", "step": "sanity", "host": name, "outcome": outcome, "release": release.id,
             "started": after.host(name).started, **more} for name in hosts.split()]


def waiting(wait, stack, since):
    return {"kind": "waiting", "wait": wait, "stack": stack, "at": since}


def remembers(*events, first=None, **noted):
    """The memory of a run with these events. `noted`: what the driver notes from look to look."""
    flat = [e for each in events for e in (each if isinstance(each, list) else [each])]
    return replace(fold([began(first), *flat]), **noted)


def deploy(stack="green", release=TWO, hosts=()):
    return Goal((Want(stack, "live", release, hosts),))


def rollout(*stacks, release=TWO, **more):
    return Goal(tuple(Want(stack, "live", release) for stack in stacks or ("green", "blue")), kind="rollout", **more)


def by_hand(step, stack="green", release=None, hosts=()):
    mode = "standby" if step in ("standby", "drain") else "live"
    return Goal((Want(stack, mode, release, hosts),), only=step, kind="step")


def back(stack="green", *first):
    return Goal((*(Want(name, "live", None, hosts) for name, hosts in first), Want(stack, "standby")), kind="back")


def asked(goal, world, memory=None, policy=POLICY, **changes):
    """decide(), with parts of the policy changed by name. Where nothing is remembered the run has just begun."""
    return decide(goal, world, memory or Memory(run="run", first_seen=world), replace(policy, **changes), world.at)
