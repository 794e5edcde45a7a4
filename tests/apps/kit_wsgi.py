"""A WSGI application on the heartbeat kit, for the tests: /slow?s=, /stream?n=, /work?s=, and / which tells its pid.

KIT_SETTINGS in the environment: JSON of the kit's settings; KIT_SICK: a file whose existence makes it sick.
"""

import json
import os
import time
from urllib.parse import parse_qs

from heartbeat_kit import Heartbeat

heartbeat = Heartbeat(healthy=lambda: not os.path.exists(os.environ["KIT_SICK"]), **json.loads(os.environ["KIT_SETTINGS"]))


def shop(environ, start_response):
    path, query = environ["PATH_INFO"], parse_qs(environ.get("QUERY_STRING", ""))
    seconds = float(query.get("s", ["0"])[0])
    if path == "/raise":
        raise RuntimeError("asked to")
    if path == "/work":
        with heartbeat.working():
            time.sleep(seconds)
    elif path == "/slow":
        time.sleep(seconds)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Version", heartbeat.version)])
    if path == "/stream":
        return drip(int(query["n"][0]), seconds)
    return [b"%d\n" % os.getpid()]


def drip(parts, seconds):
    for _ in range(parts):
        yield b"drop\n"
        time.sleep(seconds)


application = heartbeat.wsgi(shop)
