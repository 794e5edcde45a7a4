"""The heartbeat over an SSH channel: the same table, the same outcomes, on a real sshd; and connections counted on the host."""

import dataclasses
import socket
import time

import pytest

from bgdeploy import site as sites
from bgdeploy.model import LIVE, STANDBY
from bgdeploy.outside import heartbeat
from bgdeploy.outside.ssh import Shell
from tests.authority import authority  # noqa: F401  (a fixture)
from tests.contract.sshd import Sshd
from tests.scripted import Scripted, answer
from tests.heartbeats import LIMIT, PLAIN, TABLE, place

BY_SSH = dataclasses.replace(PLAIN, via="ssh")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def shell(sshd):
    with Shell(sshd.site()) as shell:
        shell.run(sshd.host(), ["true"])        # the first login is not what is measured here
        yield shell


def by_ssh(sshd, beat, port):
    """(site, host): the host is reached by SSH alone; what its heartbeat's port means is known there."""
    site, _ = place(beat, port, "192.0.2.1")
    host = dataclasses.replace(sshd.host(), components=("web",))
    return dataclasses.replace(site, stacks=(sites.Stack("green", (host,)),)), host


@pytest.mark.parametrize("case", TABLE)
def test_the_outcome_by_ssh_is_the_one_of_a_direct_look(sshd, shell, case):
    script, state, words = TABLE[case]
    began = time.monotonic()
    with Scripted(script if isinstance(script, list) else [script]) as server:
        seen = heartbeat.read(*by_ssh(sshd, BY_SSH, server.port), "web", shell)

    assert seen.state == state, seen.why
    if not case.startswith("resets"):      # a reset on the far side is an end on this one
        assert words in seen.why
    assert time.monotonic() - began < 2 * LIMIT + 2


def test_a_flip_by_ssh_is_sent_once_and_one_whose_answer_is_lost_is_unknown(sshd, shell):
    kit = dataclasses.replace(BY_SSH, detail="/heartbeat/detail")
    for script, outcome in (([answer("live\n")], "ok"), (["close"], "unknown"), (["hang"], "unknown"),
                            ([answer("", "403 No")], "failed")):
        with Scripted(script) as server:
            result = heartbeat.flip(*by_ssh(sshd, kit, server.port), "web", LIVE, run="r", by="b", reason="c", shell=shell)
            assert result.outcome == outcome, result.detail
            assert len(server.requests) == 1 and server.requests[0].endswith(b"\r\n\r\nlive")


def test_nobody_listening_on_the_host_is_told_and_a_flip_to_it_failed(sshd, shell):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        place_ = by_ssh(sshd, BY_SSH, held.getsockname()[1])
        assert "no connection on the host to 127.0.0.1" in heartbeat.read(*place_, "web", shell).why
        result = heartbeat.flip(*place_, "web", STANDBY, run="r", by="b", reason="c", shell=shell)
        assert result.outcome == "failed" and "was not flipped" in result.detail


def test_tls_through_ssh_is_checked_like_any_other(sshd, shell, authority):  # noqa: F811
    private = dataclasses.replace(BY_SSH, scheme="https", host_header="shop.lab", ca_file=authority.file, timeout=3)
    with Scripted([answer("standby")], context=authority.server) as server:
        assert heartbeat.read(*by_ssh(sshd, private, server.port), "web", shell).state == STANDBY
        other = dataclasses.replace(private, host_header="other.lab")
        assert "certificate" in heartbeat.read(*by_ssh(sshd, other, server.port), "web", shell).why


def test_established_connections_to_the_components_port_are_counted_on_the_host(sshd, shell):
    counted = dataclasses.replace(PLAIN, in_flight="connections", via="ssh")
    with Scripted(["hang"]) as shop, Scripted([answer("live")]) as beat:
        site, host = by_ssh(sshd, counted, beat.port)
        site = dataclasses.replace(site, standby=sites.Balancer("standby", (sites.Node("s", "127.0.0.9"),), ()))
        web = dataclasses.replace(site.components[0], port=shop.port)

        def count():
            seen = heartbeat.read(site, host, web, shell)
            return seen.state, seen.in_flight, seen.counted_by
        assert count() == (LIVE, 0, "connections")
        with socket.create_connection(("127.0.0.1", shop.port)):
            assert count() == (LIVE, 1, "connections")
            with socket.create_connection(("127.0.0.1", shop.port), source_address=("127.0.0.9", 0)):
                assert count() == (LIVE, 1, "connections"), "STANDBY's own do not count"
        time.sleep(0.1)
        assert count() == (LIVE, 0, "connections")
        assert heartbeat.read(site, dataclasses.replace(host, port=1), web, shell).in_flight is None
