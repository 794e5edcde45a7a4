"""A heartbeat with one fault, for the conformance check: wrong.py PORT FOLDER FAULT. With the fault `none` it has none."""

import gzip
import http.server
import json
import os
import sys
import threading
import time
import uuid
from urllib.parse import urlsplit

PORT, FOLDER, FAULT = int(sys.argv[1]), sys.argv[2], sys.argv[3]
STATE, START, LOCK = FOLDER + "/state", "same" if FAULT == "same start" else os.environ["INVOCATION_ID"], threading.Lock()
TAG = '"2.0.0-1/%s"' % START
BODIES = {"json": '{"state": "%s"}', "capitals": None, "not live": "not %s", "bom": "\ufeff%s", "html": "%s", "503 live": "%s",
          "two line ends": "%s\n", "blank behind": "%s "}
counted = {"slow": 0, "all": 0, "asked": 0}
memory = {}


def word():
    if FAULT == "forgets":
        return memory.get("word", "standby")
    try:
        with open(STATE) as file:
            return file.read().strip()
    except OSError:
        return "live" if FAULT == "live by default" else "standby"


def store(text):
    memory["word"] = text
    with LOCK:
        with open(STATE + ".new", "w") as file:
            file.write(text + "\n")
        os.rename(STATE + ".new", STATE)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def say(self, status, body, kind="text/plain", **headers):
        content = body.encode()
        if FAULT == "gzip":
            content, headers["Content-Encoding"] = gzip.compress(content), "gzip"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) + (40 if FAULT == "short" else 0)))
        self.send_header("Cache-Control", "max-age=60" if FAULT == "cached" else "no-store")
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.close_connection = True

    def do_GET(self):
        path = urlsplit(self.path).path
        with LOCK:
            counted["all"] += 1
            counted["asked"] += 1
        try:
            {"/heartbeat": self.heartbeat, "/heartbeat/detail": self.detail, "/slow": self.slow}.get(path, self.nothing)()
        finally:
            with LOCK:
                counted["all"] -= 1

    def do_HEAD(self):
        if FAULT == "no head":
            return self.say(405, "GET or PUT\n")
        self.do_GET()

    def heartbeat(self):
        text = word()
        if FAULT == "redirect":
            return self.say(302, "", Location="/heartbeat/")
        if FAULT == "one host" and self.headers["Host"] not in (None, "heartbeat"):
            return self.say(403, "host not allowed\n")
        if FAULT == "slow":
            time.sleep(0.015)
        if FAULT == "fickle" and counted["asked"] % 3 == 0:
            text = "live" if text == "standby" else "standby"
        body = text.upper() if FAULT == "capitals" else BODIES.get(FAULT, "%s") % text
        self.say(503 if FAULT == "503 live" else 200, body + "\n", "text/html" if FAULT == "html" else "text/plain")

    def detail(self):
        if FAULT == "no detail":
            return self.nothing()
        if FAULT == "counts itself":
            time.sleep(0.02)
        stored = os.path.exists(STATE)
        seen = {"version": "2.0.0-1", "start": START, "state": word(), "healthy": True, "in_flight": counted["slow"],
                "since_age": (time.time() - os.path.getmtime(STATE)) if stored else None, "balancers": []}
        if FAULT == "tells a problem":
            seen["problems"] = ["/etc/bgdeploy/balancers, line 3: live-2 is no address"]
        if FAULT == "new starts":
            seen["start"] = uuid.uuid4().hex
        if FAULT == "counts itself":
            seen["in_flight"] = counted["all"] - 1
        if FAULT == "never counts":
            seen["in_flight"] = 0
        if FAULT == "text age":
            seen["since_age"] = "1 s"
        if FAULT == "other state":
            seen["state"] = "unknown"
        self.say(200, json.dumps(seen), "application/json", **({} if FAULT == "no tag" else {"ETag": TAG}))

    def slow(self):
        with LOCK:
            counted["slow"] += 1
        time.sleep(1.2)
        with LOCK:
            counted["slow"] -= 1
        self.say(200, "slow\n")

    def nothing(self):
        self.say(404, "no such page\n")

    def do_PUT(self):
        given, body = self.headers.get("Authorization"), self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if not given and FAULT != "anybody":
            return self.say(401, "a token, please\n")
        if given not in (None, "Bearer correct-horse") and FAULT != "any token":
            return self.say(403, "wrong token\n")
        if self.headers.get("If-Match", TAG) != TAG and FAULT != "unconditional":
            return self.say(412, "runs %s\n" % TAG)
        if body not in ("live", "standby") and FAULT != "any body":
            return self.say(400, "live or standby\n")
        if FAULT == "sticks" and body == "standby":
            return self.say(500, "\x1b[31mno\n")
        if FAULT == "late":
            threading.Timer(0.5, store, [body]).start()
        else:
            store(body)
        self.say(200, body + "\n")

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64


Server(("127.0.0.1", PORT), Handler).serve_forever()
