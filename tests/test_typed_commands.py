"""What commands that need no host make of slips: the exit code, the sentence, and one document with --json."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from invoke import Exit

from bgdeploy import inventory, session, verbs, verbs_beside, verbs_records
from bgdeploy.outside.store import open_store

SITE, LAB = "site", "lab"
PROJECT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own with two inventories, one of each kind, and nothing that runs."""
    text = (Path(__file__).parent.parent / "inventories" / "lab.yml").read_text(encoding="utf-8")
    (tmp_path / "inventories").mkdir()
    shutil.copytree(Path(__file__).parent.parent / "migrations", tmp_path / "migrations")
    (tmp_path / "inventories" / "lab.yml").write_text(text, encoding="utf-8")
    rows = [row for row in text.replace("kind: lab", "kind: site").replace("name: lab", "name: site").split("\n")
            if not row.startswith("lab:")]
    (tmp_path / "inventories" / "site.yml").write_text("\n".join(rows), encoding="utf-8")
    for name in ("BGDEPLOY_ENV", "BGDEPLOY_STATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(verbs, "BASE", str(tmp_path))
    monkeypatch.setattr(verbs_beside, "BASE", str(tmp_path))
    monkeypatch.setattr(verbs_records, "BASE", str(tmp_path))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def typed(command, *words, **options):
    """Exit code, stdout and stderr of one command."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command(*words, **options)
        except Exit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("command, options, said", [
    (verbs_records.hold, {}, "--reason is missing"),
    (verbs_records.hold, {"reason": ""}, "--reason is empty"),
    (verbs_records.answer, {"choice": "perhaps"}, "--choice"),
    (verbs_records.answer, {"choice": True}, "--choice has no value"),
    (verbs_records.answer, {"run": "../../x"}, "--run"),
    (verbs.plan, {"hosts": "green-1"}, "--hosts is without --stack"),
    (verbs.plan, {"stack": "green", "first": "blue"}, "--first is for a rollout"),
    (verbs_records.report, {"format": ""}, "--format is empty"),
    (verbs_beside.publish, {"component": "web", "version": "2.0.0", "iteration": ""}, "--iteration is empty"),
])
def test_a_slip_is_a_bad_call_also_where_the_lab_is_not_up(project, command, options, said):
    code, out, err = typed(command, **options)
    assert (code, out) == (2, "")
    assert said in err and "lab.up" not in err


@pytest.mark.parametrize("options, said", [
    ({"fault": ""}, "--fault is empty"), ({"fault": True}, "--fault has no value"),
    ({"fault": "power", "target": ""}, "--target is empty"), ({"fault": "power", "option": "seconds"}, "is not name=value"),
    ({"fault": "power", "option": "seconds=1,seconds=2"}, "twice"),
    ({"fault": "power", "option": "target=x"}, "no option's name"),
])
def test_harm_is_done_only_where_each_word_of_it_is_understood(project, options, said):
    code, _, err = typed(verbs_beside.lab, "break", **options)
    assert code == 2 and said in err


def test_a_fault_is_known_by_name_before_the_lab_is_asked_and_with_json_listed_as_a_document(project):
    for verb in ("break", "mend"):
        code, _, err = typed(verbs_beside.lab, verb, fault="powr", target="green-1")
        assert code == 2 and "did you mean power?" in err
    code, out, _ = typed(verbs_beside.lab, "break", json=True)
    listed = {row["name"]: row for row in json.loads(out)["faults"]}
    assert code == 0 and listed["power"]["target"] == "host" and listed["power"]["options"] == ["seconds"]


def test_harm_that_was_done_is_a_document_that_says_so(project, monkeypatch):
    monkeypatch.setattr("lab.lab.link.ask", lambda *_: {"said": "green-1 is off"})
    for verb in ("break", "mend"):
        code, out, _ = typed(verbs_beside.lab, verb, fault="power", target="green-1", json=True)
        assert (code, json.loads(out)["why"]) == (0, "green-1 is off")


@pytest.mark.parametrize("env", [SITE, LAB])
def test_a_freeze_and_a_lock_in_a_folder_of_this_machine_need_no_lab(project, env):
    assert typed(verbs_records.hold, reason="stocktaking", env=env)[0] == 0
    code, _, err = typed(verbs_records.hold, reason="again", env=env)
    assert code == 3 and "stocktaking" in err
    assert typed(verbs_records.unhold, env=env)[0] == 0
    assert typed(verbs_records.unlock, env=env)[:2] == (0, "there was no lock\n")


def test_with_json_each_end_is_exactly_one_document(project):
    code, out, err = typed(verbs_records.hold, reason="stocktaking", env=SITE, json=True)
    told = err.strip().replace(f" --env {SITE}", "")        # a document is for scripts, which know what they typed
    assert json.loads(out) == {"outcome": "done", "exit_code": 0, "why": told, "next": []}
    code, out, _ = typed(verbs_records.hold, reason="again", env=SITE, json=True)
    refused = json.loads(out)
    assert (refused["outcome"], refused["exit_code"], refused["next"]) == ("refused", code, ["invoke unhold"])
    assert "stocktaking" in refused["why"]
    code, out, _ = typed(verbs_records.report, env=SITE, json=True)
    assert json.loads(out)["exit_code"] == code == 2
    code, out, _ = typed(verbs.status, env=LAB, json=True)
    assert json.loads(out)["next"] == ["invoke lab.up"]
    assert json.loads(typed(verbs_records.history, env=SITE, json=True)[1]) == []


def test_a_command_that_reached_its_goal_lets_the_next_one_in_the_line_begin(project):
    with redirect_stdout(io.StringIO()):
        verbs_records.history(env=SITE)


@pytest.mark.parametrize("typed_state", ["kept", "./a/../kept", "~/kept"])
def test_records_lie_beside_the_store_from_whichever_folder_it_is_typed(project, monkeypatch, typed_state):
    monkeypatch.setenv("HOME", str(project))
    text = (project / "inventories" / "site.yml").read_text(encoding="utf-8")
    rows = [row for row in text.split("\n") if not row.startswith("store:")]
    (project / "inventories" / "site.yml").write_text("\n".join(rows), encoding="utf-8")
    environ = {"BGDEPLOY_STATE": typed_state}
    site = inventory.load(SITE, str(project), environ)
    with session.Session(site, None, environ) as opened:
        assert opened.state == str(project / "kept")
    assert site.store == f"file:{project / 'kept' / 'store'}"


@pytest.mark.parametrize("said", [" ", "-x", "a\nb", " /var/lib/bgdeploy", "~nobody-has-this-name/x", "\udcff"])
def test_a_state_folder_that_cannot_be_meant_is_a_bad_call_and_no_new_folder_without_lock_and_records(project, monkeypatch, said):
    monkeypatch.setenv("BGDEPLOY_STATE", said)
    before = sorted(os.listdir(project))
    for command, options in ((verbs_records.history, {}), (verbs_records.hold, {"reason": "stocktaking"}), (verbs.status, {})):
        code, _, err = typed(command, env=SITE, **options)
        assert code == 2 and "BGDEPLOY_STATE" in err and sorted(os.listdir(project)) == before


def test_records_that_cannot_be_read_are_never_taken_for_none(project):
    runs = project / ".bgdeploy" / "runs"
    (runs / "20260101-000000-1" / "journal.jsonl").mkdir(parents=True)      # unreadable for root too
    for command in (verbs_records.history, verbs_records.report):
        code, out, err = typed(command, env=SITE)
        assert (code, out) == (3, "")
        assert str(runs / "20260101-000000-1" / "journal.jsonl") in err and "BGDEPLOY_STATE" in err


def shared(project):
    """The same two inventories with their store in a database that is not there."""
    for name in (SITE, LAB):
        file = project / "inventories" / f"{name}.yml"
        rows = [row for row in file.read_text(encoding="utf-8").split("\n") if not row.startswith("store:")]
        file.write_text("\n".join(rows + ["store: mongodb://127.0.0.1:9/bgdeploy?serverSelectionTimeoutMS=50"]), encoding="utf-8")
    return project


@pytest.mark.parametrize("env", [SITE, LAB])
def test_records_that_lie_here_are_read_though_the_store_is_silent_and_what_is_said_of_it_is_no_part_of_a_report(project, env):
    shared(project)
    folder = project / ".bgdeploy" / "runs" / "20260101-000000-1"
    folder.mkdir(parents=True)
    event = {"n": 1, "at": 1.0, "kind": "began", "run": folder.name, "env": inventory.load(env, project).name, "task": "deploy"}
    (folder / "journal.jsonl").write_text(json.dumps(event) + "\n")
    code, out, err = typed(verbs_records.report, format="html", env=env)
    assert code == 0 and out.startswith("<!") and out.rstrip().endswith("</html>")
    assert "runs of other machines are not known" in err and ("is not up" in err) == (env == LAB)
    code, out, _ = typed(verbs_records.history, env=env, json=True)
    assert code == 0 and [row["run"] for row in json.loads(out)] == [folder.name]


def test_nothing_that_acts_begins_while_the_store_is_silent(project, monkeypatch):
    shared(project)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for command, words in ((verbs.act, {"stack": "green"}), (verbs_records.hold, {"reason": "stocktaking"}),
                           (verbs_records.unlock, {})):
        code, _, err = typed(command, *(["deploy"] if command is verbs.act else []), env=SITE, **words)
        assert code == 3 and "the store at 127.0.0.1:9 does not answer" in err
    assert not (project / ".bgdeploy").exists()


def test_a_bug_is_told_on_stderr_with_the_file_of_its_traceback(project, monkeypatch):
    monkeypatch.setattr(verbs.tempfile, "tempdir", str(project))
    monkeypatch.setattr(verbs_records, "open_records", lambda console, env: {}["no such key"])
    code, out, err = typed(verbs_records.history, env=SITE)
    assert (code, out) == (1, "") and "a bug in bgdeploy: KeyError" in err
    with open(err.partition("its traceback is in ")[2].split("\n")[0], encoding="utf-8") as kept:
        assert "no such key" in kept.read()
    monkeypatch.setattr(verbs.tempfile, "tempdir", str(project / "none"))
    assert "could not be written" in typed(verbs_records.history, env=SITE)[2]


def test_a_lab_that_is_not_up_is_a_document_too(project):
    assert json.loads(typed(verbs_beside.lab, "status", env=LAB, json=True)[1]) == {"name": "lab", "up": False}


def test_a_stray_file_among_the_records_is_no_run(project):
    (project / ".bgdeploy" / "runs").mkdir(parents=True)
    (project / ".bgdeploy" / "runs" / "notes.txt").write_text("ours", encoding="utf-8")
    assert typed(verbs_records.history, env=SITE)[:2] == (0, "no run yet\n")


def test_a_folder_that_no_run_can_have_made_is_no_run_either(project):
    (project / ".bgdeploy" / "runs" / "lost+found" / "journal.jsonl").mkdir(parents=True)
    assert typed(verbs_records.history, env=SITE)[:2] == (0, "no run yet\n")


def test_a_file_where_the_records_should_lie_is_not_taken_for_no_records(project):
    (project / ".bgdeploy").write_text("", encoding="utf-8")
    code, out, err = typed(verbs_records.history, env=SITE)
    assert (code, out) == (3, "") and "Not a directory" in err and "BGDEPLOY_STATE" in err


def waiting(project, *more, goal=None):
    """A run of the site that waits at a gate."""
    folder = project / ".bgdeploy" / "runs" / "20260101-000000-1"
    folder.mkdir(parents=True)
    name = inventory.load(SITE, project).name
    events = [{"kind": "began", "run": folder.name, "env": name, "task": "deploy", "goal": goal or {"wants": []}},
              {"kind": "asked", "gate": "sanity", "stack": "green", "hosts": [], "choices": ["approve", "stop"]},
              {"kind": "ended", "outcome": "waiting", "exit_code": 7}, *more]
    with open(folder / "journal.jsonl", "w", encoding="utf-8") as file:
        for n, event in enumerate(events):
            file.write(json.dumps({"n": n + 1, "at": time.time() - 60, **event}) + "\n")
    return folder


def test_a_question_is_answered_until_the_run_goes_on_and_not_after_that(project):
    folder = waiting(project)
    for options, said in (({}, "--choice is missing; run 20260101-000000-1 asks approve|stop"),
                          ({"choice": "perhaps"}, '"perhaps" is not known; there are approve, stop'),
                          ({"choice": "aprove"}, "did you mean approve?"), ({"choice": "repeat"}, "there are approve, stop")):
        code, _, err = typed(verbs_records.answer, **options, env=SITE)
        assert code == 2 and said in err and "exclude" not in err
    code, _, err = typed(verbs_records.answer, run="20250101-000000-1", choice="stop", env=SITE)
    assert code == 2 and "there is no run 20250101-000000-1" in err
    for _ in range(2):          # a person may think again
        code, out, _ = typed(verbs_records.answer, choice="approve", env=SITE, json=True)
        assert code == 0 and json.loads(out)["next"] == ["invoke resume"]
    with open(folder / "journal.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"n": 9, "at": time.time(), "kind": "resumed"}) + "\n")
    code, _, err = typed(verbs_records.answer, choice="approve", env=SITE)
    assert code == 3 and "asks nothing" in err
    assert typed(verbs_records.answer, choice="stop", env=SITE)[0] == 0


def test_while_an_answer_is_written_down_no_driver_begins(project, monkeypatch):
    waiting(project)
    store = open_store(inventory.load(SITE, project))
    held = []
    monkeypatch.setattr(verbs_records, "write_reports", lambda *_: held.append(store.holder()))
    assert typed(verbs_records.answer, choice="approve", env=SITE)[0] == 0
    assert held[0]["task"] == "answer" and store.holder() is None


def test_a_question_that_has_expired_takes_no_answer_but_stop(project):
    folder = waiting(project, {"kind": "asked", "stack": "green", "choices": ["approve", "stop"], "expires": time.time() - 1},
                     {"kind": "ended", "outcome": "waiting", "exit_code": 7})
    code, _, err = typed(verbs_records.answer, choice="approve", env=SITE)
    assert code == 3 and "has expired" in err and folder.name in err
    assert typed(verbs_records.answer, choice="stop", env=SITE)[0] == 0


@pytest.mark.parametrize("env", [SITE, LAB])
@pytest.mark.parametrize("options", [{}, {"choice": "perhaps"}, {"run": "r", "choice": "perhaps"}])
def test_a_choice_that_is_missing_or_unknown_is_a_bad_call_whether_a_run_is_open_or_not(project, env, options):
    code, _, err = typed(verbs_records.answer, **options, env=env)
    assert code == 2 and "--choice" in err
    assert all(word in err for word in ("approve", "stop", "retry", "exclude", "proceed", "repeat", "done"))


@pytest.mark.parametrize("goal", [{"wants": ["green"]}, {"wants": [{"stack": "green"}]}, {"wants": 5},
                                  {"wants": [{"stack": "green", "mode": "live", "release": {"web": "2.0.0-1"}}]}])
def test_a_run_of_a_newer_version_is_left_alone_with_a_sentence(project, goal):
    waiting(project, goal=goal)
    assert typed(verbs_records.history, env=SITE)[0] == typed(verbs_records.report, env=SITE)[0] == 0
    for choice in ("approve", "stop"):
        code, _, err = typed(verbs_records.answer, choice=choice, env=SITE)
        assert code == 3 and "cannot be read in its journal" in err


@pytest.mark.parametrize("words, said", [
    (["inventory.check", "--", "--env", "nowhere"], "reaches no command"),
    (["--dry", "inventory.check"], "invoke plan shows")])
def test_what_invoke_takes_for_itself_is_not_lost_in_silence(words, said):
    ended = subprocess.run([sys.executable, "-m", "invoke", *words], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and said in ended.stderr


@pytest.mark.parametrize("words, said", [
    (["hold", "--reason", "rollback", "--env", "nowhere"], "no inventories/nowhere.yml"),
    (["standby", "--stack=live"], "has no stack \"live\""), (["standby", "--stack", "--reason", "live"], "--stack has no value")])
def test_a_value_that_is_a_commands_name_too_is_a_value(words, said):
    ended = subprocess.run([sys.executable, "-m", "invoke", *words], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and said in ended.stderr


def test_a_command_that_is_typed_twice_in_one_line_is_done_twice():
    """As in `status back --stack green status`: Invoke leaves out what it has done already."""
    ended = subprocess.run([sys.executable, "-m", "invoke", "inventory.check", "inventory.check"], cwd=PROJECT,
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and ended.stdout.count("is right") == 2


@pytest.mark.parametrize("words", [["--list"], ["deploy", "--help"]])
def test_a_list_of_commands_that_nobody_reads_to_its_end_gives_no_traceback(words):
    unread, end = os.pipe()
    os.close(unread)
    with open(end, "wb") as out:
        ended = subprocess.run([sys.executable, "-m", "invoke", *words], cwd=PROJECT, stdout=out, stderr=subprocess.PIPE,
                               timeout=60)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_runs_of_another_inventory_in_the_same_folder_hide_none_and_old_ones_are_found_when_asked_for(project):
    for n in range(420):
        folder = project / ".bgdeploy" / "runs" / f"20260101-{n:06d}-1"
        folder.mkdir(parents=True)
        event = {"n": 1, "at": 1.0 + n, "kind": "began", "run": folder.name, "env": SITE if n < 210 else LAB, "task": "deploy"}
        (folder / "journal.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
    assert len(json.loads(typed(verbs_records.history, env=SITE, last="500", json=True)[1])) == 210
    newest = json.loads(typed(verbs_records.history, env=SITE, last="1", json=True)[1])
    assert [row["run"] for row in newest] == ["20260101-000209-1"]
    assert typed(verbs_records.report, env=SITE, run="20260101-000003-1")[0] == 0
    assert typed(verbs_records.report, env=LAB, run="20260101-000003-1")[0] == 2


@pytest.mark.parametrize("left", ["", "[]", "{}", '"x"', "\0" * 40, "[" * 100000, '{"reason": 5}'])
def test_a_freeze_that_cannot_be_read_is_a_freeze_until_a_person_ends_it(project, monkeypatch, left):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert typed(verbs_records.hold, reason="stocktaking", env=SITE)[0] == 0
    file, = project.glob(".bgdeploy/**/hold.json")
    file.write_text(left, encoding="utf-8")
    code, _, err = typed(verbs.act, "deploy", stack="green", env=SITE)
    assert code == 3 and "froze this site" in err
    assert typed(verbs_records.unhold, env=SITE)[0] == 0 and not file.exists()


SILENT = """
components: {{web: {{port: 9, sanity: [{{path: /}}]}}}}
stacks:
  green: {{hosts: {{green-1: {{address: "127.0.0.1:{port}"}}}}}}
  blue: {{hosts: {{blue-1: {{address: "127.0.0.2:{port}"}}}}}}
balancers: {{live: {{nodes: {{lb-1: {{address: 127.0.0.3}}}}}}, standby: {{nodes: {{lb-2: {{address: 127.0.0.4}}}}}}}}
repository: {{url: "http://127.0.0.1:{port}"}}
"""


def test_an_abort_before_a_run_begins_ends_it_at_once_and_frees_the_lock_though_everybody_is_silent(project):
    """Jenkins sends SIGTERM twice within 10 ms: the second one must not cut the end short."""
    with socket.create_server(("0.0.0.0", 0), backlog=50) as silent:
        (project / "inventories" / "silent.yml").write_text(SILENT.format(port=silent.getsockname()[1]), encoding="utf-8")
        program = f"from bgdeploy import verbs; verbs.BASE = {str(project)!r}; verbs.act('deploy', stack='green', env='silent')"
        driver = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        lease = project / ".bgdeploy" / "store" / "silent" / "lease.json"
        for _ in range(600):
            if lease.exists():
                break
            time.sleep(0.05)
        for _ in range(2):
            driver.send_signal(signal.SIGTERM)
            time.sleep(0.01)
        assert driver.communicate(timeout=60)[0] == b"interrupted before anything was begun\n" and driver.returncode == 5
        assert not lease.exists() and not (project / ".bgdeploy" / "runs").exists()
