"""A component's heartbeat: read it, flip it. It reports what was answered; what that allows is not decided here.

The contract is docs/heartbeat.md; what an answer means is in heartbeat_answer.py.
"""

import base64
import os
import re
import time
from dataclasses import replace

from bgdeploy.clean import clean
from bgdeploy.errors import BadInput, Trouble
from bgdeploy.model import LIVE, STANDBY, Result
from bgdeploy.outside import exchange, heartbeat_answer
from bgdeploy.outside.heartbeat_answer import Answer, Witness
from bgdeploy.site import Secret

__all__ = ["Answer", "Witness", "flip", "read"]

READ_BACK = 0.2             # seconds between two looks after a flip that did not confirm itself
LOGIN = 5.0                 # seconds that an SSH login may take besides
TOKEN_ENV = "BGDEPLOY_HEARTBEAT_TOKEN"


def read(site, host, component, shell=None):
    """Look once. Changes nothing; never raises for what a host does.

    :param host: site.Host. :param component: site.Component, or its name.
    :param shell: ssh.Shell, needed where the heartbeat says via: ssh, and to count connections.
    :returns: Answer, after two requests for an app with the kit, each within the heartbeat's `timeout` (opening the SSH
        connection not counted).
    """
    component = _component(site, component)
    way = _Way(component, host, shell)
    try:
        came = way.ask("GET", way.h.path, way.reading())
    except exchange.Lost as lost:
        return Answer(why=f"{way.who} ({way.where()}) {way.quote(lost.why)}")
    except Trouble as trouble:
        return Answer(why=f"{way.who}: {trouble.sentence}")
    state, why = heartbeat_answer.state(way.h, came, way.who, way.quote)
    answer = Answer(state, why, status=came.status)
    answer = _detailed(way, answer) if way.h.detail else _described(way, answer)
    return _counted(site, way, component, answer)


def flip(site, host, component, word, *, run, by, reason, release_version=None, started=None, shell=None):
    """Tell one instance to be `word` (live or standby). Sent once, never repeated.

    With `release_version` and `started` it is compare-and-set: an app with the kit refuses if another process answers;
    for others version and start id are read before and after, and a process that is another one after it went live is put
    back to standby at once.

    :param run, by, reason: told to an app with the kit, which keeps them.
    :returns: Result. ok: it says so itself. failed: it certainly did not, or it says so. unknown: the answer was lost, look
        again. evidence: {"version", "started"} of the process that was flipped. No secret is in any sentence.
    """
    component = _component(site, component)
    way, began = _Way(component, host, shell), time.monotonic()
    evidence = {"version": release_version, "started": started}

    def ended(outcome, detail=""):
        return Result(host.name, outcome, detail, time.monotonic() - began, evidence)

    guarded = word == LIVE and not way.h.detail
    try:
        stale = _stale(way, component, release_version, started) if guarded else ""
        if stale:
            return ended("failed", f"{way.who} was not flipped: {stale}")
        said = {LIVE: way.h.live, STANDBY: way.h.standby}[word]
        body = way.h.flip_body.replace("{word}", said) if way.h.flip_body else None
        path = (way.h.flip_path or way.h.path).replace("{word}", said)
        came = way.ask(way.h.flip_method, path, way.flipping(run, by, reason, release_version, started), body)
    except exchange.Lost as lost:
        if not lost.sent:
            return ended("failed", f"{way.who} ({way.where()}) {way.quote(lost.why)}: it was not flipped")
        return ended("unknown", f"{way.who}: the flip to {word} was sent and its answer lost ({way.quote(lost.why)}); look again")
    except Trouble as trouble:
        return ended("failed", f"{way.who} was not flipped: {trouble.sentence}")
    outcome, detail = _judged(way, came, word)
    evidence.update(heartbeat_answer.tag(came))
    if outcome == "ok" and guarded:
        try:
            stale = _stale(way, component, release_version, started)
        except Trouble as trouble:
            return ended("unknown", f"{way.who} says live, and it is not known which process does: {trouble.sentence}")
        if stale:
            undone = flip(site, host, component, STANDBY, run=run, by=by, reason="restarted while it went live", shell=shell)
            outcome, how = "failed", {"ok": "and was put back to standby"}.get(undone.outcome, f"and {undone.detail}")
            detail = f"{way.who} went live, {how}: {stale}"
    return ended(outcome, detail)


def _detailed(way, answer):
    """The look with the kit's detail view added. A sick app has one too."""
    try:
        came = way.ask("GET", way.h.detail, way.reading())
    except exchange.Lost as lost:
        return replace(answer, why=answer.why or f"{way.who}: its detail view {way.quote(lost.why)}")
    except Trouble as trouble:
        return replace(answer, why=answer.why or f"{way.who}: {trouble.sentence}")
    detail = heartbeat_answer.document(came)
    if detail is None:
        why = f"{way.who}: its detail view answers {heartbeat_answer.quoted(came, way.quote)}, and JSON is expected"
        return replace(answer, why=answer.why or why)
    return heartbeat_answer.detailed(answer, detail, way.who)


