"""Commands on documents: find, aggregate, insert, update, delete, findAndModify. Their meaning is mongomock's.

What is added to mongomock here: look-ups and ranges by _id without a scan, $mul, unique indexes that name themselves.
"""

import bisect
import itertools

import bson
import mongomock
from bson.raw_bson import RawBSONDocument
from mongomock import collection as mock, filtering, helpers
from pymongo.errors import DuplicateKeyError, WriteError

from database_matching import quick
from database_storage import Documents, key_of, kind

COUNT = [{"$group": {"_id": 1, "n": {"$sum": 1}}}]         # how drivers count the documents that match
RANGE = {"$gt", "$gte", "$lt", "$lte"}


class Collection(mock.Collection):
    """mongomock's collection, told which documents a statement may change, and quick where _id is asked for."""

    writing = False

    def __init__(self, database, name, documents):
        super().__init__(database, name, _db_store={name: documents})
        self.documents = documents

    def candidates(self, query, direction=0):
        """The documents that may match, in the order of _id if `direction` is 1 or -1; None instead if that order is not known.

        A list where the statement writes: mongomock changes the collection while it looks.
        """
        documents = self.documents
        documents._remove_expired_documents()
        wanted = query.get("_id", {}) if isinstance(query, dict) else {}
        if kind(wanted) or isinstance(wanted, dict) and kind(wanted.get("$eq")):
            found = documents._documents.get(wanted["$eq"] if isinstance(wanted, dict) else wanted)
            return [found] if found is not None else []
        if isinstance(wanted, dict) and not direction and all(map(kind, wanted.get("$in", [None]))):
            found = (documents._documents.get(key) for key in dict.fromkeys(wanted["$in"]))
            return [document for document in found if document is not None]
        order = documents.order() if direction or isinstance(wanted, dict) and RANGE & set(wanted) else None
        if order is None:
            everything = documents._documents.values()
            return None if direction else list(everything) if self.writing else everything
        low, high = 0, len(order)
        for operator, bound in wanted.items() if isinstance(wanted, dict) and order else ():
            if operator in RANGE and kind(bound) == kind(order[0]):
                at = (bisect.bisect_left if operator in ("$gte", "$lt") else bisect.bisect_right)(order, bound)
                low, high = (max(low, at), high) if operator in ("$gt", "$gte") else (low, min(high, at))
        keys = order[low:high] if direction >= 0 else order[low:high][::-1]
        return (documents._documents[key] for key in keys)

    def matching(self, query, sort=()):
        """The documents that match, in order; not copies."""
        found = None
        if len(sort) == 1 and sort[0][0] == "_id":
            found = self.candidates(query, 1 if sort[0][1] > 0 else -1)
        if found is not None:
            return those(query, found)
        found = those(query, self.candidates(query))
        for field, direction in reversed(sort):
            if field == "$natural":
                found = list(found)[::-1] if direction < 0 else found
            elif field.startswith("$"):
                raise NotImplementedError(f"sorting by {field}")
            else:
                found = sorted(found, key=lambda document: filtering.resolve_sort_key(field, document), reverse=direction < 0)
        return iter(found)

    def _iter_documents(self, filter):
        if self.documents.is_empty:
            filtering.filter_applies(filter, {})        # a wrong filter is an error in an empty collection, too
        for document in self.matching(filter):
            if self.writing:
                self.documents.disk.touch(self.documents, key_of(document["_id"]))
            yield document

    def _insert(self, data, *rest, **options):
        if isinstance(data, dict) and data.get("_id") is not None and key_of(data["_id"]) in self.documents:
            raise duplicate(self.documents, "_id_", {"_id": 1}, {"_id": data["_id"]})
        return super()._insert(data, *rest, **options)

    def _ensure_uniques(self, new):
        for name, index in self.documents.indexes.items():
            if not index.get("unique"):
                continue
            value = {}
            for field, _ in index["key"]:
                try:
                    value[field] = helpers.get_value_by_dot(new, field)
                except KeyError:
                    value[field] = None
            if index.get("sparse") and all(part is None for part in value.values()):
                continue
            only = index.get("partialFilterExpression")
            if only and not filtering.filter_applies(only, new):
                continue
            same = self.matching({"$and": [only, value]} if only else value)
            if len(list(itertools.islice(same, 2))) > 1:
                raise duplicate(self.documents, name, dict(index["key"]), value)


