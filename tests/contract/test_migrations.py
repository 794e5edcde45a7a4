"""Migrations against a database server: claimed, carried out once, carried on, stopped, and honest about what is done."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from bgdeploy.errors import BadInput, NoAnswer, Refused
from bgdeploy.outside import migrations
from tests.databases import Database, client, db, server         # noqa: F401 (fixtures)
from tests.serving import ROOT

HEAD = 'NAME = "m"\nNEEDS = {"api": "2.0.0"}\n'
ONE_BY_ONE = HEAD + """
import time
def up(db):
    for d in db.orders.find({}):
        db.orders.update_one({"_id": d["_id"]}, {"$inc": {"n": 1}})
        time.sleep(PAUSE)
def count(db):
    return db.orders.count_documents({"n": 0})
"""
BATCHES = HEAD + """REPEATABLE = True
def up(database, progress):
    progress.batches(database.orders, {"n": 0}, lambda d: {"$inc": {"n": 1}}, size=50, per_second=RATE)
def count(database):
    return database.orders.count_documents({"n": 0})
"""
RUN = "20260101-000000-aa"
COMPONENTS = (SimpleNamespace(name="api"), SimpleNamespace(name="web"))


@pytest.fixture
def site(tmp_path, client, db):
    """A site with a migrations folder; `db` is its database."""
    host, port = client.address
    (tmp_path / "migrations").mkdir()
    return SimpleNamespace(name="shop", file="shop.yml", components=COMPONENTS, database=f"mongodb://{host}:{port}/{db.name}",
                           database_password=None, migrations=str(tmp_path / "migrations"))


def write(site, text, name="m.py"):
    pathlib.Path(site.migrations, name).write_text(text)
    ours = migrations.Migrations(site)
    return ours, ours.named()


def orders(db, number, **fields):
    db.orders.insert_many([{"_id": n, "n": 0, **fields} for n in range(1, number + 1)])


class Other:
    """Another driver that carries the migration out."""

    def __init__(self, site, choice=None, ttl=3.0):
        text = ("import sys; from types import SimpleNamespace as S; namespace = S\n"
                "from bgdeploy.outside.migrations import Migrations; "
                "from bgdeploy.errors import Trouble\n"
                f"ours = Migrations(S(**{vars(site)!r}))\n"
                "sys.stdin.readline()\n"
                f"try: print(ours.run(ours.named('m'), sys.argv[1], 'other', {choice!r}, ttl={ttl}).outcome)\n"
                "except Trouble as e: print(type(e).__name__, e)\n")
        argv = [sys.executable, "-c", text, f"run-{os.urandom(2).hex()}"]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "PYTHONPATH": ROOT})

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self

    def end(self, number=None):
        """What it said. :param number: a signal to end it by."""
        if number:
            self.process.send_signal(number)
        return self.process.communicate(timeout=60)[0].strip()


def wait_until(true, limit=20):
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_lab_s_migration_gives_every_order_its_customer(site, db):
    db.orders.insert_many([{"_id": n, "customer_name": f"c{n}", "total": n} for n in range(450)]
                          + [{"_id": 1000, "customer": {"name": "new"}}])
    site.migrations = os.path.join(ROOT, "migrations")
    ours = migrations.Migrations(site)
    migration = ours.named()
    assert (migration.name, migration.needs, migration.repeatable) == ("orders-customer", (("api", "2.0.0"),), True)
    plan = ours.describe(migration)
    assert (plan["state"], plan["count"]) == ("absent", 450) and "450 documents" in plan["text"]
    assert db.list_collection_names() == ["orders"], "a listing changes nothing"
    result = ours.run(migration, RUN, "ann")
    assert (result.outcome, result.evidence["documents"]) == ("ok", 450)
    assert db.orders.find_one({"_id": 7}) == {"_id": 7, "total": 7, "customer": {"name": "c7"}}
    assert db.orders.count_documents({"customer_name": {"$exists": True}}) == 0
    state = ours.state("orders-customer")
    assert (state["state"], state["run"], state["needs"], state["alive"]) == ("done", RUN, {"api": "2.0.0"}, False)
    assert ours.named() is None
    assert "already" in ours.run(migration, "another", "bob").detail


@pytest.mark.parametrize("number", range(20))
def test_two_at_once_run_it_once(site, db, number):
    """M03: the other one is refused and names the first; each document is changed exactly once."""
    write(site, ONE_BY_ONE.replace("PAUSE", "0.02"))
    orders(db, 20)
    first, second = Other(site), Other(site)
    said = sorted(one.end() for one in (first.go(), second.go()))
    # on a busy machine the second may come when the first is through: then it hears that it was done
    assert said[1] == "ok" and (said[0] == "ok" or said[0].startswith("Refused the migration m is held by other"))
    assert db.orders.distinct("n") == [1]


def test_killed_in_the_middle_it_is_neither_skipped_nor_repeated(site, db):
    """M01: the marker says started, by which run, and how far; the next one asks, with counts."""
    ours, migration = write(site, ONE_BY_ONE.replace("PAUSE", "0.002"))
    orders(db, 600)
    victim = Other(site).go()
    wait_until(lambda: (ours.state("m")["documents"] or 0) > 150)
    victim.end(signal.SIGKILL)
    changed = db.orders.count_documents({"n": 1})
    state = ours.state("m")
    assert (state["state"], state["alive"], state["repeatable"], state["total"]) == ("started", False, False, 600)
    assert 150 < state["documents"] <= changed < 600
    assert "of 600 documents done" in state["detail"] and state["run"] in state["detail"]
    with pytest.raises(Refused, match="m was found started by run run-.* documents done, .* left") as refused:
        ours.run(migration, RUN, "ann")
    assert "repeat|done|stop" in refused.value.next_command
    assert db.orders.count_documents({"n": 1}) == changed and db.orders.count_documents({"n": 2}) == 0
    assert ours.run(migration, RUN, "ann", choice="repeat").outcome == "ok"
    assert db.orders.count_documents({"n": 2}) == changed, "repeated from the beginning, as a person said"


def test_a_person_may_say_that_it_is_done(site, db):
    ours, migration = write(site, HEAD + "def up(database):\n    database.orders.update_one({}, {'$inc': {'n': 1}})\n    1 / 0\n")
    orders(db, 3)
    failed = ours.run(migration, RUN, "ann")
    assert failed.outcome == "failed" and "m.py:5: ZeroDivisionError" in failed.detail and "1 documents are done" in failed.detail
    with pytest.raises(Refused, match="m was found failed"):
        ours.run(migration, RUN, "ann")
    ours.mark_done(migration, RUN, "ann")
    state = ours.state("m")
    assert (state["state"], state["by"]) == ("done", "ann") and "marked as done by ann" in state["detail"]
    assert db.orders.count_documents({"n": 1}) == 1
    with pytest.raises(BadInput, match="there is no migration 'x'; there is m"):
        ours.named("x")


def test_nobody_marks_as_done_what_runs(site, db):
    ours, migration = write(site, ONE_BY_ONE.replace("PAUSE", "0.05"))
    orders(db, 60)
    other = Other(site).go()
    wait_until(lambda: ours.state("m")["state"] == "started")
    assert ours.state("m")["alive"] is True
    with pytest.raises(Refused, match="being carried out by other"):
        ours.mark_done(migration, RUN, "ann")
    with pytest.raises(Refused, match="is held by other .*pid"):
        ours.run(migration, RUN, "ann")
    assert other.end() == "ok" and db.orders.distinct("n") == [1]


def test_a_repeatable_one_is_carried_on_from_its_last_batch(site, db):
    text = BATCHES.replace("RATE", "1000").replace('{"n": 0}, lambda', "{}, lambda")        # would count twice if begun anew
    ours, migration = write(site, text)
    orders(db, 1000)
    victim = Other(site).go()
    wait_until(lambda: ours.state("m")["documents"] >= 200)
    victim.end(signal.SIGKILL)
    before = ours.state("m")["documents"]
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "ok" and before >= 200
    assert db.orders.count_documents({"n": 0}) == 0
    # only the batch that was under way may have been written a second time
    assert db.orders.count_documents({"n": 2}) <= 50 and ours.state("m")["run"] == RUN


def test_a_document_over_16_mib_is_named_and_the_rest_is_counted(site, db):
    """M05, written as plain updates."""
    ours, migration = write(site, HEAD + """
