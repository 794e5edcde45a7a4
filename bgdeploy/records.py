"""What past runs say: which run is open, what a stack served, which versions proved bad. Pure: events in, facts out."""

from bgdeploy import versions
from bgdeploy.memory import fold
from bgdeploy.model import LIVE, Release, Seen

PARTIAL = ("standby", "drain", "converge", "sanity")    # steps by hand after which the run goes on


def last(events, *kinds):
    return next((e for e in reversed(events) if e.get("kind") in kinds), None)


def is_open(events):
    """A run is open from its first act until done, ended by `back`, stopped by a person, or superseded."""
    if not any(e.get("kind") == "doing" for e in events):
        return False
    end = last(events, "ended")
    begin = last(events, "began", "joined", "resumed")
    if end is None or (begin and begin.get("n", 0) > end.get("n", 0)):
        return True
    if end.get("outcome") in ("stopped", "superseded"):
        return False
    return end.get("outcome") not in ("done", "warned") or begin.get("task") in PARTIAL


def goal_of(events):
    """The goal document that `resume` pursues: the last that was journalled."""
    return last([e for e in events if e.get("goal")], "began", "joined").get("goal")


def pinned(events):
    """The release that this run pinned, or None."""
    for e in reversed(events):
        for want in (e.get("goal") or {}).get("wants") or ():
            if want.get("release"):
                return Release.parse(want["release"])
    return None


def taken_out(events, seen):
    """Stacks that this run has out of LIVE as things are seen now."""
    memory = fold(events)
    touched = set(memory.taken) | set(memory.jobs) | set(memory.put)
    return {h.stack for h in seen.hosts if h.name in touched and any(not c.serves for c in h.components)}


def served(runs, stack):
    """Versions that the stack served live, oldest first: list of {component: version}. What a run found live counts.

    :param runs: lists of events, one a run, oldest run first.
    """
    found = []
    for events in runs:
        for e in events:
            if e.get("kind") in ("began", "joined", "ended") and e.get("seen"):
                seen = Seen.from_json(e["seen"])
                hosts = seen.stack(stack)
                by_name = {}
                for h in hosts:
                    for c in h.components:
                        if c.heartbeat == LIVE and c.release:
                            by_name.setdefault(c.name, set()).add(c.release)
                one = {name: found_versions.pop() for name, found_versions in by_name.items() if len(found_versions) == 1}
                if one and (not found or found[-1] != one):
                    found.append(one)
    return found


def bad(runs):
    """{(component, version): why}: failed their sanity test here, or were rolled back; a later pass makes them good again."""
    found = {}
    for events in runs:
        began = last(events[:1], "began") or {}
        for e in events:
            if e.get("kind") == "result" and e.get("step") == "sanity" and e.get("release"):
                for pair in Release.parse(e["release"]).versions:
                    if e.get("outcome") == "failed":
                        found.setdefault(pair, f"it failed its sanity test in run {began.get('run')}")
                    elif e.get("outcome") == "ok":
                        found.pop(pair, None)
        end = last(events, "ended")
        if began.get("task") == "rollback" and end and end.get("outcome") in ("done", "warned") and began.get("seen"):
            target = pinned(events)
            for h in Seen.from_json(began["seen"]).hosts:
                for c in h.components:
                    wanted = target.version(c.name) if target else None
                    if wanted and c.release and versions.compare(c.release, wanted) > 0:
                        found[c.name, c.release] = f"it was rolled back in run {began.get('run')}"
    return found


def left_out(runs):
    """{host: reason} of hosts that a run excluded and no later run has put live again: they may serve an old version.

    :param runs: lists of events, one a run, oldest run first.
    """
    found = {}
    for events in runs:
        for e in events:
            if e.get("kind") in ("began", "joined"):
                found.update((e.get("options") or {}).get("exclude") or {})
            elif e.get("kind") == "excluded":
                found.update(e.get("hosts") or {})
            elif e.get("kind") == "answered" and e.get("choice") == "exclude":
                found.update({h: e.get("reason") or "a person left it out after a failure" for h in e.get("hosts") or ()})
            elif e.get("kind") == "result" and e.get("step") == "live" and e.get("outcome") == "ok":
                found.pop(e.get("host"), None)
    return found


def before(history, current):
    """Per component the last version that was served before the current one: {component: version}, for rollback.

    :param history: from `served`. :param current: {component: version} that the stack has now.
    """
    found = {}
    for name, now in current.items():
        for one in reversed(history):
            if one.get(name) and one[name] != now:
                found[name] = one[name]
                break
    return found
