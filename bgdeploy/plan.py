"""The plan: `decide` unrolled over a predicted world in which every step does what it should. Changes nothing.

Because plan and run ask the same `decide`, a run in a faultless world does exactly its plan (tests/test_plan.py).
"""

from dataclasses import replace

from bgdeploy.decide import decide
from bgdeploy.memory import remember
from bgdeploy.model import DOWN, LIVE, MOVING, NO, STANDBY, YES, Ask, Do, Done, Job, Memory, Stop, Wait
from bgdeploy.prove import serves

LONGEST = 2000      # steps; a site with more than a few hundred hosts in waves of one stays below


def plan(goal, seen, policy, now, memory=None):
    """The steps from what is seen now to the goal.

    :returns: list of steps in order; the last is Done or Stop. A gate stands in it as an Ask, and the plan goes on as if
        it were approved; any other question ends it.
    """
    memory = memory or Memory(run="plan", first_seen=seen)
    steps = []
    while len(steps) < LONGEST:
        step = decide(goal, seen, memory, policy, now)
        steps.append(step)
        if isinstance(step, (Done, Stop)) or (isinstance(step, Ask) and "approve" not in step.choices):
            break
        if isinstance(step, Wait) and step.kind == "host":
            break                   # nobody can predict whether a silent host comes back
        for event in events(step, seen, now):
            memory = remember(memory, event)
        seen = predict(seen, step, memory.run)
        now += 2.0 if not isinstance(step, Wait) or step.kind != "soak" else max(2.0, step.until - now)
        memory = replace(memory, quiet={h.name: now - 2.0 for h in seen.hosts if h.sessions == 0})
    return steps


def events(step, seen, now):
    """The events that the driver would write for this step if all went well."""
    if isinstance(step, Ask):
        return [{"kind": "answered", "gate": step.gate, "stack": step.stack, "choice": "approve", "at": now}]
    if isinstance(step, Wait):
        return [{"kind": "waiting", "wait": step.kind, "stack": step.stack, "at": now}] + (
            [{"kind": "waited", "wait": "drain", "outcomes": {h: "drained" for h in step.hosts}}] if step.kind == "drain" else [])
    started = {h.name: h.started for h in seen.hosts}
    release = step.release.id if step.release else None
    first = {"kind": "doing", "step": step.step, "stack": step.stack, "hosts": step.hosts, "release": release, "started": started,
             "served": [h.name for h in seen.hosts if h.name in step.hosts and serves(h)], "at": now}
    results = [{"kind": "result", "step": step.step, "host": h, "outcome": "ok", "release": release, "started": started[h]}
               for h in step.hosts]
    then = [{"kind": "seen_live", "hosts": {h: started[h] for h in step.hosts}}] if step.step == "live" else []
    return [first, *results, *then]


def predict(seen, step, run):
    """The world after one step that does what it should. Pure. A question changes nothing."""
    if isinstance(step, Ask):
        return seen
    hosts = tuple(host_after(h, step, run) if h.name in step.hosts else h for h in seen.hosts)
    migration = {**(seen.migration or {}), "state": "done"} if isinstance(step, Do) and step.step == "migrate" else seen.migration
    return replace(seen, hosts=hosts, migration=migration)


def host_after(host, step, run):
    if isinstance(step, Wait):
        if step.kind == "chef":
            job = replace(host.job, state="ok") if host.job else None
            if job and job.kind == "chef" and job.run == run:
                installed = dict(pair.split("=", 1) for pair in job.release.split("@")[0].split(",") if pair)
                return replace(host, job=job, components=tuple(
                    replace(c, heartbeat=STANDBY, release=installed.get(c.name, c.release),
                            installed=installed.get(c.name, c.installed), started=f"new-{host.name}-{c.name}",
                            sick=False, sessions=0, live_pool=NO, standby_pool=MOVING)
                    for c in host.components))
            return replace(host, job=job and replace(job, kind="chef", run="somebody"))
        return replace(host, components=tuple(settled(c, step.kind) for c in host.components))
    if step.step in (LIVE, STANDBY):
        return replace(host, components=tuple(
            c if c.heartbeat in (DOWN, step.step) or c.sick else replace(
                c, heartbeat=step.step, live_pool=MOVING, standby_pool=MOVING) for c in host.components))
    if step.step == "converge":
        return replace(host, job=Job("chef", run, step.release.id, "running"))
    return host


def settled(c, kind):
    if kind == "drain":
        return replace(c, sessions=0)
    if kind == "pool" and c.heartbeat in (LIVE, STANDBY):
        return replace(c, live_pool=YES if c.heartbeat == LIVE else NO, standby_pool=YES if c.heartbeat == STANDBY else NO)
    return c
