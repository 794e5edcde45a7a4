"""One case of the campaign, or of its baseline: what is typed, when the fault comes, when it is mended, how it is finished.

No judgement in here: what was seen is handed to verdict.py.
"""

import os
import signal
import time
from dataclasses import dataclass

from lab.cases import HOLD, MOMENTS
from lab.verdict import BEFORE, GOOD, Baseline, Evidence

LIMIT = 150.0           # seconds that a command may take, and as much again for each stack of a rollout
STOPPED = 33.0          # seconds: longer than a lease lasts
LONGER = 14.0           # seconds of a fault that is held, in a baseline: until LIVE has noticed, and clients have given up
CALM = 2.0              # seconds of traffic before the fault of a baseline, and after everything has settled
AWAY = 2.0              # seconds after its mending in which a node that was away is not asked yet
GONE = ("connection refused", "closed without an answer")
SIGNALS = {"kill": (signal.SIGKILL,), "stop": (signal.SIGSTOP,), "term": (signal.SIGTERM, signal.SIGTERM)}
ORDERS = 4000           # documents of the migration: it takes some seconds


@dataclass
class Broken:
    """A fault as it was done: when it came, when it was over (None: it goes on)."""

    fault: str
    target: str
    since: float
    until: float = None


def classes(case):
    """Which baseline a case is compared with: (fault, what it hits, how many stacks serve), or None: traffic is not judged."""
    harm, moment = case.harm, MOMENTS[case.moment]
    if harm.traffic == "unjudged":
        return None
    if harm.traffic == "none":
        return "nothing", "", "half"
    if harm.traffic == "node":
        return harm.fault, harm.target, "half"
    if harm.target == "deployed" and moment.out:
        return harm.fault, "in standby", "half"
    leaving = harm.target == "serving" and moment.task in ("standby", "live", "back") and moment.kind != "began"
    hits = "serving, held" if harm.fault == "hang" and case.held else "serving"     # mended early it answers late, but in time
    return harm.fault, hits, "half" if moment.out or leaving else "all"    # as the others leave, its share doubles


def baseline(bench, kind, runs=3):
    """The same fault, the same traffic, no driver. The lab is as the class wants it: with `half`, the first stack is in standby.

    :returns: verdict.Baseline.
    """
    fault, hit, _ = kind
    out, on = list(bench.stacks)[:2]
    target = {"serving": bench.stacks[on][0], "in standby": bench.stacks[out][0], "": None}.get(hit.removesuffix(", held"), hit)
    hold = LONGER if hit.endswith("held") else HOLD
    failed, gaps = [], []
    for _ in range(runs):
        since = bench.now()
        time.sleep(CALM)
        broken = None
        if target:
            broken = broke(bench, fault, target, ())
            time.sleep(hold)
            mended(bench, broken)
        else:
            time.sleep(HOLD)
        bench.settled()
        time.sleep(CALM)
        samples = judged(bench, since, broken)
        failed.append(sum(bool(s.what) for s in samples))
        gaps.append(gap_of(samples))
        forget(bench)
    return Baseline(tuple(failed), tuple(gaps))


def gap_of(samples):
    from lab.load import longest_gap
    return round(longest_gap(samples), 2)


