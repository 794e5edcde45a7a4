"""How a run is opened or joined: which open run a task shares, what may not go on, and what the journal is told at first."""

import os
from dataclasses import asdict

from bgdeploy import records, versions
from bgdeploy.errors import Refused
from bgdeploy.memory import fold
from bgdeploy.model import Goal, Release
from bgdeploy.prove import converged, failed, floor as default_floor, is_out, serves


def joins(asked, open_ones, seen=None):
    """The open run that this task shares: (id, events), or None. Steps join the stack's; resume and back the newest.

    :param seen: what the refusal of a `resume` without a run is told from.
    """
    if asked.task == "resume":
        if not open_ones:
            out, commands = same_end(seen) if seen else ("", ())
            raise Refused(f"there is no open run here{out}", " | ".join(commands) or "invoke status")
        return open_ones[-1]
    if asked.task == "back":
        return open_ones[-1] if open_ones else None
    if asked.task in records.PARTIAL + ("live",):
        mine = [(run, events) for run, events in open_ones
                if asked.stack in {w.stack for w in goal_in(run, events).wants}]
        return mine[-1] if mine else None
    return None


def goal_in(run, events):
    """The goal of an open run. :raises Refused: it is written in a way that this bgdeploy does not know."""
    try:
        return Goal.from_json(records.goal_of(events))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Refused(f"what run {run} was to do cannot be read in its journal: a newer bgdeploy began it, or it is damaged",
                      "invoke status, then a new deploy, which takes its place") from None


def same_end(seen):
    """What a `resume` is told where the run's records are not: (which stacks do not serve, in words; the commands that end as
    the run would have ended). Records stay on the machine that began a run, unless the store is a database."""
    out = [stack for stack in seen.stacks if not all(serves(h) for h in seen.stack(stack))]
    commands = [f"invoke deploy --stack {stack}{wanted(seen, stack)}" for stack in out]
    if not out:
        return "; every stack serves", ()
    what = f", and {' and '.join(out)} {'is' if len(out) == 1 else 'are'} not proved to serve; the command that began it, " \
           "typed again, reaches the same end"
    return what, tuple(commands)


def wanted(seen, stack):
    """' --version ...' as the state of a stack tells it: what Chef was bringing; else the newer one of what Chef brought last
    and what other stacks serve; '' where both are what runs, and no later run was here, so that nobody knows what was to come."""
    hosts = seen.stack(stack)
    brought = {}
    for h in hosts:             # a canary may be a release ahead of the others
        for name, version in Release.parse(h.job.release).versions if h.job and h.job.kind == "chef" and h.job.release else ():
            if name not in brought or versions.compare(version, brought[name]) > 0:
                brought[name] = version
    if not all(c.release == brought.get(c.name) for h in hosts for c in h.components):
        there = brought
    else:
        elsewhere = {c.name: c.release for h in seen.hosts if h.stack != stack and serves(h) for c in h.components}
        there = {name: elsewhere[name] if versions.compare(elsewhere.get(name) or version, version) > 0 else version
                 for name, version in brought.items()}
        latest = {mine: max((h.job.run for h in seen.hosts if h.job and h.job.kind == "chef" and (h.stack == stack) == mine),
                            default="") for mine in (True, False)}      # names of runs sort by time
        there = there if there != brought or latest[True] > latest[False] else {}
    return " --version " + ",".join(f"{name}={version}" for name, version in there.items()) if there else ""


def events_of(joined):
    return joined[1] if joined else []


def concerned(goal, seen, excluded):
    """[(want, host)] of all that a goal is about, but for the hosts that a person left out."""
    return [(want, h) for want in goal.wants for h in seen.stack(want.stack)
            if (not want.hosts or h.name in want.hosts) and h.name not in excluded]


def refuse_other_cookbooks(goal, seen, events, revision):
    """A run goes on with the cookbooks that it pinned; where they have changed here since, only a new run can bring them."""
    memory = fold(events)
    for want, h in concerned(goal, seen, memory.excluded):
        pinned = want.release.cookbooks if want.release and goal.only in (None, "converge") else ""
        if pinned and revision and pinned != revision and not converged(h, want.release, memory):
            typed = ",".join(f"{name}={version}" for name, version in want.release.versions)
            raise Refused(f"the cookbooks here have changed since run {memory.run} pinned them ({pinned} then, {revision} now)",
                          f"invoke deploy --stack {want.stack} --version {typed}")


def begin(session, journal, asked, goal, seen, options, joined, policy):
    """Write what the run is to do, on whose word, and what was typed that weakens a guard: before any act of its own."""
    said = {"by": session.by(), "task": asked.task, "reason": options.get("reason")}
    typed = {k: options[k] for k in ("exclude", "floor", "override_hours", "untested") if options.get(k) is not None}
    if asked.task == "resume":
        journal.write("resumed", **said, options=typed)
        forgive(journal, seen)
    elif joined:
        journal.write("joined", **said, goal=goal.to_json(), options=typed)
    else:
        first = next((w.release for w in goal.wants if w.release), None)
        journal.write("began", run=os.path.basename(journal.folder), env=session.site.name, **said, goal=goal.to_json(),
                      options=typed, versions=dict(first.versions) if first else {}, policy=asdict(policy),
                      seen=seen.to_json())
    if joined and options.get("exclude"):
        journal.write("excluded", hosts=options["exclude"])
    names = [h.name for _, h in concerned(goal, seen, ())]
    if goal.only == "live" or joined and (goal.only == "standby" or goal.kind == "back"):   # typed again: tried again
        journal.write("forgave", hosts=names, why="typed by hand", named=goal.only == "live")    # only that puts anybody back
    if goal.only == "sanity":
        journal.write("forgave", hosts=[n for n in names if is_out(seen.host(n))], sanity=True, why="asked for again")
    if options.get("untested"):
        started = {n: seen.host(n).started for n in names if seen.host(n).started}
        journal.write("untested", hosts=started, reason=options["untested"])
    if options.get("floor") is not None:
        usual = default_floor(seen, session.site.policy)
        if any(options["floor"] < n for n in usual.values()):
            why = options.get("reason") or "no reason given"
            journal.write("warned", key="floor", text=f"the floor was lowered to {options['floor']} for this run ({why})")
    if options.get("override_hours"):
        journal.write("warned", key="hours", text=f"closed hours were overridden: {options['override_hours']}")


def forgive(journal, seen):
    """`resume` gives every failure of before another try. Whom a person took out was no failure: to put that back is typed."""
    memory = fold(journal.events)
    hosts = {h.name for h in seen.hosts for w in [records.pinned(journal.events, h.stack)] if w and failed(h, w, memory)}
    hosts |= {name for name, _, _ in memory.insane} | {key[1] for key in memory.tries}
    migration = ["migrate"] if records.goal_of(journal.events).get("migrate") else []
    journal.write("forgave", hosts=sorted(hosts) + migration, why="resume", named=False)
