"""A real OpenSSH server on loopback for the tests, with users, shells and sudoers of its own that the machine never sees.

It runs in a private mount namespace over its own /etc/passwd, /etc/sudoers and /home; free port, keys in a temporary folder.
"""

import os
import shutil
import socket
import subprocess
import time

import pytest

from bgdeploy import site

UID = 42042
PASSWORD = "lab-password"
SETUP = """set -e
mount --make-rprivate /
for name in passwd group shadow; do mount --bind {at}/$name /etc/$name; done
[ ! -d /etc/sudoers.d ] || {{ mount -t tmpfs none /etc/sudoers.d; mount --bind {at}/sudoers /etc/sudoers; }}
mount -t tmpfs none /home
cp -r {at}/home /home/deploy
chown -R {uid}:{uid} /home/deploy
cp {at}/authorized /home/authorized
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e -f {at}/sshd_config
"""


def keys(folder, *names, kind="ed25519"):
    """Key pairs without a passphrase: {folder}/NAME and NAME.pub."""
    for name in names:
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", str(folder / name)], check=True)
    return folder / names[0]


def public(path):
    """`TYPE BASE64` of a key file."""
    with open(f"{path}.pub") as stream:
        return " ".join(stream.read().split()[:2])


def _hash(password):
    done = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=password, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


class Sshd:
    """:param hostkeys: key types of the host. :param lines: more lines of sshd_config. :param bashrc: deploy's .bashrc."""

    def __init__(self, at, hostkeys=("ed25519",), lines=(), shell="/bin/bash", bashrc="", sudoers="", addresses=("127.0.0.1",),
                 certificate=False):
        if os.geteuid() != 0 or not shutil.which("unshare"):
            pytest.skip("needs root and unshare: sshd gets users of its own in a private mount namespace")
        if not os.path.exists("/usr/sbin/sshd"):
            pytest.skip("needs openssh-server")
        self.at, self.addresses, self.process = at, addresses, None
        self.log = at / "sshd.log"
        with socket.socket(socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET) as probe:
            probe.bind((addresses[0], 0))
            self.port = probe.getsockname()[1]
        for kind in hostkeys:
            if not (at / f"host_{kind}").exists():
                keys(at, f"host_{kind}", kind=kind)
        self.identity = at / "user"
        if not self.identity.exists():
            keys(at, "user")
        home = at / "home"
        home.mkdir(exist_ok=True)
        (home / ".bashrc").write_text(bashrc)
        (home / ".tcshrc").write_text("")
        (at / "authorized").write_text(public(self.identity) + "\n")
        for name in ("passwd", "group", "shadow"):
            with open(f"/etc/{name}") as stream:
                (at / name).write_text(stream.read() + {
                    "passwd": f"deploy:x:{UID}:{UID}:deploy:/home/deploy:{shell}\n", "group": f"deploy:x:{UID}:\n",
                    "shadow": f"deploy:{_hash(PASSWORD)}:20000:0:99999:7:::\n"}[name])
        (at / "sudoers").write_text(f"Defaults !lecture\nroot ALL=(ALL:ALL) ALL\n{sudoers}\n")
        os.chmod(at / "sudoers", 0o440)
        config = [f"Port {self.port}", *(f"ListenAddress {address}" for address in addresses),
                  *(f"HostKey {at}/host_{kind}" for kind in hostkeys),
                  *([f"HostCertificate {at}/host_{hostkeys[0]}-cert.pub"] if certificate else []),
                  *lines, "PidFile none", "AuthorizedKeysFile /home/authorized", "StrictModes no", "UsePAM no", "LogLevel DEBUG1",
                  "PasswordAuthentication no"]     # the first value counts: `lines` may say otherwise
        (at / "sshd_config").write_text("\n".join(config) + "\n")

    def start(self):
        before = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["unshare", "-m", "/bin/sh", "-c", SETUP.format(at=self.at, uid=UID)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(200):
            if self.process.poll() is not None:
                pytest.fail("sshd did not start: " + self.log.read_text()[-2000:])
            if "Server listening" in self.log.read_text()[before:]:
                return self
            time.sleep(0.05)
        pytest.fail("sshd does not listen: " + self.log.read_text()[-2000:])

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def name(self, address="127.0.0.1"):
        return f"[{address}]:{self.port}"

    def known(self, *lines):
        """A known_hosts file with these lines, or with the first host key of the server."""
        path = self.at / "known_hosts"
        path.write_text("\n".join(lines or [f"{self.name()} {public(self.hostkey())}"]) + "\n")
        return str(path)

    def hostkey(self, kind=None):
        return self.at / f"host_{kind}" if kind else sorted(p for p in self.at.glob("host_*") if not p.suffix)[0]

    def site(self, **ssh):
        """What of a site.Site the SSH port reads."""
        given = {"user": "deploy", "identity": str(self.identity), "known_hosts": None, "config": os.devnull, **ssh}
        given["known_hosts"] = given["known_hosts"] or self.known()
        return Part(site.Ssh(**given))

    def host(self, name="green-1", address="127.0.0.1"):
        return site.Host(name, "green", address, self.port)


class Part:
    """The one section of a site that a port needs."""

    def __init__(self, ssh):
        self.ssh = ssh
