"""A heartbeat's request and answer, whatever server carries them. Plain values, no I/O."""

from collections import namedtuple

SHORT = 64                  # bytes of body that a flip may have
NOT_KEPT = ("Cache-Control", "no-store")

Request = namedtuple("Request", "method path header body peer local")
Request.__doc__ = """header(name, missing="") -> text; body() -> at most SHORT + 1 bytes, none of one that did not come whole;
peer: address or ""; local: (address, port)."""
Answer = namedtuple("Answer", "status headers body")


def text(status, words, *headers):
    """A plain-text Answer."""
    return Answer(status, [("Content-Type", "text/plain")] + list(headers) + [NOT_KEPT], words.encode("utf-8", "replace"))


def document(words, *headers):
    """A JSON Answer."""
    return Answer(200, [("Content-Type", "application/json")] + list(headers) + [NOT_KEPT], words.encode())
