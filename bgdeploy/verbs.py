"""What each task does between the words that were typed and the exit code. No rules of the ladder, no connections of its own."""

import getpass
import os
import signal
import sys
import tempfile
import traceback
from dataclasses import replace

from invoke import Exit

from bgdeploy import asking as questions, call, clean, goals, inventory, plan as planning, records, release
from bgdeploy.console import Console
from bgdeploy.errors import BadInput, NoAnswer, Refused, Trouble, Unwritable
from bgdeploy.interruption import AtOnce, catching
from bgdeploy.journal import read
from bgdeploy.model import Ask, Do, Done, Stop
from bgdeploy.outside import balancer, chef, migrations, packages
from bgdeploy.prove import floor as floor_of
from bgdeploy.run import policy_of, pursue
from bgdeploy.session import Session, cached, open_runs

BASE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ASTRAY = {"--": "what comes after -- reaches no command; take the -- out",      # Invoke keeps these to itself
          "--dry": "Invoke's --dry keeps no command of bgdeploy from acting; invoke plan shows what would be done"}
WAIT = 3600.0       # seconds that --wait waits for somebody else's automatic lock


def verb(function):
    """Every end of a task is an exit code, and every Trouble one sentence; a bug names the file of its traceback.

    With --json every end has a document too. Exit ends Invoke's whole line: `invoke standby ... converge ...` goes on
    after a 0 only.
    """
    def run(*words, **options):
        console = Console(json=bool(options.get("json")), env=options.get("env"))
        code, after, cut, astray = 1, None, False, options.pop("astray", None)
        try:
            if astray:
                raise BadInput(ASTRAY[astray])
            ending = AtOnce()
            for number in catching.SIGNALS:         # until a run takes over
                signal.signal(number, ending)
            code = function(console, *words, **options) or 0
        except Trouble as trouble:
            console.trouble(trouble)
            # a silence in the middle of a run is that run's own end; one that comes up to here let nothing begin
            code, after = 3 if isinstance(trouble, (NoAnswer, Unwritable)) else trouble.exit_code, trouble.next_command
        except KeyboardInterrupt as interruption:
            console.line(str(interruption) or "interrupted before anything was begun")
            code, cut = 5, True
        except BrokenPipeError:
            code = 0
        except Exit:
            raise
        except Exception as fault:
            console.trouble(Trouble(f"a bug in bgdeploy: {type(fault).__name__}; {kept_traceback()}", "invoke status"))
        console.close(code, after)
        if not code and console.unwritten:      # nobody may take half a document for a whole one
            console.trouble(Trouble(f"the output could not be written: {console.unwritten}"))
            code = 5
        if cut:
            console.flush()
            os._exit(5)         # threads that wait for a host that is silent must not use up what an abort leaves
        if code:
            raise Exit(code=code)
    return run


