"""The real commands under parents that are not a person at a terminal, and hosts whose Chef says strange things.

One lab of a host a stack. On both hosts a wrapper stands before chef-client, which prints what /etc/bgdeploy-case asks for.
"""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

from bgdeploy import journal
from tests.lab.labs import PROJECT

LONG = 900
FLOOD = 300_000_000     # bytes
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
INVOKE = f"{sys.executable} -m invoke"
WRAPPER = r"""#!/bin/bash
# A line of a megabyte, colours, a title, the screen cleared, ISO-8859-1, a NUL; then many lines; then the real one, or a lie
for word in $(cat /etc/bgdeploy-case 2>/dev/null); do
    case $word in
    odd) head -c 1000000 /dev/zero | tr '\0' x; echo
         printf '\033[32m  * service[web] action restart\033[0m\n\033]0;title\007\033[2J\033[H'
         printf 'Fehler: ung\374ltiges Zertifikat f\374r gr\374n1\n\000\001\002 <&>]]> "\n' ;;
    flood) echo first of many; yes 'a line of very much output' | head -c """ + str(FLOOD) + r"""; echo; echo last of many ;;
    lie) echo 'Chef Infra Client finished, 0/11 resources updated in 02 seconds'; exit 1 ;;
    esac
done
exec /opt/real/chef-client "$@"
"""


def described(text):
    return re.sub(r"\n +(?:green|blue)-2: .*", "", text).replace("\nwatch:", "\nconfirm: true\nwatch:")


class Odd:
    def __init__(self, lab):
        self.lab = lab
        self.environment = {**{k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "COLUMNS", "LINES"))},
                            "BGDEPLOY_STATE": str(lab.folder / "state"), "BGDEPLOY_ENV": lab.name}

    def case(self, words, hosts=("green-1", "blue-1")):
        for host in hosts:
            self.lab.root(host, f"echo {words} > /etc/bgdeploy-case")

    def shell(self, text, **environment):
        """What a line typed into bash gives, INVOKE being the command: a finished process, bytes."""
        return subprocess.run(["bash", "-c", text], cwd=PROJECT, capture_output=True, timeout=LONG, stdin=subprocess.DEVNULL,
                              env={**self.environment, "INVOKE": INVOKE, **environment})

    def start(self, task, *words, **options):
        return subprocess.Popen([*shlex.split(INVOKE), task, *words], cwd=PROJECT, stdin=subprocess.DEVNULL,
                                env=self.environment, **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options})

    def measured(self, *words, **environment):
        """(exit code, output, peak memory in KiB) of a command without a terminal, in a session of its own."""
        out = self.lab.folder / "out"
        with open(out, "wb") as file:
            process = subprocess.Popen([*shlex.split(INVOKE), *words], cwd=PROJECT, env={**self.environment, **environment},
                                       stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, out.read_bytes(), usage.ru_maxrss

    def run(self):
        """The newest run's folder."""
        return max((self.lab.folder / "state/runs").iterdir())

    def until(self, process, kind, before, **fields):
        """Wait for an event of the run that this process begins after the run `before`."""
        until = time.monotonic() + LONG
        while time.monotonic() < until and process.poll() is None:
            events = journal.read(self.run() / "journal.jsonl") if self.run() != before else []
            if any(e["kind"] == kind and all(e.get(k) == v for k, v in fields.items()) for e in events):
                return
            time.sleep(0.1)
        raise AssertionError(f"no {kind} {fields}: {process.communicate()[0]}")


@pytest.fixture(scope="module")
def odd(make_lab):
    one = Odd(make_lab("o", described))
    for host in ("green-1", "blue-1"):
        one.lab.root(host, "mkdir /opt/real; mv /usr/bin/chef-client /opt/real/; "
                           f"printf %s {shlex.quote(WRAPPER)} > /usr/bin/chef-client; chmod 755 /usr/bin/chef-client")
    for version in ("1.0.0", "2.0.0"):
        for component in ("api", "web"):
            assert one.lab.invoke("publish", "--component", component, "--version", version).returncode == 0
    return one


def test_a_rollout_in_the_background_without_terminal_locale_or_person_reads_whatever_chef_prints(odd):
    """Also where the inventory asks for a confirmation: without a terminal nobody is asked, and nothing hangs."""
    _, _, quiet = odd.measured("status")
    odd.case("odd flood", ("green-1",))
    odd.case("odd", ("blue-1",))
    code, out, peak = odd.measured("rollout", "--version", "1.0.0", **ASCII, TERM="dumb")
    assert code == 0, out[-3000:].decode("ascii", "replace")
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f-\xff]", out) and b"?" not in out.replace(b"? ", b"")
    for host in ("green-1", "blue-1"):
        kept = (odd.run() / "hosts" / host / "chef.log").read_bytes()
        assert b"ung\xfcltiges" in kept and b"Infra Phase complete" in kept
        assert (odd.run() / "hosts" / host / "chef.log").stat().st_mode & 0o777 == 0o600
    flood = (odd.run() / "hosts/green-1/chef.log").read_bytes()
    assert len(flood) < 80_000_000 and b"\nfirst of many\n" in flood and b"\nlast of many\n" in flood
    assert b"bytes are left out here" in flood and b"in the middle of Chef's output were left on the host" in out
    assert int(odd.lab.root("green-1", "stat -c %s /var/lib/bgdeploy/runs/*/out | sort -n | tail -1")) > FLOOD
    assert b"of very much output" not in out                    # of what went well nobody wants to see the lines
    assert peak < quiet + 32 * 1024, f"{peak} KiB, a status needs {quiet} KiB"


