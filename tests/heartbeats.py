"""What the heartbeat tests share: a site of one host, ways to look at and flip a scripted server, and the table of answers."""

import dataclasses
import gzip
import socket

from bgdeploy import site as sites
from bgdeploy.model import LIVE, STANDBY, Policy
from bgdeploy.outside import heartbeat
from tests.scripted import LATE, Scripted, answer

LIMIT = 0.5
PLAIN = sites.Heartbeat(detail=None, timeout=LIMIT)
KIT = sites.Heartbeat(timeout=LIMIT)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def place(beat, port, address="127.0.0.1"):
    """A site of one component on one host, with this heartbeat at this port: (site, host)."""
    beat = dataclasses.replace(beat, port=port)
    web = sites.Component("web", "web", "web", "web", beat)
    host = sites.Host("green-1", "green", address, components=("web",))
    nodes = (sites.Node("live-1", "127.0.0.1", 0.5, 2, 2),)
    balancers = (sites.Balancer("live", nodes, (("web", 1),)), sites.Balancer("standby", nodes, (("web", 1),)))
    return sites.Site("t", "t.yml", "/", (web,), (sites.Stack("green", (host,)),), *balancers, Policy()), host


def look(beat, script, **options):
    """What `read` makes of one scripted server: the Answer."""
    with Scripted(script, **options) as server:
        return heartbeat.read(*place(beat, server.port), "web")


def flip(beat, script, word=LIVE, **options):
    """(Result, requests seen) of a flip towards one scripted server."""
    with Scripted(script) as server:
        result = heartbeat.flip(*place(beat, server.port), "web", word, run="r-1", by="jenkins@ci", reason="a reason",
                                **options)
        return result, server.requests


def by_method(put, get):
    return lambda _, request: [put] if request.startswith(b"PUT") else [get]


class Shell:
    """Stands in for the SSH port: says what systemctl says, and opens connections from here."""

    def __init__(self, *starts):
        self.starts, self.tunnels = list(starts), []

    def run(self, host, argv, **_):
        assert argv[:4] == ["systemctl", "show", "-p", "InvocationID"]
        start = self.starts.pop(0) if len(self.starts) > 1 else self.starts[0]
        return type("Answer", (), {"exit": 0, "out": f"InvocationID={start}\n".encode(), "err": b""})()

    def tunnel(self, host, address, port, limit):
        self.tunnels.append((host.name, address, port))
        return socket.create_connection((address, port))


