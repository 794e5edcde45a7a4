"""What the heartbeat kit costs a request: called directly, and under gunicorn. Prints minimum, median and maximum of the rounds.

    /usr/bin/python3 -m bench.heartbeat_kit [--rounds 7]
"""

import argparse
import contextlib
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from heartbeat_kit import Heartbeat

CALLS = 20000
REQUESTS = 3000
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def shop(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\n"]


def with_kit(folder, **settings):
    os.makedirs(os.path.join(folder, "shop"), exist_ok=True)
    heartbeat = Heartbeat("shop", "1.0.0-1", state_dir=folder, **settings)
    heartbeat.state.set("live")
    return heartbeat.wsgi(shop)


if "KIT_BENCH" in os.environ:           # imported by gunicorn
    plain, kit = shop, with_kit(os.environ["KIT_BENCH"], balancers=["127.0.0.9 live"])


def called(application):
    """Seconds a call, as a server would make it: the body iterated and closed."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REMOTE_ADDR": "10.0.0.1"}
    began = time.perf_counter()
    for _ in range(CALLS):
        body = application(environ, lambda status, headers: None)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()
    return (time.perf_counter() - began) / CALLS


def asked(port):
    """Seconds a request over one kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    began = time.perf_counter()
    for _ in range(REQUESTS):
        connection.request("GET", "/")
        connection.getresponse().read()
    spent = time.perf_counter() - began
    connection.close()
    return spent / REQUESTS


@contextlib.contextmanager
def gunicorn(name, folder):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = "%s -m gunicorn -w 2 --threads 4 -b 127.0.0.1:%d --log-level error bench.heartbeat_kit:%s"
    server = subprocess.Popen((command % (sys.executable, port, name)).split(), cwd=ROOT, env=dict(os.environ, KIT_BENCH=folder))
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                asked(port)
                break
            time.sleep(0.1)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def show(what, without, given):
    for name, times in (("without the kit", without), ("with the kit", given)):
        print("%-16s %-16s min %8.2f  median %8.2f  max %8.2f us" % (
            what, name, *(1e6 * f(times) for f in (min, statistics.median, max))))
    less, more = statistics.median(without), statistics.median(given)
    print("%-16s %-16s %.2f us more, ratio %.3f (medians)" % (what, "", 1e6 * (more - less), more / less))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        guarded, plain = with_kit(folder, balancers=["10.0.0.1 live"]), with_kit(folder, balancers=["10.0.0.9 live"])
        turns = [(called(shop), called(plain), called(guarded)) for _ in range(rounds)]
        show("called", [t[0] for t in turns], [t[1] for t in turns])
        show("called by LIVE", [t[0] for t in turns], [t[2] for t in turns])
        with gunicorn("plain", folder) as without, gunicorn("kit", folder) as given:
            turns = [(asked(without), asked(given)) for _ in range(rounds)]     # in turns, so that both meet the same machine
        show("under gunicorn", [t[0] for t in turns], [t[1] for t in turns])


if __name__ == "__main__":
    main()
