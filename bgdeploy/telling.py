"""Lines for the terminal: a journal event, the status document, a plan, the history. Pure; plain ASCII sentences, a line each.

console.py prints them and gives them colour. A kind of event that this version does not know is shown as far as it says why.
"""

import re
import time

from bgdeploy.clean import clean, line
from bgdeploy.columns import columns, seconds
from bgdeploy.model import Ask, Do, Done, Stop, Wait
from bgdeploy.tolerant import excluded_of, mapping, names, number, text
from bgdeploy.words import OUTCOMES, person

QUIET = ("acted", "watched", "seen_live")     # told by what follows them, or by the recap
WAITS = {"pool": "waits for the balancers", "drain": "drains", "chef": "waits for Chef", "host": "waits for an answer",
         "soak": "soaks"}
OVER = {"pool": "the balancers have noticed", "chef": "Chef has ended", "host": "the answer is there", "soak": "soaked"}
TAIL = 15
# Words after a flag are prose; a value may hold commas, and ends before those of the sentence.
COMMAND = (r"\binvoke [a-z]+(?:\.[a-z]+)?(?: --(?:older|migrate|wait|json|list|yes|no-input)\b"
           r"| --[a-z-]+(?: (?:\"[^\"]*\"|'[^']*'|[^\s;,()-](?:[^\s;)]*[^\s;,.:)])?))?)*")


def event_line(event):
    """One journal event as one line, or None where it says nothing that a person must see now. Never raises."""
    kind = event.get("kind")
    if kind in QUIET or not isinstance(kind, str):
        return None
    said = SENTENCES.get(kind, _unknown)(event)
    return f"{clock(event.get('at'))} {line(said, 1000)}" if said else None


def clock(at):
    """Local time of day, or dashes."""
    at = number(at)
    return time.strftime("%H:%M:%S", time.localtime(at)) if at is not None and 0 < at < 4e9 else "--:--:--"


def waiting(wait, waited):
    """The line a minute while a wait goes on."""
    return f"{wait.stack} still {WAITS.get(wait.kind, 'waits')}, for {seconds(waited)} now: {line(wait.why, 1000)}"


def trouble_lines(error):
    """What is wrong in one sentence, and what to type."""
    sentence = getattr(error, "sentence", None) or f"{type(error).__name__}: {error}"
    after = getattr(error, "next_command", None)
    return [line(sentence, 2000)] + ([f"  next: {line(after, 500)}"] if after else [])


def for_env(row, env):
    """A line with the commands in it as they are typed for an inventory that is not the default one. :param env: None: it is."""
    return re.sub(COMMAND, lambda found: found[0] if " --env " in found[0] else f"{found[0]} --env {env}", row) if env else row


def plan_lines(steps):
    """The steps of a plan, numbered where something is done."""
    out, number_ = [], 0
    for step in steps:
        if isinstance(step, Do):
            number_ += 1
            out.append(f"{number_:>3}. {step.step} {step.stack}".rstrip() + f": {line(step.why, 1000)}")
        elif isinstance(step, Wait):
            most = seconds(max(0.0, step.until - step.since))
            out.append(f"     then {step.stack} {WAITS.get(step.kind, step.kind)}, {most} at the most")
        elif isinstance(step, Ask):
            out.append(f"     then a person decides ({'|'.join(step.choices)}): {line(step.why, 1000)}")
        elif isinstance(step, Stop):
            out.append(f"     stops: {line(step.why, 1000)}; next: {step.next_command}")
        elif isinstance(step, Done):
            out += [f"     {'done' if number_ else 'nothing to do'}: {line(step.why, 1000)}"]
            out += [f"     with a warning: {line(said, 1000)}" for _, said in step.warnings]
    return out


def status_lines(document):
    """The status document as a table, who serves, and whatever keeps a run from beginning."""
    rows = [("stack", "verdict", "host", "component", "version", "heartbeat", "LIVE", "STANDBY", "in flight")]
    for stack in document["stacks"]:
        first = (stack["name"], stack["verdict"])
        for host in stack["hosts"]:
            shown = host["name"] if host["reachable"] else f"{host['name']} (no answer)"
            for c in host["components"]:
                count = "?" if c["in_flight"] is None else c["in_flight"]
                words = (c["version"] or "-", c["heartbeat"], c["live_pool"], c["standby_pool"], count)
                rows.append((*first, shown, c["name"], *words))
                first, shown = ("", ""), ""
        if first != ("", ""):
            rows.append((*first, "(no hosts)", "", "", "", "", "", ""))
    out = columns(rows, right=(8,)) + [""]
    out += [f"{stack['name']} is seen through LIVE: {line(stack['evidence'])}" for stack in document["serving"]]
    out += [] if document["serving"] else ["nobody is seen through LIVE"]
    floor = ", ".join(f"{name} {least}" for name, least in document["floor"].items())
    out += [f"floor: {floor}"] if floor else []
    out += [f"lock: {_who(document['lock'])}"] if document["lock"] else []
    out += [_hold(document["hold"])] if document["hold"] else []
    homes = {host["name"]: stack["name"] for stack in document["stacks"] for host in stack["hosts"]}
    for e in document["excluded"]:
        cure = f" until invoke deploy --stack {homes[e['host']]} --hosts {e['host']}" if e["host"] in homes else ""
        out.append(f"excluded: {e['host']}: {line(e['reason'])}; perhaps live on an old version{cure}")
    return out + _open_run(document["run"])


