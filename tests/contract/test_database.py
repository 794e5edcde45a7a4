"""What bgdeploy and the lab's applications ask of a MongoDB: documents, updates, findAndModify, indexes, bulk writes.

Checked against whichever serves, see tests/databases.py; what breaks or restarts a server is in test_database_faults.py.
"""

import datetime
import time

import pytest
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne, errors

from tests.databases import client, code_of, db, own, server    # noqa: F401 (fixtures)

BEFORE, AFTER = ReturnDocument.BEFORE, ReturnDocument.AFTER


# documents

def test_a_document_gets_an_id_and_comes_back(db):
    identity = db.a.insert_one({"x": 1}).inserted_id
    assert type(identity).__name__ == "ObjectId"
    assert db.a.find_one({"_id": identity}) == {"_id": identity, "x": 1}
    assert db.a.find_one({"_id": "nobody"}) is None


def test_every_kind_of_value_survives_the_wire(db):
    moment = datetime.datetime(2026, 3, 29, 1, 30, 0, 123000)
    document = {"_id": "v", "at": moment, "bytes": b"\0\1", "big": 2 ** 40, "small": -7, "real": 1.5, "none": None, "yes": True,
                "text": "żółć\n\0", "list": [1, [2, {"a": []}]], "deep": {"a": {"b": {"c": 1}}}, "": "empty key"}
    db.v.insert_one(document)
    assert db.v.find_one() == document
    assert list(db.v.find_one()) == list(document)
    assert db.v.count_documents({"at": {"$lte": moment}}) == 1
    assert db.v.count_documents({"at": {"$lt": moment}}) == 0


def test_long_answers_come_in_batches(db):
    assert len(db.a.insert_many([{"x": n} for n in range(500)]).inserted_ids) == 500
    assert [one["x"] for one in db.a.find({}, batch_size=50)] == list(range(500))
    assert sum(1 for _ in db.a.find()) == 500
    assert len(list(db.a.find({"x": {"$gte": 100}}, batch_size=3).limit(20))) == 20


def test_sort_skip_limit_and_projection(db):
    db.a.insert_many([{"_id": n, "x": n % 10, "y": -n} for n in range(100)])
    assert [one["_id"] for one in db.a.find().sort("_id", -1).skip(2).limit(3)] == [97, 96, 95]
    assert [one["_id"] for one in db.a.find().sort([("x", -1), ("y", 1)]).limit(3)] == [99, 89, 79]
    assert db.a.find_one({"_id": 3}, {"_id": 0, "x": 1}) == {"x": 3}
    assert db.a.find_one({"_id": 3}, {"x": 0}) == {"_id": 3, "y": -3}
    assert list(db.a.find({}, {"_id": 1}).limit(2)) == [{"_id": 0}, {"_id": 1}]


@pytest.mark.parametrize("query, number", [
    ({"_id": {"$gt": 10, "$lte": 20}}, 10), ({"_id": {"$gte": 95}}, 5), ({"_id": {"$lt": 0}}, 0),
    ({"_id": {"$in": [1, 2, 200]}}, 2),
    ({"_id": {"$ne": 5}}, 99), ({"x": {"$in": [3, 4]}}, 20), ({"x": {"$nin": [3]}}, 90), ({"$or": [{"x": 1}, {"_id": 2}]}, 11),
    ({"$and": [{"x": 1}, {"_id": {"$lt": 50}}]}, 5), ({"name": {"$exists": True}}, 50), ({"name": {"$regex": "^n1"}}, 6),
    ({"name": None}, 50), ({"tags": "t3"}, 10), ({"deep.n": {"$gte": 98}}, 2), ({"x": {"$not": {"$gt": 0}}}, 10),
    ({"_id": {"$gt": "text"}}, 0), ({"_id": 7, "x": 8}, 0), ({}, 100)])
def test_queries(db, query, number):
    db.a.insert_many([{"_id": n, "x": n % 10, "tags": [f"t{n % 10}"], "deep": {"n": n}, **({"name": f"n{n}"} if n % 2 else {})}
                      for n in range(100)])
    assert db.a.count_documents(query) == number
    assert len(list(db.a.find(query))) == number
    assert len(list(db.a.find(query).sort("_id", 1))) == number


def test_counts(db):
    db.a.insert_many([{"x": n} for n in range(10)])
    assert db.a.estimated_document_count() == 10
    assert db.a.count_documents({"x": {"$gt": 3}}, skip=2, limit=3) == 3
    assert db.none.count_documents({}) == 0 and db.none.estimated_document_count() == 0
    assert sorted(db.a.distinct("x", {"x": {"$lt": 3}})) == [0, 1, 2]


