"""`make demo`: an empty data centre gets version 1.0.0, then 2.0.0 goes out to green and blue under traffic.

It types the product's own commands, as a person would, and judges what they left: exit 0 only if no request failed and
every host ends on the new version.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

BASE = pathlib.Path(__file__).resolve().parent.parent
OLD, NEW = "1.0.0", "2.0.0"
ENOUGH = 5000       # requests through LIVE that a rollout must have been watched with


def main():
    began = time.monotonic()
    title("A data centre on this machine")
    if invoke("lab.up") != 0:
        return 3
    title(f"Packages {OLD} and {NEW} of api and web: built with FPM, signed, published")
    for version in (OLD, NEW):
        for component in ("api", "web"):
            if invoke("publish", "--component", component, "--version", version) != 0:
                return 4
    title(f"First {OLD} everywhere, the same command that deploys an empty data centre")
    if invoke("rollout", "--version", OLD, "--older", "--reason", "demo: where we come from") not in (0, 6):
        return 4
    title(f"Now {NEW} goes out to green, then blue, while LIVE is under traffic")
    code = invoke("rollout", "--version", NEW, "--reason", "demo")
    folder = newest_run()
    if folder is None:
        return code or 4
    with open(folder / "result.json", encoding="utf-8") as f:
        wrong = judged(json.load(f), code)
    title("What came of it")
    for sentence in wrong:
        print(f"  NOT as promised: {sentence}")
    if not wrong:
        print(f"  {NEW} runs on every host and no request failed; the whole demonstration took {time.monotonic() - began:.0f} s")
    print(f"  report: {shown(folder / 'report.html')}   journal: {shown(folder / 'journal.jsonl')}")
    print("  next: invoke status | invoke rollback | invoke lab.break, then invoke rollout | invoke lab.down")
    return 1 if wrong else 0


def judged(result, code):
    """Sentences: what the rollout should have left and did not."""
    available, wrong = result.get("availability") or {}, []
    if code != 0:
        wrong.append(f"the rollout ended with {code}")
    if available.get("failed") != 0:
        wrong.append(f"{available.get('failed')} requests failed")
    if (available.get("requests") or 0) < ENOUGH:
        wrong.append(f"only {available.get('requests')} requests were sent, {ENOUGH} were wanted")
    for stack in result.get("stacks") or [{"name": "no stack", "versions": {}}]:
        for component in ("api", "web"):
            if stack["versions"].get(component) != [f"{NEW}-1"]:
                wrong.append(f"{stack['name']} ends with {component} {stack['versions'].get(component)}")
    return wrong


def invoke(*words):
    print(f"\n$ invoke {' '.join(words)}", flush=True)
    return subprocess.run([sys.executable, "-m", "invoke", *words], cwd=BASE, check=False).returncode


def newest_run():
    state = pathlib.Path(os.environ.get("BGDEPLOY_STATE") or BASE / ".bgdeploy") / "runs"
    runs = sorted(state.glob("*/result.json"))
    return runs[-1].parent if runs else None


def shown(path):
    return os.path.relpath(path, os.getcwd())


def title(text):
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
