"""Hosts as the field has them, under whole deployments: no programs run from /tmp, proxies everywhere, a login shell that prints,
a firewall that forgets a silent session, a disk that is full, somebody else's dnf, a reboot that Chef asks for.

One lab of a host a stack. The tests build on each other.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time

import pytest

from bgdeploy import journal
from lab import lab as data_centre, network
from tests.lab.labs import PROJECT

LONG = 900
PROXIES = {name: "http://127.0.0.1:1" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY")}
WRAPPER = r"""#!/bin/bash
# What /etc/bgdeploy-case asks for, once; then the real one.
said=$(cat /etc/bgdeploy-case 2>/dev/null)
rm -f /etc/bgdeploy-case
case $said in
silent) sleep 40 ;;
reboot) systemd-run --quiet --on-active=2 systemctl reboot; exit 35 ;;
esac
exec /opt/real/chef-client "$@"
"""
HOLD_DNF = """import dnf.base, dnf.lock, time
base = dnf.base.Base()
with dnf.lock.build_rpmdb_lock(base.conf.persistdir, True):
    open("/run/held", "w").close()
    time.sleep(25)
"""


def described(text):
    """The balancers have patience, and SSH little: a dead session is to be noticed in seconds here."""
    text = re.sub(r"\n +(?:green|blue)-2: .*", "", text)
    text = re.sub(r"interval: .*timeout: 2", "interval: 2, fall: 2, rise: 2, timeout: 3", text)
    return re.sub(r"(ssh: \{)", r"\1keepalive: 4, ", text)


class Field:
    def __init__(self, lab):
        self.lab = lab
        self.environment = {"BGDEPLOY_STATE": str(lab.folder / "state"), "BGDEPLOY_ENV": lab.name}

    def invoke(self, task, *words, **environment):
        return self.lab.invoke(task, *words, limit=LONG, **environment)

    def start(self, task, *words, **environment):
        return subprocess.Popen([sys.executable, "-m", "invoke", task, *words], cwd=PROJECT, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                env={**os.environ, **self.environment, **environment})

    def events(self):
        return journal.read(max((self.lab.folder / "state/runs").iterdir()) / "journal.jsonl")

    def converged(self):
        return [e["hosts"] for e in self.events() if e["kind"] == "doing" and e["step"] == "converge"]

    def until(self, process, true):
        until = time.monotonic() + LONG
        while not true():
            assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
            time.sleep(0.2)

    def forget(self, address):
        """A firewall that knows the SSH sessions to this address no more: their packets are dropped, new sessions pass."""
        said = self.lab.run("ss", "-Htn", "state", "established", "dst", f"{address}:22").stdout
        ports = ", ".join(sorted({line.split()[2].rpartition(":")[2] for line in said.splitlines()}))
        rules = "".join(f"tcp {way} {{ {ports} }} counter drop\n" for way in ("sport", "dport"))
        table = f"table bridge firewall {{\nchain forward {{\ntype filter hook forward priority 1;\n{rules}}}\n}}\n"
        self.switch("nft", "-f", "-", said=table)

    def dropped(self):
        return sum(map(int, re.findall(r"packets (\d+)", self.switch("nft", "list", "table", "bridge", "firewall"))))

    def switch(self, *words, said=""):
        place = f"/proc/{data_centre.process(self.lab.site)}/root/run/netns/{network.SWITCH}"
        done = subprocess.run(["nsenter", f"--net={place}", "--", *words], input=said, text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def field(make_lab):
    one = Field(make_lab("f", described))
    proxies = "".join(f"{name}={url}\n" for name, url in PROXIES.items())
    for host in ("green-1", "blue-1"):
        one.lab.root(host, "mkdir /opt/real; mv /usr/bin/chef-client /opt/real/; "
                           f"printf %s {shlex.quote(WRAPPER)} > /usr/bin/chef-client; chmod 755 /usr/bin/chef-client; "
                           "for at in /tmp /var/tmp; do mount -t tmpfs -o noexec,nosuid,nodev tmpfs $at; done; "
                           f"printf %s {shlex.quote(proxies)} >> /etc/environment; "
                           "echo 'echo Welcome, authorised use only' > /home/deploy/.bashrc")
    for version in ("1.0.0", "2.0.0"):
        for component in ("api", "web"):
            assert one.invoke("publish", "--component", component, "--version", version).returncode == 0
    return one


def test_a_session_that_a_firewall_forgets_in_a_silent_converge_is_replaced_and_the_same_run_followed(field):
    """On hosts with proxies in /etc/environment, /tmp without programs and a shell that prints; the driver's has proxies, too."""
    field.lab.root("green-1", "echo silent > /etc/bgdeploy-case")
    process = field.start("rollout", "--version", "1.0.0", **PROXIES)
    field.until(process, lambda: (field.lab.folder / "state/runs").exists() and field.converged() == [["green-1"]])
    field.until(process, lambda: [e for e in field.events() if e["kind"] == "waiting" and e["wait"] == "chef"])
    field.forget("10.77.0.11")
    said = process.communicate(timeout=LONG)[0]
    assert process.returncode == 0, said
    assert field.dropped() > 0 and field.converged() == [["green-1"], ["blue-1"]]
    assert "Welcome" not in json.dumps(field.events()) + said
    checked = field.invoke("check", **PROXIES)
    assert checked.returncode == 0 and "the login shell prints by itself" in checked.stdout, checked.stdout


