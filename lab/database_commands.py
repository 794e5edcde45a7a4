"""The lab's database: takes a command of the MongoDB wire protocol as a document, gives the answering document.

One lock: commands are atomic and every client sees one order. It is not MongoDB and says so in buildInfo: one member,
no transactions, no change streams. What it lacks is answered as error 238 or 59, never made up.
"""

import datetime
import itertools
import os
import socket
import threading
import time

import bson
import mongomock
from bson.int64 import Int64
from mongomock import codec_options
from pymongo.errors import DuplicateKeyError, PyMongoError, WriteError

from database_documents import DocumentCommands, collection_of, first_id, refuse
from database_storage import MAX_DOCUMENT, Disk, DocumentTooLarge, key_of

NAME = "bgdeploy lab database"
VERSION = "5.0.5"               # of MongoDB, whose behaviour mongomock 4.1 imitates
MAX_MESSAGE = 48000000
FIRST_BATCH = 101
CURSOR_IDLE = 600.0             # seconds after which a forgotten cursor is dropped, as in MongoDB
CODE_NAMES = {2: "BadValue", 9: "FailedToParse", 14: "TypeMismatch", 20: "IllegalOperation", 26: "NamespaceNotFound",
              27: "IndexNotFound", 43: "CursorNotFound", 48: "NamespaceExists", 59: "CommandNotFound", 72: "InvalidOptions",
              85: "IndexOptionsConflict", 238: "NotImplemented", 10334: "BSONObjectTooLarge", 11000: "DuplicateKey"}
WRITES = {"insert", "update", "delete", "findAndModify", "findandmodify", "createIndexes", "dropIndexes", "deleteIndexes",
          "create", "drop", "dropDatabase", "renameCollection", "aggregate"}


class HangUp(Exception):
    """A fail point asks to close the connection without an answer."""


class CommandTrouble(Exception):
    """An answer with one of MongoDB's error codes."""

    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.code = code


