"""Reads values out of documents that may be torn, old, or newer than this program: what cannot be read is None or empty.

For people's eyes only (reports, status, console); rules that act must not be this forgiving. Never raises.
"""

from dataclasses import fields

from bgdeploy.model import ComponentSeen, HostSeen, Job, Seen


def seen_of(document):
    """A Seen from a journal's document, as far as it can be understood, or None."""
    if not isinstance(document, dict):
        return None
    hosts = []
    for h in items(document.get("hosts")):
        if isinstance(h, dict) and text(h.get("name")):
            known = [_made(ComponentSeen, c) for c in items(h.get("components")) if isinstance(c, dict) and text(c.get("name"))]
            job = _made(Job, h["job"]) if isinstance(h.get("job"), dict) else None
            hosts.append(HostSeen(text(h["name"]), text(h.get("stack")) or "", h.get("reachable") is True, tuple(known), job))
    return Seen(number(document.get("at")) or 0.0, tuple(hosts))


def text(value):
    """Text, or a number as text; None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def number(value):
    """A finite number as float, or None."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if good else None


def whole(value):
    return int(number(value)) if number(value) is not None else None


def mapping(value):
    return value if isinstance(value, dict) else {}


def items(value):
    return value if isinstance(value, (list, tuple)) else ()


def names(value):
    """A tuple of texts from a list, one text, or nothing."""
    return tuple(t for t in (text(v) for v in ([value] if isinstance(value, str) else items(value))) if t)


def pairs(value):
    """Pairs from a mapping or a list of pairs."""
    if isinstance(value, dict):
        return list(value.items())
    return [tuple(p) for p in items(value) if isinstance(p, (list, tuple)) and len(p) == 2]


def excluded_of(event):
    """{host: reason} of an 'excluded' event, in the shape of now and of earlier."""
    hosts = {str(h): text(why) or "" for h, why in mapping(event.get("hosts")).items()}
    return hosts or ({text(event["host"]): text(event.get("reason")) or ""} if text(event.get("host")) else {})


def _made(kind, document):
    """A dataclass from a document: unknown keys are left out, values of another kind are unknown."""
    known = {}
    for f in fields(kind):
        if f.name in document and f.name not in ("name", "kind", "run"):
            value = document[f.name]
            good = {bool: isinstance(value, bool), int: whole(value) is not None, float: number(value) is not None,
                    str: isinstance(value, str)}.get(f.type, True)
            if good:
                known[f.name] = value
    if kind is ComponentSeen:
        return kind(text(document.get("name")), **known)
    return kind(text(document.get("kind")) or "", text(document.get("run")) or "", **known)
