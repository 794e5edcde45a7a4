"""The store in a MongoDB: shared by every driver that reaches it, on whatever machine.

    bgdeploy_locks      SITE/lease and SITE/hold
    bgdeploy_values     SITE/KEY
    bgdeploy_events     SITE/RUN/N

Values and events are kept as JSON text: their keys may hold dots. The lease's age is by the server's clock alone
($currentDate when written, localTime when read), and since somebody may set that clock, it is never believed without having
watched (lease.py). A command whose answer was lost is asked again: each can be repeated.
"""

import json

import bson.errors
from pymongo import ASCENDING, errors

from bgdeploy import clean
from bgdeploy.errors import Failed, NoAnswer
from bgdeploy.outside import lease
from bgdeploy.outside.mongo import Mongo, too_large

NOW = {"taken": True, "renewed": True}


def open_database(address, site):
    """(records, place) of the site in that MongoDB, sharing one connection."""
    mongo = Mongo(address, site.store_password, "store")
    return MongoRecords(mongo, site.name), MongoLease(mongo, site.name)


class MongoLease:
    """A place as lease.py describes it."""

    shared = True

    def __init__(self, mongo, site):
        self._mongo, self._lease, self._hold = mongo, f"{site}/lease", f"{site}/hold"
        self.name = f"MongoDB {mongo.where}"

    def read(self):
        found = self._do(lambda locks: locks.find_one({"_id": self._lease}))
        if found is None:
            return None
        now = self._mongo.now()
        try:
            quiet, age = (max(0.0, (now - found[key]).total_seconds()) if found.get(key) else None
                          for key in ("renewed", "taken"))
            return lease.Slip(found.get("token", ""), dict(_json(found.get("holder"), {})), 0.0 + found.get("ttl", lease.TTL),
                              found.get("renewed"), quiet, age, sure=False)
        except (TypeError, ValueError):         # not ours; it is watched for a whole ttl before it is replaced
            return lease.Slip("", stamp=found.get("renewed"))

    def put(self, old, token, holder, ttl):
        change = {"$set": {"token": token, "holder": json.dumps(holder, default=str), "ttl": ttl}, "$currentDate": NOW}
        try:
            if old is None:     # matches only our own, after a lost answer; somebody else's makes the upsert a duplicate
                self._do(lambda locks: locks.update_one({"_id": self._lease, "token": token}, change, upsert=True))
                return True
            query = {"_id": self._lease, "renewed": old.stamp, **({"token": old.token} if old.token else {})}
            if self._do(lambda locks: locks.update_one(query, change)).matched_count:
                return True
        except errors.DuplicateKeyError:
            return False
        return self._do(lambda locks: locks.find_one({"_id": self._lease, "token": token})) is not None

    def renew(self, token, ttl):
        change = {"$set": {"ttl": ttl}, "$currentDate": {"renewed": True}}
        return bool(self._do(lambda locks: locks.update_one({"_id": self._lease, "token": token}, change)).matched_count)

    def drop(self, token):
        tries = []

        def delete(locks):
            tries.append(1)
            return locks.delete_one({"_id": self._lease, "token": token}).deleted_count
        if self._do(delete):
            return True
        # the first try may have done it, and its answer was lost
        return len(tries) > 1 and self._do(lambda locks: locks.find_one({"_id": self._lease})) is None

    def read_hold(self):
        found = self._do(lambda locks: locks.find_one({"_id": self._hold}))
        held = _json(found.get("hold"), None) if found else None
        if found and not (isinstance(held, dict) and held):     # somebody froze the site: that much is known
            return {"reason": f"a hold that cannot be read: {clean.line(found.get('hold'), 200)}"}
        return held

    def put_hold(self, document):
        change = {"$set": {"hold": json.dumps(document)}}
        self._do(lambda locks: locks.update_one({"_id": self._hold}, change, upsert=True))

    def drop_hold(self):
        self._do(lambda locks: locks.delete_one({"_id": self._hold}))

    def close(self):
        self._mongo.close()

    def _do(self, call):
        return _do(self._mongo, "bgdeploy_locks", call)


class MongoRecords:
    """Events and remembered values."""

    def __init__(self, mongo, site):
        self._mongo, self._site = mongo, site

    def append(self, run, event):
        # padded, for the order of _id to be that of n; an event without n stands once for each text
        number = event.get("n")
        key = f"{number:08d}" if isinstance(number, int) else json.dumps(event, default=str, sort_keys=True)[:200]
        document = {"_id": f"{self._site}/{run}/{key}", "run": run, "n": number, "event": json.dumps(event, default=str)}
        try:
            self._events(lambda events: events.insert_one(document))
        except errors.DuplicateKeyError:
            return                      # it is there: this try, or an earlier one whose answer was lost

    def events(self, run):
        found = self._events(lambda events: list(events.find(below(f"{self._site}/{run}/")).sort("_id", ASCENDING)))
        return [event for event in (_json(one.get("event"), None) for one in found) if isinstance(event, dict)]

    def runs(self):
        query = {**below(f"{self._site}/"), "n": 1}
        return sorted({one["run"] for one in self._events(lambda events: list(events.find(query, {"run": 1})))})

    def since(self, first):
        query = {"_id": {"$gte": f"{self._site}/{first}/", "$lt": f"{self._site}/\uffff"}}
        found = self._events(lambda events: list(events.find(query, {"run": 1, "event": 1}).sort("_id", ASCENDING)))
        pairs = ((one["run"], _json(one.get("event"), None)) for one in found)
        return [(run, event) for run, event in pairs if isinstance(event, dict)]

    def remember(self, key, value):
        document = {"$set": {"value": json.dumps(value, default=str)}}
        self._values(lambda values: values.update_one({"_id": f"{self._site}/{key}"}, document, upsert=True))

    def recall(self, key):
        found = self._values(lambda values: values.find_one({"_id": f"{self._site}/{key}"}))
        return _json((found or {}).get("value"), None)

    def forget(self, key):
        self._values(lambda values: values.delete_one({"_id": f"{self._site}/{key}"}))

    def keys(self, prefix):
        start = f"{self._site}/"
        found = self._values(lambda values: list(values.find(below(start + prefix), {"_id": 1})))
        return sorted(one["_id"][len(start):] for one in found)

    def close(self):
        self._mongo.close()

    def _events(self, call):
        return _do(self._mongo, "bgdeploy_events", call)

    def _values(self, call):
        return _do(self._mongo, "bgdeploy_values", call)


def below(prefix):
    """The query for each _id that begins with this text; a range, which the index of _id answers."""
    return {"_id": {"$gte": prefix, "$lt": prefix + "\uffff"}}


def _do(mongo, collection, call):
    try:
        return mongo.ask(lambda database: call(database[collection]))
    except errors.DuplicateKeyError:
        raise
    except (errors.PyMongoError, bson.errors.BSONError) as e:       # the latter: the client itself finds a document too large
        if too_large(e):
            raise Failed(f"the store at {mongo.where} cannot hold it: the document is over 16 MiB") from None
        raise NoAnswer(mongo.silent(e).sentence.replace("does not answer", "answers with an error")) from None


def _json(text, otherwise):
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return otherwise
