"""What the store in a MongoDB does when that is down, mute, slow, loses connections, or has its clock set."""

import datetime
import os
import signal
import socket
import threading
import time
from dataclasses import replace

import pytest
from pymongo.errors import AutoReconnect

from bgdeploy.errors import BadInput, NoAnswer
from bgdeploy.outside.store import open_store
from bgdeploy.site import Secret
from tests.databases import Database
from tests.serving import eventually, free_port
from tests.stores import described, opened, site_of, soon


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    with Database(tmp_path_factory.mktemp("database")) as server:
        if server.name == "mongod":
            pytest.skip("breaks the server, which must be the lab's own")
        yield server


@pytest.fixture
def mongo(database, tmp_path):
    store = opened(described(f"{database.uri}/faults_{os.urandom(3).hex()}", tmp_path))
    yield store
    store.close()


def test_a_database_that_is_not_there_is_said_in_seconds(tmp_path):
    store = opened(described(f"mongodb://127.0.0.1:{free_port()}/x", tmp_path))
    for call in (lambda: store.take({"who": "bob"}), store.holder, store.held, lambda: store.append("r", {"n": 1}), store.runs):
        trouble = soon(call)
        assert isinstance(trouble, NoAnswer) and "does not answer" in trouble.sentence and "Topology" not in trouble.sentence


def test_a_database_that_accepts_and_says_nothing_is_said_in_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        store = opened(described(f"mongodb://127.0.0.1:{mute.getsockname()[1]}/x", tmp_path))
        assert isinstance(soon(lambda: store.take({"who": "bob"})), NoAnswer)


def test_a_database_that_is_stopped_costs_the_lease_and_nothing_hangs(database, mongo):
    lease = mongo.take({"who": "ann"}, ttl=6)
    database.send(signal.SIGSTOP)
    try:
        assert isinstance(soon(mongo.holder), NoAnswer)
        end = time.monotonic() + 18
        while lease.mine():
            assert time.monotonic() < end
            time.sleep(0.1)
        began = time.monotonic()
        assert lease.release() is False and time.monotonic() - began < 12
    finally:
        database.send(signal.SIGCONT)


@pytest.mark.parametrize("command", ["update", "find", "insert", "delete", "hello"])
def test_a_connection_lost_in_mid_command_has_a_known_outcome(database, mongo, command):
    """Asked again: what was carried out the first time is not taken for somebody else's."""
    database.fail([command, "isMaster"] if command == "hello" else [command], closeConnection=True)
    with mongo.take({"who": "ann"}) as lease:
        database.fail([command], closeConnection=True)
        assert lease.renew() and mongo.holder()["who"] == "ann"
        database.fail([command], closeConnection=True)
        mongo.append("r1", {"n": 1})
        mongo.append("r1", {"n": 1})
        assert len(mongo.events("r1")) == 1
        database.fail([command], closeConnection=True)
        mongo.remember("k", 5)
        assert mongo.recall("k") == 5
        database.fail([command], closeConnection=True)
        mongo.hold("x", "carol")
        assert mongo.unhold()["by"] == "carol"
        database.fail([command], closeConnection=True)
    assert mongo.holder() is None
    database.fail([], times=0)


def test_an_answer_lost_after_the_act_is_known_too(mongo, monkeypatch):
    """Every command is carried out, its connection ends before the answer, and it is asked again."""
    asked = mongo.place._mongo.ask

    def ask(call, again=True):
        answers = []

        def losing(database):
            answers.append(call(database))
            if len(answers) == 1:
                raise AutoReconnect("connection closed")
            return answers[-1]
        return asked(losing, again)
    monkeypatch.setattr(mongo.place._mongo, "ask", ask)
    for _ in range(2):
        with mongo.take({"who": "ann"}, ttl=0.5) as lease:
            assert lease.renew() and mongo.holder()["who"] == "ann"
        assert mongo.holder() is None
    left = mongo.take({"who": "ann"}, ttl=0.3)
    time.sleep(0.4)
    other = mongo.take({"who": "bob"})
    assert left.release() is False and other.mine() and other.release() is True
    mongo.append("r1", {"n": 1})
    mongo.remember("k", 1)
    mongo.hold("x", "carol")
    assert (mongo.events("r1"), mongo.recall("k"), mongo.unhold()["by"]) == ([{"n": 1}], 1, "carol")


