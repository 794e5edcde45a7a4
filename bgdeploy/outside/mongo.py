"""One connection to a MongoDB with answers within seconds: the library of store_mongo.py and migrations.py.

The address is passed through as typed, replica sets and TLS options included; the password comes by reference and is shown
nowhere. What MongoDB calls a network error is NoAnswer here: nobody knows whether the command was carried out.
"""

import os
import re
import select
import threading
import urllib.parse
import warnings

import pymongo
from pymongo import errors

from bgdeploy import clean
from bgdeploy.errors import BadInput, NoAnswer, Refused

# Milliseconds, where the address does not say otherwise. With them each `ask` ends within six seconds...
_DEFAULTS = {"serverSelectionTimeoutMS": 2500, "connectTimeoutMS": 2500, "socketTimeoutMS": 3000, "wTimeoutMS": 3000,
             "w": "majority", "appName": "bgdeploy"}
# ... unless the answer comes in drops: pymongo's limit begins anew with each (measured with 3.11). Then it ends after these
# seconds, or twice what the address itself allows.
WHOLE = 15.0
_LIMITS = re.compile(r"(?i)[?&](?:serverSelection|connect|socket|w)TimeoutMS=([0-9]{1,9})(?![^&])")
_NOT_ALLOWED = (13, 18, 8000)       # Unauthorized, AuthenticationFailed, and the latter as hosted MongoDBs spell it


class Mongo:
    """:param address: mongodb://... or mongodb+srv://... :param password: site.Secret or None. :param what: "store", "database".
    :param default: the database where the address names none. :param options: of MongoClient, over our own defaults.
    Nothing is contacted before the first call.
    """

    def __init__(self, address, password, what, default="bgdeploy", **options):
        self.what, self.where = what, _where(address)
        self._address, self._password, self._default, self._options = address, password, default, options
        self._client, self._lock = None, threading.Lock()

    @property
    def client(self):
        """The pymongo.MongoClient."""
        with self._lock:
            if self._client is None:
                self._client = self._open()
            return self._client

    @property
    def database_name(self):
        # not urlsplit: it stumbles over signs of a password, and shows it
        path = self._address.partition("://")[2].partition("?")[0].rpartition("@")[2].partition("/")[2].strip("/")
        return urllib.parse.unquote(path) or self._default

    @property
    def database(self):
        return self.client[self.database_name]

    def ask(self, call, again=True):
        """call(database) with its troubles as ours. :param again: may be called a second time when the connection was lost.

        :raises NoAnswer: no connection, or no answer in time. :raises Refused: the database does not let us.
        :raises pymongo.errors.PyMongoError: any other answer of the server, DuplicateKeyError for instance.
        """
        ours, theirs = os.pipe()        # waited for by poll: libfaketime, by which clocks are tried, bends a lock's time-out
        found = []

        def work():
            try:
                found.append((self._asked(call, again), None))
            except BaseException as trouble:
                found.append((None, trouble))
            finally:
                os.close(theirs)
        limit = max(WHOLE, 2 * sum(map(int, _LIMITS.findall(self._address))) / 1000)
        try:
            threading.Thread(target=work, name="mongo", daemon=True).start()
            waiting = select.poll()
            waiting.register(ours, select.POLLIN)
            waiting.poll(1000 * limit)
        finally:
            os.close(ours)
        if not found:
            raise NoAnswer(f"the {self.what} at {self.where} does not answer: what it sends was not whole after {limit:g} s")
        value, trouble = found[0]
        if trouble is not None:
            raise trouble
        return value

    def _asked(self, call, again):
        for second in (False, True):
            try:
                return call(self.database)
            except errors.ServerSelectionTimeoutError as e:
                raise self.silent(e) from None
            except (errors.AutoReconnect, errors.CursorNotFound) as e:
                if second or not again or isinstance(e, errors.NetworkTimeout):     # a second silence would cost too long
                    raise self.silent(e) from None
            except (errors.ExecutionTimeout, errors.WTimeoutError, errors.InvalidOperation) as e:
                raise self.silent(e) from None
            except (errors.ConfigurationError, errors.InvalidName) as e:
                raise self._wrong(e) from None
            except errors.OperationFailure as e:
                if e.code in _NOT_ALLOWED:
                    raise Refused(f"the {self.what} at {self.where} refuses us: {_words(e)}",
                                  f"check the user in {self.what}: and {self.what}_password_file or _env") from None
                raise

    def silent(self, trouble):
        """The NoAnswer for a pymongo exception."""
        return NoAnswer(f"the {self.what} at {self.where} does not answer: {_words(trouble)}")

    def now(self):
        """The server's clock, as a naive datetime in UTC with milliseconds."""
        def hello(database):
            try:
                return database.client.admin.command("hello")
            except errors.OperationFailure as e:
                if e.code != 59:            # before MongoDB 4.4.2 the command had another name
                    raise
                return database.client.admin.command("isMaster")
        return self.ask(hello)["localTime"]

    def close(self):
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _open(self):
        typed = self._address.lower()
        options = {name: value for name, value in _DEFAULTS.items() if f"{name.lower()}=" not in typed}
        options.update(self._options)
        if self._password:
            options["password"] = _reveal(self._password, self.what)
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", UserWarning)
                client = pymongo.MongoClient(self._address, connect=False, **options)
        except pymongo.errors.ServerSelectionTimeoutError as e:
            raise self.silent(e) from None
        except (pymongo.errors.PyMongoError, ValueError, TypeError, OSError) as e:      # the latter: a file of certificates
            raise self._wrong(e) from None
        for one in told:        # what it cannot use it leaves out: a misspelt authMechanism, or tls itself
            if one.category is UserWarning and "pymongo" in one.filename:
                client.close()
                raise self._wrong(one.message)
        return client

    def _wrong(self, trouble):
        if "@" in self._address.partition("://")[2].partition("/")[2].partition("?")[0]:    # none of it may be shown
            return BadInput(f"{self.what}: the address of {self.where} makes no sense: its user, password or database holds a "
                            f"sign that must be written as %XX there")
        if "DNS" in str(trouble) or "timed out" in str(trouble):        # mongodb+srv asks the name service first
            return self.silent(trouble)
        return BadInput(f"{self.what}: the address of {self.where} makes no sense: {clean.line(trouble, 200)}")


