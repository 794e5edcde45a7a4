"""The campaign's laboratory table: one lab, traffic through its LIVE, a witness, and commands typed at it.

Everything that a case needs of the outside, and no judgement.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

from bgdeploy.outside import store
from bgdeploy.records import is_open
from bgdeploy.journal import read
from lab import lab
from lab.load import Load
from lab.witness import Witness

PROJECT = pathlib.Path(__file__).resolve().parent.parent
RATE = 50               # requests a second
VERSIONS = ("1.0.0", "2.0.0")
POLICY = """
limits: {pool: 20, host: 12, sanity: 20, chef: 600}
drain: {limit: 25, wait: 10}
soak: 3
"""


def named(text, name):
    """The lab's inventory under another name, with everything of its own."""
    text = text.replace(".lab/lab/", f".lab/{name}/").replace("name: lab", f"name: {name}", 1)
    return text.replace(".bgdeploy/store", f".lab/{name}/store")


def hasty(text):
    """Short limits, so that what never comes is not waited for long; a STANDBY that is slower than LIVE, so that it is waited
    for; a driver's watcher that leaves the machine to the hosts."""
    text = re.sub(r"watch: \{rate: \d+\}", "watch: {rate: 10}", text)
    text = re.sub(r"(standby-1: .*interval: )0.5", r"\g<1>2", text)
    return text.replace("limit: 900", "limit: 120, lock_wait: 5") + POLICY


