"""Folds a run's events into Memory: what the rules may remember. Pure; the only reading of events that rules rely on.

Kinds that are not named here are for people (report, console) and change nothing. An event of a newer bgdeploy that this
one does not know is skipped: forgetting costs a repetition, never safety.
"""

from dataclasses import replace
from functools import reduce

from bgdeploy.model import Memory, Seen


def fold(events):
    """Events in order -> Memory. Total: fields that are missing count as absent."""
    return reduce(remember, events, Memory())


def remember(memory, event):
    """One more event. Returns a new Memory, never changes the old one."""
    change = CHANGES.get(event.get("kind"))
    try:
        return change(memory, event) if change else memory
    except (KeyError, TypeError, ValueError, AttributeError):
        return memory           # not as this bgdeploy writes it


def began(m, e):
    return replace(m, run=e.get("run"), first_seen=seen_of(e.get("seen")),
                   excluded=dict((e.get("options") or {}).get("exclude") or {}))


def seen_of(document):
    try:
        return Seen.from_json(document) if document else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None             # of another bgdeploy: nothing is known of how it was


def joined(m, e):
    """A new driver process took the run up: time that nobody watched is no waiting time. Soak goes on by itself, and not
    longer where the clock was set back in between."""
    return replace(m, waits={k: min(since, e.get("at", since)) for k, since in m.waits.items() if k[0] == "soak"},
                   excluded={**m.excluded, **((e.get("options") or {}).get("exclude") or {})})


def waiting(m, e):
    return replace(m, waits={(e["wait"], e["stack"]): e["at"], **m.waits})


def waited(m, e):
    """passed: it ended by getting on, not because an earlier question came up; a later wait of its kind begins anew."""
    if e.get("passed") and e.get("wait") != "soak":
        m = replace(m, waits=without(m.waits, [(e["wait"], e.get("stack"))]))
    return drained(m, e.get("outcomes") or {}) if e.get("wait") == "drain" else m


def drained(m, outcomes):
    short = {host: outcome for host, outcome in outcomes.items() if outcome != "drained"}
    return replace(m, drains={**m.drains, **outcomes}, undrained={**m.undrained, **short})


def doing(m, e):
    """Noted before the effect: what was begun counts as done to the host, whatever became of it."""
    step, stack, hosts = e["step"], e.get("stack"), tuple(e.get("hosts") or ())
    started = e.get("started") or {}
    m = replace(tried(m, e), acted=True, waits={k: v for k, v in m.waits.items() if k[1] != stack or k[0] == "soak"})
    if step == "standby":
        taken = {**m.taken, **{h: started[h] for h in hosts if started.get(h) and h in (e.get("served") or ())}}
        return replace(m, taken=taken, put=without(m.put, hosts), released=without(m.released, hosts),
                       drains=without(m.drains, hosts))
    if step == "converge":
        return replace(m, jobs={**{h: started.get(h) for h in hosts}, **m.jobs}, forgiven=m.forgiven - set(hosts),
                       sane=frozenset(s for s in m.sane if s[0] not in hosts),
                       insane={k: v for k, v in m.insane.items() if k[0] not in hosts},
                       put=without(m.put, hosts), released=without(m.released, hosts), untested=without(m.untested, hosts),
                       converges={**m.converges, **{h: m.converges.get(h, 0) + 1 for h in hosts}})
    if step == "live":
        return replace(m, put={**m.put, **{h: started.get(h) for h in hosts}}, released=without(m.released, hosts),
                       drains=without(m.drains, hosts))
    if step == "migrate":       # a person's answer is good for one try
        return replace(m, forgiven=m.forgiven - {"migrate"}, answers=without(m.answers, [("migration", "")]))
    return m


def tried(m, e):
    """Counts an act, begun or dropped at the second look, by step, host, release and process; a migration by no host."""
    if e.get("noted"):          # written down and then dropped: counted already
        return m
    tries, started = dict(m.tries), e.get("started") or {}
    for host in e.get("hosts") or ("",):
        key = (e.get("step"), host, e.get("release"), started.get(host))
        tries[key] = tries.get(key, 0) + 1
    return replace(m, tries=tries)


def result(m, e):
    host, outcome = e.get("host"), e.get("outcome")
    m = replace(m, said={**without(m.said, [(e.get("step"), host)]),
                         **({} if outcome == "ok" else {(e.get("step"), host): str(e.get("detail") or outcome)})})
    if e.get("step") == "sanity" and e.get("started"):
        key = (host, e.get("release"), e["started"])
        if outcome == "ok":
            return replace(m, sane=m.sane | {key}, insane={k: v for k, v in m.insane.items() if k != key})
        if outcome == "failed":
            return replace(m, insane={**m.insane, key: e.get("detail") or "failed"}, sane=m.sane - {key})
    return m


def seen_live(m, e):
    """A look proved that a host which this run put live serves: from here on, being in standby is somebody's doing."""
    hosts = e.get("hosts") or {}
    return replace(m, released={**m.released, **hosts}, lived=m.lived | set(hosts), put=without(m.put, hosts),
                   taken=without(m.taken, hosts))


def answered(m, e):
    choice, gate, stack, hosts = e.get("choice"), e.get("gate"), e.get("stack") or "", tuple(e.get("hosts") or ())
    if choice == "approve":
        return replace(m, approved=m.approved | {(gate, stack)})
    if choice == "retry":
        return forgave(m, {"hosts": hosts})
    if choice == "exclude":
        return excluded(m, {"hosts": {h: e.get("reason") or "failed" for h in hosts}})
    if choice == "proceed":
        m = drained(m, {h: "timed-out, and a person said proceed" for h in hosts})
    return replace(m, answers={**m.answers, (gate, stack): choice})


def forgave(m, e):
    """named: a person named the hosts; else, on `resume`, who was taken out by a person stays so. Who serves when it is named
    is proved anew at the next look."""
    hosts = set(e.get("hosts") or ())
    if e.get("named", True):
        m = replace(m, put={**m.put, **{h: started for h, started in m.released.items() if h in hosts}},
                    released=without(m.released, hosts))
    m = replace(m, forgiven=m.forgiven | hosts,
                insane={k: v for k, v in m.insane.items() if k[0] not in hosts},
                spent={**m.spent, **{h: n - 1 for h, n in m.converges.items() if h in hosts and n > 0}},
                tries={k: n for k, n in m.tries.items() if k[1] not in hosts})
    return replace(m, sane=frozenset(s for s in m.sane if s[0] not in hosts)) if e.get("sanity") else m


def excluded(m, e):
    return replace(m, excluded={**m.excluded, **(e.get("hosts") or {})})


def untested(m, e):
    return replace(m, untested={**m.untested, **{h: (started, e.get("reason")) for h, started in (e.get("hosts") or {}).items()}})


def without(mapping, keys):
    return {k: v for k, v in mapping.items() if k not in keys}


CHANGES = {"began": began, "joined": joined, "resumed": joined, "waiting": waiting, "waited": waited, "doing": doing,
           "dropped": tried,
           "result": result, "seen_live": seen_live, "answered": answered, "forgave": forgave, "excluded": excluded,
           "untested": untested}
