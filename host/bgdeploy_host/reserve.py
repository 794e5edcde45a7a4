"""Chef's run lock, kept for a deployment: nobody else's chef-client converges on this host meanwhile, whoever would start it (a
service, a timer, cron, a person). It waits for the lock, as Chef does by itself, and runs when the lock is let go.

Nothing is disabled, so nothing has to be enabled again. A process of its own keeps the lock (unit bgdeploy--reserve) and ends by
itself at its time, whatever becomes of the driver; a reboot ends it, too. Our own runs take another lock meanwhile.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import time

from bgdeploy_host import client, files, outcome, runs

UNIT = "bgdeploy--reserve.service"      # two dashes: a run's unit never has this name
NOTE = files.CACHE + "/reserve.json"    # for whom, and until when (CLOCK_BOOTTIME); in /run, so that a reboot forgets it
HELD = files.CACHE + "/reserved"        # is there while the lock is got
AT_ONCE = 2.0                           # seconds in which a lock that is free is got
LOOK, PACE = 0.2, 1.0


def reserve(at, run, seconds, launch=None):
    """Keep the lock for a run, or keep it longer. To be called by whoever holds `files.alone`.

    :param seconds: from now on, at the most. A run of ours that goes on then is still waited for.
    :returns: {"run", "held"}: held False: somebody else converges at this moment; the lock is ours when that has ended.
    :raises Refused: systemd does not start the process that keeps it.
    """
    run, now = run.split(".")[0], time.clock_gettime(runs.BOOTTIME)
    files.folder(at(files.CACHE))
    there = _active() and files.read_json(at(NOTE))
    files.write(at(NOTE), json.dumps({"run": run, "until": now + seconds}))
    if not there:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(at(HELD))         # of one that was killed
        problem = (launch or _launch)()
        if problem:
            os.unlink(at(NOTE))
            raise files.Refused("Chef's lock cannot be kept for this run: " + problem)
    until = time.monotonic() + AT_ONCE
    while not os.path.exists(at(HELD)) and time.monotonic() < until:
        time.sleep(LOOK / 4)
    return {"run": run, "held": os.path.exists(at(HELD))}


def release(at, unit_active):
    """Let everybody's Chef runs go on.

    :returns: {"released": bool, "run"}: False: nothing was kept. :raises Refused: a run of ours goes on.
    """
    with files.alone(at):
        last, note = runs.newest(at), files.read_json(at(NOTE))
        if last and note and runs.state(at, last, unit_active)["state"] == outcome.RUNNING:
            raise files.Refused("run {} goes on here".format(last))
        runs.systemctl("stop", UNIT)
        for path in (NOTE, HELD):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(at(path))
        return {"released": bool(note), "run": (note or {}).get("run")}


def state(at, active):
    """:param active: is the unit there? :returns: {"run", "left": seconds, "held"}, or None: nothing is kept."""
    note = files.read_json(at(NOTE))
    if not note or not active:
        return None
    left = note["until"] - time.clock_gettime(runs.BOOTTIME)
    return {"run": note["run"], "left": round(max(0.0, left), 1), "held": os.path.exists(at(HELD))}


def keep(at, unit_active, sleep=time.sleep):
    """What the unit does: get the lock, keep it until its time is over or the note is gone. One that is taken is waited for."""
    path = client.lockfile(at)
    os.makedirs(os.path.dirname(at(path)), exist_ok=True)
    lock = os.open(at(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        held = False
        while True:
            if not held:
                with contextlib.suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held = True
                    os.ftruncate(lock, 0)           # as Chef does: whoever waits says for whom; on a full disk it does not
                    os.write(lock, str(os.getpid()).encode())
            if held and not os.path.exists(at(HELD)):
                with contextlib.suppress(OSError):  # a full /run: at the next turn
                    files.write(at(HELD), "")
            if _over(at, unit_active):
                with files.alone(at):               # nobody asks for longer between this look and the end
                    if _over(at, unit_active):
                        for left in (NOTE, HELD):
                            with contextlib.suppress(FileNotFoundError):
                                os.unlink(at(left))
                        return
            sleep(PACE if held else LOOK)
    finally:
        os.close(lock)


def _over(at, unit_active):
    note = files.read_json(at(NOTE))
    if note and time.clock_gettime(runs.BOOTTIME) < note["until"]:
        return False
    last = runs.newest(at)
    return not (note and last and runs.state(at, last, unit_active)["state"] == outcome.RUNNING)


def _active():
    done = subprocess.run(["/usr/bin/systemctl", "--quiet", "is-active", UNIT], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def _launch():
    words = ["/usr/bin/systemd-run", "--quiet", "--no-ask-password", "--collect", "--unit=" + UNIT,
             "--description=keeps other chef-client runs off during a deployment", "--property=RuntimeMaxSec=172800", "--",
             runs.LIBRARY + "/reserve"]
    for _ in range(20):
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode == 0:
            return None
        time.sleep(LOOK / 2)            # one that is just ending still has the unit's name
    return done.stdout.decode("utf-8", "replace")[:300] or "systemd-run: exit code {}".format(done.returncode)
