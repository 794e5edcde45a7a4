"""A site's own programs around the steps of a run: executables in the folder `hooks`, called by name.

    run-started, before-STEP, after-STEP, during-soak, run-ended      STEP: standby converge sanity live migrate

Facts come in the environment as BGDEPLOY_RUN, _ENV, _TASK, _STEP, _STACK, _HOSTS, _RELEASE, _WHY, _OUTCOME and what else is
given. What a refusal means is the rules' question. Samples that work, and the page for people, are in hooks.samples/.
"""

import os
import re
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass

from bgdeploy import clean

LIMIT = 60.0            # seconds a hook may take
CAP = 64 * 1024         # bytes of its output that are kept; the rest is read and dropped
GRACE = 2.0             # seconds between SIGTERM and SIGKILL; a driver that is interrupted itself has five in all
_SECRET = re.compile(r"(?i)token|secret|passw|pwd|passphrase|credential|(?:api|access|private)_?key|netrc|^bgdeploy_heartbeat")
_FOR_HOOKS = "BGDEPLOY_HOOK_"       # variables that a person sets for hooks, a webhook's address for instance: always passed on


@dataclass(frozen=True)
class Ended:
    """How a hook ended. outcome: ok | refused (exit code not 0) | failed (it could not do its work) | absent."""

    name: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0


def run(site, name, facts, limit=LIMIT, stop=lambda: False):
    """Runs the hook of that name, if there is one, and waits for it.

    :param facts: {"run": ..., "step": ...}: become BGDEPLOY_RUN, BGDEPLOY_STEP, cleaned; None is "".
    :param limit: seconds; then its whole process group is ended, and the outcome is failed.
    :param stop: asked several times a second; true: ended likewise.
    :returns: Ended; detail is the end of its output, cleaned and capped. Never raises for what a hook does.
    It sees the caller's environment without what looks like a credential, stdin is empty, its folder is the project's.
    """
    path = os.path.join(site.hooks, name) if site.hooks else None
    if not path or not os.path.lexists(path):
        return Ended(name, "absent")
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        return Ended(name, "failed", f"{path} is there but cannot be run: chmod +x it, or move it away")
    began = time.monotonic()
    try:
        process = subprocess.Popen([path], cwd=site.base, env=environment(site, facts), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as e:
        return Ended(name, "failed", f"{path} cannot be run: {e.strerror}; its first line names its program, as #!/bin/sh does")
    output, ended = _follow(process, began + limit, stop)
    seconds = round(time.monotonic() - began, 3)
    said = clean.clean(output, 2000).strip()
    if ended:
        why = f", the limit is {limit:g} s" if ended == "late" else ": the run was interrupted"
        left = "" if process.poll() is not None else f"; process {process.pid} goes on, of a user whom no signal of ours reaches"
        what = f"{path} was ended after {seconds:.0f} s{why}{left}"
        return Ended(name, "failed", what + (f"; its last words: {said}" if said else ""), seconds)
    if process.returncode == 0:
        return Ended(name, "ok", said, seconds)
    how = f"exit {process.returncode}" if process.returncode > 0 else f"killed by {_signal(-process.returncode)}"
    return Ended(name, "refused", f"{said} ({how})" if said else f"{path}: {how}, without a word", seconds)


def environment(site, facts):
    """The environment of a hook."""
    kept = {name: value for name, value in os.environ.items()
            if name.startswith(_FOR_HOOKS) or name in ("PWD", "OLDPWD") or not (_SECRET.search(name) or name in _named(site))}
    own = {"env": site.name, "inventory": site.file, **facts}
    return {**kept, **{f"BGDEPLOY_{name.upper()}": clean.line(value, 4000) for name, value in own.items()}}


def _named(site):
    """Variables that the inventory names as the source of a credential, whatever they are called."""
    secrets = [site.store_password, site.database_password, site.ssh.sudo_password, site.live.stats_password,
               site.standby.stats_password]
    for component in site.components:
        secrets += [component.heartbeat.token, component.heartbeat.password]
    return {secret.env for secret in secrets if secret and secret.env}


def _follow(process, until, stop):
    """(output, None | "late" | "stopped"). Returns soon after the hook's end even if a child of it keeps the output open."""
    output, dropped, reason = bytearray(), 0, None
    with process.stdout, selectors.DefaultSelector() as selector:
        os.set_blocking(process.stdout.fileno(), False)
        selector.register(process.stdout, selectors.EVENT_READ)
        last = None                     # when the hook itself was seen to have ended
        while True:
            if selector.select(0.1):
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    break
                output += piece
                dropped += max(0, len(output) - CAP)
                del output[:-CAP]
            now = time.monotonic()
            if process.poll() is not None:
                last = last or now
                if now - last > 0.5:
                    break
            elif now > until or stop():
                reason = "late" if now > until else "stopped"
                break
    if reason is None:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:       # it closed its output and goes on
            reason = "late"
    if reason:
        _end(process)
    return (f"... {dropped} bytes cut ...\n".encode() if dropped else b"") + bytes(output), reason


def _end(process):
    """Ends the whole process group, as far as that is ours to do: what runs as another user (`exec sudo ...`) takes no signal."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass


def _signal(number):
    """Its name, or what there is of one: real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
