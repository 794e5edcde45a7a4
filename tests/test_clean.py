"""Text from elsewhere is data: it can neither move the cursor, nor break a report's format, nor carry a secret out."""

import time
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings, strategies as st

from bgdeploy import clean as module
from bgdeploy.clean import clean, hide, line, mask, plain, xml_safe

NOISY = st.text(alphabet=st.one_of(st.characters(), st.sampled_from(
    "\x1b\x9b\x07[];m\r\n\t \u202e\u2066\ud800=:\"'@/+-*<>")), max_size=300)
SCRAPS = st.lists(st.sampled_from([
    "password", "token", "secret", "api_key", "=", ":", " = ", "=>", '"', "'", "\\", "hunter2", "\n", " ", "http://", "u:p@h",
    "@", "Authorization: Basic ", "Bearer ", "dXNlcjpwYXNz", "***", "--", "--- a\n+++ b\n", "@@", "+", "-", "set",
    "_file", "x" * 90,
    "<password>", "</password>", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "... 30 bytes cut ..."]),
    max_size=40).map("".join)


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch):
    monkeypatch.setattr(module, "_hidden", ())


@given(st.one_of(NOISY, SCRAPS, st.binary(max_size=300)), st.integers(0, 200), st.one_of(st.none(), st.integers(1, 5)))
@settings(max_examples=600, deadline=None)
def test_cleaning_twice_is_cleaning_once_and_the_cap_holds(text, cap, lines):
    once = clean(text, cap, lines)
    assert clean(once, cap, lines) == once
    assert len(once) <= cap
    assert lines is None or once.count("\n") < lines


@given(st.one_of(NOISY, st.binary(max_size=300)))
@settings(max_examples=400, deadline=None)
def test_nothing_that_moves_a_cursor_or_breaks_a_file_is_left(text):
    shown = clean(text, 5000)
    assert not [c for c in shown if (ord(c) < 32 and c not in "\n\t") or 0x7f <= ord(c) <= 0x9f]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    shown.encode("utf-8")
    element = ElementTree.Element("x")
    element.text = xml_safe(shown)
    assert ElementTree.fromstring(ElementTree.tostring(element)).text in (shown, None)


@given(st.one_of(NOISY, SCRAPS))
@settings(max_examples=600, deadline=None)
def test_masking_twice_is_masking_once(text):
    once = mask(text)
    assert mask(once) == once


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_xml_safe_gives_what_a_strict_parser_reads(text):
    element = ElementTree.Element("x", {"a": xml_safe(text)})
    ElementTree.fromstring(ElementTree.tostring(element, encoding="utf-8"))


@pytest.mark.parametrize("raw, shown", [
    (b"\x1b[32m  * service[web] action restart\x1b[0m\n\x1b]0;title\x07\x1b[2J\x1b[H", "  * service[web] action restart\n"),
    (b"Fehler: ung\xfcltig f\xfcr gr\xfcn1\n", "Fehler: ung\ufffdltig f\ufffdr gr\ufffdn1\n"),
    ("gr\u00fcn1", "gr\u00fcn1"),
    ("a\r\nb\rc", "a\nb\nc"),
    ("\x1b]0;never ended\nthe reason", "0;never ended\nthe reason"),
    ("\x9b31mred", "red"),
    ("pass\u200bword=hunter2", "password=***"),
    ("\ud800x", "\ufffdx"),
    (None, ""),
    (42, "42"),
])
def test_escapes_go_and_the_readable_text_stays(raw, shown):
    assert clean(raw) == shown