# updates

def test_update_operators(db):
    db.a.insert_one({"_id": 1, "x": 3, "l": [5], "gone": 1, "low": 5, "high": 5, "factor": 3})
    result = db.a.update_one({"x": 3}, {
        "$set": {"n.m": 5}, "$inc": {"x": 1000, "new": 1}, "$push": {"l": {"$each": [1, 2]}}, "$unset": {"gone": 1},
        "$min": {"low": 2},
        "$max": {"high": 9}, "$mul": {"factor": 7}, "$addToSet": {"s": "a"}})
    assert (result.matched_count, result.modified_count, result.upserted_id) == (1, 1, None)
    assert db.a.find_one() == {"_id": 1, "x": 1003, "l": [5, 1, 2], "low": 2, "high": 9, "factor": 21, "n": {"m": 5}, "new": 1,
                               "s": ["a"]}
    db.a.update_one({}, {"$pull": {"l": {"$lt": 3}}, "$addToSet": {"s": "a"}})
    assert (db.a.find_one()["l"], db.a.find_one()["s"]) == ([5], ["a"])


def test_an_update_that_changes_nothing_says_so(db):
    db.a.insert_one({"_id": 1, "x": 1})
    result = db.a.update_one({"_id": 1}, {"$set": {"x": 1}})
    assert (result.matched_count, result.modified_count) == (1, 0)
    assert db.a.update_one({"_id": 2}, {"$set": {"x": 1}}).matched_count == 0


def test_update_many_replace_and_delete(db):
    db.a.insert_many([{"_id": n, "tag": n % 3} for n in range(30)])
    assert db.a.update_many({"tag": 1}, {"$set": {"t": True}}).modified_count == 10
    assert db.a.count_documents({"t": True}) == 10
    assert db.a.replace_one({"_id": 4}, {"v": 2}).matched_count == 1
    assert db.a.find_one({"_id": 4}) == {"_id": 4, "v": 2}
    assert db.a.delete_one({"tag": 2}).deleted_count == 1
    assert db.a.delete_many({"tag": 2}).deleted_count == 9
    assert db.a.delete_many({"tag": 2}).deleted_count == 0


def test_upserts(db):
    result = db.a.update_one({"_id": "k", "q": 1}, {"$set": {"v": 1}, "$setOnInsert": {"c": 9}}, upsert=True)
    assert (result.matched_count, result.upserted_id) == (0, "k")
    assert db.a.find_one() == {"_id": "k", "q": 1, "v": 1, "c": 9}
    assert db.a.update_one({"_id": "k"}, {"$set": {"v": 2}, "$setOnInsert": {"c": 0}}, upsert=True).upserted_id is None
    assert db.a.find_one() == {"_id": "k", "q": 1, "v": 2, "c": 9}
    assert db.a.replace_one({"_id": "r"}, {"z": 1}, upsert=True).upserted_id == "r"


def test_the_server_s_clock_is_written_and_read(db):
    """What a lease is built on: its clock in a document, compared with its clock now, exact to the millisecond."""
    db.a.update_one({"_id": "d"}, {"$currentDate": {"at": True}}, upsert=True)
    written = db.a.find_one({"_id": "d"})["at"]
    now = db.client.admin.command("isMaster")["localTime"]
    assert datetime.timedelta(0) <= now - written < datetime.timedelta(seconds=10)
    assert db.a.update_one({"_id": "d", "at": written}, {"$set": {"x": 1}}).matched_count == 1


def test_a_document_written_twice_in_one_millisecond_is_found_by_what_is_read_of_it(db):
    for n in range(20):
        db.a.bulk_write([UpdateOne({"_id": n}, {"$currentDate": {"at": True}}, upsert=True)] * 5)
        assert db.a.count_documents({"at": db.a.find_one({"_id": n})["at"], "_id": n}) == 1


@pytest.mark.parametrize("change", [{"$set": {"n": 2}, "$bogus": {"s": 1}}, {"$set": {"n": 2}, "$inc": {"s": 1}}])
def test_a_failed_statement_leaves_nothing_behind(db, change):
    db.a.insert_one({"_id": 1, "n": 1, "s": "text"})
    with pytest.raises(errors.WriteError):
        db.a.update_one({"_id": 1}, change)
    assert db.a.find_one() == {"_id": 1, "n": 1, "s": "text"}