def history_lines(rows):
    """A line a run, the newest last."""
    table = [("run", "began", "took", "task", "stacks", "versions", "by", "outcome", "reason")]
    for r in rows:
        versions = ",".join(f"{name}={version}" for name, version in r["versions"].items())
        code = "" if r["exit_code"] is None else f" ({r['exit_code']})"
        began = (r["started"] or "?")[:16].replace("T", " ")
        table.append((r["run"] or "?", began, seconds(r["seconds"]), r["task"] or "?", " ".join(r["stacks"]) or "-",
                      versions or "-", r["by"] or "?", f"{r['outcome'] or 'not ended'}{code}", r["reason"] or ""))
    return columns([[line(cell, 200) for cell in row] for row in table], right=(2,)) if rows else ["no run yet"]


def check_lines(rows):
    """The rows of `check`: outcome, what was looked at, what was found and what to do about it."""
    cells = [[line(value, 1000) for value in row._asdict().values()] for row in rows]
    return columns([(*row[:2], "; ".join(text for text in row[2:] if text)) for row in cells])


def failure_lines(result):
    """The last lines of each host whose step failed, from the document of result.json."""
    out = []
    for step in result["steps"]:
        for host in step["hosts"]:
            if host["outcome"] == "failed" and host["detail"]:
                where = f" on {host['name']}" if host["name"] else ""       # a migration is done to no host
                out += [f"{step['stack']} {step['name']} failed{where}:".lstrip(),
                        *(f"  | {row}" for row in clean(host["detail"], 4000, TAIL).split("\n"))]
    return out


def _who(holder):
    if not isinstance(holder, dict):
        return line(holder)
    if holder.get("text"):
        return line(holder["text"]) + (" (expired)" if holder.get("expired") else "")
    parts = [text(holder.get("by")), text(holder.get("since")) and f"since {holder['since']}", text(holder.get("reason"))]
    return line(": ".join(part for part in parts if part))


def _hold(hold):
    if isinstance(hold, dict) and hold.get("unknown"):
        return f"hold: {_who(hold)}"
    return f"frozen (hold): {_who(hold)}; invoke unhold ends it"


def _open_run(run):
    if not run:
        return []
    if not isinstance(run, dict) or run.get("unknown"):
        return [f"open run: {_who(run)}"]
    by = person(run.get("by"))
    out = [f"open run: {line(run.get('run'))}, {line(run.get('task'))}" + (f", by {by}" if by else "")
           + (f": {line(run['why'])}" if run.get("why") else "")]
    asked = mapping(run.get("question"))
    if text(asked.get("expires")):
        out.append(f"  asks {'|'.join(names(asked.get('choices')))}, until {line(asked['expires'])}")
    return out + [f"  next: {line(command)}" for command in names(run.get("next"))]


def _began(e):
    versions = ", ".join(f"{name} {version}" for name, version in mapping(e.get("versions")).items())
    at = number(e.get("at")) or 0.0
    day = time.strftime(" on %Y-%m-%d", time.localtime(at)) if 0 < at < 4e9 else ""
    where = f" in {e['env']}" if text(e.get("env")) else ""
    what = f"{_task(e)}{' of ' + versions if versions else ''}{where}"
    return f"run {text(e.get('run')) or '?'} begins{day}: {what}{_by(e)}{_reason(e)}"


def _again(e):
    return f"the run goes on: {_task(e)}{_by(e)}{_reason(e)}"


def _waiting(e):
    words = {"pool": "waits"}.get(text(e.get("wait"))) or WAITS.get(text(e.get("wait")), "waits")
    return f"{_where(e)}{words}: {text(e.get('why')) or ''}"


