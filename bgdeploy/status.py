"""What `status` says: a verdict for each stack, who is seen to serve, and the exit code. Pure; prints and asks nothing.

Verdicts are for people and scripts; the rules in decide.py stand on single instances and never read them.
"""

from datetime import datetime, timezone

from bgdeploy import records
from bgdeploy.model import DOWN, LIVE, MOVING, NO, STANDBY, YES, ComponentSeen

UNKNOWN, SPLIT, MIXED = "unknown", "split", "mixed"


def status_document(site, seen, floor, lock=None, hold=None, excluded=None, run=None, serving=None):
    """The document of `status --json`, with exactly the contract's keys.

    :param site: site.Site. :param seen: model.Seen; a host of the site that is not in it counts as unknown.
    :param floor: {component: least number of proved-live instances}.
    :param lock, hold: dicts as the store gives them, None where there is none, or `not_known`.
    :param run: the open run as `open_run` gives it, None, or `not_known`.
    :param excluded: {host: reason}, pairs, or dicts with host and reason.
    :param serving: {component: Counter of (host, version)}: who answered requests through LIVE; or None: not asked.
    """
    stacks = [{"name": stack.name,
               "verdict": verdict([seen.host(h.name) for h in stack.hosts], site.live.detection, site.standby.detection),
               "hosts": [_host(h, seen.host(h.name)) for h in stack.hosts]} for stack in site.stacks]
    return {"env": site.name, "at": moment(seen.at), "stacks": stacks, "serving": served(site, seen, serving),
            "floor": dict(floor), "lock": lock, "hold": hold, "excluded": exclusions(excluded), "run": run}


def verdict(hosts, live_detection=0.0, standby_detection=0.0):
    """unknown | split | mixed | down | live | standby: the first that applies to one stack. Unknown is never taken for a yes.

    :param hosts: model.HostSeen of the stack; None in it is a host of which nothing is known.
    :param live_detection, standby_detection: seconds after a flip within which that balancer may still say the old word.
    """
    hosts = list(hosts)
    components = [c for h in hosts if h is not None for c in h.components]
    if not components or any(h is None or h.reachable is not True for h in hosts) or any(_unknown(c) for c in components):
        return UNKNOWN
    if any(_split(c, live_detection, standby_detection) for c in components):
        return SPLIT
    words = {c.heartbeat for c in components}
    versions = {(c.name, c.release) for c in components if c.heartbeat != DOWN}
    if len(words) > 1 or len(versions) > len({name for name, _ in versions}):
        return MIXED
    return words.pop()


def served(site, seen, answered=None):
    """The stacks that are seen through LIVE: instances that every node of LIVE has in its pool, and answers where asked for."""
    rows = []
    for stack in site.stacks:
        parts = []
        for component in site.components:
            proved = [c for h in seen.stack(stack.name) for c in h.components if c.name == component.name and c.serves]
            names = {h.name for h in stack.hosts}
            heard = {key: n for key, n in ((answered or {}).get(component.name) or {}).items() if key[0] in names}
            if proved or heard:
                versions = sorted({c.release for c in proved if c.release} | {v for _, v in heard if v})
                parts.append({"name": component.name, "instances": len(proved), "versions": versions,
                              "requests": sum(heard.values()) if answered is not None else None})
        if parts:
            rows.append({"name": stack.name, "components": parts, "evidence": "; ".join(_evidence(p) for p in parts)})
    return rows


def not_known(why):
    """Stands for a lock, a freeze or an open run of which nobody can tell whether there is one: never taken for none."""
    return {"unknown": True, "text": f"not known: {why}"}


