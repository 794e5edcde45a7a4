"""Real Chef on a real host, through the helper and the port: every end of a converge that a deployment must tell apart."""

import contextlib
import re
import shutil
import time
from dataclasses import replace

import pytest

from bgdeploy.errors import NoAnswer
from bgdeploy.model import Release
from bgdeploy.outside import chef, packages
from bgdeploy.outside.ssh import Shell
from tests.lab.labs import PROJECT

OLD, NEW = "1.0.0-1", "2.0.0-1"
LIMIT = 300.0       # the machine that runs the tests may be busy with others


def two_hosts(text):
    return re.sub(r"\n +(?:green|blue)-2: .*", "", text)


class Host:
    """green-1 of a lab with two hosts: converge it, look at it."""

    def __init__(self, lab, shell, cookbooks):
        self.lab, self.shell, self.cookbooks, self.count = lab, shell, cookbooks, 0
        self.site, self.host = lab.site, lab.site.host("green-1")

    def look(self):
        return chef.look(self.shell, self.site, self.host)

    def root(self, command):
        return self.lab.root("green-1", command)

    def start(self, api=NEW, web=NEW, restart=(), **settings):
        """Start a converge; returns the run's id."""
        site = replace(self.site, chef=replace(self.site.chef, **settings))
        revision, content = chef.revision(str(self.cookbooks))
        assert chef.send_cookbooks(self.shell, site, self.host, revision, content).outcome == "ok"
        self.count += 1
        run = f"test.{self.count}"
        done = chef.start(self.shell, site, self.host, run, Release((("api", api), ("web", web)), revision), restart)
        assert done.outcome == "ok", done.detail
        return run

    def end(self, run):
        """Follow a run to its end; returns what the host says then."""
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            with contextlib.suppress(NoAnswer):     # a host that reboots
                seen = self.look()
                if seen.job.run == run and seen.job.state != "running":
                    return seen
            time.sleep(0.3)
        raise AssertionError(f"{run} does not end: {seen}")

    def converge(self, *versions, **settings):
        return self.end(self.start(*versions, **settings))

    def answers(self, component, port):
        """(version, start id) of the process that runs."""
        said = self.root(f"curl -s http://127.0.0.1:{port}/heartbeat/detail")
        return re.search(r'"version": "([^"]*)"', said)[1], re.search(r'"start": "([^"]*)"', said)[1]


@pytest.fixture(scope="module")
def host(make_lab, tmp_path_factory):
    lab = make_lab("-chef", two_hosts)
    packages.prepare_repository(lab.site)
    for component in ("api", "web"):
        for version in ("1.0.0", "2.0.0", "2.0.1"):
            packages.publish(lab.site, component, version, description_file=PROJECT / f"lab/apps/{component}.yml")
    cookbooks = tmp_path_factory.mktemp("cookbooks") / "all"
    shutil.copytree(PROJECT / "cookbooks", cookbooks)
    (cookbooks / "odd/recipes").mkdir(parents=True)
    (cookbooks / "odd/metadata.rb").write_text("name 'odd'\nversion '1.0.0'\n")
    for recipe, text in ODD.items():
        (cookbooks / f"odd/recipes/{recipe}.rb").write_text(text)
    with lab.inside(), contextlib.closing(Shell(lab.site)) as shell:
        one = Host(lab, shell, cookbooks)
        yield one


ODD = {
    "reboot": "reboot('now') { action :reboot_now; delay_mins 0; not_if { "
              "::File.exist?('/var/lib/was') || !::File.write('/var/lib/was', '') } }\n",
    "slow": "execute('slow') { command 'sleep 600' }\n",
    "flood": "ruby_block('flood') { block { puts 'y' * 1_000_000; raise 'z' * 1_000_000 } }\n",
    "compile": "raise 'not today'\n",
    "bare": "dnf_package('web') { version '2.6.1-1'; flush_cache before: true }\n",
}


