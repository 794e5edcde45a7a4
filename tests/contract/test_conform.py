"""The conformance check, tried on applications that keep the contract, in several languages, and on ones that do not."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from heartbeat_kit.conform import conform, document, flipping, missed, reading, table
from tests.authority import authority  # noqa: F401  (a fixture)
from tests.contract.test_kit_servers import command
from tests.haproxies import App
from tests.scripted import Scripted
from tests.serving import ROOT, Process, ask, eventually, free_port, listening

APPS = ROOT + "/tests/apps/"
OTHERS = {
    "node": ("full", "node {apps}shop.js {port} {folder}"),
    "ruby": ("basic", "ruby {apps}shop.rb {port} {folder}"),
    "systemd-socket-activate": ("basic", "systemd-socket-activate --inetd --accept -l 127.0.0.1:{port} {apps}shop.sh {folder}"),
}


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine is slow for reasons that are none of the application's."""
    monkeypatch.setattr(reading, "CHEAP", 2.0)


def kept(argv, folder, port, settings=None):
    """A server that can be restarted by a command; its Process, and that command."""
    (folder / "shop").mkdir()
    (folder / "token").write_text("correct-horse\n")
    pidfile, environment = str(folder / "pid"), {"KIT_SICK": str(folder / "sick"), "KIT_SETTINGS": json.dumps(settings)}
    served = Process([APPS + "keep.sh", pidfile, *argv], environment, str(folder / "log"), lambda: listening(port))
    return served, "%srestart.sh %s" % (APPS, pidfile)


def tried(port, folder, restart=None, slow=None, url=None, **more):
    return conform(url or "http://127.0.0.1:%d/heartbeat" % port, str(folder / "token"), restart, slow, **more)


def outcomes(report):
    return {row.check: row.outcome for row in report.rows}


@pytest.mark.parametrize("server", ["gunicorn", "uwsgi", "uvicorn", "hypercorn"])
def test_the_kit_keeps_the_whole_contract_under_every_server(server, tmp_path):
    port = free_port()
    served, restart = kept(command(server, port), tmp_path, port, {
        "component": "shop", "version": "2.0.0-1", "state_dir": str(tmp_path), "token_file": str(tmp_path / "token"),
        "balancers": ["127.0.0.3"]})
    try:
        report = tried(port, tmp_path, restart, "/slow?s=2")
        missed = [row for row in report.rows if row.outcome != "pass"]
        assert [row.check for row in missed] == ["balancers heard"], missed
        assert (report.level, report.unproved) == ("full", 1)
        assert ask(port).text == "standby\n", "left as it was found"
    finally:
        served.stop()


@pytest.mark.parametrize("program", sorted(OTHERS))
def test_an_application_in_another_language_reaches_its_level_in_a_few_lines(program, tmp_path):
    if not shutil.which(program):
        pytest.skip("%s is not installed" % program)
    level, line = OTHERS[program]
    port = free_port()
    served, restart = kept(line.format(apps=APPS, port=port, folder=tmp_path).split(), tmp_path, port)
    try:
        report = tried(port, tmp_path, restart, "/slow")
        assert report.level == level and not missed(report) and missed(report, "full") is (level != "full"), table(report)
        assert json.loads(json.dumps(document(report)))["rows"][0]["check"] == "answers"
        basic = [row for row in report.rows if row.level == "basic"]
        assert {row.outcome for row in basic} == {"pass"}, table(report)
    finally:
        served.stop()


def test_what_a_look_cannot_prove_is_said_and_costs_no_level(tmp_path):
    port = free_port()
    served, _ = kept(command("gunicorn", port), tmp_path, port, {
        "component": "shop", "version": "1-1", "state_dir": str(tmp_path), "token_file": str(tmp_path / "token"),
        "balancers": []})
    try:
        report = conform("http://127.0.0.1:%d/heartbeat" % port)
        assert report.level == "full" and report.unproved >= 6
        assert outcomes(report)["flips"] == outcomes(report)["survives a restart"] == "not provable"
        assert outcomes(report)["no token"] == "pass"
        assert "level: full, %d not provable" % report.unproved == table(report).split("\n")[-1]
    finally:
        served.stop()


