"""A heartbeat such as many applications have, without the kit: two words, a token, and nothing that outlives a restart.

    "without_kit": "standby"     begins in standby after each start: what it was told is lost
    "without_kit": "live"        begins live after each start, tested or not

GET /heartbeat, PUT /heartbeat, GET /version; no detail view, no start id, no count of requests.
"""

import os

WORDS = ("live", "standby")


class Plain:
    """The same place in front of an application as heartbeat_kit.Heartbeat has. Workers share a file that each start replaces."""

    def __init__(self, component, version, begins, token_file="/etc/bgdeploy/heartbeat-token", state_dir=None):
        self.version, self.token_file = version, token_file
        self.file = os.path.join(state_dir or os.environ.get("RUNTIME_DIRECTORY", "."), component + ".word")
        self._store(begins)

    def wsgi(self, application):
        def plain(environ, start_response):
            answer = self._answer(environ)
            if answer is None:
                return application(environ, start_response)
            status, text = answer
            start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text.encode()]
        return plain

    def _answer(self, environ):
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/version":
            return "200 OK", self.version + "\n"
        if path != "/heartbeat":
            return None
        if method == "PUT":
            return self._flip(environ)
        with open(self.file) as file:
            return "200 OK", file.read()

    def _flip(self, environ):
        with open(self.token_file) as file:
            if environ.get("HTTP_AUTHORIZATION") != "Bearer " + file.read().strip():
                return "403 Forbidden", "wrong token\n"
        word = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode("utf-8", "replace").strip()
        if word not in WORDS:
            return "400 Bad Request", "live or standby\n"
        self._store(word)
        return "200 OK", word + "\n"

    def _store(self, word):
        new = "%s.%d" % (self.file, os.getpid())
        with open(new, "w") as file:
            file.write(word + "\n")
        os.rename(new, self.file)
