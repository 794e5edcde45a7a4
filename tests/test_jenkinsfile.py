"""What jenkins/Jenkinsfile does at each exit code, by a stand-in for Pipeline; and what its steps type, by a stand-in for invoke.

The stand-in for Pipeline is run by the Groovy that lies in jenkins-war; where that or a JDK is missing these tests are skipped.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import time
import zipfile

import pytest

from lab import jenkins, setup

PROJECT = pathlib.Path(__file__).resolve().parents[1]
STEPS = PROJECT / "jenkins/steps"


@pytest.fixture(scope="session")
def groovy(tmp_path_factory):
    """The words that run a Groovy script."""
    if gone := jenkins.missing():
        (pytest.fail if os.environ.get("BGDEPLOY_LAB") == "required" else pytest.skip)(
            f"not installed: {', '.join(gone)}; run: /usr/bin/python3 lab/setup.py jenkins")
    setup.set_up(["jenkins"], lambda text: None)
    folder = tmp_path_factory.mktemp("groovy")
    with zipfile.ZipFile(jenkins.war()) as war:
        jar = next(name for name in war.namelist() if name.startswith("WEB-INF/lib/groovy-all-"))
        war.extract(jar, folder)
    return [setup.jdk("java"), *(f"--add-opens={name}=ALL-UNNAMED" for name in jenkins.OPEN), f"-javaagent:{setup.agent()}",
            "-XX:TieredStopAtLevel=1", "-cp", str(folder / jar), "groovy.ui.GroovyMain"]


def run(groovy, codes="", answer="approve", gate="yes"):
    """What the Jenkinsfile would do where its steps end with these exit codes: lines."""
    done = subprocess.run([*groovy, str(PROJECT / "tests/pipeline/stage.groovy"), str(PROJECT / "jenkins/Jenkinsfile")],
                          capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
                          env={**os.environ, "CODES": codes, "ANSWER": answer, "GATE": gate})
    assert done.returncode == 0 and not done.stderr, done.stderr
    return [line.replace("jenkins/steps/", "") for line in done.stdout.splitlines()]


def test_all_well_every_stage_runs_and_a_person_is_asked_before_blue(groovy):
    said = run(groovy)
    assert [line for line in said if line.startswith(("sh", "input"))] == [
        "sh test.sh -> 0", "sh publish.sh api web -> 0", "sh run.sh check -> 0", "sh deploy.sh green -> 0",
        "input: Green serves the new version. Deploy blue?", "sh deploy.sh blue -> 0", "sh collect.sh"]


def test_7_is_asked_in_jenkins_and_answered_and_6_marks_the_build_and_goes_on(groovy):
    said = run(groovy, "0 0 0 7 7 6", gate="no")
    at = said.index("sh deploy.sh green -> 7")
    asked = ["input: The run waits for a person: its last lines say why, and what may be chosen.", "withEnv [CHOICE=approve]"]
    assert said[at + 1:at + 7] == [*asked, "sh answer.sh -> 7", *asked, "sh answer.sh -> 6"]
    assert "unstable deploy.sh green ended with 6: done, with a warning to read" in said and "sh deploy.sh blue -> 0" in said


@pytest.mark.parametrize("code", ["1", "2", "3", "4", "5", "8"])
def test_any_other_code_ends_the_build_before_blue_and_what_was_recorded_is_archived(groovy, code):
    said = run(groovy, f"0 0 0 {code}")
    assert "skip deploy blue" in said and not [line for line in said if "deploy.sh blue" in line]
    assert said[-3:] == ["sh collect.sh", "archiveArtifacts [artifacts:bgdeploy-runs/**, allowEmptyArchive:true]",
                         "junit [testResults:bgdeploy-runs/*/junit.xml, allowEmptyResults:true]"]


# ---- the steps

@pytest.fixture
def step(tmp_path):
    """Run a step with a stand-in for invoke: (exit code, what was typed)."""
    project, typed = tmp_path / "project", tmp_path / "typed"
    shutil.copytree(STEPS, project / "jenkins/steps")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/invoke").write_text(f'#!/bin/sh\nprintf "%s|" "$@" >> {typed}; echo >> {typed}\nexit ${{CODE:-0}}\n')
    (tmp_path / "bin/invoke").chmod(0o755)
    (tmp_path / "workspace").mkdir()
    place = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "WORKSPACE": str(tmp_path / "workspace"),
             "BGDEPLOY_STATE": str(tmp_path / "state")}

    def go(name, *words, **environment):
        done = subprocess.run(["sh", "-xe", str(project / "jenkins/steps" / name), *words], capture_output=True, text=True,
                              timeout=60, env={**place, **environment})
        return done.returncode, typed.read_text().splitlines() if typed.exists() else []
    go.folder, go.place = tmp_path, place
    return go


def test_a_step_ends_with_the_code_of_its_command(step):
    assert step("deploy.sh", "green", VERSION="2.0.0", CODE="4")[0] == 4


@pytest.mark.parametrize("code", ["0", "5", "8"])
def test_a_workspace_that_is_full_does_not_take_the_place_of_what_the_command_said(step, code):
    assert step("run.sh", "deploy", CODE=code, WORKSPACE="/proc/nothing/can/be/written/here")[0] == int(code)


@pytest.mark.parametrize("name", ["deploy.sh", "publish.sh", "rollout.sh"])
def test_a_step_without_a_version_types_nothing(step, name):
    code, typed = step(name, "green")
    assert code != 0 and not typed
    code, typed = step(name, "green", VERSION="")
    assert code != 0 and not typed


def test_what_a_person_typed_stays_one_word_and_is_never_a_command(step):
    evil = "2.0.0; touch gone $(touch gone) `touch gone` --yes"
    _, typed = step("deploy.sh", "green", VERSION=evil, REASON="two words", WAIT="yes")
    assert typed == [f"deploy|--stack|green|--version|{evil}|--reason|two words|--no-input|--wait|"]
    assert not list(step.folder.rglob("gone"))


def test_an_answer_is_given_and_the_run_carried_on_but_stop_ends_it(step):
    assert step("answer.sh", CHOICE="approve", RUN="20260101-000000-abcd", BUILD_TAG="b") == (
        0, ["answer|--run|20260101-000000-abcd|--choice|approve|--reason|b|", "resume|--no-input|"])
    code, typed = step("answer.sh", CHOICE="stop")
    assert code == 4 and typed[2:] == ["answer|--choice|stop|--reason|by hand|"]


def test_a_build_archives_its_own_runs_and_no_others_and_not_what_chef_printed(step):
    for run_id, url in (("1", "http://ci/job/a/1/"), ("2", "http://ci/job/a/12/"), ("3", "http://ci/job/a/1/")):
        folder = step.folder / "state/runs" / run_id
        (folder / "hosts/green-1").mkdir(parents=True)
        (folder / "journal.jsonl").write_text('{"n": 1, "kind": "began", "by": {"build_url": "%s"}}\n' % url)
        (folder / "hosts/green-1/chef.log").write_text("secret")
    (step.folder / "state/runs/3/junit.xml").write_text("<testsuites/>")
    step("run.sh", "status", BUILD_URL="http://ci/job/a/1/", CODE="5")
    kept = step.folder / "workspace/bgdeploy-runs"
    assert {str(file.relative_to(kept)) for file in kept.rglob("*") if file.is_file()} == {
        "1/journal.jsonl", "3/journal.jsonl", "3/junit.xml"}
    step("collect.sh", BUILD_URL="http://ci/job/a/99/")
    assert list(kept.iterdir()) == []


def test_while_a_command_runs_nothing_of_another_build_lies_where_this_one_archives(step):
    """Jenkins 1.514 archives an aborted freestyle build before its step has collected: the run of the build before came along."""
    kept, seen = step.folder / "workspace/bgdeploy-runs", step.folder / "seen"
    for run_id, url in (("1", "http://ci/1/"), ("2", "http://ci/2/")):
        (step.folder / "state/runs" / run_id).mkdir(parents=True)
        (step.folder / "state/runs" / run_id / "journal.jsonl").write_text('{"by": {"build_url": "%s"}}\n' % url)
    step("collect.sh", BUILD_URL="http://ci/1/")
    (step.folder / "bin/invoke").write_text(f"#!/bin/sh\nls {kept} > {seen}\n")
    step("run.sh", "deploy", BUILD_URL="http://ci/2/")
    assert seen.read_text() == "2\n"       # what an earlier step of the same build began is there


@pytest.mark.parametrize("said, place", [("~/state", "state"), ("kept", "project/kept"), ("", "project/.bgdeploy")])
def test_records_are_collected_from_where_bgdeploy_puts_them_whatever_folder_it_is_typed_in(step, said, place):
    folder = step.folder / place / "runs/1"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text('{"n": 1, "kind": "began", "by": {"build_url": "http://ci/1/"}}\n')
    step("collect.sh", BUILD_URL="http://ci/1/", HOME=str(step.folder), BGDEPLOY_STATE=said)
    assert (step.folder / "workspace/bgdeploy-runs/1/journal.jsonl").exists()


def test_an_abort_leaves_the_command_its_time_and_its_runs_are_archived(step):
    """Jenkins sends SIGTERM to all of a build's processes, twice."""
    runs = step.folder / "state/runs/1"
    runs.mkdir(parents=True)
    (step.folder / "bin/invoke").write_text(f"""#!/bin/sh
trap 'sleep 1; echo http_url > {runs}/junit.xml; exit 5' TERM
echo '"by": "u"' > {runs}/journal.jsonl
while :; do sleep 0.1; done
""")
    process = subprocess.Popen([str(step.folder / "project/jenkins/steps/run.sh"), "deploy"], start_new_session=True,
                               stdout=subprocess.PIPE, text=True, env={**step.place, "BUILD_URL": "u"})
    while not (runs / "journal.jsonl").exists():
        time.sleep(0.05)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.01)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 5 and "ended with exit code 5" in said
    assert (step.folder / "workspace/bgdeploy-runs/1/junit.xml").exists()
