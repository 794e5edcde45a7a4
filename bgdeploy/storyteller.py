"""Reads a run's journal for people: which step took how long, on whom, and what of it was whose. Pure and total.

A torn journal, a missing field, an event of a newer bgdeploy: whatever is not understood is left out, nothing raises.
What the rules may remember of a run is memory.py's business and not this file's.
"""

import math

from bgdeploy.clean import line
from bgdeploy.story import STEPS, Part, Phase, Story
from bgdeploy.tolerant import excluded_of, items, mapping, names, number, pairs, seen_of, text, whole

WAITED_FOR = {"chef": "converge", "drain": "drain", "soak": "soak"}     # pool and host belong to the act before them


def tell(events):
    """Events in order -> Story. Never raises, whatever the events are."""
    reader = _Reader()
    for event in events if isinstance(events, (list, tuple)) else ():
        if isinstance(event, dict) and isinstance(event.get("kind"), str):
            reader.read(event)
    return reader.close()


class _Reader:
    def __init__(self):
        self.story, self.parts, self.open = Story(), [], None
        self.acts, self.jobs, self.shares, self.stopped, self.over = {}, {}, [], False, False

    def read(self, event):
        s, at = self.story, number(event.get("at"))
        at = s.last if at is None or not 0 < at < 4e9 or (s.last or 0) > at else at
        at = at if at is not None else 0.0
        if s.started is None:
            s.started = at
        method = getattr(self, "on_" + event["kind"], None)
        if self.over or event["kind"] in ("resumed", "joined") or event.get("outcome") == "superseded":
            gone = s.last if s.last is not None else at         # from the last event of before on nobody drove
            self.shut(gone)
            s.breaks.append((gone, at))
            self.over = False
        s.last = at
        if method:
            method(event, at)

    def on_began(self, e, at):
        s = self.story
        s.run, s.task, s.env, s.reason = (text(e.get(key)) for key in ("run", "task", "env", "reason"))
        s.by = {str(key): whole(v) if isinstance(v, int) else line(v) for key, v in mapping(e.get("by")).items()
                if isinstance(v, (str, int))} or text(e.get("by"))
        s.tasks = (s.task,) if s.task else ()
        s.started, s.versions = at, {str(k): text(v) for k, v in pairs(e.get("versions"))} or pinned(e.get("goal"))
        s.before = seen_of(e.get("seen"))
        s.detection = number(mapping(e.get("policy")).get("detection")) or s.detection
        s.excluded.update(excluded_of({"hosts": mapping(mapping(e.get("options")).get("exclude"))}))
        self.look(s.before, at)

    def on_resumed(self, e, at):
        s = self.story
        s.ended = s.outcome = s.exit_code = None
        s.why, s.next, self.stopped = "", (), False

    def on_joined(self, e, at):
        self.on_resumed(e, at)
        if text(e.get("task")):
            self.story.tasks = tuple(dict.fromkeys([*self.story.tasks, text(e["task"])]))
        self.story.versions = pinned(e.get("goal")) or self.story.versions

    def on_waiting(self, e, at):
        kind, stack = text(e.get("wait")) or "wait", text(e.get("stack")) or ""
        step = WAITED_FOR.get(kind) or next((p.step for p in reversed(self.parts) if p.kind == "act" and p.stack == stack),
                                            "hosts" if kind == "host" else "standby")
        self.begin(Part(kind, step, stack, names(e.get("hosts")), at, None, text(e.get("why")) or ""))

    def on_waited(self, e, at):
        if self.open is None or self.open.kind != text(e.get("wait")):
            self.shut(at)
            ends = [part.end for part in self.parts[-1:]] + [again for _, again in self.story.breaks[-1:]]
            self.on_waiting(e, min(at, max(self.story.started, *ends, at - (number(e.get("seconds")) or 0.0))))
        part = self.open
        part.outcome = text(e.get("outcome"))
        for host, outcome in mapping(e.get("outcomes")).items():
            by = text(mapping(e.get("counted_by")).get(host))
            said = (text(outcome) or "") + (f" (counted by {by})" if by else "")
            part.results[str(host)] = (drain_word(text(outcome) or ""), said, part.seconds)
        self.shut(at)
        if part.kind == "drain":
            for host in part.hosts:
                said = part.results.get(host) or (drain_word(part.outcome or ""), part.outcome or "")
                part.results[host] = (*said[:2], round(part.seconds, 3))

    def on_doing(self, e, at):
        part = Part("act", text(e.get("step")) or "act", text(e.get("stack")) or "", names(e.get("hosts")), at, None,
                    text(e.get("why")) or "", release=text(e.get("release")))
        self.begin(part)
        self.acts[part.step, part.stack] = part

    def on_result(self, e, at):
        key, host = (text(e.get("step")) or "act", text(e.get("stack")) or ""), text(e.get("host"))
        if key not in self.acts:
            self.on_doing(e, at)
        if host is not None:
            outcome, detail = text(e.get("outcome")) or "unknown", text(e.get("detail")) or ""
            self.acts[key].results[host] = (outcome, detail, number(e.get("seconds")))

    def on_acted(self, e, at):
        if self.open is not None and self.open.kind == "act":
            self.shut(at)

    def on_dropped(self, e, at):
        part = self.open
        if part is not None and part.kind == "act" and part.step == e.get("step") and not part.results:
            self.parts.remove(part)
            self.open = None

    def on_asked(self, e, at):
        self.begin(Part("person", "gate", text(e.get("stack")) or "", names(e.get("hosts")), at, None, text(e.get("why")) or ""))

    def on_answered(self, e, at):
        asked = next((part for part in reversed(self.parts) if part.kind == "person"), None)
        if asked is not None:
            asked.outcome = text(e.get("choice"))
            self.shut(at)

    def on_excluded(self, e, at):
        self.story.excluded.update(excluded_of(e))

    def on_warned(self, e, at):
        said = text(e.get("text"))
        if said and said not in self.story.warnings:
            self.story.warnings.append(said)

    def on_interrupted(self, e, at):
        self.shut(at)
        self.story.outcome, self.story.exit_code = "interrupted", 5
        self.story.why = f"interrupted by {text(e.get('signal')) or 'a signal'}"

    def on_watched(self, e, at):
        self.shares.append(mapping(e.get("availability")))

    def on_ended(self, e, at):
        s = self.story
        self.stopped = self.open is not None and self.open.kind not in ("person", "act")
        self.shut(at)
        self.over = True
        s.ended, s.outcome, s.exit_code = at, text(e.get("outcome")), whole(e.get("exit_code"))
        s.why, s.next = text(e.get("why")) or "", names(e.get("next"))
        self.look(seen_of(e.get("seen")), at)

    def look(self, seen, at):
        if seen is None:
            return
        self.story.after = seen
        self.story.before = self.story.before or seen
        for h in seen.hosts:
            if h.job is not None and h.job.kind == "chef" and self.story.run and h.job.run.split(".")[0] == self.story.run:
                self.jobs.setdefault(h.name, []).append((at, h.job))

    def begin(self, part):
        self.shut(part.start)
        self.parts.append(part)
        self.open = part

    def shut(self, at):
        if self.open is not None and self.open.end is None:
            self.open.end = max(at, self.open.start)
        self.open = None

    def close(self):
        s = self.story
        waiting = self.open is not None and self.open.kind == "person"
        self.shut(s.last)
        if s.outcome is None and waiting:
            s.outcome, s.exit_code = "waiting", 7
        for part in self.parts:
            last = s.phases[-1] if s.phases else None
            if last is None or (last.step, last.stack) != (part.step, part.stack) or any(
                    last.parts[-1].start < again <= part.start for _, again in s.breaks):
                s.phases.append(Phase(part.step, part.stack, [part], part.end))
            else:
                last.parts.append(part)
        for phase, follower in zip(s.phases, [*s.phases[1:], None]):
            until = follower.start if follower else s.last
            gone = [gone for gone, again in s.breaks if again > phase.parts[-1].start]     # nobody drove from there on
            phase.end = max(phase.parts[-1].end, min([until, *gone]))
        for nth, phase in enumerate(s.phases):
            self.finish(phase, s.phases[nth + 1:])
        s.availability = joined(self.shares)
        return s

    def finish(self, phase, later):
        """What was seen of Chef in this phase; and a wait that ended in a stop makes its hosts failed."""
        if phase.step == "converge":
            for host in phase.hosts:
                again = [p.start for q in later for p in q.parts if (p.kind, p.step) == ("act", "converge") and host in p.hosts]
                until = min(again, default=math.inf)
                told = [job for at, job in self.jobs.get(host, ()) if phase.start <= at <= until]
                if told:
                    phase.jobs[host] = told[-1]
        if phase.step == "converge" and self.story.exit_code in (4, 7, 8) and not any(p.step in STEPS for p in later):
            for host in phase.hosts:
                wanted = next((p.release for p in reversed(phase.parts) if p.release and host in p.hosts), None)
                old = other_versions(self.story.after, host, pinned({"wants": [{"release": wanted}]}))
                phase.old.update({host: old} if old else {})
        last = phase.parts[-1]
        if last.kind in ("pool", "chef", "host") and (last.outcome == "stopped" or (not later and self.stopped and
                                                                                   self.story.exit_code in (4, 8))):
            for host in last.hosts:
                job = phase.jobs.get(host)
                if job is None or job.state == "running":
                    last.results[host] = ("failed", self.story.why or last.why, round(phase.seconds, 3))


