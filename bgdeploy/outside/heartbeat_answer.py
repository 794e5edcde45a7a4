"""What an answer to a heartbeat's request means. Pure: no sockets, no clock.

An answer counts as live or standby only if it is exactly that word with status 200 (what balancers are told to check as
well); everything else is None with a sentence that quotes what came.
"""

import json
import re
from dataclasses import dataclass

from bgdeploy.clean import clean
from bgdeploy.model import LIVE, STANDBY

TLS = "; if that port speaks TLS, write scheme: https in the inventory"
QUOTED = 200                # characters of an answer that a sentence quotes
FRESH = 3                   # a balancer node's word holds for so many of its own check intervals
NEVER = 1e9                 # seconds: the age of a word that was never changed; finite, because JSON has no infinity


@dataclass(frozen=True)
class Witness:
    """What one balancer node last told the app about itself (HAProxy's send-state header).

    :param name: "BACKEND/SERVER" as the balancer calls it. :param age: seconds since it was received.
    :param state: the header's text before its first semicolon: "UP", "DOWN", "UP 1/2", "NOLB".
    :param scur: sessions that this node has open to the app. :param weight: its weight there now, None if not told.
    :param now: read from the balancer itself at this look; then it holds whenever the last flip was.
    """

    node: str
    name: str
    state: str
    age: float
    scur: int = None
    weight: int = None
    now: bool = False


@dataclass(frozen=True)
class Answer:
    """What one look at a heartbeat found. None is unknown.

    :param state: live | standby | None. :param why: a sentence if state is None or the look is incomplete, else "".
    :param status: the HTTP status of the heartbeat itself, None if no answer came.
    :param since_age: seconds since the last flip; NEVER if it was not flipped yet.
    :param in_flight: business requests, and work the app itself reports. :param counted_by: kit | balancer | connections | "".
    """

    state: str = None
    why: str = ""
    version: str = None
    started: str = None
    in_flight: int = None
    since_age: float = None
    balancers: tuple = ()
    healthy: bool = None
    status: int = None
    counted_by: str = ""


def state(h, came, who, quote):
    """(live | standby | None, why) of an answer to the heartbeat's GET.

    :param h: site.Heartbeat. :param came: http1.Came. :param quote: makes text of the other side fit for a sentence.
    """
    shown = quoted(came, quote)
    if came.status == 503:
        return None, f"{who} calls itself sick: {shown}"
    if 300 <= came.status < 400:
        return None, f"{who}: {redirected(came, quote, h)}"
    if came.status != 200:
        return None, f"{who} answers {shown}{_cure(h, came, quote)}"
    if not came.whole:
        return None, f"{who} answers {shown}, not whole: {came.flaw}"
    coding = came.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        return None, f"{who} answers in {quote(coding)} though nobody asked: a balancer will not understand it either"
    said = word(h, came)
    if said is None:
        return None, f"{who} answers {shown}; exactly {h.live} or {h.standby} is expected{_nearly(h, came, quote)}"
    return said, ""


def _cure(h, came, quote):
    """What to do about a status that is no answer, as the end of a sentence; "" where only the application's log can tell."""
    if came.status == 401:
        wanted = quote(came.headers.get("www-authenticate", "").partition(" ")[0]) or "some authentication"
        if wanted.lower() != "basic":
            return f"; it wants {wanted}, and bgdeploy knows only Basic: let the heartbeat be read without"
        return "; compare user and password in the inventory with what it wants" if h.user else \
            "; it wants a user and a password (user, password_file in the inventory)"
    if came.status == 400 and re.search(rb"https|tls|ssl", came.body, re.IGNORECASE) and h.scheme == "http":
        return TLS
    if came.status in (400, 403, 421) and not h.host_header:
        return "; if it checks the Host header, name one (host_header in the inventory)"
    if came.status in (404, 405, 410):
        return f"; is {h.path} the heartbeat's path? Correct it in the inventory"
    return ""


def refused(h, came, quote):
    """What to do about a flip that was refused with this status, as the end of a sentence; "" where its own words must do."""
    if came.status == 400 and re.search(rb"https|tls|ssl", came.body, re.IGNORECASE) and h.scheme == "http":
        return TLS
    if came.status in (404, 405):
        allowed = came.headers.get("allow")
        return f"; correct flip_method{f' (it allows {quote(allowed)})' if allowed else ''} or flip_path in the inventory"
    if came.status == 429:
        wait = came.headers.get("retry-after", "")
        return f"; try again in {wait} s" if re.fullmatch("[0-9]{1,6}", wait, re.ASCII) else "; try again later"
    return ""


def _nearly(h, came, quote):
    """What a body is in truth that looks like the word, or where in JSON the word was looked for."""
    if h.json_key:
        return f" at {h.json_key}, in JSON that has no key twice"
    text = came.body.decode("utf-8", "backslashreplace")
    looks = quote(text.strip()) in (h.live, h.standby) or re.search(rb"[^ -~\r\n\t]", came.body)
    if not looks or len(came.body) > 60:
        return ""
    plain = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)
    return ", not '" + quote(re.sub("^ +| +$", lambda blanks: r"\x20" * len(blanks[0]), plain)) + "'"


