"""The terminal: one event one line where nobody watches, colour where somebody does, and no end of a reader ends us badly."""

import errno
import io
import json
import os
import pty
import re
import subprocess
import sys
import textwrap
import time
from collections import namedtuple

import pytest
from hypothesis import given, settings, strategies as st

from bgdeploy import telling
from bgdeploy.console import Console
from bgdeploy.errors import BadInput, Refused
from bgdeploy.model import Ask, Do, Done, Release, Stop, Wait
from tests.sample_runs import NAMES, RUNS, events, strict, torn
from tests.test_report_status import DOWN, LIVE, STANDBY, both, document

BASE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def said(show, **options):
    """What a console wrote to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    show(Console(out=out, err=err, tty=False, **options))
    return out.getvalue(), err.getvalue()


def script(body, **environ):
    """A Python program that uses a Console of its own streams."""
    return [sys.executable, "-c", "from bgdeploy.console import Console\nimport json\n" + textwrap.dedent(body)], {
        "cwd": BASE, "env": {**{k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}, **environ}}


# ---- commands to type next

@pytest.mark.parametrize("typed, shown", [
    ("next: invoke resume", "next: invoke resume --env site"),
    ("type invoke deploy --stack blue --hosts a,b, or invoke back",
     "type invoke deploy --stack blue --hosts a,b --env site, or invoke back --env site"),
    ("is frozen; invoke unhold ends it", "is frozen; invoke unhold --env site ends it"),
    ("invoke hold --reason 'because of x'.", "invoke hold --reason 'because of x' --env site."),
    ("invoke plan --older shows it (invoke history)", "invoke plan --older --env site shows it (invoke history --env site)"),
    ("invoke status --env other; mv a b; invoke --list", "invoke status --env other; mv a b; invoke --list")])
def test_a_command_is_shown_as_it_is_typed_for_the_inventory_at_hand(typed, shown):
    def show(console):
        console.line(typed)
        console.note(typed)
        console.trouble(Refused("no", typed))
    for env, expected in (("site", shown), ("lab", typed), (None, typed)):
        out, err = said(show, environ={}, env=env)
        assert (out, err) == (expected + "\n", f"{expected}\nbgdeploy: no\n  next: {expected}\n")
    assert said(show, environ={"BGDEPLOY_ENV": "site"}, env="site")[0] == typed + "\n"
    assert said(show, environ={"BGDEPLOY_ENV": "site"}, env="site\x1b")[0] == typed + "\n"


# ---- plain

@pytest.mark.parametrize("name", NAMES)
def test_a_run_without_a_terminal_reads_as_it_is_kept_beside_the_run(name):
    def show(console):
        for event in events(name):
            console.event(event)
        console.ended(events(name), ".bgdeploy/runs/" + events(name)[0]["run"])
    out, err = said(show)
    with open(os.path.join(RUNS, name + ".console.txt"), encoding="ascii") as file:
        assert out == file.read()
    assert err == ""


def test_one_event_is_one_line_however_long_and_whatever_it_holds():
    event = {"kind": "result", "at": 0, "step": "converge", "stack": "green", "host": "h" * 200, "outcome": "failed",
             "detail": "\x1b[31mfirst\nsecond\u2028third password=hunter2"}
    out, _ = said(lambda console: console.event(event))
    assert out == f"--:--:-- green converge {'h' * 200} failed: first second third password=***\n"


def test_an_event_of_a_newer_version_is_shown_as_far_as_it_says_why():
    out, _ = said(lambda console: console.event({"kind": "teleported", "at": 1795572930, "stack": "green", "why": "because"}))
    assert out == "02:15:30 green teleported: because\n"


@given(torn())
@settings(max_examples=100, deadline=None)
def test_no_event_however_torn_stops_the_talk(run):
    out, _ = said(lambda console: [console.event(event) for event in run])
    assert len(out.splitlines()) <= len(run) and "\x1b" not in out


FIELDS = ("at", "stack", "hosts", "why", "step", "choices", "seconds", "by", "versions", "host", "wait")


@given(st.dictionaries(st.sampled_from(FIELDS),
                       st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)),
       st.sampled_from(sorted(telling.SENTENCES)))
@settings(max_examples=200, deadline=None)
def test_every_kind_of_event_is_told_whatever_its_fields_are(fields, kind):
    row = telling.event_line({**fields, "kind": kind})
    assert row is None or "\n" not in row


def test_trouble_is_one_sentence_and_what_to_type_on_stderr():
    out, err = said(lambda console: console.trouble(Refused("web 2.0.9 is not published", "invoke publish --component web")))
    assert out == ""
    assert err == "bgdeploy: web 2.0.9 is not published\n  next: invoke publish --component web\n"
    assert said(lambda console: console.trouble(BadInput("two\nlines")))[1] == "bgdeploy: two lines\n"
    assert said(lambda console: console.trouble(KeyError("x")))[1] == "bgdeploy: KeyError: 'x'\n"


def test_the_status_table_names_every_instance_and_who_serves():
    found = document(*both(LIVE, STANDBY), lock={"text": "deploy on ci-1 (pid 4711), rollout", "expired": False},
                     hold={"reason": "audit", "by": "ops", "since": "2026-11-25 02:00:00Z"}, excluded={"blue-2": "slow"},
                     run={"run": "20261125-021530-3f2a", "task": "rollout", "by": {"user": "deploy", "host": "ci-1"},
                          "why": "Chef ended failed on blue-1", "next": ["invoke resume"]})
    assert said(lambda console: console.seen_table(found))[0] == textwrap.dedent("""\
        stack  verdict  host     component  version  heartbeat  LIVE  STANDBY  in flight
        green  live     green-1  api        2.0.0-1  live       yes   no               0
                                 web        2.0.0-1  live       yes   no               0
                        green-2  api        2.0.0-1  live       yes   no               0
                                 web        2.0.0-1  live       yes   no               0
        blue   standby  blue-1   api        2.0.0-1  standby    no    yes              0
                                 web        2.0.0-1  standby    no    yes              0
                        blue-2   api        2.0.0-1  standby    no    yes              0
                                 web        2.0.0-1  standby    no    yes              0

        green is seen through LIVE: api 2.0.0-1: 2 in the pool of every LIVE node; web 2.0.0-1: 2 in the pool of every LIVE node
        floor: api 2, web 2
        lock: deploy on ci-1 (pid 4711), rollout
        frozen (hold): ops: since 2026-11-25 02:00:00Z: audit; invoke unhold ends it
        excluded: blue-2: slow; perhaps live on an old version until invoke deploy --stack blue --hosts blue-2
        open run: 20261125-021530-3f2a, rollout, by deploy on ci-1: Chef ended failed on blue-1
          next: invoke resume
        """)


def test_the_status_table_shows_what_nobody_knows_as_unknown():
    out, _ = said(lambda console: console.seen_table(document(*both(DOWN, DOWN)[:3])))
    assert "blue-2 (no answer)" in out and "nobody is seen through LIVE" in out
    assert re.search(r"blue-2 \(no answer\)  api +- +unknown +unknown +unknown +\?", out)


def test_tables_show_no_character_that_could_steer_a_terminal():
    seen = document(*both(LIVE, {**DOWN, "installed": "2.0.0-1\x1b[2J\u202e\x9b31m\x00"}))
    for show in (lambda console: console.seen_table(seen), lambda console: console.recap(["green-1 \x1b]0;x\x07\u2066"])):
        out, _ = said(show)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out)


def test_a_plan_numbers_its_acts_and_says_why():
    release = Release((("api", "2.0.0-1"),))
    steps = [Do("standby", "green", ("green-1",), "green-1 leaves LIVE", release),
             Wait("pool", "green", ("green-1",), 0.0, 60.0, "LIVE"),
             Ask("live", "green", ("green-1",), ("approve", "stop"), "next is live"),
             Do("live", "green", ("green-1",), "passed sanity"),
             Done("green is live", (("drain-unmeasured", "requests in flight on green-1: unmeasured"),))]
    assert said(lambda console: console.plan(steps))[0].splitlines() == [
        "  1. standby green: green-1 leaves LIVE",
        "     then green waits for the balancers, 60.0 s at the most",
        "     then a person decides (approve|stop): next is live",
        "  2. live green: passed sanity",
        "     done: green is live",
        "     with a warning: requests in flight on green-1: unmeasured"]
    assert "stops: no; next: invoke status" in said(lambda console: console.plan([Stop("no", "invoke status")]))[0]
    assert "nothing to do: green is live" in said(lambda console: console.plan([Done("green is live")]))[0]


def test_a_wait_says_a_line_a_minute_when_it_is_told_to():
    wait = Wait("chef", "green", ("green-1",), 0.0, 900.0, "green-1: Chef runs since 60 s")
    out, _ = said(lambda console: console.say(wait, 60.0))
    assert re.fullmatch(r"\d\d:\d\d:\d\d green still waits for Chef, for 60.0 s now: green-1: Chef runs since 60 s\n", out)


@pytest.mark.parametrize("outcome, code", [("failed", 4), ("warned", 6), ("done", 0)])
def test_what_a_later_try_made_good_is_not_told_at_a_good_end(outcome, code):
    before = events("failed-converge")
    out = io.StringIO()
    Console(out=out, tty=False).ended([*before[:-1], {**before[-1], "outcome": outcome, "exit_code": code}], "runs/x")
    assert ("converge failed on" in out.getvalue()) is (code != 0)


def test_history_is_a_line_a_run():
    from bgdeploy import report
    out, _ = said(lambda console: console.history(report.history([events(name) for name in NAMES])))
    assert len(out.splitlines()) == 4
    assert re.search(r"20261125-021530-3f2a  2026-11-25 02:15  35.8 s  rollout  green blue  api=2.0.0-1,web=2.0.0-1 .*done \(0\)",
                     out)
    assert said(lambda console: console.history([]))[0] == "no run yet\n"


def test_check_rows_line_up_and_are_masked():
    Row = namedtuple("Row", "outcome what detail cure")
    rows = [Row("ok", "ssh green-1", "answers", ""), Row("fail", "proxy", "http://u:pw1234@p:3128", "unset http_proxy")]
    out, _ = said(lambda console: console.checks(rows))
    assert out == "ok    ssh green-1  answers\nfail  proxy        http://u:***@p:3128; unset http_proxy\n"


# ---- JSON

def test_with_json_stdout_has_one_document_and_all_talk_is_on_stderr():
    def show(console):
        console.line("talk")
        console.event({"kind": "warned", "at": 0, "text": "mind this"})
        console.document({"a": (1, 2), "b": {"x"}, "c": float("nan"), "d": Release((("api", "1"),)), "token": "token=abc",
                          "e": "gr\u00fcn"})
    out, err = said(show, json=True)
    assert json.loads(out) == {"a": [1, 2], "b": ["x"], "c": None, "d": {"versions": [["api", "1"]], "cookbooks": ""},
                               "token": "token=***", "e": "gr\u00fcn"}
    assert out.isascii()
    assert err == "talk\n--:--:-- warning: mind this\n"


# ---- odd parents

def test_a_reader_that_went_away_is_noted_once_and_gives_no_traceback():
    command, options = script("""
        import sys
        console, told = Console(), []
        console.on_gone = lambda: told.append(1)
        for n in range(20000):
            console.line(f"line {n}")
        console.document({})
        print(console.gone, len(told), file=sys.stderr)
    """)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    assert child.stdout.readline() == "line 0\n"
    child.stdout.close()
    err = child.stderr.read()
    child.stderr.close()
    assert child.wait(30) == 0
    assert err == "True 1\n"


@pytest.mark.parametrize("json", [False, True])
def test_how_a_run_ended_whose_output_nobody_took_is_said_once_on_stderr(json):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")
    err = io.StringIO()
    console = Console(out=Full(), err=err, tty=False, json=json)
    console.line("talk")
    ended = {"kind": "ended", "exit_code": 5, "outcome": "interrupted", "why": "interrupted by output gone; blue serves",
             "next": ["invoke resume"]}
    console.ended([*events("rollout")[:-1], ended], "runs/r")
    assert err.getvalue().count("\ninterrupted by output gone; blue serves; next: invoke resume\n") == json
    assert err.getvalue().endswith("interrupted by output gone; blue serves; next: invoke resume\n")


@pytest.mark.parametrize("redirect", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "</dev/null", ">/dev/full"])
def test_streams_that_are_closed_or_full_end_nothing(redirect, tmp_path):
    command, options = script("""
        console = Console()
        console.line("talk")
        console.trouble(KeyError("x"))
        console.document({"a": 1})
        console.flush()
        open(r"%s", "w").write(str(console.unwritten))
    """ % (tmp_path / "end"))
    done = subprocess.run(["sh", "-c", f'exec "$@" {redirect}', "sh", *command], capture_output=True, timeout=60, **options)
    assert done.returncode == 0 and b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr
    assert (tmp_path / "end").read_text() == ("No space left on device" if "full" in redirect else "None")


def test_the_c_locale_gets_marks_for_what_it_has_not():
    command, options = script("""
        Console().line("gr\\u00fcn \\u2192 blue")
        Console().text("caf\\u00e9")
    """, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert subprocess.run(command, capture_output=True, check=True, **options).stdout == b"gr?n ? blue\ncaf?\n"


def test_a_page_is_what_it_says_of_itself_in_any_locale():
    command, options = script("""
        Console().text("<a b='\\u00fc'>gr\\u00fcn \\u2713</a>", markup=True)
    """, PYTHONIOENCODING="latin-1")
    said = subprocess.run(command, capture_output=True, check=True, **options).stdout
    assert strict(said.decode("utf-8")).firstChild.data == "gr\u00fcn \u2713"


def terminal(body, **environ):
    """What the program wrote to a terminal of its own."""
    command, options = script(body, **environ)
    master, slave = pty.openpty()
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, **options)
    os.close(slave)
    got = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:         # EIO: the last writer has closed it
            break
        got += piece
        if not piece:
            break
    os.close(master)
    assert child.wait(30) == 0
    return got.decode("utf-8").replace("\r\n", "\n")


WAIT = """
    console = Console()
    console.event({"kind": "waiting", "at": 1795572930, "wait": "chef", "stack": "green", "hosts": [], "why": "Chef runs " * 40})
    console.line("meanwhile")
    console.event({"kind": "waited", "at": 1795572931, "wait": "chef", "stack": "green", "seconds": 1})
