"""What Chef says it would do (why-run), for a person: it guesses where resources depend on each other, and no rule reads it."""

import os
import shutil
import signal
import subprocess

from bgdeploy_host import files, outcome, reserve, runs

LONGEST = 1 << 16       # bytes of output that are handed back


def rehearse(at, asked, unit_active):
    """Let chef-client say what it would change, and change nothing. Waits for its end, `limit` seconds at most.

    Leaves no run behind: what `look` says of the newest run stays as it is.
    :returns: {"state", "why", "output"}: state as of a run.
    :raises Refused: a run of ours goes on; as `start` for cookbooks and chef-client.
    """
    last = runs.newest(at)
    if last and runs.state(at, last, unit_active)["state"] == outcome.RUNNING:
        raise files.Refused("run {} goes on here: ask again when it has ended".format(last))
    where = "{}/why-run-{}".format(files.CACHE, os.getpid())
    asked = dict(asked, run="why-run")
    asked["lock-wait"] = 0
    asked["reserve"] = os.path.exists(at(reserve.HELD))      # Chef's own lock is taken then, by ourselves
    words = runs.command(at, asked, where) + ["--why-run"]
    files.folder(at(where))
    try:
        runs.tell(at, asked, where)
        with open(at(where) + "/out", "wb") as out:
            chef = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd="/",
                                    env=runs.ENVIRONMENT, start_new_session=True)
            try:
                code = chef.wait(asked["limit"])
                ended = "exit-code exited {}".format(code) if code >= 0 else "signal killed {}".format(-code)
            except subprocess.TimeoutExpired:
                ended = "timeout killed KILL"
            finally:
                if chef.poll() is None:
                    os.killpg(chef.pid, signal.SIGKILL)     # what it began (a guard's command), too
                    chef.wait()
        size = os.path.getsize(at(where) + "/out")
        said = (files.read(at(where) + "/out", LONGEST, max(0, size - LONGEST)) or b"").decode("utf-8", "replace")
        state, _, why = outcome.translate(ended, said[-runs.TAIL:], files.read_json(at(where) + "/report.json"))
        return {"state": state, "why": why, "output": said}
    finally:
        shutil.rmtree(at(where), ignore_errors=True)
