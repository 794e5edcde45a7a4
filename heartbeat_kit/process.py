"""What a process can know of itself and of its machine: boot, uptime, start id, who is alive. Linux; reads /proc only."""

import functools
import hashlib
import multiprocessing
import os
import time

BOOTTIME = getattr(time, "CLOCK_BOOTTIME", 7)       # named only since Python 3.7; 7 is Linux's number for it


def uptime():
    """Seconds since the machine booted, suspend included. One clock for every age: nobody can set it, all processes share it."""
    return time.clock_gettime(BOOTTIME)


@functools.lru_cache(maxsize=None)
def boot_id():
    """The id of this boot (another one after every reboot), or "" where the machine does not tell. No process outlives it."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def born(pid):
    """When a process began, in clock ticks since boot; None if it does not run (a zombie does not).

    With the pid it names one process for ever: a pid alone is given out again.
    """
    fields = _read("/proc/%d/stat" % pid).rpartition(")")[2].split()      # the name in brackets may hold spaces and brackets
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else None


def start_id():
    """The id that all worker processes of one start of the service share.

    systemd's INVOCATION_ID. Without systemd: made of the process that is the service, which is the parent for workers that
    multiprocessing started (uvicorn, hypercorn), else the eldest ancestor that runs the same command line (gunicorn, uWSGI).
    """
    given = os.environ.get("INVOCATION_ID", "").strip()
    if given:
        return given
    pid = _service()
    return hashlib.sha256(("%s %d %s" % (boot_id(), pid, born(pid))).encode()).hexdigest()[:32]


def _service():
    parent = getattr(multiprocessing, "parent_process", lambda: None)()   # since Python 3.8
    if parent is not None:
        return parent.pid
    pid, command = os.getpid(), _read("/proc/self/cmdline")
    while True:
        above = _parent(pid)
        if not above or _read("/proc/%d/cmdline" % above) != command:
            return pid
        pid = above


def _parent(pid):
    fields = _read("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""