@pytest.mark.parametrize("harm, mend, sentence", [
    ("sed -i.kept /chef_license/d /etc/chef/client.rb", "mv /etc/chef/client.rb.kept /etc/chef/client.rb",
     "licence is not accepted"),
    ("echo 'http_proxy \"http://127.0.0.1:1\"' >> /etc/chef/client.rb", "sed -i /http_proxy/d /etc/chef/client.rb",
     "no_proxy does not name 10.77.0.6"),
    ("mount --bind /usr /usr && mount -o remount,bind,ro /usr", "mount -o remount,bind,rw /usr", "/usr is mounted read-only"),
    ("systemctl -q enable chef-client", "systemctl -q disable chef-client", "starts chef-client by itself")])
def test_what_would_stop_a_converge_half_way_refuses_the_deployment_while_everything_still_serves(field, harm, mend, sentence):
    field.lab.root("green-1", "printf '[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n' > "
                              f"/etc/systemd/system/chef-client.service; {harm}")
    try:
        done = field.invoke("deploy", "--stack", "green", "--version", "2.0.0")
        checked = field.invoke("check")
    finally:
        field.lab.root("green-1", mend)
    assert (done.returncode, checked.returncode) == (3, 3), done.stdout + checked.stdout
    assert sentence in done.stdout + done.stderr and sentence in checked.stdout, done.stdout + done.stderr + checked.stdout
    status = json.loads(field.invoke("status", "--json").stdout)
    assert [s["verdict"] for s in status["stacks"]] == ["live", "live"]


def test_a_full_disk_is_warned_of_named_and_after_making_room_resume_ends_it_also_over_a_reboot(field):
    field.lab.break_("disk-full", "green-1", left="300k")
    try:
        assert re.search(r"green-1 +0 MB are free in /var", field.invoke("check").stdout)
        done = field.invoke("deploy", "--stack", "green", "--version", "2.0.0")
    finally:
        field.lab.mend("disk-full", "green-1")
    assert done.returncode == 4 and re.search(r"Chef ended failed on green-1: No space left on /\S*", done.stdout), done.stdout
    status = json.loads(field.invoke("status", "--json").stdout)
    assert {s["name"]: s["verdict"] for s in status["stacks"]}["blue"] == "live"
    green = [s for s in status["stacks"] if s["name"] == "green"][0]
    assert "live" not in {c["heartbeat"] for h in green["hosts"] for c in h["components"]}
    field.lab.root("green-1", "echo reboot > /etc/bgdeploy-case")
    done = field.invoke("resume")
    assert done.returncode == 0 and "Chef asked for a reboot" in done.stdout, done.stdout
    assert len(field.converged()) == 3          # the one that failed, the one that asked for a reboot, the one after it


def test_a_process_older_than_its_package_is_renewed_and_somebody_elses_dnf_is_named_and_waited_for(field):
    """What a Chef run that was killed after dnf leaves: the next one sees nothing to do. A person's change of a file that Chef
    writes goes, and the host's log says so (without the difference: it may show passwords)."""
    field.lab.root("blue-1", "cp -p /etc/web/web.json /root/ && sed -i '0,/{/s//{\"by_hand\": true,/' /etc/web/web.json")
    field.lab.root("blue-1", f"dnf -y -q install api-2.0.0-1; printf %s {shlex.quote(HOLD_DNF)} > /root/hold.py; "
                             "systemd-run --quiet --unit=dnf-automatic python3 /root/hold.py; "
                             "for i in $(seq 100); do test -e /run/held && break; sleep 0.1; done; test -e /run/held")
    done = field.invoke("deploy", "--stack", "blue", "--version", "2.0.0")
    assert done.returncode == 0, done.stdout
    assert re.search(r"dnf's lock is held by pid \d+ of root since .*: .*hold\.py", done.stdout), done.stdout
    assert field.converged() == [["blue-1"], ["blue-1"]]
    field.lab.root("blue-1", "cmp /root/web.json /etc/web/web.json")
    log = (max((field.lab.folder / "state/runs").iterdir()) / "hosts/blue-1/chef.log").read_text()
    assert re.search(r"file\[/etc/web/web\.json\] action create\s+- update content in file", log), log
    assert '"version": "2.0.0-1"' in field.lab.root("blue-1", "curl -s http://127.0.0.1:8081/heartbeat/detail")