def those(query, documents):
    """The documents that match."""
    look = quick(query) if isinstance(query, dict) else None
    for document in documents:
        said = look(document) if look else None
        if said or said is None and filtering.filter_applies(query, document):
            yield document


def duplicate(documents, index, pattern, value):
    return DuplicateKeyError(f"E11000 duplicate key error collection: {documents.namespace} index: {index} dup key: {value}",
                             11000, {"keyPattern": pattern, "keyValue": value})


def _multiply(document, field, value):
    if isinstance(document.get(field, 0), bool) or not isinstance(document.get(field, 0), (int, float)):
        raise WriteError("Cannot apply $mul to a value of non-numeric type", 14)
    document[field] = document.get(field, 0) * value


mock._updaters["$mul"] = _multiply          # the one operator of ours that mongomock lacks


def refuse(spec, *options):
    """:raises NotImplementedError: one of these options is set; answered as error 238."""
    for option in options:
        if spec.get(option):
            raise NotImplementedError(f"the option '{option}'")


class DocumentCommands:
    """The handlers; `self.collection(command)`, `self.disk`, `self.batch` and `self.trouble` are the server's."""

    def do_find(self, command, connection):
        refuse(command, "collation", "min", "max", "returnKey", "showRecordId", "tailable", "let")
        collection = self.collection(command)
        skip, limit = int(command.get("skip") or 0), abs(int(command.get("limit") or 0))
        found = collection.matching(command.get("filter") or {}, list((command.get("sort") or {}).items()))
        found = itertools.islice(found, skip, skip + limit if limit else None)
        return self.batch(command, collection.documents.namespace, (
            answered(collection, document, command.get("projection")) for document in found))

    def do_count(self, command, connection):
        collection, query = self.collection(command), command.get("query")
        number = sum(1 for _ in collection.matching(query)) if query else len(collection.documents)
        number = max(0, number - int(command.get("skip") or 0))
        return {"n": min(number, abs(int(command["limit"]))) if command.get("limit") else number}

    def do_distinct(self, command, connection):
        return {"values": self.collection(command).distinct(command["key"], command.get("query") or {})}

    def do_aggregate(self, command, connection):
        refuse(command, "collation", "let", "explain")
        if not isinstance(command["aggregate"], str):
            raise NotImplementedError("aggregate on a whole database")
        collection, pipeline = self.collection(command), list(command["pipeline"])
        first = pipeline[0] if pipeline else {}
        if "$changeStream" in first:
            raise self.trouble(40573, "The $changeStream stage is only supported on replica sets")
        if "$collStats" in first:               # how drivers 3.12 to 4.1 ask for the estimated count
            exists = collection.documents.is_created
            found = [{"ns": collection.documents.namespace, "count": len(collection.documents)}] if exists else []
            found = mongomock.aggregate.process_pipeline(found, collection.database, pipeline[1:], None)
        elif pipeline[1:] == COUNT and "$match" in first:
            number = sum(1 for _ in collection.matching(first["$match"]))
            found = [{"_id": 1, "n": number}] if number else []
        else:
            start = [first["$match"]] if "$match" in first else []
            found = (bson.decode(collection.documents.written[key_of(document["_id"])])
                     for document in collection.matching(*start or [{}]))
            found = mongomock.aggregate.process_pipeline(list(found), collection.database, pipeline[len(start):], None)
        if pipeline and "$out" in pipeline[-1]:
            self.disk.collection(f"{command['$db']}.{pipeline[-1]['$out']}").keep_description()
        return self.batch(command, collection.documents.namespace, (first_id(document) for document in found))

    def do_insert(self, command, connection):
        collection = self.made(self.collection(command))
        done, errors = self.each(command, command["documents"], collection._insert)
        return {"n": len(done), **errors}

    def do_update(self, command, connection):
        collection = self.collection(command)
        done, errors = self.each(command, command["updates"], lambda statement: update(collection, statement))
        added = [{"index": at, "_id": result["upserted"]} for at, result in done if not result["updatedExisting"] and result["n"]]
        return {"n": sum(result["n"] for _, result in done), "nModified": sum(result["nModified"] for _, result in done),
                **({"upserted": added} if added else {}), **errors}

    def do_delete(self, command, connection):
        collection = self.collection(command)

        def delete(statement):
            refuse(statement, "collation", "hint")
            return (collection.delete_one if statement["limit"] == 1 else collection.delete_many)(statement["q"]).deleted_count
        done, errors = self.each(command, command["deletes"], delete)
        return {"n": sum(number for _, number in done), **errors}

    def do_findAndModify(self, command, connection):
        refuse(command, "collation", "hint", "arrayFilters", "let")
        collection, query = self.collection(command), command.get("query") or {}
        found = next(collection.matching(query, list((command.get("sort") or {}).items())), None)
        fields = command.get("fields")
        before = bson.decode(answered(collection, found, fields).raw) if found is not None else None
        if command.get("remove"):
            if found is not None:
                collection.delete_one({"_id": found["_id"]})
            return {"lastErrorObject": {"n": int(found is not None)}, "value": before}
        if found is None and not command.get("upsert"):
            return {"lastErrorObject": {"n": 0, "updatedExisting": False}, "value": None}
        # the whole query stays, for positional operators; its _id becomes that of the document which the order chose
        target = query if found is None else dict(query, _id=found["_id"])
        result = update(collection, {"q": target, "u": command.get("update"), "upsert": found is None})
        self.disk.keep()
        identity = found["_id"] if found is not None else result["upserted"]
        last = {"n": 1, "updatedExisting": found is not None, **({"upserted": identity} if found is None else {})}
        if not command.get("new"):
            return {"lastErrorObject": last, "value": before}
        return {"lastErrorObject": last,
                "value": answered(collection, collection.documents._documents[key_of(identity)], fields)}

    def each(self, command, statements, run):
        """Runs the statements of a write; returns the (index, result) of the good ones, and writeErrors if there are any."""
        done, errors = [], []
        for at, statement in enumerate(statements):
            try:
                result = run(statement)
                self.disk.keep()
                done.append((at, result))
            except Exception as trouble:        # whatever it is, it is the answer to this one statement
                self.disk.keep_all_but_last()
                answer = self.describe(trouble)
                errors.append({"index": at, **{k: v for k, v in answer.items() if k not in ("ok", "codeName")}})
                if command.get("ordered", True):
                    break
        return done, ({"writeErrors": errors} if errors else {})


