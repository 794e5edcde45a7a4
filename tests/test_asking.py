"""Questions at a terminal: what is typed, and what a signal does to one while a run only takes note of signals."""

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tests.serving import ROOT

PROGRAM = textwrap.dedent("""
    from bgdeploy.asking import ask, confirm
    from bgdeploy.console import Console
    from bgdeploy.drive import Interrupt
    from bgdeploy.interruption import catching
    from bgdeploy.model import Ask, Goal, Policy
    from tests.scenes import steady
    console = Console(tty=False)
    with catching(Interrupt()):
        try:
            if KIND == "ask":
                print("SAID", ask(console, Ask("live", "green", (), ("approve", "stop"), "next is live")))
            else:
                print("SAID", confirm(console, Goal(), steady(), Policy()))
        except KeyboardInterrupt:
            print("SAID interrupted")
""")


def answered(kind, typed=None, number=None):
    """What the program made of it. :param typed: bytes on its terminal. :param number: a signal, once the question stands."""
    master, slave = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", f"KIND = {kind!r}\n{PROGRAM}"], stdin=slave, stdout=slave, stderr=slave,
                             cwd=ROOT, env={**os.environ, "PYTHONPATH": ROOT})
    os.close(slave)
    got, sent, end = b"", False, time.monotonic() + 30
    try:
        while time.monotonic() < end:
            try:
                piece = os.read(master, 65536)
            except OSError:         # EIO: the program has closed it
                break
            got += piece
            if not sent and b"? " in got or b"(yes/no) " in got and not sent:
                sent = True
                time.sleep(0.1)
                if number:
                    child.send_signal(number)
                else:
                    os.write(master, typed)
            if not piece:
                break
    finally:
        os.close(master)
        child.kill() if child.poll() is None and time.monotonic() >= end else child.wait(30)
    return got.decode().partition("SAID ")[2].strip()


@pytest.mark.parametrize("typed, said", [(b"yes\n", "True"), (b"y\n", "True"), (b"no\n", "False"), (b"\n", "False"),
                                         (b"\x04", "False")])
def test_only_a_yes_is_a_yes(typed, said):
    assert answered("confirm", typed) == said


@pytest.mark.parametrize("typed, said", [(b"perhaps\napprove\n", "approve"), (b"\x04", "None")])
def test_a_choice_is_asked_for_until_it_is_one(typed, said):
    assert answered("ask", typed).endswith(said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_question_and_is_no_answer(number):
    assert answered("confirm", number=number) == "interrupted"
    assert answered("ask", number=number) == "None"
