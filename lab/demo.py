"""make demo: from nothing to version 2.0.0 on two stacks under traffic, by the same commands that a person types.

Prints each command before it runs it. Ends with 0 only if no request failed and every instance runs the new version.
"""

import json
import os
import pathlib
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parent.parent
OLD, NEW = "1.0.0", "2.0.0"
COMPONENTS = ("api", "web")
MOST_FAILED, LEAST_REQUESTS = 0, 5000


def main(say=print):
    """:returns: the exit code: that of the command that went wrong, 4 if the proof at the end fails, else 0."""
    say("An empty data centre on one machine: four hosts in two stacks, two nodes of LIVE, one of STANDBY, RPMs, a database.")
    commands = [("lab.down",), ("lab.up",)]
    commands += [("publish", "--component", component, "--version", version)
                 for version in (OLD, NEW) for component in COMPONENTS]
    commands += [("rollout", "--version", OLD, "--older", "--yes", "--reason", "demo: the first deployment"), ("status",)]
    commands += [("rollout", "--version", NEW, "--yes", "--reason", "demo: version 2.0.0 under traffic"), ("status",)]
    for command in commands:
        say(f"\n$ invoke {' '.join(quoted(word) for word in command)}")
        code = subprocess.run([sys.executable, "-m", "invoke", *command], cwd=PROJECT, env=environment(),
                              stdin=subprocess.DEVNULL).returncode
        if code:
            say(f"\nThe demo stops here: invoke {command[0]} ended with {code}.")
            return code
    return proof(say)


def proof(say):
    """Read the last run's own result, and say in three lines what it proves."""
    runs = sorted((state() / "runs").glob("*/result.json"))
    result = json.loads(runs[-1].read_text())
    seen = result["availability"] or {}
    versions = {version.rpartition("-")[0]
                for stack in result["stacks"] for found in stack["versions"].values() for version in found}
    flaws = []
    if versions != {NEW}:
        flaws.append(f"not everything runs {NEW}: {', '.join(sorted(versions)) or 'nothing'}")
    if seen.get("failed", 1) > MOST_FAILED:
        flaws.append(f"{seen.get('failed', 'unknown')} requests through LIVE failed")
    if seen.get("requests", 0) < LEAST_REQUESTS:
        flaws.append(f"only {seen.get('requests', 0)} requests went through LIVE in the rollout, {LEAST_REQUESTS} are expected")
    say(f"\n{'; '.join(flaws) if flaws else 'No request failed, and every instance runs ' + NEW + '.'}")
    say(f"The report: {runs[-1].parent / 'report.html'}")
    say("Try next, in this folder:\n"
        "  invoke status                                     what is really there\n"
        "  invoke rollback --yes                             the way back to 1.0.0, as careful as the way there\n"
        "  invoke lab.break --fault power --target green-1   harm; then invoke status, invoke deploy ..., invoke lab.mend\n"
        "  invoke lab.load --seconds 30                      traffic to watch a deployment under\n"
        "  invoke lab.down                                   and nothing is left")
    return 4 if flaws else 0


def environment():
    """The person's own, but for what would send the demo elsewhere."""
    return {name: value for name, value in os.environ.items() if name != "BGDEPLOY_ENV"}


def state():
    return pathlib.Path(os.environ.get("BGDEPLOY_STATE") or PROJECT / ".bgdeploy")


def quoted(word):
    return f'"{word}"' if " " in word else word


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