def kept_traceback():
    """Where the traceback of the exception at hand lies, in words."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="bgdeploy-bug-", suffix=".txt", delete=False) as f:
            traceback.print_exc(file=f)
        return f"its traceback is in {f.name}"
    except OSError as full:
        return f"its traceback could not be written ({full.strerror}): {clean.line(traceback.format_exc(), 1500)}"


def open_site(env, only_store=False):
    """The inventory that was meant; an inventory of lab kind takes this process into its control network.

    :param only_store: nothing but the store is asked. One that is a folder of this machine needs no lab for that.
    """
    site = inventory.load(call.env(env, BASE), BASE)
    if site.lab is not None and not (only_store and site.store.startswith("file:") and not site.lock_host):
        from lab import lab as data_centre
        data_centre.enter(site)
    return site


def open_records(console, env):
    """The inventory, for those who only read records: what lies here can be read without the lab, and is, with a word."""
    try:
        return open_site(env, only_store=True)
    except Refused as trouble:
        console.note(f"{trouble.sentence}; only what lies on this machine is read")
        return inventory.load(call.env(env, BASE), BASE)


def opened(site, console):
    """A session; a sudo password that nothing names is asked for on a terminal, and nowhere else."""
    return Session(site, console, ask=getpass.getpass if sys.stdin and sys.stdin.isatty() else None)


@verb
def act(console, task, stack=None, hosts=None, version=None, component=None, older=False, first=None, migrate=False,
        name=None, list=False, untested=None, why_run=False, env=None, json=False, reason=None, wait=False, no_input=False,
        floor=None, exclude=None, override_hours=None, yes=False):
    """deploy, rollout, rollback, back, resume, migrate and the steps by hand."""
    site = inventory.load(call.env(env, BASE), BASE)
    asked = goals.Asked(
        task, stack=wanted_stack(site, task, stack), hosts=call.hosts(hosts, site, stack),
        only=call.components(component, site), first=call.maybe_stack(first, site), older=older,
        versions=wanted_versions(site, task, version, component))
    why, of = call.reason(reason), None if task == "back" else asked.stack
    options = {"task": task, "reason": why, "wait": WAIT if wait else 0.0, "floor": call.whole(floor, "--floor"),
               "exclude": dict(call.excluded(exclude, reason, site, of, asked.hosts)) or None,
               "override_hours": call.reason(override_hours, "--override-hours"), "untested": call.reason(untested, "--untested")}
    wanted = None if name is None else call.choice(name, tuple(m.name for m in migrations.discover(site.migrations)), "--name")
    asking = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty() and not no_input and not json
    if asking:
        options["ask"] = lambda question: questions.ask(console, question)
    if site.confirm and asking and not yes and task in ("deploy", "rollout", "rollback", "migrate"):
        options["confirm"] = lambda goal, seen, policy: questions.confirm(console, goal, seen, policy)
    site = open_site(env)
    if why_run:
        return rehearse(console, site, asked)
    with opened(site, console) as session:
        console.on_gone = lambda: setattr(session.interrupt, "wanted", session.interrupt.wanted or "output gone")
        if task == "migrate" or migrate:
            asked = replace(asked, migration=session.migrations.named(wanted))
            if (list or task == "migrate") and asked.migration is None:
                console.line("every migration is done")
                return 0
            if list:
                console.line(session.migrations.describe(asked.migration)["text"])
                return 0
        end, run = pursue(session, asked, options)
        if end is None:
            raise Refused("the plan was answered with no, so nothing was done")
        events = read(os.path.join(session.folder(run), "journal.jsonl"))
        if not events or events[-1]["kind"] != "ended":         # it could not be written down
            events.append(end.event())
            console.event(events[-1])
        console.ended(events, from_here(session.folder(run)))
        if json:
            from bgdeploy import report
            console.document(report.result(events))
        if end.exit_code == 5:
            console.flush()
            os._exit(5)     # neither threads that wait for a host nor a silent store may use up what an abort leaves
    return end.exit_code


def from_here(path):
    """The path as it is typed here; whole where this folder has been removed meanwhile."""
    try:
        return os.path.relpath(path)
    except OSError:
        return path


def wanted_stack(site, task, stack):
    """What --stack says; None where the task is not about one stack, or, for a rollback, about all of them."""
    if task in ("rollout", "resume", "migrate"):
        return None
    return call.maybe_stack(stack, site, "--stack") if task == "rollback" else call.stack(stack, site)


def wanted_versions(site, task, version, component):
    """What --version says; where it was left out, the inventory's own `versions:`, which a rollback does not follow."""
    only = call.components(component, site)
    typed = call.versions(version, site, only)
    if typed or task not in ("deploy", "rollout", "converge"):
        return typed
    return tuple((name, text) for name, text in site.versions if not only or name in only)


