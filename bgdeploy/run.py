"""One run: the lock, the goal, the journal that is opened or joined, the drive, the reports. No rules here."""

import json
import os
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

from bgdeploy import check, goals, records, report, reservation
from bgdeploy.acts import Acts
from bgdeploy.chef_logs import ChefLogs
from bgdeploy.drive import Ports, drive
from bgdeploy.errors import BadInput, Failed, NoAnswer, Refused
from bgdeploy.interruption import catching, interruptible
from bgdeploy.journal import new_id
from bgdeploy.memory import fold
from bgdeploy.opening import begin, concerned, events_of, goal_in, joins, refuse_other_cookbooks
from bgdeploy.outside import chef, hooks, packages, watch
from bgdeploy.session import LOOK, cached, open_runs, recorded

ASKED_TO_STOP = "stop"
OVER = ("deploy", "rollout", "rollback")        # tasks that may take an open run's place


def pursue(session, asked, options):
    """Take the lock, build the goal from what is seen, open or join a run, drive it, write its reports.

    :param asked: goals.Asked. :param options: dict of what else was typed: reason, wait, floor, exclude {host: reason},
        untested, override_hours, confirm (callable plan -> bool, or None), ask (callable Ask -> choice or None).
    :returns: (End, run id), or (None, None) if a person said no to the plan.
    :raises Trouble: refused before anything was done.
    """
    run, grip = new_id(), None
    with ExitStack() as stack:      # to the end: a second signal must not cut short how the first one ends
        try:
            grip = take_lock(session, asked, run, options)
            if grip:
                grip.keep()
            return locked(session, asked, options, run, grip, lambda: stack.enter_context(catching(session.interrupt)))
        except KeyboardInterrupt:
            session.interrupt.wanted = "SIGINT"
            raise
        except NoAnswer as e:
            if session.begun:
                raise
            raise Refused(e.sentence, e.next_command or "invoke status") from None  # nothing was done: that is no failed step
        finally:
            if grip:
                let_go(grip, session)


def let_go(grip, session):
    """The lock's end. After an interruption a place that is silent gets what a last look left of an abort's time; it runs out
    then."""
    letting = threading.Thread(target=grip.release, name="let go", daemon=True)
    letting.start()
    letting.join((1.0 if session.begun else LOOK) if session.interrupt.wanted else None)


def joining(session, asked):
    """The open run that this task will join by the records that lie here, for the lock to name; under the lock it is judged anew.
    Not for `back`, which waits for no records."""
    if asked.task not in (*records.PARTIAL, "live", "resume"):
        return None
    here = open_runs(sorted(recorded(os.path.join(session.state, "runs"), 200, session.site.name).items()))
    joined = joins(asked, here) if here else None
    return joined[0] if joined else None


def take_lock(session, asked, run, options):
    holder = {"run": joining(session, asked) or run, "task": asked.task, "why": options.get("reason")}
    if asked.task != "back":
        return session.store.take(holder, wait=options.get("wait") or 0.0, say=session.console.line)
    try:
        session.store
    except Refused as e:        # a folder on a full disk, say: as good as a store that is down
        session.spared.rest()
        session.console.line(f"the store cannot be used ({e.sentence}); going back without the lock")
        return None
    try:        # `back` asks a running driver to stop, then takes over; with the store down it acts without, and says so
        current = session.store.holder()
        if current and not current.get("expired"):
            wish = {"pid": current.get("pid"), "host": current.get("host"), "by": session.by()["user"]}
            session.store.remember(ASKED_TO_STOP, wish)
            session.console.line(f"asked {current['text']} to stop")
            until = time.monotonic() + 5
            while time.monotonic() < until and session.store.holder():
                time.sleep(0.1)
        return session.store.take(holder, over=True, say=session.console.line)
    except (NoAnswer, Failed) as e:
        session.spared.rest()
        session.console.line(f"the store is down ({e.sentence}); going back without the lock")
        return None