def word(h, came):
    """live, standby, or None: the whole body and nothing else, but for one line end and a UTF-8 byte order mark."""
    text = came.body.removeprefix(b"\xef\xbb\xbf")
    if h.json_key:
        said = _by_key(text, h.json_key)
        if said is None:
            return None
    else:
        try:
            said = text.decode("utf-8")
        except UnicodeDecodeError:
            return None
        said = said[:-2] if said.endswith("\r\n") else said.removesuffix("\n")
    words = {h.live: LIVE, h.standby: STANDBY}
    if h.ignore_case and said.isascii():
        words, said = {text.lower(): meant for text, meant in words.items()}, said.lower()
    return words.get(said)


def redirected(came, quote, h):
    """A redirect and its cure: another path, or, where only the name differs, the name that the application wants to hear."""
    place = came.headers.get("location") or "nowhere"
    named = re.fullmatch(r"(https?)://([A-Za-z0-9_.:\[\]-]+)(/[^?#]*)", place)
    if named and named[3] == h.path:
        cure = f"name what it wants to be called (host_header: {quote(named[2])}, scheme: {named[1]})"
    else:
        cure = "correct the path"
    return f"{came.status} to {quote(place)}: {cure} in the inventory"


def quoted(came, quote):
    """'200 "text"': status and body, for a sentence."""
    return f'{came.status} "{quote(came.body.decode("utf-8", "replace").strip())}"'


def document(came):
    """The JSON object that an answer holds, or None."""
    found = _json(came.body) if came.status == 200 and came.whole else None
    return found if isinstance(found, dict) else None


def detailed(answer, detail, who):
    """The Answer with the kit's detail view (a dict) added. What is not understood in it stays None.

    If it names another state than the heartbeat, a flip fell between the two requests: unknown this time.
    """
    said, why, healthy = answer.state, answer.why, detail.get("healthy")
    if said is not None and detail.get("state") in (LIVE, STANDBY) and detail["state"] != said:
        said, why = None, f"{who} says {said} and its detail view {detail['state']}: flipped just now; look again"
    since = detail.get("since_age", "")
    since_age = NEVER if since is None and detail.get("state") == STANDBY else _seconds(since)
    heard = detail.get("balancers")
    witnesses = tuple(w for w in map(_witness, heard[:100] if isinstance(heard, list) else ()) if w)
    return Answer(said, why, token(detail.get("version")), token(detail.get("start")), _in_flight(detail), since_age, witnesses,
                  healthy if isinstance(healthy, bool) else None, answer.status)


def words_of(node, answer, component, host):
    """A node's words (Witness) about one instance. One process may check it from several backends (LIVE and STANDBY in one, two
    sites): then the one named COMPONENT/HOST counts; where none is named so, all of them do."""
    mine = [w for w in answer.balancers if w.node == node.name]
    exact = [w for w in mine if w.name == f"{component}/{host}"]
    return exact or mine


def sessions(nodes, answer, component, host):
    """Requests that these nodes have open to the instance (scur), or None as soon as one node's count is not known."""
    counts = []
    for node in nodes:
        words = words_of(node, answer, component, host)
        if not words or any(w.scur is None or w.age > FRESH * node.interval for w in words):
            return None
        counts += [w.scur for w in words]
    return sum(counts) if counts else None


def token(value):
    """A version or a start id: printable ASCII without spaces, as systemd and RPM write them; anything else is None."""
    return value if isinstance(value, str) and re.fullmatch(r"[!-~]{1,128}", value) else None


def tag(came):
    """{"version", "started"} of the process that answered, from the kit's ETag "VERSION/START"; {} if there is none."""
    version, slash, started = came.headers.get("etag", "").strip('"').rpartition("/")
    return {"version": version, "started": started} if slash and token(version) and token(started) else {}


def _by_key(text, key):
    """The scalar at a dotted key of a JSON object, as text; None if it is not there, not a scalar, or there twice."""
    found = _json(text)
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    if isinstance(found, bool):
        return "true" if found else "false"
    return found if isinstance(found, str) else str(found) if isinstance(found, int) else None


def _json(text):
    def once(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None


def _witness(entry):
    if not isinstance(entry, dict):
        return None
    node, name, said, age = entry.get("node"), entry.get("name"), entry.get("state"), _seconds(entry.get("age"))
    if not (isinstance(node, str) and isinstance(said, str) and age is not None):
        return None
    return Witness(clean(node, 80), clean(name, 120) if isinstance(name, str) else "", clean(said, 40), age,
                   _count(entry.get("scur")), _count(entry.get("weight")))


def _in_flight(detail):
    """Requests in flight and the app's own work; None as soon as one of them is named and not a number (null: the app tried
    to count and could not)."""
    flying, busy = _count(detail.get("in_flight")), detail.get("busy", 0)
    busy = int(busy) if isinstance(busy, bool) else _count(busy)
    return None if flying is None or busy is None else flying + busy


def _count(value):
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def _seconds(value):
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12 else None
