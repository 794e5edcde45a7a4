"""What one invocation has open: hosts, store, records. Nothing is decided here, and no act is done."""

import os
import re
from dataclasses import replace

from bgdeploy import inventory, records
from bgdeploy.copies import Copies, Spared, hand_in
from bgdeploy.drive import Interrupt
from bgdeploy.errors import NoAnswer, Refused
from bgdeploy.journal import Journal, first, monotonic_clock, read
from bgdeploy.observe import Observer, Ports as LookPorts
from bgdeploy.outside import balancer, chef, heartbeat, lease, migrations, ssh, stats, store
from bgdeploy.schema import NAME

LOOK = 4.0          # seconds for one look of a run: short enough to end within the 5 s that an abort leaves


class Session:
    """The open connections of one invocation. Use as a context; nothing is contacted before the first call.

    :param environ: BGDEPLOY_STATE names the folder of runs (default: .bgdeploy beside tasks.py).
    :param ask: (prompt) -> password, for a sudo that wants one; None: nobody is asked.
    """

    def __init__(self, site, console, environ=os.environ, ask=None):
        self.site, self.console, self.environ = site, console, environ
        self.state = inventory.state_folder(site.base, environ)
        self.shell = ssh.Shell(site, ask)
        self.clock = monotonic_clock()
        ports = LookPorts(chef.look, stats.Pages(site).reading(heartbeat.read), balancer.pool, balancer.told)
        self.observer = Observer(site, self.shell, ports, now=self.clock)
        self.interrupt = Interrupt()
        self.begun = False          # a run was opened or joined by this invocation
        self._store = self._migrations = None
        self.spared = Spared(lambda: self.store)        # the store, for what a run can do without

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.observer.close()
        self.shell.close()
        for kept in (self._store, self._migrations):
            if kept:
                kept.close()

    @property
    def store(self):
        if self._store is None:
            self._store = store.open_store(self.site, self.shell)
        return self._store

    @property
    def migrations(self):
        if self._migrations is None:
            self._migrations = migrations.Migrations(self.site)
        return self._migrations

    @property
    def shared(self):
        """Other machines see the same runs."""
        return bool(self.site.store) and self.site.store.startswith("mongodb")

    def look(self, limit=None, migration=None):
        """One look at everything; with `migration` (its name) at its marker in the database too."""
        seen = self.observer.look(limit)
        if migration is None:
            return seen
        try:
            return replace(seen, migration=self.migrations.state(migration))
        except NoAnswer:
            return seen

    def migrated(self):
        """Triples (migration, component, least version) of what is done, or half done; None if the database does not say."""
        if not self.site.database:
            return ()
        try:
            return tuple((m["name"], component, least) for m in self.migrations.states() if m["state"] != "absent"
                         for component, least in m["needs"].items())
        except NoAnswer:
            return None

    def runs(self, most=200, surely=False):
        """[(id, events)] of the last runs of this inventory, oldest first; where the store is shared, also other machines'.

        :param surely: only with those; else a silent store is told, and what lies here is all that is known.
        :raises Refused: records are there that cannot be read, so that nobody knows whether a run is open.
        """
        folder = os.path.join(self.state, "runs")
        found = recorded(folder, most, self.site.name)
        if self.shared:
            try:
                hand_in(self.spared, folder, found, self.console.note)
                for run, events in self.spared(lambda store: store.recent(most)):
                    found[run] = max(found.get(run, []), events, key=last_number)   # another machine may have carried it on
            except (NoAnswer, Refused) as e:
                if surely:
                    raise Refused(f"{e.sentence}, so whether a run is open is not known",
                                  e.next_command or "invoke status") from None
                self.console.note(f"runs of other machines are not known: {e.sentence}")
        return [(run, events) for run, events in sorted(found.items()) if events and events[0].get("env") == self.site.name]

    def journal(self, run, events=(), tellers=()):
        """A run's journal, here and in a shared store. events: all that is known of it, so that one that began on another
        machine goes on here."""
        journal = Journal(self.folder(run), self.clock, tellers, events)
        if self.shared:
            journal.tellers.append(Copies(self.spared, run, journal, self.console.line))
        return journal

    def by(self):
        who = lease.myself()
        return {"user": who["who"], "host": who["host"], "pid": who["pid"], "build_url": who["build_url"]}

    def folder(self, run):
        return os.path.join(self.state, "runs", run)


def last_number(events):
    return events[-1].get("n", 0) if events else 0


def recorded(folder, most, env):
    """{id: events} of an inventory's last runs that lie in a folder, which others may share: theirs neither count nor hide any.

    :raises Refused: one cannot be read. A file in there is no run.
    """
    found = {}
    try:
        ids = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and re.fullmatch(NAME, entry.name))
        while ids and len(found) < most:
            path = os.path.join(folder, ids[-1], "journal.jsonl")
            if (first(path) or {}).get("env") == env:
                found[ids[-1]] = read(path)
            ids.pop()
        return found
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise Refused(f"{e.filename}: the records of runs cannot be read: {e.strerror}; whether a run is open is not known",
                      "run it as the user who owns them, or name another place by BGDEPLOY_STATE") from None


def open_runs(runs):
    """[(id, events)] of runs that are open, newest last."""
    return [(run, events) for run, events in runs if records.is_open(events)]


def cached(function):
    known = {}

    def ask(key):
        if key not in known:
            known[key] = function(key)
        return known[key]
    return ask
