"""The ways to a heartbeat: what of the user's environment takes no part, credentials, names, IPv6, TLS, a request's bytes."""

import dataclasses
import os
import re
import socket
import ssl

import pytest

from bgdeploy import site as sites
from bgdeploy.model import LIVE
from bgdeploy.outside import exchange, heartbeat
from tests.authority import authority, made as made_authority  # noqa: F401  (a fixture)
from tests.heartbeats import KIT, LIMIT, PLAIN, TABLE, Shell, flip, look, place
from tests.scripted import Scripted, answer


PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default", "machine localhost login x password y\ndefault"])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("without", [None, "*", "10.0.0.0/8", ""])
def test_proxies_netrc_and_cookies_of_the_user_take_no_part(monkeypatch, tmp_path, entry, named, without):
    file = tmp_path / (".netrc" if not named else "elsewhere")
    file.write_text(f"{entry} login bob password hunter2\n")
    os.chmod(file, 0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(file)) if named else monkeypatch.delenv("NETRC", raising=False)
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False) if without is None else monkeypatch.setenv(name, without)
    monkeypatch.setenv("A_TOKEN", "sesame-open")
    beat = dataclasses.replace(KIT, token=sites.Secret(env="A_TOKEN"))

    result, requests = flip(beat, [answer("live\n", headers=["Set-Cookie: a=b"])])

    assert result.outcome == "ok"
    assert re.findall(rb"(?i)authorization: (.*)\r\n", requests[0]) == [b"Bearer sesame-open"]
    assert b"hunter2" not in requests[0] and b"ookie" not in requests[0]
    assert look(PLAIN, [answer("live")]).state == LIVE


def test_basic_auth_is_sent_when_reading_and_yields_to_the_token_when_flipping(monkeypatch):
    monkeypatch.setenv("A_PASSWORD", "hunter2")
    monkeypatch.setenv("A_TOKEN", "sesame-open")
    beat = dataclasses.replace(PLAIN, user="bob", password=sites.Secret(env="A_PASSWORD"))
    with Scripted([answer("live")]) as server:
        heartbeat.read(*place(beat, server.port), "web")
        assert b"\r\nAuthorization: Basic Ym9iOmh1bnRlcjI=\r\n" in server.requests[0]
    _, requests = flip(dataclasses.replace(beat, token=sites.Secret(env="A_TOKEN")), [answer("live")])
    assert re.findall(rb"Authorization: (\S+)", requests[0]) == [b"Bearer"]


def test_a_token_of_the_environment_does_not_go_to_an_app_that_has_a_password_of_its_own(monkeypatch):
    monkeypatch.setenv("A_PASSWORD", "hunter2")
    monkeypatch.setenv("BGDEPLOY_HEARTBEAT_TOKEN", "sesame-open")
    _, requests = flip(dataclasses.replace(PLAIN, user="bob", password=sites.Secret(env="A_PASSWORD")), [answer("live")])
    assert re.findall(rb"Authorization: (.*)\r\n", requests[0]) == [b"Basic Ym9iOmh1bnRlcjI="]


def test_an_app_that_checks_the_host_header_is_named_one():
    def strict(_, request):
        return [answer("live") if b"\r\nHost: shop.lab\r\n" in request else answer("Invalid host", "403 Forbidden")]
    refused = look(PLAIN, strict)
    assert refused.state is None and "host_header" in refused.why and "Invalid host" in refused.why
    assert look(dataclasses.replace(PLAIN, host_header="shop.lab"), strict).state == LIVE


