"""What counts as proved: definitions over Seen and Memory that the rules stand on. Pure; no rule decides here.

None in any fact is unknown, and unknown proves nothing.
"""

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from bgdeploy.model import DOWN, LIVE, NO, STANDBY, YES, Release

BAD_JOBS = ("failed", "locked", "config")
QUIET = 1.0     # seconds between the two looks that must both count 0 requests in flight


def idle(component):
    """It takes no new work: in standby, down, or sick (no balancer keeps what gives no valid answer)."""
    return component.heartbeat in (STANDBY, DOWN) or component.sick


def is_out(host):
    """Every component is idle: the host is out of LIVE by its own word."""
    return bool(host.components) and all(idle(c) for c in host.components)


def partly_out(host):
    """Of something on it the host is out of LIVE already. What else it has still leaves by the interlock only."""
    return any(idle(c) for c in host.components)


def let_go(host):
    """Out of LIVE, and every named node of LIVE says so. What is down or sick has nothing to be let go of."""
    return is_out(host) and all(c.live_pool == NO for c in host.components if c.heartbeat == STANDBY and not c.sick)


def in_standby_pool(host):
    """STANDBY has taken on everything of the host that runs and answers."""
    return all(c.standby_pool == YES for c in host.components if c.heartbeat == STANDBY and not c.sick)


def serves(host):
    """Every component is proved to serve through LIVE."""
    return bool(host.components) and all(c.serves for c in host.components)


def arriving(host, memory):
    """This run put it live, and LIVE has not taken it on yet: once it has, somebody else may leave."""
    ours = host.name in memory.put or host.name in memory.lived
    return ours and not serves(host) and all(c.heartbeat == LIVE for c in host.components)


def mute(host):
    """Of something on it nobody knows what it says."""
    return any(c.heartbeat is None and not c.sick for c in host.components)


def known(host):
    """It answered, and every component's heartbeat and process are known (or the component is known to be sick)."""
    return host.reachable is True and bool(host.components) and all(
        c.sick or c.heartbeat == DOWN or (c.heartbeat in (LIVE, STANDBY) and c.started is not None) for c in host.components)


def runs(host, release):
    """Every component's running process reports the release's version."""
    return all(c.release is not None and c.release == release.version(c.name) for c in host.components)


def our_job(host, memory):
    """The host's last Chef run is one of this run's."""
    return (host.job is not None and host.job.kind == "chef" and memory.run is not None
            and host.job.run.split(".")[0] == memory.run)


def worked_on(host, memory):
    """This run started Chef there: the journal says so, or, if it lost its end, the host."""
    return host.name in memory.jobs or our_job(host, memory)


def was_live_on(host, release, memory):
    """At this run's first look the host was live on these versions already."""
    before = memory.first_seen.host(host.name) if memory.first_seen else None
    return (before is not None and bool(before.components) and all(c.heartbeat == LIVE for c in before.components)
            and runs(before, release) and not running(before))


def converged(host, release, memory):
    """The running processes are the release, and the host's last job brought it and ended ok, whoever's run it was.

    Where no job is known: only if the host was live on these versions when this run first looked.
    """
    if not runs(host, release):
        return False
    if host.job is None or host.job.kind != "chef":
        return host.name not in memory.jobs and was_live_on(host, release, memory)
    return host.job.release == release.id and host.job.state == "ok"


def sane(host, release, memory):
    """These very processes passed sanity through STANDBY on this release."""
    return host.started is not None and (host.name, release.id, host.started) in memory.sane


def tested(host, release, memory):
    """A host that is live may stay so: it passed on this release since our last converge, or was live on it at the first look.

    A live app that crashes and restarts on the tested release goes on serving, so the start id is not asked for here.
    """
    passed = any(name == host.name and release_id == release.id for name, release_id, _ in memory.sane)
    return passed or (not worked_on(host, memory) and was_live_on(host, release, memory))


def loose(host, memory):
    """Names of components that say live in a process which a converge of this run started and nobody tested.

    An app that boots as live does this. Such a process counts for nothing. Evidence of an earlier converge is forgotten when
    the next one starts, so any that is left is of the release that was brought last. A process of another release than the
    one that was brought came from somebody else, and is not fought.
    """
    if not worked_on(host, memory) or allowed(host, memory) or any(name == host.name for name, _, _ in memory.sane):
        return ()
    before = starts(memory.jobs.get(host.name))
    brought = Release.parse(host.job.release or "") if our_job(host, memory) else None
    return tuple(c.name for c in host.components
                 if c.heartbeat == LIVE and c.started is not None and c.started != before.get(c.name)
                 and (brought is None or c.release in (None, brought.version(c.name))))


