"""The copy of a run's events in a shared store, from which another machine carries the run on.

An event goes there after it is on the local disk. A store that is silent costs no run anything: it is left alone for a while,
and gets what it missed as soon as it answers again, if need be from a later command on this machine.
"""

import json
import os
import time

from bgdeploy.errors import Failed, NoAnswer, Refused

QUIET = 10.0                # seconds for which a store that was silent is not asked for what a run can do without
LACKING = "not-copied"      # a file beside the journal: the store lacks events of this run


class Spared:
    """Asks a store, but not again for some time after it was silent: each silence costs seconds that a run has not got.

    :param store: () -> the Store. :param clock: () -> seconds, monotonic.
    """

    def __init__(self, store, clock=time.monotonic):
        self._store, self._clock, self._until = store, clock, None

    def __call__(self, call):
        """call(store). :raises NoAnswer: the store is silent, or was a moment ago. :raises Refused: it does not let us."""
        if self.silent:
            raise NoAnswer("the store was silent a moment ago")
        try:
            return call(self._store())
        except (NoAnswer, Refused):
            self.rest()
            raise

    @property
    def silent(self):
        return self._until is not None and self._clock() < self._until

    def rest(self):
        """Somebody else found it silent."""
        self._until = self._clock() + QUIET


class Copies:
    """A teller of one journal. :param ask: Spared. :param journal: its `events` and `folder`. :param say: gets sentences."""

    def __init__(self, ask, run, journal, say):
        self._ask, self._run, self._journal, self._say = ask, run, journal, say
        self._there, self._numbers, self._next, self._lacking = None, set(), 0, False

    def __call__(self, event=None):
        """Hands in whatever the store lacks. Never raises for a store that is silent, refuses us, or cannot hold an event."""
        if self._ask.silent:
            return self._lacks(None)
        try:
            if self._there is None:         # of a run that goes on, here or after another machine's part of it
                found = self._ask(lambda store: store.events(self._run)) if len(self._journal.events) > 1 else ()
                self._there, self._numbers = {mark(e) for e in found}, {e.get("n") for e in found}
            while self._next < len(self._journal.events):
                self._copy(self._journal.events[self._next])
                self._next += 1
        except (NoAnswer, Refused) as trouble:
            return self._lacks(trouble)
        if self._lacking or os.path.exists(self._mark):
            self._lacking = False
            _unlink(self._mark)
            self._say("the store has all events of this run again")

    def _copy(self, event):
        if mark(event) in self._there:
            return
        number = event.get("n")
        if number in self._numbers:         # another machine carried the run on, and this one (`back`) did not know of it
            number = max(n for n in self._numbers if isinstance(n, int)) + 1
        try:
            self._ask(lambda store: store.append(self._run, {**event, "n": number}))
        except Failed as trouble:           # too large for it: nothing changes that
            self._say(f"the store has no copy of event {event.get('n')}: {trouble.sentence}")
        self._numbers.add(number)

    def _lacks(self, trouble):
        if not self._lacking:
            self._lacking = True
            why = f": {trouble.sentence}" if trouble else ""
            self._say(f"the store lacks events of this run{why}; it gets them when it answers again")
            try:
                with open(self._mark, "w", encoding="ascii"):
                    pass
            except OSError:
                pass                        # a full disk, say: the next driver of this run compares anyway

    @property
    def _mark(self):
        return os.path.join(self._journal.folder, LACKING)


class Kept:
    """Events that lie in a folder, as Copies reads a journal's."""

    def __init__(self, folder, events):
        self.folder, self.events = folder, events


def hand_in(ask, folder, runs, say):
    """What earlier commands on this machine could not hand in, a run that `back` ended meanwhile above all: without that,
    another machine would carry it on.

    :param folder: of all runs. :param runs: {id: events} as this machine has them.
    """
    for run, events in runs.items():
        if events and os.path.exists(os.path.join(folder, run, LACKING)):
            Copies(ask, run, Kept(os.path.join(folder, run), events), lambda text, run=run: say(f"run {run}: {text}"))()


def mark(event):
    """What tells an event from all others of its run, whatever its number."""
    return json.dumps({key: value for key, value in event.items() if key != "n"}, sort_keys=True, default=str)


def _unlink(path):
    try:
        os.unlink(path)
    except OSError:
        pass
