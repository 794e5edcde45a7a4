"""THE RULES. `decide` looks at what is seen, wanted and remembered, and names the one next step. Pure: no I/O, no clock.

Top to bottom it reads as a deployment does: rescue, then for each stack in order (step 5 is that loop), wave by wave,
1 standby, 2 drain and converge, 3 sanity, 4 live; at the end 6 migrate. Every rung asks only about hosts that are not
yet as wanted, and returns a step or None: nothing to do here.
"""

from bgdeploy import versions
from bgdeploy.holds import gated, patient, timely, worn
from bgdeploy.model import DOWN, LIVE, STANDBY, Ask, Do, Done, Question, Stop, Wait, Want
from bgdeploy.prove import (QUIET, allowed, arriving, converged, drained, failed, in_standby_pool, is_out, known, let_go,
                            loose, may_serve, mute, one_version, partly_out, running, runs, sane, serves, short, shortfall,
                            state, tested, too_full, unsound, untouched, wave_size)
from bgdeploy.sentences import (by_hand, chef_doing, comma, counted, doubt, ids, lacks, names, perhaps_old, proof, reached,
                                rollback, up_untested, why_leaving)
from bgdeploy.waits import patience, pool, trouble


def decide(goal, seen, memory, policy, now):
    """Name the next step towards the goal.

    :param now: seconds since the epoch, from a clock that never goes back.
    :returns: model.Do | Wait | Ask | Stop | Done, each with its why. Never acts, never reads anything but its arguments.
    """
    q = Question(goal, seen, memory, policy, now)
    return patient(q, gated(q, timely(q, ladder(q))))


def ladder(q):
    step, refused = stray(q) or preflight(q) or rescue(q), None
    for n, want in enumerate(q.goal.wants):
        step = step or stack(q, want, q.goal.wants[:n], refused)
        if may_wait(q, step):
            step, refused = None, refused or step
    return step or refused or migrate(q) or Done(reached(q.goal), warnings(q))


# ---- before the first act, and when things go wrong meanwhile

def stray(q):
    """An app that boots as live after our Chef run is taken out again at the next look, whatever else is the matter, also
    while Chef goes on. It counts for nothing, so neither the interlock nor a gate holds that."""
    for want in q.goal.wants if q.goal.kind != "back" else ():
        hosts = [h for h in q.seen.stack(want.stack) if loose(h, q.memory) and h.name not in q.memory.excluded]
        if hosts:
            why = up_untested(hosts, q.memory)
            if q.goal.only and (q.goal.only != "standby" or any(h not in hosts_of(q, want) for h in hosts)):
                return Stop(why, f"invoke standby --stack {want.stack} --hosts {comma(hosts)}", ids(hosts))
            return Do("standby", want.stack, ids(hosts), why, want.release, rescue=True)
    return None


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
    """Fewer than the floor serve, for longer than LIVE needs to notice a flip, and this run took out something of just that
    which is still as it was: put that back first. Never what was touched."""
    lacking, parts = shortfall(q.seen, q.policy), short(q.seen, q.policy)
    if not lacking or q.memory.short_since is None or q.now - q.memory.short_since < q.policy.detection:
        return None
    for want in q.goal.wants:
        if want.mode == LIVE or q.goal.only:
            hosts = [h for h in hosts_of(q, want) if is_out(h) and untouched(h, q.memory) and not running(h)
                     and all(c.heartbeat == STANDBY for c in h.components) and any(c.name in parts for c in h.components)]
            if hosts:
                why = f"rescue: {'; '.join(lacking)}; {names(hosts)} served before and is untouched"
                if q.goal.only and q.goal.only != "live":
                    return Stop(why, f"invoke live --stack {want.stack}", ids(hosts))
                return Do("live", want.stack, ids(hosts), why, None, rescue=True)
    return None


# ---- one stack, wave by wave

