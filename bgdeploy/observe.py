"""Ask every port once, in parallel, and fold the answers into one Seen. Never decides, never changes anything.

An answer that does not come in time is unknown, and delays nobody else. The folding (`host_seen`) is pure.
"""

import queue
import threading
import time
from dataclasses import dataclass, replace

from bgdeploy.errors import Trouble
from bgdeploy.model import DOWN, NO, YES, ComponentSeen, HostSeen, Seen

LOOK = 10.0             # seconds for one look; the first one, which opens all connections, may take FIRST
FIRST = 30.0
MOST_AT_ONCE = 256      # waiting threads, not work: a host that hangs keeps its own


@dataclass(frozen=True)
class Ports:
    """What observe asks. Functions of the real ports, or a fake's.

    :param look: (shell, site, host, limit=) -> chef.HostFacts. :param read: (site, host, component, shell) -> heartbeat.Answer.
    :param pool: (nodes, answer, component, host) -> yes | no | moving | None. :param told: likewise -> text: each node's word.
    """

    look: object
    read: object
    pool: object
    told: object = None


class Observer:
    """Looks again and again: keeps its threads, and remembers since when an instance gives no answer.

    :param site: site.Site. :param shell: ssh.Shell. :param ports: Ports.
    :param clock: monotonic seconds; :param now: seconds since the epoch, for Seen.at.
    """

    def __init__(self, site, shell, ports, clock=time.monotonic, now=time.time):
        self._site, self._shell, self._ports, self._clock, self._now = site, shell, ports, clock, now
        self._crew = _Crew(min(MOST_AT_ONCE, sum(1 + 2 * len(host.components) for host in site.hosts)))
        self._asked = {}            # question -> the _Question that is still under way from an earlier look
        self._mute = {}             # (host, component) -> (started, since when it gives no valid answer)
        self._looked = False
        self.troubles = {}          # host -> the sentence why it did not answer at the last look

    def look(self, limit=None, hosts=None):
        """One look at the whole site, or at the named hosts. Takes at most `limit` seconds (default 10, the first time 30).

        :returns: model.Seen. Never raises for what a host does; a wrong inventory or ssh_config is BadInput.
        """
        limit = limit or (LOOK if self._looked else FIRST)
        until = self._clock() + limit
        chosen = [host for host in self._site.hosts if hosts is None or host.name in hosts]
        asked = {}
        for host in chosen:
            asked[host.name, None] = self._ask((host.name, None), self._facts, host, limit)
            for name in host.components:
                asked[host.name, name] = self._ask((host.name, name), self._heartbeat, host, name)
        answers = {key: question.answer(until - self._clock()) for key, question in asked.items()}
        self._ask_inside(chosen, answers, until)
        self._looked = True
        return Seen(self._now(), tuple(self._fold(host, answers) for host in chosen))

    def close(self):
        """Let the threads go. One that still waits for a host ends by itself."""
        self._crew.close()

    def _ask(self, key, function, *arguments):
        """Put the question, unless the one from an earlier look is still unanswered: then there is no answer this time."""
        earlier = self._asked.get(key)
        if earlier and not earlier.done.is_set():
            return _Question.LOST
        question = _Question(function, arguments)
        self._asked[key] = question
        self._crew.put(question)
        return question

    def _facts(self, host, limit):
        return self._ports.look(self._shell, self._site, host, limit=max(1.0, limit - 0.5))

    def _heartbeat(self, host, name):
        return self._ports.read(self._site, host, self._site.component(name), self._shell)

    def _ask_inside(self, hosts, answers, until):
        """Whoever runs and gave no valid answer is asked on the host itself, over SSH: a firewall in between is no sickness."""
        asked = {}
        for host in hosts:
            facts = answers[host.name, None][0]
            for name in host.components:
                answer, component = answers[host.name, name][0], self._site.component(name)
                runs = facts is not None and facts.services.get(name, (None,))[0] == "active"
                if runs and answer is not None and answer.state is None and component.heartbeat.via != "ssh":
                    inside = replace(component, heartbeat=replace(component.heartbeat, via="ssh"))
                    asked[host.name, name] = self._ask((host.name, name, "inside"), self._ports.read, self._site, host, inside,
                                                       self._shell)
        for key, question in asked.items():
            inside, outside = question.answer(until - self._clock())[0], answers[key][0]
            if inside is not None and inside.state is not None:
                answers[key] = (replace(inside, why=f"it answers only on the host itself: {outside.why}"), None)

    def _fold(self, host, answers):
        facts, trouble = answers[host.name, None]
        if isinstance(trouble, Trouble) and trouble.exit_code == 2:
            raise trouble
        self.troubles.pop(host.name, None)
        if facts is None:
            sentence = getattr(trouble, "sentence", None) or str(trouble or "")
            self.troubles[host.name] = sentence or f"{host.name}: no answer in time"
        heard = {name: answers[host.name, name][0] for name in host.components}
        mute = {name: self._mute_for(host.name, name, facts, heard[name]) for name in host.components}
        return host_seen(self._site, host, facts, heard, mute, self._ports, self.troubles.get(host.name, ""))

    def _mute_for(self, host, name, facts, answer):
        """For how many seconds this process has run without a valid answer; 0 when it answers or does not run."""
        key, now = (host, name), self._clock()
        active, started = facts.services.get(name, (None, None)) if facts else (None, None)
        if facts is None:
            return 0.0              # whether it runs is not known now; what was remembered stays
        if active != "active" or (answer is not None and answer.state is not None):
            self._mute.pop(key, None)
            return 0.0
        if answer is None:          # our own look was too slow: says nothing about the instance
            return 0.0
        known, since = self._mute.get(key, (None, None))
        if known != started or since is None:
            self._mute[key] = (started, now)
            return 0.0
        return now - since