def locked(session, asked, options, run, grip, begins):
    """:param begins: called before the run's first word: until then a signal ends the command at once."""
    site, console = session.site, session.console
    seen = session.look(LOOK if asked.task == "back" else None)
    runs = session.runs(surely=asked.task != "back")
    history = [events for _, events in runs]
    open_ones = open_runs(runs)
    joined = joins(asked, open_ones, seen)
    local = site.chef.cookbooks == "local"
    revision, cookbooks = chef.revision(os.path.join(site.base, site.chef.path)) if local else ("", b"")
    available = cached(lambda c: packages.available(site, site.component(c).package))
    migrated = session.migrated() if asked.task in ("deploy", "rollout", "rollback", "converge") else ()
    known = goals.Known(site, seen, tuple(history), available, console.line, joined[1] if joined else None, revision, migrated)
    if asked.task == "resume":
        run, events = joined
        goal = goal_in(run, events)
    else:
        goal = goals.goal(asked, known)
        refuse_left_out(asked, goal, seen, open_ones)
    refuse_nobody(site, goal, events_of(joined), options.get("exclude") or (), "--exclude")
    policy = policy_of(site, options, events_of(joined) if asked.task != "back" else ())  # back: as ever
    if options.get("confirm") and not options["confirm"](goal, seen, policy):
        return None, None
    refuse_other_cookbooks(goal, seen, events_of(joined), revision)
    if any(w.release for w in goal.wants) and goal.only in (None, "converge"):
        excluded = {**fold(events_of(joined)).excluded, **(options.get("exclude") or {})}
        check.refuse(site, session, [h.name for _, h in concerned(goal, seen, excluded)])
    run = joined[0] if joined else run
    begins()
    journal = session.journal(run, events_of(joined), [console.event])
    journal.tellers.append(superseding(session, asked, open_ones))
    session.begun = True
    begin(session, journal, asked, goal, seen, options, joined, policy)
    watcher = watch.Watch(site).start()
    acts = Acts(site, session.shell, run, session.by()["user"], (revision, cookbooks) if revision else None,
                lambda: carry_out(session, goal.migrate, run, journal))
    journal.tellers.append(ChefLogs(
        journal.folder, run, journal.events,
        lambda name: chef.look(session.shell, site, site.host(name), limit=LOOK).job if site.host(name) else None,
        lambda name, job, offset: chef.output(session.shell, site, site.host(name), job, offset, limit=LOOK), console.line,
        lambda: session.interrupt.wanted is not None))
    reserved = reservation.of(site, session.shell, run, goal, journal, console.line, lambda: bool(session.interrupt.wanted))
    ports = Ports(
        look=lambda: watcher.looked(session.look(LOOK, goal.migrate)),
        act=lambda do, s, n: interruptible(acts(watcher.doing(do), s, n), do, session.interrupt),
        lost=lambda: lost(grip),
        told=lambda: told(session),
        hook=lambda name, step, outcome: hook(session, run, asked, name, step, outcome),
        say=lambda wait, seconds: (console.say(wait, seconds), reserved and reserved.longer(session.clock())),
        watched=watcher.stop)
    try:
        return drive_and_ask(session, goal, policy, journal, ports, options), run
    finally:
        watcher.stop()
        journal.close()
        write_reports(session, run, journal.events)


def drive_and_ask(session, goal, policy, journal, ports, options):
    """On a terminal a question is asked at once; the answer is journalled and the drive goes on."""
    while True:
        end = drive(goal, policy, journal, ports, session.interrupt, session.site.accept)
        choice = options["ask"](end.step) if end.outcome == "waiting" and options.get("ask") else None
        if choice is None:
            return end
        try:
            if choice == "exclude":
                refuse_nobody(session.site, goal, journal.events, end.step.hosts, "exclude")
            settle(session, goal.migrate, choice, os.path.basename(journal.folder))
        except (BadInput, NoAnswer, Refused) as e:
            session.console.line(f"the answer was not taken: {e.sentence}")
            return end
        journal.write("answered", choice=choice, gate=end.step.gate, stack=end.step.stack, hosts=list(end.step.hosts),
                      by=session.by())
        if choice == "stop":
            journal.write("ended", outcome="stopped", exit_code=4, why="a person said stop", next=[], seen=None)
            return replace(end, outcome="stopped", exit_code=4, why="a person said stop")
        journal.write("joined", by=session.by(), task=options.get("task"))


def refuse_left_out(asked, goal, seen, open_ones):
    """A new deploy, rollout or rollback over an open run: only if it takes on every stack that the run has out of LIVE."""
    if asked.task not in OVER:
        return
    mine = {w.stack for w in goal.wants}
    for run, events in open_ones:
        out = records.taken_out(events, seen) - mine
        if out:
            raise Refused(f"run {run} is open and has {', '.join(sorted(out))} out of LIVE",
                          f"invoke resume | invoke back --stack {sorted(out)[0]}")


