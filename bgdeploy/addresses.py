"""Host addresses as people write them: names, IPv4, IPv6 bare or in brackets, with or without a port. Pure."""

import ipaddress
import re

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?")


def split(text):
    """Take '[fd77::12]:2222' apart.

    A bare IPv6 literal never has a port: the last group of 'fd77::2222' is a part of the address.
    :returns: (address without brackets, port or None); IP addresses in their shortest form.
    :raises ValueError: with what is wrong, as the end of a sentence that begins with the text.
    """
    if text.startswith("["):
        found = re.fullmatch(r"\[([^\]]*)\](?::([0-9]{1,5}))?", text)
        if not found:
            raise ValueError("is not IPv6 in brackets, as in [fd77::12] or [fd77::12]:2222")
        return _ip(found[1], ipaddress.IPv6Address), _port(found[2])
    if text.count(":") > 1:
        return _ip(text, ipaddress.IPv6Address), None
    name, colon, port = text.partition(":")
    if colon and not port:
        raise ValueError("has no port after its colon")
    if re.fullmatch(r"[0-9.]+", name):
        return _ip(name, ipaddress.IPv4Address), _port(port)
    if not _NAME.fullmatch(name):
        raise ValueError("is neither a host name nor an IP address")
    return name, _port(port)


def _ip(text, kind):
    if "%" in text:
        raise ValueError("has a zone (%), which means something on one machine only")
    try:
        return str(kind(text))
    except ValueError:
        raise ValueError("is not an IP address") from None


def _port(text):
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError("has a port that is not a number from 1 to 65535")
    return int(text)
