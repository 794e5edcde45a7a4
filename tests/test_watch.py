"""The watcher measures what an impatient client would have seen, harms nobody, and breaks nothing."""

import dataclasses
import random
import time

import pytest

from bgdeploy import site as sites
from bgdeploy.model import NO, YES, ComponentSeen, Do, HostSeen, Policy, Seen
from bgdeploy.outside import balancer, heartbeat, watch
from bgdeploy.outside.availability import Availability
from tests.authority import authority  # noqa: F401  (a fixture)
from tests.haproxies import Data
from tests.scripted import Scripted, answer
from tests.serving import eventually

PAGE = answer("ok", headers=["X-Served-By: green-1", "X-Version: 2.0.0-1", "Connection: keep-alive"])


def place(port, rate=200.0, standby=None, scheme="http", **balancer):
    """A site with one component, LIVE at this port, and STANDBY at a port of its own, or nowhere."""
    web = sites.Component("web", "web", "web", "web", sites.Heartbeat(), (sites.SanityCheck("/"),))
    live = sites.Balancer("live", (sites.Node("lb", "127.0.0.1"),), (("web", port),), scheme, **balancer)
    nodes = (sites.Node("sb", "127.0.0.1"),) if standby else ()
    quiet = sites.Balancer("standby", nodes, (("web", standby),))
    return sites.Site("t", "", "", (web,), (), live, quiet, Policy(), watch_rate=rate)


def watched(site, seconds=0.6, **options):
    watcher = watch.Watch(site, **options).start()
    time.sleep(seconds)
    return watcher.stop()


class Kept(Scripted):
    """Answers every request of a connection; counts connections and requests."""

    def __init__(self, page=PAGE, idle=10.0, **options):
        self.page, self.idle, self.connections = page, idle, 0
        super().__init__([], **options)

    def _talk(self, peer, number):
        self.connections += 1
        try:
            if self.context:
                peer = self.context.wrap_socket(peer, server_side=True)
            peer.settimeout(self.idle)
            while not self.over.is_set():
                request = self._request(peer)
                if not request:
                    return
                self.requests.append(request)
                peer.sendall(self.page)
                if b"Connection: close" in request:
                    return
        except OSError:
            pass
        finally:
            peer.close()


def test_new_and_kept_connections_take_turns_and_every_request_is_a_get_that_is_counted_once():
    with Kept() as server:
        seen = watched(place(server.port))
        time.sleep(0.1)

        assert seen["failed"] == 0 and 60 < seen["requests"] < 200
        assert 0 <= len(server.requests) - seen["requests"] <= 3      # those that were under way when it stopped
        kept = sum(b"keep-alive" in request for request in server.requests)
        assert abs(kept - len(server.requests) / 2) <= 1
        assert server.connections < len(server.requests) / 2 + 10, "kept connections are used again"
        assert all(request.startswith(b"GET / HTTP/1.1\r\n") for request in server.requests)
        assert seen["balancers"]["live"]["answers"] == {"web green-1 2.0.0-1": seen["requests"]}
        assert 0 < seen["p50_ms"] <= seen["p99_ms"] and seen["longest_gap_ms"] < 500


@pytest.mark.parametrize("script, what", [
    ([answer("", "500 Oops")], "status 500"), ([answer("", "503 No server")], "status 503"),
    (["reset"], "connection reset by peer"), (["close"], "closed without an answer"),
    ([b"HTTP/1.1 200 OK\r\nConte", "close"], "closed in the middle of its head"),
    ([answer("ok", length=40), "close"], "2 of 40 bytes came"), ([b"hello\r\n"], "not HTTP"),
    (["hang"], "no whole answer within 0.3 s"),
])
def test_what_counts_as_failed_is_told_by_node_kind_and_time(script, what):
    with Scripted(script) as server:
        before = time.time()
        seen = watched(place(server.port, rate=50.0), limit=0.3)

    assert seen["failed"] == seen["requests"] > 2
    failure, = seen["balancers"]["live"]["failures"]
    assert (failure["what"], failure["component"], failure["node"]) == (what, "web", "lb")
    assert before <= failure["first"] <= failure["last"] <= time.time() and failure["count"] == seen["failed"]
    assert seen["longest_gap_ms"] > 300 and seen["p50_ms"] is None


