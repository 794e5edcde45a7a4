"""What is told of a run: result.json, recap, Markdown, rows of the history; JUnit and HTML stand beside. Pure: events to text.

Everything is derived from the journal's events and total: a torn or unfinished journal, and events of a newer bgdeploy, are
told as far as they are understood. Text from hosts is cleaned and masked here once more.
"""

from bgdeploy.clean import clean, line
from bgdeploy.columns import columns, seconds
from bgdeploy.junit import junit
from bgdeploy.page import html
from bgdeploy.status import exclusions, exit_code, moment, status_document, verdict
from bgdeploy.story import STEPS
from bgdeploy.storyteller import joined, tell
from bgdeploy.words import availability, change, person, title, what_happened

__all__ = ["exit_code", "history", "html", "junit", "markdown", "recap", "result", "status_document", "verdict"]


def result(events):
    """The document of result.json, with exactly the contract's keys. outcome and exit_code are None while the run has no end;
    where nobody watched, or the driver was killed before it could write down what it saw, no requests are counted."""
    s = tell(events)
    return {
        "run": s.run, "task": s.task, "env": s.env, "by": s.by, "reason": s.reason and line(s.reason),
        "started": moment(s.started), "ended": moment(s.ended), "outcome": s.outcome, "exit_code": s.exit_code,
        "versions": s.versions, "stacks": [_stack(s, name) for name in s.stacks],
        "steps": [{"name": p.step, "stack": p.stack, "hosts": [_host(p, name) for name in p.hosts]}
                  for p in s.phases if p.step in STEPS],
        "availability": s.availability or joined([{"requests": 0}]),
        "warnings": [line(w, 1000) for w in s.warnings], "excluded": exclusions(s.excluded),
        "next": list(s.next)}


def recap(events):
    """Lines for the end of a run: what each step took and whose time it was, versions by host, requests, warnings, next."""
    s = tell(events)
    lines = [f"{title(s)}: {what_happened(s)}"]
    lines += [f"  {line(s.why, 1000)}"] if s.why else []
    if s.phases:
        lines += ["", *_times(s)]
    if s.changes:
        rows = [("host", *s.components)] + [(host, *(change(*pairs[c]) if c in pairs else "" for c in s.components))
                                            for _, host, pairs in s.changes]
        lines += ["", *columns(rows)]
    lines += ["", *availability(s)] if s.availability else []
    lines += ["", "warnings:", *(f"  {line(w, 1000)}" for w in s.warnings)] if s.warnings else []
    lines += ["", "excluded:", *(f"  {host}: {line(why)}" for host, why in s.excluded.items())] if s.excluded else []
    lines += ["", "next:", *(f"  {command}" for command in s.next)] if s.next else []
    return lines


def markdown(events):
    """The recap as Markdown, for a chat, a ticket or a build's description."""
    s = tell(events)
    out = [f"### {_md(title(s))}: {_md(what_happened(s))}", ""]
    out += [_md(line(s.why, 1000)), ""] if s.why else []
    facts = [("run", s.run), ("by", person(s.by)), ("reason", s.reason), ("started", moment(s.started))]
    out += [", ".join(f"{name} {_md(value)}" for name, value in facts if value), ""]
    if s.phases:
        out += ["| step | hosts | total | Chef | balancers | drain | outcome |", "|---|---|--:|--:|--:|--:|---|"]
        out += [f"| {_md(f'{p.stack} {p.step}'.strip())} | {_md(' '.join(p.hosts))} | {seconds(p.seconds)} | {_some(p.chef)} | "
                f"{_some(p.waited('pool'))} | {_some(p.waited('drain'))} | {_md(_outcomes(p))} |" for p in s.phases] + [""]
    if s.changes:
        out += [f"| host | {' | '.join(map(_md, s.components))} |", f"|---|{'---|' * len(s.components)}"]
        out += [f"| {_md(host)} | {' | '.join(_md(change(*pairs[c])) if c in pairs else '' for c in s.components)} |"
                for _, host, pairs in s.changes] + [""]
    out += [*(f"* {_md(text)}" for text in availability(s)), ""] if s.availability else []
    out += ["**Warnings**", "", *(f"* {_md(line(w, 1000))}" for w in s.warnings), ""] if s.warnings else []
    out += ["**Excluded**", "", *(f"* {_md(f'{host}: {why}')}" for host, why in s.excluded.items()), ""] if s.excluded else []
    out += ["**Next**", "", "```", *(command.replace("`", "'") for command in s.next), "```", ""] if s.next else []
    return "\n".join(out)


