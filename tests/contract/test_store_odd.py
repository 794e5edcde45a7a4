"""The store when its contents are damaged, its disk says no, or its database drips or has an odd address."""

import errno
import fcntl
import json
import os
import socket
import threading

import pytest

from bgdeploy import clean
from bgdeploy.errors import BadInput, NoAnswer, Refused, Trouble
from bgdeploy.outside import lease as leases
from bgdeploy.outside import mongo as mongos
from bgdeploy.outside import store_file
from bgdeploy.site import Secret
from tests.contract.sshd import Sshd
from tests.databases import Database
from tests.stores import described, opened, soon


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    with Database(tmp_path_factory.mktemp("database")) as server:
        yield server


@pytest.fixture
def mongo(database, tmp_path):
    store = opened(described(f"{database.uri}/odd_{os.urandom(3).hex()}", tmp_path))
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path):
    return opened(described(f"file:{tmp_path}/store", tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", "null", "[" * 5000])
def test_a_hold_that_cannot_be_read_is_a_hold_wherever_it_lies(mongo, folder, tmp_path_factory, tmp_path, text):
    mongo.place._mongo.database.bgdeploy_locks.insert_one({"_id": "shop/hold", "hold": text})
    (tmp_path / "store/shop/hold.json").write_text(text)
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        ssh = {"user": "deploy", "identity": str(server.identity), "known_hosts": server.known(), "config": os.devnull}
        host = {"name": "lock-1", "stack": "green", "address": "127.0.0.1", "port": server.port}
        remote = opened(described(f"file:{tmp_path}/store", tmp_path, host=host, ssh=ssh))
        remote.hold("x", "ann")
        argv = ["/bin/sh", "-c", 'printf %s "$1" >~/.bgdeploy/shop.hold', "", text]
        assert remote.place._shell.run(remote.place._host, argv).exit == 0
        for store in (mongo, folder, remote):
            assert set(store.held()) == {"reason", "by", "since"}
            with pytest.raises(Refused, match="froze this site"):
                store.take({"who": "bob"})
            store.unhold()
            assert store.held() is None
        remote.close()


@pytest.mark.parametrize("left", [{"holder": 5}, {"holder": "[1]"}, {"holder": json.dumps({"who": "x"}), "ttl": "long"},
                                  {"renewed": "yesterday"}, {"taken": 5, "holder": "{"}, {}])
def test_a_lease_in_the_database_that_is_none_is_watched_and_then_replaced(mongo, monkeypatch, left):
    monkeypatch.setattr(leases.Slip.__init__, "__defaults__", tuple(
        0.6 if value == leases.TTL else value for value in leases.Slip.__init__.__defaults__))
    monkeypatch.setattr(leases, "TTL", 0.6)
    mongo.place._mongo.database.bgdeploy_locks.insert_one({"_id": "shop/lease", **left})
    assert mongo.holder()["text"].startswith("somebody on an unknown machine") or left.get("holder", "").startswith("{")
    with mongo.take({"who": "bob"}) as lease:
        assert lease.mine()


def test_a_disk_that_became_read_only_ends_a_run_in_no_traceback(folder, monkeypatch):
    lease = folder.take({"who": "ann"})
    folder.hold("x", "ann")

    def no(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    monkeypatch.setattr(store_file.os, "unlink", no)
    assert lease.release() is False
    for call in (folder.unhold, lambda: folder.forget("a")):
        with pytest.raises(Trouble, match="cannot be removed: Read-only file system"):
            call()
    monkeypatch.setattr(store_file.os, "listdir", no)
    for call in (folder.runs, folder.recent, folder.keys):
        with pytest.raises(NoAnswer, match="cannot be read: Read-only file system"):
            call()


def test_a_file_system_without_locks_is_no_answer(folder, monkeypatch):
    def no(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr(fcntl, "flock", no)
    with pytest.raises(NoAnswer, match="guard: cannot be locked: No locks available"):
        folder.take({"who": "ann"})


def test_an_event_nested_without_end_is_skipped_like_a_torn_one(folder, tmp_path):
    folder.append("r1", {"n": 1})
    with open(tmp_path / "store/shop/runs/r1.jsonl", "a") as f:
        f.write("[" * 100000 + "\n")
    folder.append("r1", {"n": 2})
    assert folder.events("r1") == [{"n": 1}, {"n": 2}]


class Dripping:
    """Between us and the database: from `drip` on, what it says comes a byte at a time."""

    def __init__(self, port):
        self.port, self.drip, self.over = port, threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.turn(self.accept)

    @staticmethod
    def turn(work, *arguments):
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def accept(self):
        try:
            while True:
                ours, theirs = self.listener.accept()[0], socket.create_connection(("127.0.0.1", self.port))
                self.turn(self.carry, ours, theirs)
                self.turn(self.carry, theirs, ours, self.drip)
        except OSError:
            pass

    def carry(self, source, target, slow=threading.Event()):
        try:
            while piece := source.recv(65536):
                for part in [piece[n:n + 1] for n in range(len(piece))] if slow.is_set() else [piece]:
                    target.sendall(part)
                    if slow.is_set() and self.over.wait(0.2):
                        return
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.listener.close()


def test_a_database_whose_answer_comes_in_drops_is_no_answer_within_seconds(database, tmp_path, monkeypatch):
    monkeypatch.setattr(mongos, "WHOLE", 1.0)
    with Dripping(database.port) as between:
        store = opened(described(f"mongodb://{between.address}/drip", tmp_path))
        store.append("r1", {"n": 1, "text": "x" * 200})
        between.drip.set()
        trouble = soon(lambda: store.events("r1"), limit=6)
        assert isinstance(trouble, NoAnswer) and "was not whole after 1 s" in trouble.sentence
        store.close()


def test_who_asks_for_longer_limits_in_the_address_gets_them(database, tmp_path, monkeypatch):
    monkeypatch.setattr(mongos, "WHOLE", 0.1)
    store = opened(described(f"{database.uri}/slow?socketTimeoutMS=20000", tmp_path))
    database.fail(["find"], blockConnection=True, blockTimeMS=800)
    assert store.events("r1") == []
    store.close()


@pytest.mark.parametrize("address", ["mongodb://ann:hunt[er22@127.0.0.1:1/x", "mongodb://ann:hunt\u2100er22@127.0.0.1:1/x"])
def test_a_password_with_any_sign_is_no_traceback_and_shown_nowhere(tmp_path, address):
    store = opened(described(address + "?serverSelectionTimeoutMS=300", tmp_path))
    trouble = soon(store.holder)
    assert isinstance(trouble, NoAnswer) and "er22" not in trouble.sentence and store.place._mongo.database_name == "x"


def test_a_database_that_may_not_be_called_so_is_bad_input(tmp_path):
    for address in ("mongodb://127.0.0.1/a.b", "mongodb://127.0.0.1/a%20b"):
        with pytest.raises(BadInput, match="makes no sense: .*database name"):
            opened(described(address, tmp_path)).holder()


def test_a_password_of_other_bytes_than_utf_8_is_bad_input(monkeypatch):
    os.environb[b"OUR_STORE"] = b"hunt\xe4er22"
    try:
        with pytest.raises(BadInput, match="is no UTF-8") as trouble:
            mongos.Mongo("mongodb://ann@127.0.0.1:1/x", Secret(env="OUR_STORE"), "store").ask(lambda database: None)
        assert "er22" not in trouble.value.sentence
    finally:
        del os.environ["OUR_STORE"]
        clean._hidden = ()


@pytest.mark.parametrize("left", [b"a\xc2\xa0b 1 2 3 4 5\n{}\n", b"a\x1cb c\n", rb"a\c b c", b"\0" * 64,
                                  b"\xff\xfe 1 2 3 4 5\n{}\n"])
def test_whatever_lies_on_the_lock_host_as_a_lease_is_watched_and_then_replaced(tmp_path, monkeypatch, left):
    monkeypatch.setattr(leases.Slip.__init__, "__defaults__", tuple(
        0.6 if value == leases.TTL else value for value in leases.Slip.__init__.__defaults__))
    with Sshd(tmp_path) as server:
        ssh = {"user": "deploy", "identity": str(server.identity), "known_hosts": server.known(), "config": os.devnull}
        host = {"name": "lock-1", "stack": "green", "address": "127.0.0.1", "port": server.port}
        store = opened(described(f"file:{tmp_path}/store", tmp_path, host=host, ssh=ssh))
        store.holder()
        place = store.place
        assert place._shell.run(place._host, ["/bin/sh", "-c", "cat >~/.bgdeploy/shop.lease"], stdin=left).exit == 0
        with store.take({"who": "bob"}) as lease:
            assert lease.mine()
        store.close()