def test_an_instance_that_a_balancer_looks_at_is_not_flipped_unless_told(tmp_path):
    port = free_port()
    served, _ = kept(command("gunicorn", port), tmp_path, port, {
        "component": "shop", "version": "1", "state_dir": str(tmp_path), "token_file": str(tmp_path / "token"),
        "balancers": ["127.0.0.1"]})
    try:
        ask(port, headers={"X-Haproxy-Server-State": "UP; name=web/green-1; node=live-1"})
        report = tried(port, tmp_path)
        flips = next(row for row in report.rows if row.check == "flips")
        assert flips.outcome == "not provable" and "live-1 looks at it" in flips.detail
        assert outcomes(report)["balancers heard"] == "pass" and outcomes(report)["forged state"] == "not provable"
        assert not (tmp_path / "shop" / "state").exists()
        again = tried(port, tmp_path, serving=True)
        assert outcomes(again)["flips"] == "pass"
    finally:
        served.stop()


@pytest.fixture
def behind_tls(tmp_path, authority):  # noqa: F811
    """The kit behind TLS on 127.0.0.1, for the name shop.lab alone: another Host gets 403. Its port."""
    app = App("green-1", tmp_path, "127.0.0.1", 0, [], component="shop")
    inner = app.server.get_app()

    def strict(environ, start_response):
        if environ.get("HTTP_HOST") != "shop.lab":
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"no such shop\n"]
        return inner(environ, start_response)
    app.server.set_app(strict)
    app.server.socket = authority.server.wrap_socket(app.server.socket, server_side=True, do_handshake_on_connect=False)
    yield app.server.server_port
    app.stop()


def test_an_instance_behind_tls_with_a_name_of_its_own_is_tried_by_address(behind_tls, authority, tmp_path):  # noqa: F811
    url = "https://127.0.0.1:%d/heartbeat" % behind_tls
    report = tried(behind_tls, tmp_path, url=url, ca_file=authority.file, host="shop.lab")
    assert report.level == "full", table(report)
    assert "shop.lab is wanted" in next(row for row in report.rows if row.check == "any Host").detail
    nameless = conform(url, ca_file=authority.file)
    assert nameless.level == "none" and "no such shop" in nameless.rows[1].detail
    for more in ({"host": "shop.lab"}, {"ca_file": authority.file, "host": "other.lab"}):
        row = conform(url, **more).rows[0]
        assert row.outcome == "miss" and "certificate" in row.detail and "--ca-file" in row.cure


WRONG = {
    "json": "the word", "capitals": "the word", "not live": "the word", "bom": "the word", "redirect": "the word",
    "503 live": "the word", "two line ends": "the word", "blank behind": "the word", "tells a problem": "detail view",
    "html": "plain text", "short": "length", "gzip": "not compressed", "cached": "not cached",
    "no head": "HEAD", "one host": "any Host", "slow": "cheap", "fickle": "workers agree",
    "live by default": "standby by default", "anybody": "no token", "any token": "wrong token", "late": "flips",
    "any body": "other bodies", "forgets": "survives a restart", "no detail": "detail view", "text age": "detail view",
    "other state": "detail agrees", "new starts": "one start id", "same start": "new start id",
    "counts itself": "own requests", "never counts": "requests in flight", "no tag": "ETag",
    "unconditional": "compare and set"}


@pytest.mark.parametrize("fault", sorted(WRONG))
def test_each_fault_is_named_by_its_check_with_a_cure(fault, tmp_path, monkeypatch):
    if fault == "slow":
        monkeypatch.setattr(reading, "CHEAP", 0.01)
    port = free_port()
    argv = [sys.executable, APPS + "wrong.py", str(port), str(tmp_path), fault]
    served, restart = kept(argv, tmp_path, port)
    try:
        restart = restart if fault in ("forgets", "same start") else None
        slow = "/slow" if fault == "never counts" else None
        report = tried(port, tmp_path, restart, slow)
        found = next(row for row in report.rows if row.check == WRONG[fault])
        assert found.outcome == ("not provable" if fault == "503 live" else "miss") and found.cure
        if fault == "503 live":
            assert "sick" in found.detail
        else:
            assert report.level == ("none" if found.level == "basic" else "basic"), table(report)
    finally:
        served.stop()


def test_without_a_fault_that_application_keeps_the_whole_contract(tmp_path):
    port = free_port()
    served, restart = kept([sys.executable, APPS + "wrong.py", str(port), str(tmp_path), "none"], tmp_path, port)
    try:
        report = tried(port, tmp_path, restart, "/slow")
        assert report.level == "full", table(report)
    finally:
        served.stop()


