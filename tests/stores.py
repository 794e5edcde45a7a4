"""Open the same store from tests and from other processes; run as a program, it is one of several drivers.

    python -m tests.stores DESCRIPTION TTL WHO      obeys the words on its stdin, a line each, and answers each with a line
"""

import json
import os
import subprocess
import sys
import time

import pytest

from bgdeploy.errors import Failed, NoAnswer, Refused, Trouble
from bgdeploy.model import Policy
from bgdeploy.outside.ssh import Shell
from bgdeploy.outside.store import open_store
from bgdeploy.site import Host, Secret, Site, Ssh, Stack
from tests.serving import ROOT


def described(store, base, **more):
    """What another process needs to open the same store. :param more: name, host (dict of site.Host), ssh (dict of site.Ssh),
    password (dict of site.Secret)."""
    return {"store": store, "base": str(base), **more}


def site_of(description):
    host = Host(**description["host"]) if "host" in description else None
    return Site(name=description.get("name", "shop"), file="shop.yml", base=description["base"], components=(), live=None,
                standby=None, policy=Policy(), stacks=(Stack("green", (host,)),) if host else (),
                ssh=Ssh(**description.get("ssh", {})),
                store=description["store"], lock_host=host.name if host else None,
                store_password=Secret(**description["password"]) if "password" in description else None)


def opened(description):
    site = site_of(description)
    return open_store(site, Shell(site) if site.lock_host else None)


def soon(call, limit=12.0):
    """The Trouble that the call ends with, in time, whatever is broken."""
    began = time.monotonic()
    with pytest.raises((NoAnswer, Refused, Failed)) as trouble:
        call()
    assert time.monotonic() - began < limit
    return trouble.value


class Driver:
    """Another process that takes the lock, and does what it is told by `say`."""

    def __init__(self, description, ttl=3.0, who="other", before=()):
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "tests.stores", json.dumps(description), str(ttl), who], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT})
        self.pid = self.process.pid

    def answer(self):
        return self.process.stdout.readline().strip()

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self, number=9):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def main(description, ttl, who):
    store = opened(json.loads(description))
    print("ready", flush=True)
    lease = None
    for line in sys.stdin:
        try:
            match line.split():
                case ["take", *wait]:
                    lease = store.take({"who": who, "why": "a test"}, ttl=float(ttl), wait=float(wait[0]) if wait else 0.0)
                    print("taken", flush=True)
                case ["keep"]:
                    lease.keep()
                    print("kept", flush=True)
                case ["mine"]:
                    print(lease.mine(), flush=True)
                case ["release"]:
                    print(lease.release(), flush=True)
                case ["race", at]:
                    while time.clock_gettime(time.CLOCK_MONOTONIC_RAW) < float(at):
                        time.sleep(0.001)
                    lease = store.take({"who": who}, ttl=float(ttl))
                    print("taken", flush=True)
        except Trouble as trouble:
            print(f"{type(trouble).__name__} {trouble.sentence}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