def test_a_multi_update_that_fails_keeps_what_was_done_before(db):
    db.a.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": "text"}, {"_id": 3, "n": 3}])
    with pytest.raises(errors.WriteError):
        db.a.update_many({}, {"$inc": {"n": 1}})
    assert [one["n"] for one in db.a.find().sort("_id", 1)] == [2, "text", 3]


def test_the_id_cannot_be_changed(db):
    db.a.insert_one({"_id": 1})
    with pytest.raises(errors.PyMongoError):
        db.a.update_one({"_id": 1}, {"$set": {"_id": 2}})
    assert list(db.a.find()) == [{"_id": 1}]


def test_a_document_cannot_grow_over_16_mib(db):
    db.a.insert_one({"_id": 1, "blob": "x" * (9 << 20)})
    assert code_of(lambda: db.a.update_one({"_id": 1}, {"$set": {"more": "x" * (9 << 20)}})) in (10334, 17419)
    assert list(db.a.find_one()) == ["_id", "blob"]
    with pytest.raises(errors.DocumentTooLarge):
        db.a.insert_one({"blob": "x" * (17 << 20)})


# findAndModify, the atom of leases and queues

def test_find_and_modify(db):
    db.q.insert_many([{"_id": n, "p": n % 5, "state": "new"} for n in range(20)])
    order = [("p", -1), ("_id", 1)]
    taken = db.q.find_one_and_update({"state": "new"}, {"$set": {"state": "taken"}}, sort=order, return_document=AFTER)
    assert taken == {"_id": 4, "p": 4, "state": "taken"}
    assert db.q.find_one_and_update({"_id": 4}, {"$set": {"state": "x"}}, return_document=BEFORE)["state"] == "taken"
    assert db.q.find_one_and_update({"_id": 99}, {"$set": {"a": 1}}, upsert=True, return_document=AFTER) == {"_id": 99, "a": 1}
    assert db.q.find_one_and_update({"_id": 100}, {"$set": {"a": 1}}, upsert=True) is None
    assert db.q.find_one_and_update({"_id": "no"}, {"$set": {"a": 1}}) is None
    assert db.q.find_one_and_delete({"_id": 99}, projection={"a": 1}) == {"_id": 99, "a": 1}
    assert db.q.find_one_and_replace({"_id": 100}, {"z": 1}, return_document=AFTER) == {"_id": 100, "z": 1}
    only = {"_id": 0, "p": 1}
    assert db.q.find_one_and_update({"_id": 3}, {"$inc": {"p": 1}}, projection=only, return_document=AFTER) == {"p": 4}


def test_an_upsert_that_does_not_match_is_a_duplicate(db):
    """How the second of two claims learns that it is the second."""
    db.a.insert_one({"_id": "lease", "token": "a"})
    claim = {"$set": {"token": "b"}}
    with pytest.raises(errors.DuplicateKeyError):
        db.a.find_one_and_update({"_id": "lease", "token": "b"}, claim, upsert=True)
    with pytest.raises(errors.DuplicateKeyError):
        db.a.update_one({"_id": "lease", "token": "b"}, claim, upsert=True)
    assert db.a.find_one() == {"_id": "lease", "token": "a"}


# indexes

def test_a_unique_index_is_kept(db):
    assert db.u.create_index([("name", 1), ("stack", -1)], unique=True) == "name_1_stack_-1"
    assert db.u.create_index([("name", 1), ("stack", -1)], unique=True) == "name_1_stack_-1"
    db.u.insert_many([{"name": "a", "stack": "blue"}, {"name": "a", "stack": "green"}])
    assert code_of(lambda: db.u.insert_one({"name": "a", "stack": "blue"})) == 11000
    assert code_of(lambda: db.u.update_one({"stack": "green"}, {"$set": {"stack": "blue"}})) == 11000
    assert db.u.count_documents({"stack": "green"}) == 1
    with pytest.raises(errors.DuplicateKeyError, match="index: name_1_stack_-1") as refused:
        db.u.insert_one({"name": "a", "stack": "blue"})
    assert dict(refused.value.details["keyPattern"]) == {"name": 1, "stack": -1}
    assert sorted(db.u.index_information()) == ["_id_", "name_1_stack_-1"]
    assert db.u.index_information()["name_1_stack_-1"]["unique"] is True
    db.u.drop_index("name_1_stack_-1")
    assert list(db.u.index_information()) == ["_id_"]


def test_ids_are_unique(db):
    db.u.insert_one({"_id": 5})
    assert code_of(lambda: db.u.insert_one({"_id": 5})) == 11000
    db.u.insert_one({"_id": {"a": 1}})
    assert code_of(lambda: db.u.insert_one({"_id": {"a": 1}})) == 11000
    assert db.u.find_one({"_id": {"a": 1}}) == {"_id": {"a": 1}}


