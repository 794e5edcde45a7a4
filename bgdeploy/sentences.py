"""The sentences of the rules: hosts and components in words, with their numbers. Pure; decides nothing."""

from bgdeploy.model import DOWN
from bgdeploy.prove import allowed, converged, is_out, known, loose, running, runs, sane, serves, state, untouched


def lacks(hosts, release):
    """What keeps the hosts from being the release: the versions that run now, or that only Chef is missing."""
    if all(runs(h, release) for h in hosts):
        jobs = {(h.job.state, h.job.release) if h.job else None for h in hosts}
        what = "Chef has not ended ok with these cookbooks" if jobs != {None} else "no Chef run is known"
        return f"the versions run already; {what}"
    parts = {f"{c.name} {c.release or state(c)}" for h in hosts for c in h.components if c.release != release.version(c.name)}
    return ", ".join(sorted(parts)) + " now"


def chef_doing(h):
    """What a busy host is waited for."""
    if h.job.state == "reboot":
        return "Chef asked for a reboot"
    if h.job.kind == "foreign":
        return f"a Chef run of somebody else ({h.job.run}) holds the lock"
    since = f" since {h.job.seconds:.0f} s" if h.job.seconds is not None else ""
    return f"Chef runs{since}" + (f"; {h.job.tail}" if h.job.tail else "")


def standing(seen, short):
    """What the last look proved, for who comes to a run that was interrupted: who serves, and where Chef goes on.

    :param seen: Seen, or None. :param short: sentences on what is not proved to be served at its floor.
    """
    if seen is None:
        return "nothing was looked at"
    said = []
    for name in seen.stacks:
        hosts = seen.stack(name)
        up, dark = [h for h in hosts if serves(h)], [h for h in hosts if not known(h)]
        how = "serves" if len(up) == len(hosts) else f"serves with {len(up)} of {len(hosts)} hosts" if up else "does not serve"
        said.append(f"{name} {how}" + (f" ({names(dark)} not known)" if dark else ""))
    busy = [h for h in seen.hosts if running(h)]
    return "; ".join([f"at the last look {', '.join(said)}", *([f"Chef goes on on {names(busy)}"] if busy else []),
                      *([f"the floor is not proved to be served: {'; '.join(short)}"] if short else [])])


def doubt(h):
    """A host that is not known, and what of it is not."""
    if not h.reachable:
        return f"{h.name} (out of reach)"
    parts = [f"{c.name} {state(c)}" for c in h.components
             if not c.sick and c.heartbeat != DOWN and None in (c.heartbeat, c.started)]
    return f"{h.name} ({', '.join(parts)})"


def perhaps_old(host):
    """What a person must know of an excluded host that nobody reaches: it keeps its word, and comes back with it."""
    cure = f"invoke deploy --stack {host.stack} --hosts {host.name}" if host else ""
    return f"; out of reach: it may come back live on an old version, until {cure}" if host and not known(host) else ""


def counted(h):
    """How many requests are in flight on a host, as far as anybody counts them."""
    if h.sessions is not None:
        return str(h.sessions)
    blind = ", ".join(c.name for c in h.components if c.sessions is None and c.heartbeat != DOWN)
    return f"{h.in_flight}, and nothing counts those of {blind}" if h.in_flight else "nothing counts them"


def why_leaving(want, hosts, memory):
    """Why hosts leave LIVE."""
    if want.release is None:
        return f"{want.stack} is wanted in standby"
    if all(converged(h, want.release, memory) for h in hosts):
        return "a Chef run started its processes and they are not tested"
    return f"{want.release.id} is wanted; {lacks(hosts, want.release)}"


def up_untested(hosts, memory):
    """Which live processes came from this run's converge and were never tested."""
    return f"{', '.join(f'{part} of {h.name}' for h in hosts for part in loose(h, memory))} came up live after Chef, untested"


def proof(want, hosts, memory):
    """What lets hosts go live."""
    if any(allowed(h, memory) for h in hosts):
        return "untested, as told"
    if all(untouched(h, memory) for h in hosts) and not (want.release and all(sane(h, want.release, memory) for h in hosts)):
        return "the same processes as before"
    return "passed sanity"


def pools(hosts, balancer, late=True):
    """What a balancer says of each instance that has something to say there. :param late: it should have been done by now: tell
    what each node says."""
    def said(c):
        word, nodes = (c.live_pool, c.live_nodes) if balancer == "LIVE" else (c.standby_pool, c.standby_nodes)
        more = "; ".join(filter(None, (nodes if late else "", c.note)))
        return (word or "nothing yet") + (f" ({more})" if more else "")

    return "; ".join(f"{h.name} {c.name}: {balancer} says {said(c)}" for h in hosts for c in h.components
                     if not c.sick and c.heartbeat != DOWN)


def names(hosts):
    """green-1 green-2, for sentences."""
    return " ".join(h.name for h in hosts)


def ids(hosts):
    """The names, as steps hold them."""
    return tuple(h.name for h in hosts)


def comma(hosts):
    """green-1,green-2, for commands."""
    return ",".join(h.name for h in hosts)


def by_hand(step, want, hosts=(), due=()):
    """What to type for a step by hand: of the hosts that were named; a test, where others of `hosts` are live, of the due ones
    alone: it is refused of what is live."""
    some = want.hosts or (due if step == "sanity" and not all(map(is_out, hosts)) else ())
    return f"invoke {step} --stack {want.stack}" + (f" --hosts {','.join(some)}" if some else "")


def rollback(want, seen, memory):
    """What to type where `back` leads nowhere: a rollback, and of all stacks where this run has hosts of another out of LIVE."""
    ours = {*memory.taken, *memory.jobs, *memory.put}
    more = any(h.stack != want.stack and h.name in ours and not serves(h) for h in seen.hosts)
    return "invoke rollback" if more else f"invoke rollback --stack {want.stack}"


def reached(goal):
    """What Done says: every want in words."""
    done = [(f"{', '.join(w.hosts)} of " if w.hosts else "") + f"{w.stack} is {w.mode}"
            + (f" on {w.release.id}" if w.release else "") for w in goal.wants]
    if goal.only and goal.wants:
        done = [f"{goal.only} is done on {', '.join(goal.wants[0].hosts) or goal.wants[0].stack}"]
    return "; ".join(done + ([f"{goal.migrate} is done"] if goal.migrate else [])) or "nothing to do"
