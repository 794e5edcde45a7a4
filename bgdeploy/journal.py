"""A run's journal: append-only JSON lines, on disk before the effect that they announce. The only file that writes it.

A last line torn by a crash is not an event; whatever follows a torn line starts on a line of its own.
"""

import errno
import json
import os
import pwd
import secrets
import time
from datetime import datetime, timezone

from bgdeploy.errors import Refused, Unwritable

DENIED = (errno.EACCES, errno.EPERM)
KINDS = {"kind": str, "n": int, "at": (int, float), "hosts": (list, dict), "choices": list, "next": list,
         **dict.fromkeys(("by", "goal", "options", "policy", "seen", "evidence"), dict)}


def new_id(now=None):
    """A run's id: sorts by time, usable as file name, systemd unit name and argument."""
    return datetime.fromtimestamp(now or time.time(), timezone.utc).strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)


class Journal:
    """:param folder: of this run; made if missing (0700).
    :param clock: () -> seconds since the epoch that never go back.
    :param tellers: callables that get each event after it is on disk (console, shared store).
    :param copy: the run's events as a shared store has them; those that this folder lacks are written down here first.
    """

    def __init__(self, folder, clock, tellers=(), copy=()):
        self.folder, self.clock, self.tellers = folder, clock, list(tellers)
        self.path = os.path.join(folder, "journal.jsonl")
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self.events = read(self.path)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")
            self._sync(folder)
        except OSError as e:
            path = e.filename or folder
            whose = f"; {owned(path)}, you are {user(os.geteuid())}: let its owner share it" if e.errno in DENIED else ""
            raise Refused(f"{path}: the journal cannot be written: {e.strerror}{whose}",
                          "put that right, or set BGDEPLOY_STATE to a folder that can be written") from None
        self._torn = False
        last = max([event.get("n", 0) for event in self.events], default=0)
        for event in copy:
            if event.get("n", 0) > last:
                self._append(event)

    def write(self, kind, **fields):
        """Append one event, fsynced; then tell it. Returns the event (a dict).

        :raises Unwritable: a full disk, say; no act may follow.
        """
        last = max([event.get("n", 0) for event in self.events[-1:]], default=0)
        event = {"n": max(last, len(self.events)) + 1, "at": round(self.clock(), 3), "kind": kind, **fields}
        self._append(event)
        for tell in self.tellers:
            tell(event)
        return event

    def _append(self, event):
        line = b"\n" * self._torn + json.dumps(event, ensure_ascii=True, default=str).encode() + b"\n"
        self._torn = True           # until it is whole and on disk
        try:
            while line:
                line = line[os.write(self._file, line):]
            os.fsync(self._file)
        except OSError as e:
            after = "then invoke resume" if any(one["kind"] == "doing" for one in self.events) else "or set BGDEPLOY_STATE"
            raise Unwritable(f"{self.path}: the journal cannot be written: {e.strerror}", f"make room there, {after}") from None
        self._torn = False
        self.events.append(event)

    def close(self):
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @staticmethod
    def _sync(folder):
        for path in (folder, os.path.dirname(folder)):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def owned(path):
    """Whose the path is, or the nearest folder above it that is there."""
    while path and path != "/" and not os.path.exists(path):
        path = os.path.dirname(path)
    return f"{path or '.'} belongs to {user(os.stat(path or '.').st_uid)}"


def user(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def read(path):
    """Events of a journal file in order; [] if there is none. Lines that hold no event are skipped."""
    try:
        with open(path, "rb") as lines:
            return list(_events(lines))
    except FileNotFoundError:
        return []


def first(path):
    """The first event of a journal file, or None; the rest is not read."""
    try:
        with open(path, "rb") as lines:
            return next(_events(lines), None)
    except FileNotFoundError:
        return None


def _events(lines):
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and "kind" in event and _of_known_kinds(event):
            yield event


def _of_known_kinds(event):
    """Are the fields that rules reckon with of the kind that they are written in?"""
    return all(event.get(name) is None or isinstance(event[name], kind) for name, kind in KINDS.items()) and (
        abs(event.get("at") or 0) < 1e12 and isinstance((event.get("options") or {}).get("exclude") or {}, dict))


def monotonic_clock():
    """A clock in epoch seconds that never goes back, even if somebody sets the machine's clock in mid-run."""
    start, zero = time.time(), time.monotonic()
    return lambda: start + (time.monotonic() - zero)
