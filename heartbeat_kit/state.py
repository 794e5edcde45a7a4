"""The stored heartbeat: one small file that outlives restart, upgrade and reboot. This page is its format's only description.

PLACE    STATE_DIR/COMPONENT/state, by default /var/lib/bgdeploy-heartbeat/COMPONENT/state. The directory belongs to the
         application's user, and so does the file; its mode is 0644.
FIRST    line: the word, `live` or `standby`, and nothing else.
FURTHER  lines, all optional: key=value. Keys: boot (the boot id when it was written), since (seconds of CLOCK_BOOTTIME when
         this word began), at (the same moment as seconds since the epoch), by, why, run. Unknown keys are left alone.
READING  needs no lock. No file, an unreadable file, or any other first line is `standby`.
WRITING  holds flock(LOCK_EX) on the *directory*, writes `state.new` beside the file (removed first, created with O_EXCL),
         fsyncs it, renames it over `state`, fsyncs the directory. root gives the file to the directory's owner.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections import namedtuple

from . import process

LIVE, STANDBY = "live", "standby"
WORDS = (LIVE, STANDBY)
LARGEST = 4096              # bytes read of a state file
PATIENCE = 3.0              # seconds to wait for another flip that holds the lock

Stored = namedtuple("Stored", "word since at boot by why run note")
Stored.__doc__ = """What the file says. `word` is always one of the two; `note` tells why it is standby without being told so."""

NOTHING = Stored(STANDBY, None, None, "", "", "", "", "")


class Busy(OSError):
    """Another flip held the lock for longer than PATIENCE; nothing was changed."""


def parse(text):
    """The file's text -> Stored. Never raises: what is not exactly a known word is standby."""
    first, _, rest = text.partition("\n")
    if first not in WORDS:
        return NOTHING._replace(note="the state file does not begin with live or standby")
    found = dict(line.split("=", 1) for line in rest.split("\n") if "=" in line)
    return Stored(first, _number(found.get("since")), _number(found.get("at")), found.get("boot", ""), found.get("by", ""),
                  found.get("why", ""), found.get("run", ""), "")


def render(stored):
    """Stored -> the file's text."""
    pairs = [("boot", stored.boot), ("since", stored.since), ("at", stored.at), ("by", stored.by), ("why", stored.why),
             ("run", stored.run)]
    return stored.word + "\n" + "".join("%s=%s\n" % (key, line(str(value))) for key, value in pairs if value not in (None, ""))


def line(text, longest=200):
    """Any text as one harmless line: no control characters, capped."""
    return "".join(c if c.isprintable() else " " for c in text)[:longest].strip()


class State:
    """The stored heartbeat of one component.

    :param directory: STATE_DIR/COMPONENT; must exist to be written to.
    :param after_boot: "keep": a reboot changes nothing, so that a site that lost power comes back by itself;
        "standby": a `live` from before this boot counts as standby until somebody says live again.
    """

    def __init__(self, directory, after_boot="keep"):
        self.directory = directory
        self.file = os.path.join(directory, "state")
        self.after_boot = after_boot
        self._known = None

    def problem(self):
        """Why no word could be stored here, or None."""
        if os.path.isdir(self.directory) and os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            return None
        return "%s is no folder that this service can write to: no flip can be stored" % self.directory

    def read(self):
        """What is stored, as Stored. Never raises, never waits."""
        try:
            with open(self.file, "rb") as file:
                stored = parse(file.read(LARGEST).decode("utf-8", "replace"))
        except FileNotFoundError:
            return NOTHING._replace(note="no state file: standby by default")
        except OSError as error:
            return NOTHING._replace(note="cannot read the state file: %s" % error.strerror)
        if stored.word == LIVE and self.after_boot == STANDBY and stored.boot != process.boot_id():
            return stored._replace(word=STANDBY, since=None, note="live before this boot, and after_boot says standby")
        return stored

    def glance(self):
        """The word alone, for the way of every request: one stat() while nobody changes the file.

        Two flips within one tick of the file system's clock could go unnoticed here, so answers about the heartbeat use read().
        """
        try:
            found = os.stat(self.file)
        except OSError:
            return self.read()
        mark = (found.st_mtime_ns, found.st_ino, found.st_size)
        known = self._known
        if known is not None and known[0] == mark:
            return known[1]
        stored = self.read()
        self._known = None if stored.note else (mark, stored)      # one that could not be read (no descriptor left) may be soon
        return stored

    def set(self, word, by="", why="", run="", check=None):
        """Store a word; return the new Stored once file and directory are on disk.

        The time of the last *change* is kept when the word stays the same.

        :param check: called with the lock held; what it raises stops the flip.
        :raises OSError: not stored (Busy: another flip was in the way). After a failed fsync the word may have changed
            without being safe from a power cut; a caller reads again.
        """
        with self._locked() as directory:
            if check:
                check()
            old, boot = self.read(), process.boot_id()
            same = old.word == word and old.boot == boot and old.since is not None
            new = Stored(word, old.since if same else round(process.uptime(), 3), old.at if same else round(time.time(), 3), boot,
                         line(by), line(why), line(run), "")
            self._write(directory, render(new).encode())
            return new

    def _write(self, directory, content):
        new = self.file + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with open(handle, "wb") as file:
                os.fchmod(handle, 0o644)
                if os.geteuid() == 0:
                    owner = os.fstat(directory)
                    os.fchown(handle, owner.st_uid, owner.st_gid)
                file.write(content)
                file.flush()
                os.fsync(handle)
            os.rename(new, self.file)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        os.fsync(directory)

    @contextlib.contextmanager
    def _locked(self):
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise Busy(errno.EBUSY, "another flip holds the lock of %s" % self.directory)
                    time.sleep(0.01)
            yield directory
        finally:
            os.close(directory)


def age(stored):
    """Seconds since this word began, or None. Across a reboot by the wall clock, and at least since the boot."""
    if stored.since is None:
        return None
    if stored.boot == process.boot_id():
        return max(0.0, process.uptime() - stored.since)
    return max(process.uptime(), time.time() - stored.at if stored.at is not None else 0.0)


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
