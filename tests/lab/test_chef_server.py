"""Cookbooks from a Chef Server with authentication (goiardi): the node's own run list, and a pin that later runs keep."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from bgdeploy import journal
from bgdeploy.model import Release
from bgdeploy.outside import chef, packages
from bgdeploy.outside.ssh import Shell
from tests.lab.labs import PROJECT
from tests.test_cookbooks import GEMS

OLD, NEW = "1.0.0-1", "2.0.0-1"
URL = "http://10.77.0.2:4646"
LIMIT = 300.0
KNIFE = GEMS / "bin/knife"
pytestmark = [
    pytest.mark.skipif(not shutil.which("goiardi"), reason="goiardi is not installed: it is the Chef Server of these tests"),
    pytest.mark.skipif(not KNIFE.exists(), reason=f"knife is not in {GEMS}: make test installs it")]
CLIENT_RB = f"""node_name "@NODE@"
chef_license "accept-no-persist"
file_cache_path "/var/cache/chef"
chef_server_url "{URL}"
client_key "/etc/chef/client.pem"
validation_client_name "chef-validator"
validation_key "/etc/chef/validation.pem"
ohai.disabled_plugins = [:ShardSeed]
"""


# A daemon as sites have it: a run every few seconds, each noted when it has ended.
DAEMON = """[Service]
ExecStart=/bin/sh -c 'while sleep 2; do /usr/bin/chef-client --once >/root/daemon.log 2>&1; echo $? >>/root/daemon; done'
[Install]
WantedBy=multi-user.target
"""


def server_mode(text):
    return re.sub(r"\n +(?:green|blue)-2: .*", "", text).replace("cookbooks: local", "cookbooks: server")


class Site:
    """A lab of two hosts whose cookbooks are on a Chef Server; both are registered there."""

    def __init__(self, lab, shell, folder):
        self.lab, self.shell, self.folder, self.count = lab, shell, folder, 0
        self.site, self.host = lab.site, lab.site.host("green-1")
        self.plain = replace(self.site, chef=replace(self.site.chef, reserve=0.0))
        self.server = None

    def serve(self):
        (self.folder / "files").mkdir(exist_ok=True)
        self.server = subprocess.Popen(
            ["goiardi", "-A", "-I", "10.77.0.2", "-H", "10.77.0.2", "-P", "4646", f"--conf-root={self.folder}",
             f"--local-filestore-dir={self.folder}/files", "-D", f"{self.folder}/data", "-i", f"{self.folder}/index", "-F", "1",
             "-L", f"{self.folder}/log"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.eventually(lambda: self.lab.run("curl", "-s", "-o", "/dev/null", f"{URL}/").returncode == 0)

    def stop(self):
        self.server.terminate()
        self.server.wait(10)

    @staticmethod
    def eventually(look, limit=60.0):
        until = time.monotonic() + limit
        while not look():
            assert time.monotonic() < until, "it did not come about"
            time.sleep(0.2)

    def knife(self, *words):
        done = subprocess.run(["ruby", str(KNIFE), *words, "-c", str(self.folder / "knife.rb")], capture_output=True, text=True,
                              timeout=180, env={**os.environ, "GEM_HOME": str(GEMS), "GEM_PATH": str(GEMS)})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def root(self, command, host="green-1"):
        return self.lab.root(host, command)

    def register(self, host):
        validator = (self.folder / "chef-validator.pem").read_text()
        self.root("mkdir -p /etc/bgdeploy && touch /etc/bgdeploy/server-only; umask 077; "
                  f"cat > /etc/chef/client.rb <<'X'\n{CLIENT_RB.replace('@NODE@', host)}X\n"
                  f"cat > /etc/chef/validation.pem <<'X'\n{validator}X\nchef-client --once >/dev/null", host)
        self.knife("node", "run_list", "set", host, "recipe[api],recipe[web]")

    def ended(self):
        """How many runs of the daemon have ended."""
        return int(self.root("cat /root/daemon 2>/dev/null | wc -l"))

    def journal(self):
        return journal.read(max((self.lab.folder / "state/runs").iterdir()) / "journal.jsonl")

    def look(self):
        return chef.look(self.shell, self.site, self.host)

    def converge(self, api, web, restart=()):
        self.count += 1
        run = f"server.{self.count}"
        done = chef.start(self.shell, self.plain, self.host, run, Release((("api", api), ("web", web))), restart)
        assert done.outcome == "ok", done.detail
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            seen = self.look()
            if seen.job.run == run and seen.job.state != "running":
                return seen
            time.sleep(0.3)
        raise AssertionError(seen)

    def answers(self, port):
        return re.search(r'"version": "([^"]*)"', self.root(f"curl -s http://127.0.0.1:{port}/heartbeat/detail"))[1]


@pytest.fixture(scope="module")
def site(make_lab, tmp_path_factory):
    lab = make_lab("-chef-server", server_mode)
    folder = tmp_path_factory.mktemp("goiardi")
    packages.prepare_repository(lab.site)
    for component in ("api", "web"):
        for version in ("1.0.0", "2.0.0"):
            packages.publish(lab.site, component, version, description_file=PROJECT / f"lab/apps/{component}.yml")
    (folder / "knife.rb").write_text(f'chef_server_url "{URL}"\nnode_name "admin"\nclient_key "{folder}/admin.pem"\n'
                                     f'cookbook_path ["{PROJECT}/cookbooks"]\nchef_license "accept-no-persist"\n')
    with lab.inside(), contextlib.closing(Shell(lab.site)) as shell:
        one = Site(lab, shell, folder)
        one.serve()
        try:
            one.knife("cookbook", "upload", "--all")
            for host in ("green-1", "blue-1"):
                one.register(host)
            yield one
        finally:
            one.stop()


def test_the_nodes_own_run_list_is_converged_at_the_pinned_version(site):
    seen = site.converge(OLD, OLD)
    assert seen.job.state == "ok", seen.job.tail
    assert seen.packages == {"api": OLD, "web": OLD} and site.answers(8080) == OLD
    seen = site.converge(NEW, NEW)
    assert seen.job.state == "ok" and site.answers(8080) == NEW and site.answers(8081) == NEW


def test_a_plain_run_afterwards_leaves_version_and_process_alone(site):
    seen = site.converge(OLD, NEW)
    assert seen.job.state == "ok" and seen.packages == {"api": OLD, "web": NEW}
    before = seen.services
    site.root("chef-client --once >/root/plain.log 2>&1")
    after = site.look()
    assert after.packages == {"api": OLD, "web": NEW} and after.services == before


def test_a_restart_that_was_asked_for_is_not_repeated_by_later_runs(site):
    before = site.converge(OLD, OLD).services["api"][1]
    once = site.converge(OLD, OLD, restart=("api",)).services
    assert once["api"][1] != before
    site.root("chef-client --once >/root/plain.log 2>&1")
    assert site.look().services == once


def test_an_attribute_of_a_higher_level_shows_in_what_runs_and_not_in_chefs_word(site):
    """An environment's override outranks what a deployment sets: Chef is content, the version is another."""
    site.converge(OLD, OLD)
    (site.folder / "held.json").write_text(json.dumps(
        {"name": "held", "override_attributes": {"bgdeploy": {"versions": {"web": OLD}}}}))
    site.knife("environment", "from", "file", str(site.folder / "held.json"))
    site.knife("node", "environment", "set", "green-1", "held")
    try:
        seen = site.converge(NEW, NEW)
    finally:
        site.knife("node", "environment", "set", "green-1", "_default")
    assert seen.job.state == "ok" and seen.packages == {"api": NEW, "web": OLD} and site.answers(8080) == OLD
    assert seen.report["versions"] == {"api": NEW, "web": OLD} and seen.report["outranked"] == {"web": "env_override"}


