"""THE RULES. `decide` looks at what is seen, wanted and remembered, and names the one next step. Pure: no I/O, no clock.

Top to bottom it reads as a deployment does: rescue, then for each stack in order (step 5 is that loop), wave by wave,
1 standby, 2 drain and converge, 3 sanity, 4 live; at the end 6 migrate. Every rung asks only about hosts that are not
yet as wanted, and returns a step or None: nothing to do here.
"""

from dataclasses import dataclass

from bgdeploy import versions
from bgdeploy.model import DOWN, LIVE, STANDBY, Ask, Do, Done, Goal, Memory, Policy, Seen, Stop, Wait
from bgdeploy.prove import (QUIET, closed, converged, drain_outcome, failed, in_standby_pool, is_out, known, let_go, our_job, running,
                            sane, serves, shortfall, state, tested, too_full, untouched, wave_size)
from bgdeploy.sentences import chef_doing, comma, doubt, lacks, names, reached


@dataclass(frozen=True)
class Question:
    """What `decide` was asked; handed from rung to rung."""

    goal: Goal
    seen: Seen
    memory: Memory
    policy: Policy
    now: float


def decide(goal, seen, memory, policy, now):
    """Name the next step towards the goal.

    :param now: seconds since the epoch, from a clock that never goes back.
    :returns: model.Do | Wait | Ask | Stop | Done, each with its why. Never acts, never reads anything but its arguments.
    """
    q = Question(goal, seen, memory, policy, now)
    return patient(q, gated(q, ladder(q)))


def ladder(q):
    step = preflight(q) or rescue(q)
    before = None
    for want in q.goal.wants:
        step = step or stack(q, want, before)
        before = want
    return step or migrate(q) or Done(reached(q.goal), warnings(q))


# ---- before the first act, and when things go wrong meanwhile

def preflight(q):
    """Nothing begins while a host of any wanted stack is unknown, whatever the wave."""
    if q.memory.acted or q.goal.kind == "back":
        return None
    for want in q.goal.wants:
        step = unknown(q, want, hosts_of(q, want))
        if step:
            return step
    return None


def rescue(q):
    """Fewer than the floor serve, for longer than LIVE needs to notice a flip, and this run took out something that is
    still as it was: put that back first. Never what was touched."""
    lacking = shortfall(q.seen, q.policy)
    if not lacking or q.memory.short_since is None or q.now - q.memory.short_since < q.policy.detection:
        return None
    for want in q.goal.wants:
        if want.mode == LIVE or q.goal.only:
            hosts = [h for h in hosts_of(q, want) if is_out(h) and untouched(h, q.memory) and not running(h)
                     and all(c.heartbeat == STANDBY for c in h.components)]
            if hosts:
                why = f"rescue: {'; '.join(lacking)}; {names(hosts)} served before and is untouched"
                if q.goal.only and q.goal.only != "live":
                    return Stop(why, f"invoke live --stack {want.stack}", tuple(h.name for h in hosts))
                return Do("live", want.stack, tuple(h.name for h in hosts), why, None, rescue=True)
    return None


# ---- one stack, wave by wave

def stack(q, want, before):
    hosts = hosts_of(q, want)
    if not hosts:
        return Stop(f"no host of {want.stack} is left in this run", "invoke status")
    bad = failures(q, want, hosts)
    if len(bad) > q.policy.max_failed:
        return trouble(q, want, bad)
    size = len(hosts) if q.goal.kind == "back" else wave_size(q.policy, len(hosts))
    for first in range(0, len(hosts), size):
        wave = [h for h in hosts[first:first + size] if h.name not in bad]
        step = unknown(q, want, wave) or somebody(q, want, wave)
        for name, rung in RUNGS:
            step = step or narrowed(q, name, rung(q, want, wave, before))
            if q.goal.only == name:
                break
        if step:
            return step
    return None


def unknown(q, want, hosts):
    silent = [h for h in hosts if not known(h) and not (h.reachable and busy(q, want, h))]   # Chef restarts what it works on
    if not silent:
        return None
    if q.goal.kind == "back":
        silent = [h for h in silent if h.reachable and want.mode == STANDBY]    # `back` never waits for a dead host
    waiting = [h for h in silent if q.now < q.memory.silent.get(h.name, q.now) + q.policy.limits.host]
    if waiting:
        since = min(q.memory.silent.get(h.name, q.now) for h in waiting)
        return Wait("host", want.stack, tuple(h.name for h in waiting), since, since + q.policy.limits.host,
                    "no answer yet from " + "; ".join(doubt(h) for h in waiting))
    return None


