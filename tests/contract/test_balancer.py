"""The balancer port against a real HAProxy and the real kit: who is in which pool, by the nodes' own word."""

import dataclasses
import getpass
import re
import threading
import time

import pytest

from bgdeploy import site as sites
from bgdeploy.model import LIVE, MOVING, NO, STANDBY, YES, Release
from bgdeploy.outside import balancer, exchange, heartbeat, heartbeat_answer, sanity, stats
from bgdeploy.outside.heartbeat import Answer, Witness
from lab import balancers
from tests.haproxies import Data, Haproxy, address
from tests.scripted import Scripted, answer
from tests.serving import eventually
from tests.heartbeats import LIMIT, PLAIN, TABLE, place

NODES = (sites.Node("live-1", "x", 0.5), sites.Node("live-2", "x", 2.0))
STRANGER = address()
UP, DOWN = ("UP", 0.1), ("DOWN", 0.1)


def said(*words, since=10.0):
    """An Answer in which live-1, live-2 ... said these (state, age) about web on green-1."""
    return Answer(LIVE, since_age=since, balancers=tuple(
        Witness(f"live-{n}", "web/green-1", state, age, 0) for n, (state, age) in enumerate(words, 1)))


@pytest.mark.parametrize("words, pool", [
    ((UP, UP), YES), ((DOWN, DOWN), NO), ((("NOLB", 0.1), DOWN), NO),
    ((UP, DOWN), MOVING), ((("UP 1/2", 0.1), UP), MOVING), ((("DOWN 1/2", 0.1), ("DOWN 1/2", 0.1)), MOVING),
    ((("no check", 0.1), UP), MOVING),
    ((UP,), None), ((), None),
    ((("UP", 1.4), ("UP", 5.9)), YES), ((("UP", 1.6), ("UP", 1.6)), None), ((("UP", 1.4), ("UP", 6.1)), None),
    ((("up", 0.1), ("up", 0.1)), MOVING), ((("UP ", 0.1), UP), MOVING),
])
def test_every_named_node_has_to_say_so_lately_and_exactly(words, pool):
    assert balancer.pool(NODES, said(*words), "web", "green-1") == pool


def test_a_word_from_before_the_flip_says_nothing():
    assert balancer.pool(NODES, said(UP, UP, since=0.1), "web", "green-1") is None
    assert balancer.pool(NODES, said(UP, ("UP", 0.3), since=0.2), "web", "green-1") is None
    assert balancer.pool(NODES, said(UP, UP, since=0.11), "web", "green-1") == YES
    assert balancer.pool(NODES, said(UP, UP, since=None), "web", "green-1") is None
    assert balancer.pool(NODES, said(UP, UP, since=heartbeat_answer.NEVER), "web", "green-1") == YES


@pytest.mark.parametrize("words, since, told", [
    ((UP, DOWN), 10.0, "live-1: UP, live-2: DOWN"), ((("UP 1/2", 0.1),), 10.0, "live-1: UP 1/2, live-2: never heard"),
    ((UP, ("UP", 0.3)), 0.2, "live-1: UP, live-2: not heard since the flip"),
    ((UP, ("UP", 30.0)), 40.0, "live-1: UP, live-2: heard 30 s ago"),
    ((UP, UP), None, "live-1: heard, but when the last flip was is not known, live-2: heard, but when the last flip was is not "
                     "known")])
def test_where_they_do_not_agree_each_node_is_named_with_what_it_says(words, since, told):
    assert balancer.told(NODES, said(*words, since=since), "web", "green-1") == told


def test_no_nodes_say_nothing():
    assert balancer.pool((), said(UP), "web", "green-1") is None


def test_a_server_with_weight_0_takes_nothing_on():
    seen = Answer(LIVE, since_age=10.0, balancers=(Witness("live-1", "web/green-1", "UP", 0.1, 0, weight=0),))
    assert balancer.pool(NODES[:1], seen, "web", "green-1") == MOVING
    assert balancer.told(NODES[:1], seen, "web", "green-1") == "live-1: UP with weight 0"


