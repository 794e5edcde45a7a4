"""What both applications need of WSGI: routes, plain answers, and the two headers that say who answered."""

import socket
import sys
import time
import traceback
from http.client import responses
from urllib.parse import parse_qs

SLOWEST = 120.0             # seconds that /slow may take


class Pages:
    """A WSGI application of routes: {(method, path): function(environ) -> (status, content type, text)}; /slow comes with it."""

    def __init__(self, version, routes):
        self.version, self.routes = version, dict(routes)
        self.routes["GET", "/slow"] = self.slow

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        route = self.routes.get(("GET" if method == "HEAD" else method, path))
        try:
            status, kind, text = route(environ) if route else (404, "text/plain", "no such page\n")
        except Exception:
            traceback.print_exc(file=sys.stderr)
            status, kind, text = 500, "text/plain", "internal error\n"
        body = text.encode()
        start_response("%d %s" % (status, responses[status]),
                       [("Content-Type", kind + "; charset=utf-8"), ("Content-Length", str(len(body)))])
        return [b"" if method == "HEAD" else body]

    def slow(self, environ):
        """A request that takes ?s= seconds: what a drain has to wait for."""
        try:
            seconds = float(parse_qs(environ.get("QUERY_STRING", "")).get("s", ["1"])[0])
        except ValueError:
            return 400, "text/plain", "s is a number of seconds\n"
        time.sleep(min(max(seconds, 0.0), SLOWEST))
        return 200, "text/plain", "slow %s\n" % self.version


def signed(application, version):
    """The application with X-Served-By and X-Version on every answer, the heartbeat's too."""
    headers = [("X-Served-By", socket.gethostname()), ("X-Version", version)]

    def sign(environ, start_response):
        return application(environ, lambda status, given, *more: start_response(status, list(given) + headers, *more))
    return sign