def somebody(q, want, wave):
    """This run put it live and saw it live; now the same process is in standby: a person did that, and is not fought."""
    hosts = [h for h in wave if want.mode == LIVE and h.started is not None and q.memory.released.get(h.name) == h.started
             and any(c.heartbeat == STANDBY for c in h.components)]
    if hosts:
        return Stop(f"someone took {names(hosts)} out of LIVE after this run had put it live",
                    f"invoke live --stack {want.stack} --hosts {comma(hosts)}", tuple(h.name for h in hosts))
    return None


def leave(q, want, wave, before):
    """1 standby: flip, then every named node of LIVE has let go and STANDBY has taken on what runs."""
    R = want.release
    leaving = [h for h in wave if not busy(q, want, h) and any(c.heartbeat == LIVE and not c.sick for c in h.components)
               and must_leave(q, want, h)]
    if leaving:
        return interlock(q, want, leaving, before)
    held = [h for h in wave if not busy(q, want, h) and is_out(h) and not let_go(h)
            and (want.mode == STANDBY or (R and not converged(h, R, q.memory)))]
    if held:
        return pool(q, want, held, "LIVE", "let go of")
    if R is None or q.goal.kind == "back":
        return None
    missing = [h for h in wave if not busy(q, want, h) and is_out(h) and not converged(h, R, q.memory) and not in_standby_pool(h)
               and h.name not in q.memory.jobs]
    return pool(q, want, missing, "STANDBY", "taken on") if missing else None


def interlock(q, want, leaving, before):
    """What remains must be proved to serve at or above the floor, per component that leaves.

    A process that our converge started and nobody tested counts for nothing, so taking it out lowers nothing.
    """
    serving_ones = [h for h in leaving if not (want.release and our_job(h, q.memory) and not tested(h, want.release, q.memory))]
    parts = {c.name for h in serving_ones for c in h.components if c.heartbeat == LIVE}
    away = {h.name for h in leaving}
    if q.goal.kind == "back":       # nothing is converged or tested on this way, so whoever stays must be sound
        away |= {h.name for h in q.seen.hosts if h.job and h.job.kind == "chef" and h.job.state != "ok"}
    lacking = shortfall(q.seen, q.policy, away, parts) or too_full(q.seen, q.policy, away, parts)
    if lacking:
        return Stop(f"{names(leaving)} cannot leave LIVE: {'; '.join(lacking)}",
                    f"invoke rollback --stack {want.stack}" if q.goal.kind == "back" else "invoke status")
    if before and before.mode == LIVE and any(h.name in q.memory.released for h in q.seen.stack(before.stack)):
        since = q.memory.waits.get(("soak", before.stack), q.now)
        if q.now < since + q.policy.soak:
            return Wait("soak", before.stack, tuple(h.name for h in q.seen.stack(before.stack)), since, since + q.policy.soak,
                        f"{before.stack} serves for {q.policy.soak:g} s before {want.stack} leaves")
        if "stack" in q.policy.gates and ("stack", want.stack) not in q.memory.approved:
            return Ask("stack", want.stack, tuple(away), ("approve", "stop"), f"{before.stack} is live; may {want.stack} leave LIVE?")
    hours = closed(q.policy, q.now) if q.goal.kind not in ("back", "rollback") else None
    if hours and not q.memory.acted:
        return Stop(f"{hours}: no deployment begins now", "the same command with --override-hours REASON")
    if hours and ("hours", want.stack) not in q.memory.approved:
        return Ask("hours", want.stack, tuple(away), ("approve", "stop"), f"{hours} have begun; may {want.stack} leave LIVE all the same?")
    return Do("standby", want.stack, tuple(h.name for h in leaving), f"{names(leaving)} leaves LIVE: {reason(q, want, leaving)}", want.release)


