"""Hooks: a site's own programs around the steps. They may refuse, they cannot hang, flood, or see what is secret."""

import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from bgdeploy.outside import hooks
from bgdeploy.site import Balancer, Component, Heartbeat, Secret, Ssh
from tests.serving import ROOT, eventually

FACTS = {"run": "20260101-000000-aa", "task": "rollout", "step": "standby", "stack": "green", "hosts": "green-1,green-2",
         "release": "web=2.0.0-1", "why": "2 of 4 serve", "outcome": None}
SAMPLES = os.path.join(ROOT, "hooks.samples")


@pytest.fixture
def site(tmp_path):
    heartbeat = Heartbeat(token=Secret(env="OUR_ODD_NAME"))
    (tmp_path / "hooks").mkdir()
    web = Component("web", "web", "web", "web", heartbeat)
    return SimpleNamespace(name="shop", file="shop.yml", base=str(tmp_path), hooks=str(tmp_path / "hooks"), ssh=Ssh(),
                           store_password=None, database_password=None, components=(web,), standby=Balancer("standby", (), ()),
                           live=Balancer("live", (), (), stats_password=Secret(env="OUR_BALANCER_LOGIN")))


def write(site, text, name="before-live", mode=0o755):
    path = pathlib.Path(site.hooks, name)
    path.write_text(text)
    path.chmod(mode)


def test_no_hook_is_absent(site):
    assert hooks.run(site, "before-live", FACTS).outcome == "absent"
    site.hooks += "/nowhere"
    assert hooks.run(site, "before-live", FACTS).outcome == "absent"
    site.hooks = None
    assert hooks.run(site, "before-live", FACTS).outcome == "absent"


def test_it_gets_the_facts_an_empty_stdin_and_the_project_s_folder(site):
    write(site, '#!/bin/sh\necho "$BGDEPLOY_ENV $BGDEPLOY_STEP $BGDEPLOY_HOSTS [$BGDEPLOY_OUTCOME] $BGDEPLOY_RUN"\npwd\nwc -c\n')
    ended = hooks.run(site, "before-live", FACTS)
    assert (ended.name, ended.outcome) == ("before-live", "ok")
    assert ended.detail.split("\n") == ["shop standby green-1,green-2 [] 20260101-000000-aa", site.base, "0"]


def test_what_it_says_is_the_reason_of_a_refusal(site):
    write(site, "#!/bin/sh\necho the cache is cold\nexit 3\n")
    ended = hooks.run(site, "before-live", FACTS)
    assert (ended.outcome, ended.detail) == ("refused", "the cache is cold (exit 3)")


@pytest.mark.parametrize("text, mode, said", [("#!/bin/sh\n", 0o644, "chmod"), ("no program\n", 0o755, "#!/bin/sh"),
                                              ("#!/no/such/program\n", 0o755, "#!/bin/sh")])
def test_one_that_cannot_be_run_is_never_taken_for_absent(site, text, mode, said):
    write(site, text, mode=mode)
    ended = hooks.run(site, "before-live", FACTS)
    assert ended.outcome == "failed" and said in ended.detail and "before-live" in ended.detail


def test_a_folder_or_a_dangling_link_in_its_place_is_no_hook(site):
    os.mkdir(os.path.join(site.hooks, "before-live"))
    os.symlink("gone", os.path.join(site.hooks, "after-live"))
    assert {hooks.run(site, name, FACTS).outcome for name in ("before-live", "after-live")} == {"failed"}


def test_past_its_limit_it_ends_with_all_that_it_started(site):
    write(site, '#!/bin/sh\ntrap "" TERM\nsleep 300 & echo "child $!"\nwait\nsleep 300\n')
    began = time.monotonic()
    ended = hooks.run(site, "before-live", FACTS, limit=0.5)
    assert ended.outcome == "failed" and "the limit is 0.5 s" in ended.detail and time.monotonic() - began < 10
    child = int(ended.detail.rpartition("child ")[2])
    stat = pathlib.Path(f"/proc/{child}/stat")
    assert eventually(lambda: not stat.exists() or " Z " in stat.read_text(), bool)


def test_an_interrupted_run_does_not_wait_for_it(site):
    write(site, "#!/bin/sh\nsleep 300\n")
    began = time.monotonic()
    ended = hooks.run(site, "before-live", FACTS, stop=lambda: time.monotonic() - began > 0.3)
    assert ended.outcome == "failed" and "interrupted" in ended.detail and time.monotonic() - began < 4