def too_large(trouble):
    """Is this pymongo exception about a document over 16 MiB? The client's check, or the server's codes 10334 and 17419."""
    codes = {getattr(trouble, "code", None)}
    codes |= {error.get("code") for error in (getattr(trouble, "details", None) or {}).get("writeErrors", ())}
    return isinstance(trouble, errors.DocumentTooLarge) or bool(codes & {10334, 17419, 17420})


def _words(trouble):
    """What a pymongo exception says, without the library's dump of the topology or of the whole answer behind it."""
    text = re.split(r", Timeout: |, Topology Description: |, full error: ", str(trouble))[0]
    return clean.line(text, 200) or type(trouble).__name__


def _where(address):
    """host:port[,host:port] of an address: without user, password and options."""
    rest = address.partition("://")[2].partition("?")[0]
    return clean.line(rest.rpartition("@")[2].partition("/")[0] or "an unnamed host", 200)      # a password may hold a slash


def _reveal(secret, what):
    if secret.env:
        text, where = os.environ.get(secret.env), f"the environment variable {secret.env}"
    else:
        where = f"the file {secret.file}"
        try:
            with open(secret.file, encoding="utf-8") as f:
                text = f.read(4096)
        except (OSError, UnicodeDecodeError) as e:
            raise BadInput(f"{what}: the password in {where} cannot be read: {getattr(e, 'strerror', e)}") from None
    text = (text or "").strip("\r\n")
    if not text:
        raise BadInput(f"{what}: the password in {where} is empty or not set; put it there")
    if any("\ud800" <= sign <= "\udfff" for sign in text):        # bytes of a variable that are no UTF-8
        raise BadInput(f"{what}: the password in {where} is no UTF-8, which MongoDB's are")
    clean.hide(text)
    return text
