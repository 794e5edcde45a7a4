"""The heartbeat in front of an ASGI application (HTTP and WebSocket), and the count of its requests."""

import asyncio
import inspect
import os
from concurrent.futures import ThreadPoolExecutor

from .wire import SHORT, Request


_REFUSES = "websocket.http.response"    # the extension by which a server can answer a WebSocket's request with a status


class Middleware:
    """Answers the heartbeat's paths itself, off the event loop; counts every other request until the application returns."""

    def __init__(self, heartbeat, application):
        self.heartbeat, self.application = heartbeat, application
        self._threads, self._pid = None, None

    async def __call__(self, scope, receive, send):
        heartbeat = self.heartbeat
        if scope["type"] == "http":
            if heartbeat.mine(scope["path"]):
                return await _send(await self._answer(scope, receive), scope, send)
            if heartbeat.guarded(_peer(scope)):
                return await _send(heartbeat.refusal(), scope, send)
        elif scope["type"] == "websocket":
            if _REFUSES in (scope.get("extensions") or ()) and heartbeat.guarded(_peer(scope)):
                await receive()
                return await _send(heartbeat.refusal(), scope, send, _REFUSES)
        else:
            return await self.application(scope, receive, send)
        heartbeat.board.enter()
        try:
            return await self.application(scope, receive, send)
        finally:
            heartbeat.board.leave()

    async def _answer(self, scope, receive):
        names = {name.decode("latin-1").lower(): value.decode("utf-8", "replace") for name, value in scope["headers"]}
        content = await _body(receive) if scope["method"] == "PUT" else b""
        request = Request(scope["method"], scope["path"], lambda name, missing="": names.get(name.lower(), missing),
                          lambda: content, _peer(scope), tuple(scope.get("server") or ("", "")))
        return await asyncio.get_event_loop().run_in_executor(self._pool(), self.heartbeat.answer, request, await self._verdict())

    async def _verdict(self):
        """An `async def healthy()` is awaited here; a plain one is asked in the thread."""
        healthy = self.heartbeat._healthy
        if not inspect.iscoroutinefunction(healthy):
            return None
        try:
            return (True, "") if await healthy() else (False, "healthy() said no")
        except Exception as error:
            return False, "healthy() raised %s: %s" % (type(error).__name__, error)

    def _pool(self):
        """Threads of our own: the loop's shared ones may all be busy with the application's work."""
        if self._pid != os.getpid():
            self._threads, self._pid = ThreadPoolExecutor(2, "heartbeat"), os.getpid()
        return self._threads


def _peer(scope):
    return (scope.get("client") or ("",))[0]


async def _body(receive):
    content = b""
    while len(content) <= SHORT:
        message = await receive()
        if message["type"] != "http.request":           # the client went away: half a body is none
            return b""
        content += message.get("body", b"")
        if not message.get("more_body"):
            break
    return content[:SHORT + 1]


async def _send(answer, scope, send, kind="http.response"):
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in answer.headers]
    if answer.status != 412:        # hypercorn 0.13 keeps the length of a 412 and drops its body: a broken answer (measured)
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": kind + ".start", "status": answer.status, "headers": headers})
    await send({"type": kind + ".body", "body": b"" if scope.get("method") == "HEAD" else answer.body})
