"""The loop: look, decide, look again, write it down, act; until done, stopped or a person is needed. No rules here.

Everything outside comes in as `Ports`; nothing here opens a connection or prints.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Callable

from bgdeploy.decide import decide
from bgdeploy.errors import Trouble, Unwritable
from bgdeploy.memory import fold, remember
from bgdeploy.model import LIVE, Ask, Do, Done, Stop, Wait
from bgdeploy.prove import drained, known, serves, shortfall, working
from bgdeploy.sentences import standing

HOOK_EVERY = 10.0       # seconds between two calls of during-soak
MOMENT = 5.0            # seconds after which a look is too old to act on: a silent lock or store may use up more
SAY_EVERY = 60.0        # seconds of waiting after which a line is printed: Jenkins ends silent builds


@dataclass(frozen=True)
class Ports:
    """What the loop reaches the world through.

    :param look: () -> Seen. Asks everybody once; what does not answer is unknown in it.
    :param act: (Do, Seen, attempt) -> iterable of Result, one a host as it ends.
    :param lost: () -> None, or a sentence: the lock is not ours any more.
    :param told: () -> None, or a sentence: somebody (`back`) asks this driver to stop.
    :param hook: (name, step, outcome or None) -> (outcome "ok|refused|failed|absent", detail).
    :param say: (Wait, seconds) -> None. Called once a minute of waiting.
    :param watched: () -> availability dict, or None.
    """

    look: Callable
    act: Callable
    lost: Callable = lambda: None
    told: Callable = lambda: None
    hook: Callable = lambda name, step, outcome: ("absent", "")
    say: Callable = lambda wait, seconds: None
    watched: Callable = lambda: None
    sleep: Callable = time.sleep
    pace: float = 0.3


@dataclass
class Interrupt:
    """Set by a signal handler or a broken output; the loop reads it and starts nothing new. Never acts itself."""

    wanted: str = None


@dataclass(frozen=True)
class Waiting:
    """A wait that goes on: its step as journalled, every host it was for, since when, and when a line was last said and a hook
    last asked."""

    step: Wait
    hosts: tuple
    since: float
    said: float
    hooked: float


@dataclass(frozen=True)
class End:
    """How one drive ended. step: the Done, Stop or Ask that decide returned last, or a Stop for an interruption."""

    outcome: str
    exit_code: int
    why: str
    next: tuple = ()
    step: object = None
    seen: object = None
    warnings: tuple = field(default=())

    def event(self):
        """As the journal would have it, where that could not be written."""
        return {"kind": "ended", "outcome": self.outcome, "exit_code": self.exit_code, "why": self.why, "next": list(self.next),
                "seen": self.seen.to_json() if self.seen else None}


def drive(goal, policy, journal, ports, interrupt=None, accept=()):
    """Pursue the goal until there is an end; journal everything before it has an effect.

    :param interrupt: Interrupt, looked at before anything new is started.
    :param accept: keys of warnings that do not count (the inventory's `accept`).
    :returns: End. Never raises for what the world does.
    """
    try:
        return pursue(goal, policy, journal, ports, interrupt or Interrupt(), accept)
    except Unwritable as trouble:
        return unrecorded(goal, policy, journal, ports, trouble)


def pursue(goal, policy, journal, ports, interrupt, accept):
    """The loop. :raises Unwritable: the journal cannot be written; what it was to announce is not done."""
    memory, seen, waiting = fold(journal.events), None, None

    def write(kind, **fields):
        nonlocal memory
        memory = remember(memory, journal.write(kind, **fields))

    while True:
        try:
            if interrupt.wanted:
                step = Stop(f"interrupted by {interrupt.wanted}", "invoke resume")
                return finish(journal, goal, ports, policy, memory, seen, step, accept, interrupted=interrupt.wanted)
            reason = ports.told()
            if reason:
                step = Stop(reason, "invoke status")
                return finish(journal, goal, ports, policy, memory, seen, step, accept, interrupted="back")
            seen = ports.look()
            memory = noted(memory, seen, policy)
            served = {h.name: h.started for h in seen.hosts if h.name in memory.put and serves(h) and h.started is not None}
            if served:
                write("seen_live", hosts=served)
            step = decide(goal, seen, memory, policy, seen.at)
            if waiting and not (isinstance(step, Wait) and (step.kind, step.stack) == (waiting.step.kind, waiting.step.stack)):
                write("waited", **over(goal, policy, memory, waiting, step, seen))
                waiting = None
                continue        # how it ended may be what the next step stands on
            if isinstance(step, Wait):
                refusal = soaking(write, ports, waiting, step, seen.at)
                if refusal is None:
                    waiting = wait(write, ports, waiting, step, seen.at)
                    continue
                step = refusal
            if isinstance(step, Do):
                refusal = act(goal, policy, ports, interrupt, memory, seen, step, write)
                if refusal is None:
                    continue
                step = refusal
        except Unwritable:
            raise
        except Trouble as e:        # also a file of ours that is gone meanwhile: in mid-run that is an end like others
            step = Stop(e.sentence, e.next_command or ("invoke resume" if memory.acted else "invoke status"))
        return finish(journal, goal, ports, policy, memory, seen, step, accept)


def unrecorded(goal, policy, journal, ports, trouble):
    """The End of a run that can write nothing down any more, its own end included: what one more look proves."""
    memory, seen = fold(journal.events), None
    try:
        seen = ports.look()
    except Trouble:
        pass            # the journal's sentence goes first
    short = shortfall(seen, policy) if seen else ["nothing was seen"]
    outcome, code = ("failed", 4) if begun(journal.events, goal) else ("refused", 3)
    why = f"{trouble.sentence}; nothing more was begun"
    if short and memory.acted:
        outcome, code, why = "failed", 8, f"{why}. ACT NOW: the floor is not proved to be served: {'; '.join(short)}"
    return End(outcome, code, why, (trouble.next_command,), Stop(why, trouble.next_command), seen)


def act(goal, policy, ports, interrupt, memory, seen, step, write):
    """One Do: before-hook, look again, write, act, after-hook. Returns None, or a Stop that ends the run."""
    quietly = step.rescue or goal.kind == "back"
    for name in [] if quietly else ([] if memory.acted else ["run-started"]) + [f"before-{step.step}"]:
        refusal = hooked(write, ports, name, step)
        if refusal:
            return Stop(f"hook {name} refused: {refusal}", "invoke resume" if memory.acted else "invoke status", step.hosts)
    again, looked = ports.look(), time.monotonic()
    if step.rescue:     # both looks must name the same stack: one that came meanwhile is the next look's
        goal = replace(goal, wants=tuple(sorted(goal.wants, key=lambda want: want.stack != step.stack)))
    second = decide(goal, again, noted(memory, again, policy), policy, again.at)
    both = agreed(step, second)
    if both is None:
        return drop(write, step, seen, f"at the second look: {second.why}")
    step = both
    if interrupt.wanted:
        return None
    if step.step == "converge":
        quiet_already(write, noted(memory, again, policy), policy, again, step)
    started = {name: again.host(name).started for name in step.hosts}
    release = step.release.id if step.release else None
    attempt = 1 + max([max(memory.converges.get(h, 0), number(again.host(h).job, memory.run)) for h in step.hosts], default=0)
    write("doing", step=step.step, stack=step.stack, hosts=list(step.hosts), release=release, why=step.why, started=started,
          served=[name for name in step.hosts if serves(again.host(name))], rescue=step.rescue,
          live={name: [c.name for c in again.host(name).components if c.heartbeat == LIVE] for name in step.hosts})
    gone = ports.lost()
    if gone:
        return Stop(gone, "invoke status")
    old = time.monotonic() - looked > MOMENT        # while that was written down, or the lock was asked for
    if interrupt.wanted or old:
        why = "the look of before had become old" if old else f"interrupted by {interrupt.wanted}"
        return drop(write, step, again, why, noted=True)
    since = time.monotonic()
    for result in ports.act(step, again, attempt):
        write("result", step=step.step, stack=step.stack, host=result.host, outcome=result.outcome, detail=result.detail,
              seconds=round(result.seconds, 3), evidence=result.evidence, release=release, started=started.get(result.host))
    write("acted", step=step.step, stack=step.stack, hosts=list(step.hosts), seconds=round(time.monotonic() - since, 3))
    complaint = None if quietly else hooked(write, ports, f"after-{step.step}", step)
    if complaint:
        write("warned", key="hook", text=f"hook after-{step.step}: {complaint}")
    return None


def drop(write, step, seen, why, noted=False):
    """Note that an act was not begun after all; it counts as a try. :param noted: as that it counts already, by its `doing`."""
    write("dropped", step=step.step, stack=step.stack, hosts=list(step.hosts), why=why, noted=noted,
          release=step.release.id if step.release else None, started={name: seen.host(name).started for name in step.hosts})


def quiet_already(write, memory, policy, seen, step):
    """A drain that nobody had to wait for has an end and a witness too: what was quiet while the balancers let go."""
    taken = [h for h in seen.stack(step.stack) if h.name in memory.taken and h.name not in memory.drains and known(h)]
    asked = {h.name: drained(h, memory, policy, seen.at) for h in taken}
    ends = {name: asked[name] for name in asked if asked[name]}
    if ends:
        write("waited", wait="drain", stack=step.stack, hosts=list(ends), seconds=0.0, outcome=worst(ends.values()), passed=True,
              outcomes=ends, counted_by={name: seen.host(name).counted_by for name in ends})


def worst(ends):
    """The outcome of several drains in one word: the first that is not "drained"."""
    return next((end for end in ends if end != "drained"), "drained")


def hooked(write, ports, name, step, outcome=None):
    """Run one of the site's hooks, journal it if there is one. Returns why it refused or failed, or None."""
    ended, detail = ports.hook(name, step, outcome)
    if ended != "absent":
        write("hook", name=name, outcome=ended, detail=detail)
    return (detail or ended) if ended in ("refused", "failed") else None


def soaking(write, ports, waiting, step, now):
    """While a new stack serves beside the old one the site's own hook may look, and stop the run. Returns a Stop, or None."""
    if step.kind != "soak" or (waiting and now - waiting.hooked < HOOK_EVERY):
        return None
    refusal = hooked(write, ports, "during-soak", step)
    if refusal:
        return Stop(f"hook during-soak refused: {refusal}", f"invoke resume | invoke back --stack {step.stack}", step.hosts)
    return None


def number(job, run):
    """Which converge of this run a host's job is: 1, 2 ...; 0 if it is none. A journal that lost its end does not know."""
    name, _, count = job.run.partition(".") if job and job.kind == "chef" else ("", "", "")
    return (int(count) if count.isdigit() else 1) if name == run else 0


def wait(write, ports, waiting, step, now):
    """One pace of a Wait: journalled when it starts or its hosts change, said once a minute."""
    if waiting is None or waiting.step.hosts != step.hosts:
        write("waiting", wait=step.kind, stack=step.stack, hosts=list(step.hosts), why=step.why, until=step.until)
        hosts = tuple(dict.fromkeys((waiting.hosts if waiting else ()) + step.hosts))
        waiting = Waiting(step, hosts, waiting.since if waiting else now, now, now)
    elif now - waiting.said >= SAY_EVERY:
        ports.say(step, now - waiting.since)
        waiting = replace(waiting, said=now)
    if now - waiting.hooked >= HOOK_EVERY:
        waiting = replace(waiting, hooked=now)
    ports.sleep(ports.pace)
    return waiting


def over(goal, policy, memory, waiting, step, seen):
    """The fields of 'waited': how a wait ended. For a drain the named outcome of each host whose drain did end."""
    fields = {"wait": waiting.step.kind, "stack": waiting.step.stack, "hosts": list(waiting.hosts),
              "seconds": round(max(0.0, seen.at - waiting.since), 3), "outcome": "stopped" if isinstance(step, Stop) else "over",
              "passed": passed(goal, waiting.step, step)}
    if waiting.step.kind == "chef":         # a silent host ends the wait too, and Chef goes on there
        fields["going"] = [h.name for h in map(seen.host, waiting.hosts)
                           if not h.reachable or h.job is not None and h.job.state in ("running", "reboot")]
    if waiting.step.kind == "host":
        fields["silent"] = [name for name in waiting.hosts if not known(seen.host(name))]
    if waiting.step.kind == "drain":
        ends = {h.name: drained(h, memory, policy, seen.at) for h in map(seen.host, waiting.hosts) if known(h)}
        fields["outcomes"] = ends = {name: end for name, end in ends.items() if end}
        fields["counted_by"] = {name: seen.host(name).counted_by for name in ends}
        fields["outcome"] = worst(ends.values()) if len(ends) == len(waiting.hosts) else "stopped"
    return fields


def passed(goal, waited, step):
    """The run got on from a wait: to an act, the end, or a wait of a later stack. Else waits could feed each other for ever."""
    stacks = [want.stack for want in goal.wants]
    if isinstance(step, Wait) and {step.stack, waited.stack} <= set(stacks):
        return stacks.index(step.stack) > stacks.index(waited.stack)
    return isinstance(step, (Do, Done))


def noted(memory, seen, policy):
    """What changes from look to look and is not worth a journal entry: since when quiet, silent, short."""
    now = seen.at
    short = shortfall(seen, policy)
    return replace(
        memory,
        quiet={h.name: memory.quiet.get(h.name, now) for h in seen.hosts if h.sessions == 0},
        silent={h.name: memory.silent.get(h.name, now) for h in seen.hosts if not known(h) and not working(h)},
        short_since=(memory.short_since if memory.short_since is not None else now) if short else None)


def agreed(step, second):
    """The act that both looks ask for, or None: the same kind, hosts and release; never the why.

    What makes things safe is done to the hosts that both name: others that come or go must not delay it.
    """
    if not isinstance(second, Do) or (step.step, step.stack, step.release) != (second.step, second.stack, second.release):
        return None
    if step.rescue and second.rescue:
        common = tuple(name for name in step.hosts if name in second.hosts)
        return replace(step, hosts=common) if common else None
    return step if step.hosts == second.hosts else None


def stirred(events):
    """Has this invocation done anything, or waited for anything?"""
    since = max([n for n, e in enumerate(events) if e["kind"] in ("began", "joined", "resumed")], default=0)
    return any(e["kind"] in ("doing", "waiting", "waited") for e in events[since:])


def begun(events, goal):
    """Has the first act been done? Of this invocation, for a step by hand and for `back`; else of the run."""
    since = max([n for n, e in enumerate(events) if e["kind"] in ("began", "joined")], default=0)
    own = goal.kind in ("step", "back")
    return any(e["kind"] == "doing" for e in (events[since:] if own else events))


def finish(journal, goal, ports, policy, memory, seen, step, accept, interrupted=None):
    """Write the last events and name outcome and exit code (contract: 5 before all, then 8, then 4 or 7; 6 only if done)."""
    short = shortfall(seen, policy) if seen else ["nothing was seen"]
    found = list(step.warnings) if isinstance(step, Done) else []
    if short and memory.acted and isinstance(step, Done):
        found.append(("floor-not-proved", f"the floor is not proved to be served: {'; '.join(short)}"))
    found += [(e.get("key", "warning"), e["text"]) for e in journal.events if e["kind"] == "warned"]
    counted = tuple(text for key, text in found if key not in accept)
    next_commands = tuple(step.next_command.split(" | ")) if isinstance(step, Stop) else ()
    if interrupted:
        outcome, code = "interrupted", 5
        journal.write("interrupted", signal=interrupted)
    elif isinstance(step, Done):
        outcome, code = ("warned", 6) if counted else ("done", 0)
    elif isinstance(step, Ask):
        outcome, code = "waiting", 7
        next_commands = tuple(f"invoke answer --run {memory.run} --choice {c}" for c in step.choices) + ("invoke resume",)
        journal.write("asked", gate=step.gate, stack=step.stack, hosts=list(step.hosts), choices=list(step.choices), why=step.why,
                      expires=seen.at + policy.gate_expiry)
    else:
        outcome, code = ("failed", 4) if begun(journal.events, goal) else ("refused", 3)
    why = f"{step.why}; {standing(seen, short)}" if interrupted else step.why
    if isinstance(step, Done) and not interrupted and not stirred(journal.events):
        why = f"nothing to do, it is so already: {why}"
    if short and memory.acted and code in (4, 7):
        outcome, code = "failed", 8
        why = f"{why}. ACT NOW: the floor is not proved to be served: {'; '.join(short)}"
    if memory.acted and not interrupted:
        complaint = hooked(journal.write, ports, "run-ended", step, outcome)
        if complaint:
            journal.write("warned", key="hook", text=f"hook run-ended: {complaint}")
            if code == 0 and "hook" not in accept:
                outcome, code, counted = "warned", 6, (*counted, f"hook run-ended: {complaint}")
    available = ports.watched()
    if available:
        journal.write("watched", availability=available)
    for key, text in found if isinstance(step, Done) else []:
        if not any(e["kind"] == "warned" and e["text"] == text for e in journal.events):
            journal.write("warned", key=key, text=text)
    journal.write("ended", outcome=outcome, exit_code=code, why=why, next=list(next_commands),
                  seen=seen.to_json() if seen else None)
    return End(outcome, code, why, next_commands, step, seen, counted)
