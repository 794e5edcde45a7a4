"""Documents and indexes of the lab's database: mongomock's stores in memory, each change written to one SQLite file.

A write is answered only once it is on disk; the writes of several clients share one commit. No commands live here.
"""

import bisect
import os
import sqlite3
import sys
import threading

import bson
from bson.objectid import ObjectId
from mongomock import helpers, store

MAX_DOCUMENT = 16 * 1024 * 1024         # MongoDB's limit of one document, in bytes


class DocumentTooLarge(Exception):
    """A document would grow over MongoDB's limit. :param size: of its BSON, in bytes."""

    def __init__(self, size):
        super().__init__(f"document is {size} bytes, the limit is {MAX_DOCUMENT}")
        self.size = size


def key_of(identity):
    """The dictionary key under which mongomock keeps the document with this _id."""
    return helpers.hashdict(identity) if isinstance(identity, dict) else identity


def kind(key):
    """What may be compared with what in an order over _id, or None for values that have no simple order."""
    if isinstance(key, bool) or key is None:
        return None
    if isinstance(key, (int, float)):
        return "number"
    return next((name for name, cls in (("text", str), ("oid", ObjectId)) if isinstance(key, cls)), None)


class Documents(store.CollectionStore):
    """One collection: the documents as mongomock changes them, and beside them their bytes as last written."""

    def __init__(self, name, database, disk):
        super().__init__(name)
        self.namespace = f"{database}.{name}"
        self.disk = disk
        self.written = {}               # key -> BSON: what readers get, and what a failed statement goes back to
        self.rows = {}                  # key -> number of the row in the file
        self._order = None              # the keys, sorted: made when first asked for, then kept up to date
        self._mixed = False

    def __setitem__(self, key, document):
        if key not in self._documents:
            self._entered(key)
        super().__setitem__(key, document)
        self.disk.touch(self, key)

    def __delitem__(self, key):
        super().__delitem__(key)
        self._left(key)
        self.disk.touch(self, key)

    def restore(self, key):
        """Puts one document back to how it was last written."""
        before = self.written.get(key)
        if before is not None:
            if key not in self._documents:
                self._entered(key)
            self._documents[key] = bson.decode(before)
        elif key in self._documents:
            del self._documents[key]
            self._left(key)

    def adopt(self, key, document, raw, row):
        """Takes a document over as it is in the file."""
        self._documents[key], self.written[key], self.rows[key] = document, raw, row
        self._order = None

    def drop(self):
        super().drop()
        for row in self.rows.values():
            self.disk.log("delete from documents where n=?", (row,))
        self.written, self.rows, self._order, self._mixed = {}, {}, None, False
        self.disk.log("delete from collections where namespace=?", (self.namespace,))

    def keep_description(self):
        """Writes that the collection exists, and its indexes."""
        self.create()
        indexes = [dict(index, name=name, key=[list(pair) for pair in index["key"]]) for name, index in self.indexes.items()]
        self.disk.log("insert or replace into collections values(?,?)", (self.namespace, bson.encode({"indexes": indexes})))

    def order(self):
        """The keys in ascending order, or None where they are of several kinds."""
        if self._order is None and not self._mixed:
            kinds = {kind(key) for key in self._documents}
            if len(kinds) > 1 or None in kinds:
                self._mixed = True
            else:
                self._order = sorted(self._documents)
        return self._order

    def _entered(self, key):
        if self._order is None:
            return
        if kind(key) is None or self._order and kind(key) != kind(self._order[0]):
            self._order, self._mixed = None, True
        else:
            bisect.insort(self._order, key)

    def _left(self, key):
        if self._order is not None:
            at = bisect.bisect_left(self._order, key)
            if at < len(self._order) and self._order[at] == key:
                del self._order[at]
        elif not self._documents:
            self._mixed = False


class Collections(store.DatabaseStore):
    """One database."""

    def __init__(self, name, disk):
        super().__init__()
        self.name, self.disk = name, disk

    def __getitem__(self, name):
        if name not in self._collections:
            self._collections[name] = Documents(name, self.name, self.disk)
        return self._collections[name]


