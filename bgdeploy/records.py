"""What past runs say: which run is open, what a stack served, which versions proved bad. Pure: events in, facts out."""

from bgdeploy import versions
from bgdeploy.memory import fold, seen_of
from bgdeploy.model import DOWN, LIVE, STANDBY, Release, Seen

NOBODY = Seen(0.0, ())
TELLS = {"live": LIVE, "standby": STANDBY, "converge": STANDBY}     # before a converge what is down is parked
PARTIAL = ("standby", "drain", "converge", "sanity")    # steps by hand after which the run goes on


def last(events, *kinds):
    return next((e for e in reversed(events) if e.get("kind") in kinds), None)


def is_open(events):
    """A run is open from its first act, or the first question it put, until done, ended by `back`, stopped by a person, or
    superseded. A step by hand other than `live` does not end it, nor a `live` of some hosts while others that it took out are."""
    if last(events, "doing", "asked") is None:
        return False
    at = max((n for n, e in enumerate(events) if e.get("kind") in ("began", "joined", "resumed")), default=0)
    ends = {e.get("outcome") for e in events[at:] if e.get("kind") == "ended"}
    if ends & {"stopped", "superseded"}:        # whatever a driver that was told late to stop has written since
        return False
    only = (events[at].get("goal") or goal_of(events)).get("only")
    return not ends & {"done", "warned"} or only in PARTIAL or only == "live" and bool(left_behind(events))


def left_behind(events):
    """Hosts that this run took in hand, did not leave out, and that did not serve at its last end; [] where nothing was seen."""
    touched = {name for e in events if e.get("kind") == "doing" for name in e.get("hosts") or ()} - set(fold(events).excluded)
    seen = seen_of((last(events, "ended") or {}).get("seen")) or NOBODY
    return [h.name for h in seen.hosts if h.name in touched and any(not c.serves for c in h.components)]


def end_of(events):
    """How the run stopped for now, or None; a `back` or a step that was refused in it says nothing of that."""
    return next((e for e in reversed(events) if e.get("kind") == "ended" and e.get("outcome") != "refused"), None)


def question(events):
    """The question that the run waits with: nothing was begun since it was put. None: it asks nothing."""
    found = last(events, "asked", "doing", "joined", "resumed")
    return found if found and found["kind"] == "asked" else None


def lowered_floor(events):
    """The floor that a person gave this run, or None: it holds until the run ends, however often that goes on."""
    typed = (e["options"].get("floor") for e in reversed(events) if e.get("kind") in ("began", "joined", "resumed")
             and isinstance(e.get("options"), dict))
    return next((floor for floor in typed if type(floor) is int), None)


def choices(question):
    """The words that a question takes; a run may be stopped whatever it asks."""
    return tuple(dict.fromkeys([*((question or {}).get("choices") or ()), "stop"]))


def expires(question, expiry):
    """Until when an answer is taken, in seconds since the epoch. :param expiry: the inventory's, for a journal that has none."""
    return question.get("expires") or (question.get("at") or 0) + expiry


def goals_of(events):
    """The goals that this run pursued, oldest first. One that was refused before any act of its own was never pursued."""
    found, fresh = [], False
    for e in events:
        if e.get("kind") in ("began", "joined", "resumed"):
            fresh = bool(e.get("goal"))
            found += [e["goal"]] if fresh else []
        elif e.get("kind") == "doing":
            fresh = False
        elif e.get("kind") == "ended" and e.get("outcome") == "refused" and fresh and len(found) > 1:
            found.pop()
    return found


def goal_of(events):
    """The goal document that `resume` pursues: the last whole one; a step by hand only where the run knows nothing else."""
    found = goals_of(events) or [{"wants": []}]
    return next((goal for goal in reversed(found) if not goal.get("only")), found[-1])


def pinned(events, stack=None):
    """The release that this run pinned (for a stack), or None."""
    for goal in reversed(goals_of(events)):
        for want in goal.get("wants") or ():
            if isinstance(want, dict) and isinstance(want.get("release"), str) and stack in (None, want.get("stack")):
                return Release.parse(want["release"])
    return None


def last_pinned(runs, stack):
    """The release that the last run which did anything wanted on this stack, or None."""
    found = (pinned(events, stack) for events in reversed(runs) if last(events, "doing"))
    return next((release for release in found if release), None)


def taken_out(events, seen):
    """Stacks that this run has out of LIVE as things are seen now."""
    touched = {name for e in events if e.get("kind") == "doing" for name in e.get("hosts") or ()}
    return {h.stack for h in seen.hosts if h.name in touched and any(not c.serves for c in h.components)}


