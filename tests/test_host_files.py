"""bgdeploy-host on the files of others: the site's client.rb, locks, cron tables, cookbooks that come, heartbeats it parks."""

import fcntl
import gzip
import hashlib
import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.hostfolder import START, answer, booted, run_folder

from bgdeploy_host import client, facts, files, keep, runs, verbs


@pytest.fixture
def at(tmp_path):
    return booted(tmp_path)


class TestConfiguration:
    def config(self, at, text, **more):
        Path(at(files.CLIENT)).write_text(text)
        return client.config(at, {**verbs.parse(START)[1], **more}, "/var/lib/bgdeploy/runs/r1")

    def test_the_sites_own_settings_come_first_and_its_lock_is_kept(self, at):
        lines = self.config(at, 'node_name "x"\nfile_cache_path "/var/cache/chef"   # ours\n').splitlines()
        assert lines[1] == 'from_file "/etc/chef/client.rb" if File.exist?("/etc/chef/client.rb")'
        assert 'file_cache_path "/var/cache/chef"' in lines and 'lockfile "/var/cache/chef/chef-client-running.pid"' in lines

    def test_a_lockfile_of_the_site_is_kept(self, at):
        assert 'lockfile "/run/chef.lock"' in self.config(at, "lockfile('/run/chef.lock')\n")

    def test_without_a_client_rb_chefs_default_place_is_pinned(self, at):
        os.makedirs(at("/etc/chef"), exist_ok=True)
        assert client.cache(at) == "/var/chef/cache"

    def test_a_commented_setting_is_none(self, at):
        assert 'file_cache_path "/var/chef/cache"' in self.config(at, '# file_cache_path "/elsewhere"\n')

    def test_ruby_takes_it(self, at):
        checked = subprocess.run(["ruby", "-c"], input=self.config(at, ""), text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr

    @pytest.mark.parametrize("text, accepted",
                             [('chef_license "accept-no-persist"', True), ("chef_license 'accept'", True), ("", False),
                                                ('# chef_license "accept"', False), ('chef_license "no"', False)])
    def test_the_licence_is_seen_in_client_rb(self, at, text, accepted):
        Path(at(files.CLIENT)).write_text(text)
        assert client.licence(at) is accepted

    def test_the_licence_is_seen_where_it_was_accepted_by_hand(self, at):
        os.makedirs(at("/etc/chef/accepted_licenses"))
        assert client.licence(at) is False
        Path(at("/etc/chef/accepted_licenses/chef_infra_client")).touch()
        assert client.licence(at) is True

    def test_a_proxy_in_client_rb_is_named(self, at):
        Path(at(files.CLIENT)).write_text('http_proxy "http://proxy:3128"\nno_proxy "example.com"\n')
        assert client.proxies(at) == ["http_proxy"]


class TestForeignRun:
    def held(self, at, path="/var/chef/cache/chef-client-running.pid"):
        os.makedirs(os.path.dirname(at(path)), exist_ok=True)
        handle = open(at(path), "w")
        handle.write(str(os.getpid()))
        handle.flush()
        os.makedirs(at("/proc"), exist_ok=True)
        if not os.path.exists(at("/proc/%d" % os.getpid())):
            os.symlink("/proc/%d" % os.getpid(), at("/proc/%d" % os.getpid()))
        return handle

    def test_a_held_lock_is_named_with_process_and_owner(self, at):
        with self.held(at) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            found = facts.foreign(at)
        assert found["pid"] == os.getpid() and found["user"] and found["command"] and found["since"] < time.time()

    def test_a_file_that_stayed_behind_is_no_run(self, at):
        with self.held(at):
            assert facts.foreign(at) is None

    def test_a_file_of_a_process_that_is_gone_is_no_run(self, at):
        with self.held(at) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.unlink(at("/proc/%d" % os.getpid()))
            assert facts.foreign(at) is None

    def test_a_run_in_local_mode_by_hand_is_seen_too(self, at):
        with self.held(at, facts.OTHER_LOCKS[0]) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            assert facts.foreign(at)["pid"] == os.getpid()

    def test_asking_never_takes_the_lock_from_a_run_that_is_starting(self, at):
        """The lock is free and the process that the file names is gone: it is not even tried."""
        with self.held(at):
            os.unlink(at("/proc/%d" % os.getpid()))
            real, tried = facts._locked, []
            facts._locked = lambda path: tried.append(path) or real(path)
            try:
                facts.foreign(at)
            finally:
                facts._locked = real
        assert tried == []


class TestCron:
    @pytest.mark.parametrize("path, text, starts", [
        ("/etc/cron.d/chef", "*/30 * * * * root /usr/bin/chef-client\n", True),
        ("/var/spool/cron/root", "0 * * * * chef-client --once\n", True),
        ("/etc/cron.d/chef", "# 0 * * * * root chef-client\n", False), ("/etc/cron.d/other", "0 * * * * root logrotate\n", False),
        ("/etc/crontab", "1 1 * * * root chef-client\n", True)])
    def test_a_table_that_calls_chef_client_is_a_daemon(self, at, path, text, starts):
        os.makedirs(os.path.dirname(at(path)), exist_ok=True)
        Path(at(path)).write_text(text)
        assert facts._daemon(at, {"chef-client.service": {"UnitFileState": "", "ActiveState": "inactive"}}) is starts

    def test_an_enabled_timer_is_a_daemon_and_a_silent_systemd_is_unknown(self, at):
        assert facts._daemon(at, {"chef-client.timer": {"UnitFileState": "enabled", "ActiveState": "active"}}) is True
        assert facts._daemon(at, {}) is None


class TestService:
    @pytest.mark.parametrize("installed, older", [(-60, True), (60, False), (None, False), (7200, False)])
    def test_a_process_that_began_before_its_package_was_installed_is_told(self, installed, older):
        """An hour ago it began; what would be installed in the future tells that the clock was set back."""
        shown = {"ExecMainStartTimestampMonotonic": str(int((time.monotonic() - 60) * 1e6))}
        at = None if installed is None else time.time() - 60 - installed
        assert facts.older(shown, at) is older
        assert facts.older({}, at) is False and facts.older(None, at) is False

    def test_a_unit_that_is_not_there_is_missing(self):
        assert facts.service({"web.service": {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}},
                             "web.service")["active"] == "missing"

    def test_a_silent_systemd_is_unknown(self):
        assert facts.service({}, "web.service") == {"active": None, "sub": None, "start": None, "since": None}

    def test_reloading_is_active_and_has_its_start_id(self):
        said = facts.service({"web.service": {"LoadState": "loaded", "ActiveState": "reloading", "SubState": "reload",
                                              "InvocationID": "ab",
                                              "StateChangeTimestampMonotonic": "1000000"}}, "web.service")
        assert said["active"] == "active" and said["start"] == "ab" and said["since"] < time.time()


def tar(*members):
    """(revision, bytes of a tar.gz) as a driver sends it; a member is (name, its content) or (name, [its kind])."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content[0], "/etc/shadow"
                archive.addfile(info)
    return hashlib.sha256(plain.getvalue()).hexdigest()[:16], gzip.compress(plain.getvalue())


class TestCookbooks:
    def test_they_come_whole_and_once(self, at):
        revision, sent = tar(("web/metadata.rb", b"name 'web'\n"), ("web/recipes/default.rb", b"# x\n"))
        assert answer(["cookbooks", "--hash", revision, "--have"], at)[1] == {"hash": revision, "have": False}
        assert answer(["cookbooks", "--hash", revision], at, sent) == (0, {"hash": revision, "have": True})
        assert Path(at(files.COOKBOOKS), revision, "web/metadata.rb").read_text() == "name 'web'\n"
        assert answer(["cookbooks", "--hash", revision, "--have"], at)[1]["have"] is True
        assert answer(["cookbooks", "--hash", revision], at, b"") == (0, {"hash": revision, "have": True})

    @pytest.mark.parametrize("member",
                             [("../evil", b"x"), ("/etc/evil", b"x"), ("a/../../evil", b"x"), ("link", [tarfile.SYMTYPE]),
                                        ("link", [tarfile.LNKTYPE]), ("dev", [tarfile.CHRTYPE]), ("fifo", [tarfile.FIFOTYPE])])
    def test_an_archive_that_reaches_outside_is_refused_and_leaves_nothing(self, at, member):
        revision, sent = tar(("web/metadata.rb", b"x"), member)
        code, said = answer(["cookbooks", "--hash", revision], at, sent)
        assert code == 3 and "unpacked" in said["refused"] and os.listdir(at(files.COOKBOOKS)) == []
        assert not os.path.exists(at("/evil")) and not os.path.exists(at("/etc/evil"))

    def test_what_was_cut_or_changed_on_the_way_is_refused_and_leaves_nothing(self, at):
        revision, sent = tar(("web/metadata.rb", os.urandom(50000)))
        for wrong in (sent[:len(sent) // 2], sent[:-4], b"", b"no gzip at all", tar(("web/metadata.rb", b"other"))[1]):
            assert answer(["cookbooks", "--hash", revision], at, wrong)[0] == 3
        assert os.listdir(at(files.COOKBOOKS)) == []

    def test_too_much_is_refused(self, at, monkeypatch):
        monkeypatch.setattr(keep, "MOST_BYTES", 1000)
        revision, sent = tar(("a", b"x" * 2000))
        assert answer(["cookbooks", "--hash", revision], at, sent)[0] == 3 and os.listdir(at(files.COOKBOOKS)) == []


class TestPark:
    def park(self, at, monkeypatch, active="inactive"):
        shown = {"web.service": {"LoadState": "loaded", "ActiveState": active, "SubState": "x"}} if active else {}
        monkeypatch.setattr(facts, "systemctl_show", lambda units: shown)
        return answer(["park", "--component", "web"], at)

    def test_a_stored_live_becomes_standby_while_the_service_is_down(self, at, monkeypatch):
        state = Path(at(files.HEARTBEATS + "/web/state"))
        state.parent.mkdir(parents=True)
        state.write_text("live\nsince=12\n")
        assert self.park(at, monkeypatch) == (0, {"component": "web", "parked": True, "why": ""})
        assert state.read_text() == "standby\n" and state.stat().st_mode & 0o777 == 0o644

    @pytest.mark.parametrize("active", ["active", "deactivating", "reloading", None])
    def test_a_service_that_runs_or_may_run_is_refused(self, at, monkeypatch, active):
        state = Path(at(files.HEARTBEATS + "/web/state"))
        state.parent.mkdir(parents=True)
        state.write_text("live\n")
        assert self.park(at, monkeypatch, active)[0] == 3 and state.read_text() == "live\n"

    def test_where_nothing_is_stored_there_is_nothing_to_park(self, at, monkeypatch):
        code, said = self.park(at, monkeypatch)
        assert code == 0 and said["parked"] is False

    def test_a_link_that_the_application_made_is_replaced_and_not_followed(self, at, monkeypatch):
        folder, secret = Path(at(files.HEARTBEATS + "/web")), Path(at("/etc/secret"))
        folder.mkdir(parents=True)
        secret.write_text("precious")
        (folder / "state").symlink_to(secret)
        (folder / f"state.{os.getpid()}.new").symlink_to(secret)
        assert self.park(at, monkeypatch)[0] == 0
        assert secret.read_text() == "precious" and (folder / "state").read_text() == "standby\n"
        assert not (folder / "state").is_symlink()

    def test_a_folder_that_is_a_link_is_refused(self, at, monkeypatch):
        os.makedirs(at(files.HEARTBEATS))
        os.symlink(at("/etc"), at(files.HEARTBEATS + "/web"))
        assert self.park(at, monkeypatch)[0] == 3 and not os.path.exists(at("/etc/state"))


class TestFiles:
    def test_a_folder_that_is_a_link_is_refused(self, at):
        os.symlink(at("/etc"), at("/run/bgdeploy-host"))
        with pytest.raises(files.Refused):
            files.folder(at(files.CACHE))

    def test_links_and_pipes_are_not_read(self, at):
        os.symlink("/etc/passwd", at("/run/link"))
        os.mkfifo(at("/run/pipe"))
        assert files.read(at("/run/link")) is None and files.read(at("/run/pipe")) is None and files.read(at("/run")) is None

    def test_a_reader_sees_the_old_or_the_new(self, at):
        files.write(at("/run/x"), "old")
        files.write(at("/run/x"), "new")
        assert files.read_text(at("/run/x")) == "new" and os.listdir(at("/run")) == ["x"]


@pytest.mark.parametrize("report", [
    "[]", "5", "true", '"x"', "[" * 100000, '{"exception": "text"}', '{"exception": [1], "failed": 5}', '{"outranked": ["web"]}',
    '{"outranked": {"web": null}, "attributes": []}', '{"exception": {"class": "\\ud800"}}', "\x00", "{"])
@pytest.mark.parametrize("said, state", [
    ("exit-code exited 1", "failed"), ("success exited 0", "ok"), ("exit-code exited \u00b2", "lost"),
    ("exit-code exited 99999", "lost")])
def test_a_report_or_exit_file_of_another_form_leaves_the_run_its_word(at, report, said, state):
    """A torn one, or one that a stranger wrote, must not blind every look at the host."""
    run_folder(at, exit=said, started='{"at": "x", "boottime": null}', **{"report.json": report})
    assert runs.state(at, "r1", lambda run: False)["state"] == state
