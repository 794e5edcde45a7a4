"""The kit in front of an ASGI application, called directly: what is counted, and what is passed on. Under servers: contract/."""

import asyncio
import json
import time

import pytest

from heartbeat_kit import Heartbeat


@pytest.fixture
def heartbeat(tmp_path):
    (tmp_path / "shop").mkdir()
    return Heartbeat("shop", "2.0.0-1", state_dir=str(tmp_path), token_file=str(tmp_path / "token"), balancers=[])


def scope(kind="http", path="/", method="GET", headers=()):
    return {"type": kind, "path": path, "method": method, "headers": list(headers), "client": ("10.0.0.7", 5),
            "server": ("h", 80)}


async def call(application, given, messages=()):
    """Run it to its end; return what it sent."""
    sent, waiting = [], list(messages)

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
    await application(given, receive, send)
    return sent


async def detail(heartbeat):
    sent = await call(heartbeat.asgi(None), scope(path="/heartbeat/detail"))
    return json.loads(sent[1]["body"].decode())


@pytest.mark.parametrize("kind, counted", [("http", 1), ("websocket", 1), ("lifespan", 0)])
def test_requests_and_websockets_are_counted_and_the_lifespan_is_not(heartbeat, kind, counted):
    async def run():
        seen = []

        async def application(given, receive, send):
            seen.append((await detail(heartbeat))["in_flight"])
        await call(heartbeat.asgi(application), scope(kind))
        return seen + [(await detail(heartbeat))["in_flight"]]
    assert asyncio.run(run()) == [counted, 0]


def test_a_request_that_is_cut_off_is_counted_out(heartbeat):
    async def run():
        async def application(given, receive, send):
            await asyncio.sleep(30)
        request = asyncio.ensure_future(call(heartbeat.asgi(application), scope()))
        await asyncio.sleep(0.05)
        during = (await detail(heartbeat))["in_flight"]
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        return during, (await detail(heartbeat))["in_flight"]
    assert asyncio.run(run()) == (1, 0)


def test_a_body_that_comes_in_parts_is_one_word(heartbeat, tmp_path):
    (tmp_path / "token").write_text("t\n")
    parts = [{"type": "http.request", "body": body, "more_body": more} for body, more in ((b"li", True), (b"ve", False))]
    put = scope(path="/heartbeat", method="PUT", headers=[(b"authorization", b"Bearer t")])
    sent = asyncio.run(call(heartbeat.asgi(None), put, parts))
    assert sent[0]["status"] == 200 and sent[1]["body"] == b"live\n"
    endless = [{"type": "http.request", "body": b"live" * 9, "more_body": True}] * 50
    assert asyncio.run(call(heartbeat.asgi(None), put, endless))[0]["status"] == 400


def test_a_client_that_leaves_in_the_middle_of_a_flip_changes_nothing(heartbeat, tmp_path):
    (tmp_path / "token").write_text("t\n")
    put = scope(path="/heartbeat", method="PUT", headers=[(b"authorization", b"Bearer t")])
    for half in (b"li", b"live"):           # the length that it announced is not told; more was to come
        sent = asyncio.run(call(heartbeat.asgi(None), put, [{"type": "http.request", "body": half, "more_body": True}]))
        assert sent[0]["status"] == 400 and heartbeat.state.read().word == "standby"


@pytest.mark.parametrize("extensions, refused", [({"websocket.http.response": {}}, True), ({}, False), (None, False)])
def test_a_websocket_of_live_is_guarded_where_the_server_can_say_503(tmp_path, extensions, refused):
    (tmp_path / "shop").mkdir()
    kit = Heartbeat("shop", "1", state_dir=str(tmp_path), balancers=["10.0.0.7 live"])
    passed = []

    async def application(given, receive, send):
        passed.append(given["path"])
    wanted = dict(scope("websocket", "/chat"), extensions=extensions)
    del wanted["method"]
    sent = asyncio.run(call(kit.asgi(application), wanted, [{"type": "websocket.connect"}]))
    assert passed == ([] if refused else ["/chat"])
    assert [message["type"] for message in sent] == [f"websocket.http.response.{part}" for part in ("start", "body") if refused]
    assert not refused or sent[0]["status"] == 503


def test_a_slow_health_check_does_not_stop_the_event_loop(tmp_path):
    slow = Heartbeat("shop", "1", healthy=lambda: time.sleep(0.3) or True, state_dir=str(tmp_path), balancers=[])

    async def run():
        ticks = 0
        asked = asyncio.ensure_future(call(slow.asgi(None), scope(path="/heartbeat")))
        while not asked.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, asked.result()[0]["status"]
    ticks, status = asyncio.run(run())
    assert ticks >= 5 and status == 200