def history(runs):
    """A row for each run, in the order given.

    :param runs: event lists, or pairs (run ID, event list): the ID counts where the journal has lost its beginning.
    :returns: list of dicts: run, started, ended, seconds, task, stacks, versions, by, reason, outcome, exit_code.
    """
    rows = []
    for given in runs:
        name, events = given if isinstance(given, tuple) else (None, given)
        s = tell(events)
        rows.append({"run": s.run or name, "started": moment(s.started), "ended": moment(s.ended), "seconds": round(s.seconds, 1),
                     "task": s.task, "stacks": list(dict.fromkeys(p.stack for p in s.phases if p.stack)), "versions": s.versions,
                     "by": person(s.by), "reason": s.reason and line(s.reason), "outcome": s.outcome, "exit_code": s.exit_code})
    return rows


def _stack(s, name):
    """Verdicts of one stack at the first and at the last look, and the versions that ran at the last."""
    before, after = (verdict(seen.stack(name), s.detection, s.detection) if seen else "unknown" for seen in (s.before, s.after))
    versions = {}
    for host in s.after.stack(name) if s.after else ():
        for c in host.components:
            versions.setdefault(c.name, set()).update([c.release] if c.release else [])
    return {"name": name, "before": before, "after": after, "versions": {c: sorted(seen) for c, seen in versions.items()}}


def _host(phase, name):
    outcome, detail, took = phase.outcome(name)
    return {"name": name, "outcome": outcome, "seconds": None if took is None else round(took, 3),
            "detail": clean(detail, 4000, 40)}


def _times(s):
    """A table: whose the seconds of each step were. The column for other waits is left out where there were none."""
    first = s.elapsed(s.phases[0].start)
    rows = [("first look", "", [first, 0.0, 0.0, 0.0, 0.0, first], "")] if first >= 0.05 else []
    for p in s.phases:
        others = sum(map(p.waited, ("host", "soak", "person")))
        rows.append((p.stack, p.step, [p.seconds, p.chef, p.waited("pool"), p.waited("drain"), others, p.own], _outcomes(p)))
    rows.append(("together", "", [sum(shares) for shares in zip(*(row[2] for row in rows))], ""))
    waits = rows[-1][2][4] > 0
    heads = ["total", "Chef", "balancers", "drain", "waiting", "bgdeploy"]
    table = [("step", "", heads, "")] + [(stack, step, [*map(_some, shares)], word) for stack, step, shares, word in rows]
    return columns([(stack, step, *(cells if waits else cells[:4] + cells[5:]), word) for stack, step, cells, word in table],
                   right=range(2, 8 if waits else 7))


def _outcomes(phase):
    """'ok', or who did not end well: 'failed: green-1; unknown: green-2'."""
    if phase.step not in STEPS:
        return phase.parts[-1].outcome or ""
    by_word = {}
    for host in phase.hosts:
        outcome, detail, _ = phase.outcome(host)
        # a drain's outcomes have names of their own, and who counted belongs to them
        by_word.setdefault(line(detail, 120) or outcome if phase.step == "drain" else outcome, []).append(host)
    if phase.step == "drain" and len(by_word) == 1:
        return "".join(by_word)
    return "; ".join(f"{word}: {' '.join(hosts)}".rstrip(": ") for word, hosts in sorted(by_word.items()) if word != "ok") or "ok"


def _some(value):
    return seconds(value) if value >= 0.01 else "-"


def _md(value):
    """Text that Markdown shows as it is."""
    text = line(value)
    for mark in "\\`*_[]<>|#~":
        text = text.replace(mark, "\\" + mark)
    return text