@pytest.mark.parametrize("text, shown", [
    ("password=hunter2", "password=***"),
    ("mongo_password = old-S3cret-3f1c", "mongo_password = ***"),
    ("login failed with password: hunter2 for bob", "login failed with password: *** for bob"),
    ('{"password": "x y", "user": "u"}', '{"password": "***", "user": "u"}'),
    (r'{\"password\":\"x y\",\"user\":\"u\"}', r'{\"password\":\"***\",\"user\":\"u\"}'),
    (':db_token=>"x", :port=>80', ':db_token=>"***", :port=>80'),
    ("export BGDEPLOY_HEARTBEAT_TOKEN=\"it's-a-T0KEN&x=1\"", 'export BGDEPLOY_HEARTBEAT_TOKEN="***"'),
    ("+ export 'BGDEPLOY_HEARTBEAT_TOKEN=it'\\''s-a-T0KEN&x=1'", "+ export 'BGDEPLOY_HEARTBEAT_TOKEN=***"),
    ("curl --token abc --token-file F", "curl --token *** --token-file F"),
    ("mongodb://shop:p@ss/w@10.77.0.6:27017/shop", "mongodb://shop:***@10.77.0.6:27017/shop"),
    ("GET /x?api_key=abc", "GET /x?api_key=***"),
    ("Authorization: Bearer abc.def", "Authorization: ***"),
    ("curl -H 'Bearer abc.def9'", "curl -H 'Bearer ***'"),
    ("Set-Cookie: session=abc; HttpOnly", "Set-Cookie: ***"),
    ("<db_password>x</db_password>", "<db_password>***</db_password>"),
    ("https://ghx0123456789abcdef0@example.org/", "https://***@example.org/"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nx",
     "-----BEGIN RSA PRIVATE KEY----- *** -----END RSA PRIVATE KEY-----\nx"),
    ("key = abc", "key = ***"),
    ("node['web']['password'] = 'x y'", "node['web']['password'] = '***'"),
    ('default["db"]["pw"] = "x"', 'default["db"]["pw"] = "***"'),
    ('  password "x y"', '  password "***"'),
    ("+requirepass hunter", "+requirepass ***"),
    ("requirepass hunter2", "requirepass ***"),
    ("machine h login u password hunter2", "machine h login u password ***"),
    ("bindpw hunter2", "bindpw ***"),
    ("  pass: hunter", "  pass: ***"),
    ("private_key: |\n  MIIE\n  abc=\nuser: x", "private_key: ***\n  ***\nuser: x"),
    ("_auth=dXNlcjpw", "_auth=***"),
    ('{"auths": {"r": {"auth": "dXNlcjpw"}}}', '{"auths": {"r": {"auth": "***"}}}'),
    ("mysql -u root -phunter2 -e x", "mysql -u root -p*** -e x"),
    ("sshpass -p hunter2 ssh h", "sshpass -p *** ssh h"),
    ("curl -s -u bob:hunter2 http://x", "curl -s -u bob:*** http://x"),
    ("CREATE USER u IDENTIFIED BY 'x y';", "CREATE USER u IDENTIFIED BY ***;"),
    ("id AKIAIOSFODNN7EXAMPLE", "id ***"),
    ("clone with ghp_" + "a1" * 18, "clone with ***"),
    ("app:$6$salt$" + "a/." * 10 + ":18000", "app:***:18000"),
    ("app:$apr1$salt$" + "a/." * 10, "app:***"),
    ('{"pwd": "x", "n": 1}', '{"pwd": "***", "n": 1}'),
    ('{"passwords": ["x y", "z"], "n": 1}', '{"passwords": ***, "n": 1}'),
    ('{\n "password":\n  "x y",\n "n": 1\n}', '{\n "password": ***\n "n": 1\n}'),
    ("passwords:\n  - x y\n  - z\nhosts:\n  - a", "passwords: ***\nhosts:\n  - a"),
    ('{\\\\\\"token\\\\\\":\\\\\\"x\\\\\\"}', '{\\\\\\"token\\\\\\":***'),
    ("MIIEpAIBAAKCAQEA7bq/+abcd\nabc=\n-----END RSA PRIVATE KEY-----\nx", "***\n-----END RSA PRIVATE KEY-----\nx"),
    ("connected\n+MIIEpAIBAAKCAQEA7bq/+abcd\n+-----END PRIVATE KEY-----", "connected\n***\n+-----END PRIVATE KEY-----"),
    ("ALTER ROLE web WITH PASSWORD 'x y'", "ALTER ROLE web WITH PASSWORD ***"),
    ("CREATE USER u IDENTIFIED WITH caching_sha2_password BY 'x'", "CREATE USER u IDENTIFIED WITH caching_sha2_password BY ***"),
    ("define('DB_PASSWORD', 'x');", "define('DB_PASSWORD', ***);"),
    ('<add key="DbPassword" value="x y"/>', '<add key="***" value=***/>'),
    ("keytool -storepass x1 -v", "keytool -storepass *** -v"),
    ("openssl rsa -passin pass:x1 -noout", "openssl rsa -passin pass:*** -noout"),
    ("redis-cli -h db -a x1 ping", "redis-cli -h db -a *** ping"),
    ("https://h/b?sig=ab%3D", "https://h/b?sig=***"),
    ("with hvs." + "aB3" * 10, "with ***"),
])
def test_a_secret_beside_a_telling_name_is_masked(text, shown):
    assert mask(text) == shown


