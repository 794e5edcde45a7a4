"""The checker of the fault campaign: laws over a run's journal, the truth as witnessed, and the traffic. Pure; no I/O.

Each law is a function from Evidence to a list of sentences: what broke it. An empty list is all that a case may give.
"""

from dataclasses import dataclass, field

from bgdeploy import versions
from bgdeploy.records import is_open
from lab.load import longest_gap

RESOLUTION = 2.0        # seconds: a shorter gap is what a busy machine makes of one slow answer, with or without a fault
BEFORE = 3              # looks in a row before an act that must all show what it is blamed for: a driver looks and then acts
AFTER = 6               # looks in a row that show an untested process live until it has "stayed" live
GOOD = (0, 6)


@dataclass(frozen=True)
class Baseline:
    """What the same fault did to the same traffic without a driver: a number a run, for each measure.

    The most that a driver may have is the greatest of them plus their spread, which is the greatest less the least.
    """

    failed: tuple = ()
    gaps: tuple = ()            # seconds

    @property
    def most_failed(self):
        return max(self.failed) + max(self.failed) - min(self.failed)

    @property
    def longest(self):
        return max(self.gaps) + max(max(self.gaps) - min(self.gaps), RESOLUTION)


@dataclass(frozen=True)
class Evidence:
    """All that is known of one case.

    :param runs: {run id: events of its journal}, those that had a part in it. :param looks: witness.Look in order.
    :param since: when it began, seconds since the epoch: events and looks before that are history.
    :param floor: {component: least number of serving instances}. :param nodes: the names of LIVE's nodes.
    :param stacks: {stack: host names}. :param wanted: {host: version} at the end. :param samples: requests that are judged.
    :param asides: long requests that no fault touched. :param commands: pairs (what was typed, exit code), the last ones those
        that finish the case. :param lock: the lock's holder at the end, or None. :param baseline: or None: traffic is not judged.
    """

    runs: dict
    looks: tuple
    since: float = 0.0
    floor: dict = field(default_factory=dict)
    nodes: tuple = ()
    stacks: dict = field(default_factory=dict)
    wanted: dict = field(default_factory=dict)
    samples: tuple = ()
    asides: tuple = ()
    commands: tuple = ()
    lock: object = None
    baseline: Baseline = None


def judge(evidence):
    """Sentences, each with the law that is broken; [] if none is."""
    return [f"{name}: {sentence}" for name, law in LAWS.items() for sentence in law(evidence)]


def acts(evidence, step):
    """Events that announce an act of this step within the case, in order of time."""
    found = [e for events in evidence.runs.values() for e in events
             if e.get("kind") == "doing" and e.get("step") == step and e["at"] >= evidence.since]
    return sorted(found, key=lambda e: e["at"])


def before(evidence, moment):
    """The last looks before a moment; fewer than BEFORE prove nothing."""
    looks = [look for look in evidence.looks if look.at < moment][-BEFORE:]
    return looks if len(looks) == BEFORE else []


def floor(evidence):
    """No act takes out so much that fewer than the floor serve. What is untested serves nobody: its way out is no harm."""
    found = []
    for e in acts(evidence, "standby"):
        looks = before(evidence, e["at"])
        for component, least in evidence.floor.items():
            rest = [serving(evidence, look, component, e["hosts"]) for look in looks]
            if looks and not e.get("rescue") and max(rest) < least and any(
                    look.serves(h, component, evidence.nodes) for look in looks for h in e["hosts"]):
                found.append(f"standby of {', '.join(e['hosts'])} left {max(rest)} of {component}, the floor is {least}")
    return found


def serving(evidence, look, component, without=()):
    hosts = {host for host, name in look.instances if name == component} - set(without)
    return sum(look.serves(host, component, evidence.nodes) for host in hosts)


def converge(evidence):
    """Chef is never started on a host that says live or that LIVE sends to."""
    found = []
    for e in acts(evidence, "converge"):
        looks = before(evidence, e["at"])
        for host in e["hosts"]:
            words = [[one.word for (name, _), one in look.instances.items() if name == host] for look in looks]
            if looks and all("live" in said for said in words):
                found.append(f"converge of {host} while it said live")
            sent = [any(up and (node, name) == (n, host) for (n, name, _), up in look.pools.items() for node in evidence.nodes)
                    for look in looks]
            if looks and all(sent):
                found.append(f"converge of {host} while LIVE sent to it")
    return found


