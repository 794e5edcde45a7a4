"""A component's heartbeat: read it, flip it. It reports what was answered; what that allows is not decided here.

`docs/heartbeat.md` is the contract. An answer counts as live or standby only if it is exactly that word with status 200
(what balancers are told to check as well); everything else is None with a sentence that quotes what came.
"""

import base64
import json
import math
import re
import time
from dataclasses import dataclass

from bgdeploy.clean import clean
from bgdeploy.errors import BadInput, Trouble
from bgdeploy.model import LIVE, STANDBY, Result
from bgdeploy.outside import exchange

QUOTED = 200                # characters of an answer that a sentence quotes
READ_BACK = 0.2             # seconds between two looks after a flip that did not confirm itself


@dataclass(frozen=True)
class Witness:
    """What one balancer node last told the app about itself (HAProxy's send-state header).

    :param name: "BACKEND/SERVER" as the balancer calls it. :param age: seconds since it was received.
    :param state: the header's text before its first semicolon: "UP", "DOWN", "UP 1/2", "NOLB".
    :param scur: sessions that this node has open to the app. :param weight: its weight there now, None if not told.
    """

    node: str
    name: str
    state: str
    age: float
    scur: int = None
    weight: int = None


@dataclass(frozen=True)
class Answer:
    """What one look at a heartbeat found. None is unknown.

    :param state: live | standby | None. :param why: a sentence if state is None, else "".
    :param status: the HTTP status of the heartbeat itself, None if no answer came.
    :param since_age: seconds since the last flip. :param in_flight: business requests and work the app itself reports.
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


def read(site, host, component, shell=None):
    """Look once. Changes nothing; never raises for what a host does.

    :param component: site.Component, or its name. :param shell: ssh.Shell, needed where the heartbeat says via: ssh.
    :returns: Answer. Two requests for an app with the kit, each within the heartbeat's `timeout`.
    """
    component = _component(site, component)
    h, who = component.heartbeat, f"{component.name} on {host.name}"
    try:
        came = _ask(h, host, "GET", h.path, shell, _reading(h))
    except exchange.Lost as lost:
        return Answer(why=f"{who} ({_where(h, host)}) {_quote(h, lost.why)}")
    except Trouble as trouble:
        return Answer(why=f"{who}: {trouble.sentence}")
    state, why = _state(h, came, who)
    if h.detail:
        return _with_detail(h, host, shell, who, Answer(state, why, status=came.status))
    version, flaw = _version(h, host, shell) if h.version_path else (None, "")
    healthy = False if came.status == 503 else None if state is None else True
    return Answer(state, why or flaw, version, healthy=healthy, status=came.status)


def flip(site, host, component, word, *, run, by, reason, release_version=None, started=None, shell=None):
    """Tell one instance to be `word` (live or standby). Tried once, on a connection of its own, never repeated.

    With `release_version` and `started` it is compare-and-set: an app with the kit refuses if another process answers;
    for others the version and the start id are read before and after, and one that changed is put to standby at once.

    :returns: Result: ok (it says so itself), failed (it certainly did not, or it says so), unknown (the answer was lost:
        look again). evidence: {"version", "started"} of the process that was flipped. No secret is in any sentence.
    """
    component = _component(site, component)
    h, who, began = component.heartbeat, f"{component.name} on {host.name}", time.monotonic()
    evidence = {"version": release_version, "started": started}

    def ended(outcome, detail=""):
        return Result(host.name, outcome, detail, time.monotonic() - began, evidence)

    try:
        guard = None if h.detail else _Guard(h, host, component, shell, release_version, started)
        stale = guard.stale() if guard and word == LIVE else ""
        if stale:
            return ended("failed", f"{who} was not flipped: {stale}")
        headers = _flipping(h, run, by, reason, release_version, started)
        said = {LIVE: h.live, STANDBY: h.standby}[word]
        body = h.flip_body.replace("{word}", said) if h.flip_body else None
        came = _ask(h, host, h.flip_method, (h.flip_path or h.path).replace("{word}", said), shell, headers, body)
    except exchange.Lost as lost:
        if not lost.sent:
            return ended("failed", f"{who} ({_where(h, host)}) {_quote(h, lost.why)}: it was not flipped")
        return ended("unknown", f"{who}: the flip to {word} was sent and its answer lost ({_quote(h, lost.why)}); look again")
    except Trouble as trouble:
        return ended("failed", f"{who} was not flipped: {trouble.sentence}")
    outcome, detail = _judged(h, host, component, came, word, who, shell)
    evidence.update(_tag(came))
    if outcome == "ok" and guard and word == LIVE:
        stale = guard.stale()
        if stale:
            flip(site, host, component, STANDBY, run=run, by=by, reason="restarted while it went live", shell=shell)
            return ended("failed", f"{who} was put back to standby: {stale}")
    return ended(outcome, detail)


class _Guard:
    """Compare-and-set for an app without the kit, as far as reading before and after can go."""

    def __init__(self, h, host, component, shell, version, started):
        self.h, self.host, self.service, self.shell, self.version, self.started = h, host, component.service, shell, version, started

    def stale(self):
        """Why the process is not the one that was meant, or "". Unknown counts as stale only if it can be known."""
        if self.version and self.h.version_path:
            version, why = _version(self.h, self.host, self.shell)
            if version is None:
                return why
            if version != self.version and version != self.version.rpartition("-")[0].rpartition(":")[2]:
                return f"{version} runs, and {self.version} was meant"
        if self.started and self.shell:
            argv = ["systemctl", "show", "-p", "InvocationID", self.service]
            now = self.shell.run(self.host, argv, limit=10).out.decode("ascii", "replace").strip().partition("=")[2]
            if now != self.started:
                return f"its service was restarted (start id {clean(now, 40) or 'none'}, and {self.started} was meant)"
        return ""


def _judged(h, host, component, came, word, who, shell):
    """(outcome, detail) of an answer to a flip."""
    quoted = f"{came.status} {_quoted_body(h, came)}"
    if 300 <= came.status < 400:
        where = _quote(h, came.headers.get("location", "nowhere"))
        return "failed", f"{who}: {came.status} to {where}: correct the path in the inventory"
    if came.status in (401, 403):
        return "failed", f"{who}: token refused ({quoted}); compare the token in the inventory with the one on the host"
    if came.status == 412:
        return "failed", f"{who} is not the process that was meant; it answers {quoted}"
    if came.status // 100 == 2:
        if h.detail and came.whole and _word(h, came) == word:
            return "ok", ""
        return _read_back(h, host, word, who, shell, quoted)
    if came.status >= 500:
        outcome, detail = _read_back(h, host, word, who, shell, quoted, patience=0)
        return ("failed" if outcome == "failed" else "unknown"), detail or f"{who} answered {quoted} to the flip; look again"
    return "failed", f"{who} refused the flip: {quoted}"


def _read_back(h, host, word, who, shell, quoted, patience=None):
    """What the heartbeat says after a flip that did not confirm itself; an app may need a moment, `timeout` at most."""
    until = time.monotonic() + (h.timeout if patience is None else patience)
    while True:
        try:
            state, why = _state(h, _ask(h, host, "GET", h.path, shell, _reading(h)), who)
        except (exchange.Lost, Trouble) as trouble:
            state, why = None, _quote(h, getattr(trouble, "why", None) or getattr(trouble, "sentence", ""))
        if state == word:
            return "ok", ""
        if time.monotonic() >= until:
            break
        time.sleep(READ_BACK)
    if state is None:
        return "unknown", f"{who} answered {quoted} to the flip, and then its heartbeat is not known: {why}"
    return "failed", f"{who} answered {quoted} to the flip, and its heartbeat still says {state}"


def _state(h, came, who):
    """(state, why) of an answer to the heartbeat's GET."""
    if came.status == 503:
        return None, f"{who} calls itself sick: 503 {_quoted_body(h, came)}"
    if 300 <= came.status < 400:
        where = _quote(h, came.headers.get("location", "nowhere"))
        return None, f"{who} redirects: {came.status} to {where}: correct the path in the inventory"
    if came.status == 403 and not h.host_header:
        return None, f"{who} answers 403 {_quoted_body(h, came)}; if it checks the Host header, name one (host_header)"
    if came.status != 200:
        return None, f"{who} answers {came.status} {_quoted_body(h, came)}"
    if not came.whole:
        return None, f"{who} answers {_quoted_body(h, came)}, not whole: {came.flaw}"
    coding = came.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        return None, f"{who} answers in {clean(coding, 20)} though nobody asked: a balancer will not understand it either"
    state = _word(h, came)
    if state is None:
        return None, f"{who} answers {_quoted_body(h, came)}; exactly {h.live} or {h.standby} is expected"
    return state, ""


