"""web: pages built from what this host's own api says.

GET /, GET /slow?s=N
"""

import http.client
import json
import threading
from urllib.parse import urlsplit

from pages import Pages

PATIENCE = 5.0              # seconds that a page waits for the api

PAGE = """<!doctype html>
<title>Shop</title>
<h1>Shop</h1>
<p>{count} orders</p>
<p>web {version}, api {api}</p>
"""
WRONG = """<!doctype html>
<title>Shop</title>
<p>undefined</p>
"""


def application(settings, version, features):
    """The WSGI application. settings: {"api": "http://127.0.0.1:8081"}."""
    api = Api(settings["api"])

    def front(environ):
        try:
            orders = api.orders()
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            return 503, "text/plain", "the api does not answer: %s\n" % str(error)[:200]
        return 200, "text/html", (PAGE if features.right else WRONG).format(version=version, **orders)

    return Pages(version, {("GET", "/"): front})


class Api:
    """The host's own api over one kept connection a thread."""

    def __init__(self, url):
        self.place, self.mine = urlsplit(url), threading.local()

    def orders(self):
        """{"count", "api": its version}. Raises OSError, HTTPException, ValueError or KeyError when it gives no such answer."""
        status, body = self._get("/orders?newest=0")
        if status != 200:
            raise ValueError("it says %d" % status)
        found = json.loads(body.decode())
        return {"count": int(found["count"]), "api": found["version"]}

    def _get(self, path):
        """A kept connection may have been closed meanwhile; a fresh one gets one try, and its failure counts."""
        kept = getattr(self.mine, "connection", None)
        for connection in [kept] if kept else []:
            try:
                return self._ask(connection, path)
            except (OSError, http.client.HTTPException):
                connection.close()
        self.mine.connection = http.client.HTTPConnection(self.place.hostname, self.place.port, timeout=PATIENCE)
        return self._ask(self.mine.connection, path)

    def _ask(self, connection, path):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