@pytest.fixture
def installed(host):
    """The old version, whatever the test before left."""
    seen = host.look()
    if seen.packages != {"api": OLD, "web": OLD} or {active for active, _ in seen.services.values()} != {"active"}:
        assert host.converge(OLD, OLD).job.state == "ok"
    return host


def test_a_first_installation_starts_each_service_once(host):
    host.root("dnf -y -q remove api web >/dev/null 2>&1; rm -f /etc/yum.repos.d/bgdeploy.repo")
    seen = host.converge(OLD, OLD)
    assert seen.job.state == "ok" and seen.packages == {"api": OLD, "web": OLD}
    assert host.answers("web", 8080) == (OLD, seen.services["web"][1])
    assert host.answers("api", 8081) == (OLD, seen.services["api"][1])
    assert host.root("journalctl -q -u web --no-pager | grep -c 'Started '").strip() == "1"


def test_the_same_version_again_changes_nothing_and_restarts_nothing(installed):
    before = installed.look().services
    seen = installed.converge(OLD, OLD)
    assert seen.job.state == "ok" and seen.report["updated_count"] == 0 and seen.services == before


def test_an_upgrade_and_a_downgrade_change_package_and_process(installed):
    before = installed.look().services
    up = installed.converge(NEW, NEW)
    assert up.job.state == "ok" and up.packages == {"api": NEW, "web": NEW}
    assert installed.answers("web", 8080) == (NEW, up.services["web"][1])
    assert up.services["web"][1] != before["web"][1]
    assert "dnf_package[web]" in [changed["resource"] for changed in up.report["updated"]]
    assert up.job.release.startswith("api=2.0.0-1,web=2.0.0-1@")
    down = installed.converge(OLD, OLD)
    assert down.job.state == "ok" and down.packages == {"api": OLD, "web": OLD} and installed.answers("api", 8081)[0] == OLD


def test_an_unknown_version_fails_with_a_sentence_that_says_so_and_touches_nothing(installed):
    before = installed.look().services
    seen = installed.converge(OLD, "9.9.9-1")
    assert seen.job.state == "failed" and seen.exit == 1
    assert "version 9.9.9-1 is not in the repository as this host sees it" in seen.job.tail
    assert seen.services == before and seen.packages["web"] == OLD


def test_a_repository_that_is_down_fails_even_for_the_same_version_and_names_the_url(installed):
    installed.lab.break_("dead", "repository")
    try:
        seen = installed.converge(OLD, OLD)
        with pytest.raises(NoAnswer):
            packages.available(installed.site, "web")
    finally:
        installed.lab.mend("dead", "repository")
    assert seen.job.state == "failed" and "http://10.77.0.6:8000" in seen.job.tail and "dnf_package[api]" in seen.job.tail


def test_a_service_that_does_not_start_fails_and_the_next_version_over_it_comes_up(installed):
    seen = installed.converge("2.0.1-1", OLD)
    assert seen.job.state == "failed" and "service[api]" in seen.job.tail and seen.packages["api"] == "2.0.1-1"
    assert seen.services["api"][0] in ("activating", "failed") and seen.services["web"][0] == "active"
    # until systemd's start limit is used up
    installed.root("for i in $(seq 60); do systemctl is-failed -q api && exit; sleep 0.5; done; true")
    seen = installed.converge(NEW, OLD)
    assert seen.job.state == "ok" and installed.answers("api", 8081)[0] == NEW


