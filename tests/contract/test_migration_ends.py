"""What is found of a migration whose driver died at an awkward moment, and markers and files that nobody can make sense of."""

import signal

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
    {"state": "failed", "documents": "many"}, {"state": "started", "renewed": "yesterday"}, {"state": ["done"]}])
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