@pytest.mark.parametrize("status", ["200 OK", "301 Moved", "401 Unauthorized", "404 Not Found"])
def test_an_answer_below_500_is_an_answer(status):
    with Scripted([answer("x", status)]) as server:
        assert watched(place(server.port, rate=50.0), 0.3)["failed"] == 0


def test_a_refused_connection_is_a_failure_and_a_hole_shows_in_the_longest_gap():
    server = Kept().__enter__()
    watcher = watch.Watch(place(server.port)).start()
    time.sleep(0.3)
    server.__exit__()
    time.sleep(0.6)
    seen = watcher.stop()

    assert seen["failed"] > 10 and seen["longest_gap_ms"] > 500
    assert "connection refused" in [failure["what"] for failure in seen["balancers"]["live"]["failures"]]


def test_an_idle_connection_that_the_balancer_closed_is_no_failure():
    with Kept(idle=0.02) as server:
        seen = watched(place(server.port, rate=12.0), 0.8)
        assert seen["failed"] == 0 and seen["requests"] >= 6


def test_standby_is_asked_a_little_and_its_empty_pool_is_nobodys_failure():
    with Kept() as live, Kept(answer("", "503 Service Unavailable")) as standby:
        seen = watched(place(live.port, standby=standby.port), 1.2)

    side = seen["balancers"]["standby"]
    assert side["no_instance"] == side["requests"] >= 2 and side["failed"] == 0
    assert side["requests"] < seen["requests"] / 20 and seen["failed"] == 0


def test_a_balancer_that_hangs_neither_stops_the_others_nor_delays_the_end():
    with Scripted(["hang"]) as mute, Kept() as well:
        web = sites.Component("web", "web", "web", "web", sites.Heartbeat())
        api = dataclasses.replace(web, name="api")
        node = (sites.Node("lb", "127.0.0.1"),)
        live = sites.Balancer("live", node, (("web", well.port), ("api", mute.port)))
        site = dataclasses.replace(place(1), components=(web, api), live=live)
        watcher = watch.Watch(site, limit=0.5).start()
        time.sleep(1.2)
        began = time.monotonic()
        seen = watcher.stop()

    assert time.monotonic() - began < 1.0
    assert seen["balancers"]["live"]["answers"]["web green-1 2.0.0-1"] > 60
    assert {failure["component"] for failure in seen["balancers"]["live"]["failures"]} == {"api"}


def test_nothing_is_asked_at_rate_0_and_stop_may_come_twice_or_first():
    with Kept() as server:
        assert watched(place(server.port, rate=0.0), 0.2)["requests"] == 0
        assert server.requests == []
    assert watch.Watch(place(1)).stop()["requests"] == 0
    watcher = watch.Watch(place(1)).start()
    assert watcher.stop().keys() == watcher.stop().keys() == watcher.snapshot().keys()


def test_a_name_without_an_address_is_a_failure_and_not_an_end():
    site = place(1, rate=20.0)
    node = sites.Node("lb", "no-such-host.invalid")
    seen = watched(dataclasses.replace(site, live=sites.Balancer("live", (node,), (("web", 1),))), 0.5)
    assert seen["failed"] == seen["requests"] and seen["watcher"]["trouble"] == ""


def test_https_is_watched_with_the_sites_own_authority(authority):  # noqa: F811
    with Kept(context=authority.server) as server:
        seen = watched(place(server.port, rate=50.0, scheme="https", host_header="shop.lab", ca_file=authority.file), 0.6)
        assert seen["failed"] == 0 and seen["requests"] > 10, seen
        seen = watched(place(server.port, rate=50.0, scheme="https", host_header="other.lab", ca_file=authority.file), 0.3)
        assert seen["failed"] == seen["requests"] > 2 and "TLS" in seen["balancers"]["live"]["failures"][0]["what"]
        seen = watched(place(server.port, rate=50.0, scheme="https", ca_file="/no/such/file"), 0.3)
        assert seen["failed"] == seen["requests"] > 2 and seen["watcher"]["trouble"] == ""


