"""The heartbeat kit: its state file, its command line, its start id."""

import ast
import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from heartbeat_kit import process, state
from tests.serving import ROOT


@pytest.fixture
def kept(tmp_path):
    return state.State(str(tmp_path))


class TestStateFile:
    def test_no_file_is_standby_and_says_so(self, kept):
        assert kept.read().word == "standby" and "no state file" in kept.read().note

    @pytest.mark.parametrize("content", [
        b"", b"\n", b"LIVE\n", b" live\n", b"live \n", b"live\r\n", b"\xef\xbb\xbflive\n", b"alive\n", b"live standby\n",
        b"\nlive\n", b"liv",
        b"\0\0\0\0", b"\xff\xfe\x00l", b"l" * 10000, b"boot=x\nlive\n", b'{"state": "live"}'])
    def test_whatever_does_not_begin_with_a_known_word_is_standby(self, kept, content):
        with open(kept.file, "wb") as file:
            file.write(content)
        assert kept.read().word == "standby" and kept.read().note
        assert kept.glance().word == "standby"

    def test_a_file_that_cannot_be_read_is_standby(self, kept):
        os.mkdir(kept.file)
        assert kept.read().word == "standby" and "cannot read" in kept.read().note

    def test_a_moment_in_which_it_could_not_be_read_is_not_remembered(self, kept, monkeypatch):
        kept.set("live")
        with monkeypatch.context() as full:
            full.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files")))
            assert kept.glance().word == kept.read().word == "standby"
        assert kept.glance().word == kept.read().word == "live"

    def test_a_word_alone_is_enough_and_unknown_lines_do_no_harm(self, kept):
        for content in ("live", "live\n", "live\nfuture=1\nno pair\n=\nsince=soon\n"):
            with open(kept.file, "w") as file:
                file.write(content)
            assert kept.read().word == "live" and kept.read().since is None

    def test_what_is_set_is_read_back_with_its_reason(self, kept):
        kept.set("live", by="anna@ci", why="first line\nsince=0\x1b[31m", run="r-1")
        stored = kept.read()
        assert (stored.word, stored.by, stored.run, stored.boot) == ("live", "anna@ci", "r-1", process.boot_id())
        assert stored.why == "first line since=0 [31m"
        assert state.parse(state.render(stored)) == stored

    def test_since_is_the_time_of_the_last_change(self, kept):
        first = kept.set("live")
        assert kept.set("live", by="again").since == first.since
        time.sleep(0.002)
        assert kept.set("standby").since > first.since
        assert 0 <= state.age(kept.read()) < 5

    def test_after_a_reboot_live_is_kept_or_counts_as_standby_as_the_site_wants(self, kept, tmp_path):
        kept.set("live")
        text = open(kept.file).read().replace(process.boot_id(), "another-boot")
        with open(kept.file, "w") as file:
            file.write(text)
        careful = state.State(str(tmp_path), after_boot="standby")
        booted_for = process.uptime()
        assert kept.read().word == "live" and state.age(kept.read()) >= booted_for
        assert careful.read().word == "standby" and "before this boot" in careful.read().note
        careful.set("live")
        assert careful.read().word == "live"

    def test_a_flip_that_cannot_be_stored_leaves_the_old_word(self, kept, monkeypatch):
        kept.set("live")
        monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError):
            kept.set("standby")
        assert kept.read().word == "live" and os.listdir(kept.directory) == ["state"]

    def test_what_a_killed_writer_left_behind_does_not_stop_the_next_one(self, kept):
        with open(kept.file + ".new", "w") as file:
            file.write("liv")
        assert kept.set("standby").word == "standby" and os.listdir(kept.directory) == ["state"]

    def test_the_check_runs_while_nobody_else_can_flip(self, kept):
        inside, order = threading.Event(), []

        def slow_check():
            inside.set()
            time.sleep(0.3)
            order.append("checked")
        first = threading.Thread(target=lambda: kept.set("live", check=slow_check))
        first.start()
        inside.wait(5)
        state.State(kept.directory).set("standby", check=lambda: order.append("second"))
        first.join(5)
        assert order == ["checked", "second"] and kept.read().word == "standby"

    def test_a_lock_that_is_never_let_go_ends_in_a_refusal(self, kept, monkeypatch):
        monkeypatch.setattr(state, "PATIENCE", 0.05)
        with kept._locked():
            with pytest.raises(state.Busy):
                state.State(kept.directory).set("live")
        assert kept.read().word == "standby"

    def test_the_file_is_whole_at_every_moment_of_a_hundred_flips(self, kept):
        kept.set("live", why="x" * 150)
        done, seen = threading.Event(), set()

        def read():
            while not done.is_set():
                with open(kept.file) as file:
                    lines = file.read().split("\n")
                seen.add((lines[0], lines[-1], "why=" + "x" * 150 in lines))
        reader = threading.Thread(target=read)
        reader.start()
        for turn in range(100):
            kept.set("standby" if turn % 2 else "live", why="x" * 150)
        done.set()
        reader.join(5)
        assert seen <= {("live", "", True), ("standby", "", True)}

    def test_root_leaves_the_file_to_the_directorys_owner(self, kept):
        if os.geteuid():
            pytest.skip("needs root")
        os.chown(kept.directory, 12345, 12345)
        kept.set("standby")
        assert os.stat(kept.file).st_uid == 12345 and os.stat(kept.file).st_mode & 0o777 == 0o644


