"""What several runs, persons and machines share: the lock, a person's freeze, copies of events, and small things remembered.

`open_store` picks where that lies: a folder on this machine (the default), a MongoDB, and with `lock_host` the lock and the
freeze on that host. Each call ends within seconds: by an answer, or by NoAnswer. Nothing secret is ever put in here.
"""

import json
import os
import re
import time

from bgdeploy import clean
from bgdeploy.errors import BadInput, Refused
from bgdeploy.outside import lease, store_file

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_KEY = re.compile(r"[^\x00-\x1f]{1,150}\Z")
LARGEST_VALUE = 1 << 20         # bytes of JSON


def open_store(site, shell=None):
    """The site's store.

    :param shell: ssh.Shell, for a site with lock_host; None: one of its own.
    :raises Refused: the folder cannot be written (nothing else was touched).
    :raises BadInput: the address of the store makes no sense.
    A database is not asked yet: `back` must work without it.
    """
    address = site.store or "file:" + os.path.join(site.base, ".bgdeploy", "store")
    if address.startswith("file:"):
        folder = store_file.Folder(os.path.join(site.base, address[len("file:"):], site.name))
        records, place = store_file.FileRecords(folder), store_file.FileLease(folder)
    elif address.startswith(("mongodb://", "mongodb+srv://")):
        try:
            from bgdeploy.outside import store_mongo
        except ImportError:
            raise Refused(f"{site.file}: store: is a MongoDB, and this Python has no pymongo",
                          "install python3-pymongo, or pymongo for this Python") from None
        records, place = store_mongo.open_database(address, site)
    else:
        raise BadInput(f"{site.file}: store: {clean.line(address)} is neither file:PATH nor mongodb://...")
    if site.lock_host:
        from bgdeploy.outside import lease_ssh
        place = lease_ssh.open_host(site, shell)
    return Store(records, place)


class Store:
    """:param records: events and values. :param place: of the lease and the hold, see lease.py."""

    def __init__(self, records, place):
        self.records, self.place = records, place

    @property
    def shared(self):
        """Does the lock exclude drivers on other machines?"""
        return self.place.shared

    @property
    def name(self):
        """Where the lock lies, in words; no password in it."""
        return self.place.name

    # the lock

    def take(self, holder, ttl=lease.TTL, wait=0.0, say=None, over=False):
        """Takes the lock; see lease.take. A person's hold is refused at once, however long `wait` is.

        :returns: Lease, not yet kept: call keep(), or use it in a `with`.
        :raises Refused: names the holder, or the person who froze the site. :raises NoAnswer: the store is silent.
        """
        return lease.take(self.place, holder, ttl, wait, say, over, self._hold_sentence)

    def holder(self):
        """The lock as status shows it, or None: who, host, pid, build_url, since, why, run, task, age, quiet (seconds), text and
        expired (True: nobody holds it any more; None: cannot be told)."""
        return lease.shown(self.place.read())

    def unlock(self, say=None):
        """Removes a lock that nobody holds; see lease.unlock."""
        return lease.unlock(self.place, say)

    def hold(self, reason, by):
        """Freezes the site for every driver until `unhold`.

        :raises Refused: it is frozen already; a second reason would hide the first.
        """
        held = self.held()
        if held:
            raise Refused(self._hold_sentence(held), "invoke unhold")
        self.place.put_hold({"reason": reason, "by": by, "since": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())})

    def unhold(self):
        """Ends the freeze; returns what it was, or None."""
        held = self.held()
        self.place.drop_hold()
        return held

    def held(self):
        """{"reason", "by", "since"} of a person's freeze, or None. What cannot be read of it is "?": frozen it is."""
        held = self.place.read_hold()
        return held and {key: clean.line(held.get(key) or "?", 300) for key in ("reason", "by", "since")}

    # what is remembered

    def append(self, run, event):
        """Adds the copy of a journal event, durably. The same event (its `n`) a second time changes nothing."""
        self.records.append(_run(run), event)

    def events(self, run):
        """The events of a run in the order of their `n`, each once."""
        return _in_order(self.records.events(_run(run)))

    def runs(self):
        """IDs of all runs, oldest first."""
        return self.records.runs()

    def recent(self, most=200):
        """[(run, events)] of the last runs, oldest first; one question, however many they are."""
        last = self.runs()[-most:]
        found = {run: [] for run in last}
        for run, event in self.records.since(last[0]) if last else ():
            found.setdefault(run, []).append(event)
        return [(run, _in_order(events)) for run, events in sorted(found.items())]

    def remember(self, key, value):
        """Keeps a small JSON value under a key such as "pin/web"; the last one counts."""
        if len(json.dumps(value)) > LARGEST_VALUE:
            raise BadInput(f"the value of {_key(key)} is larger than {LARGEST_VALUE} bytes")
        self.records.remember(_key(key), value)

    def recall(self, key, default=None):
        """What was remembered under the key, or `default`."""
        value = self.records.recall(_key(key))
        return default if value is None else value

    def forget(self, key):
        self.records.forget(_key(key))

    def keys(self, prefix=""):
        """The keys under which something is remembered, sorted."""
        return self.records.keys(prefix)

    def close(self):
        self.records.close()
        self.place.close()

    def _hold_sentence(self, held=None):
        held = held or self.held()
        return held and f"{held['by']} froze this site on {held['since']}: {held['reason']}"


def _in_order(events):
    """Each `n` once, the first counts."""
    found = {}
    for at, event in enumerate(events):
        found.setdefault(event.get("n", -at), event)
    return [found[n] for n in sorted(found)]


def _run(run):
    if not isinstance(run, str) or not _RUN.match(run):
        raise BadInput(f"{clean.line(run, 80)!r} is not a run's ID; invoke history lists them")
    return run


def _key(key):
    if not isinstance(key, str) or not _KEY.match(key):
        raise BadInput(f"{clean.line(key, 80)!r} cannot be a key of the store")
    return key