def test_other_runs_wait_while_a_host_is_out_and_go_on_by_themselves_where_nobody_comes_back(site):
    short = replace(site.site, chef=replace(site.site.chef, reserve=20.0))
    site.converge(OLD, OLD)
    assert chef.release(site.shell, site.site, site.host).evidence["released"] is False
    done = chef.start(site.shell, short, site.host, "abandoned", Release((("api", NEW), ("web", NEW))))
    assert done.outcome == "ok" and "other Chef runs there wait" in done.detail
    began = time.monotonic()
    site.root("chef-client --once >/root/plain.log 2>&1")           # a person's: waits, then runs
    assert time.monotonic() - began > 5
    seen = site.look()
    assert seen.reserved is None and seen.job.state == "ok" and seen.packages == {"api": NEW, "web": NEW}
    assert "will wait for it to finish" in site.root("cat /root/plain.log")
    assert site.root("systemctl list-units --no-legend 'bgdeploy-*' | wc -l").strip() == "0"


def test_a_daemon_is_held_off_from_a_converge_until_the_host_serves_also_past_a_killed_driver(site):
    assert site.lab.invoke("rollout", "--version", "1.0.0", limit=600).returncode == 0
    assert [e["hosts"] for e in site.journal() if e["kind"] == "released"] == [["green-1"], ["blue-1"]]
    site.root(f"cat > /etc/systemd/system/chef-client.service <<'X'\n{DAEMON}X\n"
              "systemctl daemon-reload; systemctl enable -q --now chef-client")
    before = site.root("systemctl is-enabled chef-client; systemctl show -P InvocationID chef-client")
    site.eventually(lambda: site.ended() > 0)
    driver = subprocess.Popen([sys.executable, "-m", "invoke", "deploy", "--env", site.lab.name, "--stack", "green", "--version",
                               "2.0.0"], cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              env={**os.environ, "BGDEPLOY_STATE": str(site.lab.folder / "state")})
    site.eventually(lambda: (site.look().reserved or {}).get("held") is True, LIMIT)
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    ran = site.ended()
    site.eventually(lambda: site.look().job.state == "ok", LIMIT)
    checked = site.lab.invoke("check").stdout
    assert "other Chef runs wait there for run" in checked
    time.sleep(5)                                                   # longer than the daemon waits between two runs
    assert site.ended() == ran and site.look().packages == {"api": NEW, "web": NEW}
    done = site.lab.invoke("resume", limit=600)
    assert done.returncode == 0, done.stdout
    assert "other Chef runs go on again on green-1" in done.stdout
    serving = site.look().services
    site.eventually(lambda: site.ended() > ran + 1)                 # the one that waited, and another one
    assert site.root("systemctl is-enabled chef-client; systemctl show -P InvocationID chef-client") == before
    site.root("systemctl disable -q --now chef-client")
    site.eventually(lambda: site.look().job.kind == "chef")
    assert site.look().services == serving and site.answers(8080) == NEW and site.look().reserved is None


