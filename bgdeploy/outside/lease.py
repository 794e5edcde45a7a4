"""The one lease of a site, wherever it lies: who may drive, until when, and how a driver knows that it may no longer.

A *place* (a folder, a collection, a file on another host) holds one slip and changes it atomically:
    read() -> Slip | None
    put(old, token, holder, ttl) -> bool      replaces exactly `old` (None: nothing lies there), as of its last renewal
    renew(token, ttl) -> bool                 False: the slip is not ours any more
    drop(token) -> bool                       removes the slip only if it bears this token
All of them raise NoAnswer within seconds. Ages are told by one clock, the place's own; never by two wall clocks.
"""

import getpass
import os
import secrets
import select
import socket
import threading
import time
from dataclasses import dataclass, field

from bgdeploy import clean
from bgdeploy.errors import NoAnswer, Refused, Trouble

TTL = 30.0          # seconds for which a lease holds without being renewed
PACE = 1.0          # seconds between two looks of somebody who waits
FRESH = 1.0         # seconds for which a renewal needs no second look
RACES = 50          # times that somebody may have been faster: contenders lose once each, a place that never says yes is broken
_SHOWN = ("who", "host", "pid", "build_url", "since", "why", "run", "task")


@dataclass(frozen=True)
class Slip:
    """What lies at the place.

    :param stamp: differs after each renewal; compared, never read.
    :param quiet: seconds since the last renewal, None where no clock can tell.
    :param age: seconds since it was taken, likewise.
    :param sure: `quiet` is by a clock that cannot be set.
    """

    token: str
    holder: dict = field(default_factory=dict)
    ttl: float = TTL
    stamp: object = None
    quiet: float = None
    age: float = None
    sure: bool = True


class Lease:
    """The right to drive. Lost as soon as it could not be renewed in time, and then never ours again.

    As a context it keeps itself and lets go at the end, whatever the end is.
    """

    def __init__(self, place, token, holder, ttl, confirmed, clock):
        self.place, self.token, self.holder, self.ttl = place, token, holder, ttl
        self._confirmed, self._clock = confirmed, clock
        self._lost = self._released = False
        self._keeper = None

    def renew(self):
        """Asks for another ttl. False: somebody else has the lock, or it was freed; this lease is over.

        :raises NoAnswer: the place is silent; the lease goes on until its time is over.
        """
        asked = self._clock()
        if self._over():
            return False
        if not self.place.renew(self.token, self.ttl):
            self._lost = True
            return False
        self._confirmed = max(self._confirmed, asked)
        return True

    def mine(self):
        """May the next act begin? Never raises. A sixth of the ttl is kept back: an act's own requests must end within it.

        Judged by CLOCK_BOOTTIME, which goes on while the machine sleeps and nobody can set; where the last renewal is more
        than a second old, by asking the place as well, so that a lock taken over is noticed before the act.
        """
        if self._clock() - self._confirmed > FRESH:
            try:
                self.renew()
            except Trouble:
                pass                    # silent: what counts is how long ago it last said yes
        return not self._over() and self.left() > 0

    def left(self):
        """Seconds for which acts may still begin without another renewal."""
        return self._confirmed + self.ttl * 5 / 6 - self._clock()

    def keep(self):
        """Renews three times in a ttl from a thread of its own, until released or lost. Returns the lease."""
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="lease", daemon=True)
            self._keeper.start()
        return self

    def release(self):
        """Lets go of it. False: it was not ours any more, or the place is silent (then it ends by itself). Never raises."""
        if self._released:
            return True
        self._released = True
        try:
            return self.place.drop(self.token)
        except Trouble:
            return False

    def __enter__(self):
        return self.keep()

    def __exit__(self, *_):
        self.release()

    def _over(self):
        if self._clock() - self._confirmed > self.ttl:
            self._lost = True           # for good, even if nobody has taken it since
        return self._lost or self._released

    def _keep(self):
        due = self.ttl / 3
        while not self._over():
            pause(min(0.2, due / 5))       # short, so that a process which ends does not wait for us
            if self._clock() - self._confirmed < due:
                continue
            try:
                self.renew()
            except Trouble:
                pause(min(PACE, due / 2))


