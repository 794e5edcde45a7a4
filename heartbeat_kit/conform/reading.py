"""The part of the contract that reading proves. Nothing is changed."""

import http.client
import json
import re
import ssl

from .verdict import row, said, shown

ASKED = 100                 # requests for speed and agreement
CHEAP = 0.05                # seconds that 99 of 100 answers may take
KEYS = {"version": str, "start": str, "state": str, "since_age": (int, float, type(None)), "in_flight": int, "healthy": bool,
        "balancers": list}
FORGED = "UP; address=127.0.0.1; port=1; name=conform/conform; node=conform; weight=1/1; scur=0/0; qcur=0"


def rows(probe):
    """All rows, the first of which says whether it answers at all."""
    try:
        seen = probe.get()
    except ssl.CertificateError as error:               # one that tells more, from Python 3.7 on
        cure = "--ca-file: the authority that signed it; --host-header: the name that it bears"
        if getattr(error, "verify_code", 0) in (9, 10):     # OpenSSL: not yet valid, expired
            cure = "renew it, or set the clocks"
        return [row("answers", False, "its certificate does not fit: %s" % getattr(error, "verify_message", error), cure)]
    except ssl.SSLError as error:
        return [row("answers", False, "TLS failed: %s" % (error.reason or error), "--url http://...: if that port speaks no TLS")]
    except (OSError, http.client.HTTPException) as error:
        return [row("answers", False, "no answer that can be read: %s" % (error or type(error).__name__))]
    return [row("answers", True, "%d in %.0f ms" % (seen.status, 1000 * seen.seconds)), *_word(seen), *_headers(seen),
            *_other_ways(probe, seen), *_many(probe), *_detail(probe, seen)]


def detail(probe):
    """The detail view as a dict with its ETag as `etag`; {} where there is none."""
    seen = probe.get(probe.path + "/detail")
    try:
        found = json.loads(seen.body.decode()) if seen.status == 200 else None
    except (ValueError, RecursionError):
        found = None
    return dict(found, etag=seen.headers.get("etag")) if isinstance(found, dict) else {}


def in_flight(found):
    """How many requests a detail view says are in flight; None if it does not say it as a number."""
    count = found.get("in_flight")
    return count if isinstance(count, int) else None


def heard(found):
    """What a detail view says that balancers said, as far as it has the form for that."""
    said_by = found.get("balancers")
    return [one for one in said_by if isinstance(one, dict)] if isinstance(said_by, list) else []


def _word(seen):
    """What balancers and bgdeploy both take: 200, the word, one line end at the most."""
    if 300 <= seen.status < 400:
        place = seen.headers.get("location", "?")
        yield row("the word", False, "redirected to %s" % place, "answer at this path, or name the other one")
    elif seen.status == 503:
        yield row("the word", None, "503 %s: it says that it is sick" % shown(seen.body), "try again when it is well")
    else:
        good = seen.status == 200 and re.match(b"(live|standby)(\r?\n)?\\Z", seen.body)
        yield row("the word", bool(good), "%d %s" % (seen.status, shown(seen.body)))


def _headers(seen):
    kind, length = seen.headers.get("content-type", "no Content-Type"), seen.headers.get("content-length")
    coding, kept = seen.headers.get("content-encoding", "identity"), seen.headers.get("cache-control", "no Cache-Control")
    yield row("plain text", kind.split(";")[0].strip().lower() == "text/plain", kind)
    yield row("length", length in (None, str(len(seen.body))), "%s said, %d came" % (length or "none", len(seen.body)))
    yield row("not compressed", coding == "identity", coding)
    yield row("not cached", "no-store" in kept, kept)


def _other_ways(probe, seen):
    head = probe.get(method="HEAD").status
    yield row("HEAD", head == seen.status, str(head))
    hosts = (probe.place.netloc, "heartbeat")           # balancers send an address or a word of theirs
    refused = [host for host in hosts if probe.get(host=host).status != seen.status]
    told = " (%s is wanted: balancer and inventory have to name it)" % probe.host if probe.host and refused else ""
    said_no = "refused: %s%s" % (", ".join(refused), told)
    yield row("any Host", bool(told) or not refused, said_no if refused else ", ".join(hosts))
    try:
        old = probe.get(host=None, old=True).status     # what HAProxy's plain `option httpchk` sends
    except (OSError, http.client.HTTPException) as error:
        old = "no answer: %s" % error
    yield row("HTTP/1.0", bool(told) or old == seen.status, str(old))


def _many(probe):
    answers = [probe.get() for _ in range(ASKED)]
    spent = sorted(answer.seconds for answer in answers)[ASKED * 99 // 100 - 1]
    different = {(answer.status, said(answer.body)) for answer in answers}
    yield row("cheap", spent <= CHEAP, "99 of 100 within %.1f ms" % (1000 * spent))
    yield row("workers agree", len(different) == 1, "%d requests, answers: %s" % (ASKED, sorted(different)[:3]))


def _detail(probe, seen):
    found = detail(probe)
    if not found:
        yield row("detail view", False, "no JSON object at %s/detail" % probe.path)
        return
    wrong = [key for key, kind in sorted(KEYS.items()) if not isinstance(found.get(key, ()), kind)]
    problems = found.get("problems")
    own = ["it says itself: %s" % said for said in (problems if isinstance(problems, list) else ()) if isinstance(said, str)]
    cure = "put that right on its host; what belongs where, and to whom, is in docs/heartbeat.md" if own else None
    if wrong:
        yield row("detail view", False, "; ".join(["missing, or of another kind: %s" % ", ".join(wrong)] + own)[:500], cure)
        return
    yield row("detail view", not own or not found["healthy"], "; ".join(["version %s" % found["version"]] + own)[:500], cure)
    yield row("version", bool(re.match(r"([0-9]+:)?[^-:/\s]+-[^-:/\s]+\Z", found["version"])), found["version"])
    agrees = found["state"] == said(seen.body) or not found["healthy"]
    yield row("detail agrees", agrees, "%s and %s" % (found["state"], shown(seen.body)))
    yield row("ETag", found["etag"] == '"%s/%s"' % (found["version"], found["start"]), str(found["etag"]))
    starts = {str(detail(probe).get("start")) for _ in range(20)}
    yield row("one start id", len(starts) == 1 and bool(found["start"]), ", ".join(sorted(starts))[:120])
    if found["since_age"] is None:
        yield row("standby by default", said(seen.body) == "standby", "nothing is stored, and it says %s" % shown(seen.body))
    yield from _own_requests(probe, in_flight(found))
    yield from _balancers(probe)


def _own_requests(probe, idle):
    counts = [in_flight(answer) for answer in probe.at_once([lambda: detail(probe)] * 8) if answer]
    most = max(counts, key=lambda count: count or 0, default=None)
    yield row("own requests", most == 0 if idle == 0 else None, "%s in flight while eight asked" % most)


def _balancers(probe):
    probe.get(X_Haproxy_Server_State=FORGED)
    told = heard(detail(probe))
    believed = any(b.get("node") == "conform" for b in told)
    yield row("forged state", None if believed else True, "a header from here was %sbelieved" % ("" if believed else "not "))
    known = ["%s says %s" % (b.get("node"), b.get("state")) for b in told if b.get("node") != "conform"]
    yield row("balancers heard", bool(known) or None, ", ".join(known)[:160] or "none has said anything")