def _word(h, came):
    """live, standby, or None: the whole body and nothing else, but for one line end and a byte order mark."""
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
        words, said = {word.lower(): state for word, state in words.items()}, said.lower()
    return words.get(said)


def _by_key(text, key):
    """The scalar at a dotted key of a JSON object, as text; None if it is not there, not a scalar, or there twice."""
    document = _json(text)
    for part in key.split("."):
        if not isinstance(document, dict) or part not in document:
            return None
        document = document[part]
    if isinstance(document, bool):
        return "true" if document else "false"
    return document if isinstance(document, str) else str(document) if isinstance(document, int) else None


def _json(text):
    def once(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None


def _with_detail(h, host, shell, who, answer):
    """The kit's detail view added. If it names another state than the heartbeat, a flip fell between: unknown this time."""
    try:
        came = _ask(h, host, "GET", h.detail, shell, _reading(h))
    except exchange.Lost as lost:
        return Answer(answer.state, answer.why or f"{who}: its detail view {_quote(h, lost.why)}", status=answer.status)
    except Trouble as trouble:
        return Answer(answer.state, answer.why or f"{who}: {trouble.sentence}", status=answer.status)
    detail = _json(came.body) if came.status == 200 and came.whole else None
    if not isinstance(detail, dict):
        why = f"{who}: its detail view answers {came.status} {_quoted_body(h, came)}, and JSON is expected"
        return Answer(answer.state, answer.why or why, status=answer.status)
    state, why, healthy = answer.state, answer.why, detail.get("healthy")
    if state is not None and detail.get("state") in (LIVE, STANDBY) and detail["state"] != state:
        state, why = None, f"{who} says {state} and its detail view {detail['state']}; look again"
    witnesses = tuple(w for w in map(_witness, _list(detail.get("balancers"))) if w)
    return Answer(state, why, _token(detail.get("version")), _token(detail.get("start")), _in_flight(detail),
                  _seconds(detail.get("since_age")), witnesses, healthy if isinstance(healthy, bool) else None, answer.status)


def _witness(entry):
    if not isinstance(entry, dict):
        return None
    node, name, state, age = (entry.get("node"), entry.get("name"), entry.get("state"), _seconds(entry.get("age")))
    if not (isinstance(node, str) and isinstance(state, str) and age is not None):
        return None
    return Witness(clean(node, 80), clean(name, 120) if isinstance(name, str) else "", clean(state, 40), age,
                   _count(entry.get("scur")), _count(entry.get("weight")))


def _in_flight(detail):
    """Requests in flight and the app's own work; None as soon as one of them is told and not understood."""
    flying, busy = _count(detail.get("in_flight")), detail.get("busy", 0)
    busy = int(busy) if isinstance(busy, bool) else 0 if busy is None else _count(busy)
    return None if flying is None or busy is None else flying + busy


def _list(value):
    return value[:100] if isinstance(value, list) else []


def _count(value):
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def _seconds(value):
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if good and value < 1e12 else None


def _token(value):
    """A version or a start id: printable ASCII without spaces, as systemd and RPM write them."""
    return value if isinstance(value, str) and re.fullmatch(r"[!-~]{1,128}", value) else None


def _version(h, host, shell):
    """(version, why) from an app without the kit: the pattern's first group, or all that it matched."""
    try:
        came = _ask(h, host, "GET", h.version_path, shell, _reading(h))
    except exchange.Lost as lost:
        return None, f"{h.version_path} {_quote(h, lost.why)}"
    except Trouble as trouble:
        return None, trouble.sentence
    text = came.body[:4096].decode("utf-8", "replace")
    match = re.search(h.version_pattern, text) if h.version_pattern and came.status == 200 else None
    found = _token((match[1] if match.re.groups else match[0]) if match else text.strip() if came.status == 200 else None)
    if found is None or (h.version_pattern and not match):
        return None, f"{h.version_path} answers {came.status} {_quoted_body(h, came)}, and no version is in it"
    return found, ""


def _ask(h, host, method, path, shell, headers, body=None):
    tunnel = None
    if h.via == "ssh":
        if shell is None:
            raise BadInput("via: ssh needs the SSH port, and none was given")

        def tunnel(address, port):
            return shell.tunnel(host, "127.0.0.1", port)
    return exchange.ask(host.address, h.port, path, method=method, headers=headers, body=body, scheme=h.scheme,
                        host_header=h.host_header, ca_file=h.ca_file, limit=h.timeout, tunnel=tunnel)


def _reading(h):
    return tuple(h.headers) + _basic(h)


def _basic(h):
    if not h.user:
        return ()
    password = exchange.reveal(h.password, f"password of {h.user}") if h.password else ""
    return (("Authorization", "Basic " + base64.b64encode(f"{h.user}:{password}".encode()).decode()),)


def _flipping(h, run, by, reason, version, started):
    """A flip's headers. Basic auth and a token both want Authorization: the token wins, as it is the one that flips."""
    token = (("Authorization", "Bearer " + exchange.reveal(h.token, "heartbeat token")),) if h.token else _basic(h)
    names = {name.lower() for name, _ in h.flip_headers}
    headers = [pair for pair in tuple(h.headers) + token if pair[0].lower() not in names] + list(h.flip_headers)
    if h.detail:
        headers += [("X-Bgdeploy-Run", run), ("X-Bgdeploy-By", by), ("X-Bgdeploy-Reason", reason)]
        if version and started:
            headers.append(("If-Match", f'"{version}/{started}"'))
    if h.flip_body and "content-type" not in {name.lower() for name, _ in headers}:
        headers.append(("Content-Type", "text/plain"))
    return tuple((name, clean(str(value or ""), 200).replace("\n", " ") if name.startswith("X-Bgdeploy") else value)
                 for name, value in headers)


def _tag(came):
    """{"version", "started"} of the process that answered, from the kit's ETag "VERSION/START"; {} if it has none."""
    version, slash, started = came.headers.get("etag", "").strip('"').rpartition("/")
    return {"version": version, "started": started} if slash and _token(version) and _token(started) else {}


def _quoted_body(h, came):
    return '"' + _quote(h, came.body.decode("utf-8", "replace").strip()) + '"'


def _quote(h, text):
    """Text of the other side as a sentence may carry it: our own secrets cut out (an app may echo them), cleaned, capped."""
    for secret, what in ((h.token, "token"), (h.password, "password")):
        try:
            known = exchange.reveal(secret, what) if secret else ""
        except BadInput:
            continue
        for form in (known, base64.b64encode(f"{h.user}:{known}".encode()).decode()) if known else ():
            text = text.replace(form, "***")
    text = " ".join(clean(text, 4 * QUOTED).split())
    return text if len(text) <= QUOTED else text[:QUOTED] + "..."


def _where(h, host):
    return exchange.authority("127.0.0.1" if h.via == "ssh" else host.address, h.port) + (" by SSH" if h.via == "ssh" else "")


def _component(site, component):
    return site.component(component) if isinstance(component, str) else component
