"""The lab's control groups: by them everything that belongs to a lab is found, frozen and killed.

Works on both layouts: version 2 alone in /sys/fs/cgroup (a machine whose first process is systemd), and version 2 beside
version 1 (`unified` and the named hierarchy `systemd`). A name is a path below the top, such as "bgdeploy-lab-x/green-1".
"""

import contextlib
import os
import pathlib
import subprocess
import time

TOP = pathlib.Path("/sys/fs/cgroup")
PURE = (TOP / "cgroup.controllers").exists()
TREES = [TOP] if PURE else [TOP / name for name in ("unified", "systemd") if (TOP / name).is_dir()]


def home(unit):
    """The lab's own cgroup. Under systemd it is the scope in which systemd-run delegates a tree to us."""
    return f"system.slice/{unit}.scope" if by_systemd() else unit


def by_systemd():
    """Whether systemd keeps this machine's tree, so that a part of it has to be asked for."""
    return PURE and os.path.isdir("/run/systemd/system")


def enter(name):
    """The calling process moves into this cgroup, made if need be. A "0" means the writer, whatever its pid namespace."""
    for tree in TREES:
        (tree / name).mkdir(parents=True, exist_ok=True)
        (tree / name / "cgroup.procs").write_text("0")


def kill(name):
    """SIGKILL to every process in it and below, at once; a cgroup that is not there is fine."""
    with contextlib.suppress(OSError):
        (TREES[0] / name / "cgroup.kill").write_text("1")


def freeze(name, frozen):
    """Stop or continue every process in it and below: the kernel goes on answering TCP, nobody else does."""
    (TREES[0] / name / "cgroup.freeze").write_text("1" if frozen else "0")


def frozen(name):
    with contextlib.suppress(OSError):
        return (TREES[0] / name / "cgroup.freeze").read_text().strip() == "1"
    return False


def exists(name):
    return any((tree / name).is_dir() for tree in TREES)


def populated(name):
    """Whether a process is left in it or below."""
    with contextlib.suppress(OSError):
        return "populated 1" in (TREES[0] / name / "cgroup.events").read_text()
    return False


def give_back(unit):
    """Let systemd forget the scope of this name at once: it would refuse a new one as long as it mourns the old."""
    if by_systemd():
        for verb in ("stop", "reset-failed"):
            subprocess.run(["systemctl", "--quiet", verb, f"{unit}.scope"], capture_output=True, stdin=subprocess.DEVNULL)


def remove(name, limit=10.0):
    """Kill what is left, and take the empty tree away.

    :param limit: seconds after which it gives up. :returns: whether nothing is left.
    """
    until = time.monotonic() + limit
    while exists(name) and time.monotonic() < until:
        freeze(name, False) if frozen(name) else None
        kill(name)
        for tree in TREES:
            for folder, _, _ in os.walk(tree / name, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        time.sleep(0.01) if exists(name) else None
    return not exists(name)