def update(collection, statement):
    """One update or replacement; returns mongomock's raw result."""
    refuse(statement, "collation", "hint", "arrayFilters", "let")
    change, query = statement["u"], statement["q"]
    if isinstance(change, list):
        raise NotImplementedError("an update by an aggregation pipeline")
    if next(iter(change), "").startswith("$"):
        mock.validate_ok_for_update(change)
    else:
        mock.validate_ok_for_replace(change)
    return collection._update(query, change, upsert=bool(statement.get("upsert")), multi=bool(statement.get("multi")))


def answered(collection, document, projection):
    """The document as it goes over the wire."""
    raw = collection.documents.written.get(key_of(document["_id"]))
    if not projection and raw is not None:
        return RawBSONDocument(raw)
    return first_id(collection._copy_only_fields(document, dict(projection) if projection else None, dict))


def first_id(document):
    """As BSON, _id in front."""
    if "_id" in document and next(iter(document)) != "_id":
        document = {"_id": document["_id"], **document}
    return RawBSONDocument(bson.encode(document))


def collection_of(client, disk, namespace):
    """The collection behind a namespace such as `shop.orders`."""
    documents = disk.collection(namespace)
    assert isinstance(documents, Documents)
    return Collection(client[namespace.partition(".")[0]], documents.name, documents)
