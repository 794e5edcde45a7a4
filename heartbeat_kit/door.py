"""Who may flip: a token, compared in constant time, and a door that closes for those who guess.

Guesses are slowed by refusing the *address* for a while, never by sleeping: a worker that sleeps for a stranger cannot
answer the balancers. Everybody else's door stays open.
"""

import hmac
import re

from . import balancers, process
from .board import Row

FREE = 3                    # wrong tokens before the door closes
SHORTEST, LONGEST = 0.5, 8.0    # seconds it stays closed: doubling
FORGET = 60.0               # seconds after which an address starts anew

OPEN, ANONYMOUS, WRONG, CLOSED, UNSET = "open", "anonymous", "wrong", "closed", "unset"


def tokens(path):
    """The tokens that are valid now: a line each, so that a new one can be added before the old one goes. Raises OSError."""
    with open(path, "rb") as file:
        return [line.strip() for line in file.read(65536).splitlines() if line.strip()]


def problem(path):
    """Why nobody can flip with the tokens of this file, or with one of them; None if there is nothing to say."""
    try:
        known = tokens(path)
    except OSError as error:
        return "%s: %s: nobody may flip" % (path, error.strerror)
    if not known:
        return "%s is empty: nobody may flip" % path
    return "%s: a token has to be plain ASCII" % path if any(re.search(b"[^ -~]", token) for token in known) else None


def knock(board, path, authorization, peer):
    """May this caller flip? Returns (OPEN | ANONYMOUS | WRONG | CLOSED | UNSET, seconds until it may try again)."""
    if not authorization:
        return ANONYMOUS, 0.0
    key, now = _whose(peer), process.uptime()
    closed = next((row.at for row in board.rows("doors") if row.key == key), 0.0) - now
    if closed > 0:
        return CLOSED, closed
    scheme, _, given = authorization.partition(" ")
    try:
        valid = tokens(path)
    except OSError:
        valid = []
    if not valid:
        return UNSET, 0.0
    given = given.strip().encode("latin-1", "replace")
    right = [hmac.compare_digest(given, token) for token in valid]      # all of them: the time must not tell which
    if any(right) and scheme.lower() == "bearer":
        board.update("doors", key, lambda row: None)
        return OPEN, 0.0
    board.update("doors", key, lambda row: _again(row, key, now))
    return WRONG, 0.0


def _again(row, key, now):
    count = row.number + 1 if row and now - row.at < FORGET else 1
    wait = 0.0 if count < FREE else min(LONGEST, SHORTEST * 2 ** min(count - FREE, 10))
    return Row(key, now + wait, count, "")


def _whose(peer):
    """Who is slowed: an IPv4 address, or a whole IPv6 /64, since one machine has as many addresses there as it likes."""
    address = balancers.plain_address(peer)
    if address is None:
        return peer or "unknown"
    return str(address) if address.version == 4 else address.exploded[:19] + "/64"