class Bench:
    """A lab that is up, as its inventory describes it. The calling thread has to be in the lab's network.

    :param site: its inventory as loaded. :param state: folder of the runs' records.
    """

    def __init__(self, site, state):
        self.site, self.state = site, pathlib.Path(state)
        self.load, self.witness = Load(site, RATE), Witness(site)
        self.stacks = {stack: tuple(h.name for h in site.hosts if h.stack == stack)
                       for stack in dict.fromkeys(h.stack for h in site.hosts)}
        self.nodes = tuple(node.name for node in site.live.nodes)
        self.all_nodes = {node.name for balancer in (site.live, site.standby) for node in balancer.nodes}
        self.components = tuple(component.name for component in site.components)
        self.store = store.open_store(site)

    def __enter__(self):
        self.load.start()
        self.witness.start()
        return self

    def __exit__(self, *_):
        self.load.stop()
        self.witness.stop()
        self.store.close()

    def now(self):
        return self.load.now()

    def type(self, *words):
        """A task as a person types it, in a process of its own. Returns the Typed."""
        return Typed([sys.executable, "-m", "invoke", words[0], "--env", self.site.name, *words[1:]], cwd=PROJECT,
                     env={**os.environ, "BGDEPLOY_STATE": str(self.state)})

    def typed(self, *words, limit=240):
        """(exit code, output) of a task; -9 if it did not end within the limit."""
        process = self.type(*words)
        return process.ended(limit), process.said()

    def break_(self, fault, target, **options):
        lab.break_(self.site, fault, target, say=lambda text: None, **options)

    def mend(self, fault=None, target=None):
        lab.mend(self.site, fault, target, say=lambda text: None)

    def broken(self):
        """What is broken and not mended, as the lab knows it: "FAULT TARGET"."""
        return list(lab.status(self.site, say=lambda text: None)["broken"])

    def look(self):
        """The witness' newest look that began after this call."""
        since = self.now()
        while not self.witness.looks or self.witness.looks[-1].at < since:
            time.sleep(0.05)
        return self.witness.looks[-1]

    def settled(self, limit=40):
        """Wait until everybody answers and every node of LIVE agrees with every heartbeat. Returns that look, or None."""
        until = time.monotonic() + limit
        while time.monotonic() < until:
            look = self.look()
            answer = {node for node, _, _ in look.pools}
            if answer >= self.all_nodes and all(self._agreed(look, host.name, name)
                                                for host in self.site.hosts for name in host.components):
                return look
        return None

    def _agreed(self, look, host, name):
        one = look.instances.get((host, name))
        return one is not None and all(look.pools.get((node, host, name)) == (one.word == "live") for node in self.nodes)

    def versions(self):
        """{host: version} by the applications' own word; None where they differ or do not answer."""
        look = self.witness.looks[-1]
        said = {host.name: {one.version for (name, _), one in look.instances.items() if name == host.name}
                for host in self.site.hosts}
        return {host: next(iter(found)) if len(found) == 1 else None for host, found in said.items()}

    def good(self, limit=20):
        """Settled within the limit, every host live, and no run open."""
        look = self.settled(limit)
        return bool(look) and all(look.serves(host.name, name, self.nodes) for host in self.site.hosts
                                  for name in host.components) and not self.open_run(0)

    def put_live(self, hosts):
        """Flip them by hand, past bgdeploy: what `back` left in standby, untouched. Waits for nothing."""
        token = (PROJECT / ".lab" / self.site.name / "token").read_text().strip()
        for host in (host for host in self.site.hosts if host.name in hosts):
            for name in host.components:
                component = self.site.component(name)
                asked = urllib.request.Request(f"http://{host.address}:{component.port}{component.heartbeat.path}", b"live",
                                               {"Authorization": f"Bearer {token}"}, method="PUT")
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(asked, timeout=5).close()

    def runs(self, since):
        """{run id: all its events} of the runs that something happened in since that moment."""
        found = {}
        for folder in sorted((self.state / "runs").glob("*")):
            events = read(folder / "journal.jsonl")
            if events and events[-1]["at"] >= since:
                found[folder.name] = events
        return found

    def open_run(self, since):
        return next((run for run, events in self.runs(since).items() if is_open(events)), None)

    def holder(self):
        with contextlib.suppress(Exception):
            holder = self.store.holder()
            return holder and not holder.get("expired") and holder["text"]
        return "the store does not answer"

    def publish(self):
        """The two versions that the cases go to and fro between. :raises RuntimeError: it does not work."""
        for version in VERSIONS:
            for component in self.components:
                code, said = self.typed("publish", "--component", component, "--version", version)
                if code:
                    raise RuntimeError(f"publish ended with {code}: {said[-500:]}")

    trouble = ""

    def whole(self):
        """Everything mended, every stack live and no run open: where cases begin. Returns whether that was reached."""
        self.mend()
        if self.look().instances and self.good():
            return True
        again = "rollout", "--version", VERSIONS[-1], "--older", "--wait"
        for words in ((("resume", "--wait"),) if self.open_run(0) else ()) + (again, again):
            code, self.trouble = self.typed(*words, limit=400)
            if code in (0, 6) and self.good():
                return True
        return False

    def old_orders(self, number):
        """The database as before any migration, with so many orders to migrate; the older version may come back."""
        from pymongo import MongoClient
        with MongoClient(self.site.database, serverSelectionTimeoutMS=5000) as client:
            database = client.get_default_database()
            for name in database.list_collection_names():
                database[name].delete_many({})
            if number:
                database.orders.insert_many([{"customer_name": f"Ada {n}", "total": n} for n in range(number)])

    def follow(self):
        return Follower(self.state / "runs")


class Typed(subprocess.Popen):
    """A command that goes on; what it says goes to a file, so that nobody has to read it meanwhile."""

    def __init__(self, words, **options):
        self._out = tempfile.TemporaryFile()
        super().__init__(words, stdin=subprocess.DEVNULL, stdout=self._out, stderr=subprocess.STDOUT, **options)

    def ended(self, limit):
        """Its exit code; one that has not ended within the limit is killed: -9."""
        try:
            return self.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait()

    def said(self):
        self._out.seek(0)
        return self._out.read().decode(errors="replace")


class Follower:
    """What is written to the journals of all runs from now on."""

    def __init__(self, folder):
        self.folder, self.read = folder, {}
        for path in folder.glob("*/journal.jsonl"):
            self.read[path] = path.stat().st_size

    def events(self):
        """Pairs (run id, event) since the last call, whole lines only."""
        found = []
        newest = sorted(self.folder.glob("*"))[-3:]
        for path in [folder / "journal.jsonl" for folder in newest]:
            with contextlib.suppress(OSError), open(path, "rb") as file:
                file.seek(self.read.get(path, 0))
                lines, _, _ = file.read().rpartition(b"\n")
                if lines:
                    self.read[path] = self.read.get(path, 0) + len(lines) + 1
                    found += [(path.parent.name, json.loads(line)) for line in lines.split(b"\n") if line.startswith(b"{")]
        return found