def test_one_that_runs_as_another_user_is_told_and_not_waited_for(site):
    """`exec sudo ...`: no signal of ours reaches it."""
    if os.getuid():
        pytest.skip("needs root, to be somebody else for a moment")
    write(site, "#!/bin/sh\nexec sleep 20\n")
    began = time.monotonic()
    try:
        ended = hooks.run(site, "before-live", FACTS, stop=lambda: os.setresuid(65534, 65534, 0) is None)
    finally:
        os.setresuid(0, 0, 0)
    process = int(re.search(r"process (\d+) goes on", ended.detail)[1])
    os.kill(process, signal.SIGKILL)
    assert ended.outcome == "failed" and time.monotonic() - began < 10


@pytest.mark.parametrize("number", [9, 35])
def test_one_that_a_signal_ended_is_a_refusal_that_names_it_whether_it_has_a_name_or_not(site, number):
    write(site, f"#!/bin/bash\nkill -{number} $$\n")
    ended = hooks.run(site, "before-live", FACTS)
    name = "SIGKILL" if number == 9 else "signal 35"
    assert ended.outcome == "refused" and ended.detail.endswith(f"killed by {name}, without a word")


def test_a_background_child_that_keeps_the_output_open_is_not_waited_for(site):
    write(site, "#!/bin/sh\nsleep 5 &\necho done\n")
    began = time.monotonic()
    assert hooks.run(site, "before-live", FACTS).detail == "done"
    assert time.monotonic() - began < 4


def test_one_that_closes_its_output_and_goes_on_is_waited_for(site):
    write(site, "#!/bin/sh\nexec >&- 2>&-\nsleep 0.5\nexit 7\n")
    assert "exit 7" in hooks.run(site, "before-live", FACTS).detail


def test_a_flood_is_capped_and_control_characters_and_secrets_are_gone(site):
    write(site, "#!/bin/sh\nyes 0123456789012345678901234567890123456789 | head -c 20000000\nprintf '\\033[31mred\\033[0m\\n'\n"
                "echo password=hunter22\nprintf 'caf\\351\\n'\nexit 1\n")
    ended = hooks.run(site, "before-live", FACTS)
    assert ended.outcome == "refused" and len(ended.detail) < 2200
    assert "red" in ended.detail and "\x1b" not in ended.detail and "hunter22" not in ended.detail and "caf\ufffd" in ended.detail


def test_it_does_not_see_credentials(site, monkeypatch):
    """Neither by what they are called nor by what the inventory calls them; what is meant for hooks comes through."""
    for name in ("OUR_ODD_NAME", "OUR_BALANCER_LOGIN", "BGDEPLOY_HEARTBEAT_TOKEN", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY",
                 "CI_JOB_TOKEN", "GPG_PASSPHRASE", "STRIPE_API_KEY"):
        monkeypatch.setenv(name, "hunter22")
    monkeypatch.setenv("BGDEPLOY_HOOK_CHAT_TOKEN_URL", "meant-for-it")
    write(site, "#!/bin/sh\nenv | grep -c hunter22\nenv | grep -c meant-for-it\necho $HOME\n")
    assert hooks.run(site, "before-live", FACTS).detail.split("\n")[:2] == ["0", "1"]
    assert hooks.run(site, "before-live", FACTS).detail.endswith(os.environ["HOME"])


def test_facts_from_hosts_are_cleaned(site):
    write(site, '#!/bin/sh\nprintf "%s" "$BGDEPLOY_WHY" | od -An -c\n')
    ended = hooks.run(site, "before-live", {**FACTS, "why": "a\x1b[31mb\nc\0d"})
    assert ended.outcome == "ok" and "033" not in ended.detail and "\\n" not in ended.detail and "\\0" not in ended.detail


# the samples

def sample(site, name, *_, **variables):
    """Runs a sample as a hook of that name. :returns: Ended."""
    target = os.path.join(site.hooks, "before-live")
    if not os.path.lexists(target):
        os.symlink(os.path.join(SAMPLES, name), target)
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        return hooks.run(site, "before-live", FACTS)
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.unlink(target)