def rehearse(console, site, asked):
    """`converge --why-run`: what Chef says it would do, on hosts as they are. Changes nothing; takes nothing out."""
    with opened(site, console) as session:
        known = {name: packages.available(site, site.component(name).package) for name, _ in asked.versions}
        versions = release.typed(asked.versions, known).items()
        for host in site.stack(asked.stack).hosts:
            if not asked.hosts or host.name in asked.hosts:
                console.line(chef.why_run(session.shell, site, host, tuple(versions)))
    return 0


@verb
def plan(console, stack=None, hosts=None, first=None, version=None, component=None, older=False, floor=None,
         exit_code=False, env=None, json=False):
    site = inventory.load(call.env(env, BASE), BASE)
    task = "rollout" if stack is None else "deploy"
    if stack is None and hosts is not None:
        raise BadInput("--hosts is without --stack; name the stack that they belong to, or leave --hosts out for a rollout")
    if stack is not None and first is not None:
        raise BadInput("--first is for a rollout and --stack for a deploy; give one of the two")
    asked = goals.Asked(
        task, stack=call.maybe_stack(stack, site, "--stack"), hosts=call.hosts(hosts, site, stack),
        first=call.maybe_stack(first, site), only=call.components(component, site), older=older,
        versions=wanted_versions(site, task, version, component))
    lowered = call.whole(floor, "--floor")
    site = open_site(env)
    with opened(site, console) as session:
        seen, runs = session.look(), session.runs()
        revision = chef.revision(os.path.join(site.base, site.chef.path))[0] if site.chef.cookbooks == "local" else ""
        available = cached(lambda c: packages.available(site, site.component(c).package))
        known = goals.Known(site, seen, tuple(events for _, events in runs), available, console.line, None, revision)
        goal = goals.goal(asked, known)
        steps = planning.plan(goal, seen, policy_of(site, {"floor": lowered}), seen.at)
    console.plan(steps)
    acts = [s for s in steps if isinstance(s, Do)]
    if json:
        console.document({"env": site.name, "task": task, "goal": goal.to_json(), "steps": [described(s) for s in steps]})
    if isinstance(steps[-1], Stop):
        return 3
    return 10 if exit_code and acts else 0


def described(step):
    fields = {"kind": type(step).__name__.lower(), "why": step.why}
    for name in ("step", "stack", "hosts", "gate", "choices", "next_command"):
        if hasattr(step, name):
            fields[name] = getattr(step, name)
    if isinstance(step, Do):
        fields["release"] = step.release.id if step.release else None
    if not isinstance(step, (Do, Done, Stop, Ask)):
        fields["wait"] = step.kind
    return fields


@verb
def status(console, env=None, json=False):
    from bgdeploy import status as verdicts
    site = open_site(env)
    with opened(site, console) as session:
        seen = session.look()
        serving = {c.name: balancer.who(site, site.live, c, 6) for c in site.components}
        notes, dark = [], None
        try:
            lock, hold = session.store.holder(), session.store.held()
        except (NoAnswer, Refused) as e:
            lock = hold = verdicts.not_known("the store does not answer")
            dark = lock if session.shared else None
            notes.append(f"the store does not answer: {e.sentence}")
        try:
            past = session.runs()
        except Refused as e:
            past, dark = [], verdicts.not_known("the records cannot be read")
            notes.append(e.sentence)
        runs, excluded = open_runs(past), records.left_out([events for _, events in past])
        run = verdicts.open_run(*runs[-1], site.policy.gate_expiry, lock) if runs else dark
        document = verdicts.status_document(site, seen, floor_of(seen, site.policy), lock, hold, excluded, run, serving)
        if json:
            console.document(document)
        else:
            console.seen_table(document)
        for note in notes:
            console.line(note)
    return verdicts.exit_code(document)


@verb
def check(console, env=None, json=False):
    from bgdeploy import check as preflight
    site = open_site(env)
    with opened(site, console) as session:
        rows = preflight.check(site, session)
    console.checks(rows)
    if json:
        console.document({"env": site.name, "checks": [row._asdict() for row in rows]})
    return 3 if any(row.outcome == "fail" for row in rows) else 0
