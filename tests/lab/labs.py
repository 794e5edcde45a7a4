"""A lab for the tests: private name, own copy of the lab's inventory, own state; same code and same verbs as everybody's."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys

from bgdeploy import inventory
from lab import lab, network, setup

PROJECT = pathlib.Path(__file__).resolve().parents[2]


class Lab:
    """A data centre of one test session. `site` is its inventory as loaded; `invoke` types a command at it.

    Its drivers send fewer requests than the lab's own inventory asks for: 300 a second took half of the processor time of a
    rollout (measured: 132 s of it, 67 s at 60 a second), and two labs share the machine.
    """

    def __init__(self, name, edit=lambda text: text):
        self.name = name
        self.file = PROJECT / "inventories" / f"{name}.yml"
        text = (PROJECT / "inventories/lab.yml").read_text()
        text = text.replace(".lab/lab/", f".lab/{name}/").replace("name: lab", f"name: {name}", 1)
        text = text.replace("watch: {rate: 300}", "watch: {rate: 50}")
        self.file.write_text(edit(text.replace(".bgdeploy/store", f".lab/{name}/store")))
        self.folder = PROJECT / ".lab" / name
        self.site = inventory.load(name, PROJECT)

    def up(self):
        said = []
        lab.up(self.site, say=said.append)
        return "\n".join(said)

    def down(self):
        said = []
        lab.down(self.site, say=said.append)
        return "\n".join(said)

    def forget(self):
        """Down, and its files with it."""
        self.down()
        self.file.unlink(missing_ok=True)
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)

    def status(self):
        return lab.status(self.site, say=lambda text: None)

    def break_(self, fault, target, **options):
        lab.break_(self.site, fault, target, say=lambda text: None, **options)

    def mend(self, fault=None, target=None):
        lab.mend(self.site, fault, target, say=lambda text: None)

    def root(self, host, command):
        """A shell command on a host as its root, past everything a deployment may do; its output."""
        answer = lab.on_host(self.site, host, "sh", "-c", command)
        assert answer["exit"] == 0, f"{host}: {command}: {answer}"
        return answer["out"]

    def ssh(self, host, command, limit=30):
        """What a person with the lab's key gets: a finished subprocess with text."""
        address = self.site.host(host).address
        options = ("BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=5",
                   f"UserKnownHostsFile={self.site.ssh.known_hosts}")
        return self.run("ssh", "-i", self.site.ssh.identity, *[word for option in options for word in ("-o", option)],
                        f"deploy@{address}", command, limit=limit)

    def run(self, *words, limit=60, at="ctl"):
        """A command in the network of one member, by itself the control network's."""
        place = f"/proc/{lab.process(self.site)}/root/run/netns/{at}"
        return subprocess.run(["nsenter", f"--net={place}", "--", *words], capture_output=True, text=True, timeout=limit,
                              stdin=subprocess.DEVNULL)

    def begin(self, *words):
        """The same in the background; end it."""
        place = f"/proc/{lab.process(self.site)}/root/run/netns/ctl"
        return subprocess.Popen(["nsenter", f"--net={place}", "--", *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def invoke(self, task, *words, limit=300, **environment):
        """`invoke TASK --env THIS ...`, as a person types it (tasks enter the lab's network by themselves)."""
        return subprocess.run([sys.executable, "-m", "invoke", task, "--env", self.name, *words], cwd=PROJECT,
                              capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL,
                              env={**os.environ, "BGDEPLOY_STATE": str(self.folder / "state"), **environment})

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is in the lab's control network while this is open; threads that it starts, too."""
        with open("/proc/thread-self/ns/net") as before:
            lab.enter(self.site)
            try:
                yield self.site
            finally:
                network.enter(f"/proc/thread-self/fd/{before.fileno()}")


def unable():
    """Why this machine cannot run a lab, in a sentence; None if it can."""
    try:
        setup.check_machine()
        setup.check_lab()
        gone = setup.missing_packages([name for kind, name, _ in setup.needs(["run", "lab"]) if kind == "deb"])
        gone += setup.missing_gems(setup.CACHE / "gems", [name for kind, name, _ in setup.needs(["run", "lab"]) if kind == "gem"])
    except setup.Missing as sentence:
        return str(sentence)
    return f"not installed: {', '.join(gone)}; run: make lab" if gone else None


def sweep():
    """Labs of test sessions that were killed."""
    for file in (PROJECT / "inventories").glob("test-*.yml"):
        number = re.fullmatch(r"test-(\d+).*", file.stem)
        if number and not os.path.exists(f"/proc/{number[1]}"):
            Lab.forget(_left(file))


def _left(file):
    left = Lab.__new__(Lab)
    left.name, left.file, left.folder = file.stem, file, PROJECT / ".lab" / file.stem
    left.site = inventory.load(file.stem, PROJECT)
    return left
