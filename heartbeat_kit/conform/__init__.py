"""Does a running instance keep the heartbeat contract (docs/heartbeat.md)? For an app in any language.

Reading is always tried. With a token the word is flipped too, and left as it was found; not on an instance that a balancer
looked at within the last minute, unless the caller says that this may be.
"""

import http.client
from collections import namedtuple

from . import flipping, reading
from .probe import Probe
from .verdict import BASIC, FULL, MISS, PASS, UNPROVED, row

Report = namedtuple("Report", "level rows unproved")
Report.__doc__ = """level: "full", "basic" or "none"; rows: verdict.Row; unproved: how many of that level are not provable."""


def run(url, token=None, restart=None, slow=None, serving=False, timeout=5.0, ca_file=None):
    """Try the contract on one instance.

    :param token: the token that may flip; None: only reading is tried.
    :param restart: a shell command that restarts the service and returns; None: persistence is not provable.
    :param slow: a path of the application whose answer takes seconds; None: requests in flight are not provable.
    :param serving: flip it although balancers look at it.
    :returns: Report. An instance that does not answer gives a row that says so.
    :raises ValueError: the URL is none. Never changes the word for good, unless the instance dies of it.
    """
    probe, rows = Probe(url, token, timeout, ca_file), []
    try:
        rows += reading.rows(probe)
        if rows[0].outcome == PASS:
            rows += flipping.rows(probe, restart, slow, serving)
    except (OSError, http.client.HTTPException) as error:
        rows.append(row("answers", False, "no answer any more: %s" % (error or type(error).__name__), "look into its log"))
    return judge(rows)


def judge(rows):
    """Rows -> Report: a miss among the basic ones is no level, one among the others leaves basic."""
    missed = {found.level for found in rows if found.outcome == MISS}
    level = "none" if BASIC in missed else BASIC if FULL in missed else FULL
    wanted = (BASIC, FULL) if level == FULL else (BASIC,)
    return Report(level, rows, sum(found.outcome == UNPROVED and found.level in wanted for found in rows))


def table(report):
    """Report -> lines of text, the cure below each row that needs one."""
    width = max(len(found.check) for found in report.rows)
    lines = []
    for found in report.rows:
        lines.append("%-5s  %-*s  %-12s  %s" % (found.level, width, found.check, found.outcome, found.detail))
        if found.outcome != PASS:
            lines.append("%s    -> %s" % (" " * (width + 21), found.cure))
    return lines + ["level: %s%s" % (report.level, ", %d not provable" % report.unproved if report.unproved else "")]
