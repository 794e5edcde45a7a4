"""Start a server process for a test on a free port of the loopback, ask it, and end it. Waits are bounded."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def listening(port):
    """Whether somebody takes connections there. Raises OSError if not."""
    socket.create_connection(("127.0.0.1", port), 2).close()
    return True


class Reply:
    """An HTTP answer: status, headers (as http.client has them), text."""

    def __init__(self, answer):
        self.status, self.headers = answer.status, answer.headers
        self.text = answer.read().decode("utf-8", "replace")


def ask(port, path="/heartbeat", method="GET", body=None, headers=(), source=None, timeout=10):
    """One request over a connection of its own. :param source: the loopback address it comes from."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout, source_address=(source, 0) if source else None)
    try:
        connection.request(method, path, body, dict(headers))
        return Reply(connection.getresponse())
    finally:
        connection.close()


def eventually(look, wanted, limit=10.0, pace=0.05):
    """Look until wanted(what was seen), for `limit` seconds at most; return what was seen last."""
    end = time.monotonic() + limit
    while True:
        seen = look()
        if wanted(seen) or time.monotonic() > end:
            return seen
        time.sleep(pace)


def in_child(work):
    """Run work() in a forked process; return its pid, not waited for."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


class Process:
    """A server in a session of its own.

    :param command: argv. :param ready: called until it returns true without OSError: then it serves.
    :raises AssertionError: with the end of its log, if it does not within `limit` seconds.
    """

    def __init__(self, command, environment, log, ready, limit=20):
        self.command, self.environment, self.log, self.ready, self.limit = command, environment, log, ready, limit
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=dict(os.environ, **self.environment),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if not eventually(self._up, bool, limit=self.limit):
            self.stop()
            with open(self.log, errors="replace") as log:
                raise AssertionError("it does not come up: %s\n%s" % (self.command, log.read()[-3000:]))

    def _up(self):
        if self.process.poll() is not None:
            return False
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ready()
        return False

    def stop(self, how=signal.SIGTERM):
        """End it and everything in its session; kill what does not end within ten seconds."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        eventually(self._gone, bool)            # its workers hold the port until they are

    def _gone(self):
        try:
            os.killpg(self.process.pid, 0)
            return False
        except ProcessLookupError:
            return True

    def restart(self):
        self.stop()
        self.start()
