"""The part of the contract that only flipping, restarting and slow requests prove. Leaves the word as it was found."""

import http.client
import subprocess
import tempfile
import threading
import time

from .probe import CAP
from .reading import detail, heard, in_flight
from .verdict import row, said, shown

LOOKED_AT = 60.0            # seconds since a balancer's last word within which an instance counts as looked at
AGREE = 24                  # requests after a flip, so that every worker is met
BACK = 60.0                 # seconds that a restart may take
SLOW = "--slow: a path of the application that takes seconds"
REFUSED = "--token-file: one that holds a token of this instance; its own file has to be there for it, and readable"
WORDS = ("live", "standby")
FLIPS = ("flips", "other bodies", "flips at once", "survives a restart", "compare and set")


def rows(probe, restart, slow, serving):
    """All rows; where flipping is not possible or not allowed, some that say why."""
    before = said(probe.get().body)
    yield from _refusals(probe, before)
    yield from _slow(probe, slow)
    reason, cure = _why_not(probe, before, serving)
    if reason:
        yield from (row(check, None, reason, cure) for check in FLIPS)
        return
    try:
        flips = _flips(probe)
        yield flips
        if flips.cure == REFUSED:
            yield from (row(check, None, "its token is refused", "see: flips") for check in FLIPS[1:])
            return
        yield from _other_bodies(probe)
        yield from _at_once(probe)
        yield from _conditions(probe)
        yield from _restart(probe, restart)
    finally:
        answer = _flip(probe, before)
    if _everywhere(probe) != [before]:
        yield row("flips", False, "it said %s before and is left as it is: %d %s" % (before, answer.status, shown(answer.body)),
                  "put it back to %s by hand" % before)


def _why_not(probe, before, serving):
    """(reason, cure) for not flipping it, or (None, None)."""
    if not probe.token:
        return "no token given", "--token-file: one that holds a token of this instance"
    if before not in WORDS:
        return "its word is not understood", "see: the word"
    near = [b.get("node") for b in heard(detail(probe)) if b.get("node") != "conform" and not _long_ago(b.get("age"))]
    if near and not serving:
        return "%s looks at it: a flip would be followed" % near[0], "try one that serves nobody, or allow it: --serving"
    return None, None


def _long_ago(age):
    return isinstance(age, (int, float)) and age >= LOOKED_AT       # an age that is none does not say that nobody looks


def _refusals(probe, before):
    """Asked with the word that it says anyway: where anybody may flip, a serving instance must not leave its pool for this."""
    for check, token in (("no token", None), ("wrong token", "wrong-" + "x" * 20)):
        if before not in WORDS:
            yield row(check, None, "its word is not understood", "see: the word")
            continue
        status = probe.put(before, token=token).status
        yield row(check, status in (401, 403, 429), str(status))


def _flip(probe, word, **headers):
    """A flip; the wrong token of a moment ago may have closed the door, so a 429 is asked again."""
    for _ in range(10):
        answer = probe.put(word, **headers)
        if answer.status != 429:
            break
        time.sleep(1)
    return answer


def _everywhere(probe):
    return sorted({said(body) for body in probe.words(AGREE)})


def _flips(probe):
    wrong, slowest, refused = [], 0.0, []
    for word in ("live", "standby", "live", "standby"):
        answer, words = _flip(probe, word), _everywhere(probe)
        slowest = max(slowest, answer.seconds)
        refused.append(answer.status in (401, 403))
        if answer.status not in (200, 204) or words != [word]:
            wrong.append("%s: %d %s, then %s" % (word, answer.status, shown(answer.body), " and ".join(words)[:60]))
    return row("flips", not wrong, "; ".join(wrong)[:200] or "four times, the slowest in %.0f ms" % (1000 * slowest),
               REFUSED if all(refused) else None)


def _other_bodies(probe):
    _flip(probe, "standby")
    taken = []
    for body in ("", "LIVE", "not live", "live standby", '{"state": "live"}', "olive"):
        status = probe.put(body).status
        if status < 400 or said(probe.get().body) != "standby":
            taken.append("%r: %d" % (body, status))
            _flip(probe, "standby")
    yield row("other bodies", not taken, ", ".join(taken) or "refused, and nothing changed")


def _at_once(probe):
    answers = probe.at_once([lambda word=word: _flip(probe, word) for word in ("live", "standby") * 6])
    lost, words = sum(answer is None for answer in answers), _everywhere(probe)
    yield row("flips at once", not lost and words in (["live"], ["standby"]),
              "12 flips, %d without an answer, then %s" % (lost, " and ".join(words)[:60]))


def _conditions(probe):
    tag = detail(probe).get("etag")
    if not tag:
        yield row("compare and set", False, "no ETag on the detail view to compare with")
        return
    _flip(probe, "standby")
    other = _flip(probe, "live", If_Match='"0.0.0-0/conform"').status
    changed = said(probe.get().body) != "standby"
    same = _flip(probe, "live", If_Match=tag).status
    yield row("compare and set", other == 412 and not changed and same in (200, 204),
              "for another process: %d, %s; for this one: %d" % (other, "CHANGED" if changed else "unchanged", same))


def _restart(probe, command):
    if not command:
        yield row("survives a restart", None, "no --restart given", "--restart 'systemctl restart NAME'")
        return
    before, lost = detail(probe).get("start"), []
    for word in ("live", "standby"):
        _flip(probe, word)
        ended = _run(command)
        came = _back(probe)
        if ended or came != word:
            how = " (the command %s)" % ended if ended else ""
            lost.append("%s became %s%s" % (word, came or "no answer in %.0f s" % BACK, how))
    yield row("survives a restart", not lost, "; ".join(lost) or "live and standby")
    if before:
        after = detail(probe).get("start")
        yield row("new start id", after not in (None, before), str(after))


def _run(command):
    """How a command failed, or "": its exit code and the last that it said. It may leave processes behind, not stay itself."""
    with tempfile.TemporaryFile() as said_by_it:
        try:
            ended = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stdout=said_by_it, stderr=said_by_it,
                                   timeout=BACK).returncode
        except subprocess.TimeoutExpired:
            return "did not end in %.0f s" % BACK
        said_by_it.seek(0)
        last = said_by_it.read(CAP).decode("utf-8", "replace").strip().rpartition("\n")[2]
    return "ended with %d%s" % (ended, ": %s" % last[:100] if last else "") if ended else ""


def _back(probe):
    """What it says once it is up again: an app that comes up may answer 503 first. What came last; None: nothing."""
    end, came = time.monotonic() + BACK, None
    while time.monotonic() < end:
        try:
            seen = probe.get()
            came = said(seen.body)
            if seen.status == 200:
                break
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    return came


def _slow(probe, path):
    idle = in_flight(detail(probe))
    if not path or idle is None:
        yield row("requests in flight", None, *("no --slow given", SLOW) if idle is not None else
                  ("it does not say how many there are", "see: detail view"))
        return
    request = threading.Thread(target=lambda: probe.at_once([lambda: probe.get(path)]), daemon=True)
    request.start()
    time.sleep(0.3)
    during = {in_flight(detail(probe)) for _ in range(AGREE)} if request.is_alive() else None
    request.join(4 * probe.timeout)
    time.sleep(0.2)
    after = in_flight(detail(probe))
    if during is None:
        yield row("requests in flight", None, "%s was answered at once" % path, SLOW)
    else:
        counted = "%s before, %s during, %s after" % (idle, " or ".join(str(count) for count in during), after)
        yield row("requests in flight", during == {idle + 1} and after == idle, counted)