class TestCommandLine:
    def run(self, *arguments):
        return subprocess.run([sys.executable, "-m", "heartbeat_kit", *arguments], cwd=ROOT, capture_output=True, text=True)

    def test_read_set_and_park_work_with_the_application_down(self, tmp_path):
        (tmp_path / "shop").mkdir()
        place = ("shop", "--state-dir", str(tmp_path))
        assert self.run("read", *place).stdout == "standby\n"
        assert self.run("set", "shop", "live", "--state-dir", str(tmp_path), "--reason", "CHG-1").returncode == 0
        assert self.run("read", *place).stdout.startswith("live\n") and "why=CHG-1" in self.run("read", *place).stdout
        assert self.run("park", *place).stdout.startswith("standby\n")
        assert state.State(str(tmp_path / "shop")).read().word == "standby"

    @pytest.mark.parametrize("arguments", [
        ["set", "shop"], ["park", "shop", "live"], ["set", "shop", "Live"], ["read"], ["flip", "shop"], ["read", "../etc"],
        ["park", ""], ["park", "shop", "--state-dir", ""], ["read", ".."], ["set", "shop", ""], ["read", "shop", "--reason"]])
    def test_a_bad_call_ends_with_2_and_no_traceback(self, arguments):
        done = self.run(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr

    def test_why_it_is_standby_by_default_is_told_beside_the_word(self, tmp_path):
        done = self.run("read", "shpo", "--state-dir", str(tmp_path))
        assert done.stdout == "standby\n" and "shpo/state: no state file" in done.stderr
        (tmp_path / "shop" / "state").mkdir(parents=True)
        done = self.run("read", "shop", "--state-dir", str(tmp_path))
        assert done.stdout == "standby\n" and "Is a directory" in done.stderr
        assert self.run("set", "shop", "live", "--state-dir", str(tmp_path)).returncode == 4

    def test_a_user_without_a_name_and_a_terminal_without_umlauts_are_no_trouble(self, tmp_path):
        (tmp_path / "shop").mkdir()
        bare = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": "ascii"}
        code = ("import pwd, sys; pwd.getpwuid = lambda uid: {}[uid]; sys.argv[1:] = ['set', 'shop', 'live', '--state-dir', %r, "
                "'--reason', 'f\\xfcr heute']; import runpy; runpy.run_module('heartbeat_kit', run_name='__main__')")
        done = subprocess.run([sys.executable, "-c", code % str(tmp_path)], cwd=ROOT, capture_output=True, text=True, env=bare)
        assert done.returncode == 0 and "f?r heute" in done.stdout and f"by=uid {os.getuid()}" in done.stdout, done

    def test_a_state_that_cannot_be_stored_ends_with_4(self, tmp_path):
        done = self.run("park", "shop", "--state-dir", str(tmp_path))
        assert done.returncode == 4 and "not stored" in done.stderr and "Traceback" not in done.stderr


def test_the_kit_needs_the_standard_library_of_python_3_6_only():
    files = list(Path(ROOT, "heartbeat_kit").rglob("*.py"))
    imported = set()
    for file in files:
        tree = ast.parse(file.read_text(), feature_version=(3, 6))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    assert len(files) > 10 and imported <= set(sys.stdlib_module_names) - {"dataclasses", "contextvars"}


class TestStartId:
    def test_systemds_invocation_id_is_taken_where_it_is_set(self, monkeypatch):
        monkeypatch.setenv("INVOCATION_ID", "abc")
        assert process.start_id() == "abc"

    def test_without_systemd_two_starts_of_one_command_differ_and_its_children_agree(self, monkeypatch):
        monkeypatch.delenv("INVOCATION_ID", raising=False)
        code = ("import os; from heartbeat_kit.process import start_id; print(start_id(), flush=True)\n"
                "if os.fork() == 0: print(start_id(), flush=True)\nelse: os.wait()")
        runs = [subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True) for _ in range(2)]
        starts = [run.stdout.split() for run in runs]
        assert starts[0][0] == starts[0][1] and starts[1][0] == starts[1][1] and starts[0] != starts[1]