@pytest.mark.parametrize("text", [
    "green-1 refused the heartbeat token: 401",
    "wrong token: set BGDEPLOY_HEARTBEAT_TOKEN_FILE",
    "token_file: .lab/lab/token",
    "http://10.77.0.6:8000/repodata/repomd.xml",
    "http://10.77.0.6:8000",
    "inventories/lab.yml line 12: duplicate key: web",
    "gpgkey=http://10.77.0.6:8000/key.asc",
    "the host key of [green1.lab]:2222 is SHA256:4b1d, known_hosts has SHA256:77ab",
    "api=2.0.0-1,web=2.0.0-1@3f2a",
    "sanity must pass: web on green-2",
    "Basic authentication failed",
    "wrong token",
    "  token expired",
    "invalid password",
    "the cookbook 'passenger' is not there",
    "- the secret service",
    "curl: (7) Failed to connect to 10.77.0.6 port 8000",
    "login shell prints by itself",
    "pass: web on green-2 and api on green-1",
    "secrets:\n    create new directory",
    "/etc/passwd: cannot be written: File exists",
    "/run/secrets/db-password: Permission denied; it belongs to root",
    "token_file:\n  - .lab/lab/token",
    "abcdefgh\n-----END CERTIFICATE-----",
    "invalid password for 'bob'",
    "3 passed, pass rate: 100 %",
])
def test_sentences_of_our_own_stay_readable(text):
    assert mask(text) == text


def test_the_body_of_a_chef_diff_that_shows_a_secret_is_left_out_with_its_neighbours():
    text = """  * template[/etc/web/web.conf] action create
    - update content in file /etc/web/web.conf from bf7d6f to 96711b
    --- /etc/web/web.conf\t2026-11-20 20:35:20.000000000 +0000
    +++ /etc/web/.chef-web.conf\t2026-11-25 01:25:16.000000000 +0000
    @@ -31,3 +31,3 @@
     mongo_user = web
    -mongo_password = old-S3cret-3f1c
    +mongo_password = new-S3cret-9a7d
     mongo_db = shop
  * service[web] action restart"""
    shown = clean(text)
    assert "S3cret" not in shown and "mongo_db" not in shown
    assert "5 lines of this difference are not shown" in shown
    assert shown.endswith("  * service[web] action restart")


def test_a_diff_without_secrets_is_shown():
    text = "    --- /etc/a\n    +++ /etc/.chef-a\n    @@ -1 +1 @@\n    -port = 80\n    +port = 81"
    assert clean(text) == text


@pytest.mark.parametrize("spelling", [
    "it's-a-T0KEN&x=1", "it%27s-a-T0KEN%26x%3D1", "it&#x27;s-a-T0KEN&amp;x=1", "it'\\''s-a-T0KEN&x=1", "aXQncy1hLVQwS0VOJng9MQ"])
def test_a_value_that_was_registered_is_masked_in_every_spelling(spelling):
    hide("it's-a-T0KEN&x=1")
    assert mask(f"seen: {spelling}!") in ("seen: ***!",)


def test_a_registered_value_does_not_survive_in_halves_when_text_is_cut():
    hide("correct-horse-battery-staple")
    text = "x" * 500 + " correct-horse-battery-staple " + "y" * 500
    assert not any("horse" in clean(text, cap) or "staple" in clean(text, cap) for cap in range(60, 1000, 7))


def test_too_short_a_value_is_not_registered_lest_every_text_turn_black():
    hide("a")
    hide("")
    assert mask("banana") == "banana"


def test_what_is_too_long_says_how_much_is_missing_and_keeps_both_ends():
    shown = clean("begin " + "word " * 2000 + "end", 400)
    assert shown.startswith("begin word") and shown.endswith("word end")
    assert " bytes cut ... " in shown


def test_a_tail_keeps_the_last_lines_and_counts_what_an_earlier_cut_took():
    text = "\n".join(f"line {n}" for n in range(100))
    first = clean(text, lines=10)
    assert first.split("\n")[0] == "... 718 bytes cut ..." and first.endswith("line 98\nline 99") and first.count("\n") == 9
    assert clean(first, lines=3).split("\n")[0] == "... 774 bytes cut ..."


def test_one_line_is_one_line():
    assert line("a\n b\u2028c\x85d\te") == "a b c d e"
    assert "\n" not in line("word " * 1000)
    assert plain(b"a\x00b") == "ab"


@pytest.mark.parametrize("piece", ["a", "token=", "://a:", "\x1b]", "--- x\n+++ y\n", "password ", "-----BEGIN PRIVATE KEY-----",
                                   "-",
                                   " ", "a.b-", "key", "Basic ", "\r", '"', "token='", "\\\"", "<token>", "_pass",
                                   "MIIEpAIBAAKCAQEA\n", "define('password',", "docker login ", "\\"])
def test_a_megabyte_of_junk_costs_no_more_than_a_moment(piece):
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    clean(text)
    assert time.process_time() - start < 5