def trial(bench, case, known):
    """Run one case on a whole lab and finish it.

    :param known: verdict.Baseline, or None. :returns: (verdict.Evidence, dict of what the table shows).
    """
    moment, harm = MOMENTS[case.moment], case.harm
    stack, other = sorted(bench.stacks, key=list(bench.stacks).index, reverse=bool(case.turn))[:2]
    host = bench.stacks[stack][0]
    target = {"deployed": host, "serving": bench.stacks[other][0]}.get(harm.target, harm.target)
    before = bench.versions()
    if moment.task == "migrate":
        bench.old_orders(ORDERS)
    forget(bench)
    since, commands, asides, notes = bench.now(), [], [], []
    words, wanted = command(bench, moment.task, stack, before)
    for name in moment.before:
        if name == "long requests":
            asides = [bench.load.aside(bench.components[0], node, "/slow?s=16", 60) for node in bench.nodes for _ in range(4)]
        else:
            commands.append(one(bench, name, "--stack", stack))
    began, prepared = bench.now(), len(commands)
    follower, process = bench.follow(), bench.type(*words)
    broken = attend(bench, process, follower, moment, harm, target, host, case.held)
    if harm.fault == "stop" and broken:
        finish(bench, case, words, stack, commands, wait=True)
        time.sleep(max(0.0, broken.since + STOPPED - bench.now()))
        process.send_signal(signal.SIGCONT)
    code = process.ended(LIMIT)
    first = (" ".join(words), code)
    commands.insert(prepared, first)
    if broken is None:
        notes.append("the moment did not come")
    elif broken.until is None and harm.lasts:
        time.sleep(max(0.0, broken.since + HOLD - bench.now()))
        mended(bench, broken)
    bench.settled()
    if code not in GOOD and harm.fault != "stop":
        finish(bench, case, words, stack, commands)
    elif code not in GOOD and commands[-1][1] not in GOOD:
        finish(bench, case, words, stack, commands)
    done = bench.now()
    typed = commands[prepared + 1:]
    close(bench, moment.task, stack, words, commands)
    if any("rollback" in what for what, _ in commands):
        wanted = {h: v for h, v in wanted.items() if h not in bench.stacks[stack]}
    samples = judged(bench, since, broken)
    evidence = Evidence(
        runs=bench.runs(since), looks=tuple(bench.witness.looks), since=since, floor=floor_of(bench), nodes=bench.nodes,
        stacks=bench.stacks, wanted=wanted, samples=tuple(samples), commands=tuple(commands), lock=bench.holder(),
        asides=tuple(s for found in asides for s in found) if harm.traffic in ("none",) else (), baseline=known)
    shown = {"stack": stack, "target": target, "command": " ".join(words), "code": code, "finished": [list(c) for c in typed],
             "requests": len(samples), "failed": sum(bool(s.what) for s in samples), "gap": gap_of(samples),
             "what": failures(samples), "seconds": round(done - began, 1), "notes": notes, "said": process.said()[-2000:]}
    if moment.task == "migrate":
        bench.old_orders(0)             # so that the older version may come back
    return evidence, shown


def command(bench, task, stack, before):
    """(words of the command, {host: version} wanted at the end). A deployment goes to the version that its host has not got."""
    wanted = {host: version for host, version in before.items() if version}
    hosts = {"deploy": bench.stacks[stack], "deploy host": bench.stacks[stack][:1],
             "rollout": tuple(h for found in bench.stacks.values() for h in found)}.get(task)
    if hosts is None:
        return (("migrate",) if task == "migrate" else (task, "--stack", stack)), wanted
    version = "1.0.0" if (before[bench.stacks[stack][0]] or "").startswith("2.0.0") else "2.0.0"
    wanted |= {host: f"{version}-1" for host in hosts}
    words = {"deploy": ("deploy", "--stack", stack), "deploy host": ("deploy", "--stack", stack, "--hosts", ",".join(hosts)),
             "rollout": ("rollout", "--first", stack)}[task]
    return (*words, "--version", version, "--older"), wanted


def attend(bench, process, follower, moment, harm, target, host, held):
    """Watch the command until it ends; the fault comes when its journal shows the moment, and goes when its time is over.

    :returns: Broken, or None if the moment did not come. A driver that was stopped goes on.
    """
    broken, left, run, until = None, moment.nth, None, bench.now() + LIMIT * (1 + (moment.task == "rollout"))
    while process.poll() is None and bench.now() < until:
        for name, event in follower.events() if broken is None and run is None else ():
            if event["kind"] == moment.kind and all(str(event.get(key, "")).startswith(word) for key, word in moment.match):
                left -= 1
                if not left:
                    run = name
                    break
        if run and broken is None and (not moment.output or printed(bench, host, run, moment.output)):
            broken = hit(bench, process, harm, target)
            if harm.fault == "stop":
                return broken
        if broken and harm.lasts and not held and broken.until is None and bench.now() > broken.since + HOLD:
            mended(bench, broken)
        time.sleep(0.02)
    process.ended(0.1)
    return broken