def test_one_process_with_several_backends_is_read_by_the_name_that_is_meant():
    words = (Witness("lb", "web/green-1", "UP", 0.1), Witness("lb", "web-standby/green-1", "DOWN", 0.1))
    node = (sites.Node("lb", "x"),)
    assert balancer.pool(node, Answer(since_age=9.0, balancers=words), "web", "green-1") == YES
    assert balancer.pool(node, Answer(since_age=9.0, balancers=words), "shop", "green-1") == MOVING
    assert balancer.pool(node, Answer(since_age=9.0, balancers=words[:1]), "shop", "green-1") == YES


def test_open_sessions_are_the_sum_of_what_every_node_has_open():
    seen = Answer(balancers=(Witness("live-1", "web/green-1", "DOWN", 0.1, 2), Witness("live-2", "web/green-1", "DOWN", 0.1, 1)))
    assert balancer.sessions(NODES, seen, "web", "green-1") == 3
    assert balancer.sessions(NODES, Answer(balancers=seen.balancers[:1]), "web", "green-1") is None


@pytest.fixture
def data(tmp_path):
    data = Data(tmp_path, strangers=[STRANGER])
    yield data
    data.stop()


def pools(data, host="green-1"):
    answer = heartbeat.read(data.site, data.site.host(host), "web")
    return tuple(balancer.pool(b.nodes, answer, "web", host) for b in (data.site.live, data.site.standby))


def flip(data, host, word):
    result = heartbeat.flip(data.site, data.site.host(host), "web", word, run="r", by="me", reason="test")
    assert result.outcome == "ok", result.detail


def settled(data):
    wanted = ((NO, YES), (YES, NO))
    assert eventually(lambda: (pools(data), pools(data, "blue-1")), lambda seen: seen == wanted) == wanted


def test_two_nodes_and_standby_follow_a_flip_and_never_say_yes_and_no_at_once(data):
    settled(data)

    flip(data, "green-1", LIVE)
    seen = [pools(data)]
    while seen[-1] != (YES, NO) and len(seen) < 200:
        time.sleep(0.02)
        seen.append(pools(data))

    live, standby = [list(dict.fromkeys(words)) for words in zip(*seen)]
    assert seen[0][0] in (None, NO) and seen[0][1] in (None, YES), "nothing that was said before the flip counts for it"
    assert live[-1] == YES and standby[-1] == NO and MOVING in live
    flip(data, "green-1", STANDBY)
    assert eventually(lambda: pools(data), lambda p: p == (NO, YES)) == (NO, YES)


def test_a_flip_that_names_another_process_is_refused_with_what_runs(data):
    def flip_if(version):
        return heartbeat.flip(data.site, data.site.host("green-1"), "web", LIVE, run="r", by="b", reason="",
                              release_version=version, started="start-of-green-1")
    result = flip_if("1.0.0-1")
    assert result.outcome == "failed" and '"2.0.0-1/start-of-green-1"' in result.detail
    result = flip_if("2.0.0-1")
    assert (result.outcome, result.evidence) == ("ok", {"version": "2.0.0-1", "started": "start-of-green-1"})


def test_a_wrong_token_is_refused_and_changes_nothing(data, monkeypatch):
    monkeypatch.setenv("WRONG", "not-the-token")
    wrong = dataclasses.replace(data.site.components[0].heartbeat, token=sites.Secret(env="WRONG"))
    component = dataclasses.replace(data.site.components[0], heartbeat=wrong)
    result = heartbeat.flip(data.site, data.site.host("blue-1"), component, STANDBY, run="r", by="b", reason="")
    assert result.outcome == "failed" and "token refused" in result.detail
    assert heartbeat.read(data.site, data.site.host("blue-1"), "web").state == LIVE


def test_a_silent_node_makes_the_pool_unknown_and_is_named(data):
    settled(data)
    data.nodes["live-2"].stop()

    assert eventually(lambda: pools(data, "blue-1")[0], lambda word: word is None) is None
    answer = heartbeat.read(data.site, data.site.host("blue-1"), "web")
    assert re.fullmatch("live-1: UP, live-2: heard [0-9]+ s ago", balancer.told(data.site.live.nodes, answer, "web", "blue-1"))