def stack(q, want, earlier, refused=None):
    """:param refused: a Stop for somebody earlier who may not leave LIVE; then only what is out, or half out, is finished."""
    hosts = hosts_of(q, want)
    if not hosts:
        return Stop(f"no host of {want.stack} is left in this run", f"invoke answer --run {q.memory.run} --choice stop")
    if q.goal.kind == "back":
        return put_back(q, want, hosts) if want.mode == LIVE else take_back(q, want, hosts)
    bad = failures(q, want, hosts)
    if len(bad) > q.policy.max_failed or len(bad) == len(hosts):
        return trouble(q, want, bad)
    size = wave_size(q.policy, len(hosts)) if want.release else len(hosts)
    waves = [hosts[first:first + size] for first in range(0, len(hosts), size)]
    while waves:
        wave = waves.pop(0)
        step = climb(q, want, [h for h in wave if h.name not in bad
                               and (not refused or partly_out(h) or arriving(h, q.memory))], earlier)
        if may_wait(q, step):
            if not refused:         # who is out already is finished, also beside who may not leave
                waves.insert(0, [h for h in wave if is_out(h)])
            step, refused = None, step
        if step:
            return step
    return refused


def climb(q, want, wave, earlier):
    """The first rung on which something of this wave is not as it is wanted, or None."""
    step = unknown(q, want, wave) or somebody(q, want, wave)
    for name, rung in RUNGS:
        step = step or narrowed(q, want, name, rung(q, want, wave, earlier))
        if q.goal.only == name:
            break
    return step


def may_wait(q, step):
    """The interlock says no in the middle of a run: once what is out already is finished, it may say yes."""
    return isinstance(step, Stop) and step.short and q.memory.acted and not q.goal.only and q.goal.kind != "back"


def unknown(q, want, hosts):
    silent = [h for h in hosts if not known(h) and not (h.reachable and busy(q, want, h))]   # Chef restarts what it works on
    return patience(q, want, silent)


def somebody(q, want, wave):
    """This run put it live and saw it live; now the same process is in standby: a person did that, and is not fought."""
    hosts = [h for h in wave if want.mode == LIVE and h.started is not None and q.memory.released.get(h.name) == h.started
             and any(c.heartbeat == STANDBY for c in h.components)]
    if hosts:
        return Stop(f"someone took {names(hosts)} out of LIVE after this run had put it live",
                    f"invoke live --stack {want.stack} --hosts {comma(hosts)}", ids(hosts))
    return None


def put_back(q, want, hosts):
    """`back`, first: what the run took out and did not touch returns. What cannot is left to the interlock to judge."""
    sound = [h for h in hosts if known(h) and not unsound(h)]
    out = [h for h in sound if untouched(h, q.memory) and any(c.heartbeat == STANDBY for c in h.components)
           and q.memory.tries.get(("live", h.name, None, h.started), 0) < q.policy.tries]
    if out:
        return Do("live", want.stack, ids(out), f"{names(out)} goes live: {proof(want, out, q.memory)}")
    joining = [h for h in sound if any(c.heartbeat == LIVE for c in h.components) and not serves(h)]
    step = pool(q, want, joining, "LIVE", "taken on") if joining else None
    return step if isinstance(step, Wait) else None


def take_back(q, want, hosts):
    """`back`, then: flip, and see LIVE let go. A dead host is not waited for; one that answers without sense is, a while."""
    step = leave(q, want, hosts, ()) or patience(q, want, [h for h in hosts if h.reachable and mute(h)])
    dark = [h for h in hosts if mute(h)]
    lacking = shortfall(q.seen, q.policy, {h.name for h in hosts}, {c.name for h in dark for c in h.components})
    if not step and lacking:                # without anybody else that serves, the way back leads nowhere
        step = Stop(f"of {names(dark)} nobody knows what it says, and without {want.stack} nothing is proved to serve: "
                    f"{'; '.join(lacking)}", rollback(want, q.seen, q.memory), ids(dark), short=True)
    return step


def leave(q, want, wave, earlier):
    """1 standby: flip, then every named node of LIVE has let go and STANDBY has taken on what runs."""
    R = want.release
    leaving = [h for h in wave if not busy(q, want, h) and any(c.heartbeat == LIVE and not c.sick for c in h.components)
               and must_leave(q, want, h)]
    if leaving:
        return interlock(q, want, leaving, earlier)
    held = [h for h in wave if not busy(q, want, h) and is_out(h) and not let_go(h)
            and (want.mode == STANDBY or (R and not converged(h, R, q.memory)))]
    if held:
        return pool(q, want, held, "LIVE", "let go of")
    if R is None:
        return None
    missing = [h for h in wave if not busy(q, want, h) and is_out(h) and not converged(h, R, q.memory) and not in_standby_pool(h)
               and h.name not in q.memory.jobs]
    return pool(q, want, missing, "STANDBY", "taken on") if missing else None


