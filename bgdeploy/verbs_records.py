"""Tasks on what is kept of a site: an answer, the freeze, the lock, past runs. None looks at a host or acts on one."""

from bgdeploy import call, inventory, records, reservation
from bgdeploy.errors import BadInput, Refused, Trouble
from bgdeploy.opening import goal_in
from bgdeploy.run import refuse_nobody, settle, write_reports
from bgdeploy.session import open_runs
from bgdeploy.verbs import BASE, open_records, open_site, opened, verb

CHOICES = ("approve", "stop", "retry", "exclude", "proceed", "repeat", "done")     # of all questions; a run asks with some


@verb
def answer(console, run=None, choice=None, reason=None, env=None, json=False):
    inventory.load(call.env(env, BASE), BASE)
    wanted, why = call.run(run), call.reason(reason)
    word = call.word(choice, "--choice", "one of " + ", ".join(CHOICES))
    if word not in CHOICES:
        call.choice(word, choices_at_hand(console, env, wanted, word))
    site = open_site(env)
    with opened(site, console) as session:
        past = session.runs()
        if wanted and not any(wanted in dict(known) for known in (past, session.runs(10 ** 6))):
            raise BadInput(f"--run: there is no run {wanted}; invoke history lists them")
        found = dict(open_runs(past))
        name = wanted or (max(found) if found else None)
        if name not in found:
            raise Refused(f"run {name} is not open" if name else "no run is open", "invoke history")
        question = records.question(found[name])
        if question is None and word != "stop":
            raise Refused(f"run {name} asks nothing", "invoke status")
        call.choice(word, records.choices(question))
        if word != "stop" and session.clock() > records.expires(question, site.policy.gate_expiry):
            raise Refused(f"the question of run {name} has expired", "invoke resume asks again")
        goal = goal_in(name, found[name])
        asked = question or {}
        if word == "exclude":
            refuse_nobody(site, goal, found[name], asked.get("hosts") or (), "--choice exclude")
        with session.store.take({"run": name, "task": "answer"}):       # no driver may be running, nor begin meanwhile
            journal = session.journal(name, found[name], [console.event])
            journal.write("answered", choice=word, gate=asked.get("gate"), stack=asked.get("stack"), hosts=asked.get("hosts"),
                          by=session.by(), reason=why)
            if goal.migrate:
                settle(session, goal.migrate, word, name)
            if word == "stop":
                reservation.of(site, session.shell, name, goal, journal, console.line)
                journal.write("ended", outcome="stopped", exit_code=4, why="a person said stop", next=[], seen=None)
            journal.close()
            write_reports(session, name, journal.events)
    following = [] if word == "stop" else ["invoke resume"]
    console.line(f"run {name}: {word}" + "".join(f"; next: {command}" for command in following))
    if json:
        console.document({"outcome": "done", "exit_code": 0, "why": f"run {name}: {word}", "next": following})
    return 0


def choices_at_hand(console, env, run, word):
    """The words of the question at hand, as far as records say it, for a --choice that is none of ours.

    :raises BadInput: it is missing; with the same words.
    """
    name, allowed = None, CHOICES
    try:
        with opened(open_records(console, env), console) as session:
            found = dict(open_runs(session.runs()))
        name = run or max(found, default=None)
        allowed = records.choices(records.question(found[name]))
    except (Trouble, KeyError):
        name = None
    if word is None:
        raise BadInput("--choice is missing; " + (f"run {name} asks " if name else "type --choice ") + "|".join(allowed))
    return allowed


@verb
def hold(console, reason=None, env=None, json=False):
    inventory.load(call.env(env, BASE), BASE)
    if reason is None:
        raise BadInput("--reason is missing; say why nobody may deploy")
    why = call.reason(reason)
    site = open_site(env, only_store=True)
    with opened(site, console) as session:
        session.store.hold(why, session.by()["user"])
    console.line(f"{site.name} is frozen: {why}; invoke unhold ends it")
    return 0


@verb
def unhold(console, env=None, json=False):
    site = open_site(env, only_store=True)
    with opened(site, console) as session:
        was = session.store.unhold()
    console.line(f"the freeze of {was.get('by') or 'somebody'} is over: {was.get('reason')}" if was else "nothing was frozen")
    return 0


@verb
def unlock(console, env=None, json=False):
    site = open_site(env, only_store=True)
    with opened(site, console) as session:
        was = session.store.unlock(console.line)
    console.line(f"removed the lock of {was}" if was else "there was no lock")
    return 0


@verb
def history(console, last=None, env=None, json=False):
    from bgdeploy import report as reports      # pages and tables: not for every start
    most = call.whole(last, "--last", 1) or 20
    site = open_records(console, env)
    with opened(site, console) as session:
        rows = reports.history([events for _, events in session.runs(most)][-most:])
    if json:
        console.document(rows)
    else:
        console.history(rows)
    return 0


@verb
def report(console, run=None, format=None, env=None, json=False):
    from bgdeploy import report as reports
    kind = call.choice("json" if json else "md" if format is None else format, ("html", "md", "json", "junit"), "--format")
    wanted = call.run(run)
    site = open_records(console, env)
    with opened(site, console) as session:
        runs = dict(session.runs())
        if wanted and wanted not in runs:
            runs = dict(session.runs(10 ** 6))          # an old one
    name = wanted or (max(runs) if runs else None)
    if name not in runs:
        raise BadInput(f"--run: there is no run {name}; invoke history lists them" if name else "there is no run yet")
    events = runs[name]
    if kind == "json":
        console.document(reports.result(events))
    else:
        console.text({"html": reports.html, "md": reports.markdown, "junit": reports.junit}[kind](events), markup=kind != "md")
    return 0
