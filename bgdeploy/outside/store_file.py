"""The embedded store: a folder on this machine. Its lease excludes drivers on this machine only.

    lease.json  hold.json  guard        the lock, a person's freeze, and what makes changes of both atomic
    values/KEY.json                     small things remembered: pins, bad versions, durations, answers
    runs/ID.jsonl                       the copy of a run's events

Files are 0600 in folders 0700 whatever the umask; a change is on disk (fsync, then rename) before it is reported.
"""

import errno
import fcntl
import json
import os
import pwd
import secrets
from contextlib import contextmanager, suppress
from urllib.parse import quote, unquote

from bgdeploy.errors import Failed, NoAnswer, Refused
from bgdeploy.outside import lease

PATIENCE = 3.0          # seconds to wait for another process in the middle of a change; a change takes milliseconds


class Folder:
    """Reads and atomically replaces small JSON files in one folder.

    :raises Refused: the folder cannot be made or written.
    """

    def __init__(self, path):
        self.path = path
        try:
            for folder in (path, os.path.join(path, "values"), os.path.join(path, "runs")):
                _make(folder)
            probe = f"probe.{secrets.token_hex(4)}"         # of our own: many may open the store at the same moment
            self.write(probe, {})
            self.remove(probe)
        except Failed as e:
            raise Refused(_unwritable(path, e.sentence.rpartition(": ")[2])) from None
        except OSError as e:
            raise Refused(_unwritable(e.filename or path, e.strerror)) from None

    def read(self, name):
        """The JSON value of a file; None if there is none or it holds no JSON."""
        try:
            with open(os.path.join(self.path, name), "rb") as f:
                return json.loads(f.read())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            return None
        except OSError as e:
            raise NoAnswer(f"{os.path.join(self.path, name)}: cannot be read: {e.strerror}") from None

    def write(self, name, value):
        """:raises Failed: nothing is changed then."""
        path = os.path.join(self.path, name)
        temporary = f"{path}.{secrets.token_hex(4)}"
        try:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.fchmod(file, 0o600)          # an odd umask may have taken more than it should
                write_all(file, json.dumps(value, default=str).encode())
                os.fsync(file)
            finally:
                os.close(file)
            os.rename(temporary, path)
            sync_folder(os.path.dirname(path))
        except OSError as e:
            with suppress(OSError):
                os.unlink(temporary)
            raise Failed(f"{path}: cannot be written: {e.strerror}", _cure(e)) from None

    def remove(self, name):
        """:raises Failed: it is there still, or may be there again after a power failure."""
        path = os.path.join(self.path, name)
        try:
            _unlink(path)
            sync_folder(os.path.dirname(path))
        except OSError as e:
            raise Failed(f"{path}: cannot be removed: {e.strerror}") from None

    def names(self, folder, ending):
        """What the files of a folder that end so are called, without that ending, sorted."""
        try:
            listed = os.listdir(os.path.join(self.path, folder))
        except OSError as e:
            raise NoAnswer(f"{os.path.join(self.path, folder)}: cannot be read: {e.strerror}") from None
        return sorted(name[:-len(ending)] for name in listed if name.endswith(ending))

    @contextmanager
    def guarded(self):
        """Only one process or thread of this machine is inside at a time; the kernel lets go when its process dies.

        :raises NoAnswer: somebody stays inside, a process stopped in mid-change for instance.
        """
        path = os.path.join(self.path, "guard")
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as e:
            raise NoAnswer(f"{path}: cannot be opened: {e.strerror}") from None
        try:
            end = lease.boottime() + PATIENCE
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if lease.boottime() > end:
                        raise NoAnswer(f"{path}: another process has been in the middle of a change for {PATIENCE:.0f} s; "
                                       f"fuser {path} names it") from None
                    lease.pause(0.005)
                except OSError as e:            # a network file system without locks
                    raise NoAnswer(f"{path}: cannot be locked: {e.strerror}") from None
            yield
        finally:
            os.close(file)


