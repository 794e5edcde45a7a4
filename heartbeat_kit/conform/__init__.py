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


def conform(url, token_file=None, restart=None, slow=None, serving=False, timeout=5.0, ca_file=None, host=None):
    """Try the contract on one instance.

    :param url: http(s)://HOST[:PORT][/PATH]; the path is /heartbeat unless given.
    :param token_file: its first line may flip; None: only reading is tried.
    :param restart: a shell command that restarts the service and returns; None: persistence is not provable.
    :param slow: a path of the application whose answer takes seconds; None: requests in flight are not provable.
    :param serving: flip it although balancers look at it.
    :param timeout: seconds for each answer.
    :param ca_file: for https with a private CA. :param host: the Host header that it wants, and its certificate's name.
    :returns: Report. An instance that does not answer gives a row that says so. The word is left as it was found.
    :raises ValueError: a sentence about what of these is wrong; nothing was asked.
    """
    if slow is not None and not slow.startswith("/"):
        raise ValueError("the path %r does not begin with /: write one of the application's, such as /slow" % slow)
    probe, rows = Probe(url, _token(token_file), timeout, ca_file, host), []
    try:
        rows += reading.rows(probe)
        if rows[0].outcome == PASS:
            rows += flipping.rows(probe, restart, slow, serving)
    except (OSError, http.client.HTTPException) as error:
        rows.append(row("answers", False, "no answer any more: %s" % (error or type(error).__name__), "look into its log"))
    return judge(rows)


def judge(rows):
    """Rows -> Report: a miss among the basic ones is no level, one among the others leaves basic."""
    missing = {found.level for found in rows if found.outcome == MISS}
    level = "none" if BASIC in missing else BASIC if FULL in missing else FULL
    wanted = (BASIC, FULL) if level == FULL else (BASIC,)
    return Report(level, rows, sum(found.outcome == UNPROVED and found.level in wanted for found in rows))


def missed(report, level=BASIC):
    """Whether the instance does not keep the contract at this level."""
    return report.level not in (level, FULL)


def table(report):
    """Report -> text: a line a check, the cure below each that needs one, the level last."""
    width = max(len(found.check) for found in report.rows)
    lines = []
    for found in report.rows:
        lines.append("%-5s  %-*s  %-12s  %s" % (found.level, width, found.check, found.outcome, found.detail))
        if found.outcome != PASS:
            lines.append("%s-> %s" % (" " * (width + 23), found.cure))
    return "\n".join(lines + ["level: %s%s" % (report.level, ", %d not provable" % report.unproved if report.unproved else "")])


def document(report):
    """Report -> what JSON can hold."""
    return {"level": report.level, "unproved": report.unproved, "rows": [dict(found._asdict()) for found in report.rows]}


def _token(file):
    if file is None:
        return None
    try:
        with open(file, errors="replace") as opened:
            token = opened.readline(65536).strip()
    except OSError as error:
        raise ValueError("the token file %s cannot be read: %s" % (file, error.strerror))
    if not token:
        raise ValueError("the token file %s begins with an empty line: write the token into its first" % file)
    if not all(" " <= c <= "~" for c in token):
        raise ValueError("the token file %s: a token has to be plain ASCII" % file)
    return token
