"""An ASGI application on the heartbeat kit, for the tests: the same paths and settings as kit_wsgi."""

import asyncio
import json
import os
from urllib.parse import parse_qs

from heartbeat_kit import Heartbeat


async def healthy():
    return not os.path.exists(os.environ["KIT_SICK"])


heartbeat = Heartbeat(healthy=healthy, **json.loads(os.environ["KIT_SETTINGS"]))


async def shop(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    query = parse_qs(scope["query_string"].decode())
    seconds = float(query.get("s", ["0"])[0])
    if scope["path"] == "/raise":
        raise RuntimeError("asked to")
    if scope["path"] == "/work":
        with heartbeat.working():
            await asyncio.sleep(seconds)
    elif scope["path"] == "/slow":
        await asyncio.sleep(seconds)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if scope["path"] == "/stream":
        for _ in range(int(query["n"][0])):
            await send({"type": "http.response.body", "body": b"drop\n", "more_body": True})
            await asyncio.sleep(seconds)
        return await send({"type": "http.response.body", "body": b""})
    await send({"type": "http.response.body", "body": b"%d\n" % os.getpid()})


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


application = heartbeat.asgi(shop)