# The table of cases.md: what came, the right state, and words of the sentence that has to explain an unknown one.
TABLE = {
    "live": (answer("live"), LIVE, ""),
    "live and a line feed": (answer("live\n"), LIVE, ""),
    "live and CRLF": (answer("live\r\n"), LIVE, ""),
    "standby": (answer("standby\n"), STANDBY, ""),
    "a byte order mark before live": (answer(b"\xef\xbb\xbflive"), LIVE, ""),
    "capitals": (answer("LIVE"), None, '200 "LIVE"'),
    "two line ends": (answer("live\n\n"), None, r"exactly live or standby is expected, not 'live\n\n'"),
    "a blank before": (answer(" live"), None, r"not '\x20live'"),
    "a blank behind": (answer("live "), None, r"not 'live\x20'"),
    "a character that has no width": (answer("live\u200b"), None, r"not 'live\u200b'"),
    "a direction before": (answer("\u202elive"), None, r"not '\u202elive'"),
    "letters of another alphabet": (answer("l\u0456v\u0435"), None, r"not 'l\u0456v\u0435'"),
    "two byte order marks": (answer("\ufeff\ufefflive"), None, r"not '\ufeff\ufefflive'"),
    "an HTML entity": (answer("&#108;ive"), None, '"&#108;ive"'),
    "quoted": (answer('"live"'), None, '""live""'),
    "JSON with the word": (answer('{"state":"live"}'), None, '{"state":"live"}'),
    "JSON that is alive": (answer('{"alive": true}'), None, "alive"),
    "not live": (answer("not live"), None, '"not live"'),
    "olive": (answer("olive"), None, '"olive"'),
    "a login page": (answer("<html><form>login</form> we are live</html>"), None, "login"),
    "alive": (answer("alive"), None, '"alive"'),
    "a semicolon behind": (answer("live;"), None, '"live;"'),
    "a dot behind": (answer("live."), None, "exactly"),
    "a carriage return alone behind": (answer("live\r"), None, "exactly"),
    "two CRLF": (answer("live\r\n\r\n"), None, "exactly"),
    "a blank of another alphabet behind": (answer("live\u00a0"), None, r"not 'live\xa0'"),
    "what it was before": (answer("standby (was live)"), None, "exactly live or standby"),
    "a page whose title is the word": (answer("<html><title>live</title></html>", headers=["Content-Type: text/html"]), None,
                                       "exactly"),
    "a page that sends one on": (answer('<meta http-equiv="refresh" content="0; url=/heartbeat/">live'), None, "exactly"),
    "the word, said to be a page": (answer("live", headers=["Content-Type: text/html; charset=utf-16"]), LIVE, ""),
    "401 Digest": (answer("who?", "401 Unauthorized", ['WWW-Authenticate: Digest realm="x", nonce="y"']), None,
                   "wants Digest, and bgdeploy knows only Basic"),
    "401 without a word": (answer("who?", "401 Unauthorized"), None, "wants some authentication"),
    "405": (answer("", "405 Method Not Allowed", ["Allow: POST"]), None, "is /heartbeat the heartbeat's path?"),
    "302 to an empty place": (answer("", "302 Found", ["Location: "]), None, "302 to nowhere"),
    "a TLS alert": ([b"\x15\x03\x01\x00\x02\x02\x46"], None, "answered in TLS: write scheme: https in the inventory"),
    "two lengths that are the same": ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nlive"], None,
                                      "Content-Length '4, 4'"),
    "a length that is continued": ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n 4\r\n\r\nlive"], None, "Content-Length '4 4'"),
    "NUL in a header": ([b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 4\r\n\r\nlive"], None, "NUL or CR in it"),
    "a return in a header": ([b"HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 4\r\n\r\nlive"], None, "NUL or CR in it"),
    "two cookies": (answer("live", headers=["Set-Cookie: a=b", "Set-Cookie: c=d"]), LIVE, ""),
    "five thousand headers": ([b"HTTP/1.1 200 OK\r\n" + b"a:b\r\n" * 5000 + b"Content-Length: 4\r\n\r\nlive"], LIVE, ""),
    "a status line without an end": ([b"HTTP/1.1 200 " + b"A" * 100000], None, "longer than allowed"),
    "401 live": (answer("live", "401 Unauthorized", ["WWW-Authenticate: Basic"]), None, '401 "live"'),
    "407 live": (answer("live", "407 Proxy Authentication Required"), None, '407 "live"'),
    "429 live": (answer("live", "429 Too Many Requests", ["Retry-After: 1"]), None, '429 "live"'),
    "404 live": (answer("live", "404 Not Found"), None, '404 "live"; is /heartbeat the heartbeat\'s path?'),
    "503 live": (answer("live", "503 Service Unavailable"), None, "calls itself sick"),
    "500 live": (answer("live", "500 Oops"), None, '500 "live"'),
    "301 with live in it": (answer("live", "301 Moved", ["Location: /heartbeat/"]), None,
                            "301 to /heartbeat/: correct the path in the inventory"),
    "302": (answer("", "302 Found", ["Location: http://elsewhere/login"]), None, "302 to http://elsewhere/login"),
    "303": (answer("", "303 See Other", ["Location: /x"]), None, "303 to /x"),
    "307": (answer("live", "307 Temporary Redirect", ["Location: /heartbeat/"]), None, "307 to /heartbeat/: correct the path"),
    "308 without a place": (answer("live", "308 Permanent Redirect"), None, "308 to nowhere"),
    "301 to the name that it wants to be called": (answer("", "301 Moved", ["Location: https://shop.lab/heartbeat"]), None,
                                                   "host_header: shop.lab, scheme: https"),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", None, "304"),
    "206 standby": (answer("standby", "206 Partial Content"), None, "206"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", None, "204"),
    "201 live": (answer("live", "201 Created"), None, "201"),
    "empty 200": (answer(""), None, '200 ""'),
    "chunked": ([CHUNKED + b"4\r\nlive\r\n0\r\n\r\n"], LIVE, ""),
    "chunked, the word split, with a pause": ([CHUNKED + b"2\r\nli\r\n", 0.1, b"2;a=b\r\nve\r\n", 0.1, b"0\r\nX: y\r\n\r\n"],
                                              LIVE, ""),
    "chunked in single bytes": ([CHUNKED] + [b"1\r\n%c\r\n" % c for c in b"standby"] + [b"0\r\n\r\n"], STANDBY, ""),
    "chunked, with a cut trailer": ([CHUNKED + b"4\r\nlive\r\n0\r\nX: y\r\n", "close"], None, "not whole"),
    "chunked, with trailers for ever": ([CHUNKED + b"4\r\nlive\r\n0\r\n" + b"X: y\r\n" * 2000], None, "longer than allowed"),
    "chunked, a size beyond all": ([CHUNKED + b"fffffffffffffffff\r\nlive"], None, "chunk size"),
    "chunked and cut off": ([CHUNKED + b"4\r\nlive\r\n", "close"], None, "not whole"),
    "chunked and cut inside": ([CHUNKED + b"14\r\nlive", "close"], None, "not whole"),
    "chunked, size with a sign": ([CHUNKED + b"+4\r\nlive\r\n0\r\n\r\n"], None, "not HTTP"),
    "chunked, size like hex in C": ([CHUNKED + b"0x4\r\nlive\r\n0\r\n\r\n"], None, "not HTTP"),
    "chunked, longer than it says": ([CHUNKED + b"4\r\nliveXX\r\n0\r\n\r\n"], None, "not HTTP"),
    "head, pause, body": ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", 0.2, b"live"], LIVE, ""),
    "head in single bytes": ([bytes([c]) for c in answer("live")], LIVE, ""),
    "HTTP/1.0 without length": ([b"HTTP/1.0 200 OK\r\n\r\nlive\n"], LIVE, ""),
    "HTTP/1.1 without length, closed at the end": ([b"HTTP/1.1 200 OK\r\n\r\nlive"], LIVE, ""),
    "HTTP/1.1 without length, never closed": ([b"HTTP/1.1 200 OK\r\n\r\nlive", "hang"], None, "within 0.5 s"),
    "kept alive": ([answer("live\n", headers=["Connection: keep-alive"]), "hang"], LIVE, ""),
    "line feeds only": ([b"HTTP/1.1 200 OK\nContent-Length: 4\n\nlive"], LIVE, ""),
    "no reason phrase": ([b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nlive"], LIVE, ""),
    "an interim answer before": ([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer("live")], LIVE, ""),
    "interim answers for ever": ([b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, "hang"], None, "not HTTP"),
    "gzip though nobody asked": (answer(gzip.compress(b"live"), headers=["Content-Encoding: gzip"]), None, "gzip though nobody"),
    "brotli though nobody asked": (answer(b"\x0b\x01\x80live\x03", headers=["Content-Encoding: br"]), None, "in br though nobo"),
    "two codings": (answer("live", headers=["Content-Encoding: identity", "Content-Encoding: gzip"]), None, "though nobody"),
    "says gzip and is not": (answer("live", headers=["Content-Encoding: gzip"]), None, "gzip"),
    "gzip as transfer coding": ([CHUNKED.replace(b"chunked", b"gzip, chunked") + b"4\r\nlive\r\n0\r\n\r\n"], None, "not HTTP"),
    "identity": (answer("live", headers=["Content-Encoding: identity"]), LIVE, ""),
    "HTTP/0.9": ([b"live"], None, "not HTTP"),
    "HTTP/2": ([b"HTTP/2 200\r\n\r\nlive"], None, "not HTTP"),
    "an SSH banner": ([b"SSH-2.0-OpenSSH_9.2\r\n"], None, "not HTTP"),
    "status with an underscore": ([b"HTTP/1.1 2_00 OK\r\n\r\nlive"], None, "not HTTP"),
    "length 40, 4 bytes": ([answer("live", length=40), "close"], None, "4 of 40 bytes came"),
    "length 40, 4 bytes, never closed": ([answer("live", length=40), "hang"], None, "within 0.5 s"),
    "length 4, more behind": (answer("livestandby", length=4), LIVE, ""),
    "two lengths": ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 11\r\n\r\nlive\nstandby"], None, "Content-Length"),
    "a length with a sign": ([b"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nlive"], None, "Content-Length"),
    "a length that is no number": ([b"HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\nlive"], None, "Content-Length"),
    "the word after 40 kB": (answer(b" " * 40000 + b"live"), None, "exactly"),
    "the word, then 40 kB": (answer(b"live" + b" " * 40000), None, "exactly"),
    "the word, then 200 kB": (answer(b"live" + b"\n" * 200000), None, "longer than 65536 bytes"),
    "endless": ([b"HTTP/1.1 200 OK\r\n\r\n"] + [b"live\n" * 20000] * 3 + ["hang"], None, "longer than"),
    "an endless head": ([b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n" * 2000] * 5 + ["hang"], None, "not HTTP"),
    "NUL behind": (answer(b"live\0"), None, r"not 'live\x00'"),
    "live, standby": (answer("live\nstandby"), None, "live standby"),
    "UTF-16": (answer("live".encode("utf-16")), None, "exactly"),
    "Latin-1": (answer(b"\xe4live"), None, "exactly"),
    "colours": (answer(b"\x1b[31mlive\x1b[0m"), None, '200 "live"'),
    "a header that is none": ([b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\nlive"], None, "not HTTP"),
    "a blank in a header's name": ([b"HTTP/1.1 200 OK\r\nContent Length: 4\r\n\r\nlive"], None, "not HTTP"),
    "too late": ([LATE, answer("live")], None, "within 0.5 s"),
    "accepts and says nothing": (["hang"], None, "within 0.5 s"),
    "drips": ([part for c in answer("live") for part in (bytes([c]), 0.02)], None, "within 0.5 s"),
    "drips its head for ever": ([b"HTTP/1.1 200 OK\r\n"] + [b"X", 0.1] * 30, None, "within 0.5 s"),
    "closes at once": (["close"], None, "closed the connection without an answer"),
    "resets at once": (["reset"], None, "connection reset by peer"),
    "says close and closes late": ([answer("live\n", headers=["Connection: close"]), 0.2], LIVE, ""),
    "resets once all is said": ([answer("live\n"), 0.1, "reset"], LIVE, ""),
    "resets in the middle of its body": ([answer("live", length=8), 0.1, "reset"], None, "connection reset by peer"),
    "resets in the middle": ([b"HTTP/1.1 200 OK\r\nContent-Le", 0.1, "reset"], None, "connection reset by peer"),
    "closes in the middle of the head": ([b"HTTP/1.1 200 OK\r\nContent-Le", "close"], None, "not HTTP"),
}
