"""The sentences of the rules: hosts and components in words, with their numbers. Pure; decides nothing."""

from bgdeploy.model import DOWN
from bgdeploy.prove import runs, state


def lacks(hosts, release):
    """What keeps the hosts from being the release: the versions that run now, or that only Chef is missing."""
    if all(runs(h, release) for h in hosts):
        jobs = {(h.job.state, h.job.release) if h.job else None for h in hosts}
        return "the versions run already" + ("; Chef has not ended ok with these cookbooks" if jobs != {None} else "; no Chef run is known")
    return ", ".join(sorted({f"{c.name} {c.release or state(c)}" for h in hosts for c in h.components if c.release != release.version(c.name)})) + " now"


def chef_doing(h):
    """What a busy host is waited for."""
    if h.job.state == "reboot":
        return "Chef asked for a reboot"
    if h.job.kind == "foreign":
        return f"a Chef run of somebody else ({h.job.run}) holds the lock"
    return "Chef runs" + (f" since {h.job.seconds:.0f} s" if h.job.seconds is not None else "")


def doubt(h):
    """A host that is not known, and what of it is not."""
    if not h.reachable:
        return f"{h.name} (out of reach)"
    parts = [f"{c.name} {state(c)}" for c in h.components if not c.sick and c.heartbeat != DOWN and (c.heartbeat is None or c.started is None)]
    return f"{h.name} ({', '.join(parts)})"


def names(hosts):
    """green-1 green-2, for sentences."""
    return " ".join(h.name for h in hosts)


def comma(hosts):
    """green-1,green-2, for commands."""
    return ",".join(h.name for h in hosts)


def reached(goal):
    """What Done says: every want in words."""
    done = [f"{w.stack} is {w.mode}" + (f" on {w.release.id}" if w.release else "") for w in goal.wants]
    if goal.only and goal.wants:
        done = [f"{goal.only} is done on {goal.wants[0].stack}"]
    return "; ".join(done + ([f"{goal.migrate} is done"] if goal.migrate else [])) or "nothing to do"