def untested(evidence):
    """What was converged does not stay live before it passed sanity, as exactly the process that passed, or as one of the same
    version that came after it (a crash, a power cut)."""
    found = []
    for host in sorted({h for e in acts(evidence, "converge") for h in e["hosts"]}):
        began = [(e["at"], parts((e.get("started") or {}).get(host))) for e in acts(evidence, "converge") if host in e["hosts"]]
        passed = [(e["at"], parts(e.get("started")), release(e.get("release")))
                  for events in evidence.runs.values() for e in events
                  if (e.get("kind"), e.get("step"), e.get("host"), e.get("outcome")) == ("result", "sanity", host, "ok")]
        run = {}
        for look in evidence.looks:
            for (name, component), one in look.instances.items():
                touched = [old for at, old in began if at < look.at]
                if name != host or one.word != "live" or not touched or one.start == touched[0].get(component):
                    run[name, component] = 0
                    continue
                last = max(at for at, _ in began if at < look.at)
                proved = any(last < at < look.at and (started.get(component) == one.start or of.get(component) == one.version)
                             for at, started, of in passed)
                run[name, component] = 0 if proved else run.get((name, component), 0) + 1
                if run[name, component] == AFTER:
                    found.append(f"{component} {one.version} on {host} stayed live untested")
    return found


def parts(text):
    """'api=1,web=2' taken apart; {} of nothing."""
    return dict(pair.split("=", 1) for pair in (text or "").split(",") if "=" in pair)


def release(text):
    return parts((text or "").partition("@")[0])


def migration(evidence, needs=(("api", "2.0.0"),)):
    """No migration while a host runs what cannot read its documents."""
    found = []
    for e in acts(evidence, "migrate"):
        for look in before(evidence, e["at"])[-1:]:
            found += [f"migration while {host} ran {component} {one.version}" for (host, component), one in look.instances.items()
                      for name, least in needs if name == component and versions.compare(one.version, least) < 0]
    return found


def ended(evidence):
    """Every run has an end, none is left open, the lock is free, and the command that finished the case ended with 0 or 6.

    A driver that was killed before its first act leaves the beginning of a run, which is open to nobody: one each.
    """
    found, killed = [], sum(code == -9 for _, code in evidence.commands)
    for run, events in evidence.runs.items():
        if not events or events[-1].get("kind") != "ended":
            if killed and not is_open(events):
                killed -= 1
                continue
            found.append(f"run {run} has no end: its last event is {events[-1].get('kind') if events else 'nothing'}")
        elif is_open(events):
            found.append(f"run {run} is open, it ended with {events[-1].get('exit_code')}: {events[-1].get('why')}")
    if not evidence.commands or evidence.commands[-1][1] not in GOOD:
        found.append(f"not finished: {', '.join(f'{typed} ended with {code}' for typed, code in evidence.commands) or 'nothing'}")
    found += [f"{typed} ended with {code}" for typed, code in evidence.commands if code not in (0, 3, 4, 5, 6, 7, 8, -9)]
    return found + ([f"the lock is held: {evidence.lock}"] if evidence.lock else [])


def whole(evidence):
    """At the end every host is live in every pool of LIVE, on the version that was wanted, each stack as one where it was
    wanted as one."""
    if not evidence.looks:
        return ["nobody looked"]
    look, found = evidence.looks[-1], []
    for stack, hosts in evidence.stacks.items():
        for host in hosts:
            for component in evidence.floor:
                one = look.instances.get((host, component))
                if not look.serves(host, component, evidence.nodes):
                    found.append(f"{component} on {host} of {stack} does not serve: {one.word if one else 'no answer'}")
                elif host in evidence.wanted and one.version != evidence.wanted[host]:
                    found.append(f"{component} on {host} runs {one.version}, {evidence.wanted[host]} was wanted")
    return found


def availability(evidence):
    """The driver adds no failed request and no longer gap to what the fault alone does, beyond the baseline's spread. A long
    request that no fault touched is never cut."""
    found = [f"a request of {s.end - s.begin:.0f} s to {s.component} failed: {s.what}" for s in evidence.asides if s.what]
    if evidence.baseline is None:
        return found
    failed, gap = sum(bool(s.what) for s in evidence.samples), longest_gap(evidence.samples)
    if failed > evidence.baseline.most_failed:
        found.append(f"{failed} requests failed; without a driver {', '.join(map(str, evidence.baseline.failed))}, "
                     f"so {evidence.baseline.most_failed} may")
    if gap > evidence.baseline.longest:
        found.append(f"a gap of {gap:.1f} s; without a driver {', '.join(f'{g:.1f}' for g in evidence.baseline.gaps)}, "
                     f"so {evidence.baseline.longest:.1f} may be")
    return found


LAWS = {"floor": floor, "converge": converge, "untested": untested, "migration": migration, "ended": ended, "whole": whole,
        "availability": availability}
