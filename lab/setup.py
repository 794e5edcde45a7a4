"""Installs what is missing on this machine, and says what and why; needs nothing but Debian's own python3.

    /usr/bin/python3 lab/setup.py run lab test      (sections of lab/packages.txt; without any: run and lab)
    /usr/bin/python3 lab/setup.py jenkins           (what `invoke lab.up --jenkins` needs besides)

A second run finds everything in place and installs nothing. Never removes or downgrades a package.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("BGDEPLOY_CACHE") or HERE.parent / ".cache")
NEEDS = HERE / "packages.txt"
GEMS = {"gem": CACHE / "gems", "test gem": CACHE / "gems-test", "jenkins gem": CACHE / "gems-jenkins"}
AGENT = HERE / "jenkins17"
APT = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]


# Debian starts what it installs, now and at every boot; here these are wanted as programs, not as servers of this machine.
SERVERS = {"haproxy": "haproxy.service", "openssh-server": "ssh.service", "goiardi": "goiardi.service"}
POLICY = pathlib.Path("/usr/sbin/policy-rc.d")


class Missing(Exception):
    """One sentence: what is missing, and how to get it."""


def needs(sections):
    """The wanted lines of packages.txt, in order.

    :returns: list of (kind: "deb" or a key of GEMS, name, why).
    """
    found, section = [], None
    for line in NEEDS.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
        elif line.strip() and not line.startswith("#") and section in sections:
            kind, name, why = re.match(r"((?:test |jenkins )?gem )?\s*(\S+)\s+(.*)", line).groups()
            found.append(((kind or "deb").strip(), name, why))
    return found


def missing_packages(names):
    """Which of these Debian packages are not installed (a package that another one provides counts as installed)."""
    asked = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}|${Package}|${Provides}\n"],
                           capture_output=True, text=True, check=True).stdout
    have = set()
    for line in asked.splitlines():
        state, package, provides = line.split("|", 2)
        if state.startswith("ii"):
            have.add(package)
            have.update(part.split("(")[0].strip() for part in provides.split(","))
    return [name for name in names if name not in have]


def install_packages(names):
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    updated = subprocess.run([*APT, "update"], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    with _nothing_starts():
        done = subprocess.run([*APT, "install", "-y", "--no-install-recommends", *names], capture_output=True, text=True,
                              env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        why = last_line(updated.stderr if updated.returncode else done.stderr)
        raise Missing(f"apt-get could not install {' '.join(names)} ({why}): is the network there? "
                      f"When it is, run: apt-get update && apt-get install {' '.join(names)}")


    for name in names:
        if name in SERVERS and os.path.exists("/usr/bin/systemctl"):
            subprocess.run(["systemctl", "disable", SERVERS[name]], capture_output=True, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def _nothing_starts():
    """Debian's own way to say that packages shall not start their servers (101: not allowed)."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def missing_gems(folder, wanted):
    """A gem's specification is written last, after all it depends on: where it is, the gem is complete."""
    return [gem for gem in wanted if not (folder / "specifications" / f"{gem.replace(':', '-')}.gemspec").exists()]


def install_gems(folder, gems):
    """Into a folder of their own: without --install-dir RubyGems counts Debian's own gems as satisfied, and the copy in
    the hosts' image then lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    log = CACHE / "gems.log"
    with open(log, "wb") as out:
        done = subprocess.run(["gem", "install", "--no-document", "--install-dir", str(folder), *gems],
                              stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Missing(f"gem could not install {' '.join(gems)} ({last_line(log.read_text(errors='replace'))}): "
                      f"is the network there? The whole output is in {log}")


def jdk(tool):
    """The path of java, javac or jar of the JDK that Debian's package brings; another Java may come first on the PATH."""
    return str(next(iter(sorted(pathlib.Path("/usr/lib/jvm").glob(f"java-17-openjdk-*/bin/{tool}"))), tool))


def agent():
    """Where the agent that lets the old Jenkins run on Java 17 is kept; another place for each state of its sources."""
    key = hashlib.sha256()
    for source in sorted(AGENT.rglob("*.java")):
        key.update(source.name.encode() + source.read_bytes())
    return CACHE / f"jenkins17-{key.hexdigest()[:12]}.jar"


