"""A Jenkins beside the lab, on request: its builds type `invoke ...` as a person does. Its process only; jobs: jenkins_jobs.py.

It listens on 127.0.0.1 of this machine, where a person's browser finds it, and not in the lab's network: tasks enter that by
themselves. It runs in the lab's control group, so that lab.down ends it and whatever its builds have started.

    python3 -m lab.jenkins CGROUP WORDS...      (by start: enters the control group, and becomes WORDS)

The WAR is of the year 2013, with holes that are known: it asks for a password, reads no objects from strangers, calls nobody,
and is never to listen elsewhere. What it needs on Java 17 was measured (OpenJDK 17.0.15, jenkins-war 1.514): see jenkins17/.
"""

import contextlib
import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bgdeploy import errors
from lab import cgroups, jenkins_jobs, link, setup

USER, FIRST_PORT = "admin", 8090
LIMIT = 240         # seconds to start: 3 on an idle machine, a minute and more on one that is busy
OPEN = ("java.base/java.lang", "java.base/java.lang.reflect", "java.base/java.util", "java.base/java.util.zip",
        "java.base/java.io", "java.base/java.text", "java.desktop/java.awt.font")
SETTINGS = {"java.awt.headless": "true", "file.encoding": "UTF-8",
            # Its command-line port takes Java objects from anybody who can connect; only what its own index of plug-ins is
            # made of may be read.
            "jdk.serialFilter": "net.java.sezpoz.**;java.lang.*;java.util.*;!*",
            "hudson.model.UpdateCenter.never": "true", "hudson.model.DownloadService.never": "true",
            "hudson.udp": "-1", "hudson.DNSMultiCast.disabled": "true"}
# Of the driver's own settings builds get these; everything else comes from who types lab.up.
PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")

CONFIG = """<?xml version='1.0' encoding='UTF-8'?>
<hudson>
  <version>1.514</version><numExecutors>2</numExecutors><mode>NORMAL</mode><quietPeriod>0</quietPeriod>
  <slaveAgentPort>-1</slaveAgentPort><noUsageStatistics>true</noUsageStatistics>
  <workspaceDir>${JENKINS_HOME}/workspace/${ITEM_FULLNAME}</workspaceDir><buildsDir>${ITEM_ROOTDIR}/builds</buildsDir>
  <useSecurity>true</useSecurity>
  <authorizationStrategy class="hudson.security.GlobalMatrixAuthorizationStrategy">
    <permission>hudson.model.Hudson.Administer:@USER@</permission>
  </authorizationStrategy>
  <securityRealm class="hudson.security.HudsonPrivateSecurityRealm"><disableSignup>true</disableSignup></securityRealm>
  <crumbIssuer class="hudson.security.csrf.DefaultCrumbIssuer">
    <excludeClientIPFromCrumb>true</excludeClientIPFromCrumb>
  </crumbIssuer>
</hudson>
"""
PERSON = """<?xml version='1.0' encoding='UTF-8'?>
<user><fullName>@USER@</fullName><properties>
  <hudson.security.HudsonPrivateSecurityRealm_-Details><passwordHash>@HASH@</passwordHash>
  </hudson.security.HudsonPrivateSecurityRealm_-Details>
</properties></user>
"""
LOCATION = """<?xml version='1.0' encoding='UTF-8'?>
<jenkins.model.JenkinsLocationConfiguration><jenkinsUrl>@URL@/</jenkinsUrl></jenkins.model.JenkinsLocationConfiguration>
"""
SSHD = """<?xml version='1.0' encoding='UTF-8'?>
<org.jenkinsci.main.modules.sshd.SSHD><port>-1</port></org.jenkinsci.main.modules.sshd.SSHD>
"""


@dataclass(frozen=True)
class Door:
    """Where a running Jenkins is, and who may come in."""

    url: str
    password: str
    user: str = USER


def home(place):
    return place.folder / "jenkins"