class Disk(store.ServerStore):
    """All databases, and the file behind them. Everything but `settle` is called under the server's one lock.

    :param path: of the SQLite file; None: nothing outlives the process.
    """

    def __init__(self, path=None):
        super().__init__()
        self._touched, self._logged, self._next_row = {}, [], 1
        self._queue, self._queued, self._durable = [], 0, 0
        self._turn, self._closing = threading.Condition(), False
        if path:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._file = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        # exclusive: a second server over the same file would not see what this one has in memory
        # full: the write-ahead log is synced at each commit, so that an answered write survives a power cut as well
        self._file.executescript(
            "pragma locking_mode=exclusive; pragma journal_mode=wal; pragma synchronous=full;"
            "create table if not exists collections(namespace text primary key, description blob);"
            "create table if not exists documents(n integer primary key, namespace text, document blob);")
        self._load()
        self._writer = threading.Thread(target=self._write_on, name="disk", daemon=True)
        self._writer.start()

    def __getitem__(self, database):
        if database not in self._databases:
            self._databases[database] = Collections(database, self)
        return self._databases[database]

    def collection(self, namespace):
        database, _, name = namespace.partition(".")
        return self[database][name]

    def touch(self, documents, key):
        """Notes that the running statement may have changed a document."""
        self._touched.pop((documents.namespace, key), None)
        self._touched[documents.namespace, key] = documents

    def keep(self):
        """Ends a statement: what it changed is logged for the file, and is what readers see from now on.

        :raises DocumentTooLarge: that document and those after it are as before the statement.
        """
        touched, self._touched = list(self._touched.items()), {}
        for at, ((_, key), documents) in enumerate(touched):
            document, before = documents._documents.get(key), documents.written.get(key)
            after = bson.encode(document) if document is not None else None
            if after is not None and len(after) > MAX_DOCUMENT:
                for (_, later), owner in touched[at:]:
                    owner.restore(later)
                raise DocumentTooLarge(len(after))
            if after is not None:
                documents._documents[key] = bson.decode(after)  # as a client would read it: milliseconds, no shared parts
            if after == before:
                continue
            if after is None:
                del documents.written[key]
                self.log("delete from documents where n=?", (documents.rows.pop(key),))
                continue
            if before is None:
                documents.rows[key], self._next_row = self._next_row, self._next_row + 1
            documents.written[key] = after
            self.log("insert or replace into documents values(?,?,?)", (documents.rows[key], documents.namespace, after))

    def keep_all_but_last(self):
        """Ends a statement that failed at the document touched last: like MongoDB, those before it stay changed."""
        if self._touched:
            (_, key), documents = self._touched.popitem()
            documents.restore(key)
        self.keep()

    def log(self, statement, values):
        self._logged.append((statement, values))

    def hand_over(self):
        """Ends a command: all that it logged goes to the file in one commit. Returns the ticket for `settle`."""
        with self._turn:
            self._queue += self._logged
            self._queued += len(self._logged)
            self._logged = []
            self._turn.notify_all()
            return self._queued

    def settle(self, ticket):
        """Returns once the change with this ticket, and all before it, are on disk."""
        with self._turn:
            while self._durable < ticket:
                self._turn.wait()

    def close(self):
        with self._turn:
            self._closing = True
            self._turn.notify_all()
        self._writer.join()
        self._file.close()

    def _write_on(self):
        while True:
            with self._turn:
                while not self._queue and not self._closing:
                    self._turn.wait()
                changes, self._queue = self._queue, []
            if not changes:
                return
            try:
                self._file.execute("begin immediate")
                for statement, values in changes:
                    self._file.execute(statement, values)
                self._file.execute("commit")
            except sqlite3.Error as trouble:        # disk full, say: memory is ahead of the file; only the file counts
                print(f"lab database: cannot write: {trouble}", file=sys.stderr, flush=True)
                os._exit(74)
            with self._turn:
                self._durable += len(changes)
                self._turn.notify_all()

    def _load(self):
        for namespace, description in self._file.execute("select namespace, description from collections").fetchall():
            documents = self.collection(namespace)
            documents.create()
            for index in bson.decode(description)["indexes"]:
                documents.create_index(index.pop("name"), dict(index, key=[tuple(pair) for pair in index["key"]]))
        for row, namespace, raw in self._file.execute("select n, namespace, document from documents order by n"):
            document = bson.decode(raw)
            self.collection(namespace).adopt(key_of(document["_id"]), document, raw, row)
            self._next_row = row + 1
