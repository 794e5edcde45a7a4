"""bgdeploy-host checks every argument, starts a run once, and says in one word what it came to."""

import ast
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tests.hostfolder import HOST, START, answer, booted, run_folder

from bgdeploy_host import files, outcome, runs, verbs


@pytest.fixture
def at(tmp_path):
    return booted(tmp_path)


class TestArguments:
    def test_a_good_start_is_understood(self):
        verb, asked = verbs.parse(START + ["--minimal-ohai", "--restart", "web"])
        assert verb == "start" and asked["versions"] == {"web": "2.0.0-1"} and asked["recipes"] == ["web"]
        assert asked["limit"] == 900
        assert asked["minimal-ohai"] is True and asked["restart"] == ["web"] and asked["mode"] == "local"
        assert asked["lock-wait"] == 60

    @pytest.mark.parametrize("arguments", [
        [], ["shell"], ["--run"], ["start"], ["look"], ["look", "--components", ""], ["look", "--components", "web,"],
        ["look", "--components", "web;id"], ["look", "--components", "../web"], ["look", "--components", "-x"], ["look", "web"],
        ["look", "--components", "web", "--components", "api"], ["look", "--components", "web", "--tail"],
        ["look", "--components", "web\n"],
        ["output", "--run", "r1", "--from", "-1"], ["output", "--run", "../../etc/shadow"], ["output", "--run", ".."],
        ["output", "--run", "r1", "--cap", "99999999"], ["park", "--component", "a/b"],
        ["park", "--component", "..", "--service", "x"],
        ["cookbooks", "--hash", "../x"], ["cookbooks", "--hash", "ZZZZZZZZ"],
        ["heartbeat", "--component", "w", "--port", "0", "--path", "/h"],
        ["heartbeat", "--component", "w", "--port", "80", "--path", "h"],
        ["heartbeat", "--component", "w", "--port", "80", "--path", "/h\r\nX: y"],
        ["stop", "--run", "r1; reboot"], ["stop", "--run", "r 1"], ["stop", "--run", "*"]])
    def test_anything_else_is_refused_with_2_and_one_sentence(self, arguments, at):
        code, said = answer(arguments, at)
        assert code == 2 and list(said) == ["error"] and "\n" not in said["error"]

    @pytest.mark.parametrize("option, value", [
        ("--run", "a/b"), ("--limit", "5"), ("--limit", "1e3"), ("--limit", "999999"), ("--recipes", "web]','recipe[x"),
        ("--recipes", "web::a::b"),
        ("--versions", "web=2.0.0"), ("--versions", "web=2.0.0-rc1"), ("--versions", "web=2.0.0-1,web=1.0.0-1"),
        ("--versions", "web"),
        ("--versions", "web=$(id)-1"), ("--cookbooks", "/etc"), ("--mode", "solo"), ("--lock-wait", "x"),
        ("--release", "web=2.0.0-1;x"),
        ("--restart", "api"), ("--restart", "-x"), ("--attributes", "web=a..b"), ("--attributes", "api=a.b"),
        ("--minimal-ohai", "yes"),
        ("--host-settings", "{}"), ("--config", "/tmp/x")])
    def test_a_start_with_one_wrong_value_starts_nothing(self, option, value, at):
        arguments = list(START)
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
        else:
            arguments += [option, value]
        code, said = answer(arguments, at)
        assert code == 2 and "error" in said and not os.path.exists(at(files.HOME))

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(["run", "recipes", "versions", "release", "cookbooks"]), st.text(max_size=20))
    def test_no_text_reaches_a_command_line_with_a_character_that_means_something(self, option, text):
        arguments = list(START)
        arguments[arguments.index("--" + option) + 1] = text
        try:
            _, asked = verbs.parse(arguments)
        except verbs.Wrong:
            return
        assert not set(text) & set(" \t\r\n;&|<>$`'\"\\(){}[]*?!#%\0/") and not text.startswith("-")
        assert asked[option]

    def test_help_names_every_verb_and_does_nothing(self, at):
        out = io.StringIO()
        assert verbs.main(["--help"], root=at("/"), stdout=out) == 0
        assert all(verb in out.getvalue() for verb in verbs.VERBS) and not os.path.exists(at(files.HOME))

    def test_a_component_may_have_another_package_and_service(self):
        _, asked = verbs.parse(["look", "--components", "web:shop-web:shop.service,api"])
        assert [verbs._component(text) for text in asked["components"]] == [
            ("web", "shop-web", "shop.service"), ("api", "api", "api.service")]

    def test_the_command_imports_nothing_from_where_it_is_called(self, tmp_path):
        """-I and -S: a module of the caller, or PYTHONPATH, must not run as root."""
        (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
        assert (HOST / "bgdeploy-host").read_text().startswith("#!/usr/bin/python3 -IS\n")
        done = subprocess.run([sys.executable, "-IS", "-c", "import json"], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 0

    def test_everything_runs_on_python_36(self):
        for path in [*HOST.rglob("*.py"), HOST / "bgdeploy-host", HOST / "reserve"]:
            ast.parse(path.read_text(), feature_version=(3, 6))


FATAL_LOCK = ("[2026-11-25T01:00:00+00:00] FATAL: Chef::Exceptions::RunLockTimeout: Unable to acquire lock. "
              "Waited 2 seconds for 4711 to release.")
REPORT = {"success": False, "exception": {"class": "Chef::Exceptions::Package", "message": "no"},
          "failed": {"resource": "dnf_package[web]", "line": "a/b.rb:3"}}


class TestOutcome:
    @pytest.mark.parametrize("words, tail, report, state, number", [
        ("success exited 0", "", {"success": True}, "ok", 0),
        ("success exited 0", "", None, "ok", 0),
        ("timeout exited 0", "", {"success": True}, "ok", 0),
        ("timeout exited 2", "", None, "timeout", 2),
        ("timeout killed KILL", "", None, "timeout", None),
        ("signal killed KILL", "", None, "killed", None),
        ("oom-kill killed KILL", "", None, "killed", None),
        ("core-dump dumped SEGV", "", None, "killed", None),
        ("exit-code exited 2", "", None, "killed", 2),
        ("exit-code exited 3", "", None, "killed", 3),
        ("exit-code exited 1", "", REPORT, "failed", 1),
        ("exit-code exited 1", FATAL_LOCK, None, "locked", 1),
        ("exit-code exited 1", FATAL_LOCK, REPORT, "failed", 1),
        ("exit-code exited 1", "ChildConvergeError: Chef Infra Client failed (exit code 35)", None, "reboot", 35),
        ("exit-code exited 35", "", {"success": False}, "reboot", 35),
        ("exit-code exited 37", "", None, "failed", 37),
        ("exit-code exited 41", "", None, "failed", 41),
        ("exit-code exited 43", "", None, "config", 43),
        ("exit-code exited 172", "", None, "licence", 172),
        ("exit-code exited 173", "", None, "licence", 173),
        ("exit-code exited 174", "", None, "licence", 174),
        ("exit-code exited 203", "", None, "failed", 203),
        ("exit-code exited 213", "", None, "again", 213),
        ("exit-code exited 250", "", None, "failed", 250),
        ("not-started", "Failed to connect to bus", None, "failed", None),
        ("", "", None, "lost", None), ("exited", "", None, "lost", None), ("success exited x", "", None, "lost", None),
        ("\x1b[2J" * 100, "", None, "lost", None)])
    def test_an_ended_run_is_one_word(self, words, tail, report, state, number):
        said = outcome.translate(words, tail, report)
        assert said[:2] == (state, number) and said[2] and "\n" not in said[2] and len(said[2]) < 1000

    def test_success_is_never_read_from_text(self):
        """A run that prints the summary of a good one and ends with 1 has failed."""
        text = "Infra Phase complete, 0/11 resources updated in 02 seconds"
        assert outcome.translate("exit-code exited 1", text, None)[0] == "failed"

    def test_a_code_that_says_more_than_failed_stays_beside_the_cause(self):
        for code, words in ((37, "a reboot is needed first (exit code 37): "), (42, "exit code 42: "), (1, "")):
            assert outcome.translate("exit-code exited %d" % code, "FATAL: X: y", None)[2] == words + "X: y"

    def test_the_cause_is_the_reports_with_resource_and_place(self):
        assert outcome.translate("exit-code exited 1", "", REPORT)[2] == \
            "Chef::Exceptions::Package: no (dnf_package[web], a/b.rb:3)"

    def test_an_unknown_version_is_called_so_though_chef_says_something_else(self):
        report = {"exception": {"class": "Chef::Exceptions::Package",
                                "message": "No version specified, and no candidate version available for web"},
                  "failed": {"resource": "dnf_package[web]", "wanted": "9.0.0-1"}}
        said = outcome.translate("exit-code exited 1", "", report)[2]
        assert "version 9.0.0-1 is not in the repository as this host sees it" in said

    def test_a_version_that_a_higher_level_sets_is_named_with_the_level(self):
        state, _, why = outcome.translate("success exited 0", "", {"success": True, "outranked": {"web": "env_override"}})
        assert state == "ok" and "['web'] is set by env_override, which outranks" in why
        report = {"outranked": {"web": "force_override"}, "attributes": {"web": "shop.web.version"}}
        assert "node['shop']['web']['version'] is set by force_override" in outcome.translate("success exited 0", "", report)[2]

    @pytest.mark.parametrize("said, sentence", [
        ("At least 12MB more space needed on the / filesystem.", "No space left on / (needs 12MB more); "),
        ("installing package web-2 needs 3MB more space on the /usr filesystem", "No space left on /usr (needs 3MB more); "),
        ("installing package web-2 needs 9 inodes on the /usr filesystem", "No space left on /usr (needs 9 inodes more); "),
        ("No space left on device @ io_write - /var/cache/chef/x.json", "No space left on /var/cache/chef/x.json; "),
        ("[Errno 28] No space left on device: '/var/cache/dnf/x'", "No space left on /var/cache/dnf/x; "),
        ("cannot write: No space left on device", "No space left on a disk of this host; "),
        ("Read-only file system @ rb_sysopen - /etc/web/x", "Read-only file system on /etc/web/x; ")])
    def test_a_full_disk_is_named_first_with_place_and_need(self, said, sentence):
        why = outcome.translate("exit-code exited 1", "", {**REPORT, "exception": {"class": "RuntimeError", "message": said}})[2]
        assert why.startswith(sentence + "RuntimeError: ") and said in why
        assert outcome.translate("exit-code exited 1", "FATAL: X: " + said, None)[2].startswith(sentence)

    def test_without_a_report_the_last_fatal_line_is_the_cause(self):
        assert outcome.translate("exit-code exited 1", "x\n[t] FATAL: RuntimeError: boom\ny", None)[2] == "RuntimeError: boom"


class TestState:
    def test_no_exit_file_and_a_unit_is_running(self, at):
        run_folder(at)
        job = runs.state(at, "r1", lambda run: True)
        assert job["state"] == "running" and 4 < job["seconds"] < 60 and job["limit"] == 900

    def test_an_exit_file_decides_whatever_the_unit_says(self, at):
        run_folder(at, exit="success exited 0\n", report_=None)
        for unit in (True, False, None):
            assert runs.state(at, "r1", lambda run: unit)["state"] == "ok"

    def test_a_unit_that_is_gone_without_an_exit_file_is_lost(self, at):
        run_folder(at)
        assert runs.state(at, "r1", lambda run: False)["state"] == "lost"

    def test_another_boot_without_an_exit_file_is_lost_though_a_unit_of_that_name_runs(self, at):
        run_folder(at, boot_id="another")
        job = runs.state(at, "r1", lambda run: True)
        assert job["state"] == "lost" and "went down" in job["why"]

    def test_another_boot_after_an_exit_file_is_what_the_file_says(self, at):
        run_folder(at, boot_id="another", exit="exit-code exited 35")
        assert runs.state(at, "r1", lambda run: False)["state"] == "reboot"

    def test_a_silent_systemd_makes_nothing_lost(self, at):
        run_folder(at)
        assert runs.state(at, "r1", lambda run: None)["state"] == "running"

    def test_an_exit_file_that_comes_between_two_looks_is_not_lost(self, at):
        folder = run_folder(at)

        def gone(run):
            Path(folder, "exit").write_text("success exited 0")
            return False
        assert runs.state(at, "r1", gone)["state"] == "ok"

    def test_a_folder_that_only_just_came_to_be_is_lost_and_not_a_crash(self, at):
        files.folder(at(files.RUNS + "/r1"))
        assert runs.state(at, "r1", lambda run: False)["state"] == "lost"

    def test_an_exit_that_a_full_disk_did_not_take_lies_in_run(self, at):
        run_folder(at)
        files.folder(at(files.CACHE))
        files.write(at(files.CACHE + "/r1.exit"), "exit-code exited 1")
        assert runs.state(at, "r1", lambda run: False)["state"] == "failed"

    def test_a_torn_report_is_no_report(self, at):
        run_folder(at, exit="success exited 0", **{"report.json": '{"success": tr'})
        assert runs.state(at, "r1", lambda run: False)["report"] is None

    def test_the_tail_is_short_whatever_the_output_is(self, at):
        folder = run_folder(at, exit="exit-code exited 1")
        Path(folder, "out").write_bytes(b"\xff\xfe" + b"x" * 1000000 + b"\nNo key detected\nFATAL: last\n")
        said = runs.tail(at, "r1")
        assert len(said) <= runs.TAIL and said.endswith("FATAL: last") and "No key detected" not in said

    def test_output_comes_in_pieces_by_offset(self, at):
        Path(run_folder(at), "out").write_bytes(bytes(range(256)) * 10)
        code, said = answer(["output", "--run", "r1", "--from", "2500", "--cap", "100"], at)
        assert code == 0 and (said["next"], said["size"]) == (2560, 2560) and said["data"]

    def test_a_run_that_was_never_here_is_refused(self, at):
        assert answer(["output", "--run", "nope"], at)[0] == 3 and answer(["stop", "--run", "nope"], at)[0] == 3


class TestStart:
    def asked(self, **more):
        return {**verbs.parse(START)[1], "attributes": {}, **more}

    def ready(self, at, monkeypatch, problem=None):
        """chef-client and the cookbooks are there; systemd is not asked: what would be started is returned."""
        Path(at("/usr/bin/chef-client")).write_text("#!/bin/sh\n")
        os.chmod(at("/usr/bin/chef-client"), 0o755)
        files.folder(at(files.COOKBOOKS + "/3f2a9c01"))
        started = []
        monkeypatch.setattr(runs, "_launch", lambda run, limit, command: started.append(command) or problem)
        return started

    def test_a_run_lies_in_files_that_only_root_can_read(self, at, monkeypatch):
        started = self.ready(at, monkeypatch)
        said = runs.start(at, self.asked(), lambda run: True)
        folder = Path(at(files.RUNS + "/r1"))
        assert said == {"run": "r1", "already": False, "state": "running"} and len(started) == 1
        assert folder.stat().st_mode & 0o777 == 0o700 and {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o600}
        assert json.loads((folder / "attrs.json").read_text()) == {
            "bgdeploy": {"run": "r1", "versions": {"web": "2.0.0-1"}, "restart": []}}
        assert (folder / "release").read_text() == "web=2.0.0-1@3f2a9c01" and runs.newest(at) == "r1"

    def test_the_same_run_again_starts_nothing(self, at, monkeypatch):
        started = self.ready(at, monkeypatch)
        runs.start(at, self.asked(), lambda run: True)
        assert runs.start(at, self.asked(), lambda run: True) == {"run": "r1", "already": True, "state": "running"}
        assert len(started) == 1

    def test_a_second_run_is_refused_while_the_first_goes_on(self, at, monkeypatch):
        started = self.ready(at, monkeypatch)
        runs.start(at, self.asked(), lambda run: True)
        with pytest.raises(files.Refused, match="run r1 goes on"):
            runs.start(at, self.asked(run="r2"), lambda run: True)
        assert len(started) == 1 and not os.path.exists(at(files.RUNS + "/r2"))

    def test_a_second_run_starts_when_the_first_has_ended(self, at, monkeypatch):
        self.ready(at, monkeypatch)
        runs.start(at, self.asked(), lambda run: True)
        files.write(at(files.RUNS + "/r1/exit"), "success exited 0")
        assert runs.start(at, self.asked(run="r2"), lambda run: True)["already"] is False and runs.newest(at) == "r2"

    def test_a_start_that_systemd_refuses_is_failed_and_says_why(self, at, monkeypatch):
        self.ready(at, monkeypatch, problem="Failed to connect to bus")
        assert runs.start(at, self.asked(), lambda run: False)["state"] == "failed"
        assert "Failed to connect to bus" in runs.state(at, "r1", lambda run: False)["why"]

    def test_a_full_disk_starts_nothing_says_so_and_the_same_run_may_be_started_again(self, at, monkeypatch):
        started, write = self.ready(at, monkeypatch), files.write

        def full(path, *rest, **more):
            if path.endswith("/started"):
                raise OSError(errno.ENOSPC, "No space left on device", path)
            write(path, *rest, **more)
        monkeypatch.setattr(files, "write", full)
        code, said = answer(START, at)
        assert code == 3 and "No space left on device (" in said["refused"] and "runs/r1/started" in said["refused"]
        monkeypatch.setattr(files, "write", write)
        assert answer(START, at)[1]["already"] is False and len(started) == 1

    def test_cookbooks_that_are_not_here_are_a_refusal_before_anything_is_made(self, at, monkeypatch):
        self.ready(at, monkeypatch)
        with pytest.raises(files.Refused, match="send them first"):
            runs.start(at, self.asked(cookbooks="aaaaaaaa"), lambda run: True)
        assert not os.path.exists(at(files.RUNS))

    def test_no_chef_client_is_a_refusal(self, at):
        with pytest.raises(files.Refused, match="chef-client is not on this host"):
            runs.start(at, self.asked(), lambda run: True)

    def test_a_host_of_a_chef_server_takes_no_recipes_and_no_cookbooks_by_ssh(self, at, monkeypatch):
        self.ready(at, monkeypatch)
        os.makedirs(at("/etc/bgdeploy"))
        Path(at(files.SERVER_ONLY)).touch()
        with pytest.raises(files.Refused, match="only from its Chef Server"):
            runs.start(at, self.asked(), lambda run: True)
        assert answer(["cookbooks", "--hash", "aaaaaaaa"], at, b"x")[0] == 3

    def test_such_a_host_lets_a_deployment_set_no_attribute_but_those_that_it_lists(self, at, monkeypatch):
        self.ready(at, monkeypatch)
        os.makedirs(at("/etc/bgdeploy"))
        Path(at(files.SERVER_ONLY)).write_text("web=shop.web.version\n")
        with pytest.raises(files.Refused, match="web=shop.web.secure is not in /etc/bgdeploy/server-only"):
            runs.start(at, self.asked(mode="server", attributes={"shop.web.secure": "web"}), lambda run: True)
        assert not os.path.exists(at(files.RUNS))
        listed = self.asked(mode="server", attributes={"shop.web.version": "web"})
        assert runs.start(at, listed, lambda run: True)["already"] is False

    def test_in_server_mode_the_nodes_own_run_list_is_converged(self, at, monkeypatch):
        """With -o the node would not be saved, and the next daemon run would undo the pin."""
        started = self.ready(at, monkeypatch)
        runs.start(at, self.asked(mode="server", attributes={"shop.web.version": "web"}), lambda run: True)
        assert not {"--local-mode", "--override-runlist", "-o", "-z"} & set(started[0])
        assert json.loads(files.read_text(at(files.RUNS + "/r1/attrs.json")))["shop"] == {"web": {"version": "2.0.0-1"}}

    def test_old_runs_go_and_the_newest_stay(self, at, monkeypatch):
        self.ready(at, monkeypatch)
        for number in range(runs.KEPT_RUNS + 5):
            folder = run_folder(at, f"old{number:02}", exit="success exited 0")
            os.utime(folder, (1000 + number, 1000 + number))
        runs.start(at, self.asked(), lambda run: True)
        left = sorted(os.listdir(at(files.RUNS)))
        assert len(left) == runs.KEPT_RUNS + 1 and "old00" not in left and "r1" in left

    def test_runs_that_printed_very_much_are_not_kept_for_long(self, at, monkeypatch):
        self.ready(at, monkeypatch)
        monkeypatch.setattr(runs, "KEPT_BYTES", 100)
        for number in range(3):
            folder = run_folder(at, f"old{number}", exit="success exited 0", out="x" * 80)
            os.utime(folder, (1000 + number, 1000 + number))
        runs.start(at, self.asked(), lambda run: True)
        assert sorted(os.listdir(at(files.RUNS))) == ["old2", "r1"]


class TestWhyRun:
    ASKED = ["why-run", "--limit", "60", "--recipes", "web", "--versions", "web=2.0.0-1", "--cookbooks", "3f2a9c01"]

    def chef(self, at, script):
        Path(at("/usr/bin/chef-client")).write_text("#!/bin/sh\n" + script)
        os.chmod(at("/usr/bin/chef-client"), 0o755)
        files.folder(at(files.COOKBOOKS + "/3f2a9c01"))

    def test_it_tells_what_chef_says_and_leaves_no_run_behind(self, at, monkeypatch):
        self.chef(at, 'echo would change "$@"')
        command = runs.command
        monkeypatch.setattr(runs, "command", lambda *given: [at("/usr/bin/chef-client"), *command(*given)[1:]])
        run_folder(at, exit="success exited 0")
        code, said = answer(self.ASKED, at)
        assert code == 0 and said["state"] == "ok" and "would change" in said["output"] and "--why-run" in said["output"]
        assert runs.newest(at) == "r1" and os.listdir(at(files.RUNS)) == ["r1"]
        assert [name for name in os.listdir(at(files.CACHE)) if name.startswith("why-run")] == []

    def test_it_is_refused_while_a_run_goes_on(self, at, monkeypatch):
        self.chef(at, "exit 0")
        run_folder(at)
        monkeypatch.setattr("bgdeploy_host.facts.unit_active", lambda run: True)
        code, said = answer(self.ASKED, at)
        assert code == 3 and "goes on here" in said["refused"]