def test_a_balancer_that_the_inventory_does_not_name_is_a_stranger(data):
    settled(data)
    node = sites.Node("live-9", STRANGER, 0.2, 2, 2)
    data.nodes["live-9"] = data.start(data.site.live, node)

    def strangers():
        return balancer.strangers(data.site, heartbeat.read(data.site, data.site.host("green-1"), "web"))
    assert eventually(strangers, bool) == ("live-9",)


def test_a_sick_app_leaves_both_pools_and_its_detail_view_still_tells_who_it_is(data):
    settled(data)
    data.apps["blue-1"].kit._healthy = lambda: False

    answer = heartbeat.read(data.site, data.site.host("blue-1"), "web")
    assert (answer.state, answer.healthy, answer.version, answer.status) == (None, False, "2.0.0-1", 503)
    assert eventually(lambda: pools(data, "blue-1"), lambda p: p == (NO, NO)) == (NO, NO)


def test_requests_through_the_addresses_say_who_serves(data):
    settled(data)
    assert balancer.who(data.site, data.site.live, "web", 6) == {("blue-1", "2.0.0-1"): 6}
    assert balancer.who(data.site, data.site.standby, "web", 4) == {("green-1", "2.0.0-1"): 4}
    flip(data, "blue-1", STANDBY)
    eventually(lambda: pools(data, "blue-1"), lambda p: p == (NO, YES))
    assert balancer.who(data.site, data.site.live, "web", 2) == {(None, "status 503"): 2}
    assert set(balancer.who(data.site, data.site.standby, "web", 8)) == {("green-1", "2.0.0-1"), ("blue-1", "2.0.0-1")}
    data.nodes["standby-1"].stop()
    assert balancer.who(data.site, data.site.standby, "web", 1) == {(None, "standby-1 connection refused"): 1}


def test_requests_in_flight_are_counted_by_the_kit_and_by_live(data):
    settled(data)
    live = data.site.live.nodes[0]
    slow = threading.Thread(target=lambda: exchange.ask(live.address, 80, "/slow?2.5", limit=10))
    slow.start()
    by_live = dataclasses.replace(data.site.components[0], heartbeat=dataclasses.replace(
        data.site.components[0].heartbeat, in_flight="balancer"))

    def counts():
        blue = data.site.host("blue-1")
        return tuple(heartbeat.read(data.site, blue, c).in_flight for c in (data.site.components[0], by_live))
    assert eventually(counts, lambda c: c == (1, 1), limit=2) == (1, 1)
    flip(data, "blue-1", STANDBY)
    assert eventually(lambda: pools(data, "blue-1")[0], lambda p: p == NO) == NO
    assert counts() == (1, 1), "a server that is DOWN keeps the requests that it has"
    slow.join()
    assert eventually(counts, lambda c: c == (0, 0), limit=3) == (0, 0)


def with_pages(data):
    """The site with its balancers' statistics pages granted, and an application that keeps no send-state."""
    def granted(side):
        return dataclasses.replace(side, nodes=tuple(dataclasses.replace(n, stats=f"http://{n.address}:{balancers.STATS_PORT}/")
                                                     for n in side.nodes))
    foreign = dataclasses.replace(data.site.components[0].heartbeat, detail=None, in_flight="balancer")
    web = dataclasses.replace(data.site.components[0], heartbeat=foreign)
    return dataclasses.replace(data.site, live=granted(data.site.live), standby=granted(data.site.standby), components=(web,))