def up(db):
    for d in db.orders.find({}).sort("_id", 1):
        db.orders.update_one({"_id": d["_id"]}, {"$set": {"blob": "x" * (17_000_000 if d["_id"] == 500 else 10)}})
def count(db):
    return db.orders.count_documents({"blob": {"$exists": False}})
""")
    orders(db, 1000)
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "failed"
    for part in ("orders: document 500 would be about 17,0", "16,777,216", "499 documents are done", "501 are not"):
        assert part in result.detail
    state = ours.state("m")
    assert (state["state"], state["documents"], state["total"]) == ("failed", 499, 1000)


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_document_over_16_mib_in_a_batch_is_named(site, db, repeatable):
    """The server says no here: neither the document nor the change is too large by itself."""
    ours, migration = write(site, HEAD + f"""REPEATABLE = {repeatable}
def up(database, progress):
    grown = lambda d: {{"$set": {{"more": "x" * (9_000_000 if d["_id"] == 25 else 1)}}}}
    progress.batches(database.orders, {{"more": None}}, grown, size=10)
""")
    orders(db, 40)
    db.orders.update_one({"_id": 25}, {"$set": {"blob": "x" * 9_000_000}})
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "failed" and "orders: document 25 would be about 18,000" in result.detail
    assert "24 documents are done; 16 are not" in result.detail
    assert db.orders.count_documents({"more": "x"}) == 24


def test_what_others_change_meanwhile_is_not_lost(site, db):
    """A writer renames customers all the time; no order gets an old name back."""
    orders(db, 300, customer_name="a", seen=0)
    site.migrations = os.path.join(ROOT, "migrations")
    ours, stop = migrations.Migrations(site), threading.Event()
    last = {}

    def rename():
        n = 0
        while not stop.is_set():
            n += 1
            at = n % 300 + 1
            query = {"_id": at, "customer_name": {"$exists": True}}
            if db.orders.update_one(query, {"$set": {"customer_name": f"r{n}"}}).matched_count:
                last[at] = f"r{n}"
    thread = threading.Thread(target=rename)
    thread.start()
    wait_until(lambda: len(last) > 50)
    try:
        assert ours.run(ours.named(), RUN, "ann").outcome == "ok"
    finally:
        stop.set()
        thread.join()
    wrong = {order["_id"]: order for order in db.orders.find() if order["customer"] != {"name": last.get(order["_id"], "a")}}
    assert not wrong and len(last) > 50


def test_traffic_goes_on_meanwhile(site, db, client):
    """The lab's own code reads and writes orders all the time: nothing fails, and every order is readable at every moment."""
    sys.path.insert(0, os.path.join(ROOT, "lab", "apps"))
    try:
        import orders as lab
    finally:
        sys.path.pop(0)
    db.orders.insert_many([{"_id": f"{n:05d}", "customer_name": f"c{n}", "total": n} for n in range(3000)])
    site.migrations = os.path.join(ROOT, "migrations")
    ours, stop, asked, wrong = migrations.Migrations(site), threading.Event(), [0], []

    def users(shape):
        app = lab.Orders(site.database, shape)
        while not stop.is_set():
            try:
                if asked[0] % 10 == 0:
                    app.add("new", 1.0)
                wrong.extend(order for order in app.newest(50) if not order["customer"])
            except lab.Unavailable as trouble:
                wrong.append(str(trouble))
            asked[0] += 1
            time.sleep(0.005)
    threads = [threading.Thread(target=users, args=(shape,)) for shape in (lab.NESTED, lab.NESTED)]
    for thread in threads:
        thread.start()
    try:
        result = ours.run(ours.named(), RUN, "ann")
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert (result.outcome, result.evidence["documents"]) == ("ok", 3000)
    assert asked[0] > 10 and not wrong
    assert db.orders.count_documents({"customer_name": {"$exists": True}}) == 0