def interlock(q, want, leaving, earlier):
    """What remains must be proved to serve at or above the floor, per component that leaves. A process of our converge that
    nobody tested counts for nothing, whether it leaves or stays."""
    parts = {c.name for h in leaving for c in h.components if c.heartbeat == LIVE and c.name not in loose(h, q.memory)}
    away = {h.name for h in leaving} | {h.name for h in q.seen.hosts if loose(h, q.memory)}
    hasty = q.goal.kind == "back"       # nothing is converged or tested on this way, so whoever stays must be sound
    doubtful = {h.name: unsound(h) for h in q.seen.hosts if hasty and h.name not in away and unsound(h)}
    lacking = shortfall(q.seen, q.policy, away | set(doubtful), parts) or (not hasty and too_full(q.seen, q.policy, away, parts))
    if lacking:
        lacking += [f"{name} does not count: {why}" for name, why in doubtful.items()]
        cure = "invoke resume | invoke status" if q.memory.acted else "invoke status"
        return Stop(f"{names(leaving)} cannot leave LIVE: {'; '.join(lacking)}",
                    rollback(want, q.seen, q.memory) if hasty else cure, ids(leaving), short=True)
    before = next((w for w in reversed(earlier) if any(h.name in q.memory.lived for h in q.seen.stack(w.stack))), None)
    if before and not hasty:
        since = q.memory.waits.get(("soak", before.stack), q.now)
        if q.now < since + q.policy.soak:
            return Wait("soak", before.stack, tuple(h.name for h in q.seen.stack(before.stack)), since, since + q.policy.soak,
                        f"{before.stack} serves for {q.policy.soak:g} s before {want.stack} leaves")
        if "stack" in q.policy.gates and ("stack", want.stack) not in q.memory.approved:
            return Ask("stack", want.stack, ids(leaving), ("approve", "stop"),
                       f"{before.stack} is live; may {want.stack} leave LIVE?")
    why = f"{names(leaving)} leaves LIVE: {why_leaving(want, leaving, q.memory)}"
    return Do("standby", want.stack, ids(leaving), why, want.release)


def drain(q, want, wave, earlier):
    """2 drain: requests in flight are waited for, with a named outcome at the limit."""
    R = want.release
    if R is None and q.goal.only != "drain":
        return None
    full = [h for h in wave if not busy(q, want, h) and let_go(h) and not (R and converged(h, R, q.memory))
            and drained(h, q.memory, q.policy, q.now) is None]
    if not full:
        return None
    since, hosts = q.memory.waits.get(("drain", want.stack), q.now), ids(full)
    left, blind = [h for h in full if h.in_flight], [h for h in full if h.sessions is None]
    counts = "; ".join(f"{h.name}: {counted(h)}" for h in full)
    if left and q.now >= since + q.policy.limits.drain:
        why = f"after {q.policy.limits.drain:g} s there are still requests in flight: {counts}"
        if q.policy.drain_then == "ask":
            return Ask("drain", want.stack, hosts, ("proceed", "stop"), why)
        return Stop(why, f"invoke resume | invoke live --stack {want.stack}", hosts)
    until = since + (q.policy.limits.drain if left else q.policy.unmeasured) if left or blind else q.now + QUIET
    return Wait("drain", want.stack, hosts, since, until, f"requests in flight: {counts}" + ("" if left or not blind else
                f"; {q.policy.unmeasured:g} s are waited"))