def test_statistics_pages_prove_the_pools_of_an_application_that_keeps_no_send_state(data):
    settled(data)
    site = with_pages(data)
    read = stats.Pages(site).reading(heartbeat.read)

    def seen(host):
        answer = read(site, site.host(host), "web")
        return tuple(balancer.pool(side.nodes, answer, "web", host) for side in (site.live, site.standby))
    assert (seen("blue-1"), seen("green-1")) == ((YES, NO), (NO, YES))
    flip(data, "green-1", LIVE)
    assert eventually(lambda: seen("green-1"), lambda p: p == (YES, NO)) == (YES, NO)

    def counted():
        answers = [read(site, host, "web") for host in site.hosts]
        return sorted((answer.in_flight, answer.counted_by) for answer in answers)
    idle = [(0, "balancer")] * 2
    assert counted() == idle
    slow = threading.Thread(target=exchange.ask, args=(site.live.nodes[0].address, 80, "/slow?2"))
    slow.start()
    one = [(0, "balancer"), (1, "balancer")]
    during = eventually(counted, lambda seen: seen == one, limit=1.8)
    slow.join()
    assert during == one and eventually(counted, lambda seen: seen == idle) == idle
    data.nodes["live-2"].stop()
    time.sleep(stats.KEPT)
    blind = read(site, site.host("green-1"), "web")
    assert seen("green-1") == (None, NO) and (blind.in_flight, blind.counted_by) == (None, "")


def test_sanity_meets_every_instance_of_the_wave_and_judges_nobody_else(data):
    settled(data)
    flip(data, "blue-1", STANDBY)
    eventually(lambda: pools(data, "blue-1"), lambda p: p == (NO, YES))
    release = Release((("web", "2.0.0-1"),))
    data.apps["blue-1"].version = "1.0.0-1"

    green, = sanity.check(data.site, ["green-1"], release, 10)
    assert (green.host, green.outcome) == ("green-1", "ok") and green.evidence["passed"] == {"web /": 1}
    both = sanity.check(data.site, data.site.hosts, release, 10)
    assert [(r.host, r.outcome) for r in both] == [("green-1", "ok"), ("blue-1", "failed")]
    assert both[1].detail == "web / on blue-1: version 2.0.0-1 expected, 1.0.0-1 came"
    assert [r.outcome for r in sanity.check(data.site, data.site.hosts, None, 10)] == ["ok", "ok"]


@pytest.mark.parametrize("check, words", [
    (sites.SanityCheck("/", 204), 'status 204 expected, 200 came: "shop ok"'),
    (sites.SanityCheck("/", 200, "orders"), "the text 'orders' expected, \"shop ok\" came"),
    (sites.SanityCheck("/", 200, None, (("X-Shop", "a"),)), "the header X-Shop: a expected, no such header came"),
    (sites.SanityCheck("/", 200, None, (("Content-Type", "text/html"),)),
     'the header Content-Type: text/html expected, "text/plain" came'),
])
def test_a_failing_check_names_itself_the_host_what_was_expected_and_what_came(data, check, words):
    settled(data)
    web = dataclasses.replace(data.site.components[0], sanity=(sites.SanityCheck("/"), check))
    site = dataclasses.replace(data.site, components=(web,))

    result, = sanity.check(site, ["green-1"], None, 10)

    assert result.outcome == "failed" and result.detail == f"web / on green-1: {words}"


def test_an_instance_that_standby_never_shows_is_unknown_with_what_came_instead(data):
    settled(data)
    result, = sanity.check(data.site, ["blue-1"], None, 0.5)
    assert result.outcome == "unknown" and "blue-1 never answered web / through STANDBY in 0.5 s" in result.detail
    assert "web green-1 2.0.0-1" in result.detail and result.evidence["others"]["web green-1 2.0.0-1"] > 1
    data.apps["green-1"].kit._healthy = lambda: False
    eventually(lambda: pools(data), lambda p: p == (NO, NO))
    result, = sanity.check(data.site, ["green-1"], None, 0.5)
    assert result.outcome == "unknown" and "status 503" in result.detail


def test_a_host_without_checks_has_nothing_to_fail(data):
    site = dataclasses.replace(data.site, components=(dataclasses.replace(data.site.components[0], sanity=()),))
    assert [r.outcome for r in sanity.check(site, ["green-1"], None, 5)] == ["ok"]


# The table of cases.md again, as HAProxy reads it.

