"""Versions as RPM orders them: epoch, `~` before, `^` after, digits by value. Pure text; no I/O and no rpm library needed.

Not everything that differs as text differs to RPM (1.0 and 1.00 are one version to it), and some things that look like
a pre-release sort after the release (2.0.0_rc1 > 2.0.0): both measured with rpm 4.18, which is the oracle of the tests.
"""

import functools
import re

from bgdeploy.errors import BadInput

_RUN = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")
_TYPED = re.compile(r"(?:(?P<epoch>[0-9]{1,9}):)?(?P<version>[A-Za-z0-9][A-Za-z0-9._+~^]*)(?:-(?P<release>[A-Za-z0-9._+~^]+))?",
                    re.ASCII)
_PRE = re.compile(r"(?:alpha|beta|dev|pre|preview|rc|snapshot)(?![A-Za-z])", re.IGNORECASE)
LONGEST = 100       # file names are limited to 255 bytes and carry name, version, release and architecture


def parts(full):
    """Split "1:2.0.0-1" into (epoch as int, version, release); release is "" where there is none. Never fails."""
    epoch, colon, rest = full.partition(":")
    if not colon or not epoch.isdigit():
        epoch, rest = "0", full
    version, _, release = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch), version, release


def compare(a, b):
    """Order two versions "[EPOCH:]VERSION[-RELEASE]" as RPM does.

    :returns: -1, 0 or 1. A version without a release sorts before the same one with a release, as in RPM.
    """
    (epoch_a, version_a, release_a), (epoch_b, version_b, release_b) = parts(a), parts(b)
    if epoch_a != epoch_b:
        return -1 if epoch_a < epoch_b else 1
    by_version = _compare_text(version_a, version_b)
    if by_version:
        return by_version
    if not release_a or not release_b:
        return bool(release_a) - bool(release_b)
    return _compare_text(release_a, release_b)


key = functools.cmp_to_key(compare)     # for sorted()


def newest(versions):
    """The highest version by RPM's order, or None of none."""
    return max(versions, key=key, default=None)


def check(text):
    """Check a version that a person typed, and give it back as RPM writes it (no `0:` in front).

    Takes "2.0.0", "2.0.0-1", "1:2.0", "2.0.0~rc1".
    :raises BadInput: with what to type instead; never guesses, never converts.
    """
    shown = "".join(c if c.isprintable() else "?" for c in str(text))[:LONGEST]
    if not isinstance(text, str) or not text:
        raise BadInput("a version is needed, as in 2.0.0 or 2.0.0-1")
    if len(text) > LONGEST:
        raise BadInput(f"the version {shown}... is too long: at most {LONGEST} characters")
    found = _TYPED.fullmatch(text)
    if found and ".." not in text and (not found["release"] or found["release"][0].isdigit()):
        epoch, rest = int(found["epoch"] or 0), text.partition(":")[2] if found["epoch"] else text
        return f"{epoch}:{rest}" if epoch else rest
    head, _, tail = text.partition("-")
    if ".." not in text and re.fullmatch(r"(?:[0-9]+:)?[vV]?[0-9][A-Za-z0-9._+~^]*-[A-Za-z][A-Za-z0-9._+~^-]*", text, re.ASCII):
        instead, plain = f"{head}~{tail}", re.sub(r"[^A-Za-z0-9~.-]", ".", tail)
        if _TYPED.fullmatch(instead):
            raise BadInput(f"version {shown}: '-' separates version and release, and a release begins with a digit; for a "
                           f"pre-release type {instead} (it sorts before {head}), never {head}_{plain}, which sorts after {head}")
    raise BadInput(f"version {shown!r} is not one that RPM takes: write [EPOCH:]VERSION[-RELEASE] of the characters "
                   "A-Z a-z 0-9 . _ + ~ ^ (no two dots together), as in 2.0.0, 2.0.0-1, 1:2.0 or 2.0.0~rc1")


def same_version(typed, full):
    """Does a typed version mean this full one? "2.0.0" means every release of 2.0.0; "2.0.0-2" exactly that one.

    An epoch that was not typed is 0, as in RPM: "2.0" is not "1:2.0-1". Equal is what RPM calls equal.
    """
    (epoch_a, version_a, release_a), (epoch_b, version_b, release_b) = parts(typed), parts(full)
    return epoch_a == epoch_b and _compare_text(version_a, version_b) == 0 and (
        not release_a or _compare_text(release_a, release_b) == 0)


def misleading(version):
    """One sentence where a version sorts otherwise than it looks, else None: a pre-release after its release, or what begins with
    a letter (v2.0, latest) before every number."""
    _, text, _ = parts(version)
    if not text[:1].isdigit():
        plain = re.sub(r"\A[vV]\.?(?=[0-9])", "", text)
        return f"{version} sorts before every version that begins with a digit" + (f"; write {plain}" if plain != text else "")
    found = _PRE.search(text)
    if not found or "~" in text[:found.start()]:
        return None
    release = text[:found.start()].rstrip("._+^")
    return f"{version} sorts after {release} in RPM's order; a pre-release is written {release}~{text[found.start():]}"


def _compare_text(a, b):
    """RPM's rpmvercmp: separators only separate; a run of digits beats a run of letters; the longer one wins, `~` loses."""
    if a == b:
        return 0
    runs_a, runs_b = _RUN.findall(a), _RUN.findall(b)
    for run_a, run_b in zip(runs_a, runs_b):
        if run_a == run_b:
            continue
        for mark in "~^":
            if run_a == mark or run_b == mark:
                # Both go on here, so a caret is less than any other run, and a tilde less than everything.
                return -1 if run_a == mark else 1
        if run_a.isdigit() != run_b.isdigit():
            return 1 if run_a.isdigit() else -1
        if run_a.isdigit():
            if int(run_a) != int(run_b):
                return -1 if int(run_a) < int(run_b) else 1
            continue
        return -1 if run_a < run_b else 1
    if len(runs_a) == len(runs_b):
        return 0
    longer, sign = (runs_a, 1) if len(runs_a) > len(runs_b) else (runs_b, -1)
    return -sign if longer[min(len(runs_a), len(runs_b))] == "~" else sign
