"""A balancer's statistics page as a site grants it: what it proves, and why it proves nothing. Real HAProxy: contract/."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from bgdeploy import site as sites
from bgdeploy.model import LIVE, MOVING
from bgdeploy.outside import balancer, heartbeat, stats
from bgdeploy.outside.heartbeat import Answer
from tests.heartbeats import PLAIN, place
from tests.scripted import Scripted, answer


def test_one_page_serves_all_instances_of_a_look():
    page = (b"# pxname,svname,scur,status,weight,\nweb,green-1,3,UP,1,\nweb,blue-1,0,MAINT (via x/y),1,\nweb,red-1,,DRAIN,0,\n"
            b"web,BACKEND,3,UP,1,\n")
    with Scripted([b"HTTP/1.0 200 OK\r\n\r\n" + page]) as server:
        node = sites.Node("lb", "x", stats=f"http://127.0.0.1:{server.port}/haproxy?stats")
        side = sites.Balancer("live", (node,), (), stats_user="bob")
        pages = stats.Pages(sites.Site("t", "", "", (), (), side, sites.Balancer("standby", (), ()), None))
        words = [pages.word("lb", "web", host) for host in ("green-1", "blue-1", "red-1", "black-1")]
        told = [(w.state, w.scur, w.weight) if w else None for w in words]
        assert told == [("UP", 3, 1), ("DOWN", 0, 1), ("NOLB", None, 0), None]
        assert len(server.requests) == 1 and server.requests[0].startswith(b"GET /haproxy?stats;csv HTTP/1.1\r\n")
        assert b"Authorization: Basic Ym9iOg==\r\n" in server.requests[0]


def test_a_silent_page_costs_a_look_its_limit_once_and_not_once_an_instance(monkeypatch):
    monkeypatch.setattr(stats, "LIMIT", 1.0)
    with Scripted(["hang"]) as page, Scripted([answer("live")]) as app:
        site, host = place(PLAIN, app.port)
        node = sites.Node("lb", "x", stats=f"http://127.0.0.1:{page.port}/")
        site = dataclasses.replace(site, live=sites.Balancer("live", (node,), ()), standby=sites.Balancer("standby", (), ()))
        read = stats.Pages(site).reading(heartbeat.read)
        with ThreadPoolExecutor(6) as threads:
            seen = list(threads.map(lambda _: read(site, host, "web"), range(6)))
        assert len(page.requests) == 1 and all(one.why.startswith("the statistics page of lb") for one in seen)


@pytest.mark.parametrize("text", ["", "<html>", "# pxname,svname,\n\"x", "# pxname,svname,scur\nweb,green-1",
                                  "# pxname,svname,\n\0"])
def test_what_is_no_statistics_page_proves_nothing(text):
    with Scripted([b"HTTP/1.0 200 OK\r\n\r\n" + text.encode()]) as server:
        node = sites.Node("lb", "x", stats=f"http://127.0.0.1:{server.port}/")
        live, standby = sites.Balancer("live", (node,), ()), sites.Balancer("standby", (), ())
        pages = stats.Pages(sites.Site("t", "", "", (), (), live, standby, None))
        word = pages.word("lb", "web", "green-1")
        assert word is not None or "the statistics page of lb" in pages.trouble("lb", "web", "green-1")
        assert word is None or balancer.pool((node,), Answer(balancers=(word,)), "web", "green-1") == MOVING


@pytest.mark.parametrize("script, words", [
    ([b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"], "answers 401: compare stats_user"),
    ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "answers 404 and no table"), (["reset"], "connection reset"),
    ([b"HTTP/1.0 200 OK\r\n\r\n# pxname,svname,scur,status\nshop,green-1,0,UP\n"],
     "has no server green-1 in a backend web: name both as in the inventory")])
def test_why_a_statistics_page_says_nothing_is_told_beside_the_pool_that_is_not_known(script, words):
    with Scripted(script) as page, Scripted([answer("live")]) as app:
        site, host = place(PLAIN, app.port)
        node = sites.Node("lb", "x", stats=f"http://127.0.0.1:{page.port}/")
        site = dataclasses.replace(site, live=sites.Balancer("live", (node,), ()), standby=sites.Balancer("standby", (), ()))
        seen = stats.Pages(site).reading(heartbeat.read)(site, host, "web")
    assert seen.state == LIVE and balancer.pool((node,), seen, "web", "green-1") is None
    assert seen.why.startswith("the statistics page of lb") and words in seen.why and seen.why.isprintable()
