"""What may hold a step back that the ladder found due: closed hours, gates, and too many tries. Pure; part of the rules."""

from bgdeploy.model import Ask, Do, Stop
from bgdeploy.prove import closed, reason, state


def timely(q, step):
    """Closed hours: no run begins in them, and no further stack leaves LIVE unless a person says so. They never hold what
    goes live, back, a rollback or what makes things safe."""
    if not isinstance(step, Do) or step.rescue or step.step in ("live", "sanity") or q.goal.kind in ("back", "rollback"):
        return step
    hours = closed(q.policy, q.now)
    if hours and not q.memory.acted:
        return Stop(f"{hours}: no deployment begins now", "the same command with --override-hours REASON")
    if hours and step.step != "converge" and ("hours", step.stack) not in q.memory.approved:
        what = f"{step.stack} leave LIVE" if step.stack else "the database be migrated"
        return Ask("hours", step.stack, step.hosts, ("approve", "stop"), f"{hours} have begun; may {what} all the same?")
    return step


def gated(q, step):
    """A gate of the inventory: a person approves first. Nothing holds what makes things safe."""
    if not isinstance(step, Do) or step.rescue or q.goal.kind == "back":
        return step
    if step.step in q.policy.gates and (step.step, step.stack) not in q.memory.approved:
        return Ask(step.step, step.stack, step.hosts, ("approve", "stop"), f"next is {step.step}: {step.why}")
    return step


def patient(q, step):
    """The same act on the same host more often than `tries` is no progress: stop, or ask, and show what is seen."""
    if not isinstance(step, Do):
        return step
    ask = q.policy.on_failure == "ask" and q.memory.acted and step.stack and not step.rescue and q.goal.kind != "back"
    for name in step.hosts or ("",):        # a migration is done to no host
        why = worn(q, step.step, name, step.release)
        if why and ask:
            return Ask("failure", step.stack, (name,), ("retry", "exclude", "stop"), why)
        if why:
            return Stop(why, "invoke resume" if q.memory.acted else "invoke status", (name,) if name else ())
    return step


def worn(q, step, name, release):
    """Why this act on this host is not tried again, with what its last try said and what is seen now; or None."""
    host, release = q.seen.host(name), release.id if release else None
    same = q.memory.tries.get((step, name, release, host.started if host else None), 0)
    alike = sum(n for (kind, at, of, _), n in q.memory.tries.items() if (kind, at, of) == (step, name, release))
    if same < q.policy.tries and alike < 3 * q.policy.tries:
        return None
    now = q.seen.migration["state"] if host is None else ", ".join(
        f"{c.name} {state(c)} {c.release or ''}".strip() for c in host.components)
    where = f" on {name}" if name else ""
    said = "".join(q.memory.said.get((step, name), "").splitlines()[:1])[:500]
    if not said and step == "converge" and host.job and host.job.state not in ("ok", "running"):
        said = f"Chef ended {host.job.state}: {reason(host.job)}"       # again and again, say
    said = f"{said}; " if said else ""
    return f"{step}{where} was tried {max(same, alike)} times and it is still due: {said}now {now}"