def test_a_removal_script_that_stops_the_service_on_upgrades_too_leaves_it_down_unless_the_recipe_starts_it(installed, tmp_path):
    for folder in ("lab/apps", "heartbeat_kit"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    description, warned = tmp_path / "lab/apps/web.yml", []
    description.write_text(description.read_text().replace("scripts:\n", "scripts:\n  before-remove: scripts/stop.sh\n"))
    (tmp_path / "lab/apps/scripts/stop.sh").write_text("systemctl stop web\n")
    for version in ("2.6.0", "2.6.1"):
        packages.publish(installed.site, "web", version, description_file=description, say=warned.append)
    assert any("before-remove script" in said for said in warned)
    assert installed.converge(OLD, "2.6.0-1").services["web"][0] == "active"
    seen = installed.converge(OLD, "2.6.1-1", run_list=("odd::bare",))
    assert seen.job.state == "ok" and seen.packages["web"] == "2.6.1-1" and seen.services["web"][0] == "inactive"
    assert installed.converge(OLD, "2.6.1-1").services["web"][0] == "active"


def test_a_version_is_found_at_once_though_the_host_keeps_metadata_for_days(installed):
    installed.root("grep -q metadata_expire /etc/dnf/dnf.conf || echo metadata_expire=48h >> /etc/dnf/dnf.conf; dnf -q makecache")
    packages.publish(installed.site, "web", "2.5.0", description_file=PROJECT / "lab/apps/web.yml")
    assert installed.converge(OLD, "2.5.0-1").packages["web"] == "2.5.0-1"


def test_an_epoch_is_installed_and_taken_back(installed):
    packages.publish(installed.site, "web", "1:1.0", description_file=PROJECT / "lab/apps/web.yml")
    assert packages.available(installed.site, "web")[0] == "1:1.0-1"
    assert installed.converge(OLD, "1:1.0-1").packages["web"] == "1:1.0-1"
    assert installed.converge(OLD, "1:1.0-1").report["updated_count"] == 0
    assert installed.converge(OLD, OLD).packages["web"] == OLD


def test_chef_is_content_with_a_stale_process_and_a_restart_asked_for_renews_it(installed):
    """A run that was killed after dnf: package new, process old, and the next run sees nothing to do."""
    installed.root("dnf -y -q install api-2.0.0-1")
    assert installed.answers("api", 8081)[0] == OLD
    again = installed.converge(NEW, OLD)
    assert again.job.state == "ok" and again.packages["api"] == NEW and installed.answers("api", 8081)[0] == OLD
    renewed = installed.converge(NEW, OLD, restart=("api",))
    assert renewed.job.state == "ok" and installed.answers("api", 8081) == (NEW, renewed.services["api"][1])


def test_a_run_that_was_killed_is_lost_and_leaves_no_process(installed):
    run = installed.start(OLD, OLD, run_list=("odd::slow",))
    installed.root(f"for i in $(seq 300); do grep -q 'execute.slow' /var/lib/bgdeploy/runs/{run}/out && break; sleep 0.2; done; "
                   f"systemctl kill -s KILL --kill-who=main bgdeploy-{run}")
    seen = installed.end(run)
    assert seen.job.state == "lost" and "SIGKILL" in seen.job.tail and seen.report is None
    assert installed.root("pgrep -fc '^sleep 600' || true").strip() == "0"


def test_a_run_that_is_stopped_ends_within_seconds(installed):
    run = installed.start(OLD, OLD, run_list=("odd::slow",))
    installed.root(f"for i in $(seq 300); do grep -q 'execute.slow' /var/lib/bgdeploy/runs/{run}/out && break; sleep 0.2; done")
    assert chef.stop(installed.shell, installed.site, installed.host, run).outcome == "ok"
    assert installed.look().job.state == "lost"
    assert installed.root("systemctl list-units --no-legend 'bgdeploy-*' | wc -l").strip() == "0"


def test_a_run_at_its_limit_is_ended_and_says_so(installed):
    seen = installed.converge(OLD, OLD, run_list=("odd::slow",), limit=10)
    assert seen.job.state == "lost" and "time limit" in seen.job.tail


def test_a_failure_in_a_recipe_names_its_cause_and_a_long_line_stays_short(installed):
    assert "not today" in installed.converge(OLD, OLD, run_list=("odd::compile",)).job.tail
    seen = installed.converge(OLD, OLD, run_list=("odd::flood",))
    assert seen.job.state == "failed" and "ruby_block[flood]" in seen.job.tail and "flood.rb:1" in seen.job.tail
    assert len(seen.job.tail) < 10000
    assert seen.out_size > 1_000_000 and len(seen.report["exception"]["message"]) <= 2000


def test_a_wrong_client_rb_is_a_wrong_configuration_and_not_a_failed_recipe(installed):
    installed.root("cp /etc/chef/client.rb /root/client.rb; echo 'this is ( not ruby' >> /etc/chef/client.rb")
    try:
        seen = installed.converge(OLD, OLD)
    finally:
        installed.root("cp /root/client.rb /etc/chef/client.rb")
    assert seen.job.state == "config" and seen.exit == 43


def test_a_licence_that_is_not_accepted_is_seen_before_and_named_after(installed):
    installed.root("cp /etc/chef/client.rb /root/client.rb; sed -i /chef_license/d /etc/chef/client.rb")
    try:
        assert installed.look().licence is False
        seen = installed.converge(OLD, OLD)
    finally:
        installed.root("cp /root/client.rb /etc/chef/client.rb")
    assert seen.job.state == "config" and seen.exit == 172 and "licence" in seen.job.tail and installed.look().licence is True


def test_a_foreign_run_is_seen_and_waiting_for_it_has_an_end(installed):
    installed.lab.break_("chef-lock", "green-1")
    try:
        seen = installed.look()
        assert seen.job.kind == "foreign" and "of root since" in seen.job.run and "flock" in seen.job.tail
        run = installed.start(OLD, OLD, lock_wait=1)
        installed.root(f"for i in $(seq 300); do test -s /var/lib/bgdeploy/runs/{run}/exit && break; sleep 0.2; done")
    finally:
        installed.lab.mend("chef-lock", "green-1")
    seen = installed.end(run)
    assert seen.job.state == "locked" and seen.job.kind == "chef"


def test_a_reboot_is_told_apart_and_over_once_the_host_is_back(installed):
    boot = installed.look().boot
    installed.root("rm -f /var/lib/was")
    seen = installed.converge(OLD, OLD, run_list=("odd::reboot",))
    # a container can be back within the second that the look after the run's end takes
    assert seen.exit == 35 and seen.job.state == ("reboot" if seen.boot == boot else "again")
    until = time.monotonic() + 60
    while seen.boot == boot and time.monotonic() < until:
        time.sleep(0.3)
        with contextlib.suppress(NoAnswer):
            seen = installed.look()
    assert seen.boot != boot and seen.job.state == "again"
    assert installed.converge(OLD, OLD, run_list=("odd::reboot",)).job.state == "ok"


def test_a_power_cut_in_the_middle_is_lost_and_not_failed(installed):
    run = installed.start(OLD, OLD, run_list=("odd::slow",))
    installed.lab.break_("power", "green-1")
    installed.lab.mend("power", "green-1")
    seen = installed.end(run)
    assert seen.job.state == "lost" and "went down" in seen.job.tail


def test_a_run_is_started_once_whoever_asks_again(installed):
    run = installed.start(OLD, OLD)
    again = chef.start(installed.shell, installed.site, installed.host, run, Release((("api", OLD), ("web", OLD)), chef.revision(
        str(installed.cookbooks))[0]))
    assert again.outcome == "ok" and "already" in again.detail
    other = chef.start(installed.shell, installed.site, installed.host, run + ".other",
                       Release((("api", OLD), ("web", OLD)), chef.revision(
        str(installed.cookbooks))[0]))
    assert other.outcome == "failed" and "goes on here" in other.detail
    assert installed.end(run).job.state == "ok"


def test_a_rehearsal_tells_what_would_change_and_changes_nothing(installed):
    before = installed.look()
    said = chef.why_run(installed.shell, installed.site, installed.host, (("api", NEW),))
    after = installed.look()
    assert "would" in said.lower() and "2.0.0-1" in said
    assert (after.packages, after.services) == (before.packages, before.services)
    assert after.job.run == before.job.run


def test_secrets_of_the_configuration_are_in_no_output(installed):
    """Chef prints differences of files, and all properties of a resource that failed."""
    run = installed.start("9.9.9-1", OLD)
    installed.end(run)
    piece, _, _ = chef.output(installed.shell, installed.site, installed.host, run)
    assert b"dnf_package[api]" in piece and b"mongodb://" not in piece
