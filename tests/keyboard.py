"""Whole commands as they are typed, one after another, over one world of tests.simulate: runs are opened, joined, answered,
killed, take each other's place and end. The goals, what a command joins and what it is refused are the program's own.

`session_trial` is asked by the property tests, and by hand: python3 -m tests.keyboard TRIALS [SEED].
"""

import random
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

from bgdeploy import goals, opening, records, run as running
from bgdeploy.errors import Trouble
from bgdeploy.memory import fold
from bgdeploy.model import Ask
from tests import simulate
from tests.datacentre import Killed, Notebook

TYPINGS = 60        # commands after which a run that nothing hinders must be over
NEEDS = (("api", "2"),)
WHOLE = ("deploy", "deploy", "rollout", "rollback", "back", "resume", "resume")


class Signal:
    """An Interrupt that is wanted from some call of the world's on."""

    def __init__(self, world, calls):
        self.world, self.at = world, world.calls + calls

    @property
    def wanted(self):
        return "SIGTERM" if self.world.calls >= self.at else None


class Refusal:
    """A command that was refused before it began."""

    def __init__(self, trouble):
        self.why, self.exit_code, self.step = trouble.sentence, trouble.exit_code, None
        self.next = tuple((trouble.next_command or "").split(" | "))


class Desk:
    """:param world: a World; its laws judge every act. :param policy: the site's."""

    def __init__(self, world, policy, rng):
        self.world, self.policy, self.rng, self.books, self.said, self.violations = world, policy, rng, {}, {}, []
        self.log, self.brought = [], {}     # what was typed; the run whose converge started a process
        stacks = list(dict.fromkeys(m.stack for m in world.machines))
        names = list(dict.fromkeys(i.name for m in world.machines for i in m.instances))
        self.site = SimpleNamespace(
            name="sim", policy=policy, accept=(), components=tuple(SimpleNamespace(name=name) for name in names),
            stacks=tuple(SimpleNamespace(name=s, hosts=tuple(m for m in world.machines if m.stack == s)) for s in stacks))
        self.site.stack = lambda name: next((s for s in self.site.stacks if s.name == name), None)

    def open_ones(self):
        return [(name, book.events) for name, book in self.books.items() if records.is_open(book.events)]

    def type(self, task, kill=None, signal=None, **words):
        """One command. Returns the drive's End, a Refusal, or None where the driver was killed."""
        options = {key: words.pop(key) for key in ("exclude", "floor") if words.get(key) is not None}
        self.log.append((task, words, options))
        try:
            return self.pursue(goals.Asked(task, **words), options, kill, signal)
        except Trouble as trouble:
            self.log.append(trouble.sentence)
            return Refusal(trouble)

    def pursue(self, asked, options, kill, signal):
        """As run.locked does it, without its store, files and balancers."""
        world = self.world
        seen, open_ones, site = world.look(), self.open_ones(), self.site
        joined = opening.joins(asked, open_ones, seen)
        done = tuple(("m", *need) for need in NEEDS) if world.migration["state"] == "done" else ()
        known = goals.Known(site, seen, tuple(book.events for book in self.books.values()), lambda c: ["3", "2", "1"],
                            lambda text: None, joined[1] if joined else None, "", done)
        if asked.task == "resume":
            goal = opening.goal_in(*joined)
        else:
            goal = goals.goal(asked, known)
            running.refuse_left_out(asked, goal, seen, open_ones)
        events = opening.events_of(joined)
        running.refuse_nobody(site, goal, events, options.get("exclude") or (), "--exclude")
        policy = running.policy_of(site, options, events if asked.task != "back" else ())
        name = joined[0] if joined else f"r{len(self.books) + 1}"
        if not joined:
            self.books[name] = Notebook(world)
            for m in world.machines:
                m.proved = m.taken_out = None
        for m, i in ((m, i) for m in world.machines for i in m.instances):     # another run's was live when this one first looked
            if i.by_our_converge:
                self.brought[m.name, i.name, i.start] = world.run
            i.by_our_converge = self.brought.get((m.name, i.name, i.start)) == name
        book, world.run, world.shown = self.books[name], name, {}
        book.folder = name
        self.judged_by(name, goal, policy, {**fold(events).excluded, **(options.get("exclude") or {})})
        ended = self.superseded(asked, open_ones)
        opening.begin(SimpleNamespace(site=site, by=lambda: {"user": "u"}), book, asked, goal, seen, options, joined, policy)
        if goal.only == "live":
            for m in world.machines:
                m.taken_out = None
        if kill:
            world.kill_at = world.calls + kill
        try:
            return simulate.driven(world, goal, policy, book, Signal(world, signal) if signal else None)
        except Killed:
            if world.migration["state"] == "started":
                world.migration["alive"] = False
            return None
        except simulate.Endless:
            self.violations.append(f"{asked.task}: no end within {simulate.BOUND} looks")
            return None
        finally:
            world.kill_at = None
            ended(book.events)
            self.violations += [f"{asked.task}: {sentence}" for sentence in world.broken]
            world.broken = []

    def judged_by(self, name, goal, policy, excluded):
        """The laws of this command; what was approved and left out in its run before still is."""
        before = self.said.get(name)
        rules = simulate.rules_of(goal, policy, excluded)
        if before:
            rules.approved, rules.lived, rules.may_repeat = before.approved, before.lived, before.may_repeat
            rules.proceed |= before.proceed
        self.said[name] = self.world.rules = rules
        asked = dict(policy.floor)
        self.world.floor = {c: asked.get(c, asked.get("*", n)) for c, n in self.world.default_floor().items()}

    def superseded(self, asked, open_ones):
        """As run.superseding does it: the open runs end when a new one does its first act, or had nothing to do."""
        def tell(events):
            if asked.task in running.OVER and any(e["kind"] == "doing" or e["kind"] == "ended" and e["outcome"] in
                                                  ("done", "warned") for e in events):
                for name, _ in open_ones:
                    self.books[name].events.append({"kind": "ended", "outcome": "superseded", "at": self.world.now})
        return tell

    def answer(self, choice):
        """`invoke answer` for the open run that asks last; its choice as it was typed."""
        for name, events in reversed(self.open_ones()):
            question = records.question(events)
            if question:
                self.world.rules = self.said[name]
                step = Ask(question["gate"], question["stack"], tuple(question["hosts"]), tuple(question["choices"]), "")
                choice = choice or step.choices[0]
                if choice == "exclude":
                    running.refuse_nobody(self.site, opening.goal_in(name, events), events, step.hosts, "exclude")
                self.log.append(("answer", choice, step.gate, step.hosts))
                if not simulate.answer(self.world, self.books[name], step, choice):
                    self.books[name].events.append({"kind": "ended", "outcome": "stopped", "exit_code": 4, "at": self.world.now})
                return

    # ---- somebody who types at random

    def anything(self, task=None):
        rng, stacks = self.rng, [s.name for s in self.site.stacks]
        task = task or (rng.choice(WHOLE) if rng.random() < 0.55 else rng.choice(simulate.STEPS))
        words, stack = {}, rng.choice(stacks[:2])
        if task not in ("rollout", "resume") and not (task == "rollback" and rng.random() < 0.3):
            words["stack"] = stack
        hosts = [m.name for m in self.world.machines if m.stack == stack]
        if rng.random() < 0.25 and task in ("deploy", *simulate.STEPS):
            words["hosts"] = tuple(rng.sample(hosts, 1))
        if task in ("deploy", "rollout", "converge") or task == "rollback" and rng.random() < 0.7:
            version = rng.choice(["2", "2", "2", "1", "3"])
            names = [c.name for c in self.site.components]
            words["versions"] = tuple((c, version) for c in (names if rng.random() < 0.9 else names[:1]))
            words["older"] = rng.random() < 0.5
        if task == "rollout" and rng.random() < 0.3:
            words["migration"] = SimpleNamespace(name="m", needs=NEEDS)
        if task in ("deploy", "rollout", "resume", "rollback") and rng.random() < 0.15:
            words["exclude"] = {rng.choice([m.name for m in self.world.machines]): "told"}
        if task in ("deploy", "rollout") and rng.random() < 0.15:
            words["floor"] = rng.choice([0, 1])
        kill, signal = (rng.randint(1, 60) if rng.random() < 0.2 else None for _ in range(2))
        return self.type(task, kill, signal, **words)

    def meanwhile(self):
        """Between two commands: time goes by, an answer is typed, a person flips a host."""
        for _ in range(self.rng.randint(0, 10)):
            self.world.tick()
        if self.rng.random() < 0.15:
            self.world.person(self.rng.choice(self.world.machines), self.rng.choice(["take out", "put live"]))
        if self.rng.random() < 0.6:
            try:
                self.answer(self.rng.choice([None, None, None, "exclude", "retry", "proceed", "stop"])
                            if self.asks() else None)
            except Trouble:
                pass

    def asks(self):
        return any(records.question(events) for _, events in self.open_ones())

    # ---- somebody who does what is named

    def follow(self, end):
        """What the last end names is typed; where it names nothing, the run is resumed."""
        if self.asks():
            self.answer(None)
        if end and end.next and end.next[0].endswith("--choice stop"):
            stopped = self.books[end.next[0].split()[3]]
            return stopped.events.append({"kind": "ended", "outcome": "stopped", "exit_code": 4, "at": self.world.now})
        words = re.match(r"invoke (\w+)(?: --stack (\S+))?(?: --hosts (\S+))?( --version VERSION)?$",
                         (end.next if end else ("",))[0])
        newest = tuple((c.name, "2") for c in self.site.components)
        if end and "everywhere" in end.why:     # the migration's own: whom it waits for was left out
            stack = self.world.machine(end.step.hosts[0]).stack
            return self.type("deploy", stack=stack, versions=newest, older=True)
        if end and "cannot leave LIVE" in end.why:      # of another run's hosts, that are out: all are taken on
            return self.type("rollout", versions=newest, older=True)
        if not words or words[1] in ("status", "answer", "migrate"):
            return self.type("resume")
        return self.type(words[1], stack=words[2], hosts=tuple(words[3].split(",")) if words[3] else (),
                         versions=newest if words[4] else ())

    def finish(self):
        """Once nothing is wrong any more, doing what each end names ends every run. Returns why not, or None."""
        world, touched = self.world, set()
        for name, events in self.open_ones():
            touched |= set(fold(events).taken) | set(fold(events).jobs) | {m.name for m in world.machines if world.ours(m.job)}
        simulate.mended(world, touched)
        self.site.policy = replace(self.site.policy, max_in_flight=None)
        end = None
        for _ in range(TYPINGS):
            open_ones = self.open_ones()
            if not open_ones:
                return None
            well = end and end.exit_code in (0, 6)
            if well and self.log[-1][0] == "resume":     # a run of steps by hand ends with `live`
                wants = opening.goal_in(*open_ones[-1]).wants
                end = self.type("live", stack=wants[0].stack)
            else:
                end = self.type("resume") if well else self.follow(end)
        return f"not finished after {TYPINGS} commands: {end.why if end else 'killed'}"


def session_trial(seed):
    """One world, some commands typed at random, and then those that are named until every run is over."""
    rng = random.Random(seed)
    nemesis = rng.choice(simulate.NEMESES)
    world = simulate.arbitrary_world(rng, nemesis)
    world.needs = NEEDS
    desk = Desk(world, simulate.arbitrary_policy(rng, world), rng)
    for _ in range(rng.randint(2, 7)):
        desk.anything()
        desk.meanwhile()
    unfinished = None if desk.violations else desk.finish()
    return desk, desk.violations + ([unfinished] if unfinished else [])


def main(trials, seed):
    rng, bad, acts = random.Random(seed), [], 0
    for _ in range(trials):
        one = rng.randrange(1 << 48)
        try:
            desk, violations = session_trial(one)
        except (AttributeError, KeyError, TypeError, ValueError) as error:      # an error of the program is one too
            bad.append((one, repr(error)))
            continue
        acts += len(desk.world.acts)
        if violations:
            bad.append((one, violations[0]))
    print(f"sessions {trials}  acts judged {acts}  violations {len(bad)}")
    for one, sentence in bad[:10]:
        print(f"  session_trial {one}: {sentence}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