def test_an_instance_that_does_not_go_back_to_its_word_is_named_with_what_it_says(tmp_path):
    port = free_port()
    served, _ = kept([sys.executable, APPS + "wrong.py", str(port), str(tmp_path), "sticks"], tmp_path, port)
    try:
        last = tried(port, tmp_path).rows[-1]
        assert (last.check, last.outcome) == ("flips", "miss") and "standby before and is left" in last.detail
        assert last.cure == "put it back to standby by hand" and last.detail.isprintable()
    finally:
        served.stop()


@pytest.mark.parametrize("command, words", [
    ("echo no such unit >&2; exit 5", "the command ended with 5: no such unit"), ("sleep 60", "the command did not end in 1 s")])
def test_a_restart_that_fails_or_hangs_is_told_with_what_the_command_said(command, words, tmp_path, monkeypatch):
    monkeypatch.setattr(flipping, "BACK", 1.0)
    port = free_port()
    served, _ = kept([sys.executable, APPS + "wrong.py", str(port), str(tmp_path), "none"], tmp_path, port)
    try:
        found = next(row for row in tried(port, tmp_path, command).rows if row.check == "survives a restart")
        assert found.outcome == "miss" and words in found.detail
    finally:
        served.stop()


@pytest.mark.parametrize("script, words", [
    ([b"HTTP/1.1 200 OK\r\n"] + [b"X", 0.1] * 60, "no whole answer within 1 s"),
    ([b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n"] + [b"X", 0.1] * 60, "no whole answer within 1 s"),
    ([b"HTTP/1.1 200 OK\r\n\r\n"] + [b"X", 0.1] * 60, "no whole answer within 1 s"),
    ([b"\x1b[31mgarbage\r\n\r\n"], "no answer that can be read"), (["reset"], "no answer that can be read"),
    ([b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 7000 + b"\r\nlive"], "100 headers"),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nlive"], "no answer that can be read"),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nlive"], "no answer that can be read")])
def test_an_answer_that_never_ends_or_is_none_is_one_row_in_time(script, words):
    with Scripted(script) as server:
        report = conform("http://127.0.0.1:%d/heartbeat" % server.port, timeout=1.0)
    assert report.level == "none" and len(report.rows) == 1
    assert words in report.rows[0].detail and report.rows[0].detail.isprintable()


DETAIL = {"version": "2.0.0-1", "start": "s", "state": "standby", "since_age": 1.0, "in_flight": 0, "healthy": True,
          "balancers": []}


@pytest.mark.parametrize("detail, flipped", [
    ({**DETAIL, "balancers": 5}, True), ({**DETAIL, "balancers": "x"}, True), ({**DETAIL, "balancers": [5, None]}, True),
    ({**DETAIL, "balancers": [{"node": "lb", "age": "soon"}]}, False), ({**DETAIL, "balancers": [{}]}, False),
    ({**DETAIL, "problems": 5}, True), ({**DETAIL, "in_flight": [5]}, True), ("[" * 30000, True)])
def test_a_detail_view_of_another_form_is_told_in_rows_and_one_that_may_be_looked_at_is_not_flipped(detail, flipped, tmp_path,
                                                                                                    monkeypatch):
    """Of an application that has its own: nothing in it may end the trial, least of all between two flips."""
    monkeypatch.setattr(reading, "ASKED", 5)
    monkeypatch.setattr(flipping, "AGREE", 4)
    body = (detail if isinstance(detail, str) else json.dumps(detail)).encode()

    def answers(number, request):
        said = body if b"/detail" in request.split(b"\r\n")[0] else b"standby\n"
        return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(said), said)]
    (tmp_path / "token").write_text("correct-horse\n")
    with Scripted(answers) as server:
        report = tried(server.port, tmp_path, slow="/slow")
        asked = [request for request in server.requests if b"correct-horse" in request]
    assert table(report) and document(report) and bool(asked) == flipped


def test_a_path_with_umlauts_is_asked_for_as_clients_do():
    with Scripted([b"HTTP/1.0 404 Not Found\r\n\r\n"]) as server:
        conform("http://127.0.0.1:%d/h\u00e4rz" % server.port)
        assert server.requests[0].startswith(b"GET /h%C3%A4rz HTTP/1.1\r\n")


