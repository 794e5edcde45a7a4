"""A run as JUnit XML: a suite for each stack, a case for each step and host, and one suite for the run itself. Pure.

Strict XML 1.0: one escape character in a host's output would make Jenkins reject the whole file. A suite is never empty,
because Jenkins drops such a suite and fails a build without any.
"""

import xml.etree.ElementTree as ElementTree

from bgdeploy.clean import clean, line, xml_safe
from bgdeploy.status import moment
from bgdeploy.story import STEPS
from bgdeploy.storyteller import tell
from bgdeploy.words import availability, meaning, person, title, what_happened

GOOD = (0, 6)


def junit(events):
    """Events -> the text of junit.xml. Failed and unknown hosts carry the cleaned, masked last lines of their output."""
    s = tell(events)
    root = ElementTree.Element("testsuites")
    _run(s, _suite(root, s, "run"))
    for stack, cases in _cases(s).items():
        suite = _suite(root, s, stack or "database")
        for (step, host), (outcome, detail, seconds) in cases.items():
            case = _case(suite, s, f"{step} {host}".rstrip(), stack or "database", sum(seconds))
            where = f" on {host}" if host else ""       # a migration is done to no host
            if outcome == "failed":
                _said(case, "failure", f"{step} failed{where}", detail)
            elif outcome != "ok":
                _said(case, "skipped" if step == "drain" else "error", f"{step}{where}: nobody knows how it ended", detail)
    for suite in root:
        _count(suite)
    _count(root)
    root.set("name", xml_safe(title(s)))
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _cases(s):
    """{stack: {(step, host): (outcome, detail, [seconds])}}: a step that was repeated counts as it ended last."""
    stacks = {}
    for phase in s.phases:
        if phase.step in STEPS:
            for host in phase.hosts:
                outcome, detail, took = phase.outcome(host)
                earlier = stacks.setdefault(phase.stack, {}).get((phase.step, host), ("", "", []))
                stacks[phase.stack][phase.step, host] = (outcome, detail, [*earlier[2], took or 0.0])
    return stacks


def _run(s, suite):
    case = _case(suite, s, s.task or "run", "run", s.seconds)
    if s.outcome == "waiting" or s.exit_code == 7:
        _said(case, "skipped", f"{what_happened(s)}: {meaning(s)}", s.why)
    elif s.outcome is None:
        _said(case, "error", meaning(s), "")
    elif s.exit_code not in GOOD:
        next_commands = [f"next: {command}" for command in s.next]
        _said(case, "failure", f"{what_happened(s)}: {meaning(s)}", "\n".join([s.why, *next_commands]))
    out = [f"{title(s)}: {what_happened(s)}", *availability(s),
           *(f"warning: {line(w, 1000)}" for w in s.warnings)]
    ElementTree.SubElement(case, "system-out").text = xml_safe(clean("\n".join(out), 8000))


def _suite(root, s, name):
    suite = ElementTree.SubElement(root, "testsuite", {"name": xml_safe(line(name, 100))})
    if moment(s.started):
        suite.set("timestamp", moment(s.started)[:19])
    properties = ElementTree.SubElement(suite, "properties")
    known = {"run": s.run, "env": s.env, "by": person(s.by), "reason": s.reason}
    for key, value in [*known.items(), *((f"version.{name}", version) for name, version in s.versions.items())]:
        if value:
            ElementTree.SubElement(properties, "property", {"name": xml_safe(line(key, 100)), "value": xml_safe(line(value))})
    if not len(properties):
        suite.remove(properties)
    return suite


def _case(suite, s, name, group, seconds):
    return ElementTree.SubElement(suite, "testcase", {
        "classname": xml_safe(line(f"{s.env or 'bgdeploy'}.{group}", 100)), "name": xml_safe(line(name, 200)),
        "time": f"{seconds:.3f}"})


def _said(case, kind, message, detail):
    element = ElementTree.SubElement(case, kind, {"message": xml_safe(line(message))})
    if kind != "skipped":
        element.set("type", kind)
    element.text = xml_safe(clean(detail, 4000, 40))


def _count(element):
    """tests, failures, errors, skipped and time, as the schema of JUnit's XML asks."""
    cases = list(element.iter("testcase"))
    counts = {"tests": len(cases), "failures": sum(c.find("failure") is not None for c in cases),
              "errors": sum(c.find("error") is not None for c in cases),
              "time": f"{sum(float(c.get('time')) for c in cases):.3f}"}
    if element.tag == "testsuite":
        counts["skipped"] = sum(c.find("skipped") is not None for c in cases)
    for key, value in counts.items():
        element.set(key, str(value))
