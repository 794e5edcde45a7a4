"""HAProxy's statistics page, read only, where a site grants it: who is in a node's pool, for apps that keep no send-state.

What the page says is the balancer's own word at this moment, so it needs no age and holds whenever the last flip was.
"""

import base64
import csv
import io
import threading
import time
from dataclasses import replace
from urllib.parse import urlsplit

from bgdeploy.clean import clean
from bgdeploy.errors import Trouble
from bgdeploy.outside import exchange
from bgdeploy.outside.heartbeat_answer import Witness, sessions

KEPT = 0.5                  # seconds for which one page serves all instances of a look
LIMIT = 3.0
LARGEST = 4 << 20           # bytes: 10,000 servers


class Pages:
    """The statistics pages of a site's balancer nodes. Thread-safe; contacts only nodes whose `stats` is set."""

    def __init__(self, site):
        self._sides = {node.name: (side, node) for side in (site.live, site.standby) for node in side.nodes if node.stats}
        self._locks = {name: threading.Lock() for name in self._sides}
        self._kept = {}

    def reading(self, read):
        """`heartbeat.read` with these pages' words added to what it returns; the same arguments. A node that has been heard
        by send-state too is known by its page alone: that is the newer word."""
        if not self._sides:
            return read

        def with_pages(site, host, component, shell=None):
            answer = read(site, host, component, shell)
            name = component if isinstance(component, str) else component.name
            words = tuple(word for node in self._sides for word in [self.word(node, name, host.name)] if word)
            heard = {word.node for word in words}
            answer = replace(answer, balancers=words + tuple(w for w in answer.balancers if w.node not in heard))
            silent = [node for node in self._sides if node not in {w.node for w in answer.balancers}]
            if silent and answer.state:
                why = "; ".join(filter(None, (answer.why, self.trouble(silent[0], name, host.name))))
                answer = replace(answer, why=why)
            if site.component(name).heartbeat.in_flight == "balancer":
                count = sessions(site.live.nodes, answer, name, host.name)
                answer = replace(answer, in_flight=count, counted_by="balancer" if count is not None else "")
            return answer
        return with_pages

    def word(self, node, component, host):
        """What this node's page says of COMPONENT/HOST (backend/server) as a Witness, or None."""
        lines, _, at = self._page(node)
        row = next((r for r in lines or () if (r["pxname"], r["svname"]) == (component, host)), None)
        return row and _witness(node, row, time.monotonic() - at)

    def trouble(self, node, component, host):
        """Why this node's page says nothing of COMPONENT/HOST, and what to do, as a sentence."""
        why = self._page(node)[1] or f"has no server {host} in a backend {component}: name both as in the inventory"
        return f"the statistics page of {node} {why}"

    def _page(self, name):
        """(rows or None, why there are none, when it was read). One request a node at a time; whoever comes meanwhile gets its
        result."""
        came = time.monotonic()
        with self._locks[name]:
            lines, why, at, until = self._kept.get(name, (None, "", came, 0.0))
            if came > until:
                at = time.monotonic()
                lines, why = self._read(*self._sides[name])
                # a page is of the moment it was asked for; that there is none is known from the end of its limit on
                self._kept[name] = lines, why, at, KEPT + (at if lines is not None else time.monotonic())
            return lines, why, at

    @staticmethod
    def _read(side, node):
        url = urlsplit(node.stats)
        path = ((url.path or "/") + (f"?{url.query}" if url.query else "")).removesuffix(";csv") + ";csv"
        try:
            port = url.port or {"https": 443}.get(url.scheme, 80)
            came = exchange.ask(url.hostname or "", port, path, scheme=url.scheme, headers=_credentials(side),
                                ca_file=side.ca_file, limit=LIMIT, cap=LARGEST)
        except exchange.Lost as lost:
            return None, " ".join(clean(lost.why, 200).split())
        except (Trouble, ValueError) as trouble:
            return None, f"was not asked: {getattr(trouble, 'sentence', trouble)}"
        if came.status == 401:
            return None, "answers 401: compare stats_user and its password in the inventory with the balancer's"
        found = rows(came.body.decode("utf-8", "replace")) if came.status == 200 and came.whole else None
        return found, "" if found is not None else f"({node.stats}) answers {came.status} and no table: name the page itself"


def rows(text):
    """The page's lines as dicts by column name; None if this is not such a page. Pure."""
    if not text.startswith("# pxname,svname,"):
        return None
    try:
        return [row for row in csv.DictReader(io.StringIO(text[2:]), strict=True) if row.get("svname")]
    except csv.Error:
        return None


def _credentials(side):
    if not side.stats_user:
        return ()
    password = exchange.reveal(side.stats_password, f"the password of {side.stats_user}") if side.stats_password else ""
    return (("Authorization", "Basic " + base64.b64encode(f"{side.stats_user}:{password}".encode()).decode()),)


def _witness(node, row, age):
    """A line as the word it would be by send-state. MAINT and DRAIN, set by a person, are out as well: no new requests.

    "UP 1/3" (going down) and "DOWN 1/2" (coming up) stand there as such; "no check" proves nothing and stays what it is.
    """
    state = clean(row.get("status") or "", 40)
    word = "DOWN" if state.startswith("MAINT") else "NOLB" if state.startswith("DRAIN") else state
    scur, weight = _count(row.get("scur")), _count(row.get("weight"))
    return Witness(node, f"{row['pxname']}/{row['svname']}", word, age, scur, weight, now=True)


def _count(text):
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 16 else None
