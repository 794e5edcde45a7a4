"""A host of the lab: the golden image, an own disk over it, and systemd-nspawn. Runs inside the lab's init.

The disk is a tmpfs of limited size: it outlives the host's power, not the lab, and it can be filled. Flags of
systemd-nspawn, the reboot code 133 and the need of an own cgroup were measured on Debian 12.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import threading
import time

from lab import cgroups

REBOOT = 133
DISKS = pathlib.Path("/run/bgdeploy")       # in the lab's private /run


class Machine:
    """One host. States: off, running, frozen.

    :param files: list of [path, octal mode, "user:group", text]: what is written on its disk before its first boot.
    """

    def __init__(self, name, plan, log):
        self.name, self.log = name, log
        self.cgroup = f"{plan['cgroup']}/{name}"
        self.disk = DISKS / name
        self.root = self.disk / "root"
        self.layers, self.size, self.files = plan["layers"], plan["disk"], plan["hosts"][name]["files"]
        self.nspawn = None
        self.boots = 0

    def make_disk(self):
        self.disk.mkdir(parents=True)
        _mount("-t", "tmpfs", "-o", f"size={self.size},mode=755", f"disk-{self.name}", str(self.disk))
        for part in ("upper", "work", "root"):
            (self.disk / part).mkdir()
        _mount("-t", "overlay", "-o", f"lowerdir={':'.join(self.layers)},upperdir={self.disk}/upper,workdir={self.disk}/work",
               f"root-{self.name}", str(self.root))
        owners = _numbers(self.root / "etc/passwd"), _numbers(self.root / "etc/group")
        for path, mode, owner, text in self.files:
            user, group = owner.split(":")
            target = self.root / path.lstrip("/")
            if not target.parent.exists():
                target.parent.mkdir(parents=True)
                os.chown(target.parent, owners[0][user], owners[1][group])
            target.write_text(text)
            os.chown(target, owners[0][user], owners[1][group])
            target.chmod(int(mode, 8))

    def power_on(self):
        """Boots it; does not wait for anything."""
        if self.nspawn and self.nspawn.poll() is None:
            return
        words = ["systemd-nspawn", "--boot", "--quiet", "--register=no", "--keep-unit", "-M", self.name, "-D", str(self.root),
                 f"--network-namespace-path=/run/netns/{self.name}", "--console=pipe", "--resolv-conf=off", "--timezone=off",
                 "--link-journal=no", "--kill-signal=SIGRTMIN+3"]
        with open(self.log, "ab") as log:
            # Each in its own mount namespace: what nspawn mounts is gone with it.
            self.nspawn = subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=lambda: cgroups.enter(self.cgroup))
        self.boots += 1
        threading.Thread(target=self._follow, args=(self.nspawn,), daemon=True).start()

    def power_off(self):
        """As if the plug were pulled: every process dies at once, nothing is told. The disk stays."""
        cgroups.freeze(self.cgroup, False) if cgroups.frozen(self.cgroup) else None
        nspawn, self.nspawn = self.nspawn, None
        cgroups.kill(self.cgroup)
        if nspawn:
            nspawn.wait()

    def freeze(self, frozen):
        cgroups.freeze(self.cgroup, frozen)

    def shrink(self, left):
        """Leave so many bytes on the disk ("5m"), or give it back its size (None); what is written on it stays."""
        size = self.size
        if left is not None:
            used = shutil.disk_usage(self.disk).used
            size = str(used + int(float(left.rstrip("km")) * {"k": 1 << 10, "m": 1 << 20}.get(left[-1], 1)))
        _mount("-o", f"remount,size={size}", str(self.disk))

    @property
    def state(self):
        if not self.nspawn or self.nspawn.poll() is not None:
            return "off"
        return "frozen" if cgroups.frozen(self.cgroup) else "running"

    @property
    def leader(self):
        """Process id of the host's own first process, or None."""
        with contextlib.suppress(OSError, AttributeError, IndexError):
            nspawn = self.nspawn.pid
            children = pathlib.Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
            return int(children[0])

    def inside(self, *words, **options):
        """Run a command on the host as its root, past SSH: for faults, never for what a driver does."""
        return subprocess.run([*self._enter(), *words], capture_output=True, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, **options)

    def inside_later(self, *words):
        """The same for a command that goes on; returns its Popen."""
        return subprocess.Popen([*self._enter(), *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def _enter(self):
        if self.state != "running":
            raise OSError(f"{self.name} is {self.state}")
        return ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--"]

    def _follow(self, nspawn):
        code = nspawn.wait()
        if self.nspawn is nspawn and code == REBOOT:
            time.sleep(0.05)
            self.power_on()


def _mount(*words):
    subprocess.run(["mount", *words], check=True, capture_output=True, text=True)


def _numbers(path):
    return {line.split(":")[0]: int(line.split(":")[2]) for line in path.read_text().splitlines()}


def free(machine):
    """Bytes left on a host's disk."""
    return shutil.disk_usage(machine.disk).free
