"""The only file that prints. On a terminal with colour and a live line; everywhere else one event a line, never wrapped.

Talk goes to stdout; with `json` it goes to stderr, and stdout gets one JSON document and nothing else. A reader that went
away (`| head`, a closed terminal) is noted in `gone` and told to `on_gone`; nothing here ever raises for it.
"""

import atexit
import errno
import json as json_format
import os
import re
import sys
import threading
import time
from dataclasses import asdict, is_dataclass

from bgdeploy import report, schema, telling
from bgdeploy.clean import clean, line, plain

COLOURS = (
    (r"^\d\d:\d\d:\d\d", "dim"), (r"\b(?:failed(?! 0\b)|refused|split|mixed|down|ACT NOW)\b.*?(?=[:;(]|$)", "bold red"),
    (r"\b(?:unknown|interrupted|warning|warned|moving|no answer)\b", "yellow"), (r"\b(?:ok|done|drained)\b", "green"),
    (r"\blive\b", "bold green"), (r"\bstandby\b", "cyan"), (r"(?<= )(?:green|blue|red|yellow|magenta|cyan)\b(?!-)", "bold"),
    (r"^ *next: .*|" + telling.COMMAND, "bold"))

ENDS = {0: "done", 2: "refused", 3: "refused", 5: "interrupted"}


class Console:
    """:param json: stdout is for the document. :param tty: None: find out. :param out, err: instead of the process's streams.
    :param env: the inventory that was typed: commands to type next are shown for it, where they would go to another one."""

    def __init__(self, json=False, tty=None, out=None, err=None, environ=os.environ, env=None):
        default = environ.get("BGDEPLOY_ENV") or "lab"
        self._env = env if isinstance(env, str) and env != default and re.fullmatch(schema.NAME, env) else None
        self.gone, self.on_gone = False, None
        self.unwritten = None                       # why something could not be written, though somebody may read it
        self._json, self._said = json, None         # with json: the last sentence, until there is a document
        self._lock, self._live, self._wait = threading.RLock(), None, None
        self._document = _Out(out or sys.stdout, self._lost)
        self._errors = _Out(err or sys.stderr, self._lost if json else None)
        self._talk = self._errors if json else self._document
        pretty = self._talk.isatty() and environ.get("TERM") not in (None, "", "dumb", "unknown") if tty is None else tty
        self._pretty = _pretty(self._talk, environ) if pretty and self._talk.speaks_utf8 else None
        if self._pretty:
            atexit.register(self.flush)         # the terminal gets its cursor back, however this ends

    # ---- while something goes on

    def event(self, event):
        """Tell a journal event, and show on a terminal what is being waited for."""
        kind = event.get("kind")
        with self._lock:
            if kind in ("waiting", "waited", "doing", "asked", "ended", "interrupted"):
                self._still()
            said = telling.event_line(event)
            if said and not (self._pretty and kind == "waiting"):
                self._say(said)
            if kind == "waiting" and said:
                self._waiting(said.partition(" ")[2])

    def say(self, wait, seconds):
        """A line a minute while a wait goes on: a silent build is ended by whoever watches it."""
        self._say(f"{telling.clock(time.time())} {telling.waiting(wait, seconds)}")

    def line(self, text):
        """One sentence, or lines of text from elsewhere."""
        self._said = clean(text, 8000)
        self._say(*clean(text, 8000).split("\n"))

    def note(self, text):
        """A sentence beside what was asked for, on stderr: stdout may be kept as a report."""
        self._still()
        self._errors.write(telling.for_env(line(text, 2000), self._env) + "\n")

    def text(self, text, markup=False):
        """A text of our own that has its own form (a report, a table), as it is.

        :param markup: HTML or XML, which says of itself that it is UTF-8: elsewhere it is written in ASCII, nothing is lost.
        """
        self._still()
        if markup and not self._talk.speaks_utf8:
            text = text.encode("ascii", "xmlcharrefreplace").decode("ascii")
        self._talk.write(text if text.endswith("\n") else text + "\n")

    def trouble(self, error):
        """What is wrong and what to type; on stderr."""
        self._still()
        first, *more = telling.trouble_lines(error)
        self._said = first
        self._errors.write("".join(f"{telling.for_env(row, self._env)}\n" for row in (f"bgdeploy: {first}", *more)))

    # ---- what was asked for

    def document(self, document):
        """One JSON document on stdout. Secrets in its texts are masked; what JSON cannot hold becomes null or text."""
        self._still()
        self._json = False
        self._document.write(json_format.dumps(_plain(document), indent=2, allow_nan=False) + "\n")

    def close(self, code, next_command=None):
        """The command ends with this exit code: with json, what had no document of its own (a refusal, `hold`) gets one."""
        if self._json:
            self.document({"outcome": ENDS.get(code, "failed"), "exit_code": code, "why": self._said,
                           "next": [next_command] if next_command else []})

    def seen_table(self, document):
        self._say(*telling.status_lines(document))

    def plan(self, steps):
        self._say(*telling.plan_lines(steps))

    def history(self, rows):
        self._say(*telling.history_lines(rows))

    def checks(self, rows):
        self._say(*telling.check_lines(rows))

    def recap(self, lines):
        self._say("", *lines)

    def ended(self, events, folder):
        """How a run ended: the last lines of what it failed of, the recap, and where everything lies."""
        result = report.result(events)
        failures = [] if result["exit_code"] == 0 else telling.failure_lines(result)      # what a later try made good
        words = telling.last_words(events[-1])
        self._say(*([""] + failures if failures else []), "", *report.recap(events), "",
                  f"report: {folder}/report.html (also result.json, junit.xml, hosts/)", *words)
        if self.gone and self._talk is self._document:      # nobody reads stdout any more; somebody may read the other one
            self._errors.write("".join(f"{telling.for_env(row, self._env)}\n" for row in words))

    def flush(self):
        """Take the live line away and hand over all that was written."""
        self._still()
        self._talk.flush()
        self._document.flush()

    # ---- how

    def _say(self, *rows):
        with self._lock:
            for row in (telling.for_env(plain(row), self._env) for row in rows):
                if self._pretty:
                    self._pretty.print(_coloured(row), soft_wrap=True)
                else:
                    self._talk.write(row + "\n")

    def _waiting(self, words):
        """A live line that counts the seconds; only on a terminal."""
        if self._pretty:
            self._live = self._pretty.status(_Counting(words), refresh_per_second=4)
            self._live.start()

    def _still(self):
        with self._lock:
            live, self._live = self._live, None
            if live:
                live.stop()

    def _lost(self, trouble):
        if isinstance(trouble, OSError) and trouble.errno != errno.EPIPE:       # no reader who had enough: a full disk, say
            self.unwritten = self.unwritten or trouble.strerror
        if not self.gone:
            self.gone = True
            if self.on_gone:
                self.on_gone()


