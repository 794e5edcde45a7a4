"""A host's files in a folder of a test's own, and a call of bgdeploy-host on them."""

import io
import json
import os
import sys
import time
from pathlib import Path

HOST = Path(__file__).resolve().parent.parent / "host"
sys.path.insert(0, str(HOST))

from bgdeploy_host import files, runs, verbs  # noqa: E402

START = ["start", "--run", "r1", "--release", "web=2.0.0-1@3f2a9c01", "--limit", "900", "--recipes", "web", "--versions",
         "web=2.0.0-1",
         "--cookbooks", "3f2a9c01"]
BOOT = "8d1c1a4e-0000-4000-8000-000000000001"


def booted(folder):
    """A host's files below `folder`, after one boot: a function that puts the folder before a path."""
    place = files.root(str(folder))
    for folder in ("/proc/sys/kernel/random", "/var/lib", "/run", "/etc/chef", "/usr/bin"):
        os.makedirs(place(folder))
    Path(place("/proc/sys/kernel/random/boot_id")).write_text(BOOT + "\n")
    return place


def run_folder(at, run="r1", **content):
    """A run as it lies on a host: exit, report, out, boot_id as given."""
    folder = files.folder(at(files.RUNS + "/" + run))
    content = {"boot_id": BOOT, "release": "web=2.0.0-1@3f2a9c01", "out": "", "started": json.dumps(
        {"at": time.time() - 5, "boottime": time.clock_gettime(runs.BOOTTIME) - 5, "limit": 900}), **content}
    for name, text in content.items():
        if text is not None:
            Path(folder, name).write_text(text if isinstance(text, str) else json.dumps(text))
    files.write(at(files.NEWEST), run)
    return folder


def answer(arguments, at, stdin=b""):
    """(exit code, document) of a whole call."""
    out = io.StringIO()
    code = verbs.main(arguments, root=at("/"), stdin=io.BytesIO(stdin), stdout=out)
    head, line, end = out.getvalue().splitlines()
    assert (head, end) == ("--bgdeploy--", "--end--")
    return code, json.loads(line)
