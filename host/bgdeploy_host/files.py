"""Files that root keeps on this host: where they are, and writing them so that a power cut or a stranger's link does no harm."""

import contextlib
import errno
import fcntl
import json
import os
import stat

HOME = "/var/lib/bgdeploy"
RUNS = HOME + "/runs"
COOKBOOKS = HOME + "/cookbooks"
NEWEST = HOME + "/newest"           # the name of the newest run
CACHE = "/run/bgdeploy-host"
HEARTBEATS = "/var/lib/bgdeploy-heartbeat"
SERVER_ONLY = "/etc/bgdeploy/server-only"
CLIENT = "/etc/chef/client.rb"
SERVER_ONLY_SAYS = ("this host takes cookbooks only from its Chef Server (there is {}): "
                    "set chef.cookbooks: server in the inventory").format(SERVER_ONLY)


class Refused(Exception):
    """One sentence for the caller; nothing was changed."""


def root(prefix="/"):
    """:returns: a function that puts `prefix` before an absolute path: "/" on a host, a folder of its own in a test."""
    return lambda path: os.path.join(prefix, path.lstrip("/"))


def folder(path):
    """Make a folder that only root may enter, and its parents likewise. Whatever else lies there is refused."""
    if not os.path.isdir(os.path.dirname(path)):
        folder(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Refused("{} is not a folder of root's own: look who made it, and remove it".format(path))
    return path


def write(path, text, mode=0o600, folder_fd=None, owner=None):
    """Write a whole file at once: a reader sees the old one or the new one, also after a power cut.

    :param folder_fd: an open folder that `path` is relative to: for folders that somebody else may change meanwhile.
    :param owner: (uid, gid) of the new file.
    """
    beside = "{}.{}.new".format(path, os.getpid())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder_fd)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder_fd)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            if owner:
                os.fchown(handle.fileno(), *owner)
            os.fchmod(handle.fileno(), mode)
            handle.write(text if isinstance(text, bytes) else text.encode())
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(beside, path, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside, dir_fd=folder_fd)
        raise
    sync_folder(os.path.dirname(path) or ".", folder_fd)


def sync_folder(path, folder_fd=None):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path, cap=1 << 16, offset=0):
    """:returns: up to `cap` bytes of a file from `offset`, or None if there is none or it is not a plain file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as handle:
        handle.seek(offset)
        try:
            return handle.read(cap)
        except ProcessLookupError:      # a process below /proc that ended meanwhile
            return None


def read_text(path, cap=1 << 16):
    """:returns: the file's text, stripped; "" if there is none."""
    return (read(path, cap) or b"").decode("utf-8", "replace").strip()


def read_json(path, cap=1 << 20):
    """:returns: the object that the file's JSON is, or None if there is none or it is none."""
    content = read(path, cap)
    try:
        found = json.loads(content.decode("utf-8", "replace")) if content else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@contextlib.contextmanager
def alone(at):
    """One changing verb at a time on this host; waits for the other one. The lock goes with the process."""
    folder(at(CACHE))
    descriptor = os.open(at(CACHE + "/lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