def starts(started):
    """HostSeen.started taken apart again: {component: start id}; {} where it was not known."""
    return dict(pair.split("=", 1) for pair in (started or "").split(",") if "=" in pair)


def allowed(host, memory):
    """A person said --untested for exactly these processes."""
    return host.started is not None and host.name in memory.untested and memory.untested[host.name][0] == host.started


def may_serve(host, release, memory):
    """It may go live: allowed, as it was when this run took it out, or tested; without a release: on whatever release."""
    if allowed(host, memory) or untouched(host, memory):
        return True
    if release is not None:
        return sane(host, release, memory)
    return any(name == host.name and started == host.started for name, _, started in memory.sane)


def untouched(host, memory):
    """It served when this run took it out, nothing else was done to it, and the same processes still run."""
    return host.started is not None and not worked_on(host, memory) and memory.taken.get(host.name) == host.started


def running(host):
    return host.job is not None and host.job.state == "running"


def working(host):
    """Chef is at work on it, or waits for a reboot, and it answers: its services come and go meanwhile."""
    return host.reachable is True and host.job is not None and host.job.state in ("running", "reboot")


def unsound(host):
    """Why nobody should rely on what runs there without a test of it, or None: a Chef run goes on, or the last one of ours
    did not end ok."""
    if running(host):
        return "a Chef run goes on"
    ended_badly = host.job and host.job.kind == "chef" and host.job.state != "ok"
    return f"its last Chef run ended {host.job.state}" if ended_badly else None


def one_version(seen):
    """Does every component run in one version only? Then `back` has nothing older to go back to."""
    found = {}
    for h in seen.hosts:
        for c in h.components:
            if c.release:
                found.setdefault(c.name, set()).add(c.release)
    return bool(found) and all(len(v) == 1 for v in found.values())


def failed(host, release, memory):
    """Why this run's converge failed on the host, or None. 'lost', 'again' and 'reboot' are not failures: converge again."""
    if host.name in memory.forgiven or not our_job(host, memory) or host.job.release != release.id:
        return None
    if host.job.state in BAD_JOBS:
        return f"Chef ended {host.job.state} on {host.name}: {reason(host.job)}"
    tries = memory.converges.get(host.name, 0) - memory.spent.get(host.name, 0)
    if host.job.state == "ok" and not runs(host, release) and tries > 1:
        why = f" ({reason(host.job)})" if host.job.tail else ""
        return f"Chef ended ok on {host.name}, but {'; '.join(mismatch(host, release))}{why}"
    return None


def mismatch(host, release):
    """Sentences: which component does not run what the release names."""
    for c in host.components:
        wanted = release.version(c.name)
        if c.release != wanted:
            other = f"was wanted, {c.installed or 'nothing'} is installed"
            there = {wanted: "is installed", None: "was wanted"}.get(c.installed, other)
            what = (c.note or "its service is down") if c.heartbeat == DOWN else f"{c.release or 'an unknown version'} runs"
            yield f"{c.name} {wanted} {there}, and {what}"


def reason(job):
    """Why a job ended as it did, in a line: the port puts that above the last lines of the output."""
    return next((line.strip()[:800] for line in job.tail.splitlines() if line.strip()), "no output")


# ---- capacity

def floor(seen, policy):
    """{component: least number of proved-live instances}. Default: as many as the smallest stack that has it holds of it."""
    counts = {}
    for host in seen.hosts:
        for c in host.components:
            counts.setdefault(c.name, {}).setdefault(host.stack, 0)
            counts[c.name][host.stack] += 1
    asked = dict(policy.floor)
    return {name: asked.get(name, asked.get("*", min(by_stack.values()))) for name, by_stack in counts.items()}


def serving(seen, without=()):
    """{component: number of proved-live instances}, the hosts named in `without` not counted."""
    counts = {c.name: 0 for h in seen.hosts for c in h.components}
    for host in seen.hosts:
        for c in host.components:
            counts[c.name] += host.name not in without and c.serves
    return counts


def short(seen, policy, without=()):
    """Names of components that fewer than their floor serve without these hosts."""
    have = serving(seen, without)
    return [name for name, least in sorted(floor(seen, policy).items()) if have[name] < least]


