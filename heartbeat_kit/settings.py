"""Are the settings of a Heartbeat what they have to be? Said when the application starts: later a wrong one is silent."""

import ipaddress
import os

NUMBERS = ("guard_after", "linger")
PATHS = ("token_file", "state_dir")
CALLED = ("healthy", "busy")


def check(settings):
    """:param settings: Heartbeat's arguments by name. :raises ValueError: the first that is wrong, and what to write instead."""
    for name, wrong, wanted in _wrong(settings):
        if wrong:
            raise ValueError("%s is %r: write %s" % (name, settings[name], wanted))


def _wrong(given):
    """(setting, whether it is wrong, what to write), in the order in which they are looked at."""
    yield "component", not _name(given["component"]), "the name of a directory, such as \"web\""
    yield "version", not _text(given["version"]) or " " in given["version"], "VERSION-RELEASE, such as \"2.0.0-1\""
    for name in CALLED:
        yield name, not (given[name] is None or callable(given[name])), "a function without arguments"
    for name in PATHS:
        yield name, not isinstance(given[name], (str, os.PathLike)), "a path"
    folder = given["run_dir"]
    yield "run_dir", not (folder is None or isinstance(folder, (str, os.PathLike))), "a path, or leave it out"
    lines = given["balancers"]
    file = isinstance(lines, str) and "/" in lines
    yield "balancers", not (file or _list(lines)), "a file's path, or a list such as [\"10.77.0.3 live\"]"
    nobody = not file and not all(map(_address, lines))
    yield "balancers", nobody, "addresses or networks, each with `live` or `standby` behind it, or nothing"
    yield "after_boot", given["after_boot"] not in ("keep", "standby"), "keep or standby"
    places = given["only_on"]
    yield "only_on", not (places is None or _list(places) and all(map(_place, places))), \
        "a list of ports, or of ADDRESS:PORT, such as [9080, \"127.0.0.1:9080\"]"
    for name in NUMBERS:
        number = isinstance(given[name], (int, float)) and not isinstance(given[name], bool)
        yield name, not number or not 0 <= given[name] < 1e9, "a number of seconds"
    path = given["path"]
    yield "path", not _text(path) or not path.startswith("/") or path.endswith("/"), "a path such as \"/heartbeat\""
    start = given["start"]
    yield "start", not (start is None or _text(start)), "text that is another one after each start, or leave it out"


def _text(value):
    return isinstance(value, str) and bool(value.strip())


def _list(value):
    return isinstance(value, (list, tuple, set, frozenset))


def _name(value):
    return _text(value) and "/" not in value and not value.startswith(".")


def _place(text):
    """Whether a port, or an address and a port, is named."""
    address, _, port = str(text).rpartition(":")
    try:
        return 0 < int(port) < 65536 and (not address or bool(ipaddress.ip_address(address.strip("[]"))))
    except ValueError:
        return False


def _address(line):
    """Whether a line names an address or a network, or nobody (empty, a comment)."""
    words = line.partition("#")[0].split() if isinstance(line, str) else [""]
    try:
        return not words or bool(ipaddress.ip_network(words[0], strict=False)) and words[1:] in ([], ["live"], ["standby"])
    except ValueError:
        return False