def test_a_deployment_that_somebody_higher_outranks_stops_and_names_the_level_and_the_attribute(site):
    (site.folder / "held.json").write_text(json.dumps(
        {"name": "held", "override_attributes": {"bgdeploy": {"versions": {"web": NEW}}}}))
    site.knife("environment", "from", "file", str(site.folder / "held.json"))
    site.knife("node", "environment", "set", "green-1", "held")
    try:
        done = site.lab.invoke("deploy", "--stack", "green", "--version", "1.0.0", "--older", limit=600)
    finally:
        site.knife("node", "environment", "set", "green-1", "_default")
    assert done.returncode == 4, done.stdout
    assert "node['bgdeploy']['versions']['web'] is set by env_override, which outranks a deployment's" in done.stdout
    assert site.look().reserved["held"] is True                     # the run is open: resume, or its time, ends that
    assert site.lab.invoke("resume", limit=600).returncode == 0
    assert site.answers(8080) == OLD and site.look().reserved is None


def test_cookbooks_and_recipes_by_ssh_are_refused_on_such_a_host(site):
    """The user may start the site's recipes at a version, and nothing else."""
    revision, content = chef.revision(str(PROJECT / "cookbooks"))
    sent = chef.send_cookbooks(site.shell, site.site, site.host, revision, content)
    assert sent.outcome == "failed" and "only from its Chef Server" in sent.detail
    argv = ["start", "--run", "evil", "--release", "web=2.0.0-1", "--limit", "60", "--versions", "web=2.0.0-1", "--recipes",
            "odd",
            "--cookbooks", revision, "--mode", "local"]
    answer = site.shell.sudo(site.host, [site.site.ssh.helper, *argv])
    assert answer.exit == 3 and b"only from its Chef Server" in answer.out
    for more in (["--attributes", "web=bgdeploy.repository"], ["--config", "/tmp/x"], ["--override-runlist", "odd"],
                 ["--versions", "web=2.0.0-1 --config /tmp/x"], ["--run", "../../etc"], ["--cookbooks", "/etc"],
                 ["--release", "x\n-o odd"], ["--limit", "60;id"]):
        words = ["start", "--run", "evil", "--release", "web=2.0.0-1", "--limit", "60", "--versions", "web=2.0.0-1",
                 "--mode", "server"]
        words = [*words[:words.index(more[0])], *words[words.index(more[0]) + 2:], *more] if more[0] in words else words + more
        answer = site.shell.sudo(site.host, [site.site.ssh.helper, *words])
        assert answer.exit in (2, 3) and b"evil" not in site.root("ls /var/lib/bgdeploy/runs").encode(), (more, answer)
    for command in ("sudo -n /usr/sbin/bgdeploy-host/../../bin/id", "sudo -n -u root /usr/lib/bgdeploy-host/run.sh /tmp id",
                    "sudo -n /usr/lib/bgdeploy-host/reserve",
                    "sudo -nE PYTHONPATH=/tmp /usr/sbin/bgdeploy-host look --components web",
                    "sudo -n chef-client --local-mode", "sudo -n bash -c id", "sudo -n sudoedit /etc/chef/client.rb"):
        assert site.lab.ssh("green-1", command).returncode != 0, command
    assert site.lab.ssh("green-1", "sudo -n chef-client --version").returncode != 0
    assert site.lab.ssh("green-1", "sudo -n /usr/bin/systemctl status").returncode != 0


def test_a_chef_server_that_is_down_is_told_in_seconds(site):
    site.stop()
    try:
        began = time.monotonic()
        seen = site.converge(OLD, OLD)
        spent = time.monotonic() - began
    finally:
        site.serve()
    assert seen.job.state == "failed" and seen.exit == 1 and "10.77.0.2:4646" in seen.job.tail
    assert spent < 60      # 77 s with Chef's own retries; a busy machine needs some of these to start Ruby
    assert site.converge(OLD, OLD).job.state == "ok"


def test_a_key_that_the_server_does_not_know_is_told(site):
    site.root("cp /etc/chef/client.pem /root/; rm -f /root/k; ssh-keygen -q -t rsa -m PEM -N '' -f /root/k; "
              "cp /root/k /etc/chef/client.pem")
    try:
        seen = site.converge(OLD, OLD)
    finally:
        site.root("cp /root/client.pem /etc/chef/client.pem")
    assert seen.job.state == "failed" and "401" in seen.job.tail
