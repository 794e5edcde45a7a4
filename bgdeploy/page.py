"""report.html: one run on one page that needs nothing else, for people who were not there. Pure.

Built as a tree of elements and never as text, so that nothing a host said can become markup. The bars are one time scale;
time in which nobody drove is left out of it.
"""

import textwrap
import xml.etree.ElementTree as ElementTree

from bgdeploy.clean import clean, line, xml_safe
from bgdeploy.columns import milliseconds, seconds
from bgdeploy.page_style import STYLE
from bgdeploy.status import moment
from bgdeploy.story import STEPS
from bgdeploy.storyteller import tell
from bgdeploy.words import change, meaning, person, title, what_happened

KINDS = {"act": "bgdeploy acts", "own": "bgdeploy looks", "chef": "Chef", "pool": "the balancers notice",
         "drain": "requests in flight end", "wait": "a person, a soak, or a silent host"}
TONES = {"done": "good", "warned": "warned", "waiting": "calm", "interrupted": "warned", None: "calm", "superseded": "calm"}
WORDS = {"ok": "good", "failed": "bad"}


def html(events):
    """Events -> the text of one self-contained HTML page. Escaped by construction; never raises on a torn journal."""
    s = tell(events)
    root = _new("html", lang="en")
    head = _in(root, "head")
    _in(head, "meta", charset="utf-8")
    _in(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _in(head, "title", f"{title(s)}: {what_happened(s)}")
    _in(head, "style", STYLE)
    main = _in(_in(root, "body"), "main")
    _banner(main, s)
    _figures(main, s)
    _list(main, "What to do next", s.next, "code")
    _list(main, "Warnings", s.warnings)
    _list(main, "Hosts left out", [f"{host}: {why}" for host, why in s.excluded.items()])
    _timeline(main, s)
    _steps(main, s)
    _versions(main, s)
    _requests(main, s)
    _in(main, "footer", f"bgdeploy, run {s.run or 'unknown'}. Everything here is derived from the run's journal; times are UTC. "
        "The full output of each host lies beside it under hosts/.")
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"


def _banner(main, s):
    header = _in(main, "header", cls=_tone(s))
    _in(header, "div", s.outcome or "not ended", cls="verdict")
    _in(header, "h1", title(s)[:1].upper() + title(s)[1:])
    _in(header, "p", meaning(s)[:1].upper() + meaning(s)[1:] + ".")
    if s.why:
        _in(header, "p", s.why, cls="soft")
    facts = _in(header, "div", cls="facts")
    known = {"run": s.run, "by": person(s.by), "reason": s.reason, "began": _when(s.started), "ended": _when(s.ended),
             "exit code": s.exit_code}
    for name, value in known.items():
        if value is not None:
            fact = _in(facts, "span", f"{name} ")
            _in(fact, "b", value)


def _figures(main, s):
    figures = _in(main, "div", cls="figures")
    changed = [host for _, host, pairs in s.changes if any(before != after for before, after in pairs.values())]
    cards = [(seconds(s.seconds), "from beginning to end"), (f"{len(changed)} of {len(s.changes)}", "hosts changed")]
    if s.availability and s.availability["requests"]:
        share = s.availability
        cards += [(f"{share['requests']:,}", "requests through LIVE meanwhile"), (f"{share['failed']:,}", "of them failed"),
                  (milliseconds(share["longest_gap_ms"]), "longest gap between answers")]
    for value, what in cards:
        card = _in(figures, "div", cls="figure " + ("bad" if what == "of them failed" and value != "0" else ""))
        _in(card, "b", value)
        _in(card, "span", what)


def _timeline(main, s):
    whole = s.seconds
    if not s.phases or whole <= 0:
        return
    _in(main, "h2", "Where the time went")
    card = _in(main, "div", cls="card")
    for nth, phase in enumerate(s.phases):
        fresh = nth and phase.stack != s.phases[nth - 1].stack
        row = _in(card, "div", cls="row fresh" if fresh else "row")
        label = _in(row, "div", f"{phase.stack} ")
        _in(label, "i", phase.step)
        track = _in(row, "div", cls="track")
        _bar(track, "own", s.elapsed(phase.start), phase.seconds, whole, f"{phase.stack} {phase.step}: {seconds(phase.seconds)}")
        for part in phase.parts:
            kind = part.kind if part.kind in ("act", "chef", "pool", "drain") else "wait"
            says = f"{KINDS[kind]}, {seconds(part.seconds)}: {line(part.why, 300)}"
            _bar(track, kind, s.elapsed(part.start), part.seconds, whole, says)
        _in(row, "div", seconds(phase.seconds))
    scale = _in(card, "div", cls="row")
    _in(scale, "div")
    marks = _in(scale, "div", cls="scale")
    for nth in range(5):
        _in(marks, "span", "0" if nth == 0 else seconds(whole * nth / 4))
    legend = _in(card, "div", cls="legend")
    shown = {part.kind if part.kind in KINDS else "wait" for phase in s.phases for part in phase.parts} | {"own"}
    for kind, words in KINDS.items():
        if kind in shown:
            _in(legend, "span", words, style=f"--tone: var(--{kind})")


def _bar(track, kind, start, length, whole, says):
    left = min(100.0, 100 * start / whole)
    _in(track, "span", cls=kind, style=f"left: {left:.3f}%; width: {min(100 - left, 100 * length / whole):.3f}%", title=says)


def _steps(main, s):
    phases = [p for p in s.phases if p.step in STEPS]
    if not phases:
        return
    _in(main, "h2", "Steps")
    table = _table(main, ("stack", "step", "hosts", "outcome", "time", "what was seen"), num=(4,))
    for phase in phases:
        alike = {}
        for host in phase.hosts:
            outcome, detail, took = phase.outcome(host)
            alike.setdefault((outcome, clean(detail, 4000, 40)), []).append((host, took))
        for (outcome, detail), hosts in alike.items():
            row = _in(table, "tr")
            for value in (phase.stack, phase.step):
                _in(row, "td", value, cls="name")
            _in(row, "td", " ".join(host for host, _ in hosts))
            _in(_in(row, "td"), "span", outcome, cls=f"word {WORDS.get(outcome, 'warned')}")
            _in(row, "td", seconds(max((took for _, took in hosts if took is not None), default=None)), cls="num")
            cell = _in(row, "td")
            first, _, rest = detail.partition("\n")
            _in(cell, "span", first)
            if rest:
                _in(cell, "pre", textwrap.dedent(rest))


def _versions(main, s):
    if not s.changes:
        return
    _in(main, "h2", "Versions by host")
    table = _table(main, ("stack", "host", *s.components))
    for stack, host, pairs in s.changes:
        row = _in(table, "tr")
        _in(row, "td", stack, cls="name")
        _in(row, "td", host, cls="name")
        for c in s.components:
            before, after = pairs.get(c, ("", ""))
            _in(row, "td", change(before, after), cls="name new" if before != after else "name")


def _requests(main, s):
    if not s.availability:
        return
    _in(main, "h2", "Requests while the run lasted")
    table = _table(main, ("through", "sent", "failed", "longest gap", "half within", "99 % within"), num=range(1, 6))
    shares = {"LIVE": s.availability, "STANDBY": s.availability["balancers"]["standby"]}
    for name, share in shares.items():
        if name == "LIVE" or share["requests"]:
            row = _in(table, "tr")
            _in(row, "td", name, cls="name")
            times = [milliseconds(share[key]) for key in ("longest_gap_ms", "p50_ms", "p99_ms")]
            for value in (f"{share['requests']:,}", f"{share['failed']:,}", *times):
                _in(row, "td", value, cls="num")
    _in(main, "p", "Sent by bgdeploy itself: GET only, on new and on kept connections in turn, never repeated.", cls="soft")


def _list(main, heading, entries, tag="span"):
    if entries:
        _in(main, "h2", heading)
        ul = _in(_in(main, "div", cls="card"), "ul")
        for entry in entries:
            _in(_in(ul, "li"), tag, line(entry, 1000))


def _table(main, heads, num=()):
    table = _in(_in(main, "div", cls="card"), "table")
    row = _in(_in(table, "thead"), "tr")
    for n, name in enumerate(heads):
        _in(row, "th", name, cls="num" if n in num else "")
    return _in(table, "tbody")


def _tone(s):
    return "bad" if s.exit_code == 8 else TONES.get(s.outcome, "bad")


def _when(at):
    return moment(at) and moment(at)[:19].replace("T", " ")


def _new(tag, said=None, cls=None, **attributes):
    element = ElementTree.Element(tag, {key: xml_safe(line(value)) for key, value in attributes.items()})
    if cls:
        element.set("class", cls)
    if said is not None:
        element.text = said if tag == "style" else xml_safe(clean(said, 6000))
    return element


def _in(parent, tag, said=None, cls=None, **attributes):
    element = _new(tag, said, cls, **attributes)
    parent.append(element)
    return element