def joined(shares):
    """One availability from those of each driver process; None if nobody watched. Counts add up, gaps and p99 take the worst."""
    shares = [share for share in shares if share]
    if not shares:
        return None

    def together(parts, kinds=()):
        requests = [whole(p.get("requests")) or 0 for p in parts]
        middle = [(n, number(p.get("p50_ms"))) for n, p in zip(requests, parts) if number(p.get("p50_ms")) is not None and n]
        worst = {key: max((number(p.get(key)) for p in parts if number(p.get(key)) is not None), default=None)
                 for key in ("longest_gap_ms", "p99_ms")}
        return {"requests": sum(requests), "failed": sum(whole(p.get("failed")) or 0 for p in parts),
                "longest_gap_ms": worst["longest_gap_ms"],
                "p50_ms": round(sum(n * ms for n, ms in middle) / sum(n for n, _ in middle), 2) if middle else None,
                "p99_ms": worst["p99_ms"], **{key: [mapping(each) for p in parts for each in items(p.get(key))] for key in kinds}}

    balancers = {name: together([mapping(mapping(s.get("balancers")).get(name)) for s in shares], ("failures", "strays"))
                 for name in ("live", "standby")}
    return {**together(shares), "balancers": balancers}


def other_versions(seen, host, wanted):
    """What runs on a host instead of the versions wanted, as a sentence; "" where all is as wanted or nothing is known of it."""
    found = seen.host(host) if seen else None
    parts = [(c.name, wanted.get(c.name), c.release or "nothing") for c in found.components] if found and found.reachable else []
    return "; ".join(f"{name} {want} was wanted, and {runs} runs" for name, want, runs in parts if want and runs != want)


def drain_word(outcome):
    """ok | failed | unknown of a drain's named outcome, whoever it was that counted."""
    if outcome.startswith(("drained", "over")):
        return "ok"
    return "failed" if outcome.startswith(("timed-out", "stopped")) else "unknown"


def pinned(goal):
    """{component: version} that a journalled goal names, {} if it names none."""
    for want in items(mapping(goal).get("wants")):
        release = mapping(want).get("release")
        if isinstance(release, str):
            return dict(pair.split("=", 1) for pair in release.partition("@")[0].split(",") if "=" in pair)
    return {}
