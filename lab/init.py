"""The first process of the lab's private mount, network and process namespace: starts everything, keeps it, answers commands.

    python3 -m lab.init FOLDER        (by lab.up; reads FOLDER/run/plan.json, answers on FOLDER/run/control)

When it dies, by whatever, the kernel kills all that the lab runs. It reads no inventory and decides nothing.
"""

import json
import os
import pathlib
import socketserver
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from lab import balancers, cgroups, faults, hosts, image, infra, network

CONTROL = "control"
MOST = 1 << 20                  # characters of a command's output that are sent back


class Running:
    """The lab as it runs: what commands and faults act on."""

    def __init__(self, folder):
        self.folder = folder
        self.plan = plan = json.loads((folder / "run/plan.json").read_text())
        self.members = plan["members"]
        log = folder / "log"
        self.machines = {name: hosts.Machine(name, plan, log / f"{name}.log") for name in plan["hosts"]}
        self.balancers = {name: balancers.Balancer(name, config, log / f"{name}.log")
                          for name, config in plan["balancers"].items()}
        self.services = {name: infra.Service(name, described, log / f"{name}.log")
                         for name, described in plan["services"].items()}
        self.times = {}
        self.broken, self.rules, self.tokens, self.holders = {}, {}, {}, {}      # what faults remember
        self.ready = threading.Event()
        self.error = None

    def bring_up(self):
        """Everything, in parallel where it helps; then waits until every host's SSH, every balancer and service listens."""
        start = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            disks = [pool.submit(machine.make_disk) for machine in self.machines.values()]
            network.build(self.members, self.plan["prefix"])
            self.times["network"] = time.monotonic() - start
            for disk in disks:
                disk.result()
            for part in (*self.machines.values(), *self.services.values(), *self.balancers.values()):
                part.power_on() if isinstance(part, hosts.Machine) else part.start()
            doors = {name: (self.members[name][0], described["port"], b"SSH-") for name, described in self.plan["hosts"].items()}
            doors |= {name: (self.members[name][0], balancers.STATS_PORT, b"") for name in self.balancers}
            doors |= {name: (s.address, s.port, b"") for name, s in self.services.items() if s.words}
            waits = {name: pool.submit(network.wait_for, *door, start) for name, door in doors.items()}
            for name, wait in waits.items():
                self.times[name] = wait.result()

    def answer(self, asked):
        """One command. :returns: what goes back as JSON."""
        verb = asked.pop("do")
        if verb == "wait":
            self.ready.wait(asked["limit"])
            return {"error": self.error} if self.error else {"times": self.times, "ready": self.ready.is_set()}
        if verb == "status":
            return {"hosts": {name: {"state": m.state, "boots": m.boots, "free": hosts.free(m)}
                              for name, m in self.machines.items()},
                    "balancers": {name: b.state for name, b in self.balancers.items()},
                    "services": {name: {"state": s.state, "note": s.note} for name, s in self.services.items()},
                    "broken": self.broken}
        if verb == "run":
            done = self.machines[asked["host"]].inside(*asked["words"], timeout=asked["limit"])
            return {"exit": done.returncode, "out": done.stdout[-MOST:], "err": done.stderr[-MOST:]}
        if verb in ("break", "mend"):
            return {"said": faults.carry_out(self, verb, **asked)}
        return {"error": f"the lab's init does not know '{verb}'"}


class Door(socketserver.StreamRequestHandler):
    """A line of JSON in, a line of JSON out. Whoever may open the lab's folder (0700) may command it."""

    def handle(self):
        line = self.rfile.readline()
        if not line:
            return                              # somebody only looked whether we are there
        asked = json.loads(line)
        try:
            answer = self.server.running.answer(asked)
        except faults.Wrong as sentence:
            answer = {"error": str(sentence)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class Control(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def supervise(folder):
    running = Running(folder)
    os.chdir(folder / "run")                    # a UNIX socket's path is short; the folder's may not be
    with image.in_use(running.plan["layers"][-1]), Control(CONTROL, Door) as control:
        control.running = running
        threading.Thread(target=control.serve_forever, daemon=True).start()
        try:
            running.bring_up()
        except Exception as error:
            traceback.print_exc()
            said = getattr(error, "stderr", None)
            running.error = f"{type(error).__name__}: {error}" + (f" ({said.strip()[-300:]})" if isinstance(said, str) else "")
        running.ready.set()
        threading.Event().wait()


def private():
    """Own /run: namespaces, systemd's marks and sockets of this lab are seen by this lab only, and gone with it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run"], check=True)
    for folder in ("netns", "systemd", "lock", "bgdeploy"):
        os.mkdir(f"/run/{folder}")


def main(folder):
    cgroups.enter(f"{json.loads((folder / 'run/plan.json').read_text())['cgroup']}/init")
    private()
    child = os.fork()
    if not child:
        try:
            supervise(folder)
        finally:
            os._exit(1)
    # The first process has one duty besides: to take the exit of every orphan. It ends, and all with it, when the child does.
    while True:
        ended, _ = os.wait()
        if ended == child:
            os._exit(1)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
