"""The checks of the contract, their level, the cure for a miss; and how one ended."""

from collections import namedtuple

PASS, MISS, UNPROVED = "pass", "miss", "not provable"
BASIC, FULL = "basic", "full"

CHECKS = {
    "answers": (BASIC, "start it; check address, port and firewall"),
    "the word": (BASIC, "status 200, the body `live` or `standby`, a line feed at most behind it: no JSON, no capitals, no BOM"),
    "plain text": (BASIC, "Content-Type: text/plain"),
    "length": (BASIC, "a Content-Length that is true: HAProxy takes an answer that was cut off for a whole one"),
    "not compressed": (BASIC, "your balancer will not understand this: it compares bytes, and asked for no coding"),
    "not cached": (BASIC, "Cache-Control: no-store"),
    "HEAD": (BASIC, "answer HEAD as GET, without the body"),
    "any Host": (BASIC, "leave the heartbeat out of the check of host names, or name one in balancer and inventory"),
    "HTTP/1.0": (BASIC, "let the balancer send HTTP/1.1 and a Host: http-check send ... ver HTTP/1.1 hdr Host NAME"),
    "cheap": (BASIC, "answer from memory or a small file; ask nothing else on the way"),
    "workers agree": (BASIC, "keep the word where all worker processes read it: a file, not a variable"),
    "standby by default": (BASIC, "without a stored word: standby"),
    "no token": (BASIC, "401 or 403"),
    "wrong token": (BASIC, "401 or 403"),
    "flips": (BASIC, "PUT with the word as body answers 200 once it is stored; from then on every worker says it"),
    "other bodies": (BASIC, "400 for anything but the two words"),
    "flips at once": (BASIC, "write a new file and rename it, under a lock: never half a word, never two"),
    "survives a restart": (BASIC, "keep the word in a file outside the package, and fsync it"),
    "detail view": (FULL, "a JSON object at PATH/detail; its keys are in docs/heartbeat.md"),
    "version": (FULL, 'VERSION-RELEASE as RPM has them, such as "2.0.0-1": it is compared with what the repository has'),
    "detail agrees": (FULL, "read both from one place"),
    "ETag": (FULL, 'ETag: "VERSION/START" on the detail view'),
    "one start id": (FULL, "the same in all workers: systemd's INVOCATION_ID"),
    "new start id": (FULL, "another id after each start: systemd's INVOCATION_ID"),
    "compare and set": (FULL, "If-Match names another version or start id: 412, and nothing changed"),
    "own requests": (FULL, "do not count the heartbeat's own requests"),
    "requests in flight": (FULL, "count over all workers, until the last byte is sent"),
    "forged state": (FULL, "right only if a balancer has the address you ask from: believe the balancers' addresses alone"),
    "balancers heard": (FULL, "http-check send-state in the backend"),
}

Row = namedtuple("Row", "level check outcome detail cure")


def row(check, good, detail, cure=None):
    """:param good: True, False, or None where it cannot be proved. :param cure: instead of the table's."""
    level, usual = CHECKS[check]
    plain = "".join(c if c.isprintable() else " " for c in detail).strip()      # what an app says must not colour a terminal
    return Row(level, check, {True: PASS, False: MISS, None: UNPROVED}[good], plain, cure or usual)


def shown(body):
    """An answer's body as one short line for a person."""
    text = body.decode("utf-8", "replace")
    return "%r%s" % (text[:60], "..." if len(text) > 60 else "")


def said(body):
    """The word in a body, as text without the white space around it."""
    return body.strip().decode("utf-8", "replace")