def take(place, holder, ttl=TTL, wait=0.0, say=None, over=False, hold=lambda: None, clock=None, what="the lock"):
    """Takes the lease.

    :param holder: who, why, run, task...; host, pid, build URL and since are filled in.
    :param wait: seconds for which somebody else's lease is waited for.
    :param say: called with a sentence when a wait begins, once a minute, and when a lease that nobody holds is taken over.
    :param over: take it also from a living holder, who then finds out at its next look.
    :param hold: () -> the sentence of a person's hold, or None; never waited for, never taken over.
    :param what: its name in sentences.
    :raises Refused: somebody holds it, or a person froze the site. :raises NoAnswer: the place does not answer.
    """
    clock, say = clock or boottime, say or (lambda sentence: None)
    holder, token = {**myself(), **holder}, secrets.token_hex(12)
    began, told, watched, lost = clock(), None, {}, 0
    while True:
        _not_held(hold)
        asked = clock()
        slip = place.read()
        free = slip is None or over or dead(slip.holder) or _run_out(slip, watched, asked)
        try:
            taken = free and place.put(slip, token, holder, ttl)
            if taken:
                _not_held(hold)
        except BaseException:       # also a signal in the middle of it, or an answer that was lost: it may be ours by now
            _dropped(place, token)
            raise
        if taken:
            lease = Lease(place, token, holder, ttl, asked, clock)
            if slip is not None:
                say(f"took over {what} of {person(slip)}" + ("" if over else ", who is gone"))
            return lease
        if free:
            lost = _beaten(lost, what)
            continue                    # somebody was faster: look who
        doubtful = (slip.quiet is None or slip.quiet > slip.ttl) and not _renewed(slip, watched)
        if not doubtful and asked - began >= wait:
            raise Refused(f"{what} is held by {person(slip)}; " + (f"waited {spoken(wait)}" if wait else "--wait waits for it"),
                          "invoke status")
        if told is None or asked - told >= 60:
            told = asked
            say(f"{what} of {person(slip)} " + ("is being watched: nobody may have renewed it" if doubtful else "is waited for"))
        pause(min(PACE, slip.ttl / 10) if doubtful else min(PACE, max(0.05, wait - (asked - began))))


def _dropped(place, token):
    """Lets go of what may have been taken; a place that is silent ends it by itself."""
    try:
        place.drop(token)
    except Trouble:
        pass


def unlock(place, say=None, clock=None):
    """Removes a lease that nobody holds. Returns the sentence of whom it was, or None if there was none.

    :raises Refused: its holder lives, as far as can be known.
    """
    clock, say, watched, told, lost = clock or boottime, say or (lambda sentence: None), {}, False, 0
    while True:
        slip = place.read()
        if slip is None:
            return None
        if alive_here(slip.holder):
            raise Refused(f"the lock is held by {person(slip)}, and that process lives on this machine",
                          f"wait for it, or end it: kill {slip.holder['process']['pid']}")
        if dead(slip.holder) or _run_out(slip, watched, clock()):
            if place.drop(slip.token):
                return person(slip)
            lost = _beaten(lost, "the lock")
            continue
        if slip.quiet is not None and slip.quiet <= slip.ttl or _renewed(slip, watched):
            when = "a moment" if slip.quiet is None else spoken(slip.quiet)
            raise Refused(f"the lock is held by {person(slip)}, who renewed it {when} ago",
                          "wait for it, or ask its owner; it ends by itself when nobody renews it")
        if not told:
            told = True
            say(f"the lock of {person(slip)} is being watched: nobody may have renewed it")
        pause(min(PACE, slip.ttl / 10))


def shown(slip):
    """The lease as status prints it: a dict of plain values, or None."""
    if slip is None:
        return None
    holder = {key: clean.line(slip.holder[key], 200) if isinstance(slip.holder[key], str) else slip.holder[key]
              for key in _SHOWN if slip.holder.get(key) is not None}
    gone = True if dead(slip.holder) else None if slip.quiet is None else slip.quiet > slip.ttl
    return {**holder, "age": slip.age, "quiet": slip.quiet, "expired": gone, "text": person(slip)}