def test_percentiles_are_within_two_percent_and_the_memory_of_a_long_run_is_bounded():
    chance, began = random.Random(7), time.monotonic()
    tally, taken = Availability(("web",), began), []
    for number in range(20000):
        taken.append(chance.lognormvariate(-5, 1))
        tally.success(began + number / 100, "web", taken[-1], f"web host-{number} 1")
        tally.failure(number, "web", f"node-{number}", "status 500")
    seen = tally.summary(began + 200)
    taken.sort()
    for key, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
        assert abs(seen[key] / 1000 / taken[int(share * len(taken))] - 1) < 0.025
    assert len(seen["answers"]) <= 200 and len(seen["failures"]) <= 200 and seen["failed"] == 20000
    assert 9 < seen["longest_gap_ms"] <= 20


def test_a_component_that_never_answered_has_a_gap_from_the_start():
    tally = Availability(("web", "api"), 100.0)
    for at in (100.1, 100.2):
        tally.success(at, "web", 0.01)
    assert tally.summary(105.0)["longest_gap_ms"] == 5000.0


@pytest.fixture
def data(tmp_path):
    data = Data(tmp_path, {"guard": False}, intervals={"live-2": 1.0})
    yield data
    data.stop()


@pytest.mark.parametrize("keep", [False, True])
def test_a_reloaded_live_sends_requests_to_who_is_in_standby_unless_its_server_states_are_kept(data, keep):
    data.apps["green-1"].kit.state.set("live")
    data.apps["blue-1"].kit.state.set("standby")        # the later server: first checks are spread over the interval

    def settled():
        answers = {host.name: heartbeat.read(data.site, host, "web") for host in data.site.hosts}
        return [balancer.pool(data.site.live.nodes, answer, "web", host) for host, answer in answers.items()]
    assert eventually(settled, lambda pools: pools == [YES, NO]) == [YES, NO]
    watcher = watch.Watch(data.site).start()
    time.sleep(0.3)
    watcher.expect_out({"blue-1"})
    for _ in range(1 if keep else 3):       # how many it sends depends on when its first check falls
        time.sleep(0.3)
        if keep:
            data.keep_states("live-2")
        data.nodes["live-2"].reload()
        time.sleep(1.5)
        if watcher.snapshot()["balancers"]["live"]["strays"]:
            break
    live = watcher.stop()["balancers"]["live"]

    if keep:
        assert live["strays"] == [] and live["failed"] == 0
    else:
        stray, = live["strays"]
        assert (stray["node"], stray["host"], stray["component"]) == ("live-2", "blue-1", "web")
        assert stray["count"] >= 1 and stray["first"] <= stray["last"]


def seen_with(pools, word="standby"):
    """A Seen of hosts whose one component is in LIVE's pool as named: {host: pool}."""
    return Seen(0.0,
                tuple(HostSeen(name, "s", True, (ComponentSeen("web", word, live_pool=pool),)) for name, pool in pools.items()))


def test_what_says_live_is_on_its_way_in_while_no_node_has_noticed():
    with Kept() as server:          # says that green-1 answered
        watcher = watch.Watch(place(server.port)).start()
        watcher.looked(seen_with({"green-1": NO}, "live"))
        time.sleep(0.15)
        assert watcher.stop()["balancers"]["live"]["strays"] == []


def test_what_every_node_has_let_go_counts_as_astray_until_an_act_puts_it_live_again():
    with Kept() as server:          # says that green-1 answered
        site = place(server.port)
        for pool, act, astray in ((NO, None, True), (YES, None, False), ("moving", None, False), (None, None, False),
                                  (NO, Do("live", "s", ("green-1",), ""), False), (NO, Do("live", "s", ("blue-1",), ""), True),
                                  (NO, Do("converge", "s", ("green-1",), ""), True)):
            watcher = watch.Watch(site).start()
            seen = seen_with({"green-1": pool, "blue-1": NO})
            assert watcher.looked(seen) is seen
            assert act is None or watcher.doing(act) is act
            time.sleep(0.15)
            assert bool(watcher.stop()["balancers"]["live"]["strays"]) == astray, (pool, act)
