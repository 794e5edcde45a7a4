"""The settings that docs/balancers.md recommends, each shown to do what the page says, on a real HAProxy."""

import getpass
import http.client
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bgdeploy import inventory, site as sites
from bgdeploy.model import NO, YES, Policy
from bgdeploy.outside import balancer, exchange, heartbeat, stats, watch
from lab import balancers
from tests.authority import authority  # noqa: F401  (a fixture)
from tests.haproxies import App, Data, Haproxy, address
from tests.serving import eventually

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "balancers.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")


def blocks():
    """The page's configurations, by the name in their first line."""
    parts = PAGE.split("```haproxy\n")[1:]
    return [part.partition("```")[0] for part in parts]


CA = "/etc/haproxy/shop-ca.pem"


def test_the_pages_configurations_are_the_labs_own_and_haproxy_takes_them(tmp_path, authority):  # noqa: F811
    site = inventory.read(str(ROOT / "inventories" / "lab.yml"), str(ROOT))
    live, standby = (balancers.render(site, side, side.nodes[0]) for side in (site.live, site.standby))
    assert [text for text in blocks() if text.startswith("#")] == [live, standby]
    for number, text in enumerate(blocks()):
        path = tmp_path / f"{number}.cfg"
        whole = text.startswith("#")
        text = text.replace(CA, authority.file)
        path.write_text(text if whole else live.replace("\nbackend web\n", "\nbackend web\n" + text))
        done = subprocess.run(["haproxy", "-c", "-q", "-f", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def behind_tls(tmp_path, authority):  # noqa: F811
    """An instance whose heartbeat and pages are behind TLS, as shop.lab. (its address, its App)"""
    where = address()
    app = App("green-1", tmp_path, where, 8443, [where])
    app.server.socket = authority.server.wrap_socket(app.server.socket, server_side=True, do_handshake_on_connect=False)
    app.kit.state.set("live")
    yield where
    app.stop()


@pytest.mark.parametrize("name, trusted, up", [("shop.lab", True, True), ("other.lab", True, False), ("shop.lab", False, False)])
@pytest.mark.parametrize("own_port", [True, False])
def test_a_heartbeat_behind_tls_is_checked_with_its_certificate(own_port, name, trusted, up, behind_tls, tmp_path,
                                                                authority):  # noqa: F811
    """The page's line, and the lab's own text for an inventory that says scheme: https; requests by TLS where the port is one."""
    ca = authority.file
    if not trusted:
        ca = str(tmp_path / "another.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Another",
                        "-keyout", "/dev/null", "-out", ca], check=True, capture_output=True)
    beat = sites.Heartbeat(port=8443, scheme="https", host_header=name, ca_file=ca)
    web = sites.Component("web", "web", "web", "web", beat, port=8080 if own_port else 8443)
    host, node = sites.Host("green-1", "green", behind_tls, components=("web",)), sites.Node("live-1", address(), 0.2, 2, 2, 1.0)
    live = sites.Balancer("live", (node,), (("web", 80),))
    site = sites.Site("t", "t.yml", "/", (web,), (sites.Stack("green", (host,)),), live, live, Policy())
    text = balancers.render(site, live, node, str(tmp_path / "state"), str(tmp_path / "sock"), getpass.getuser())
    (tmp_path / "state").write_text("1\n")
    line = next(row for row in PAGE.splitlines() if row.startswith("    default-server check-ssl"))
    if own_port:
        written = line.replace("shop.example", name).replace(CA, ca).split("default-server ")[1]
        assert set(written.split()) <= set(text.split()), "the page's words are the lab's"
    proxy = Haproxy(text, tmp_path, (node.address, 80))
    try:
        time.sleep(1.0)
        page = exchange.ask(node.address, balancers.STATS_PORT, "/;csv").body.decode()
        row = next(row for row in stats.rows(page) if row["svname"] == "green-1")
        assert row["status"] == ("UP" if up else "DOWN"), row
        if up and not own_port:
            assert get(node.address)[:2] == (200, "green-1")
    finally:
        proxy.stop()


def pools(data, host):
    answer = heartbeat.read(data.site, data.site.host(host), "web")
    return tuple(balancer.pool(side.nodes, answer, "web", host) for side in (data.site.live, data.site.standby))


def settled(data, green=(NO, YES), blue=(YES, NO)):
    def seen():
        return pools(data, "green-1"), pools(data, "blue-1")
    assert eventually(seen, lambda now: now == (green, blue)) == (green, blue)


def flip(data, host, word):
    result = heartbeat.flip(data.site, data.site.host(host), "web", word, run="r", by="me", reason="test")
    assert result.outcome == "ok", result.detail


def get(address, cookie=""):
    connection = http.client.HTTPConnection(address, 80, timeout=5)
    try:
        connection.request("GET", "/", headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["X-Served-By"], (answer.headers["Set-Cookie"] or "").partition(";")[0]
    finally:
        connection.close()


STICKY = "    cookie SERVER insert indirect nocache\n    http-check disable-on-404\n"


def sticky(text):
    text = text.replace("backend web\n", "backend web\n" + STICKY)
    lines = [f"{line} cookie {line.split()[1]}" if line.startswith("    server ") else line for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def test_an_app_that_lingers_keeps_its_sticky_sessions_and_gets_no_new_ones_until_they_have_ended(tmp_path):
    open_sessions = [1]
    data = Data(tmp_path, {"busy": lambda: open_sessions[0], "linger": 60.0}, change=sticky)
    try:
        flip(data, "green-1", "live")
        settled(data, green=(YES, NO))
        live = data.site.live.nodes[0].address
        cookie = next(c for _, host, c in (get(live) for _ in range(4)) if host == "blue-1")

        flip(data, "blue-1", "standby")
        assert eventually(lambda: pools(data, "blue-1"), lambda p: p == (NO, YES)) == (NO, YES)
        time.sleep(1.0)
        answer = heartbeat.read(data.site, data.site.host("blue-1"), "web")
        assert {w.state for w in answer.balancers if w.node.startswith("live")} == {"NOLB"}
        assert answer.state == "standby" and answer.in_flight == 1, "a drain waits for the sessions, since busy() counts them"
        assert {get(live, cookie)[1] for _ in range(6)} == {"blue-1"}
        assert {get(live)[1] for _ in range(6)} == {"green-1"}

        open_sessions[0] = 0
        def words():
            seen = heartbeat.read(data.site, data.site.host("blue-1"), "web")
            return {w.state for w in seen.balancers if w.node.startswith("live")}
        assert eventually(words, lambda w: w == {"DOWN"}) == {"DOWN"}
        assert {get(live, cookie)[1] for _ in range(4)} == {"green-1"}
    finally:
        data.stop()


def test_without_lingering_a_sticky_session_moves_at_once(tmp_path):
    data = Data(tmp_path, change=sticky)
    try:
        flip(data, "green-1", "live")
        settled(data, green=(YES, NO))
        live = data.site.live.nodes[0].address
        cookie = next(c for _, host, c in (get(live) for _ in range(4)) if host == "blue-1")
        flip(data, "blue-1", "standby")
        assert eventually(lambda: pools(data, "blue-1"), lambda p: p == (NO, YES)) == (NO, YES)
        assert {get(live, cookie)[:2] for _ in range(4)} == {(200, "green-1")}
    finally:
        data.stop()


def test_a_live_that_has_forgotten_everything_loses_no_request_and_sends_none_to_standby(tmp_path):
    data = Data(tmp_path, {"guard_after": 0.0}, intervals={"live-2": 2.0})
    try:
        data.apps["green-1"].kit.state.set("live")
        data.apps["blue-1"].kit.state.set("standby")
        settled(data, green=(YES, NO), blue=(NO, YES))
        watcher = watch.Watch(data.site).start()
        watcher.expect_out({"blue-1"})
        data.nodes["live-2"].reload()           # its server states were not saved
        time.sleep(2.5)
        live = watcher.stop()["balancers"]["live"]
        assert live["failed"] == 0 and live["strays"] == [] and live["requests"] > 150
        assert set(live["answers"]) == {"web green-1 2.0.0-1"}
    finally:
        data.stop()


def test_an_instance_that_starts_slowly_is_up_at_once_and_its_share_grows(tmp_path):
    """So the soak between two stacks, and not the pool, has to give it the time."""
    data = Data(tmp_path, change=lambda text: text.replace("rise 2", "rise 2 slowstart 30s"))
    try:
        flip(data, "green-1", "live")
        settled(data, green=(YES, NO))
        served = [get(data.site.live.nodes[0].address)[1] for _ in range(60)]
        assert 0 < served.count("green-1") < 20, served
    finally:
        data.stop()