def compile_agent():
    """The stand-ins are compiled apart: in the jar they lie where no class loader looks for them, see Agent.java."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        stand_ins = [str(source) for source in (AGENT / "instead").rglob("*.java")]
        manifest, jar = pathlib.Path(work, "manifest"), f"{work}/agent.jar"
        manifest.write_text("Premain-Class: Agent\n")
        for words in ([jdk("javac"), "-d", f"{work}/jar", str(AGENT / "Agent.java")],
                      [jdk("javac"), "-d", f"{work}/jar/instead", *stand_ins],
                      [jdk("jar"), "cfm", jar, str(manifest), "-C", f"{work}/jar", "."]):
            done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode:
                raise Missing(f"{words[0]} could not make the agent for Jenkins ({last_line(done.stderr)}): see {AGENT}")
        os.replace(jar, agent())


def check_machine():
    """Raises Missing when this machine cannot be set up at all."""
    if not os.path.exists("/etc/debian_version") or not os.path.exists("/usr/bin/apt-get"):
        raise Missing("this is not Debian: the lab and its tests are made for Debian 12; run them in such a machine "
                      "(the driver itself only needs what pyproject.toml names)")


def check_root(what):
    if os.geteuid() != 0:
        raise Missing(f"not root: {what} needs root; put sudo in front")


def check_lab():
    """Raises Missing when this user or kernel cannot run the lab's hosts."""
    check_root("making the lab's namespaces and mounts")
    filesystems = pathlib.Path("/proc/filesystems")
    if "\toverlay" not in filesystems.read_text():
        subprocess.run(["modprobe", "overlay"], capture_output=True) if os.path.exists("/sbin/modprobe") else None
    if "\toverlay" not in filesystems.read_text():
        raise Missing("this kernel has no overlay file system: load it with 'modprobe overlay', "
                      "or use a machine or container whose kernel has it")
    tried = subprocess.run(["unshare", "-m", "-n", "-p", "-f", "true"], capture_output=True, text=True)
    if tried.returncode:
        raise Missing(f"this machine does not let root make network, mount and pid namespaces ({last_line(tried.stderr)}): "
                      "use a virtual machine, or a container started as privileged")
    if not any(os.access(f"/sys/fs/cgroup{place}/cgroup.procs", os.W_OK) for place in ("", "/unified")):
        raise Missing("there is no writable cgroup version 2 hierarchy in /sys/fs/cgroup (or in /sys/fs/cgroup/unified): "
                      "mount it, or start the container as privileged")


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def set_up(sections, say=print):
    """Bring this machine to what the sections ask for.

    :returns: number of things installed. :raises Missing: with the one sentence to print.
    """
    check_machine()
    if "lab" in sections and "test" not in sections:        # the tests skip what needs a lab, and say why
        check_lab()
    wanted, installed = needs(sections), 0
    packages = missing_packages([name for kind, name, _ in wanted if kind == "deb"])
    if packages:
        check_root("installing " + " ".join(packages))
        say("Debian packages to install:")
        for _, name, why in wanted:
            if name in packages:
                say(f"  {name:24} {why}")
        started = time.monotonic()
        install_packages(packages)
        say(f"  done in {time.monotonic() - started:.0f} s")
    for kind, folder in GEMS.items():
        gems = missing_gems(folder, [name for its, name, _ in wanted if its == kind])
        if gems:
            say(f"Ruby gems to install into {folder} (with what they need; a minute or so):")
            for its, name, why in wanted:
                if its == kind and name in gems:
                    say(f"  {name:24} {why}")
            started = time.monotonic()
            install_gems(folder, gems)
            say(f"  done in {time.monotonic() - started:.0f} s")
        installed += len(gems)
    if "jenkins" in sections and not agent().exists():
        compile_agent()
    return installed + len(packages)


def main(sections):
    known = re.findall(r"^\[(.*)\]", NEEDS.read_text(), re.M)
    if not set(sections) <= set(known):
        print(f"lab/setup.py: sections are {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        set_up(sections or ["run", "lab"])
    except Missing as sentence:
        print(sentence, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main(sys.argv[1:]))
