"""The marker of one migration in the shared database: claimed before the first write, and what is known of its progress.

    bgdeploy_migrations: _id NAME, state started|done|failed, token, holder, ttl, taken, renewed (the server's clock),
                         run, by, needs, repeatable, steps, documents, total, seconds, detail

It is a place as lease.py describes it: a claim is a lease, so that one migration runs once and a dead one is noticed.
"""

import json

from pymongo import errors

from bgdeploy import clean
from bgdeploy.errors import NoAnswer, Refused
from bgdeploy.outside import lease

COLLECTION = "bgdeploy_migrations"
STATES = ("started", "done", "failed")
_NUMBERS = {"documents": int, "total": int, "seconds": (int, float), "ttl": (int, float)}


class Done(Exception):
    """The migration was done meanwhile. :param document: its marker."""

    def __init__(self, document):
        super().__init__("done already")
        self.document = document


class Marker:
    """:param mongo: mongo.Mongo with short limits. :param migration: Migration. :param run: ID of the run that claims.
    :param choice: "repeat": a person says that it may begin anew; None: only what is absent, or repeatable, may begin.
    """

    shared = True

    def __init__(self, mongo, migration, run=None, choice=None):
        self._mongo, self._migration, self._run, self._choice = mongo, migration, run, choice
        self._seen = None
        self.name = f"the marker of {migration.name} in {mongo.where}"

    def document(self):
        """The marker as it is, or None."""
        return self._do(lambda markers: markers.find_one({"_id": self._migration.name}))

    def read(self):
        """:raises Done: nothing is left to claim. :raises NoAnswer: see `readable`."""
        found = self._seen = readable(self.document())
        if found is None or found.get("state") == "failed":
            return None
        if found.get("state") == "done":
            raise Done(found)
        return slip(found, self._mongo.now())

    def put(self, old, token, holder, ttl):
        """:raises Refused: a person has to choose first."""
        seen = self._seen
        carry_on = self._migration.repeatable and self._choice is None
        if seen is not None and not carry_on and self._choice != "repeat":
            raise Refused(f"{self._migration.name} was found {told(seen)}",
                          f"invoke answer --run {self._run} --choice repeat|done|stop")
        start = {"state": "started", "token": token, "holder": json.dumps(holder, default=str), "ttl": ttl, "run": self._run,
                 "by": holder.get("who"), "needs": self._needs(), "repeatable": self._migration.repeatable, "detail": ""}
        if not (seen and carry_on):
            start.update(steps=[], documents=0, total=None, seconds=0.0)
        change = {"$set": start, "$currentDate": {"taken": True, "renewed": True}}
        try:
            if seen is None:
                self._do(lambda markers: markers.update_one({"_id": self._migration.name, "token": token}, change, upsert=True))
                return True
            query = {"_id": self._migration.name, **{key: seen.get(key) for key in ("state", "token", "renewed")}}
            if self._do(lambda markers: markers.update_one(query, change)).matched_count:
                return True
        except errors.DuplicateKeyError:
            return False
        return self._ours(token)            # the first answer may have been lost

    def renew(self, token, ttl):
        return self.keep(token, {"ttl": ttl})

    def keep(self, token, values):
        """Writes something about the running claim, which also renews it. False: it is not ours any more."""
        change = {"$set": values, "$currentDate": {"renewed": True}}
        return bool(self._do(lambda markers: markers.update_one(self._claim(token), change)).matched_count)

    def finish(self, token, state, values):
        """Ends the claim. False: it was not ours any more."""
        change = {"$set": {**values, "state": state}, "$currentDate": {"renewed": True}}
        if self._do(lambda markers: markers.update_one(self._claim(token), change)).matched_count:
            return True
        query = {"_id": self._migration.name, "token": token, "state": state}
        return self._do(lambda markers: markers.find_one(query)) is not None        # the first answer may have been lost

    def mark(self, run, by):
        """Writes that it is done, on a person's word.

        :raises Refused: somebody carries it out at this moment.
        """
        found = readable(self.document())
        current = slip(found, self._mongo.now()) if found and found.get("state") == "started" else None
        if current and not lease.dead(current.holder) and current.quiet is not None and current.quiet <= current.ttl:
            raise Refused(f"{self._migration.name} is being carried out by {lease.person(current)}", "invoke status")
        change = {"$set": {"state": "done", "token": "", "run": run, "by": by, "needs": self._needs(),
                           "detail": f"marked as done by {by}"}, "$currentDate": {"renewed": True}}
        query = {"_id": self._migration.name, **({"token": found.get("token")} if found else {"state": "done"})}
        try:
            if self._do(lambda markers: markers.update_one(query, change, upsert=found is None)).matched_count or found is None:
                return
        except errors.DuplicateKeyError:
            pass
        raise Refused(f"{self._migration.name} has just been claimed by somebody else", "invoke status")

    def drop(self, token):
        """Does nothing: the marker stays, and `finish` says how it ended."""
        return True

    def _ours(self, token):
        return self._do(lambda markers: markers.find_one(self._claim(token))) is not None

    def _needs(self):
        return [list(pair) for pair in self._migration.needs]       # names of components may hold dots, which keys may not

    def _claim(self, token):
        return {"_id": self._migration.name, "token": token, "state": "started"}

    def _do(self, call):
        return do(self._mongo, call)


