"""Cookbooks from a Chef Server with authentication (goiardi): the node's own run list, and a pin that later runs keep."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time

import pytest

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
CLIENT_RB = f"""node_name "green-1"
chef_license "accept-no-persist"
file_cache_path "/var/cache/chef"
chef_server_url "{URL}"
client_key "/etc/chef/client.pem"
validation_client_name "chef-validator"
validation_key "/etc/chef/validation.pem"
ohai.disabled_plugins = [:ShardSeed]
"""


def server_mode(text):
    return re.sub(r"\n +(?:green|blue)-2: .*", "", text).replace("cookbooks: local", "cookbooks: server")


class Site:
    """A lab of two hosts whose cookbooks are on a Chef Server; green-1 is registered there."""

    def __init__(self, lab, shell, folder):
        self.lab, self.shell, self.folder, self.count = lab, shell, folder, 0
        self.site, self.host = lab.site, lab.site.host("green-1")
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

    def root(self, command):
        return self.lab.root("green-1", command)

    def look(self):
        return chef.look(self.shell, self.site, self.host)

    def converge(self, api, web, restart=()):
        self.count += 1
        run = f"server.{self.count}"
        done = chef.start(self.shell, self.site, self.host, run, Release((("api", api), ("web", web))), restart)
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
            validator = (folder / "chef-validator.pem").read_text()
            one.root("mkdir -p /etc/bgdeploy && touch /etc/bgdeploy/server-only; umask 077; "
                     f"cat > /etc/chef/client.rb <<'X'\n{CLIENT_RB}X\ncat > /etc/chef/validation.pem <<'X'\n{validator}X\n"
                     "chef-client --once >/dev/null")
            one.knife("node", "run_list", "set", "green-1", "recipe[api],recipe[web]")
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