def test_a_rate_is_kept_and_progress_is_told(site, db):
    ours, migration = write(site, BATCHES.replace("RATE", "200"))
    orders(db, 300)
    began = time.monotonic()
    assert ours.run(migration, RUN, "ann").outcome == "ok"
    assert time.monotonic() - began > 1.0
    plan = ours.describe(migration)
    assert plan["state"] == "done"
    write(site, BATCHES.replace('"m"', '"m2"').replace("RATE", "None"), "m2.py")
    db.orders.update_many({}, {"$set": {"n": 0}})
    plan = ours.describe(ours.named())
    assert plan["count"] == 300 and 0.5 < plan["seconds"] < 3, "reckoned from the migration before it"


@pytest.mark.parametrize("text", [ONE_BY_ONE.replace("PAUSE", "0"), BATCHES.replace("RATE", "None")])
def test_stopped_by_a_person_it_says_how_far_it_came(site, db, text):
    ours, migration = write(site, text)
    orders(db, 500)
    asked = []
    result = ours.run(migration, RUN, "ann", stop=lambda: asked.append(1) or len(asked) > 8)
    assert result.outcome == "failed" and "stopped by a person" in result.detail
    done = db.orders.count_documents({"n": 1})
    assert 0 < done < 500 and f"{done} documents are done; {500 - done} are not" in result.detail
    assert ours.state("m")["state"] == "failed"


