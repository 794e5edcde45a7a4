"""Step 6: changes to the documents of the shared database, each a file of the site's migrations folder, each carried out once.

A migration is a Python file with

    NAME = "orders-customer"            its name in the marker; never changed
    NEEDS = {"api": "2.0.0"}            every host must run this version, or a newer one
    REPEATABLE = True                   may be carried on, and begun again, without harm (default: False)
    def up(database, progress)          the change; progress.batches(...) does it in batches
    def count(database)                 optional: how many documents are still to change
    def check(database)                 optional, after up: None or True if all is well, else what is wrong

Whether it may run is the rules' question; here it is claimed, carried out once, recorded, and told honestly.
"""

import time

from pymongo import errors

from bgdeploy import clean
from bgdeploy.errors import BadInput, NoAnswer
from bgdeploy.model import Result
from bgdeploy.outside import lease
from bgdeploy.outside.migration_files import asked, call, discover, number, told_by
from bgdeploy.outside.migration_marker import Done, Marker, do, readable, slip, told
from bgdeploy.outside.migration_writes import Halted, Progress, Reader, TooLarge, Watched
from bgdeploy.outside.mongo import Mongo


class Migrations:
    """The migrations of a site and their markers in its database. Nothing is contacted before the first question.

    :param site: with `database`, `database_password` and `migrations`.
    """

    def __init__(self, site):
        if not site.database:
            raise BadInput(f"{site.file}: database: is not set; migrations change the documents of a mongodb://...")
        self._site = site
        self._mongo = Mongo(site.database, site.database_password, "database", default=site.name)

    def discover(self):
        """As the function of that name, for the site's folder.

        :raises BadInput: also if one needs a component that the site has not; nobody could say whether it may run.
        """
        known = [component.name for component in self._site.components]
        for migration in (found := discover(self._site.migrations)):
            for component, _ in migration.needs:
                if component not in known:
                    raise BadInput(f"{migration.file}: NEEDS: {self._site.file} has no component {clean.line(component, 80)!r}; "
                                   f"there is {', '.join(known)}")
        return found

    def named(self, name=None):
        """One migration by its name; None: the first that is not done.

        :returns: Migration, or None if all are done. :raises BadInput: there is no such file; the known names are listed.
        """
        known = self.discover()
        if name is None:
            done = {marker["name"] for marker in self.states() if marker["state"] == "done"}
            return next((migration for migration in known if migration.name not in done), None)
        found = next((migration for migration in known if migration.name == name), None)
        if found is None:
            raise BadInput(f"{self._site.migrations}: there is no migration {clean.line(name, 80)!r}; "
                           f"there is {', '.join(migration.name for migration in known) or 'none at all'}")
        return found

    def state(self, name):
        """What the database says of a migration, for Seen.migration:
        {"name", "state": absent|started|done|failed, "run", "by", "repeatable", "alive", "detail", "documents", "total", "needs"}

        alive: True: somebody carries it out at this moment; False: nobody does; None: cannot be told.
        :raises NoAnswer: the database does not answer.
        """
        found = do(self._mongo, lambda markers: markers.find_one({"_id": name}))
        return _state(name, found, self._mongo.now() if found and found.get("state") == "started" else None)

    def states(self):
        """The state of each migration that has a marker; their `needs` say which versions must not be gone below."""
        found = do(self._mongo, lambda markers: list(markers.find()))
        now = self._mongo.now() if found else None
        return [_state(marker["_id"], marker, now) for marker in found]

    def describe(self, migration):
        """What running it would mean, changing nothing: the state and
        {"file", "needs", "count": documents to change or None, "seconds": expected or None, "text": a sentence}

        The time is reckoned from this migration's own earlier progress, else from the last one done in this database.
        """
        state = self.state(migration.name)
        count = self._count(migration) if state["state"] != "done" and hasattr(migration.module, "count") else None
        past = {"seconds": {"$gt": 0}, "documents": {"$gt": 0}, "renewed": {"$exists": True}}
        rates = [readable(marker) for marker in do(self._mongo, lambda markers: list(markers.find(past)))]
        rates.sort(key=lambda marker: (marker["_id"] != migration.name, -marker["renewed"].timestamp()))
        rate = rates[0]["documents"] / rates[0]["seconds"] if rates else None
        seconds = count / rate if rate and count is not None else None
        needs = ", ".join(f"{component} {version} or newer" for component, version in migration.needs)
        text = f"{migration.name} (needs {needs} everywhere): " + ("done" if state["state"] == "done" else
               "how many documents is not known" if count is None else f"{count:,} documents")
        text += f", about {lease.spoken(seconds)} at {rate:,.0f} a second" if seconds is not None and count else ""
        if state["state"] in ("started", "failed"):
            text += f"; {state['detail']}"
        return {**state, "file": migration.file, "needs": dict(migration.needs), "repeatable": migration.repeatable,
                "count": count, "seconds": seconds, "text": text}

    def run(self, migration, run, by, choice=None, say=None, stop=lambda: False, ttl=lease.TTL):
        """Claims the migration and carries it out; returns a Result whose host is "" and whose evidence holds the counts.

        ok: done now, or done already. failed: what is done and what is not is in the detail; the marker keeps it.
        unknown: the database stopped answering, or the claim was lost.
        :param choice: "repeat": a person decided that one found started or failed begins anew.
        :param say: called with sentences on the way. :param stop: () -> bool, asked before each write.
        :raises Refused: somebody carries it out at this moment (named), or a person has to choose first (with the counts).
        :raises NoAnswer: before the first write.
        """
        began, say = time.monotonic(), say or (lambda sentence: None)
        marker = Marker(self._mongo, migration, run, choice)
        earlier = marker.document() if migration.repeatable and choice is None else None
        try:
            claim = lease.take(marker, {"who": by, "run": run, "task": f"migration {migration.name}"}, ttl, say=say,
                               what=f"the migration {migration.name}")
        except Done as done:
            return Result("", "ok", f"{migration.name} was done already by run {done.document.get('run')}", 0.0, {"documents": 0})
        data = self._data()
        progress = Progress(lambda values: marker.keep(claim.token, values), claim.mine, stop, say, earlier, migration.repeatable)
        with claim:
            try:
                trouble = self._carry_out(migration, data, progress)
                outcome = "failed" if trouble else "ok"
            except Halted as halted:
                outcome, trouble = ("unknown" if halted.lost else "failed"), str(halted)
            except (errors.AutoReconnect, NoAnswer) as lost:
                outcome = "failed"
                trouble = f"the database was lost, its last write may have been carried out: {clean.line(lost, 200)}"
            except BaseException as ended:          # a signal's exception, say: the marker must not claim that it goes on
                self._end(marker, claim, migration, progress, "failed", f"ended by {type(ended).__name__}")
                raise
            finally:
                data.close()
            return self._end(marker, claim, migration, progress, outcome, trouble, time.monotonic() - began)

    def mark_done(self, migration, run, by):
        """A person says that it is done: it will not be run. :raises Refused: somebody carries it out at this moment."""
        Marker(self._mongo, migration, run).mark(run, by)

    def close(self):
        self._mongo.close()

    def _data(self):
        """The connection for the documents themselves: patient enough for an index to be built."""
        return Mongo(self._site.database, self._site.database_password, "database", self._site.name, socketTimeoutMS=60000)

    def _carry_out(self, migration, data, progress):
        """None, or a sentence on what went wrong."""
        database = Watched(data.client, data.database_name, progress)
        try:
            progress.expect(number(asked(migration, "count", database)))
            call(migration.module.up, database, progress)
            progress.note()
            said = asked(migration, "check", database)
        except (Halted, NoAnswer, errors.AutoReconnect):
            raise
        except TooLarge as large:
            return str(large)
        except BaseException as trouble:    # the site's own code, a sys.exit in it too; where it broke is in the sentence
            return told_by(trouble, migration)
        return None if said is None or said is True else f"its check says: {clean.line(said or 'not right', 300)}"

    def _end(self, marker, claim, migration, progress, outcome, trouble, seconds=0.0):
        counts = {"documents": progress.documents, "total": progress.total, "seconds": round(progress.seconds, 1)}
        what = f"{progress.documents:,} documents" + (f" of {progress.total:,}" if progress.total is not None else "")
        left = f"; {max(0, progress.total - progress.documents):,} are not" if progress.total is not None else ""
        well = outcome == "ok"
        detail = f"{what} in {lease.spoken(seconds)}" if well else f"{trouble}; {progress.documents:,} documents are done{left}"
        if outcome != "unknown":
            try:
                ended = marker.finish(claim.token, "done" if well else "failed", {**counts, "detail": "" if well else trouble})
            except NoAnswer as silent:
                detail = f"{migration.name}: {detail}; and its end could not be recorded: {silent.sentence}"
                return Result("", "unknown", detail, round(seconds, 3), counts)
            if not ended:
                outcome, detail = "unknown", f"the claim was lost to somebody else before its end was recorded; {detail}"
        return Result("", outcome, f"{migration.name}: {detail}", round(seconds, 3), counts)

    def _count(self, migration):
        """What the migration itself counts; it may write nothing."""
        data = self._data()
        try:
            return number(asked(migration, "count", Watched(data.client, data.database_name, Reader())))
        except errors.PyMongoError as trouble:
            raise data.silent(trouble) from None
        except KeyboardInterrupt:
            raise
        except BaseException as trouble:    # the site's own code
            raise BadInput(told_by(trouble, migration, "count: ")) from None
        finally:
            data.close()


def _state(name, found, now):
    readable(found)
    if found is None:
        return {"name": name, "state": "absent", "run": None, "by": None, "repeatable": None, "alive": False, "detail": "",
                "documents": 0, "total": None, "needs": {}}
    alive = False
    if found["state"] == "started":
        claim = slip(found, now)
        alive = False if lease.dead(claim.holder) else None if claim.quiet is None else claim.quiet <= claim.ttl
    detail = told(found) if found["state"] != "done" else clean.line(found.get("detail"), 500)
    return {"name": name, "state": found["state"], "run": found.get("run"), "by": found.get("by"),
            "repeatable": bool(found.get("repeatable")), "alive": alive, "detail": detail,
            "documents": found.get("documents") or 0, "total": found.get("total"), "needs": dict(found.get("needs") or {})}
