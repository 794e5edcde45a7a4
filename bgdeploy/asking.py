"""Questions to a person at a terminal. Whether one is put at all is decided by who calls."""

import signal
import time

from bgdeploy import plan as planning


def ask(console, question):
    """On a terminal: one of the choices; end of input means that nobody answers now."""
    console.line(question.why)
    while True:
        try:
            word = typed_word(f"{' | '.join(question.choices)}? ")
        except (EOFError, KeyboardInterrupt):
            return None
        if word in question.choices:
            return word


def confirm(console, goal, seen, policy):
    console.plan(planning.plan(goal, seen, policy, time.time()))
    try:
        return typed_word("go on? (yes/no) ").lower() in ("y", "yes")
    except EOFError:
        return False


def typed_word(prompt):
    """What a person types. A signal ends the wait, though a run only takes note of signals elsewhere.

    :raises EOFError: the input has ended. :raises KeyboardInterrupt: a signal came.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        return input(prompt).strip()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
