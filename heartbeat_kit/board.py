"""What all worker processes of one start share: who works, on how much, and what the balancers said. One mmap'ed file.

The file is named after the start id, so that a restarted service begins with an empty one. A worker writes the counters of
its own slot only, so counting needs no lock between processes; the tables are changed under flock. The slot of a worker
that was killed is told by pid and birth, and counts for nothing.
"""

import contextlib
import fcntl
import mmap
import os
import re
import struct
import threading
import time
from collections import namedtuple

from . import process

SLOTS, SLOT = 256, 96                   # workers, bytes: pid, born, requests, work (8 each), version
TABLE, ROW = 64, 256                    # rows a table, bytes a row
LAYOUT = "2"                            # part of the file's name: another layout never reads this one
VERSION = 64
PATIENCE = 0.5              # seconds to wait for the lock of the tables
_ROW = struct.Struct("=dqq192s40s")
_TABLES = {"balancers": SLOTS * SLOT, "doors": SLOTS * SLOT + TABLE * ROW}
_SIZE = SLOTS * SLOT + len(_TABLES) * TABLE * ROW

Worker = namedtuple("Worker", "pid requests work version")
Row = namedtuple("Row", "key at number text more")
Row.__new__.__defaults__ = (-1,)


class Board:
    """The shared memory of one start of a service.

    It opens by itself in every process that uses it, forked ones too. Where that fails (`problem` says why) nothing is
    counted, the answers say unknown, and the application goes on: a heartbeat must not break what it watches. The same,
    and `removed` says so, where the file is taken away: by the next service that begins in this directory.

    :param directory: where the file lies; best a tmpfs (systemd's RuntimeDirectory).
    """

    def __init__(self, directory, start, version):
        self.directory = directory
        self.path = os.path.join(directory, "board-%s-%s" % (LAYOUT, re.sub(r"[^A-Za-z0-9-]", "_", start)[:80]))
        self.version = version.encode()[:VERSION]
        self.problem = self.removed = None
        self._pid = None
        self._opening = threading.Lock()

    def enter(self):
        """Count one request of this worker in."""
        if self._pid != os.getpid():
            self._open()
        with self._lock:
            self._requests += 1
            self._counters[0] = self._requests

    def leave(self):
        """Count one request out. A process that the application forked in its middle does not end it."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._requests -= 1
            self._counters[0] = self._requests

    def work(self, change):
        """Count work that is not a request in (+1) or out (-1)."""
        if self._pid != os.getpid():
            self._open()
        with self._lock:
            self._work += change
            self._counters[1] = self._work

    def workers(self):
        """Every living worker that has answered something, as Worker; None if this is not known."""
        if self._pid != os.getpid():
            self._open()
        if self.problem:
            return None
        if not os.fstat(self._handle).st_nlink:         # then later workers are on another board, and are not counted here
            self.removed = "%s was removed: does another service have this name? Give each one of its own" % self.path
            return None
        found = []
        for offset in range(0, SLOTS * SLOT, SLOT):
            pid, born, requests, work = struct.unpack_from("=qqqq", self._map, offset)
            if pid and process.born(pid) == born:
                version = self._map[offset + 32:offset + 32 + VERSION]
                found.append(Worker(pid, max(0, requests), max(0, work), _text(version)))
        return found

    def rows(self, table):
        """All rows of a table, newest first."""
        with self._changing() as ready:
            return sorted((row for _, row in self._rows(table).values()), key=lambda row: -row.at) if ready else []

    def update(self, table, key, change):
        """Replace one row: change(Row or None) -> Row or None (forget it). A full table loses its oldest row."""
        with self._changing() as ready:
            if not ready:
                return
            rows = self._rows(table)
            offset, row = rows.get(key, (None, None))
            new = change(row)
            if new is None and offset is None:
                return
            if offset is None:
                free = set(range(_TABLES[table], _TABLES[table] + TABLE * ROW, ROW)) - {o for o, _ in rows.values()}
                offset = min(free) if free else min(rows.values(), key=lambda pair: pair[1].at)[0]
            new = new or Row("", 0.0, 0, "")
            _ROW.pack_into(self._map, offset, new.at, new.number, new.more, _fit(new.key, 192), _fit(new.text, 40))

    def _rows(self, table):
        found = {}
        for offset in range(_TABLES[table], _TABLES[table] + TABLE * ROW, ROW):
            at, number, more, key, text = _ROW.unpack_from(self._map, offset)
            if key[0]:
                name = _text(key)
                found[name] = (offset, Row(name, at, number, _text(text), more))
        return found

    def _open(self):
        with self._opening:
            if self._pid == os.getpid():
                return
            self._lock, self._changes = threading.Lock(), threading.Lock()
            self._requests = self._work = 0
            self._counters = [0, 0]                 # where nothing can be shared, this process counts for itself
            self.problem = None
            try:
                self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                if not self._lock_file():
                    raise OSError("another worker does not let it go")
                try:
                    if os.fstat(self._handle).st_size < _SIZE:
                        os.posix_fallocate(self._handle, 0, _SIZE)      # a full disk is told here, and is no SIGBUS later
                        self._sweep()
                    self._map = mmap.mmap(self._handle, _SIZE)
                    self._claim()
                finally:
                    fcntl.flock(self._handle, fcntl.LOCK_UN)
            except OSError as error:
                self.problem = "%s: %s" % (self.path, error.strerror or error)
            self._pid = os.getpid()

    def _claim(self):
        """Take a slot that is free or whose worker is gone. The pid goes in last: until then the slot is nobody's."""
        me = os.getpid()
        birth = process.born(me)
        if birth is None:
            raise OSError("/proc does not tell which workers live")
        for offset in range(0, SLOTS * SLOT, SLOT):
            pid, born = struct.unpack_from("=qq", self._map, offset)
            if not pid or process.born(pid) != born:
                struct.pack_into("=qqqq", self._map, offset, 0, birth, 0, 0)
                self._map[offset + 32:offset + 32 + VERSION] = self.version.ljust(VERSION, b"\0")
                struct.pack_into("=q", self._map, offset, me)
                self._counters = memoryview(self._map)[offset + 16:offset + 32].cast("q")    # one aligned store an update
                return
        raise OSError("more than %d workers" % SLOTS)

    def _sweep(self):
        """Remove the boards of earlier starts. Whoever still has one open keeps it."""
        for name in os.listdir(self.directory):
            if name.startswith("board-") and os.path.join(self.directory, name) != self.path:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.directory, name))

    @contextlib.contextmanager
    def _changing(self):
        if self._pid != os.getpid():
            self._open()
        if self.problem:
            yield False
            return
        with self._changes:                         # flock excludes other processes, not the threads of this one
            if not self._lock_file():
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _lock_file(self):
        """Take the lock that others hold for microseconds. Not for ever: a worker that was stopped while it had it must not
        stop the others' heartbeats.
        """
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
                time.sleep(0.001)


def _fit(text, size):
    return text.encode("utf-8", "replace")[:size]


def _text(field):
    return field.rstrip(b"\0").decode("utf-8", "replace")
