"""What the balancers say and show. Nothing in here changes a balancer; bgdeploy never does.

Two sources: each node's own word, which it gives the app on every check (`pool`) or shows on its statistics page (stats.py);
and requests through the address (`who`): they prove who serves, never that somebody does not.
"""

import time
from collections import Counter
from itertools import cycle

from bgdeploy.model import MOVING, NO, YES
from bgdeploy.outside import served
from bgdeploy.outside.heartbeat_answer import FRESH, sessions, words_of

__all__ = ["pool", "sessions", "strangers", "told", "who"]

HEARD = 30.0                # seconds: a stranger silent for longer is gone (its word stays in the app until a restart)


def pool(nodes, answer, component, host):
    """What all named nodes of one balancer say of one instance: yes | no | moving | None. Pure.

    Only a word received after the last flip counts, and only for three of that node's intervals (HAProxy's header is its
    opinion *before* the check that carries it, measured: one from before a flip may be wrong for a whole detection time).

    :param nodes: site.Node of LIVE or of STANDBY. :param answer: heartbeat.Answer.
    :returns: yes: every node UP; no: every node DOWN or NOLB; None: one of them is silent, or nobody knows when the flip
        was; moving: anything between ("UP 1/2", nodes that differ, UP with a weight of 0).
    """
    said = {_word(node, answer, component, host) for node in nodes}
    if None in said or not said:
        return None
    return said.pop() if len(said) == 1 else MOVING


def told(nodes, answer, component, host):
    """What each of these nodes says, in words: "live-1: DOWN, live-2: never heard". Why `pool` is None, or moving. Pure."""
    return ", ".join(f"{node.name}: {_told(node, answer, component, host)}" for node in nodes)


def strangers(site, answer):
    """Names of nodes that the app hears and the inventory does not name: somebody added a balancer."""
    named = {node.name for balancer in (site.live, site.standby) for node in balancer.nodes}
    return tuple(sorted({w.node for w in answer.balancers if w.node not in named and w.age <= HEARD}))


def _word(node, answer, component, host):
    said = set()
    for witness in words_of(node, answer, _name(component), _name(host)):
        if witness.age > FRESH * node.interval:
            return None
        if not witness.now and (answer.since_age is None or witness.age >= answer.since_age):
            return None
        word = {"UP": YES, "DOWN": NO, "NOLB": NO}.get(witness.state, MOVING)
        said.add(MOVING if word == YES and witness.weight == 0 else word)
    return None if not said else said.pop() if len(said) == 1 else MOVING


def _told(node, answer, component, host):
    words = words_of(node, answer, _name(component), _name(host))
    if not words:
        return "never heard"
    if _word(node, answer, component, host) is None:
        age = max(witness.age for witness in words)
        if age > FRESH * node.interval:
            return f"heard {age:.0f} s ago"
        return "not heard since the flip" if answer.since_age is not None else "heard, but when the last flip was is not known"
    return " and ".join(sorted({w.state + (" with weight 0" if w.weight == 0 else "") for w in words}))


def who(site, balancer, component, count, limit=3.0):
    """Ask through a balancer's addresses, its nodes in turn, each time on a new connection.

    :param count: how many requests; the last may end `limit` seconds after the budget of count x limit / 2 is spent.
    :returns: Counter by (host, version) as the answers name them; (None, what came instead) where an answer names nobody.
    """
    component = site.component(component) if isinstance(component, str) else component
    path = component.sanity[0].path if component.sanity else "/"
    counts, until = Counter(), time.monotonic() + max(limit, count * limit / 2)
    names = [host.name for host in site.hosts]
    for _, node in zip(range(count), cycle(balancer.nodes)):
        counts[served.named(served.request(balancer, node, component.name, path, limit), names)] += 1
        if time.monotonic() > until:
            break
    return counts


def _name(thing):
    return thing if isinstance(thing, str) else thing.name