def drain(q, want, wave, before):
    """2 drain: requests in flight are waited for, with a named outcome at the limit."""
    R = want.release
    if R is None and q.goal.only != "drain":
        return None
    full = [h for h in wave if not busy(q, want, h) and let_go(h) and not (R and converged(h, R, q.memory)) and not drained(q, h)]
    if not full:
        return None
    since = q.memory.waits.get(("drain", want.stack), q.now)
    outcome = drain_outcome(full)
    if outcome == "unmeasured":
        return Wait("drain", want.stack, tuple(h.name for h in full), since, since + q.policy.unmeasured,
                    f"nothing counts the requests in flight on {names(full)}: {q.policy.unmeasured:g} s are waited")
    if q.now < since + q.policy.limits.drain:
        left = "; ".join(f"{h.name}: {h.sessions}" for h in full)
        return Wait("drain", want.stack, tuple(h.name for h in full), since, since + q.policy.limits.drain, f"requests in flight: {left}")
    why = f"after {q.policy.limits.drain:g} s there are still requests in flight: {'; '.join(f'{h.name}: {h.sessions}' for h in full)}"
    if q.policy.drain_then == "ask":
        return Ask("drain", want.stack, tuple(h.name for h in full), ("proceed", "stop"), why)
    return Stop(why, f"invoke resume | invoke live --stack {want.stack}", tuple(h.name for h in full))


def converge(q, want, wave, before):
    """2 converge: Chef on hosts that are out of LIVE; one first (the canary), then `parallel` at a time."""
    R = want.release
    if R is None:
        return None
    all_hosts = q.seen.stack(want.stack)
    working = [h for h in all_hosts if busy(q, want, h)]
    ready = [h for h in wave if not busy(q, want, h) and let_go(h) and not converged(h, R, q.memory)]
    proved = not q.policy.canary or any(h.name in q.memory.jobs and converged(h, R, q.memory) for h in all_hosts)
    room = (q.policy.parallel if proved else 1) - len(working)
    if ready and room > 0:
        todo = ready[:room]
        canary = "" if proved or len(wave) == 1 else "canary: "
        return Do("converge", want.stack, tuple(h.name for h in todo), f"{canary}{names(todo)} to {R.id}: {lacks(todo, R)}", R)
    slow = [h for h in wave if busy(q, want, h)] or (working if ready else [])
    if slow:
        since = q.memory.waits.get(("chef", want.stack), q.now)
        if q.now < since + q.policy.limits.chef:
            return Wait("chef", want.stack, tuple(h.name for h in slow), since, since + q.policy.limits.chef,
                        "; ".join(f"{h.name}: {chef_doing(h)}" for h in slow))
        return Stop(f"Chef has not ended within {q.policy.limits.chef:g} s: {'; '.join(f'{h.name}: {chef_doing(h)}' for h in slow)}",
                    "invoke resume", tuple(h.name for h in slow))
    return None


def sanity(q, want, wave, before):
    """3 sanity: the site's test, through STANDBY, of exactly the processes that are to go live."""
    R = want.release
    if R is None:
        return None
    if q.goal.only == "sanity" and not all(is_out(h) for h in wave):
        return Stop(f"{names([h for h in wave if not is_out(h)])} is live: sanity is tested through STANDBY",
                    f"invoke standby --stack {want.stack}")
    fresh = [h for h in wave if is_out(h) and converged(h, R, q.memory) and not sane(h, R, q.memory) and not allowed(q, h)]
    wrong = {h.name: q.memory.insane[h.name, R.id, h.started] for h in fresh if (h.name, R.id, h.started) in q.memory.insane}
    if wrong:
        return trouble(q, want, wrong)
    missing = [h for h in fresh if not in_standby_pool(h)]
    if missing:
        return pool(q, want, missing, "STANDBY", "taken on")
    return Do("sanity", want.stack, tuple(h.name for h in fresh), f"{names(fresh)} is tested through STANDBY on {R.id}", R) if fresh else None