def start(site, place, say=print, environment=None):
    """Start it beside the lab that is up, unless it runs; installs what it needs first, and says so. Makes the sample jobs anew.

    :param environment: more variables for its builds. :returns: Door.
    :raises errors.Refused: something is missing and cannot be installed, or it did not start (the log is named).
    """
    if door := there(place):
        say(f"  jenkins: {door.url} is up already")
        return door
    try:
        setup.set_up(["jenkins"], say)
    except setup.Missing as sentence:
        raise errors.Refused(f"Jenkins needs what is missing here: {sentence}", "/usr/bin/python3 lab/setup.py jenkins") from None
    began, door = time.monotonic(), _prepared(place)
    log = place.log / "jenkins.log"
    port = door.url.rpartition(":")[2]
    words = [setup.jdk("java"), *(f"--add-opens={name}=ALL-UNNAMED" for name in OPEN),
             "--add-exports=java.base/sun.util.calendar=ALL-UNNAMED", *(f"-D{key}={value}" for key, value in SETTINGS.items()),
             f"-javaagent:{setup.agent()}", "-Xmx384m", "-XX:TieredStopAtLevel=1",
             "-jar", str(war()), f"--httpPort={port}", "--httpListenAddress=127.0.0.1", "--ajp13Port=-1"]
    passed = {key: os.environ[key] for key in PASSED if key in os.environ}
    passed |= {key: value for key, value in os.environ.items() if key.startswith("BGDEPLOY_")} | (environment or {})
    passed |= {"JENKINS_HOME": str(home(place)), "BGDEPLOY_ENV": site.name, "BGDEPLOY": str(link.CODE)}
    with open(log, "wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "lab.jenkins", _cgroup(place), *words], cwd=link.CODE, env=passed,
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    (place.run / "jenkins.json").write_text(json.dumps({"url": door.url}))
    say("  jenkins: starts (the first time it unpacks itself) ...")
    jobs = jenkins_jobs.Jenkins(door)
    while not jobs.answers():
        failed = "Failed to initialize Jenkins" in log.read_text(errors="replace")
        if failed or process.poll() is not None or time.monotonic() - began > LIMIT:
            cgroups.kill(_cgroup(place))
            raise errors.Refused(f"Jenkins did not start within {time.monotonic() - began:.0f} s", f"see {log}")
        time.sleep(0.2)
    for name, described in jenkins_jobs.samples(link.CODE).items():
        jobs.make(name, described)
    say(f"  jenkins: {door.url} after {time.monotonic() - began:.1f} s, user {door.user}, password in {password_file(place)}")
    return door


def there(place):
    """The Door of the one that runs beside this lab, or None."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        if cgroups.populated(_cgroup(place)):
            return Door(json.loads((place.run / "jenkins.json").read_text())["url"], password_file(place).read_text().strip())
    return None


def war():
    """The WAR inside the gem, or where it would be."""
    return setup.GEMS["jenkins gem"] / "gems/jenkins-war-1.514/lib/jenkins/jenkins.war"


def missing():
    """What is not installed for it, as names; empty if it can be started."""
    wanted = setup.needs(["jenkins"])
    gone = setup.missing_packages([name for kind, name, _ in wanted if kind == "deb"])
    for kind, folder in setup.GEMS.items():
        gone += setup.missing_gems(folder, [name for its, name, _ in wanted if its == kind])
    return gone


def _cgroup(place):
    return f"{cgroups.home(place.unit)}/jenkins"


def password_file(place):
    return place.folder / "jenkins-password"


def _prepared(place):
    """Its home with the settings of this start; jobs and builds of earlier ones stay. Returns the Door that it will have."""
    if not password_file(place).exists():
        with open(os.open(password_file(place), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(18) + "\n")
    door = Door(f"http://127.0.0.1:{_free_port()}", password_file(place).read_text().strip())
    salt = secrets.token_hex(4)
    digest = hashlib.sha256(f"{door.password}{{{salt}}}".encode()).hexdigest()      # as Acegi mixes a salt in
    for name, text in {"config.xml": CONFIG, f"users/{USER}/config.xml": PERSON, "org.jenkinsci.main.modules.sshd.SSHD.xml": SSHD,
                       "jenkins.model.JenkinsLocationConfiguration.xml": LOCATION}.items():
        file = home(place) / name
        file.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        file.write_text(text.replace("@USER@", USER).replace("@HASH@", f"{salt}:{digest}").replace("@URL@", escape(door.url)))
    return door


def _free_port():
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(("127.0.0.1", port))
            return port
    raise errors.Refused(f"no port from {FIRST_PORT} to {FIRST_PORT + 99} is free for Jenkins")


if __name__ == "__main__":
    cgroups.enter(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