def test_a_slow_database_is_waited_for_within_limits(database, mongo):
    database.fail(["update"], blockConnection=True, blockTimeMS=800)
    mongo.take({"who": "ann"}).release()
    database.fail(["find", "hello", "isMaster"], times=20, blockConnection=True, blockTimeMS=20000)
    try:
        assert isinstance(soon(lambda: mongo.take({"who": "bob"})), NoAnswer)
    finally:
        database.fail([], times=0)


def test_a_server_s_clock_that_jumps_ahead_steals_from_nobody(database, mongo):
    """The holder renews: however old the server's clock calls the lease, it is seen to live."""
    with mongo.take({"who": "ann"}, ttl=3) as lease:
        stop, hour = threading.Event(), datetime.timedelta(hours=1)

        def age():
            with database.client() as client:
                locks = client[mongo.place._mongo.database_name].bgdeploy_locks
                while not stop.is_set():
                    renewed = locks.find_one({})["renewed"]
                    if datetime.datetime.utcnow() - renewed < hour / 2:
                        locks.update_one({"renewed": renewed}, {"$set": {"renewed": renewed - hour}})
                    stop.wait(0.01)
        thread = threading.Thread(target=age)
        thread.start()
        assert eventually(lambda: mongo.holder()["expired"], bool)
        taken = []
        waiter = threading.Thread(target=lambda: taken.append(mongo.take({"who": "bob"}, ttl=3, wait=60)), daemon=True)
        waiter.start()
        time.sleep(3.5)
        stolen = bool(taken)
        stop.set()
        thread.join(10)
        assert not stolen and lease.mine()
    waiter.join(20)
    assert taken and taken[0].release()


@pytest.mark.parametrize("address, said", [
    ("mongodb://h/x?authMechanism=PERHAPS", "authmechanism"), ("mongodb://h/x?tlss=true", "tlss"),
    ("mongodb://ann@h/x?tls=true&tlsCAFile=/no/such/file", "/no/such/file"), ("mongodb://ann:hunt/er22@h/x", "written as %XX"),
    ("mongodb://ann:hunt@er22@h/x", "escaped")])
def test_what_the_address_asks_for_in_vain_is_refused_not_left_out(tmp_path, address, said):
    with pytest.raises(BadInput, match=said) as refused:
        opened(described(address, tmp_path)).holder()
    assert "er22" not in refused.value.sentence and "the address of h makes no sense" in refused.value.sentence


def test_the_address_is_checked_and_the_password_shown_nowhere(tmp_path, monkeypatch):
    for address in ("mongodb://", "mongodb://h:99999", "mongodb://h/?readPreference=perhaps", "mongodb://h:x/db"):
        with pytest.raises((BadInput, NoAnswer)) as trouble:
            opened(described(address, tmp_path)).holder()
        assert "Traceback" not in trouble.value.sentence
    port = free_port()
    address = f"mongodb://ann@127.0.0.1:{port},127.0.0.1:{free_port()}/x?replicaSet=rs0&authSource=admin"
    site = site_of(described(address, tmp_path))
    monkeypatch.setenv("STORE_PW", "hunter22")
    store = open_store(replace(site, store_password=Secret(env="STORE_PW")))
    trouble = soon(store.holder)
    assert "hunter22" not in trouble.sentence and "ann@" not in trouble.sentence and f"127.0.0.1:{port}" in trouble.sentence
    monkeypatch.delenv("STORE_PW")
    with pytest.raises(BadInput, match="STORE_PW is empty or not set"):
        open_store(replace(site, store_password=Secret(env="STORE_PW"))).holder()
    with pytest.raises(BadInput, match="neither file:PATH nor mongodb"):
        opened(described("redis://x", tmp_path))
