"""Orders in the shared database, in the shape that a version writes; every version reads what it can of the others."""

import os
import threading
import time
import uuid

import pymongo
from pymongo.errors import PyMongoError

from versions import NESTED

AT_ONCE = 8                 # requests of one worker that may wait for the database; the rest of its threads stay free
REST = 1.0                  # seconds after a failure in which nobody asks again


class Unavailable(Exception):
    """The database does not answer, or answers with an error."""


class Orders:
    """The collection `orders`.

    A database that is down must not take the heartbeat with it: after a failure everybody is told at once for a second,
    and never more than AT_ONCE threads wait.
    """

    def __init__(self, url, shape):
        self.url, self.shape = url, shape
        self._clients, self._room, self._rest_until = {}, threading.BoundedSemaphore(AT_ONCE), 0.0

    def newest(self, count):
        """Some orders, as dicts with id, customer, total."""
        return self._ask(lambda orders: [read(document) for document in orders.find().limit(count)])

    def count(self):
        return self._ask(lambda orders: orders.estimated_document_count())

    def add(self, customer, total):
        """Store one order; return its id."""
        order = {"_id": uuid.uuid4().hex, "total": total}
        order.update({"customer": {"name": customer}} if self.shape == NESTED else {"customer_name": customer})
        self._ask(lambda orders: orders.insert_one(order))
        return order["_id"]

    def _ask(self, question):
        if time.monotonic() < self._rest_until:
            raise Unavailable("the database did not answer a moment ago")
        if not self._room.acquire(timeout=0.2):
            raise Unavailable("the database is slow: too many requests wait for it")
        try:
            return question(self._collection())
        except PyMongoError as error:
            self._rest_until = time.monotonic() + REST
            raise Unavailable("the database does not answer: %s" % str(error).split(", Timeout")[0][:120])
        finally:
            self._room.release()

    def _collection(self):
        """A client a process: MongoClient does not survive a fork."""
        if os.getpid() not in self._clients:
            self._clients[os.getpid()] = pymongo.MongoClient(
                self.url, serverSelectionTimeoutMS=1000, connectTimeoutMS=1000, socketTimeoutMS=2000, retryWrites=False)
        return self._clients[os.getpid()].get_default_database()["orders"]


def read(document):
    """One stored order in whichever shape -> {"id", "customer", "total"}."""
    nested = document.get("customer")
    name = nested.get("name") if isinstance(nested, dict) else document.get("customer_name")
    return {"id": str(document["_id"]), "customer": name or "", "total": document.get("total", 0)}