"""


def test_a_terminal_gets_colour_and_a_live_line_and_its_cursor_back():
    shown = terminal(WAIT, TERM="xterm-256color", LC_ALL="C.UTF-8", TZ="UTC")
    assert "\x1b[" in shown and "Chef runs" in shown and "meanwhile\n" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert "Chef has ended after 1.0 s" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


@pytest.mark.parametrize("columns", ["0", "-1", "\u00b2", "wide"])
def test_a_size_that_no_terminal_has_hides_nothing(columns):
    assert "meanwhile\n" in terminal(WAIT, TERM="xterm", LC_ALL="C.UTF-8", COLUMNS=columns, LINES=columns)


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": ""}, {"TERM": "xterm", "LC_ALL": "C", "PYTHONUTF8": "0",
                                                                  "PYTHONCOERCECLOCALE": "0"}])
def test_a_terminal_that_cannot_do_more_gets_plain_lines(environ):
    shown = terminal(WAIT, **{"LC_ALL": "C.UTF-8", "TZ": "UTC", **environ})
    assert "\x1b" not in shown
    assert shown.startswith("02:15:30 green waits for Chef: Chef runs Chef runs") and len(shown.splitlines()) == 3


def test_a_program_that_ends_while_it_waits_gives_the_cursor_back():
    shown = terminal(WAIT.rsplit("\n", 2)[0], TERM="xterm", LC_ALL="C.UTF-8")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
