"""What may never happen, judged against the truth of a World at each act and each look. The same for every goal and policy."""

from dataclasses import dataclass, field

AGED = 5.0          # seconds after which a look is too old to act on
SEEN_LONG = 6       # looks in a row that showed an untested process live, without an act on it, after which it "stayed" live


@dataclass
class Rules:
    """What this run was told, for the laws that depend on it.

    :param only: the one step that a run by hand may do. :param stacks: in the goal's order. :param proceed: requests in flight
        need not be waited for, by policy or by a person's word. :param lived: stacks that this run put live.
    :param strict: False where the journal lost its end, so that a question may be forgotten.
    """

    only: str = None
    back: bool = False
    stacks: tuple = ()
    gates: tuple = ()
    approved: set = field(default_factory=set)
    excluded: set = field(default_factory=set)
    proceed: bool = False
    lived: set = field(default_factory=set)
    strict: bool = True
    may_repeat: bool = False


def judge(world, do, name):
    """One act on one host, at the moment it happens."""
    machine, rules = world.machine(name), world.rules
    for law in (LAWS[do.step], gates, exclusion, one_step, by_hand, fresh):
        world.broken += law(world, do, machine, rules)
    if do.step == "live" and not do.rescue:     # what was put back as it was is no stack that was deployed
        rules.lived.add(machine.stack)
    machine.proved = machine.taken_out = None


def untested(i):
    return i.by_our_converge and not i.passed


def standby(world, do, machine, rules):
    """No act lowers a component below the floor. What our converge started and nobody tested serves nobody, in the law's eyes;
    nor does a host where a person put such a process live: the driver may have died before it could note that it passed."""
    found = []
    theirs = do.rescue and any((machine.name, i.name, i.start) in world.excused for i in machine.instances)
    for i in machine.instances:
        if world.serving(i) and not untested(i) and not theirs and i.lies != "standby":     # who says standby is not told
            others = (o for m in world.machines for o in m.instances if o.name == i.name and m.name not in do.hosts)
            rest = sum(world.serving(o) for o in others)
            if rest < world.floor.get(i.name, 0):
                found.append(f"standby of {machine.name} leaves {rest} of {i.name}, the floor is {world.floor[i.name]}")
    return found


def converge(world, do, machine, rules):
    """No converge on a host that LIVE sends to, nor while requests that can be counted are in flight."""
    found = []
    for i in machine.instances:
        if i.says() == "live" or (i.up and not i.sick and any(i.pools[n][0] for n in world.LIVE)):
            found.append(f"converge of {machine.name} while {i.name} is in LIVE")
    counted = [i for i in machine.instances if i.up and i.counts and not i.sick]
    if not rules.proceed and any(i.sessions for i in counted):
        found.append(f"converge of {machine.name} with requests in flight")
    return found


def sanity(world, do, machine, rules):
    """Nothing is tested while it serves."""
    return [f"sanity of {machine.name} while {i.name} is live" for i in machine.instances if i.says() == "live" and not i.lies]


def live(world, do, machine, rules):
    """No process that our converge started goes live untested."""
    return [f"{machine.name} {i.name} goes live untested" for i in machine.instances if i.up and i.word != "live" and untested(i)]


LAWS = {"standby": standby, "converge": converge, "sanity": sanity, "live": live}


def gates(world, do, machine, rules):
    """No act that a gate holds before a person approved; going back and making safe are held by none."""
    if do.rescue or rules.back or not rules.strict:
        return []
    found = []
    if do.step in rules.gates and (do.step, machine.stack) not in rules.approved:
        found.append(f"{do.step} of {machine.name} without approval")
    earlier = rules.stacks[:rules.stacks.index(machine.stack)] if machine.stack in rules.stacks else ()
    serving = any(world.serving(i) for m in world.machines for i in m.instances if m.stack in earlier and m.stack in rules.lived)
    if do.step == "standby" and "stack" in rules.gates and serving and ("stack", machine.stack) not in rules.approved:
        found.append(f"{machine.stack} leaves without approval")
    return found


def exclusion(world, do, machine, rules):
    """Nothing is done to an excluded host."""
    return [f"{do.step} of {machine.name}, which is excluded"] if machine.name in rules.excluded else []


def one_step(world, do, machine, rules):
    return [f"{do.step} of {machine.name} in a run that is {rules.only} by hand"] if rules.only not in (None, do.step) else []


def by_hand(world, do, machine, rules):
    """What this run put live and proved to serve, and a person took out then, goes live again by a typed word only."""
    theirs = rules.strict and rules.only != "live" and machine.taken_out == machine.starts()
    return [f"{machine.name} goes live, which a person took out"] if do.step == "live" and theirs else []


def fresh(world, do, machine, rules):
    """Nothing is done on a look that has become old meanwhile."""
    age = world.now - world.looked
    return [f"{do.step} of {machine.name} on a look that is {age:g} s old"] if age > AGED else []


def judge_migration(world):
    """No migration while mixed; never a second time without leave; never by a run of another step."""
    if any(i.version < least for c, least in world.needs for m in world.machines for i in m.instances if i.name == c):
        world.broken.append("migration while mixed")
    if world.migration["state"] == "done":
        world.broken.append("migration after it was done")
    if world.migration["state"] in ("started", "failed") and not (world.migration["repeatable"] or world.rules.may_repeat):
        world.broken.append("a migration that was begun is repeated without leave")
    if world.rules.only or "migrate" in world.rules.gates and world.rules.strict and ("migrate", "") not in world.rules.approved:
        world.broken.append("migration that nobody asked for")


def judge_look(world, hosts):
    """No process of our converge stays live untested for longer than it takes to see it and to act. One that crashed and came
    back on the release that passed is tested enough to go on serving."""
    shown = {}
    for host, machine in zip(hosts, world.machines):
        for seen, i in zip(host.components, machine.instances):
            key = (machine.name, i.name, i.start)
            ours = untested(i) and not i.proved and world.brought(machine, i.name, i.version) and key not in world.excused
            if seen.heartbeat == "live" and i.word == "live" and ours:
                shown[key] = world.shown.get(key, 0) + 1
                if shown[key] == SEEN_LONG and not world.rules.back and machine.name not in world.rules.excluded:
                    world.broken.append(f"{machine.name} {i.name} stays live untested")
    world.shown = shown