class FileLease:
    """The lease as a file of a Folder; its ages are by CLOCK_BOOTTIME. A place as lease.py describes it."""

    shared = False

    def __init__(self, folder):
        self.folder = folder
        self.name = f"{folder.path} (this machine only)"

    def read(self):
        return _slip(self.folder.read("lease.json"))

    def put(self, old, token, holder, ttl):
        now = lease.boottime()
        with self.folder.guarded():
            found = self.read()
            if (found and (found.token, found.stamp)) != (old and (old.token, old.stamp)):
                return False
            self._write(token=token, holder=holder, ttl=ttl, boot=lease.boot_id(), taken=now, renewed=now, count=0)
            return True

    def renew(self, token, ttl):
        with self.folder.guarded():
            found = self.folder.read("lease.json")
            if not isinstance(found, dict) or found.get("token") != token:
                return False
            self._write(**{**found, "ttl": ttl, "renewed": lease.boottime(), "count": found["count"] + 1})
            return True

    def drop(self, token):
        with self.folder.guarded():
            found = self.read()
            if found is None or found.token != token:
                return False
            self.folder.remove("lease.json")
            return True

    def read_hold(self):
        found, path = self.folder.read("hold.json"), os.path.join(self.folder.path, "hold.json")
        if isinstance(found, dict) and found or not os.path.exists(path):
            return found
        return {"reason": f"a hold that cannot be read: {path}"}        # somebody froze the site: that much is known

    def put_hold(self, document):
        self.folder.write("hold.json", document)

    def drop_hold(self):
        self.folder.remove("hold.json")

    def close(self):
        """Nothing is kept open."""

    def _write(self, **document):
        try:
            self.folder.write("lease.json", document)
        except Failed as e:
            raise NoAnswer(e.sentence, e.next_command) from None


class FileRecords:
    """Events and remembered values as files of a Folder."""

    def __init__(self, folder):
        self.folder = folder

    def append(self, run, event):
        path = os.path.join(self.folder.path, "runs", f"{run}.jsonl")
        line = json.dumps(event, default=str).encode() + b"\n"
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.fchmod(file, 0o600)
                size = os.fstat(file).st_size
                torn = size and os.pread(file, 1, size - 1) != b"\n"
                write_all(file, b"\n" + line if torn else line)
                os.fsync(file)
            finally:
                os.close(file)
            if not size:
                sync_folder(os.path.dirname(path))
        except OSError as e:
            raise Failed(f"{path}: cannot be written: {e.strerror}", _cure(e)) from None

    def events(self, run):
        try:
            with open(os.path.join(self.folder.path, "runs", f"{run}.jsonl"), "rb") as f:
                lines = f.read().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as e:
            raise NoAnswer(f"{e.filename}: cannot be read: {e.strerror}") from None
        return [event for event in map(_event, lines) if event is not None]

    def runs(self):
        return self.folder.names("runs", ".jsonl")

    def since(self, first):
        """(run, event) of all runs from that one on."""
        return [(run, event) for run in self.runs() if run >= first for event in self.events(run)]

    def remember(self, key, value):
        self.folder.write(_file_of(key), {"value": value})

    def recall(self, key):
        found = self.folder.read(_file_of(key))
        return found.get("value") if isinstance(found, dict) else None

    def forget(self, key):
        self.folder.remove(_file_of(key))

    def keys(self, prefix):
        return sorted(key for key in map(unquote, self.folder.names("values", ".json")) if key.startswith(prefix))

    def close(self):
        """Nothing is kept open."""


def write_all(file, text):
    while text:
        text = text[os.write(file, text):]


def sync_folder(path):
    """Makes names that were made, changed or removed in a folder last."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _slip(document):
    if document is None:
        return None
    try:
        here = document["boot"] is not None and document["boot"] == lease.boot_id()
        now = lease.boottime()
        if not isinstance(document["holder"], dict):
            raise TypeError
        return lease.Slip(document["token"], document["holder"], 0.0 + document["ttl"], (document["count"], document["renewed"]),
                          now - document["renewed"] if here else None, now - document["taken"] if here else None)
    except (KeyError, TypeError):
        return lease.Slip("", stamp=json.dumps(document))       # not ours; it is watched for a whole ttl before it is replaced


def _event(line):
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None             # torn by a crash; what follows it stands on a line of its own
    return event if isinstance(event, dict) else None


def _file_of(key):
    return os.path.join("values", quote(key, safe="") + ".json")


def _make(folder):
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise


def _unlink(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _unwritable(path, reason):
    """The sentence for a folder that is somebody else's."""
    at = path
    while True:
        try:
            status = os.stat(at)
            break
        except OSError:
            if at == os.path.dirname(at):
                return f"{path}: cannot be written: {reason}"
            at = os.path.dirname(at)
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = f"uid {status.st_uid}"
    return (f"{path}: cannot be written: {reason}; {at} belongs to {owner} (mode {status.st_mode & 0o7777:04o}): run as {owner}, "
            f"give the folder to the user who runs bgdeploy, or name another one by store: file:PATH or BGDEPLOY_STATE")


def _cure(error):
    return "make room on that disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
