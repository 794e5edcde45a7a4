"""What is found of a migration whose driver died at an awkward moment, and markers and files that nobody can make sense of."""

import re
import signal
from datetime import datetime

import pytest

from bgdeploy.errors import BadInput, NoAnswer, Refused
from bgdeploy.outside import migrations
from tests.contract.test_migrations import BATCHES, HEAD, RUN, Other, orders, site, wait_until, write     # noqa: F401 (fixture)
from tests.databases import client, db, server         # noqa: F401 (fixtures)

SLOW_START = HEAD + """
import time
def up(database):
    time.sleep(30)
    database.orders.update_many({"n": 0}, {"$inc": {"n": 1}})
"""


def test_killed_between_its_claim_and_its_first_write_it_is_asked_about_too(site, db):
    ours, migration = write(site, SLOW_START)
    orders(db, 3)
    victim = Other(site).go()
    wait_until(lambda: ours.state("m")["alive"])
    with pytest.raises(Refused, match="is being carried out by other"):
        ours.mark_done(migration, RUN, "ann")
    victim.end(signal.SIGKILL)
    state = ours.state("m")
    assert (state["state"], state["alive"], state["documents"]) == ("started", False, 0)
    with pytest.raises(Refused, match="m was found started by run .*, at least 0 documents done"):
        ours.run(migration, RUN, "ann")
    assert db.orders.distinct("n") == [0], "neither skipped nor repeated"


def test_killed_in_its_first_batch_a_repeatable_one_changes_each_document_once(site, db):
    ours, migration = write(site, BATCHES.replace("RATE", "25"))
    orders(db, 200)
    victim = Other(site).go()
    wait_until(lambda: db.orders.count_documents({"n": 1}) >= 50)
    victim.end(signal.SIGKILL)
    ours, migration = write(site, BATCHES.replace("RATE", "100000"))
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "ok" and db.orders.distinct("n") == [1] and ours.state("m")["state"] == "done"


@pytest.mark.parametrize("marker", [
    {"state": "finished"}, {}, {"state": None}, {"state": "done", "needs": 5}, {"state": "done", "needs": ["api"]},
    {"state": "failed", "documents": "many"}, {"state": "started", "renewed": "yesterday"}, {"state": ["done"]},
    {"state": "started", "holder": 5}, {"state": "started", "holder": "[1]"}, {"state": "started", "holder": "{"},
    {"state": "started", "ttl": "long"}, {"state": "failed", "steps": 5}, {"state": "failed", "steps": [{"last": 1}]},
    {"state": "failed", "seconds": "long"}])
def test_a_marker_that_nobody_understands_is_never_taken_for_done_nor_for_absent(site, db, marker):
    ours, migration = write(site, BATCHES.replace("RATE", "1000"))
    orders(db, 2)
    db.bgdeploy_migrations.insert_one({"_id": "m", **marker})
    for call in (lambda: ours.state("m"), ours.states, lambda: ours.describe(migration), ours.named,
                 lambda: ours.run(migration, RUN, "ann")):
        with pytest.raises(NoAnswer, match="the marker of m in bgdeploy_migrations says nothing that can be understood"):
            call()
    assert db.orders.distinct("n") == [0]


def test_a_count_that_raises_is_named_with_its_line_and_nothing_is_written(site, db):
    text = "def up(database):\n    database.orders.delete_many({})\ndef count(database):\n    1 / 0\n"
    ours, migration = write(site, HEAD + text)
    orders(db, 2)
    with pytest.raises(BadInput, match="m.py:6: count: ZeroDivisionError"):
        ours.describe(migration)
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "failed" and "m.py:6: ZeroDivisionError" in result.detail and "0 documents are done" in result.detail
    assert db.orders.count_documents({}) == 2


def test_what_it_needs_must_be_a_component_of_the_site(site):
    with pytest.raises(BadInput, match="m.py: NEEDS: shop.yml has no component 'apii'; there is api, web"):
        write(site, HEAD.replace('"api"', '"apii"') + "def up(database): pass\n")
    with pytest.raises(BadInput, match="no component 'apii'"):
        migrations.Migrations(site).named("m")