def host_seen(site, host, facts, answers, mute, ports, trouble=""):
    """What one host's answers together say. Pure.

    :param facts: chef.HostFacts, or None: SSH did not answer (`trouble` says why).
    :param answers: {component: heartbeat.Answer or None}. :param ports: Ports; its `pool` is asked.
    :param mute: {component: seconds without a valid answer although its service runs}.
    :returns: model.HostSeen.
    """
    components = tuple(_component_seen(site, host, name, facts, answers.get(name), mute.get(name, 0.0), ports, trouble)
                       for name in host.components)
    return HostSeen(host.name, host.stack, facts is not None, components, facts and facts.job, facts and facts.boot)


def _component_seen(site, host, name, facts, answer, mute, ports, trouble):
    component = site.component(name)
    active, started = facts.services.get(name, (None, None)) if facts else (None, None)
    installed = facts.packages.get(name) if facts else None
    valid = answer is not None and answer.state is not None
    # activating, too: a unit that restarts for ever may answer for a moment, and must still count as down
    if active in ("failed", "activating") or (active in ("inactive", "missing") and not valid):
        return ComponentSeen(name, DOWN, None, None, NO, NO, 0, False, installed, f"its service is {active}")
    seen = ComponentSeen(name, started=started, installed=installed)
    if not valid:
        sick = active == "active" and mute > site.live.detection
        why = answer.why if answer is not None else f"the heartbeat of {name} on {host.name} was not read in time"
        return replace(seen, sick=sick, release=answer and answer.version, note="; ".join(filter(None, (why, trouble))))
    notes = [text for text in (answer.why, trouble) if text]
    if active in ("inactive", "missing"):
        # something answers in the place of a service that does not run: neither down nor proved to be anything
        return replace(seen, started=None, note=f"it answers {answer.state} although its service is {active}")
    if answer.started and started and answer.started != started:
        notes.append(f"the process that answers (start {answer.started}) is not the service's (start {started})")
        started = None
    elif facts is None:
        started = answer.started
    release = answer.version
    if release is None and facts and component.heartbeat.by_package:
        release = installed or None         # an app without any version of its own: the package database is all there is
        if name in facts.older:
            release = None
            notes.append(f"{installed} was installed after its process had begun: which version runs is not known")
    (live, live_nodes), (standby, standby_nodes) = (_pool(ports, side.nodes, answer, name, host.name)
                                                    for side in (site.live, site.standby))
    return replace(seen, heartbeat=answer.state, release=release, started=started, sessions=answer.in_flight,
                   counted_by=answer.counted_by, note="; ".join(notes), since_age=answer.since_age,
                   live_pool=live, live_nodes=live_nodes, standby_pool=standby, standby_nodes=standby_nodes)


def _pool(ports, *about):
    """What a balancer says, and where its nodes do not agree, or one is silent, what each says."""
    word = ports.pool(*about)
    return word, ports.told(*about) if ports.told and word not in (YES, NO) else ""


class _Question:
    """A question under way: its answer, or the exception instead."""

    def __init__(self, function, arguments):
        self._function, self._arguments = function, arguments
        self.done, self._answer = threading.Event(), (None, None)

    def put(self):
        try:
            self._answer = (self._function(*self._arguments), None)
        except Exception as error:      # whatever a port does is an answer that did not come; it must not end the thread
            self._answer = (None, error)
        self.done.set()

    def answer(self, seconds):
        """(answer, None) or (None, exception), or (None, None) if it does not come in time."""
        return self._answer if self.done.wait(max(0.0, seconds)) else (None, None)


_Question.LOST = _Question(None, ())       # what is put to a host that still owes an earlier answer
_Question.LOST.done.set()


class _Crew:
    """Threads that wait for hosts. Daemons: one that still hangs must not keep the driver from ending."""

    def __init__(self, most):
        self._most, self._threads, self._idle, self._lock = max(1, most), 0, 0, threading.Lock()
        self._queue = queue.SimpleQueue()

    def put(self, question):
        with self._lock:
            grow = self._idle <= self._queue.qsize() and self._threads < self._most
            self._threads += grow
        self._queue.put(question)
        if grow:
            threading.Thread(target=self._work, daemon=True, name="observe").start()

    def close(self):
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)

    def _work(self):
        while True:
            with self._lock:
                self._idle += 1
            question = self._queue.get()
            with self._lock:
                self._idle -= 1
            if question is None:
                return
            question.put()