def test_a_driver_that_slept_too_long_writes_nothing_more(site, db):
    """Paused past its claim while another one carries on: no document is changed twice."""
    ours, migration = write(site, BATCHES.replace("RATE", "400").replace('{"n": 0}, lambda', "{}, lambda"))
    orders(db, 400)
    paused = Other(site, ttl=1.5).go()
    wait_until(lambda: ours.state("m")["documents"] >= 100)
    paused.process.send_signal(signal.SIGSTOP)
    time.sleep(1.6)
    done = db.orders.count_documents({"n": 1})
    assert ours.run(migration, RUN, "ann", ttl=1.5).outcome == "ok"
    twice = db.orders.count_documents({"n": 2})
    paused.process.send_signal(signal.SIGCONT)
    assert paused.end() == "unknown"
    assert db.orders.count_documents({"n": 2}) == twice <= 50 and done < 400
    assert ours.state("m")["state"] == "done" and ours.state("m")["run"] == RUN


def test_a_check_that_is_not_content_is_a_failure(site, db):
    ours, migration = write(site, HEAD + "def up(database): pass\ndef check(database): return '3 orders look odd'\n")
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "failed" and "its check says: 3 orders look odd" in result.detail


def test_ids_of_several_kinds_are_refused_not_half_done(site, db):
    ours, migration = write(site, BATCHES.replace("RATE", "None"))
    orders(db, 5)
    db.orders.insert_one({"_id": "text", "n": 0})
    result = ours.run(migration, RUN, "ann")
    assert result.outcome == "failed" and "several kinds (a number, str)" in result.detail
    assert db.orders.count_documents({"n": 1}) == 0


def test_a_database_that_dies_in_the_middle_is_unknown_and_carried_on_later(tmp_path):
    with Database(tmp_path / "db") as own:
        folder = tmp_path / "migrations"
        folder.mkdir()
        (folder / "m.py").write_text(BATCHES.replace("RATE", "500"))
        ours = migrations.Migrations(SimpleNamespace(name="shop", file="shop.yml", components=COMPONENTS, migrations=str(folder),
                                                     database=f"{own.uri}/shop", database_password=None))
        with own.client() as client:
            orders(client.shop, 600)
        results = []
        thread = threading.Thread(target=lambda: results.append(ours.run(ours.named("m"), RUN, "ann", ttl=4)))
        thread.start()
        wait_until(lambda: ours.state("m")["documents"] >= 100)
        own.stop(signal.SIGKILL)
        thread.join(60)
        assert not thread.is_alive() and results[0].outcome == "unknown" and "does not answer" in results[0].detail
        with pytest.raises(NoAnswer):
            ours.state("m")
        own.start()
        assert ours.state("m")["state"] == "started"
        assert ours.run(ours.named("m"), "later", "ann", ttl=4).outcome == "ok"
        with own.client() as client:
            assert client.shop.orders.distinct("n") == [1]