def live(q, want, wave, before):
    """4 live: what passed, then every named node of LIVE has taken it on."""
    if want.mode != LIVE:
        return None
    out = [h for h in wave if not serves(h) and any(c.heartbeat != LIVE for c in h.components)]
    for h in out:
        if any(c.heartbeat == DOWN or c.sick for c in h.components):
            parts = ", ".join(f"{c.name} {state(c)}" for c in h.components if c.heartbeat == DOWN or c.sick)
            return Stop(f"{h.name} cannot go live: {parts}", f"invoke converge --stack {want.stack} --hosts {h.name}", (h.name,))
        if not may_serve(q, want, h):
            return Stop(f"{h.name} has not passed sanity with the processes that run now", f"invoke sanity --stack {want.stack}", (h.name,))
    if out:
        return Do("live", want.stack, tuple(h.name for h in out), f"{names(out)} goes live: {proof(q, want, out)}", want.release)
    joining = [h for h in wave if not serves(h)]
    return pool(q, want, joining, "LIVE", "taken on") if joining else None


RUNGS = (("standby", leave), ("drain", drain), ("converge", converge), ("sanity", sanity), ("live", live))


def migrate(q):
    """6 migrate: once, when every host of every stack (excluded ones too) runs what the migration asks for, or newer."""
    if not q.goal.migrate:
        return None
    command = f"invoke answer --run {q.memory.run} --choice CHOICE, then invoke resume"
    for component, least in q.goal.needs:
        for h in q.seen.hosts:
            c = h.component(component)
            if c and (c.release is None or versions.compare(c.release, least) < 0):
                return Stop(f"{q.goal.migrate} needs {component} {least} everywhere; {h.name} runs {c.release or state(c)}", "invoke status", (h.name,))
    marker = q.seen.migration
    if marker is None:
        return Stop("the database does not say whether the migration was done", "invoke migrate")
    found = marker["state"]
    if found == "done":
        return None
    if found == "started" and marker.get("alive") is not False:
        return Stop(f"{q.goal.migrate} is carried out at this moment by {marker.get('by') or 'somebody'} (run {marker.get('run')})", "invoke status")
    if found in ("started", "failed") and marker.get("run") == q.memory.run and "migrate" not in q.memory.forgiven:
        return Stop(f"{q.goal.migrate} {found} in this run: {marker.get('detail') or 'no detail'}", "invoke migrate")
    choice = q.memory.answers.get(("migration", ""))
    if found in ("started", "failed") and not marker.get("repeatable") and choice != "repeat":
        return Ask("migration", "", (), ("repeat", "done", "stop"),
                   f"{q.goal.migrate} was found {found} by run {marker.get('run')}: {marker.get('detail') or 'no counts'} ({command})")
    return Do("migrate", "", (), f"{q.goal.migrate}: every host runs what it needs")


# ---- what holds for every step

def narrowed(q, name, step):
    """A step by hand is the same ladder: if another step is due first, it is named and not done."""
    if q.goal.only in (None, name) or not isinstance(step, Do):
        return step
    return Stop(f"another step is due first: {step.why}", f"invoke {step.step} --stack {step.stack}", step.hosts)


def gated(q, step):
    if isinstance(step, Do) and not step.rescue and step.step in q.policy.gates and (step.step, step.stack) not in q.memory.approved:
        return Ask(step.step, step.stack, step.hosts, ("approve", "stop"), f"next is {step.step}: {step.why}")
    return step


def patient(q, step):
    """The same act on the same host more often than `tries` is no progress: stop and show what is seen."""
    if not isinstance(step, Do):
        return step
    for name in step.hosts:
        host = q.seen.host(name)
        release = step.release.id if step.release else None
        same = q.memory.tries.get((step.step, name, release, host.started), 0)
        alike = sum(n for (kind, at, of, _), n in q.memory.tries.items() if (kind, at, of) == (step.step, name, release))
        if same >= q.policy.tries or alike >= 3 * q.policy.tries:
            now = ", ".join(f"{c.name} {state(c)} {c.release or ''}".strip() for c in host.components)
            return Stop(f"{step.step} on {name} was tried {max(same, alike)} times and it is still due: now {now}", "invoke status", (name,))
    return step


def trouble(q, want, bad):
    why, hosts = "; ".join(bad.values()), tuple(bad)
    if q.policy.on_failure == "ask":
        return Ask("failure", want.stack, hosts, ("retry", "exclude", "stop"), why)
    return Stop(why, f"invoke resume | invoke deploy --stack {want.stack} --version VERSION | invoke rollback --stack {want.stack} | "
                     f"invoke back --stack {want.stack}", hosts)


