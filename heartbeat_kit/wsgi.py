"""The heartbeat in front of a WSGI application (PEP 3333), and the count of its requests."""

from http.client import responses

from .wire import SHORT, Request


class Middleware:
    """Answers the heartbeat's paths itself; counts every other request until its answer is closed."""

    def __init__(self, heartbeat, application):
        self.heartbeat, self.application = heartbeat, application

    def __call__(self, environ, start_response):
        heartbeat = self.heartbeat
        if heartbeat.mine(environ.get("PATH_INFO", "")):
            return _send(heartbeat.answer(_request(environ)), environ, start_response)
        if heartbeat.guarded(environ.get("REMOTE_ADDR", "")):
            return _send(heartbeat.refusal(), environ, start_response)
        board = heartbeat.board
        board.enter()
        try:
            body = self.application(environ, start_response)
            return (Sized if hasattr(body, "__len__") else Counted)(body, board.leave)
        except BaseException:
            board.leave()
            raise


class Counted:
    """An answer's body that is counted out exactly once: when the server closes it, or at the latest when it is forgotten."""

    __slots__ = ("body", "leave")

    def __init__(self, body, leave):
        self.body, self.leave = body, leave

    def __iter__(self):
        return iter(self.body)

    def close(self):
        leave, self.leave = self.leave, None
        if leave is None:
            return
        try:
            if hasattr(self.body, "close"):
                self.body.close()
        finally:
            leave()

    __del__ = close


class Sized(Counted):
    """A body of known parts: servers derive Content-Length from one of one part. They ask any body that has a length."""

    __slots__ = ()

    def __len__(self):
        return len(self.body)


def _request(environ):
    def header(name, missing=""):
        value = environ.get("HTTP_" + name.upper().replace("-", "_"))
        return missing if value is None else value.encode("latin-1", "replace").decode("utf-8", "replace")

    def body():
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
        except ValueError:
            length = 0
        endless = not length and environ.get("wsgi.input_terminated")
        wanted = SHORT + 1 if endless else min(max(length, 0), SHORT + 1)
        try:
            content = environ["wsgi.input"].read(wanted) if wanted else b""
        except (OSError, ValueError):                   # what servers raise for a client that went away, or for broken chunks
            return b""
        return content if endless or len(content) == wanted else b""

    return Request(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), header, body, environ.get("REMOTE_ADDR") or "",
                   _local(environ))


def _local(environ):
    """Where the request came in. gunicorn's environ names its listener, which may be 0.0.0.0; the socket itself knows better."""
    try:
        return environ["gunicorn.socket"].getsockname()[:2]
    except (KeyError, OSError, TypeError, AttributeError):
        return environ.get("SERVER_NAME", ""), environ.get("SERVER_PORT", "")


def _send(answer, environ, start_response):
    headers = answer.headers + [("Content-Length", str(len(answer.body)))]
    start_response("%d %s" % (answer.status, responses.get(answer.status, "")), headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]