def open_run(name, events, expiry, lock=None):
    """The open run as `status` shows it: who began what, how it stopped for now, what it asks and until when, what to type.

    :param expiry: seconds that a question stands, for a journal that does not say it.
    :param lock: as the store tells it: while somebody drives this very run, there is nothing to type.
    """
    began, end, asked = records.last(events, "began") or {}, records.end_of(events) or {}, records.question(events)
    lock = lock or {}
    driven = lock.get("run") == name and not lock.get("expired")
    if (records.last(events, "began", "joined", "resumed", "ended") or {}).get("kind") != "ended":      # an earlier stop is over
        end = {} if driven or lock.get("unknown") else {"why": "its driver ended without a word"}
    question = asked and {"gate": asked.get("gate"), "stack": asked.get("stack"), "choices": list(records.choices(asked)),
                          "why": asked.get("why"), "expires": moment(records.expires(asked, expiry))}
    goal, following = records.goal_of(events), ["invoke resume"]
    first = next((want for want in goal.get("wants") or () if isinstance(want, dict)), None) if goal.get("only") else None
    if first and end.get("outcome") in ("done", "warned"):      # there is nothing to resume
        following = [f"invoke {task} --stack {first.get('stack')}" for task in ("live", "back")]
    return {"run": name, "task": began.get("task"), "by": began.get("by"), "why": end.get("why"), "question": question,
            "next": [] if driven else end.get("next") or following}


def exit_code(document):
    """0: all answered and some stack serves; 6: mixed, split or unknown; 8: a component is not proved to be served by anybody."""
    proved, named = set(), set(_dict(document.get("floor")))
    for stack in document["stacks"]:
        for host in stack["hosts"]:
            for c in host["components"]:
                named.add(c["name"])
                if c["heartbeat"] == LIVE and c["live_pool"] == YES:
                    proved.add(c["name"])
    if not named or named - proved:
        return 8
    silent = any(_dict(document.get(key)).get("unknown") for key in ("lock", "hold", "run"))
    return 6 if silent or any(stack["verdict"] in (UNKNOWN, SPLIT, MIXED) for stack in document["stacks"]) else 0


def exclusions(excluded):
    """A list of {"host", "reason"} from any of the ways in which exclusions are kept."""
    if isinstance(excluded, dict):
        excluded = list(excluded.items())
    return [{"host": e.get("host"), "reason": e.get("reason")} if isinstance(e, dict) else {"host": e[0], "reason": e[1]}
            for e in excluded or ()]


def moment(at):
    """Seconds since the epoch as '2026-11-25T02:15:30.123Z'; None for what is no time."""
    try:
        text = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return text.replace("+00:00", "Z")


def _host(described, seen):
    named = {c.name: c for c in seen.components} if seen else {}
    return {"name": described.name, "reachable": seen.reachable if seen else None,
            "components": [_component(name, named.get(name)) for name in described.components or named]}


def _component(name, c):
    c = c or ComponentSeen(name)
    return {"name": name, "version": c.installed or None if c.heartbeat == DOWN else c.release,
            "heartbeat": c.heartbeat or UNKNOWN, "live_pool": c.live_pool or UNKNOWN, "standby_pool": c.standby_pool or UNKNOWN,
            "in_flight": c.sessions}


def _unknown(c):
    """Its heartbeat, its version, or a node of one of the balancers did not answer."""
    return c.heartbeat not in (LIVE, STANDBY, DOWN) or (c.heartbeat != DOWN and None in (c.release, c.live_pool, c.standby_pool))


def _split(c, live_detection, standby_detection):
    """A balancer says something else than the heartbeat, although it has had the time to notice."""
    wanted = {LIVE: (YES, NO), STANDBY: (NO, YES), DOWN: (NO, NO)}[c.heartbeat]
    age = c.since_age
    for said, should, detection in zip((c.live_pool, c.standby_pool), wanted, (live_detection, standby_detection)):
        late = age > detection if age is not None else said != MOVING
        if said not in (should, None) and late:
            return True
    return False


def _evidence(part):
    versions = "/".join(part["versions"]) or "of unknown version"
    text = f"{part['name']} {versions}: {part['instances']} in the pool of every LIVE node"
    return text + (f", {part['requests']} requests answered" if part["requests"] is not None else "")


def _dict(value):
    return value if isinstance(value, dict) else {}
