"""Start the lab's database (a real mongod where one is on the PATH) for a test, break it, end it. Waits are bounded."""

import os
import shutil
import signal
import subprocess
import time

import pymongo

from lab import database
from tests.serving import free_port


class Database:
    """A server process over a folder. :param test_commands: may be broken by fail points."""

    def __init__(self, folder, test_commands=True):
        self.folder, self.port, self._test_commands, self._process = str(folder), free_port(), test_commands, None
        self.uri = f"mongodb://127.0.0.1:{self.port}"
        os.makedirs(self.folder, exist_ok=True)

    def start(self):
        argv, self.name = database.command("127.0.0.1", self.port, self.folder, self._test_commands)
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while True:
            try:
                with pymongo.MongoClient(self.uri, serverSelectionTimeoutMS=200) as client:
                    client.admin.command("ping")
                    return self
            except pymongo.errors.PyMongoError:
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
        return pymongo.MongoClient(self.uri, serverSelectionTimeoutMS=3000, **options)

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
