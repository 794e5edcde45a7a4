"""Start the lab's database (a real mongod where one is on the PATH) for a test, break it, end it. Waits are bounded.

BGDEPLOY_DATABASE_URI names another server for the battery; only databases whose names begin with bgdeploy_battery are touched
there, and what needs to break or restart the server is left out.
"""

import os
import shutil
import signal
import subprocess
import time
from urllib.parse import quote

import pymongo
import pytest
from pymongo import errors

from lab import database
from tests.serving import free_port


USER, PASSWORD = "deployer", "s3cret: of ünusual/signs?@%"


class Database:
    """A server process over a folder. :param test_commands: may be broken by fail points.

    :param authority: authority.Authority. The lab's own server then is as a site's: TLS only, a user with a password, and the
        primary of a replica set whose other member is away. `uri` has all of that but the password, which is PASSWORD.
    """

    def __init__(self, folder, test_commands=True, authority=None):
        self.folder, self.port, self._test_commands, self._process = str(folder), free_port(), test_commands, None
        os.makedirs(self.folder, exist_ok=True)
        argv, self.name = database.command("127.0.0.1", self.port, self.folder, self._test_commands)
        self.guarded = bool(authority) and self.name == database.OWN
        self.uri, self._argv = f"mongodb://127.0.0.1:{self.port}", argv
        if self.guarded:
            secret = os.path.join(self.folder, "password")
            with open(secret, "w", encoding="utf-8") as f:
                f.write(PASSWORD + "\n")
            self._argv += ["--user", USER, "--password-file", secret, "--certificate", authority.pem, "--replica-set", "shop"]
            self.options = f"?replicaSet=shop&tls=true&tlsCAFile={quote(authority.file, safe='')}&authSource=admin"
            self.uri = f"mongodb://{USER}@127.0.0.1:{self.port},127.0.0.1:{free_port()}"

    def address(self, name):
        """The address of one database, as it stands in an inventory."""
        return f"{self.uri}/{name}{self.options if self.guarded else ''}"

    def start(self):
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while True:
            try:
                with self.client(serverSelectionTimeoutMS=200) as client:
                    client.admin.command("ping")
                    return self
            except errors.PyMongoError:
                assert time.monotonic() < end and self._process.poll() is None, "the database did not start"

    def send(self, number):
        self._process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """Ends it and waits until it is gone. A stopped process is woken for that."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(20)

    def client(self, **options):
        if self.guarded:
            options = {"password": PASSWORD, **options}
        return pymongo.MongoClient(self.address("admin"), **{"serverSelectionTimeoutMS": 3000, **options})

    def fail(self, commands, times=1, **how):
        """The next `times` of these commands fail: closeConnection=True, errorCode=N, blockConnection=True with blockTimeMS=N."""
        with self.client() as client:
            client.admin.command("configureFailPoint", "failCommand", mode={"times": times} if times else "off",
                                 data={"failCommands": list(commands), **how})

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


URI = os.environ.get("BGDEPLOY_DATABASE_URI")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The Database that was started, or None where another server is named."""
    if URI:
        yield None
    else:
        with Database(tmp_path_factory.mktemp("database")) as started:
            yield started


@pytest.fixture(scope="module")
def client(server):
    with pymongo.MongoClient(URI or server.uri, serverSelectionTimeoutMS=3000) as client:
        yield client
        for name in client.list_database_names():
            if name.startswith("bgdeploy_battery"):
                client.drop_database(name)


@pytest.fixture
def db(client):
    """An empty database."""
    return client[f"bgdeploy_battery_{os.urandom(4).hex()}"]


@pytest.fixture
def own(server):
    """The lab's own server."""
    if server is None or server.name == "mongod":
        pytest.skip("asks for more than a MongoDB of somebody else's: its process, or what only ours lacks")
    return server


def code_of(call):
    """The error code of a refused call."""
    with pytest.raises(errors.PyMongoError) as refused:
        call()
    trouble = refused.value
    return trouble.details["writeErrors"][0]["code"] if isinstance(trouble, errors.BulkWriteError) else trouble.code