def test_sparse_and_partial_unique_indexes(db):
    db.s.create_index("mail", unique=True, sparse=True)
    db.s.insert_many([{"a": 1}, {"a": 2}, {"mail": "x"}])
    assert code_of(lambda: db.s.insert_one({"mail": "x"})) == 11000
    db.p.create_index("k", unique=True, partialFilterExpression={"active": True})
    db.p.insert_many([{"k": 1, "active": True}, {"k": 1, "active": False}, {"k": 1}])
    assert code_of(lambda: db.p.insert_one({"k": 1, "active": True})) == 11000


def test_a_unique_index_over_duplicates_is_refused(db):
    db.q.insert_many([{"s": 1}, {"s": 1}])
    with pytest.raises((errors.DuplicateKeyError, errors.OperationFailure)):
        db.q.create_index("s", unique=True)
    assert list(db.q.index_information()) == ["_id_"]


def test_documents_expire_by_a_ttl_index(db, own):
    """Own server only: a mongod looks once a minute."""
    db.t.create_index("at", expireAfterSeconds=1)
    db.t.insert_many([{"at": datetime.datetime.utcnow()}, {"at": "never"}])
    assert db.t.count_documents({}) == 2
    time.sleep(1.3)
    assert db.t.count_documents({}) == 1


# several statements in one command

def test_bulk_writes(db):
    result = db.b.bulk_write([
        InsertOne({"_id": 1}), InsertOne({"_id": 2}), UpdateOne({"_id": 1}, {"$set": {"a": 1}}),
        UpdateOne({"_id": 3}, {"$set": {"a": 1}}, upsert=True), ReplaceOne({"_id": 2}, {"b": 1}), DeleteMany({"b": 1}),
        UpdateMany({"a": 1}, {"$inc": {"a": 1}}), DeleteOne({"_id": 3})])
    assert (result.inserted_count, result.matched_count, result.modified_count, result.upserted_ids, result.deleted_count) == (
        2, 4, 4, {3: 3}, 2)
    assert list(db.b.find()) == [{"_id": 1, "a": 2}]


def test_ordered_writes_stop_at_the_first_error_and_others_do_not(db):
    db.b.insert_one({"_id": 1})
    with pytest.raises(errors.BulkWriteError) as refused:
        db.b.insert_many([{"_id": 20}, {"_id": 1}, {"_id": 21}])
    assert refused.value.details["nInserted"] == 1 and refused.value.details["writeErrors"][0]["index"] == 1
    assert db.b.find_one({"_id": 21}) is None
    with pytest.raises(errors.BulkWriteError) as refused:
        db.b.bulk_write([InsertOne({"_id": 1}), InsertOne({"_id": 30})], ordered=False)
    assert [error["code"] for error in refused.value.details["writeErrors"]] == [11000]
    assert db.b.find_one({"_id": 30}) == {"_id": 30}


# aggregation, collections

def test_aggregation(db):
    db.q.insert_many([{"_id": n, "p": n % 5} for n in range(20)])
    groups = db.q.aggregate([{"$match": {"_id": {"$gte": 0}}}, {"$group": {"_id": "$p", "n": {"$sum": 1}}}])
    assert sorted((one["_id"], one["n"]) for one in groups) == [(n, 4) for n in range(5)]
    assert list(db.q.aggregate([{"$match": {"p": 1}}, {"$count": "n"}])) == [{"n": 4}]
    assert list(db.q.aggregate([{"$match": {"p": 1}}, {"$sort": {"_id": -1}}, {"$limit": 1}, {"$project": {"p": 1}}])) == [
        {"_id": 16, "p": 1}]
    assert len(list(db.q.aggregate([{"$match": {}}], batchSize=7))) == 20


def test_collections_are_made_listed_renamed_and_dropped(client, db):
    db.create_collection("made")
    assert "made" in db.list_collection_names() and db.name in client.list_database_names()
    with pytest.raises((errors.CollectionInvalid, errors.OperationFailure)):
        db.create_collection("made")
    db.made.create_index("x", unique=True)
    db.made.insert_one({"_id": 1, "x": 1})
    db.made.rename("other")
    assert db.list_collection_names() == ["other"] and db.other.find_one() == {"_id": 1, "x": 1}
    assert "x_1" in db.other.index_information()
    db.drop_collection("other")
    assert db.list_collection_names() == []
    db.a.insert_one({})
    client.drop_database(db.name)
    assert db.name not in client.list_database_names()