def person(slip):
    """'ann on ci-3 (pid 4711), rollout, run 2024..., for 3 min: TICKET-12'"""
    h = {key: clean.line(slip.holder.get(key) or "", 200) for key in _SHOWN}
    text = f"{h['who'] or 'somebody'} on {h['host'] or 'an unknown machine'}"
    text += f" (pid {h['pid']}{', ' + h['build_url'] if h['build_url'] else ''})" if h["pid"] else ""
    text += "".join(f", {part}" for part in (h["task"], f"run {h['run']}" if h["run"] else "",
                                             f"since {h['since']}" if h["since"] else "") if part)
    text += f", for {spoken(slip.age)}" if slip.age is not None else ""
    return text + (f": {h['why']}" if h["why"] else "")


def spoken(seconds):
    """A duration as a person says it."""
    seconds = max(0, seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def boottime():
    """Seconds since this machine booted, sleep included: CLOCK_BOOTTIME.

    Read from /proc, where nothing can bend it: libfaketime, which people use to try clocks that differ, shifts the system
    call's answer by default (measured, 0.9.10), and the lease of a living holder would look years old.
    """
    try:
        with open("/proc/uptime", encoding="ascii") as f:
            return float(f.read().split()[0])
    except OSError:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def pause(seconds):
    """Sleeps for a span, never until a moment: libfaketime bends the latter, and Python 3.11's time.sleep does it (measured)."""
    select.select([], [], [], max(0.0, seconds))


def boot_id():
    """Differs after each boot; the same in all containers of a machine. None where it cannot be read."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return None


def myself():
    """Who takes the lease: for people, and under `process` for telling whether that very process still lives."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = f"uid {os.getuid()}"
    pid = os.getpid()
    return {"who": who, "host": socket.gethostname(), "pid": pid, "build_url": os.environ.get("BUILD_URL"),
            "since": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
            "process": {"boot": boot_id(), "space": _pid_space(), "pid": pid, "start": _start_of(pid)}}


def dead(holder):
    """Is the process that took it surely gone? Only ever true on its own machine and in its own process space."""
    process = holder.get("process")
    return _ours(process) and _start_of(process["pid"]) != process["start"]


def alive_here(holder):
    """Does the process that took it live on this machine?"""
    process = holder.get("process")
    return _ours(process) and _start_of(process["pid"]) == process["start"]


def _ours(process):
    return (isinstance(process, dict) and isinstance(process.get("pid"), int) and process.get("start") is not None
            and process.get("boot") is not None and process["boot"] == boot_id()
            and process.get("space") is not None and process["space"] == _pid_space())


def _pid_space():
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _start_of(pid):
    """The kernel's start time of a process, in ticks since boot; None if it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    return int(fields[19]) if fields[0] not in (b"Z", b"X") else None


def _run_out(slip, watched, now):
    """Has its time passed without a renewal? Where the age is by a clock that can be set, it must also have lain still
    under our eyes for half a ttl, in which a living holder renews; where there is no age, for more than a whole one."""
    if slip.quiet is not None and slip.quiet <= slip.ttl:
        return False
    if slip.quiet is not None and slip.sure:
        return True
    since = watched.setdefault((slip.token, slip.stamp), now)
    return now - since > (slip.ttl / 2 if slip.quiet is not None else slip.ttl * 7 / 6)


def _renewed(slip, watched):
    """Has it been renewed under our eyes? Then its holder lives, whatever the clocks say: a machine that shares the folder."""
    return any(token == slip.token and stamp != slip.stamp for token, stamp in watched)


def _beaten(times, what):
    """Counts a change that came to nothing because the slip was another one by then."""
    if times >= RACES:
        raise NoAnswer(f"{what} could not be changed {times} times in a row, though nobody is seen to hold it", "invoke status")
    pause(0.01 * times)
    return times + 1


def _not_held(hold):
    sentence = hold()
    if sentence:
        raise Refused(sentence, "invoke unhold")
