"""What a migration gets to work with: a database whose writes are counted and stop when they must, and batches.

Before each write: nobody asked to stop, and the claim on the migration is still ours. So a migration that merely loops over
find and update_one is counted, interrupted and fenced off as well as one that uses `progress.batches`.
"""

import copy
import time

import bson
from bson.int64 import Int64
from pymongo import ReplaceOne, UpdateOne, errors
from pymongo.collection import Collection
from pymongo.database import Database

from bgdeploy.errors import NoAnswer
from bgdeploy.outside.mongo import too_large

LIMIT = 16 * 1024 * 1024
ROUNDS = 5                  # tries of a document that somebody else keeps changing, or of a batch whose answer was lost
NOTED = 1.0                 # seconds between two notes of what a migration without batches has done


class Halted(Exception):
    """The migration must not write any more: stopped by a person, or claimed by somebody else. :param lost: the latter."""

    def __init__(self, sentence, lost=False):
        super().__init__(sentence)
        self.lost = lost


class TooLarge(Exception):
    """A document would grow over 16 MiB."""


class Progress:
    """Counts, limits and records; the second argument of `up`.

    :param keep: (values) -> bool, writes them into the marker; False: the claim is lost.
    :param mine: () -> bool, is the claim still ours. :param stop: () -> bool, did a person ask to stop.
    :param say: called with a sentence every few seconds. :param earlier: the marker of a run that this one carries on.
    :param repeatable: the migration's own word. :param wrote: called after each write (for tests of a site's migrations).
    """

    def __init__(self, keep, mine, stop=lambda: False, say=lambda sentence: None, earlier=None, repeatable=False,
                 wrote=lambda: None):
        earlier = earlier or {}
        self._keep, self._mine, self._stop, self._say, self._wrote = keep, mine, stop, say, wrote
        self._repeatable, self._calls = repeatable, 0
        self._steps = {step["key"]: dict(step) for step in earlier.get("steps") or ()}
        self.documents, self.total = earlier.get("documents") or 0, earlier.get("total")
        self._began, self._first, self._earlier = time.monotonic(), self.documents, earlier.get("seconds") or 0.0
        self._noted = self._said = self._began
        self._in_batch, self._guessing = False, False

    def expect(self, total):
        """How many documents there are to change, all in all; None: nobody knows."""
        self.total, self._guessing = total if total is None else total + self.documents, total is None
        self.note()

    def batches(self, collection, query, change, size=100, per_second=None, pause=0.0):
        """Changes the documents that match, in the order of _id, some at a time, and notes each batch in the marker.

        :param collection: of the database that `up` got.
        :param query: which documents; best one that no longer matches a document once it is changed.
        :param change: (document) -> update operators ({"$set": ...}), a whole new document (also the given one, changed), or
            None: leave it.
        :param size: documents a batch. :param per_second: at most so many a second. :param pause: seconds after each batch.
        A document is only written if the fields that change are still as `change` saw them; else it is read again.
        A run that carries on (REPEATABLE) begins after the last batch that was noted.
        :returns: how many documents this call changed.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"batches of size={size!r}: it must be a whole number from 1 on")
        self._calls += 1
        key = f"{collection.name}#{self._calls}"
        step = self._steps.setdefault(key, {"key": key, "last": None, "documents": 0, "finished": False})
        if step["finished"]:
            return 0
        _one_kind_of_id(collection, query)
        began, changed = time.monotonic(), 0
        while True:
            rest = query if step["last"] is None else _with_id(query, {"$gt": step["last"]})
            if self._guessing and changed == 0:
                self.total = self.documents + self._again(lambda: collection.count_documents(rest))
            found = self._again(lambda: list(collection.find(rest).sort("_id", 1).limit(size)))
            if not found:
                break
            self.may_write()
            self._in_batch = True
            try:
                done = self._again(lambda: self._batch(collection, query, found, change))
            finally:
                self._in_batch = False
            changed += done
            step["last"], step["documents"] = found[-1]["_id"], step["documents"] + done
            self._again(self.note)
            if step["last"] is None:        # the one document whose _id is null: nothing of its kind comes after it
                break
            self._rest(pause, (began + changed / per_second) if per_second else 0.0)
        step["finished"] = True
        self.note()
        return changed

    def may_write(self):
        """:raises Halted: stop here."""
        if self._stop():
            raise Halted("stopped by a person")
        if not self._mine():
            raise Halted("the claim on this migration is lost: it was not renewed in time, or somebody else took it", lost=True)

    def wrote(self, number):
        """Counts documents that were written."""
        self.documents += number
        self._wrote()
        now = time.monotonic()
        if not self._in_batch and now - self._noted > NOTED:
            self.note()

    def note(self):
        """Writes the counts into the marker.

        :raises Halted: it is not ours any more.
        """
        self._noted = time.monotonic()
        if not self._keep({"steps": list(self._steps.values()), "documents": self.documents, "total": self.total,
                           "seconds": round(self.seconds, 1)}):
            raise Halted("the claim on this migration is lost: somebody else took it", lost=True)
        if self._noted - self._said >= 5:
            self._said = self._noted
            self._say(self.sentence())

    @property
    def seconds(self):
        """For which it has been worked on, by an earlier run that this one carries on too."""
        return self._earlier + time.monotonic() - self._began

    def sentence(self):
        """'4,000 of 20,000 documents, 900 a second, about 18 s left'"""
        rate = (self.documents - self._first) / max(0.001, self.seconds - self._earlier)
        total = f" of {self.total:,}" if self.total is not None else ""
        text = f"{self.documents:,}{total} documents, {rate:,.0f} a second"
        left = (self.total or 0) - self.documents
        return text + (f", about {left / rate:,.0f} s left" if rate and left > 0 else "")

    def _batch(self, collection, query, found, change):
        """Together where a second try does no harm; else one by one, each with its own answer."""
        writes = [write for write in (_write(document, change) for document in found) if write]
        if self._repeatable and len(writes) > 1:
            try:
                done = collection.bulk_write([kind(guard, after) for kind, guard, after in writes]).matched_count
                if done == len(writes):
                    return done
            except TooLarge:
                pass                        # one by one, which names the document
        return sum(self._one(collection, query, guard["_id"], change) for _, guard, _ in writes)

    def _one(self, collection, query, identity, change):
        for _ in range(ROUNDS):
            document = collection.find_one(_with_id(query, identity))
            write = _write(document, change) if document else None
            if not write:
                return 0                    # gone, changed already, or nothing to change any more
            kind, guard, after = write
            call = collection.update_one if kind is UpdateOne else collection.replace_one
            if call(guard, after).matched_count:
                return 1
        raise RuntimeError(f"{collection.name}: document {identity!r} was changed by others in each of {ROUNDS} tries")

    def _again(self, call):
        """call(), a few times if the connection is lost and the migration may be repeated."""
        for attempt in range(ROUNDS if self._repeatable else 1):
            try:
                return call()
            except (errors.AutoReconnect, NoAnswer) as silent:
                if attempt == ROUNDS - 1 or not self._repeatable:
                    raise
                try:
                    self.may_write()
                except Halted as halted:
                    raise (silent if halted.lost else halted) from None     # the silence is why it was lost
                time.sleep(1.0)

    def _rest(self, pause, until):
        end = max(time.monotonic() + pause, until)
        while time.monotonic() < end:
            self.may_write()
            time.sleep(min(0.2, max(0.0, end - time.monotonic())))


class Reader:
    """Stands where a Progress stands, for who may only read."""

    def may_write(self):
        """:raises Halted: always."""
        raise Halted("it wants to write, and may only read")


class Watched(Database):
    """A database whose collections count their writes for a Progress. Reads are as ever."""

    def __init__(self, client, name, progress):
        super().__init__(client, name)
        self.watching = progress

    def __getitem__(self, name):
        return Writes(self, name)

    def get_collection(self, name, codec_options=None, read_preference=None, write_concern=None, read_concern=None):
        return Writes(self, name, False, codec_options, read_preference, write_concern, read_concern)

    def with_options(self, *options, **named):
        raise TypeError("a migration's database has no with_options: give them to a collection, by get_collection")

    def drop_collection(self, name_or_collection, *args, **options):
        self.watching.may_write()
        return super().drop_collection(name_or_collection, *args, **options)


class Writes(Collection):
    """A collection of a Watched database."""

    def __getitem__(self, name):
        return Writes(self.database, f"{self.name}.{name}")

    def with_options(self, codec_options=None, read_preference=None, write_concern=None, read_concern=None):
        return Writes(self.database, self.name, False, codec_options or self.codec_options, read_preference or
                      self.read_preference, write_concern or self.write_concern, read_concern or self.read_concern)

    def aggregate(self, pipeline, *args, **options):
        if any(stage in step for step in pipeline for stage in ("$out", "$merge")):
            self.database.watching.may_write()
        return super().aggregate(pipeline, *args, **options)


def _counted(name, number):
    """A writing method that asks first and counts afterwards. :param number: (result) -> documents written."""
    original = getattr(Collection, name)

    def write(self, *args, **options):
        progress = self.database.watching
        progress.may_write()
        try:
            result = original(self, *args, **options)
        except errors.BulkWriteError as trouble:
            progress.wrote(sum(trouble.details.get(key) or 0 for key in ("nInserted", "nModified", "nUpserted", "nRemoved")))
            raise (_too_large(self, name, args, options, trouble) if too_large(trouble) else trouble) from None
        except (errors.PyMongoError, errors.InvalidDocument) as trouble:
            if too_large(trouble):
                raise _too_large(self, name, args, options, trouble) from None
            raise
        progress.wrote(number(result))
        return result
    write.__name__, write.__doc__ = name, original.__doc__
    return write


for _name, _number in {
        **dict.fromkeys(("drop", "rename", "create_index", "create_indexes", "drop_index", "drop_indexes"), lambda result: 0),
        "insert_one": lambda result: 1, "insert_many": lambda result: len(result.inserted_ids),
        "update_one": lambda result: result.modified_count + (result.upserted_id is not None),
        "update_many": lambda result: result.modified_count + (result.upserted_id is not None),
        "replace_one": lambda result: result.modified_count + (result.upserted_id is not None),
        "delete_one": lambda result: result.deleted_count, "delete_many": lambda result: result.deleted_count,
        "find_one_and_update": lambda found: found is not None, "find_one_and_replace": lambda found: found is not None,
        "find_one_and_delete": lambda found: found is not None,
        "bulk_write": lambda result: (result.inserted_count + result.modified_count + result.upserted_count
                                      + result.deleted_count)}.items():
    setattr(Writes, _name, _counted(_name, _number))


def _too_large(collection, name, args, options, trouble):
    """Which document it was, as far as can be told."""
    first = args[0] if args else next((options[key] for key in ("filter", "document", "documents", "requests") if key in options))
    if name == "insert_one":
        return TooLarge(f"{collection.name}: the new document {first.get('_id')!r} is {len(bson.encode(first)):,} bytes, "
                        f"MongoDB takes {LIMIT:,}")
    if not isinstance(first, dict):
        return TooLarge(f"{collection.name}: one of {len(first)} documents would be over the {LIMIT:,} bytes that MongoDB takes")
    found = collection.find_one(first) or {}
    change = args[1] if len(args) > 1 else options.get("update", options.get("replacement"))
    size = len(bson.encode({"change": change})) + (len(bson.encode(found)) if "update" in name else 0)
    return TooLarge(f"{collection.name}: document {found.get('_id', first.get('_id'))!r} would be about {size:,} bytes, "
                    f"MongoDB takes {LIMIT:,}")


def _with_id(query, identity):
    """The query, narrowed to an _id or to a range of them; quick where the query itself does not ask about _id."""
    return {**query, "_id": identity} if "_id" not in query else {"$and": [query, {"_id": identity}]}


def _write(document, change):
    """(UpdateOne or ReplaceOne, query that matches the document as long as what changes is as it was, the change); or None."""
    after = change(copy.deepcopy(document))     # which it may alter and give back
    if after is None or after == document:
        return None
    if not isinstance(after, dict) or not after:
        raise TypeError(f"what is to become of document {document['_id']!r} is {str(after)[:80]}: change returns update "
                        "operators, a whole document, or None to leave it as it is")
    if not next(iter(after), "").startswith("$"):
        return ReplaceOne, {field: value for field, value in document.items() if field == "_id" or _plain(value)}, after
    fields = {path.split(".")[0] for operator, part in after.items() for path in
              (list(part) + (list(part.values()) if operator == "$rename" else []))}
    guard = {field: {"$eq": document[field]} if field in document else {"$exists": False} for field in fields - {"_id"}
             if field not in document or _plain(document[field])}
    return UpdateOne, {"_id": document["_id"], **guard}, after


def _plain(value):
    """Can a query compare it for equality? Not NaN, nor what holds lists: {"a": [1]} also matches other documents."""
    if isinstance(value, dict):
        return all(_plain(part) for part in value.values())
    return not isinstance(value, list) and value == value


def _one_kind_of_id(collection, query):
    """Paging by _id compares values of one kind only; a mixture would silently lose documents."""
    first, last = (next(iter(collection.find(query, {"_id": 1}).sort("_id", order).limit(1)), None) for order in (1, -1))
    if first is None:
        return
    kinds = {"a number" if type(one["_id"]) in (int, float, Int64) else type(one["_id"]).__name__ for one in (first, last)}
    if len(kinds) > 1:
        raise ValueError(f"{collection.name}: the _id values are of several kinds ({', '.join(sorted(kinds))}); "
                         f"select one kind in the query of each call of batches")