def _described(way, answer):
    """The look at an app without the kit: its version where the inventory names a path for it."""
    version, why = _version(way) if way.h.version_path else (None, "")
    healthy = False if answer.status == 503 else None if answer.state is None else True
    return replace(answer, version=version, why=answer.why or why, healthy=healthy)


def _counted(site, way, component, answer):
    """The look with requests in flight as the inventory wants them known; with `none` they are not known."""
    if way.h.in_flight == "kit":
        return replace(answer, counted_by="kit" if answer.in_flight is not None else "")
    count = None
    if way.h.in_flight == "balancer":
        count = heartbeat_answer.sessions(site.live.nodes, answer, component.name, way.host.name)
    elif way.h.in_flight == "connections" and way.shell is not None:
        count = _connections(site, way, component.port or way.h.port)
    return replace(answer, in_flight=count, counted_by=way.h.in_flight if count is not None else "")


def _connections(site, way, port):
    """Established TCP connections to the component's port on its host, STANDBY's own not counted; None if not known.

    A kept connection without a request counts too: what is counted too much only makes a drain wait.
    """
    try:
        answer = way.shell.run(way.host, ["ss", "-Htn", "state", "established", f"( sport = :{port} )"], limit=way.h.timeout + 5)
    except Trouble:
        return None
    if answer.exit != 0:
        return None
    lines = [line.split() for line in answer.out.decode("ascii", "replace").splitlines() if line.strip()]
    quiet = {node.address.strip("[]") for node in site.standby.nodes}
    return sum(1 for line in lines if _address(line[-1]) not in quiet)


def _address(text):
    """ss's "10.0.0.1:80", "[fd00::1]:80" or "[::ffff:10.0.0.1]:80" without port."""
    return text.rpartition(":")[0].strip("[]").removeprefix("::ffff:").partition("%")[0]


def _stale(way, component, version, started):
    """Why the process that answers is not the one that was meant, or "". For an app without the kit. Raises NoAnswer."""
    if version and way.h.version_path:
        found, why = _version(way)
        if found is None:
            return why
        if found not in (version, version.rpartition("-")[0], version.rpartition("-")[0].rpartition(":")[2]):
            return f"{found} runs, and {version} was meant"
    if started and way.shell:
        answer = way.shell.run(way.host, ["systemctl", "show", "-p", "InvocationID", component.service], limit=10)
        now = answer.out.decode("ascii", "replace").strip().partition("=")[2]
        if now != started:
            return f"its service was restarted (its start id is {clean(now, 40) or 'unknown'}, and {started} was meant)"
    return ""


def _version(way):
    """(version, why) from an app without the kit: the pattern's first group, or all that it matched."""
    try:
        came = way.ask("GET", way.h.version_path, way.reading())
    except exchange.Lost as lost:
        return None, f"{way.who}: {way.h.version_path} {way.quote(lost.why)}"
    except Trouble as trouble:
        return None, trouble.sentence
    text = came.body[:4096].decode("utf-8", "replace").strip()      # capped: the pattern is the site's, the text is not
    match = re.search(way.h.version_pattern or r"\S+", text) if came.status == 200 else None
    found = heartbeat_answer.token(match[1] if match.re.groups else match[0]) if match else None
    quoted = heartbeat_answer.quoted(came, way.quote)
    return (found, "") if found else (None, f"{way.who}: {way.h.version_path} answers {quoted}, and no version is in it")


def _judged(way, came, word):
    """(outcome, detail) of an answer to a flip."""
    who, quoted = way.who, heartbeat_answer.quoted(came, way.quote)
    if 300 <= came.status < 400:
        return "failed", f"{who}: {heartbeat_answer.redirected(came, way.quote, way.h)}"
    if came.status in (401, 403) and not way.proves():
        return "failed", f"{who} refuses a flip without a token ({quoted}); name one: token_file in the inventory, or {TOKEN_ENV}"
    if came.status in (401, 403):
        return "failed", f"{who}: token refused ({quoted}); compare the token that the inventory names with the host's"
    if came.status == 412:
        return "failed", f"{who} is not the process that was meant; it answers {quoted}"
    if came.status // 100 == 2:
        if way.h.detail and came.whole and heartbeat_answer.word(way.h, came) == word:
            return "ok", ""
        return _read_back(way, word, quoted, patience=way.h.timeout)
    if came.status >= 500:
        outcome, detail = _read_back(way, word, quoted, patience=0)
        return ("failed" if outcome == "failed" else "unknown"), detail or f"{who} answers {quoted} to the flip; look again"
    return "failed", f"{who} refuses the flip: {quoted}{heartbeat_answer.refused(way.h, came, way.quote)}"


