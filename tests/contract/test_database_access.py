"""The database as a site has it: TLS, a user with a password, a replica set. Asked through the same library as the store."""

import dataclasses
import os
import threading

import pymongo
import pytest
from bson.int64 import Int64
from pymongo import errors

from bgdeploy.errors import BadInput, NoAnswer, Refused
from bgdeploy.outside.mongo import Mongo
from bgdeploy.outside.store import open_store
from bgdeploy.site import Secret
from tests.authority import authority  # noqa: F401  (a fixture)
from tests.databases import PASSWORD, Database, code_of
from tests.stores import described, site_of, soon


@pytest.fixture(scope="module")
def server(tmp_path_factory, authority):  # noqa: F811
    with Database(tmp_path_factory.mktemp("database"), authority=authority) as started:
        if not started.guarded:
            pytest.skip("a mongod on the PATH is started without users, TLS and replica set")
        yield started


@pytest.fixture
def password(server):
    return Secret(file=os.path.join(server.folder, "password"))


def asked(server, secret, address=None):
    mongo = Mongo(address or server.address("shop"), secret, "store")
    try:
        return mongo.ask(lambda database: database.notes.count_documents({}))
    finally:
        mongo.close()


def test_the_right_user_is_let_in_and_the_set_is_found_with_a_member_away(server, password):
    assert asked(server, password) == 0


def test_a_wrong_password_is_refused_in_a_sentence_that_shows_none(server, tmp_path, monkeypatch):
    monkeypatch.setenv("STORE_PASSWORD", "hunter2")
    with pytest.raises(Refused) as refused:
        asked(server, Secret(env="STORE_PASSWORD"))
    assert refused.value.sentence.endswith("refuses us: Authentication failed.")
    assert "store_password_file" in refused.value.next_command


def test_another_user_and_nobody_are_refused(server, password):
    address = server.address("shop")
    for other in (address.replace("deployer@", "stranger@"), address.replace("deployer@", "").replace("&authSource=admin", "")):
        with pytest.raises(Refused):
            asked(server, None if "@" not in other else password, other)


@pytest.mark.parametrize("change", [
    lambda text: text.replace("127.0.0.1", "localhost"),                            # not a name that the certificate has
    lambda text: text.partition("&tlsCAFile=")[0] + "&authSource=admin",            # nobody vouches for the certificate
    lambda text: text.replace("tls=true", "tls=false").replace("&tlsCAFile", "&appName"),      # plain words at a TLS port
    lambda text: text.replace("replicaSet=shop", "replicaSet=other")])
def test_who_is_not_proved_to_be_the_database_is_silent_to_us(server, password, change):
    trouble = soon(lambda: asked(server, password, change(server.address("shop"))))
    assert isinstance(trouble, NoAnswer) and PASSWORD not in trouble.sentence


def test_a_file_of_authorities_that_is_missing_is_named(server, password):
    with pytest.raises(BadInput, match="No such file|not exist|makes no sense"):
        asked(server, password, server.address("shop").replace("ca.pem", "none.pem"))


def test_a_write_that_the_driver_repeats_is_done_once(server):
    """Retryable writes: only in a replica set does the library send one again, with the same number."""
    with server.client() as client:
        notes = client.retried.notes
        server.fail(["insert"], closeConnection=True)
        notes.insert_one({"_id": 1})
        assert notes.count_documents({}) == 1
        session = {"id": client.start_session().session_id["id"]}
        one = {"update": "notes", "updates": [{"q": {"_id": 1}, "u": {"$inc": {"n": 1}}}], "lsid": session}
        for number in (1, 1, 2, 2):
            client.retried.command({**one, "txnNumber": Int64(number)})
        assert notes.find_one({"_id": 1})["n"] == 2
        server.fail(["update"], errorCode=2)
        assert code_of(lambda: client.retried.command({**one, "txnNumber": Int64(3)})) == 2
        client.retried.command({**one, "txnNumber": Int64(3)})
        assert notes.find_one({"_id": 1})["n"] == 3, "what failed was not done"


@pytest.mark.parametrize("code", [10107, 189, 11600])       # not the primary any more; stepped down; shutting down
def test_a_set_that_votes_in_mid_command_costs_no_lease(server, password, tmp_path, code):
    site = dataclasses.replace(site_of(described(server.address(f"votes_{code}"), tmp_path)), store_password=password)
    store = open_store(site, None)
    try:
        with store.take({"who": "ann"}) as lease:
            for command in ("find", "update", "findAndModify", "insert"):
                server.fail([command], errorCode=code)
                assert lease.renew() and store.holder()["who"] == "ann"
                store.append("r1", {"n": 1})
            assert store.events("r1") == [{"n": 1}]
        assert store.holder() is None
    finally:
        server.fail([], times=0)
        store.close()


def test_what_comes_before_a_name_is_only_a_greeting(server, authority):  # noqa: F811
    with pymongo.MongoClient("127.0.0.1", server.port, tls=True, tlsCAFile=authority.file, directConnection=True,
                             serverSelectionTimeoutMS=3000) as client:
        assert client.admin.command("hello")["setName"] == "shop"
        for command in ({"insert": "notes", "documents": [{}]}, {"find": "notes"}, {"listDatabases": 1}, {"buildInfo": 1},
                        {"configureFailPoint": "failCommand", "mode": "off"}):
            assert code_of(lambda: client.admin.command(command)) == 13
        assert code_of(lambda: client.admin.command({"saslStart": 1, "mechanism": "PLAIN", "payload": b"x"})) == 2
        assert code_of(lambda: client.admin.command({"saslContinue": 1, "conversationId": 1, "payload": b""})) == 18


def test_many_begin_at_once(server, password):
    """Each connection has a conversation of its own."""
    ends = []
    threads = [threading.Thread(target=lambda: ends.append(asked(server, password))) for _ in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert ends == [0] * 12


def test_a_client_that_speaks_junk_ends_its_own_connection_only(server, password, authority):  # noqa: F811
    with pymongo.MongoClient("127.0.0.1", server.port, tls=True, tlsCAFile=authority.file, directConnection=True,
                             serverSelectionTimeoutMS=3000) as client:
        first = {"saslStart": 1, "mechanism": "SCRAM-SHA-256"}
        for payload in (b"", b"n,,", b"\xff\xfe", b"n,,n=deployer"):
            with pytest.raises(errors.PyMongoError):
                client.admin.command({**first, "payload": payload})
    assert asked(server, password) == 0
