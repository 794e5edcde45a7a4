"""The database's wire, what it refuses, many clients at once, faults, and that nothing acknowledged is ever lost."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pymongo
import pytest
from pymongo import errors

from tests.databases import Database, client, code_of, db, own, server      # noqa: F401 (fixtures)
from tests.serving import ROOT


def test_a_session_may_be_used(client, db):
    db.a.insert_one({"_id": 1})
    with client.start_session() as session:
        assert db.a.find_one({}, session=session) == {"_id": 1}


def test_unacknowledged_writes_arrive(db):
    db.get_collection("w0", write_concern=pymongo.WriteConcern(w=0)).insert_one({"_id": 1})
    end = time.monotonic() + 5
    while db.w0.count_documents({}) == 0 and time.monotonic() < end:
        time.sleep(0.01)
    assert db.w0.count_documents({}) == 1


def test_36_mib_come_back_over_several_batches(db):
    big = "x" * (3 << 20)
    db.big.insert_many([{"_id": n, "s": big} for n in range(12)])
    assert sum(len(one["s"]) for one in db.big.find()) == 12 * len(big)


def test_an_unknown_command_has_its_code(db):
    assert code_of(lambda: db.command("nosuchcommand")) == 59
    assert db.command("ping")["ok"] == 1.0


def test_what_the_server_lacks_is_refused_and_never_made_up(client, db, own):
    db.a.insert_one({"_id": 1, "l": [1]})
    assert code_of(lambda: db.a.update_one({"_id": 1}, {"$set": {"l.$[e]": 2}}, array_filters=[{"e": 1}])) == 238
    assert code_of(lambda: db.a.update_one({"_id": 1}, [{"$set": {"l": 2}}])) == 238
    assert code_of(lambda: db.create_collection("c", capped=True, size=1000)) == 238
    assert code_of(lambda: db.a.create_index([("l", "text")])) == 238
    assert code_of(lambda: list(db.a.find().sort([("$score", 1)]))) == 238
    assert code_of(lambda: list(db.aggregate([{"$match": {}}]))) == 238
    with pytest.raises(errors.PyMongoError):
        db.a.watch().next()
    with pytest.raises(errors.PyMongoError), client.start_session() as session, session.start_transaction():
        db.a.insert_one({"t": 1}, session=session)
    assert db.a.count_documents({}) == 1


def test_it_says_what_it_is(client, own):
    said = client.admin.command("buildInfo")
    assert "not MongoDB" in said["gitVersion"] and "not MongoDB" in own.name


def test_junk_on_the_wire_ends_that_connection_only(client, own):
    truncated = b"\xff\0\0\0" + b"\0" * 8 + b"\xdd\7\0\0" + b"\0" * 20
    for junk in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(200), truncated,
                 b"\x24\0\0\0" + b"\0" * 8 + b"\xdd\7\0\0" + os.urandom(20),
                 b"\x15\0\0\0" + b"\0" * 8 + b"\xdd\7\0\0" + b"\0" * 5):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", own.port), timeout=2) as wire:
            wire.sendall(junk)
            wire.shutdown(socket.SHUT_WR)
            wire.recv(1000)
    assert client.admin.command("ping")["ok"] == 1.0


# many at once

def test_eight_clients_at_once_see_one_order(client, db):
    db.counters.insert_one({"_id": "n", "v": 0})
    db.jobs.insert_many([{"_id": n, "taken": None} for n in range(200)])
    claimed, winners = [], []

    def work(number):
        with pymongo.MongoClient(*client.address) as mine:
            own = mine[db.name]
            for _ in range(25):
                own.counters.update_one({"_id": "n"}, {"$inc": {"v": 1}})
                mine_now = own.jobs.find_one_and_update({"taken": None}, {"$set": {"taken": number}}, sort=[("_id", 1)])
                claimed.append(mine_now["_id"])
            try:
                own.race.insert_one({"_id": "one"})
                winners.append(number)
            except errors.DuplicateKeyError:
                return
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert db.counters.find_one()["v"] == 200
    assert sorted(claimed) == list(range(200))
    assert len(winners) == 1


# faults

def test_a_connection_cut_in_mid_command_is_a_network_error(client, db, own):
    own.fail(["insert"], closeConnection=True)
    with pytest.raises(errors.AutoReconnect):
        db.a.insert_one({"_id": 1})
    assert db.a.insert_one({"_id": 2}).inserted_id == 2


def test_an_error_and_a_delay_can_be_asked_for(client, db, own):
    own.fail(["insert"], errorCode=10107)
    with pytest.raises(errors.PyMongoError):
        db.a.insert_one({"_id": 1})
    own.fail(["find"], blockConnection=True, blockTimeMS=300)
    began = time.monotonic()
    assert db.a.find_one() is None
    assert time.monotonic() - began > 0.25
    own.fail([], times=0)
    assert db.a.insert_one({"_id": 3}).inserted_id == 3


def test_everything_is_there_after_a_restart(tmp_path):
    with Database(tmp_path / "db") as server:
        with server.client() as client:
            db = client.keep
            db.a.create_index("s", unique=True)
            db.a.insert_many([{"_id": n, "s": f"x{n}"} for n in range(1000)])
            db.a.update_one({"_id": 7}, {"$set": {"v": [1, {"x": None}]}})
            db.a.delete_many({"_id": {"$gte": 990}})
            db.gone.insert_one({})
            db.gone.drop()
            db.create_collection("empty")
        server.stop()
        server.start()
        with server.client() as client:
            db = client.keep
            assert db.a.count_documents({}) == 990
            assert db.a.find_one({"_id": 7}) == {"_id": 7, "s": "x7", "v": [1, {"x": None}]}
            assert [one["_id"] for one in db.a.find().limit(5)] == [0, 1, 2, 3, 4]
            assert code_of(lambda: db.a.insert_one({"s": "x7"})) == 11000
            assert sorted(db.list_collection_names()) == ["a", "empty"]


def test_what_cannot_be_served_is_said_in_a_sentence(tmp_path):
    """A file that is none of ours, one that another server has open, no such folder, a port that is taken."""
    (tmp_path / "text").write_text("not a database, " * 100)
    with Database(tmp_path / "db") as server:
        if server.name == "mongod":
            pytest.skip("about the lab's own server")
        for words, said in ((["--file", tmp_path / "text"], "file is not a database"),
                            (["--file", tmp_path / "no" / "folder"], "No such file"),
                            (["--file", tmp_path / "db" / "documents.sqlite"], "locked"),
                            (["--port", server.port], f"cannot listen on 127.0.0.1:{server.port}: Address already in use")):
            argv = [sys.executable, os.path.join(ROOT, "lab", "database.py"), "--port", "0", *map(str, words)]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
            assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_kill_9_under_load_loses_nothing_acknowledged(tmp_path):
    """Four writers insert and count; the server is killed in the middle, five times over. What was answered is there."""
    acknowledged, counted = [set() for _ in range(4)], [0] * 4
    with Database(tmp_path / "db") as server:
        with server.client() as client:
            client.load.counters.insert_many([{"_id": number, "v": 0} for number in range(4)])
        for life in range(5):
            stop = threading.Event()

            def write(number):
                with server.client(socketTimeoutMS=3000, retryWrites=False) as client:
                    for n in itertools.count():
                        try:
                            client.load.docs.insert_one({"_id": f"{life}-{number}-{n}"})
                            acknowledged[number].add(f"{life}-{number}-{n}")
                            client.load.counters.update_one({"_id": number}, {"$inc": {"v": 1}})
                            counted[number] += 1
                        except errors.PyMongoError:
                            return
                        if stop.is_set():
                            return
            threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            before, end = sum(map(len, acknowledged)), time.monotonic() + 30
            while sum(map(len, acknowledged)) < before + 40 and time.monotonic() < end:
                time.sleep(0.01)
            server.stop(signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join(30)
            server.start()
        with server.client() as client:
            there = {one["_id"] for one in client.load.docs.find()}
            values = {one["_id"]: one["v"] for one in client.load.counters.find()}
    assert sum(map(len, acknowledged)) >= 200
    assert set().union(*acknowledged) <= there
    # one increment of each life may have been carried out without being answered
    assert all(counted[number] <= values[number] <= counted[number] + 5 for number in range(4))
