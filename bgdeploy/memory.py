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
    return change(memory, event) if change else memory


def began(m, e):
    seen = e.get("seen")
    return replace(m, run=e.get("run"), first_seen=Seen.from_json(seen) if seen else None,
                   excluded=dict((e.get("options") or {}).get("exclude") or {}))


def joined(m, e):
    """A new driver process took the run up: time that nobody watched is no waiting time. Soak goes on by itself."""
    return replace(m, waits={k: since for k, since in m.waits.items() if k[0] == "soak"})


def waiting(m, e):
    return replace(m, waits={(e["wait"], e["stack"]): e["at"], **m.waits})


def waited(m, e):
    if e.get("wait") != "drain":
        return m
    return replace(m, drains={**m.drains, **(e.get("outcomes") or {})})


def doing(m, e):
    """Noted before the effect: what was begun counts as done to the host, whatever became of it."""
    step, stack, hosts, release = e["step"], e.get("stack"), tuple(e.get("hosts") or ()), e.get("release")
    started = e.get("started") or {}
    tries = dict(m.tries)
    for host in hosts:
        key = (step, host, release, started.get(host))
        tries[key] = tries.get(key, 0) + 1
    m = replace(m, acted=True, tries=tries, waits={k: v for k, v in m.waits.items() if k[1] != stack or k[0] == "soak"})
    if step == "standby":
        taken = {**m.taken, **{h: started[h] for h in hosts if started.get(h)}}
        return replace(m, taken=taken, put=without(m.put, hosts), released=without(m.released, hosts),
                       drains=without(m.drains, hosts))
    if step == "converge":
        return replace(m, jobs=m.jobs | set(hosts), forgiven=m.forgiven - set(hosts),
                       sane=frozenset(s for s in m.sane if s[0] not in hosts),
                       insane={k: v for k, v in m.insane.items() if k[0] not in hosts},
                       put=without(m.put, hosts), released=without(m.released, hosts), untested=without(m.untested, hosts),
                       converges={**m.converges, **{h: m.converges.get(h, 0) + 1 for h in hosts}})
    if step == "live":
        return replace(m, put={**m.put, **{h: started.get(h) for h in hosts}}, released=without(m.released, hosts))
    return replace(m, forgiven=m.forgiven - {"migrate"}) if step == "migrate" else m


def dropped(m, e):
    return replace(m, tries={**m.tries, **{k: n + 1 for k, n in m.tries.items() if k[0] == e.get("step") and k[1] in (e.get("hosts") or ())}})


def result(m, e):
    host, outcome = e.get("host"), e.get("outcome")
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
    return replace(m, released={**m.released, **hosts}, put=without(m.put, hosts), taken=without(m.taken, hosts))


def answered(m, e):
    choice, gate, stack, hosts = e.get("choice"), e.get("gate"), e.get("stack") or "", tuple(e.get("hosts") or ())
    if choice == "approve":
        return replace(m, approved=m.approved | {(gate, stack)})
    if choice == "retry":
        return forgave(m, {"hosts": hosts})
    if choice == "exclude":
        return excluded(m, {"hosts": {h: e.get("reason") or "failed" for h in hosts}})
    return replace(m, answers={**m.answers, (gate, stack): choice})


def forgave(m, e):
    hosts = set(e.get("hosts") or ())
    m = replace(m, forgiven=m.forgiven | hosts, released=without(m.released, hosts),
                insane={k: v for k, v in m.insane.items() if k[0] not in hosts},
                converges={h: min(n, 1) for h, n in m.converges.items()},
                tries={k: n for k, n in m.tries.items() if k[1] not in hosts})
    return replace(m, sane=frozenset(s for s in m.sane if s[0] not in hosts)) if e.get("sanity") else m


def excluded(m, e):
    return replace(m, excluded={**m.excluded, **(e.get("hosts") or {})})


def untested(m, e):
    return replace(m, untested={**m.untested, **{h: (started, e.get("reason")) for h, started in (e.get("hosts") or {}).items()}})


def without(mapping, keys):
    return {k: v for k, v in mapping.items() if k not in keys}


CHANGES = {"began": began, "joined": joined, "resumed": joined, "waiting": waiting, "waited": waited, "doing": doing, "dropped": dropped,
           "result": result, "seen_live": seen_live, "answered": answered, "forgave": forgave, "excluded": excluded,
           "untested": untested}