def test_a_length_that_is_there_twice_is_named():
    """http.client takes the first; the driver takes neither."""
    with Scripted([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlive"]) as server:
        assert outcomes(conform("http://127.0.0.1:%d/heartbeat" % server.port))["length"] == "miss"


class TestCommandLine:
    def run(self, *arguments):
        argv = [sys.executable, "-m", "heartbeat_kit.conform", *arguments]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)

    def test_nobody_there_is_one_row_and_3(self):
        done = self.run("--url", "http://127.0.0.1:%d/heartbeat" % free_port())
        assert done.returncode == 3 and "no answer" in done.stdout and done.stdout.endswith("level: none\n")

    @pytest.mark.parametrize("arguments", [
        [], ["--url", "ftp://x/heartbeat"], ["--url", "heartbeat"], ["--url", "http://h:x/"],
        ["--url", "http://127.0.0.1:1/heartbeat", "--token-file", "/nonexistent"],
        ["--url", "http://127.0.0.1:1/", "--token-file", "/dev/null"],
        ["--url", "https://127.0.0.1:1/", "--ca-file", "/nonexistent"],
        ["--url", "http://127.0.0.1:1/", "--ca-file", "/dev/null"], ["--url", "http://127.0.0.1:1/", "--host-header", "a b"],
        ["--url", "http://127.0.0.1:1/", "--slow", "slow"], ["--url", "http://127.0.0.1:1/heartbeat?x=1"],
        ["--url", "http://[::1/heartbeat"], ["--url", "http://127.0.0.1:1/", "--token-file", __file__[:-3] + "/x"]])
    def test_a_bad_call_ends_with_2_and_no_traceback(self, arguments):
        done = self.run(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr

    def test_an_abort_puts_the_word_back_and_shows_no_traceback(self, tmp_path):
        port, state = free_port(), tmp_path / "state"
        served, _ = kept([sys.executable, APPS + "wrong.py", str(port), str(tmp_path), "none"], tmp_path, port)
        try:
            argv = [sys.executable, "-m", "heartbeat_kit.conform", "--url", "http://127.0.0.1:%d/heartbeat" % port,
                    "--token-file", str(tmp_path / "token"), "--restart", "echo > %s; sleep 60" % (tmp_path / "asked")]
            running = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                       start_new_session=True)
            assert eventually((tmp_path / "asked").exists, bool, limit=60) and state.read_text() == "live\n"
            os.killpg(running.pid, signal.SIGTERM)
            said = running.communicate(timeout=30)[0]
            assert (running.returncode, said) == (130, "interrupted\n") and state.read_text() == "standby\n"
        finally:
            served.stop()

    def test_a_token_of_somebody_else_is_named_as_such(self, tmp_path):
        port = free_port()
        served, _ = kept([sys.executable, APPS + "wrong.py", str(port), str(tmp_path), "none"], tmp_path, port)
        (tmp_path / "token").write_text("not-this-one\n")
        try:
            report = tried(port, tmp_path)
            flips = next(row for row in report.rows if row.check == "flips")
            assert flips.outcome == "miss" and "--token-file" in flips.cure
            for check in ("other bodies", "flips at once", "survives a restart", "compare and set"):
                assert outcomes(report)[check] == "not provable", "a token that is refused proves nothing"
        finally:
            served.stop()


class TestTask:
    """invoke heartbeat.conform: the same, with the exit codes of the other tasks."""

    def invoke(self, *arguments):
        argv = [sys.executable, "-m", "invoke", "heartbeat.conform", *arguments]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)

    def test_the_level_that_is_asked_for_decides_about_the_exit_code(self, tmp_path):
        port = free_port()
        served, _ = kept([sys.executable, APPS + "wrong.py", str(port), str(tmp_path), "no detail"], tmp_path, port)
        try:
            where = ["--url", "http://127.0.0.1:%d/heartbeat" % port, "--token-file", str(tmp_path / "token")]
            basic, full = self.invoke(*where, "--serving"), self.invoke(*where, "--level", "full", "--json")
            late = "cheap" in [line.split()[1] for line in basic.stdout.splitlines() if " miss " in line]    # a busy machine
            assert late or (basic.returncode == 0 and "level: basic" in basic.stdout), basic
            assert full.returncode == 3 and json.loads(full.stdout)["level"] in ("basic", "none" if late else "basic"), full
        finally:
            served.stop()

    @pytest.mark.parametrize("arguments", [
        [], ["--url", "http://u:p@127.0.0.1:1/"], ["--url", "http://127.0.0.1:1/", "--level", "nope"],
        ["--url", "http://127.0.0.1:1/", "--slow", "slow"], ["--url", "http://127.0.0.1:1/", "--host-header", "a b"],
        ["--url", "http://127.0.0.1:1/", "--ca-file", "/dev/null"], ["--url", "http://127.0.0.1:1/", "--restart", ""]])
    def test_a_bad_call_ends_with_2_and_one_sentence(self, arguments):
        done = self.invoke(*arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done
