"""The line from a command to the running lab: starts its init, finds it again, asks it, and takes everything away."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

from bgdeploy import errors
from lab import cgroups

CODE = pathlib.Path(__file__).resolve().parent.parent


def start(place):
    """Start the init of the lab that place.run/plan.json describes, detached from this process and its terminal.

    :returns: seconds each part took, by name, once all of it answers. :raises errors.Refused: it does not start.
    """
    words = ["unshare", "-m", "-n", "-p", "-f", "--kill-child=KILL", "--mount-proc", "--propagation", "private",
             sys.executable, "-m", "lab.init", str(place.folder)]
    if cgroups.by_systemd():
        words = ["systemd-run", "--quiet", "--scope", f"--unit={place.unit}", "-p", "Delegate=yes", *words]
    log = place.log / "init.log"
    with open(log, "wb") as out:
        started = subprocess.Popen(words, cwd=CODE, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    until = time.monotonic() + 10
    # A socket that is there does not yet listen: between its two calls a connection is refused (seen once).
    while time.monotonic() < until and started.poll() is None and not (_found(place, started.pid) and process(place)):
        time.sleep(0.01)
    if not process(place):
        said = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        clear(place)
        raise errors.Refused(f"the lab's init did not start ({said[-1][:300]})", f"see {log}")
    answer = ask(place, {"do": "wait", "limit": 120}, limit=130)
    if answer.get("error") or not answer.get("ready"):
        clear(place)
        raise errors.Refused(f"the lab did not start: {answer.get('error') or 'not ready after 120 s'}", f"see {place.log}")
    return answer["times"]


def process(place):
    """Process id of the running lab's init, or None. One that was killed may linger; it takes no connection any more."""
    with contextlib.suppress(OSError):
        if first := _first(place):
            _connect(place, 5).close()
            return first
    return None


def there(place):
    """Whether anything of it is on the machine, alive or left by a killed one."""
    return bool(_first(place)) or cgroups.exists(cgroups.home(place.unit))


def clear(place):
    """Kill and remove whatever the lab of this place has left, however it ended. :raises errors.Refused: something stays."""
    home = cgroups.home(place.unit)
    if first := _first(place):
        with contextlib.suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)          # the first process of the namespace: the kernel kills the rest
    if not cgroups.remove(home):
        raise errors.Refused(f"the control group {home} of the lab's last run does not go away", f"see {cgroups.TOP}")
    cgroups.give_back(place.unit)
    for left in ("run", "db"):
        shutil.rmtree(place.folder / left, ignore_errors=True)


def ask(place, question, limit=60.0):
    """One question to the lab's init, as data; returns its answer as data.

    :param limit: seconds. :raises errors.Refused: the lab is not up. :raises errors.NoAnswer: no answer within the limit.
    """
    if not process(place):
        raise errors.Refused(f"the lab '{place.name}' is not up", "invoke lab.up")
    try:
        with _connect(place, limit) as channel:
            channel.sendall(json.dumps(question).encode() + b"\n")
            return json.loads(channel.makefile().readline())
    except (OSError, ValueError) as error:
        raise errors.NoAnswer(f"the lab's init does not answer ({error})", "invoke lab.down, then invoke lab.up") from None


def _connect(place, limit):
    folder = os.open(place.run, os.O_RDONLY | os.O_DIRECTORY)
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.settimeout(limit)
        channel.connect(f"/proc/self/fd/{folder}/control")      # a UNIX socket's path is short; the folder's may not be
        return channel
    except OSError:
        channel.close()
        raise
    finally:
        os.close(folder)


def _first(place):
    """The init's process id by the note of it. The birth time guards against a number that was given out again."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        number, birth = (place.run / "pid").read_text().split()
        if _birth(number) == birth:
            return int(number)
    return None


def _found(place, unshare):
    """Once the control socket is there, note the init (unshare's only child; under systemd-run it is the same process)."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        if (place.run / "control").exists():
            first = pathlib.Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0]
            (place.run / "pid").write_text(f"{first} {_birth(first)}")
            return True
    return False


def _birth(number):
    fields = pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ValueError("dead")
    return fields[19]