def printed(bench, host, run, text):
    from lab import lab
    try:
        return lab.on_host(bench.site, host, "sh", "-c", f"grep -q '{text}' /var/lib/bgdeploy/runs/{run}*/out")["exit"] == 0
    except Exception:
        return True             # the host went away by itself: no reason to wait for its words


def hit(bench, process, harm, target):
    if harm.target != "driver":
        return broke(bench, harm.fault, target, harm.options)
    since = bench.now()
    for number in SIGNALS[harm.fault]:
        os.kill(process.pid, number)
        time.sleep(0.01)
    return Broken(harm.fault, target, since, bench.now())


def broke(bench, fault, target, options):
    since = bench.now()
    bench.break_(fault, target, **dict(options))
    lasts = any(word.startswith(f"{fault} {target}") for word in bench.broken())
    return Broken(fault, target, since, None if lasts else bench.now())


def mended(bench, broken):
    if broken.until is None:
        bench.mend(broken.fault, broken.target)
        broken.until = bench.now()


def one(bench, *words):
    code, _ = bench.typed(*words)
    return " ".join(words), code


def finish(bench, case, words, stack, commands, wait=False):
    """What a person types next; if that is refused or fails, the command again, and then resume."""
    ways = {"resume": ("resume",), "again": words, "back": ("back", "--stack", stack), "rollback": ("rollback", "--stack", stack)}
    patient = ("--wait",) if wait and case.finish != "back" else ()
    for way in (case.finish, "again", "resume"):
        commands.append(one(bench, *ways[way], *patient))
        if commands[-1][1] in GOOD:
            return
        bench.settled()


def brought_live(bench, stack):
    """`live` by hand; where a fault has restarted an application it asks for `sanity` first. Returns what was typed."""
    typed = [one(bench, "live", "--stack", stack)]
    if typed[0][1] not in GOOD:
        typed += [one(bench, step, "--stack", stack) for step in ("sanity", "live")]
    return typed


def close(bench, task, stack, words, commands):
    """From where the case was finished to where the next one begins: every stack live, the version as it was wanted.

    A run that goes on by hand is ended by `live`, a deployment after `back` by its command. What `back` took out as it was is
    no business of any run: the bench puts it live.
    """
    if bench.good(10):
        return
    rest = bench.stacks[stack][1:]          # of a deployment to one host: `back` takes the whole stack out
    if task in ("deploy", "rollout", "deploy host"):
        commands.append(one(bench, *words))
    elif bench.open_run(0):
        commands += brought_live(bench, stack)
    if task not in ("deploy", "rollout"):
        bench.put_live(rest if task == "deploy host" else bench.stacks[stack])
        bench.settled(20)


def judged(bench, since, broken):
    """Requests since then. Those through a node that was itself away are left out, and those that one refuses or breaks off while
    it is restarted: nobody could have answered them."""
    samples = [s for s in bench.load.samples if s.begin >= since]
    if broken and broken.fault == "restart":
        return [s for s in samples if s.node != broken.target or s.what not in GONE or s.end < broken.since
                or s.begin > (broken.until or bench.now()) + AWAY]
    if broken and broken.fault in ("gone", "partition") and broken.target in bench.nodes:
        samples = [s for s in samples if s.node != broken.target or s.end < broken.since
                   or s.begin > (broken.until or bench.now()) + AWAY]
    return samples


def failures(samples):
    found = {}
    for s in samples:
        if s.what:
            key = f"{s.component} through {s.node}: {s.what}"
            found[key] = found.get(key, 0) + 1
    return found


def forget(bench):
    """What was before is not needed any more; the last looks are, as what was seen before the first act."""
    del bench.load.samples[:len(bench.load.samples)]
    del bench.witness.looks[:-BEFORE]


def floor_of(bench):
    return {name: min(sum(name in h.components for h in bench.site.hosts if h.stack == stack) for stack in bench.stacks)
            for name in bench.components}