def superseding(session, asked, open_ones):
    """A teller of the new run's journal. The open runs end when it does its first act, or had nothing to do: one that is
    refused, or that a person does not confirm, takes nobody's place. A migration typed again takes that of one that failed, also
    with its question: whoever answers that has answered for both."""
    left = list(open_ones) if asked.task in OVER else []
    if asked.task == "migrate":
        left = [(run, events) for run, events in open_ones if not records.goal_of(events).get("wants")]

    def tell(event):
        asks = event["kind"] == "asked" and asked.task == "migrate"
        if event["kind"] == "doing" or asks or event["kind"] == "ended" and event["outcome"] in ("done", "warned"):
            while left:
                run, events = left.pop()
                journal = session.journal(run, events)
                journal.write("ended", outcome="superseded", exit_code=0, why=f"superseded by {asked.task}", next=[], seen=None)
                journal.close()
                write_reports(session, run, journal.events)
    return tell


def policy_of(site, options, events=()):
    """The inventory's policy as this run has it: a lowered floor holds until the run ends. :param events: of the run so far."""
    policy, floor = site.policy, options.get("floor")
    floor = records.lowered_floor(events) if floor is None else floor
    if floor is not None:
        policy = replace(policy, floor=(("*", floor),))
    return replace(policy, closed=()) if options.get("override_hours") else policy


def carry_out(session, name, run, journal):
    """Step 6, once: the migration in its own claim, with a person's choice where one was needed."""
    asked = max(n for n, e in enumerate(journal.events) if e["kind"] == "doing")
    choice = fold(journal.events[:asked]).answers.get(("migration", ""))    # good for this once
    return session.migrations.run(session.migrations.named(name), run, session.by()["user"],
                                  "repeat" if choice == "repeat" else None, session.console.line,
                                  lambda: session.interrupt.wanted is not None)


def refuse_nobody(site, goal, events, hosts, option):
    """Hosts are to be left out of a run; where no other is left of a stack that could never go on.

    :param events: of the run so far: others may be left out already. :param option: for the sentence.
    :raises BadInput: an empty selection is an error.
    """
    out = {*hosts, *fold(events).excluded}
    for want in goal.wants if hosts else ():
        stack = site.stack(want.stack)
        if stack and all(h.name in out for h in stack.hosts if not want.hosts or h.name in want.hosts):
            raise BadInput(f"{option}: no host of {want.stack} is left in this run then; leave one in, or end the run by "
                           "invoke answer --choice stop")


def settle(session, name, choice, run):
    """A person says that a migration found half done is done: the marker says so from now on."""
    if choice == "done":
        session.migrations.mark_done(session.migrations.named(name), run, session.by()["user"])


def lost(grip):
    """Why this driver may not act any more, or None. Without a lock of its own there is none to lose."""
    if grip is None or grip.mine():
        return None
    return "the lock is not ours any more: somebody took it over, or it could not be renewed"


def told(session):
    """Somebody asked this driver to stop, or None. A silent store asks for nothing."""
    try:
        wish = session.spared(lambda store: store.recall(ASKED_TO_STOP))
        if wish and (wish.get("pid"), wish.get("host")) == (os.getpid(), session.by()["host"]):
            session.spared(lambda store: store.forget(ASKED_TO_STOP))
            return f"{wish.get('by')} asked this run to stop: invoke back was typed"
    except (NoAnswer, Refused):
        pass
    return None


def hook(session, run, asked, name, step, outcome):
    facts = {"run": run, "env": session.site.name, "task": asked.task, "stack": getattr(step, "stack", "") or "",
             "hosts": ",".join(getattr(step, "hosts", ()) or ()), "step": getattr(step, "step", "") or "",
             "why": getattr(step, "why", "") or "", "release": step.release.id if getattr(step, "release", None) else "",
             "outcome": outcome or ""}
    ended = hooks.run(session.site, name, facts, stop=lambda: session.interrupt.wanted is not None)
    return ended.outcome, ended.detail


def write_reports(session, run, events):
    """result.json, junit.xml and report.html of a run, each whole or not at all; a full disk costs the report only."""
    texts = {"result.json": lambda: json.dumps(report.result(events), indent=1, ensure_ascii=False) + "\n",
             "junit.xml": lambda: report.junit(events), "report.html": lambda: report.html(events)}
    for name, make in texts.items():
        path = os.path.join(session.folder(run), name)
        try:
            with open(path + ".new", "w", encoding="utf-8") as f:
                f.write(make())
            os.replace(path + ".new", path)
        except OSError as e:
            print(f"{path} could not be written: {e.strerror}", file=sys.stderr)