def test_ipv6_addresses_are_written_in_brackets():
    try:
        server = Scripted([answer("live")], address="::1", family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        for address in ("::1", "[::1]"):
            assert heartbeat.read(*place(PLAIN, server.port, address), "web").state == LIVE
        assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in server.requests[0]


def test_by_ssh_the_request_goes_to_the_hosts_own_loopback():
    beat = dataclasses.replace(PLAIN, via="ssh")
    with Scripted([answer("live")]) as server:
        site, host = place(beat, server.port, "192.0.2.1")
        shell = Shell("x")
        assert heartbeat.read(site, host, "web", shell).state == LIVE
        assert shell.tunnels == [("green-1", "127.0.0.1", server.port)]
    assert "SSH" in heartbeat.read(site, host, "web").why


def test_an_https_heartbeat_is_checked_against_the_sites_own_authority(authority):  # noqa: F811
    with Scripted([answer("live")], context=authority.server) as server:
        https = dataclasses.replace(PLAIN, scheme="https", host_header="shop.lab", timeout=3)
        assert "name the authority that signed it (ca_file in the" in heartbeat.read(*place(https, server.port), "web").why
        private = dataclasses.replace(https, ca_file=authority.file)
        assert heartbeat.read(*place(private, server.port), "web").state == LIVE
        for name in ("SHOP.lab", "shop.lab.", "shop.lab:8443"):
            named = dataclasses.replace(private, host_header=name)
            assert heartbeat.read(*place(named, server.port), "web").state == LIVE
        other = dataclasses.replace(private, host_header="other.lab")
        why = heartbeat.read(*place(other, server.port), "web").why
        assert "certificate that does not fit" in why and "name what it bears (host_header in the inventory)" in why
        by_ssh = dataclasses.replace(private, via="ssh")
        site, host = place(by_ssh, server.port)
        assert heartbeat.read(site, host, "web", Shell("x")).state == LIVE
    hasty = dataclasses.replace(private, timeout=LIMIT)
    with Scripted(["hang"]) as mute:
        assert "TLS handshake within 0.5 s; if that port speaks no" in heartbeat.read(*place(hasty, mute.port), "web").why
    with Scripted([answer("live")], read=False) as plain:
        assert "TLS failed" in (why := heartbeat.read(*place(private, plain.port), "web").why) and "scheme: http" in why


@pytest.mark.parametrize("days, wants_one, words", [
    (-1, False, "expired; renew it"), (100, True, "it wants a certificate from who asks, and bgdeploy has none")])
def test_a_certificate_that_is_out_of_date_or_asked_for_is_named_with_its_cure(days, wants_one, words, tmp_path):
    """A server that asks who asks tells so only after the request (TLS 1.3): a flip's answer is lost then, a look's unknown."""
    made = made_authority(tmp_path, days)
    if wants_one:
        made.server.load_verify_locations(made.file)
        made.server.verify_mode = ssl.CERT_REQUIRED
    beat = dataclasses.replace(PLAIN, scheme="https", host_header="shop.lab", ca_file=made.file, timeout=3)
    with Scripted([answer("live")], context=made.server) as server:
        seen = heartbeat.read(*place(beat, server.port), "web")
        result = heartbeat.flip(*place(beat, server.port), "web", LIVE, run="r", by="b", reason="c")
    assert seen.state is None and words in seen.why
    assert words in result.detail and result.outcome == ("unknown" if wants_one else "failed")


@pytest.mark.parametrize("case", TABLE)
def test_the_outcome_by_tls_a_name_a_password_and_ipv6_is_the_one_of_a_plain_look(case, authority, monkeypatch):  # noqa: F811
    script, state, words = TABLE[case]
    monkeypatch.setenv("A_PASSWORD", "hunter2")
    beat = dataclasses.replace(PLAIN, scheme="https", host_header="shop.lab", ca_file=authority.file, user="bob",
                               password=sites.Secret(env="A_PASSWORD"))
    try:
        steps = script if isinstance(script, list) else [script]
        server = Scripted(steps, "::1", family=socket.AF_INET6, context=authority.server)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        seen = heartbeat.read(*place(beat, server.port, "::1"), "web")
        assert seen.state == state, seen.why
        if not case.startswith("resets"):       # to TLS a reset and an end are alike
            assert words in seen.why and (state is None) == bool(seen.why)
        assert b"\r\nHost: shop.lab\r\n" in server.requests[0] and b"\r\nAuthorization: Basic " in server.requests[0]


def test_a_ca_file_that_is_none_is_named(tmp_path):
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in ("ca.pem", "none.pem"):
        beat = dataclasses.replace(PLAIN, scheme="https", ca_file=str(tmp_path / name))
        assert name in heartbeat.read(*place(beat, 1), "web").why


def test_a_request_that_no_server_may_get_is_refused_before_it_is_sent():
    for method, path, headers in (("GET", "/a\r\nX: y", ()), ("GET", "nothing", ()), ("G T", "/", ()),
                                  ("GET", "/", (("A B", "c"),)), ("GET", "/", (("A", "c\r\nd: e"),))):
        with pytest.raises(exchange.BadInput):
            exchange.compose(method, path, headers, None, "x")
    assert exchange.compose("GET", "/a b?c=d&e=ä", (), None, "x").startswith(b"GET /a%20b?c=d&e=%C3%A4 HTTP/1.1\r\nHost: x\r\n")