class Server(DocumentCommands):
    """All databases of one process.

    :param path: of the SQLite file, or None for one that forgets.
    :param test_commands: allow configureFailPoint, MongoDB's own means to break a server in tests.
    """

    trouble = CommandTrouble

    def __init__(self, path=None, test_commands=False):
        self.disk = Disk(path)
        self.connections = itertools.count(1)
        self._client = mongomock.MongoClient(_store=self.disk)
        self._client._codec_options = codec_options.CodecOptions()
        self._test_commands, self._fail = test_commands, None
        self._lock, self._started = threading.RLock(), time.monotonic()
        self._cursors, self._cursor_ids = {}, itertools.count(int.from_bytes(os.urandom(5), "big") << 16)

    def run(self, command, connection):
        """Answers one command; returns once what it changed is on disk.

        :raises HangUp: a fail point says so.
        """
        name = next(iter(command))
        try:
            self._fail_point(name)
            handler = getattr(self, "do_" + name, None)
            if handler is None:
                raise CommandTrouble(59, f"no such command: '{name}'")
            if "txnNumber" in command or "startTransaction" in command:
                raise CommandTrouble(20, "Transaction numbers are only allowed on a replica set member or mongos")
            with self._lock:
                answer, ticket = self._carry_out(handler, name in WRITES, command, connection)
            self.disk.settle(ticket)
            return {**answer, "ok": 1.0}
        except HangUp:
            raise
        except Exception as trouble:            # a client gets an error for whatever went wrong here, never silence
            return self.describe(trouble)

    def close(self):
        with self._lock:
            self.disk.close()

    def collection(self, command, key=None):
        name = command[key or next(iter(command))]
        if not isinstance(name, str) or not name:
            raise CommandTrouble(2, "collection name has invalid type")
        collection = collection_of(self._client, self.disk, f"{command['$db']}.{name}")
        collection.writing = self._writing
        return collection

    def made(self, collection):
        """The collection, which now exists."""
        if not collection.documents.is_created:
            collection.documents.keep_description()
        return collection

    def batch(self, command, namespace, documents):
        """The first batch of an answer; the rest waits for getMore as it is now.

        :param documents: iterable of RawBSONDocument.
        """
        size = command.get("batchSize", (command.get("cursor") or {}).get("batchSize", FIRST_BATCH))
        first, rest = cut(list(documents), size)
        number = 0
        if rest and not command.get("singleBatch"):
            number = next(self._cursor_ids)
            self._cursors[number] = (namespace, rest, time.monotonic())
        return {"cursor": {"firstBatch": first, "id": Int64(number), "ns": namespace}}

    def describe(self, trouble):
        """The answer that tells a client of an exception."""
        code, sentence = getattr(trouble, "code", None), str(trouble).split(", full error: ")[0]
        if isinstance(trouble, NotImplementedError):
            code, sentence = 238, f"{NAME} does not implement: {sentence}"
        elif isinstance(trouble, DocumentTooLarge):
            code, sentence = 10334, f"BSONObj size: {trouble.size} is invalid. Size must be between 0 and {MAX_DOCUMENT}"
        elif not isinstance(trouble, (CommandTrouble, PyMongoError, ValueError, TypeError, KeyError)):
            code, sentence = 8, f"{NAME} failed: {type(trouble).__name__}: {sentence}"
        code = code or (9 if isinstance(trouble, WriteError) else 2)
        answer = {"ok": 0.0, "errmsg": sentence, "code": code, "codeName": CODE_NAMES.get(code, f"Error{code}")}
        if isinstance(trouble, DuplicateKeyError):
            answer.update({key: trouble.details[key] for key in ("keyPattern", "keyValue") if key in (trouble.details or {})})
        return answer

    # handshake and housekeeping

    def do_hello(self, command, connection):
        return {"helloOk": True, "ismaster": True, "isWritablePrimary": True, "maxBsonObjectSize": MAX_DOCUMENT,
                "maxMessageSizeBytes": MAX_MESSAGE, "maxWriteBatchSize": 100000, "localTime": datetime.datetime.utcnow(),
                "logicalSessionTimeoutMinutes": 30, "connectionId": connection, "minWireVersion": 0, "maxWireVersion": 13,
                "readOnly": False}
    do_isMaster = do_ismaster = do_hello

    def do_buildInfo(self, command, connection):
        return {"version": VERSION, "versionArray": [int(part) for part in VERSION.split(".")] + [0], "bits": 64, "debug": False,
                "gitVersion": f"{NAME}: not MongoDB (mongomock {mongomock.__version__} over SQLite)", "modules": [NAME],
                "maxBsonObjectSize": MAX_DOCUMENT}
    do_buildinfo = do_buildInfo

    def do_ping(self, command, connection):
        return {}
    do_endSessions = do_refreshSessions = do_killSessions = do_getLastError = do_getlasterror = do_ping

    def do_startSession(self, command, connection):
        return {"id": {"id": bson.Binary(os.urandom(16), 4)}, "timeoutMinutes": 30}

    def do_serverStatus(self, command, connection):
        return {"host": socket.gethostname(), "version": VERSION, "process": NAME, "pid": Int64(os.getpid()),
                "uptime": time.monotonic() - self._started, "localTime": datetime.datetime.utcnow()}

    def do_connectionStatus(self, command, connection):
        return {"authInfo": {"authenticatedUsers": [], "authenticatedUserRoles": []}}

    def do_getParameter(self, command, connection):
        return {"featureCompatibilityVersion": {"version": VERSION.rpartition(".")[0]}}

    def do_configureFailPoint(self, command, connection):
        """MongoDB's `failCommand`: closeConnection, errorCode, blockConnection with blockTimeMS; mode off, alwaysOn, {times}."""
        if not self._test_commands or command["configureFailPoint"] != "failCommand":
            raise CommandTrouble(59, "no such command: 'configureFailPoint' (start with --test-commands)")
        mode = command["mode"]
        times = float("inf") if mode == "alwaysOn" else 0 if mode == "off" else mode["times"]
        self._fail = dict(command.get("data") or {}, times=times)
        return {}

    # cursors

    def do_getMore(self, command, connection):
        number = int(command["getMore"])
        if number not in self._cursors:
            raise CommandTrouble(43, f"cursor id {number} not found")
        namespace, documents, _ = self._cursors.pop(number)
        batch, rest = cut(documents, command.get("batchSize") or len(documents))
        now = time.monotonic()
        if rest:
            self._cursors[number] = (namespace, rest, now)
        self._cursors = {key: cursor for key, cursor in self._cursors.items() if now - cursor[2] < CURSOR_IDLE}
        return {"cursor": {"nextBatch": batch, "id": Int64(number if rest else 0), "ns": namespace}}

    def do_killCursors(self, command, connection):
        killed = [number for number in command["cursors"] if self._cursors.pop(int(number), None)]
        return {"cursorsKilled": killed, "cursorsNotFound": [n for n in command["cursors"] if n not in killed],
                "cursorsAlive": [], "cursorsUnknown": []}

    # collections and indexes

    def do_create(self, command, connection):
        refuse(command, "capped", "timeseries", "viewOn", "validator", "collation")
        documents = self.collection(command).documents
        if documents.is_created:
            raise CommandTrouble(48, f"Collection {documents.namespace} already exists.")
        documents.keep_description()
        return {}

    def do_drop(self, command, connection):
        documents = self.collection(command).documents
        if not documents.is_created:
            raise CommandTrouble(26, "ns not found")
        number = len(documents.indexes) + 1
        documents.drop()
        return {"ns": documents.namespace, "nIndexesWas": number}

    def do_dropDatabase(self, command, connection):
        for documents in list(self.disk[command["$db"]]._collections.values()):
            documents.drop()
        return {"dropped": command["$db"]}

    def do_renameCollection(self, command, connection):
        old, new = (self.disk.collection(command[key]) for key in ("renameCollection", "to"))
        if not old.is_created:
            raise CommandTrouble(26, f"Source collection {old.namespace} does not exist")
        if new.is_created and not command.get("dropTarget"):
            raise CommandTrouble(48, "target namespace exists")
        new.drop()
        for name, index in old.indexes.items():
            new.create_index(name, index)
        for raw in old.written.values():
            document = bson.decode(raw)
            new[key_of(document["_id"])] = document
        old.drop()
        new.keep_description()
        return {}

    def do_listCollections(self, command, connection):
        names = sorted(self.disk[command["$db"]].list_created_collection_names())
        wanted = (command.get("filter") or {}).get("name")
        found = [{"name": name, "type": "collection", "options": {}, "info": {"readOnly": False},
                  "idIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_"}} for name in names
                 if not isinstance(wanted, str) or name == wanted]
        if command.get("nameOnly"):
            found = [{"name": one["name"], "type": one["type"]} for one in found]
        return self.batch(command, command["$db"] + ".$cmd.listCollections", map(first_id, found))

    def do_listDatabases(self, command, connection):
        names = sorted(self.disk.list_created_database_names())
        return {"databases": [{"name": name, "sizeOnDisk": Int64(0), "empty": False} for name in names], "totalSize": Int64(0)}

    def do_createIndexes(self, command, connection):
        collection = self.collection(command)
        before = len(collection.documents.indexes) + 1
        for index in command["indexes"]:
            refuse(index, "collation", "wildcardProjection", "weights")
            keys = list(index["key"].items())
            if any(not isinstance(direction, (int, float)) for _, direction in keys):
                raise NotImplementedError(f"an index of type {keys}")
            if keys != [("_id", 1)]:
                options = ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression")
                collection.create_index(keys, name=index["name"], **{name: index[name] for name in options if name in index})
        collection.documents.keep_description()
        return {"numIndexesBefore": before, "numIndexesAfter": len(collection.documents.indexes) + 1,
                "createdCollectionAutomatically": False}

    def do_listIndexes(self, command, connection):
        documents = self.collection(command).documents
        if not documents.is_created:
            raise CommandTrouble(26, "ns does not exist: " + documents.namespace)
        found = [{"v": 2, "key": {"_id": 1}, "name": "_id_"}]
        found += [{"v": 2, **index, "key": dict(index["key"]), "name": name} for name, index in documents.indexes.items()]
        return self.batch(command, documents.namespace, map(first_id, found))

    def do_dropIndexes(self, command, connection):
        documents, wanted = self.collection(command).documents, command["index"]
        number = len(documents.indexes) + 1
        names = [name for name, index in documents.indexes.items()
                 if wanted in ("*", name) or isinstance(wanted, dict) and list(wanted.items()) == index["key"]]
        if not names and wanted != "*":
            raise CommandTrouble(27, f"index not found with name [{wanted}]")
        for name in names:
            documents.drop_index(name)
        documents.keep_description()
        return {"nIndexesWas": number}

    do_findandmodify = DocumentCommands.do_findAndModify
    do_deleteIndexes = do_dropIndexes

    def _carry_out(self, handler, writing, command, connection):
        self._writing = writing
        try:
            answer = handler(command, connection)
            self.disk.keep()                # a read, too, may have dropped documents by a TTL index
        except Exception:
            self.disk.keep_all_but_last()
            self.disk.hand_over()
            raise
        return answer, self.disk.hand_over()

    def _fail_point(self, name):
        with self._lock:
            point = self._fail
            if not point or name not in point.get("failCommands", ()) or point["times"] <= 0:
                return
            point["times"] -= 1
        if point.get("blockConnection"):
            time.sleep(point["blockTimeMS"] / 1000)
        if point.get("closeConnection"):
            raise HangUp()
        if point.get("errorCode"):
            raise CommandTrouble(point["errorCode"], "Failing command via 'failCommand' failpoint")


def cut(documents, count):
    """(a batch of at most `count` documents and 16 MiB, the rest); at least one document is in the batch."""
    size = 0
    for at, document in enumerate(documents):
        size += len(document.raw)
        if at >= count or at and size > MAX_DOCUMENT:
            return documents[:at], documents[at:]
    return documents, []
