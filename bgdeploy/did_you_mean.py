"""The nearest known word for one that is not known, as the end of a sentence."""

import difflib


def nearest(word, known, cutoff=0.6):
    """The known word that looks most like this one, or None; a difference in case never counts."""
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower()[:80], folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def hint(word, known):
    """'did you mean green?' or 'there are blue, green'; at most ten names are listed. Never empty."""
    known = sorted(known)
    close = nearest(word, known)
    if close:
        return f"did you mean {close}?"
    if not known:
        return "there are none"
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""
    return ("there is only " if len(known) == 1 else "there are ") + ", ".join(known[:10]) + more
