"""What a Chef run came to: an exit file, a report and a log become one word. Reads nothing by itself.

Exit codes: Chef RFC 062 and what Chef 18.11.11 really did when tried (35 for both kinds of reboot; 1 for a lock that is held;
0 after a SIGTERM, because a run without fork finishes; 213 after the client upgraded itself).
"""

import re

RUNNING, OK, FAILED, LOCKED, REBOOT, AGAIN = "running", "ok", "failed", "locked", "reboot", "again"
CONFIG, LICENCE, KILLED, TIMEOUT, LOST = "config", "licence", "killed", "timeout", "lost"

CODES = {
    0: (OK, "converged"),
    2: (KILLED, "interrupted by SIGINT"),
    3: (KILLED, "ended by SIGTERM"),
    35: (REBOOT, "a reboot is scheduled (exit code 35)"),
    37: (FAILED, "a reboot is needed first (exit code 37)"),
    41: (FAILED, "the reboot failed (exit code 41)"),
    43: (CONFIG, "chef-client's configuration is wrong (exit code 43)"),
    172: (LICENCE, "the Chef licence is not accepted (exit code 172)"),
    173: (LICENCE, "the Chef licence is not entitled (exit code 173)"),
    174: (LICENCE, "the Chef licence is not set (exit code 174)"),
    203: (FAILED, "chef-client could not be started (exit code 203)"),
    213: (AGAIN, "the client upgraded itself (exit code 213)"),
}
_LOCK = re.compile(r"Unable to acquire lock\. Waited [0-9.]+ seconds for")
_CHILD = re.compile(r"ChildConvergeError.*\(exit code ([0-9]{1,3})\)")
_NO_CANDIDATE = re.compile(r"no candidate version available", re.IGNORECASE)
# What dnf (or RPM's own test), Ruby and Python say about a full disk, each with the place and the need as far as it tells them.
_FULL = (
    re.compile(r"[Aa]t least (?P<need>[0-9.]+ ?[KMGT]?i?B) more space needed on the (?P<place>/\S*) filesystem"),
    re.compile(r"needs (?P<need>[0-9.]+ ?[KMGT]?i?B|[0-9]+ (?:more )?inodes)(?: more space)? on the (?P<place>/\S*) filesystem"),
    re.compile(r"No space left on device(?: @ \w+(?: -)? (?P<place>/[^\s'\"]*)|: '(?P<path>/[^']*)')?"),
    re.compile(r"(?P<kind>Read-only file system|Disk quota exceeded)"
               r"(?: @ \w+(?: -)? (?P<place>/[^\s'\"]*)|: '(?P<path>/[^']*)')?"))
_ECHO = re.compile(r"Traceback \(most recent call last\)|---- End output of ")
_FATAL = re.compile(r"(?:FATAL|ERROR): (\S.{0,600})")


def translate(exit_words, tail, report):
    """Say how an ended run ended.

    :param exit_words: the exit file: systemd's "$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS", as in "exit-code exited 35".
    :param tail: the last text of the output.
    :param report: the handler's JSON, or None: it was not written at a lock time-out, a wrong configuration, a SIGKILL.
    :returns: (state, number or None, one sentence why).
    """
    result, how, status = (exit_words.split() + ["", "", ""])[:3]
    number = int(status) if how == "exited" and re.match(r"[0-9]{1,3}\Z", status) else None
    if result == "not-started":
        return FAILED, None, "systemd did not start the run: " + " ".join(tail.split())[-300:]
    if how in ("killed", "dumped"):
        why = "systemd's time limit was reached" if result == "timeout" else \
            "the kernel's out-of-memory killer ended it" if result == "oom-kill" else "it was killed by SIG" + status
        return (TIMEOUT if result == "timeout" else KILLED), None, why
    if number is None:
        return LOST, None, "its exit file cannot be read: {!r}".format(exit_words[:80])
    if result == "timeout" and number != 0:
        return TIMEOUT, number, "the time limit was reached (exit code {})".format(number)
    if number == 0:
        # Asked to end at its limit, a run without fork finishes what it does: it has converged, late.
        higher = _part(report, "outranked")
        if higher:
            paths = _part(report, "attributes")
            return OK, 0, "converged, but not on what was asked: " + "; ".join(
                "node['{}'] is set by {}, which outranks a deployment's".format(
                    "']['".join(str(paths.get(name) or "bgdeploy.versions." + name).split(".")), level)
                for name, level in sorted(higher.items()))
        return OK, 0, "converged, after its time limit" if result == "timeout" else "converged"
    child = _CHILD.search(tail)
    if number == 1 and child:
        number = int(child.group(1))
    if number == 1 and report is None and _LOCK.search(tail):
        return LOCKED, 1, _LOCK.search(tail).group(0).split(".")[0].lower() + ": another chef-client run holds it"
    state, why = CODES.get(number, (FAILED, "exit code {}".format(number)))
    cause = _cause(report, tail) if state == FAILED else None
    if cause:
        why = cause if number == 1 else "{}: {}".format(why, cause)     # 1 is any failure; another code says more than its FATAL
    return state, number, why


def _cause(report, tail):
    error, where = _part(report, "exception"), _part(report, "failed")
    if error:
        place = where.get("line") or where.get("cookbook")
        place = " ({}, {})".format(where["resource"], place) if where.get("resource") else ""
        # dnf's own Python trace follows its message and says nothing more, nor does what follows a command's output: the command.
        # The whole sentence has 800 characters, of which the resource and its place, at its end, want up to 270.
        message = " ".join(_ECHO.split(str(error.get("message")))[0].split())[:450]
        if where.get("wanted") and _NO_CANDIDATE.search(message):
            # Chef's own words ("No version specified, and no candidate version available") mislead when a version was specified.
            message = "version {} is not in the repository as this host sees it; Chef says: {}".format(where["wanted"], message)
        return "{}{}: {}{}".format(_full(str(error.get("message")) + tail), error.get("class"), message, place)
    fatal = _FATAL.findall(tail)
    return _full(tail) + fatal[-1].strip() if fatal else _full(tail) or None


def _part(report, key):
    """A part of the report that has parts itself; {} where it is missing or something else: the file may be a stranger's."""
    found = (report or {}).get(key)
    return found if isinstance(found, dict) else {}


def _full(text):
    """"No space left on /var (needs 12MB more); " where that is what a run failed of, else ""."""
    found = next((found for found in (pattern.search(text) for pattern in _FULL) if found), None)
    if not found:
        return ""
    parts = found.groupdict()
    where = parts.get("place") or parts.get("path") or "a disk of this host"
    need = " (needs {} more)".format(parts["need"].replace(" more", "")) if parts.get("need") else ""
    return "{} on {}{}; ".format(parts.get("kind") or "No space left", where, need)