def readable(document):
    """The marker, if it is one as it is written here, or None.

    :raises NoAnswer: it says nothing that can be understood; whether the migration was done is then for a person to find out.
    """
    if document is None:
        return None
    try:
        dict(document.get("needs") or {})
        numbers = all(isinstance(document.get(key) or 0, kind) for key, kind in _NUMBERS.items())
        dates = all(document.get(key) is None or hasattr(document[key], "strftime") for key in ("taken", "renewed"))
        holder = isinstance(json.loads(document.get("holder") or "{}"), dict)
        steps = all(isinstance(step["key"], str) and {"last", "documents", "finished"} <= set(step)
                    for step in document.get("steps") or ())
        if document.get("state") in STATES and numbers and dates and holder and steps:
            return document
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    raise NoAnswer(f"the marker of {clean.line(document.get('_id'), 100)} in {COLLECTION} says nothing that can be understood "
                   f"(state {clean.line(document.get('state'), 60)!r}); is that migration done? Then write state: \"done\" and "
                   f"needs: [] into it, else remove it")


def slip(document, now):
    """The claim in a `readable` marker."""
    quiet, age = (max(0.0, (now - document[key]).total_seconds()) if document.get(key) else None for key in ("renewed", "taken"))
    holder, ttl = json.loads(document.get("holder") or "{}"), document.get("ttl") or lease.TTL
    return lease.Slip(document.get("token") or "", holder, ttl, document.get("renewed"), quiet, age, sure=False)


def told(document):
    """'started by run 2026..., 9,871 of 20,000 documents done: why'"""
    done, total = document.get("documents") or 0, document.get("total")
    text = f"{document.get('state')} by run {clean.line(document.get('run') or '?', 100)}"
    if document.get("renewed"):
        text += f" on {document['renewed']:%Y-%m-%d %H:%M:%S}Z"
    least, most = ("at least ", "at most ") if document.get("state") == "started" else ("", "")     # noted once a second
    text += f", {least}{done:,} documents done" if total is None else f", {least}{done:,} of {total:,} documents done"
    text += f", {most}{max(0, total - done):,} left" if total is not None else ""
    return text + (f": {clean.line(document['detail'], 500)}" if document.get("detail") else "")


def do(mongo, call):
    """call(the collection of markers). :raises NoAnswer: the database does not answer, or answers with an error."""
    try:
        return mongo.ask(lambda database: call(database[COLLECTION]))
    except errors.DuplicateKeyError:
        raise
    except errors.PyMongoError as e:
        raise NoAnswer(mongo.silent(e).sentence.replace("does not answer", "answers with an error")) from None