class _Out:
    """A text stream that outlives its reader: what cannot be encoded is marked, what cannot be written is noted once."""

    def __init__(self, stream, lost):
        self._stream, self._lost, self._lock = stream, lost, threading.Lock()
        self.encoding = getattr(stream, "encoding", None) or "ascii"

    @property
    def speaks_utf8(self):
        return self.encoding.lower().replace("-", "").replace("_", "") == "utf8"

    def isatty(self):
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def fileno(self):
        return self._stream.fileno()

    def write(self, text):
        with self._lock:
            if self._stream is None:
                return len(text)
            try:
                self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding, "replace"))
                self._stream.flush()
            except (OSError, ValueError) as trouble:
                self._end(trouble)
        return len(text)

    def flush(self):
        self.write("")

    def _end(self, trouble):
        """Nobody reads any more. The descriptor is pointed at nothing, lest Python complain about the rest when it exits."""
        if isinstance(trouble, OSError) and trouble.errno in (errno.EAGAIN, errno.EINTR):
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass        # no descriptor of its own, or closed already: then nothing is left to be flushed either
        self._stream = None
        if self._lost:
            self._lost(trouble)


class _Counting:
    """What is waited for, and for how long already, on one line of the terminal."""

    def __init__(self, words):
        self.words, self.since = words, time.monotonic()

    def __rich__(self):
        from rich.text import Text
        return Text(f"{time.monotonic() - self.since:.0f} s  {self.words}", style="dim", no_wrap=True, overflow="ellipsis")


def _pretty(stream, environ):
    """A rich console on the stream. Imported only here: scripts and CI do not pay for it.

    With COLUMNS=0 rich shows nothing at all (measured, 13.3): a size that can be none is not passed on.
    """
    from rich.console import Console as Rich
    sound = {k: v for k, v in environ.items() if k not in ("COLUMNS", "LINES") or re.fullmatch(r"[1-9][0-9]{0,4}", v, re.ASCII)}
    return Rich(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False, _environ=sound)


def _coloured(row):
    from rich.text import Text
    said = Text(row)
    for pattern, style in COLOURS:
        said.highlight_regex(pattern, style)
    return said


def _plain(value):
    """Only what JSON has: dataclasses as objects, sets as sorted lists, no NaN, and texts cleaned and masked."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {line(key, 200) if not isinstance(key, str) else clean(key, 200): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value if value is None or isinstance(value, (bool, int, float)) else clean(value, 20000)