DIFFERENT = {
    # The driver says live, HAProxy DOWN: harmless, since it is then never taken on, and the driver waits for that and says so.
    "a byte order mark before live", "an interim answer before", "five thousand headers",
    # HAProxy says UP by what it has matched so far, the driver unknown: unknown is never taken for a yes.
    "length 40, 4 bytes", "length 40, 4 bytes, never closed", "chunked and cut off", "chunked and cut inside",
    "says gzip and is not", "two codings", "HTTP/1.1 without length, never closed", "resets in the middle of its body",
    "two line ends", "two CRLF", "a carriage return alone behind", "a blank behind", "NUL in a header",
    "two lengths that are the same",
    "chunked, with a cut trailer", "chunked, with trailers for ever",
    "the word, then 40 kB", "the word, then 200 kB",
}


CHECK = ("    option httpchk", "    http-check send meth GET uri /heartbeat ver HTTP/1.1 hdr Host x",
         "    http-check expect status 200")


def config(where, *lines):
    """A configuration with these lines and a statistics page on port 8404 of this address."""
    return "\n".join(["global", f"    user {getpass.getuser()}", "    node live-1", "defaults", "    mode http",
                      "    timeout connect 1s", "    timeout client 5s", "    timeout server 5s",
                      f"    timeout check {int(LIMIT * 1000)}ms", *lines, "frontend stats", f"    bind {where}:8404",
                      "    stats enable", "    stats uri /", ""])


def page(where):
    came = exchange.ask(where, 8404, "/;csv", cap=1 << 20)
    return stats.rows(came.body.decode())


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """{case: UP | DOWN} as an HAProxy with the documented check sees the table."""
    folder, where, servers, lines = tmp_path_factory.mktemp("table"), address(), {}, []
    for number, (case, (script, _, _)) in enumerate(TABLE.items()):
        servers[case] = Scripted(script if isinstance(script, list) else [script]).__enter__()
        lines += [f"backend case-{number}", *CHECK, r"    http-check expect rstring ^live\s*$",
                  f"    server one 127.0.0.1:{servers[case].port} check inter 300ms fall 1 rise 1"]
    text = config(where, *lines)
    proxy = Haproxy(text, folder, (where, 8404))
    try:
        def checked():
            rows = [row for row in page(where) if row["svname"] == "one"]
            done = [row for row in rows if row["check_status"] not in ("", "INI") and not row["check_status"].startswith("*")]
            return rows if len(done) == len(TABLE) else []
        time.sleep(1.5)
        rows = eventually(checked, bool, limit=10)
        yield {case: rows[number]["status"] for number, case in enumerate(TABLE)}
    finally:
        proxy.stop()
        for server in servers.values():
            server.__exit__()


def test_the_driver_and_a_well_configured_balancer_agree_on_what_is_live(verdicts):
    differ = {case for case, (_, state, _) in TABLE.items() if (state == LIVE) != (verdicts[case] == "UP")}
    assert differ <= DIFFERENT, {case: verdicts[case] for case in differ - DIFFERENT}
    for case in ("capitals", "not live", "olive", "404 live", "503 live", "JSON that is alive", "301 with live in it"):
        assert verdicts[case] == "DOWN"


@pytest.mark.parametrize("standby", ["not live", "standby (was live)", "olive"])
def test_a_substring_check_takes_what_is_not_live_and_the_wait_for_its_pool_shows_it(standby, tmp_path):
    def app(_, request):
        return [answer(standby)]
    with Scripted(app) as server:
        where = address()
        text = config(where, "backend web", "    option httpchk GET /heartbeat", "    http-check send-state",
                      "    http-check expect string live",
                      f"    server green-1 127.0.0.1:{server.port} check inter 100ms fall 1 rise 1")
        proxy = Haproxy(text, tmp_path, (where, 8404))
        try:
            time.sleep(0.5)
            assert [row["status"] for row in page(where) if row["svname"] == "green-1"] == ["UP"]
            beat = dataclasses.replace(PLAIN, standby=standby)
            assert heartbeat.read(*place(beat, server.port), "web").state == STANDBY
            assert b"x-haproxy-server-state: up; " in b"".join(server.requests).lower()
        finally:
            proxy.stop()
