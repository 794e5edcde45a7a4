"""Sentences about a run that recap, Markdown, JUnit and HTML share. Pure; ASCII only."""

import time

from bgdeploy.clean import line
from bgdeploy.columns import milliseconds, seconds
from bgdeploy.prove import serves
from bgdeploy.tolerant import items, number

OUTCOMES = {
    "done": "the goal is reached, and was seen to be",
    "warned": "the goal is reached, with warnings that a person must read",
    "failed": "a step failed and the run stopped; what remained was proved to serve",
    "refused": "refused before the first act; nothing was changed",
    "interrupted": "interrupted; the run is open and can be resumed",
    "waiting": "a person has to decide",
    "stopped": "ended by a person",
    "superseded": "another run has taken its place",
    None: "the journal has no end: its driver still runs, or was killed",
}
ACT_NOW = "stopped, and the floor is not proved to be served: act now"


def title(story):
    """'rollout of api 2.0.0-1, web 2.0.0-1 in lab'."""
    versions = ", ".join(f"{name} {version}" for name, version in story.versions.items() if version)
    where = f" in {story.env}" if story.env else ""
    return line(f"{', '.join(story.tasks) or 'a run'}{' of ' + versions if versions else ''}{where}")


def what_happened(story):
    """'done after 35.8 s (exit code 0)'."""
    if story.outcome is None:
        return f"not ended, last heard of after {seconds(story.seconds)}"
    code = f" (exit code {story.exit_code})" if story.exit_code is not None else ""
    return f"{line(story.outcome, 40)} after {seconds(story.seconds)}{code}"


def meaning(story):
    """One sentence for somebody who does not know the exit codes."""
    return ACT_NOW if story.exit_code == 8 else OUTCOMES.get(story.outcome, "ended in a way that this version does not know")


def person(by):
    """'deploy on ci-1' from the 'by' of a journal, or None."""
    if not isinstance(by, dict):
        return line(by) if isinstance(by, str) else None
    user, host = (line(by.get(key), 80) if isinstance(by.get(key), str) else "" for key in ("user", "host"))
    return " on ".join(part for part in (user, host) if part) or None


def availability(story):
    """Lines: what went through each balancer while the run lasted; none where no requests were to be sent."""
    share = story.availability or {}
    balancers = share.get("balancers") or {}
    lines = [_through("LIVE", share)] if share else []
    if share.get("failed") and story.before and not any(serves(host) for host in story.before.hosts):
        lines.append("nobody served when the run began: what failed until somebody did counts, too")
    if balancers.get("standby", {}).get("requests"):
        lines.append(_through("STANDBY", balancers["standby"]))
    live = balancers.get("live", {})
    lines += [f"failed {_counted(each)}: {line(each.get('what'), 120)}" for each in _most(live.get("failures"))]
    lines += [f"{line(each.get('host'), 80)} was sent {_counted(each)} although it had been let go: was that node reloaded "
              "without its server states? (docs/balancers.md)" for each in _most(live.get("strays"))]
    return lines


def _most(entries):
    """The five of these that came most often."""
    entries = [e for e in items(entries) if isinstance(e, dict) and isinstance(e.get("count"), int)]
    return sorted(entries, key=lambda e: -e["count"])[:5]


def _counted(entry):
    """'3 requests of web through live-2, 02:10:03 to 02:10:04 UTC'."""
    first, last = (_time_of_day(entry.get(key)) for key in ("first", "last"))
    when = first if first == last else f"{first} to {last}"
    return f"{entry['count']:,} requests of {line(entry.get('component'), 80)} through {line(entry.get('node'), 80)}, {when} UTC"


def _through(name, share):
    if not share.get("requests"):
        return f"requests through {name}: none were sent"
    return (f"requests through {name}: {share['requests']:,}, failed {share['failed']:,}, longest gap "
            f"{milliseconds(share['longest_gap_ms'])}, p50 {milliseconds(share['p50_ms'])}, p99 {milliseconds(share['p99_ms'])}")


def _time_of_day(at):
    at = number(at)
    return time.strftime("%H:%M:%S", time.gmtime(at)) if at is not None and 0 < at < 4e9 else "--:--:--"


def change(before, after):
    """'1.0.0-1 -> 2.0.0-1', or one version where nothing changed; ? for what was not seen."""
    return before or "?" if before == after else f"{before or '?'} -> {after or '?'}"