def converge(q, want, wave, earlier):
    """2 converge: Chef on hosts that are out of LIVE; one first (the canary), then `parallel` at a time."""
    R, all_hosts = want.release, q.seen.stack(want.stack)
    working = [h for h in all_hosts if busy(q, want, h) and (R or not serves(h))]
    ready = [h for h in wave if R and not busy(q, want, h) and let_go(h) and not converged(h, R, q.memory)]
    proved = not q.policy.canary or any(R and h.name in q.memory.jobs and converged(h, R, q.memory) for h in all_hosts)
    room = (q.policy.parallel if proved else 1) - len(working)
    if ready and room > 0:
        todo = ready[:room]
        canary = "" if proved or len(wave) == 1 else "canary: "
        return Do("converge", want.stack, ids(todo), f"{canary}{names(todo)} to {R.id}: {lacks(todo, R)}", R)
    slow = [h for h in wave if h in working] or (working if ready else [])
    if slow:
        since, doing = q.memory.waits.get(("chef", want.stack), q.now), "; ".join(f"{h.name}: {chef_doing(h)}" for h in slow)
        if q.now < since + q.policy.limits.chef:
            return Wait("chef", want.stack, ids(slow), since, since + q.policy.limits.chef, doing)
        absent = [h for h in slow if h.job.state == "reboot"]
        cure = f"; reboot {names(absent)} by hand" if absent else ""
        return Stop(f"Chef has not ended within {q.policy.limits.chef:g} s: {doing}{cure}", "invoke resume", ids(slow))
    return None


def sanity(q, want, wave, earlier):
    """3 sanity: the site's test, through STANDBY, of exactly the processes that are to go live."""
    R = want.release
    if R is None:
        return None
    if q.goal.only == "sanity" and not all(is_out(h) for h in wave):
        return Stop(f"{names([h for h in wave if not is_out(h)])} is live: sanity is tested through STANDBY",
                    by_hand("standby", want))
    fresh = [h for h in wave if is_out(h) and converged(h, R, q.memory) and not sane(h, R, q.memory) and not allowed(h, q.memory)]
    wrong = {h.name: q.memory.insane[h.name, R.id, h.started] for h in fresh if (h.name, R.id, h.started) in q.memory.insane}
    if wrong:
        return trouble(q, want, wrong)
    missing = [h for h in fresh if not in_standby_pool(h)]
    if missing:
        return pool(q, want, missing, "STANDBY", "taken on")
    if fresh:
        return Do("sanity", want.stack, ids(fresh), f"{names(fresh)} is tested through STANDBY on {R.id}", R)
    return None


def live(q, want, wave, earlier):
    """4 live: what passed, then every named node of LIVE has taken it on."""
    if want.mode != LIVE:
        return None
    out = [h for h in wave if not serves(h) and any(c.heartbeat != LIVE for c in h.components)]
    for h in out:
        if any(c.heartbeat == DOWN or c.sick for c in h.components):
            parts = ", ".join(f"{c.name} {state(c)}" for c in h.components if c.heartbeat == DOWN or c.sick)
            return Stop(f"{h.name} cannot go live: {parts}", f"invoke converge --stack {want.stack} --hosts {h.name}", (h.name,))
        if not may_serve(h, want.release, q.memory):
            return Stop(f"{h.name} has not passed sanity with the processes that run now",
                        by_hand("sanity", want, wave, (h.name,)), (h.name,))
    if out:
        return Do("live", want.stack, ids(out), f"{names(out)} goes live: {proof(want, out, q.memory)}", want.release)
    joining = [h for h in wave if not serves(h)]
    return pool(q, want, joining, "LIVE", "taken on") if joining else None


RUNGS = (("standby", leave), ("drain", drain), ("converge", converge), ("sanity", sanity), ("live", live))


def migrate(q):
    """6 migrate: once, when every host of every stack (excluded ones too) runs what the migration asks for, or newer."""
    if not q.goal.migrate:
        return None
    command = f"invoke answer --run {q.memory.run} --choice CHOICE, then invoke resume"
    dark = [h for h in q.seen.hosts if not known(h)]
    if dark:
        why = f"{q.goal.migrate} needs every host to be known: {'; '.join(doubt(h) for h in dark)}"
        return patience(q, Want("", LIVE), dark) or Stop(why, "invoke status", ids(dark))
    for component, least in q.goal.needs:
        for h in q.seen.hosts:
            c = h.component(component)
            if c and (c.release is None or versions.compare(c.release, least) < 0):
                return Stop(f"{q.goal.migrate} needs {component} {least} everywhere; {h.name} runs {c.release or state(c)}",
                            "invoke status", (h.name,))
    marker = q.seen.migration
    if marker is None:
        return Stop("the database does not say whether the migration was done", "invoke migrate")
    found = marker["state"]
    if found == "done":
        return None
    if found == "started" and marker.get("alive") is not False:
        who = f"{marker.get('by') or 'somebody'} (run {marker.get('run')})"
        return Stop(f"{q.goal.migrate} is carried out at this moment by {who}", "invoke status")
    if found in ("started", "failed") and marker.get("run") == q.memory.run and "migrate" not in q.memory.forgiven:
        return Stop(f"{q.goal.migrate} {found} in this run: {marker.get('detail') or 'no detail'}", "invoke migrate")
    choice = q.memory.answers.get(("migration", ""))
    if found in ("started", "failed") and not marker.get("repeatable") and choice != "repeat":
        what = marker.get("detail") or f"{found} by run {marker.get('run')}, no counts"
        return Ask("migration", "", (), ("repeat", "done", "stop"), f"{q.goal.migrate} was found {what} ({command})")
    return Do("migrate", "", (), f"{q.goal.migrate}: every host runs what it needs")