def served(runs, stack):
    """Versions that the stack served live, oldest first: list of {component: version}. What a run found live counts.

    :param runs: lists of events, one a run, oldest run first.
    """
    found = []
    for events in runs:
        for e in events:
            if e.get("kind") in ("began", "joined", "ended") and e.get("seen"):
                seen = seen_of(e["seen"])
                by_name = {}
                for h in seen.stack(stack) if seen else ():
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
        first, failed = seen_of(began.get("seen")), set()
        for e in events:
            if e.get("kind") == "doing":
                failed = set()          # one host that fails outweighs others that pass in the same test
            if e.get("kind") == "result" and e.get("step") == "sanity" and e.get("release"):
                if e.get("outcome") == "failed":
                    failed |= blamed(e, first)
                    found.update({pair: f"it failed its sanity test in run {began.get('run')}" for pair in failed})
                elif e.get("outcome") == "ok":
                    passed = set(Release.parse(e["release"]).versions) - failed
                    found = {pair: why for pair, why in found.items() if pair not in passed}
        end = last(events, "ended")
        if began.get("task") == "rollback" and end and end.get("outcome") in ("done", "warned") and first:
            for want in goal_of(events).get("wants") or ():
                target = Release.parse(want.get("release") or "")
                for c in (c for h in first.stack(want.get("stack")) for c in h.components):
                    if target.version(c.name) and c.release and versions.compare(c.release, target.version(c.name)) > 0:
                        found[c.name, c.release] = f"it was rolled back in run {began.get('run')}"
    return found


def blamed(result, first):
    """Whom a failed test speaks against: the component that the test names; else what did not serve before; else all."""
    pairs = set(Release.parse(result["release"]).versions)
    named = {pair for pair in pairs if pair[0] == (result.get("evidence") or {}).get("component")}
    served_before = {(c.name, c.release) for h in (first.hosts if first else ()) for c in h.components if c.heartbeat == LIVE}
    return named or (pairs - served_before) or pairs


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


def restarts(runs):
    """{(component, word): (host, run)}: a new process was seen to say this word though nobody had told it to.

    `live`: it was in standby before, or parked, or not there at all: this application comes up live. `standby`: it was live: it
    loses its word. A later restart that kept the word takes that back. What a person did by hand in between looks alike, so
    this is for people, and no rule relies on it.

    :param runs: lists of events, one a run, oldest run first.
    """
    found, known, told = {}, {}, {}
    for events in runs:
        run = (last(events[:1], "began") or {}).get("run")
        for e in events:
            if e.get("kind") == "doing" and e.get("step") in TELLS:
                for host in e.get("hosts") or ():
                    told.setdefault(host, set()).add(TELLS[e["step"]])
                if e.get("rescue") and e["step"] == STANDBY:        # only what came up live after Chef is taken out so
                    found.update({(name, LIVE): (host, run) for host, live in (e.get("live") or {}).items() for name in live})
            for h in (seen_of(e.get("seen")) or NOBODY).hosts:
                for c in h.components:
                    was, (word, started) = known.get((h.name, c.name), (None, None)), process_of(c)
                    if c.heartbeat == DOWN:
                        parked = not c.installed or STANDBY in told.get(h.name, ())
                        known[h.name, c.name] = STANDBY if parked else was[0], was[1]
                    elif word:
                        if was[0] and was[1] != started:
                            restarted(found, c.name, was[0], word, told.get(h.name, ()), (h.name, run))
                        known[h.name, c.name] = word, started
                if all(c.heartbeat in (LIVE, STANDBY) for c in h.components):
                    told.pop(h.name, None)
    return found


def process_of(c):
    """(word, start id) of a component, (None, None) unless both are known."""
    return (c.heartbeat, c.started) if c.heartbeat in (LIVE, STANDBY) and c.started else (None, None)


def restarted(found, name, before, after, told, where):
    """One restart more: the word before and after it, and what was told meanwhile."""
    if after != before and after not in told:
        found[name, after] = where
    elif after == before and not told:
        found.pop((name, LIVE if after == STANDBY else STANDBY), None)


def before(history, current, bad=()):
    """Per component the last version that was served before the current one: {component: version}, for rollback.

    :param history: from `served`. :param current: {component: version} to get away from. :param bad: pairs that proved bad.
    """
    found = {}
    for name, now in current.items():
        for one in reversed(history):
            if one.get(name) and one[name] != now and (name, one[name]) not in bad:
                found[name] = one[name]
                break
    return found
