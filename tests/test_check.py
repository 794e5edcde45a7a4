"""What `check` says of a host before the next converge: each thing that would stop it half way, and its cure."""

from dataclasses import replace

import pytest

from bgdeploy import check, model, site
from bgdeploy.outside.chef import HostFacts

URL = "http://repo.shop.lab:8000/el9"
HOST = site.Host("green-1", "green", "10.0.0.1", 22)
SITE = site.Site("lab", "lab.yml", "/", (), (), None, None, model.Policy(), repository=site.Repository(URL), chef=site.Chef())
SERVER = replace(SITE, chef=site.Chef(cookbooks="server"))


def rows(where=SITE, **facts):
    return [(row.outcome, row.detail, row.cure) for row in check.converging(where, HOST, HostFacts(**facts))]


def test_of_a_host_that_is_as_it_should_be_nothing_is_said():
    assert rows(daemon=False, licence=True, disk={"/var": 1 << 40}, inodes={"/var": 10 ** 6}) == []


def test_a_daemon_undoes_what_was_sent_but_waits_where_a_chef_server_has_the_version():
    assert [outcome for outcome, *_ in rows(daemon=True)] == ["fail"] and rows(SERVER, daemon=True) == []


@pytest.mark.parametrize("no_proxy, named", [
    (None, True), ("", True), ("localhost,127.0.0.1", True), ("repo.shop.lab", False), ("a, REPO.shop.lab", False),
    ("shop.lab", False), (".shop.lab", False), ("*.shop.lab", False), ("*", False), ("hop.lab", True), ("10.0.0.0/8", True)])
def test_a_proxy_of_client_rb_is_in_the_way_unless_the_repository_is_excepted(no_proxy, named):
    said = rows(proxies=("http_proxy",), no_proxy=no_proxy)
    assert bool(said) is named
    if said:
        outcome, detail, cure = said[0]
        assert outcome == "fail" and "http_proxy" in detail and "repo.shop.lab" in detail and "no_proxy" in cure


def test_with_a_chef_server_that_one_has_to_be_excepted_too():
    said = rows(SERVER, proxies=("http_proxy",), no_proxy="repo.shop.lab", chef_server="https://chef.shop.lab/o/shop")
    assert len(said) == 1 and "the Chef Server" in said[0][1] and "chef.shop.lab" in said[0][2]


def test_little_room_is_a_warning_and_a_disk_that_cannot_be_written_a_refusal():
    said = rows(disk={"/var": 5 << 20}, inodes={"/usr": 3}, read_only=("/usr",))
    assert [(outcome, detail.split(" ")[0]) for outcome, detail, _ in said] == [("warn", "5"), ("warn", "3"), ("fail", "/usr")]


def test_a_licence_that_nobody_accepted_is_a_refusal_and_one_that_is_not_known_is_none():
    said = rows(licence=False)
    assert [outcome for outcome, *_ in said] == ["fail"] and "chef_license 'accept'" in said[0][2]
    assert rows(licence=None) == [] and rows(licence=True) == []


def test_whoever_holds_dnfs_lock_or_keeps_other_runs_off_is_named():
    holder = {"pid": 7, "user": "root", "since": None, "command": "dnf-automatic"}
    said = rows(package_lock=holder, reserved={"run": "r1", "left": 60.0, "held": True})
    assert {outcome for outcome, *_ in said} == {"warn"}
    assert any("dnf's lock is held by pid 7 of root: dnf-automatic" in detail for _, detail, _ in said)
    assert any("wait there for run r1, 60.0 s" in detail for _, detail, _ in said)


@pytest.mark.parametrize("beat, address, command", [
    ({}, "10.0.0.1", "invoke heartbeat.conform --url http://10.0.0.1:8080/heartbeat"),
    ({"scheme": "https", "port": 443, "path": "/beat", "host_header": "shop.lab", "ca_file": "/ca.pem"}, "fd77::1",
     "invoke heartbeat.conform --url https://[fd77::1]/beat --host-header shop.lab --ca-file /ca.pem"),
    ({"via": "ssh"}, "10.0.0.1", "on green-1: python3 -m heartbeat_kit.conform --url http://127.0.0.1:8080/heartbeat"),
    ({"detail": None}, "10.0.0.1", "invoke heartbeat.conform --url http://10.0.0.1:8080/heartbeat"),
    ({"detail": None, "live": "ACTIVE"}, "10.0.0.1", "compare what it answers with its heartbeat: in lab.yml")])
def test_what_is_to_be_typed_for_a_heartbeat_that_is_not_understood_asks_where_bgdeploy_asks(beat, address, command):
    host = replace(HOST, address=address)
    assert check.conform(SITE, host, site.Heartbeat(**{"port": 8080, **beat})) == command


@pytest.mark.parametrize("page, cure", [(None, "/etc/bgdeploy/balancers"), ("http://lb/", "statistics pages")])
def test_a_node_of_which_nothing_is_heard_is_named_with_where_to_look(page, cure):
    nodes = (site.Node("live-1", "10.0.0.3"), site.Node("live-2", "10.0.0.4", stats=page))
    where = replace(SITE, live=site.Balancer("live", nodes, ()), standby=site.Balancer("standby", nodes[:1], ()))
    web = model.ComponentSeen("web", "live", standby_pool="no", live_nodes="live-1: UP, live-2: never heard", note="no page")
    seen = model.Seen(0.0, (model.HostSeen("green-1", "green", True, (web,)),))
    live, standby = check.pools(where, seen)
    assert (live.outcome, standby.outcome) == ("fail", "ok") and cure in live.cure
    assert live.detail == "not every node is heard by green-1 web (live-1: UP, live-2: never heard; no page)"