# ---- at the end

def narrowed(q, want, name, step):
    """A step by hand is the same ladder: if another step is due first, it is named and not done."""
    if q.goal.only in (None, name) or not isinstance(step, Do):
        return step
    return Stop(f"another step is due first: {step.why}", by_hand(step.step, want, hosts_of(q, want), step.hosts), step.hosts)


def warnings(q):
    """What a person must read though the goal is reached: pairs (key for the inventory's `accept`, sentence)."""
    found = [("excluded", f"{name} is excluded: {why}" + perhaps_old(q.seen.host(name)))
             for name, why in sorted(q.memory.excluded.items())]
    if q.goal.kind == "back" and one_version(q.seen):
        found.append(("nothing-older", "every stack runs the same versions: nothing older serves; invoke rollback --stack "
                                       f"{q.goal.wants[-1].stack} brings it back"))
    for want in q.goal.wants:
        found += [("dropped", why) for why in failures(q, want, hosts_of(q, want)).values()]
        if q.goal.kind == "back":
            found += [("unreachable", f"{h.name} was not reached and not flipped") for h in hosts_of(q, want) if mute(h)]
        if q.goal.only == "drain":
            found += [("drain-unmeasured", f"requests in flight cannot be measured: {doubt(h)}") for h in hosts_of(q, want)
                      if not known(h)]
    found += [("drain-unmeasured" if outcome == "unmeasured" else "drain-timed-out", f"requests in flight on {name}: {outcome}")
              for name, outcome in sorted(q.memory.undrained.items())]
    found += [("untested", f"{name} went live untested: {why}") for name, (_, why) in sorted(q.memory.untested.items())]
    return tuple(found)


# ---- small questions

def hosts_of(q, want):
    return tuple(h for h in q.seen.stack(want.stack)
                 if (not want.hosts or h.name in want.hosts) and h.name not in q.memory.excluded)


def failures(q, want, hosts):
    """{host: why} of this run for this release; a host that is out of reach for longer than the limit counts."""
    if q.goal.kind == "back":
        return {}
    bad = {h.name: f"{doubt(h)} for more than {q.policy.limits.host:g} s" for h in hosts
           if not known(h) and q.now >= q.memory.silent.get(h.name, q.now) + q.policy.limits.host and q.goal.only != "drain"}
    for h in hosts:
        why = failed(h, want.release, q.memory) if want.release else None
        if want.release and not why and known(h) and not runs(h, want.release):     # its helper refuses to start Chef, say
            why = worn(q, "converge", h.name, want.release)
        if why and not running(h):
            bad[h.name] = why
    return bad


def busy(q, want, h):
    """A Chef run goes on there, or a reboot that it asked for; leaving LIVE alone does not wait for that."""
    return ((want.release is not None or want.mode == LIVE) and q.goal.kind != "back" and h.job is not None
            and h.job.state in ("running", "reboot"))


def must_leave(q, want, h):
    if want.mode == STANDBY:
        return True
    R = want.release
    if R is None or not converged(h, R, q.memory):
        return R is not None
    if any(c.heartbeat != LIVE for c in h.components):      # half of it is live already: the rest joins it, or all is tested
        return not may_serve(h, R, q.memory)
    return not (tested(h, R, q.memory) or allowed(h, q.memory))