def _waited(e):
    what, outcome = text(e.get("wait")), text(e.get("outcome")) or "over"
    word = OVER.get(what, outcome) if outcome == "over" else f"{WAITS.get(what, 'waits')} no longer: {outcome}"
    if what == "chef" and names(e.get("going")):
        word = f"{WAITS[what]} no longer: it may go on on {' '.join(names(e['going']))},"
    if what == "host" and names(e.get("silent")):
        word = f"{WAITS[what]} no longer: none came from {' '.join(names(e['silent']))}"
    word = outcome if what == "drain" and outcome != "stopped" else word
    by = {host: text(who) for host, who in mapping(e.get("counted_by")).items() if text(who)}
    alike = "".join(set(by.values())) if len(set(by.values())) < 2 else "; ".join(f"{host}: {who}" for host, who in by.items())
    after = "already" if what == "drain" and not number(e.get("seconds")) else f"after {seconds(number(e.get('seconds')))}"
    return f"{_where(e)}{word} {after}" + (f" (counted by {alike})" if by else "")


def _doing(e):
    why, hosts = text(e.get("why")) or "", names(e.get("hosts"))
    named = "" if all(host in why for host in hosts) else f"{' '.join(hosts)}: "
    return f"{_where(e)}{_step(e)}{' (rescue)' if e.get('rescue') is True else ''}: {named}{why}"


def _result(e):
    took, detail = number(e.get("seconds")), text(e.get("detail"))
    said = f"{_where(e)}{_step(e)} {text(e.get('host')) or ''} {text(e.get('outcome')) or '?'}"
    return said + (f" {seconds(took)}" if took else "") + (f": {line(detail, 600)}" if detail else "")


def _dropped(e):
    return f"{_where(e)}{_step(e)} was not done: {text(e.get('why')) or ''}"


def _asked(e):
    until, at = "", number(e.get("expires"))
    if at is not None and 0 < at < 4e9:
        until = f" (an answer is taken until {time.strftime('%Y-%m-%d %H:%M', time.localtime(at))})"
    return f"{_where(e)}a person decides ({'|'.join(names(e.get('choices')))}): {text(e.get('why')) or ''}{until}"


def _answered(e):
    return f"{_where(e)}answered: {text(e.get('choice')) or '?'}{_by(e)}"


def _excluded(e):
    return "; ".join(f"{host} is left out: {why}" for host, why in excluded_of(e).items())


def _untested(e):
    return f"{' '.join(map(str, mapping(e.get('hosts'))))} may go live untested{_reason(e)}"


def _forgave(e):
    hosts = " ".join(names(e.get("hosts")))
    return f"another try for {hosts}: {text(e.get('why')) or ''}" if hosts else None


def _hook(e):
    name, outcome = text(e.get("name")) or "?", text(e.get("outcome")) or "?"
    if outcome == "refused" and name.startswith(("after-", "run-ended")):
        outcome = "failed"          # these may only warn
    return f"hook {name}: {outcome} {text(e.get('detail')) or ''}"


def _ended(e):
    outcome, code = text(e.get("outcome")), text(e.get("exit_code"))
    return f"{outcome or 'ended'}{f' (exit code {code})' if code else ''}: {text(e.get('why')) or OUTCOMES.get(outcome) or ''}"


def _unknown(e):
    said = next((text(e[key]) for key in ("why", "text", "detail", "reason", "outcome") if text(e.get(key))), "")
    return f"{_where(e)}{e['kind']}" + (f": {said}" if said else "")


def last_words(e):
    """The last line of a run that was interrupted, as a list: where it stands and what to type. Empty for any other end."""
    if e.get("exit_code") != 5:
        return []
    commands = " | ".join(filter(None, map(text, e.get("next") or ())))
    return [line(f"{text(e.get('why')) or 'interrupted'}; next: {commands or 'invoke status'}", 1000)]


def _where(e):
    return f"{e['stack']} " if text(e.get("stack")) else ""


def _step(e):
    return text(e.get("step")) or "?"


def _task(e):
    return text(e.get("task")) or "?"


def _by(e):
    return f", by {person(e.get('by'))}" if person(e.get("by")) else ""


def _reason(e):
    return f": {e['reason']}" if text(e.get("reason")) else ""


SENTENCES = {
    "began": _began, "joined": _again, "resumed": _again, "waiting": _waiting, "waited": _waited, "doing": _doing,
    "result": _result, "dropped": _dropped, "asked": _asked, "answered": _answered, "excluded": _excluded, "untested": _untested,
    "forgave": _forgave, "hook": _hook, "ended": _ended, "warned": lambda e: f"warning: {text(e.get('text')) or ''}",
    "interrupted": lambda e: f"interrupted by {text(e.get('signal')) or 'a signal'}: nothing new is started",
}