def test_icinga_is_silenced_and_unsilenced_by_the_same_comment(site, tmp_path):
    pipe, lines = str(tmp_path / "icinga2.cmd"), []
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ended = sample(site, "silence-icinga", BGDEPLOY_HOOK_ICINGA_COMMANDS=pipe)
        assert (ended.outcome, ended.detail) == ("ok", "silenced for 60 min: green-1,green-2")
        lines = os.read(reader, 65536).decode().splitlines()
        assert [line.split("] ")[1].split(";")[:2] for line in lines] == [
            [f"SCHEDULE_HOST{part}_DOWNTIME", host] for host in ("green-1", "green-2") for part in ("", "_SVC")]
        fields = lines[0].split(";")
        assert int(fields[3]) - int(fields[2]) == 3600 and fields[4:8] == ["1", "0", "0", "bgdeploy"]
        assert sample(site, "unsilence-icinga", BGDEPLOY_HOOK_ICINGA_COMMANDS=pipe).outcome == "ok"
        ends = os.read(reader, 65536).decode().splitlines()
        assert [end.split("] ")[1] for end in ends] == [
            f"DEL_DOWNTIME_BY_HOST_NAME;{host};;;{fields[8]}" for host in ("green-1", "green-2")]
    finally:
        os.close(reader)


def test_a_deployment_goes_on_where_no_icinga_reads(site, tmp_path):
    """Silencing that fails is said and is no refusal; un-silencing that fails is a warning."""
    missing = {"BGDEPLOY_HOOK_ICINGA_COMMANDS": str(tmp_path / "nothing")}
    assert sample(site, "silence-icinga", **missing).outcome == "ok"
    assert sample(site, "unsilence-icinga", **missing).outcome == "refused"
    os.mkfifo(tmp_path / "deaf")
    ended = sample(site, "silence-icinga", BGDEPLOY_HOOK_ICINGA_COMMANDS=str(tmp_path / "deaf"))
    assert ended.outcome == "ok" and "nobody reads" in ended.detail and ended.seconds < 20


def test_a_mail_goes_to_sendmail(site, tmp_path):
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/args\ncat > {tmp_path}/mail\n')
    program.chmod(0o755)
    ended = sample(site, "mail", BGDEPLOY_HOOK_MAIL_TO="ops@example.com", BGDEPLOY_HOOK_SENDMAIL=str(program),
                   BUILD_URL="https://ci/7")
    assert (ended.outcome, ended.detail) == ("ok", "mail sent to ops@example.com")
    head, _, body = (tmp_path / "mail").read_text().partition("\n\n")
    assert "To: ops@example.com" in head and "Subject: [bgdeploy] rollout green on shop: started" in head
    assert "release  web=2.0.0-1" in body and "https://ci/7" in body and (tmp_path / "args").read_text() == "-t -oi\n"
    assert "BGDEPLOY_HOOK_MAIL_TO" in sample(site, "mail").detail


def test_a_chat_is_told_by_its_webhook(site):
    told = []

    class Chat(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(404 if self.path == "/gone" else 200)
            self.end_headers()

        def log_message(self, *_):
            """Silent."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert sample(site, "chat", BGDEPLOY_HOOK_CHAT_URL=url + "/in/s3cret").detail == "told the chat (200)"
        refused = sample(site, "chat", BGDEPLOY_HOOK_CHAT_URL=url + "/gone")
    finally:
        server.shutdown()
        server.server_close()
    path, document = told[0]
    assert path == "/in/s3cret" and document["text"].startswith("*shop* rollout green standby: started\nrelease: web=2.0.0-1")
    assert refused.outcome == "refused" and "the chat refused it: 404" in refused.detail
    silent = sample(site, "chat", BGDEPLOY_HOOK_CHAT_URL=url + "/in/s3cret")
    assert silent.outcome == "refused" and "does not answer" in silent.detail and "s3cret" not in silent.detail


@pytest.mark.parametrize("url", ["hooks.example/in/s3cret", "http://127.0.0.1:x/in/s3cret", "http://127.0.0.1:1/in s3cret",
                                 "odd://127.0.0.1/s3cret", "http://[::1/s3cret", "/etc/s3cret"])
def test_a_chat_whose_address_is_none_is_a_sentence_without_the_secret(site, url):
    said = sample(site, "chat", BGDEPLOY_HOOK_CHAT_URL=url)
    assert said.outcome == "refused" and "s3cret" not in said.detail and "Traceback" not in said.detail


def test_the_samples_are_executable_and_listed():
    names = {name for name in os.listdir(SAMPLES) if name != "README.md"}
    listed = pathlib.Path(SAMPLES, "README.md").read_text()
    assert names and all(os.access(os.path.join(SAMPLES, name), os.X_OK) and f"hooks.samples/{name}" in listed for name in names)
    for name in names:
        if "python" not in pathlib.Path(SAMPLES, name).read_text().split("\n", 1)[0]:
            subprocess.run(["sh", "-n", os.path.join(SAMPLES, name)], check=True)