@pytest.mark.parametrize("harm, said", [
    ("import sys; sys.exit(0)", "SystemExit: 0"), ("raise SystemExit", "SystemExit;"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("raise type('E', (BaseException,), {})('caf\\u00e9')", "E: caf\u00e9"),
    ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()", "E: its text cannot be shown"),
    ("return (n for n in [1])", "returned a generator, which has not run")])
def test_whatever_up_does_the_marker_and_the_sentence_say_that_it_failed(site, db, harm, said):
    """sys.exit(0) in a migration must not look like success, nor end whoever carries it out."""
    first = "database.orders.update_one({'_id': 1}, {'$inc': {'n': 1}})"
    ours, migration = write(site, HEAD + f"def up(database):\n    {first}\n    {harm}\n")
    orders(db, 2)
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "failed" and said in result.detail and "1 documents are done" in result.detail
    assert ours.state("m")["state"] == "failed" and said.rstrip(";").split(":")[0] in ours.state("m")["detail"]


@pytest.mark.parametrize("change, numbers, said", [
    ("lambda d: d.update(n=7) or d", [7, 7, 7], ""), ("lambda d: None", [0, 0, 0], ""),
    ("lambda d: {}", [0, 0, 0], "to become of document .* is {}: change returns"),
    ("lambda d: []", [0, 0, 0], r"is \[\]: change returns")])
def test_a_document_that_is_altered_and_given_back_is_written_and_an_empty_one_never(site, db, change, numbers, said):
    """An altered one equals itself, so it once counted as nothing to change; {} is no wish to lose everything in it."""
    ours, migration = write(site, HEAD + f"def up(database, progress):\n    progress.batches(database.orders, {{}}, {change})\n")
    orders(db, 3)
    result = ours.run(migration, RUN, "ann")
    assert [d["n"] for d in db.orders.find().sort("_id", 1)] == numbers
    assert result.outcome == ("failed" if said else "ok") and re.search(said, result.detail)


@pytest.mark.parametrize("identity", [None, False, b"x", {"a": 1}, 1.5, "", datetime(2026, 1, 1)])
def test_an_odd_id_is_changed_once_and_the_batches_end(site, db, identity):
    ours, migration = write(site, HEAD + "def up(database, progress):\n"
                                         "    progress.batches(database.orders, {}, lambda d: {'$inc': {'n': 1}}, size=1)\n")
    db.orders.insert_one({"_id": identity, "n": 0})
    assert ours.run(migration, RUN, "ann").outcome == "ok" and db.orders.find_one()["n"] == 1


@pytest.mark.parametrize("size", ["0", "-1", "2.5", "True"])
def test_batches_of_no_size_are_refused(site, db, size):
    ours, migration = write(site, HEAD + "def up(database, progress):\n"
                                         f"    progress.batches(database.orders, {{}}, lambda d: None, size={size})\n")
    assert f"batches of size={size}: it must be" in ours.run(migration, RUN, "ann").detail


def test_a_listing_changes_nothing_even_where_count_would(site, db):
    text = "def up(database): pass\ndef count(database): database.orders.delete_many({}); return 1\n"
    ours, migration = write(site, HEAD + text)
    orders(db, 2)
    with pytest.raises(BadInput, match="m.py:4: count: Halted: it wants to write, and may only read"):
        ours.describe(migration)
    assert db.orders.count_documents({}) == 2
    ours, migration = write(site, HEAD + "def up(database): pass\ndef count(database): return 'many'\n")
    with pytest.raises(BadInput, match="count returned 'many'"):
        ours.describe(migration)
    assert ours.run(migration, RUN, "ann").outcome == "failed"


def test_a_marker_that_a_person_wrote_as_done_does_not_end_a_listing(site, db):
    ours, migration = write(site, BATCHES.replace("RATE", "1000"))
    orders(db, 2)
    db.bgdeploy_migrations.insert_one({"_id": "older", "state": "done", "needs": [], "seconds": 5, "documents": 9})
    assert ours.describe(migration)["count"] == 2


@pytest.mark.parametrize("harm", [
    'db.get_collection("orders", write_concern=WriteConcern(w=1)).update_many({}, {"$set": {"n": 9}})',
    'db.orders.with_options(write_concern=WriteConcern(w=1)).update_many({}, {"$set": {"n": 9}})', "db.orders.drop()",
    'db.drop_collection("orders")', 'db.orders.rename("others")', 'db.orders.create_index("n")',
    'db.with_options(write_concern=WriteConcern(w=1)).orders.delete_many({})',
    'list(db.orders.aggregate([{"$match": {}}, {"$out": "others"}]))'])
def test_who_may_only_read_finds_no_other_door_to_a_write(site, db, harm):
    """Nor does a driver that slept past its claim: both meet the same question."""
    text = HEAD + f"from pymongo import WriteConcern\ndef up(db): pass\ndef count(db):\n    {harm}\n    return 2\n"
    ours, migration = write(site, text)
    orders(db, 2)
    with pytest.raises(BadInput, match="count: "):
        ours.describe(migration)
    assert db.orders.distinct("n") == [0] and db.list_collection_names() == ["orders"] and len(db.orders.index_information()) == 1


def test_writes_through_other_doors_are_counted_like_all(site, db):
    ours, migration = write(site, HEAD + "def up(db):\n    db.get_collection('orders', None).with_options().update_many({}, "
                            "{'$set': {'n': 1}})\n    db.orders.create_index('n')\n    db.temporary.drop()\n")
    orders(db, 3)
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "ok" and result.evidence["documents"] == 3 and db.orders.distinct("n") == [1]


def test_a_document_that_is_too_large_is_told_however_the_write_names_it(site, db):
    ours, migration = write(site, HEAD + "def up(db):\n    db.orders.insert_many(documents=[{'x': 'y' * (17 << 20)}])\n")
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "failed" and "16,777,216 bytes that MongoDB takes" in result.detail