def pool(q, want, hosts, balancer, verb):
    since = q.memory.waits.get(("pool", want.stack), q.now)
    until = since + q.policy.limits.pool
    word = "let go of" if verb == "let go of" else "taken on"
    seen = "; ".join(f"{h.name} {c.name}: {balancer} says {(c.live_pool if balancer == 'LIVE' else c.standby_pool) or 'nothing yet'}"
                     + (f" ({c.note})" if c.note else "") for h in hosts for c in h.components if not c.sick and c.heartbeat != DOWN)
    if q.now < until:
        return Wait("pool", want.stack, tuple(h.name for h in hosts), since, until, f"{balancer} has not yet {word} {names(hosts)}: {seen}")
    hint = "; is its check a substring?" if (balancer, word) == ("LIVE", "let go of") else ""
    return Stop(f"{balancer} has not {word} {names(hosts)} within {q.policy.limits.pool:g} s: {seen}{hint}",
                f"invoke live --stack {want.stack}" if word == "let go of" else "invoke status", tuple(h.name for h in hosts))


def warnings(q):
    """What a person must read though the goal is reached: pairs (key for the inventory's `accept`, sentence)."""
    found = [("excluded", f"{name} is excluded: {why}") for name, why in sorted(q.memory.excluded.items())]
    for want in q.goal.wants:
        found += [("dropped", why) for why in failures(q, want, hosts_of(q, want)).values()]
        if q.goal.kind == "back":
            found += [("unreachable", f"{h.name} was not reached and not flipped") for h in hosts_of(q, want) if not known(h)]
    found += [("drain-unmeasured" if outcome == "unmeasured" else "drain-timed-out", f"requests in flight on {name}: {outcome}")
              for name, outcome in sorted(q.memory.drains.items()) if outcome != "drained"]
    found += [("untested", f"{name} went live untested: {why}") for name, (_, why) in sorted(q.memory.untested.items())]
    return tuple(found)


# ---- small questions

def hosts_of(q, want):
    return tuple(h for h in q.seen.stack(want.stack) if (not want.hosts or h.name in want.hosts) and h.name not in q.memory.excluded)


def failures(q, want, hosts):
    """{host: why} of this run for this release; a host that is out of reach for longer than the limit counts."""
    if q.goal.kind == "back":
        return {}
    bad = {h.name: f"{doubt(h)} for more than {q.policy.limits.host:g} s" for h in hosts
           if not known(h) and q.now >= q.memory.silent.get(h.name, q.now) + q.policy.limits.host and h.name not in q.memory.forgiven}
    for h in hosts:
        why = failed(h, want.release, q.memory) if want.release else None
        if why and not running(h):
            bad[h.name] = why
    return bad


def busy(q, want, h):
    """A Chef run goes on there, or a reboot that it asked for; a flip alone does not wait for that."""
    return want.release is not None and q.goal.kind != "back" and h.job is not None and h.job.state in ("running", "reboot")


def must_leave(q, want, h):
    if want.mode == STANDBY:
        return True
    return want.release is not None and not (converged(h, want.release, q.memory) and (tested(h, want.release, q.memory) or allowed(q, h)))


def drained(q, h):
    if h.name in q.memory.drains or all(c.heartbeat == DOWN or c.sick for c in h.components):
        return True
    return h.sessions == 0 and q.now - q.memory.quiet.get(h.name, q.now) >= QUIET


def allowed(q, h):
    """A person said --untested for exactly these processes."""
    return h.started is not None and h.name in q.memory.untested and q.memory.untested[h.name][0] == h.started


def may_serve(q, want, h):
    if allowed(q, h) or untouched(h, q.memory):
        return True
    if want.release is not None:
        return sane(h, want.release, q.memory)
    return any(name == h.name and started == h.started for name, _, started in q.memory.sane)


def reason(q, want, hosts):
    if want.release is None:
        return f"{want.stack} is wanted in standby"
    if all(converged(h, want.release, q.memory) for h in hosts):
        return "a Chef run started its processes and they are not tested"
    return f"{want.release.id} is wanted; {lacks(hosts, want.release)}"


def proof(q, want, hosts):
    if any(allowed(q, h) for h in hosts):
        return "untested, as told"
    if all(untouched(h, q.memory) for h in hosts) and not (want.release and all(sane(h, want.release, q.memory) for h in hosts)):
        return "the same processes as before"
    return "passed sanity"