def shortfall(seen, policy, without=(), components=None):
    """Sentences: which component would be below its floor without these hosts, and who is missing. Empty: none."""
    have, least, sentences = serving(seen, without), floor(seen, policy), []
    for name in short(seen, policy, without):
        if components is None or name in components:
            missing = [f"{h.name} ({state(c)})" for h in seen.hosts if h.name not in without
                       for c in h.components if c.name == name and not c.serves]
            sentences.append(f"{name} would be served by {have[name]}, the floor is {least[name]}"
                             + (f"; not serving: {', '.join(missing)}" if missing else ""))
    return sentences


def too_full(seen, policy, away, parts):
    """Sentences: which component's remaining instances would get more requests in flight than the site allows, or that nobody
    can count them."""
    if not policy.max_in_flight:
        return []
    found = []
    for name in sorted(parts):
        all_ones = [(h, h.component(name)) for h in seen.hosts if h.component(name) and h.component(name).serves]
        rest = [h for h, _ in all_ones if h.name not in away]
        uncounted = [h.name for h, c in all_ones if c.sessions is None]
        load = sum(c.sessions or 0 for _, c in all_ones)
        if uncounted:
            found.append(f"how many requests of {name} are in flight on {', '.join(uncounted)} is not known; "
                         f"max_in_flight is {policy.max_in_flight}")
        elif rest and load > policy.max_in_flight * len(rest):
            found.append(f"{load} requests of {name} are in flight now, {load / len(rest):.0f} each for the {len(rest)} that "
                         f"remain; max_in_flight is {policy.max_in_flight}")
    return found


def state(component):
    """'standby', 'live, LIVE: moving', 'unknown: live-2 is silent' ...: one component in few words."""
    if component.sick:
        word = "sick"
    elif component.heartbeat is None:
        word = "unknown"
    elif component.heartbeat == LIVE and component.live_pool != YES:
        word = f"live, LIVE's pool: {component.live_pool or 'unknown'}"
    else:
        word = component.heartbeat
    return f"{word}: {component.note}" if component.note else word


def crashed(host, memory):
    """Something on it was live when this run began, and is down though this run's Chef has not been there. It may be live again
    in a second: LIVE has not noticed yet, and systemd starts it anew with the word that it had."""
    first = memory.first_seen and memory.first_seen.host(host.name)
    lived = {c.name for c in first.components if c.heartbeat == LIVE} if first else set()
    return not worked_on(host, memory) and any(c.heartbeat == DOWN and c.name in lived for c in host.components)


def drained(host, memory, policy, now):
    """How the drain of a host ended: 'drained' | 'timed-out N left' | 'unmeasured', or None: it goes on.

    What cannot be counted is waited for as long as the policy says; a count that stays, be it of one component beside others
    that nobody counts, is over only where the policy says proceed (or a person did: that is remembered like an end).
    """
    ended = memory.drains.get(host.name)
    new = host.in_flight and ended in ("drained", "unmeasured")     # a balancer that forgot everything may have sent new ones
    if ended and not new:
        return ended
    long = policy.detection if crashed(host, memory) else QUIET
    if all(c.heartbeat == DOWN or c.sick for c in host.components) and long == QUIET:
        return "drained"
    if host.sessions == 0:
        return "drained" if now - memory.quiet.get(host.name, now) >= long else None
    since = memory.waits.get(("drain", host.stack), now)
    if not host.in_flight:
        return "unmeasured" if now >= since + policy.unmeasured else None
    return f"timed-out {host.in_flight} left" if policy.drain_then == "proceed" and now >= since + policy.limits.drain else None


def closed(policy, now):
    """The site's closed hours that `now` (epoch seconds) falls into, as text, or None."""
    for hours in policy.closed:
        local = datetime.fromtimestamp(now, timezone.utc).astimezone(ZoneInfo(hours.zone))
        minute, day = local.hour * 60 + local.minute, local.weekday()
        wraps = hours.end <= hours.start
        if wraps and minute < hours.end:
            day, minute = (day - 1) % 7, minute + 1440
        if day in hours.days and hours.start <= minute < hours.end + (1440 if wraps else 0):
            begin, end = (f"{minutes // 60:02}:{minutes % 60:02}" for minutes in (hours.start, hours.end))
            return f"closed hours {begin}-{end} {hours.zone}"
    return None


def wave_size(policy, hosts):
    """How many hosts of a stack leave at a time: a count, or a share rounded down, at least one."""
    if policy.wave == "stack":
        return max(1, hosts)
    text = str(policy.wave)
    return max(1, hosts * int(text[:-1]) // 100 if text.endswith("%") else int(text))