def _read_back(way, word, quoted, patience):
    """What the heartbeat says after a flip that did not confirm itself. :param patience: seconds that the app may need."""
    until = time.monotonic() + patience
    while True:
        try:
            state, why = heartbeat_answer.state(way.h, way.ask("GET", way.h.path, way.reading()), way.who, way.quote)
        except exchange.Lost as lost:
            state, why = None, f"{way.who} {way.quote(lost.why)}"
        except Trouble as trouble:
            state, why = None, trouble.sentence
        if state == word:
            return "ok", ""
        if time.monotonic() >= until:
            break
        time.sleep(READ_BACK)
    if state is None:
        return "unknown", f"{way.who} answered {quoted} to the flip, and then its heartbeat is not known: {why}"
    return "failed", f"{way.who} answered {quoted} to the flip, and its heartbeat still says {state}"


class _Way:
    """The way to one component's heartbeat on one host: how to ask, with what headers, and what never to repeat."""

    def __init__(self, component, host, shell):
        self.h, self.host, self.shell, self.who = component.heartbeat, host, shell, f"{component.name} on {host.name}"

    def ask(self, method, path, headers, body=None):
        h = self.h
        return exchange.ask(self.host.address, h.port, path, method=method, headers=headers, body=body, scheme=h.scheme,
                            host_header=h.host_header, ca_file=h.ca_file, limit=h.timeout,
                            tunnel=self._tunnel if h.via == "ssh" else None)

    def _tunnel(self, _, port):
        if self.shell is None:
            raise BadInput("via: ssh needs the SSH port, and none was given")
        return self.shell.tunnel(self.host, "127.0.0.1", port, limit=self.h.timeout + LOGIN)

    def where(self):
        by_ssh = self.h.via == "ssh"
        return exchange.authority("127.0.0.1" if by_ssh else self.host.address, self.h.port) + (" by SSH" if by_ssh else "")

    def reading(self):
        return tuple(self.h.headers) + self._basic()

    def flipping(self, run, by, reason, version, started):
        """A flip's headers. Basic auth and a token both want Authorization: the token wins, as it is the one that flips."""
        token = self._token()
        proof = (("Authorization", "Bearer " + exchange.reveal(token, "the heartbeat token")),) if token else self._basic()
        named = {name.lower() for name, _ in self.h.flip_headers}
        headers = [pair for pair in tuple(self.h.headers) + proof if pair[0].lower() not in named] + list(self.h.flip_headers)
        if self.h.detail:
            told = (("X-Bgdeploy-Run", run), ("X-Bgdeploy-By", by), ("X-Bgdeploy-Reason", reason))
            headers += [(name, " ".join(clean(value or "", 200).split())) for name, value in told]
            if version and started:
                headers.append(("If-Match", f'"{version}/{started}"'))
        if self.h.flip_body and "content-type" not in {name.lower() for name, _ in headers}:
            headers.append(("Content-Type", "text/plain"))
        return tuple(headers)

    def quote(self, text):
        """Text of the other side as a sentence may carry it: our own secrets cut out (an app may echo them), cleaned, capped."""
        for secret in (self._token(), self.h.password):
            try:
                known = exchange.reveal(secret, "") if secret else ""
            except BadInput:
                continue
            for form in (known, base64.b64encode(f"{self.h.user}:{known}".encode()).decode()) if known else ():
                text = text.replace(form, "***")
        text = " ".join(clean(text, 4 * heartbeat_answer.QUOTED).split())
        return text if len(text) <= heartbeat_answer.QUOTED else text[:heartbeat_answer.QUOTED] + "..."

    def proves(self):
        """Whether a flip carries anything that says who asks."""
        return bool(self._token() or self.h.user or "authorization" in {name.lower() for name, _ in self.h.flip_headers})

    def _token(self):
        """The secret that flips: the inventory's, else the one that the environment names; None: there is none, or a user and
        a password stand in its place (somebody else's token must not go there)."""
        if self.h.user and not self.h.token:
            return None
        file = os.environ.get(TOKEN_ENV + "_FILE")
        return self.h.token or (Secret(env=TOKEN_ENV) if os.environ.get(TOKEN_ENV) else Secret(file=file) if file else None)

    def _basic(self):
        if not self.h.user:
            return ()
        password = exchange.reveal(self.h.password, f"the password of {self.h.user}") if self.h.password else ""
        return (("Authorization", "Basic " + base64.b64encode(f"{self.h.user}:{password}".encode()).decode()),)


def _component(site, component):
    return site.component(component) if isinstance(component, str) else component