def test_an_event_is_one_line_however_long(odd):
    out = (odd.lab.folder / "out").read_text()
    acts = [e for e in journal.read(odd.run() / "journal.jsonl") if e["kind"] == "doing"]
    for event in acts:
        assert [line for line in out.splitlines() if line.endswith(" ".join(event["why"].split()))], event
    assert max(len(line) for line in out.splitlines()) > 100


@pytest.mark.parametrize("task", ["status", "history", "plan --version 2.0.0", "check", "report"])
def test_a_reader_that_wants_one_line_gets_it_and_nobody_complains(odd, task):
    done = odd.shell(f"$INVOKE {task} | head -1; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in (0, 141) and done.stdout.count(b"\n") == 1 and done.stderr == b"", done


@pytest.mark.parametrize("odd_streams", ["<&-", "2>&-", ">&-", "<&- >&- 2>&-", ">/dev/full", ">/dev/full 2>&1"])
def test_streams_that_are_closed_or_full_are_no_bug(odd, odd_streams):
    done = odd.shell(f"$INVOKE status {odd_streams}")
    said = done.stderr + done.stdout
    assert done.returncode == (5 if "full" in odd_streams else 0) and b"Traceback" not in said and b"a bug" not in said, done


def test_a_locale_that_knows_no_umlauts_shows_the_same_table(odd):
    plain, c = odd.shell("$INVOKE status"), odd.shell("$INVOKE status", **ASCII)
    assert (plain.returncode, c.returncode) == (0, 0)
    assert re.sub(rb"\d+", b"", plain.stdout).split() == re.sub(rb"\d+", b"", c.stdout).split()


def test_a_terminal_that_knows_nothing_gets_no_escapes(odd):
    for term, escapes in (("dumb", False), ("xterm", True)):
        master, slave = pty.openpty()
        process = subprocess.Popen([*shlex.split(INVOKE), "status"], cwd=PROJECT, stdin=slave, stdout=slave, stderr=slave,
                                   env={**odd.environment, "TERM": term})
        os.close(slave)
        said = b""
        while piece := read(master):
            said += piece
        os.close(master)
        assert process.wait(LONG) == 0 and (b"\x1b[" in said) is escapes, said


def read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:         # Linux's way to say that nobody has the other side any more
        return b""


def test_a_closed_terminal_ends_a_deploy_as_an_abort_does_and_so_does_a_reader_that_goes_away(odd):
    odd.case("")
    before = odd.run()
    process = odd.start("deploy", "--stack", "green", "--version", "2.0.0")
    odd.until(process, "waiting", before, wait="chef")
    process.send_signal(signal.SIGHUP)
    said = process.communicate(timeout=LONG)[0]
    assert process.returncode == 5 and b"invoke resume" in said and b"Traceback" not in said, said

    process = odd.start("resume", stderr=subprocess.PIPE)
    assert b"resume" in process.stdout.readline()
    process.stdout.close()
    complaints = process.stderr.read()
    assert process.wait(LONG) == 5
    assert complaints.startswith(b"interrupted by output gone; ") and complaints.endswith(b"; next: invoke resume\n"), complaints
    events = journal.read(odd.run() / "journal.jsonl")
    assert [e["signal"] for e in events if e["kind"] == "interrupted"] == ["SIGHUP", "output gone"]
    status = json.loads(odd.shell("$INVOKE status --json").stdout)
    assert status["lock"] is None and status["run"]["task"] == "deploy"
    code, out, _ = odd.measured("resume")
    assert code == 0, out


def test_a_host_that_lies_and_prints_junk_fails_and_the_reports_are_whole(odd):
    """Exit code 1 counts, not the sentence. Jenkins rejects a JUnit file for one escape character."""
    odd.case("odd lie")
    code, out, _ = odd.measured("deploy", "--stack", "green", "--version", "1.0.0", "--older")
    assert code == 4, out
    folder = odd.run()
    suites = ElementTree.parse(folder / "junit.xml").getroot()
    failures = [case.find("failure") for case in suites.iter("testcase") if case.get("name") == "converge green-1"]
    said = failures[0].text + failures[0].get("message")
    assert "Fehler: ung\N{REPLACEMENT CHARACTER}ltiges" in said, said
    assert "<&>]]>" in said and len(said) < 5000 and not re.search("[\x00-\x08\x0b-\x1f\x7f]", said)
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", out) and "bgdeploy" in (folder / "report.html").read_text()
    assert b"ung\xfcltiges" in (folder / "hosts/green-1/chef.log").read_bytes()
    assert max(map(len, out.splitlines())) < 5000
