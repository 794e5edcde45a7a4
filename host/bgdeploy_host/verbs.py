"""The command line: every argument is checked here, word by word, before anything is done. One JSON line comes out.

    --bgdeploy--
    {"...": ...}
    --end--

Exit code 0: answered; 2: a wrong argument; 3: refused; 1: a bug.
"""

import base64
import errno
import json
import re
import sys

from bgdeploy_host import files

# No narrower than what an inventory may say: a converge must not be the first to refuse it (tests/test_host_inventory.py).
NAME = r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}"
PACKAGE = r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}"
SERVICE = r"[A-Za-z0-9_][A-Za-z0-9:._@\\-]{0,99}"
VERSION = r"(?:[0-9]{1,9}:)?[A-Za-z0-9][A-Za-z0-9._+~^]{0,99}-[0-9][A-Za-z0-9._+~^]{0,99}"
NUMBER = r"[0-9]{1,9}"
RUN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
HASH = r"[0-9a-f]{8,64}"
RECIPE = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(?:::[A-Za-z0-9_][A-Za-z0-9_-]{0,99})?"
PATH = r"/[A-Za-z0-9_.~/?=&%-]{0,200}"
ATTRIBUTE = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,63}){0,7}"


def several(pattern):
    return r"{0}(?:,{0}){{0,63}}".format(pattern)


# verb: {option: pattern, or None for a flag}, and the options that it needs.
VERBS = {
    "look": ({"components": several(r"{}(?::{}:{})?".format(NAME, PACKAGE, SERVICE)), "tail": RUN}, ("components",)),
    "start": ({"run": RUN, "release": r"(?!-)[A-Za-z0-9_.+~^:=,@-]{1,2000}", "limit": NUMBER, "recipes": several(RECIPE),
               "versions": several(NAME + "=" + VERSION), "cookbooks": HASH, "mode": "local|server", "minimal-ohai": None,
               "restart": several(NAME), "lock-wait": NUMBER, "attributes": several(NAME + "=" + ATTRIBUTE),
               "reserve": NUMBER},
              ("run", "release", "limit", "versions")),
    "why-run": ({"limit": NUMBER, "recipes": several(RECIPE), "versions": several(NAME + "=" + VERSION), "cookbooks": HASH,
                 "mode": "local|server", "minimal-ohai": None, "attributes": several(NAME + "=" + ATTRIBUTE)},
                ("limit", "versions")),
    "stop": ({"run": RUN}, ("run",)),
    "reserve": ({"run": RUN, "for": NUMBER}, ("run", "for")),
    "release": ({}, ()),
    "output": ({"run": RUN, "from": r"[0-9]{1,15}", "cap": NUMBER}, ("run",)),
    "park": ({"component": NAME, "service": SERVICE}, ("component",)),
    "cookbooks": ({"hash": HASH, "have": None}, ("hash",)),
    "heartbeat": ({"component": NAME, "port": r"[0-9]{1,5}", "path": PATH}, ("component", "port", "path")),
}
FULL = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
LISTS, PAIRS = ("components", "recipes", "restart"), ("versions", "attributes")
NUMBERS = {"limit": (10, 86400), "lock-wait": (0, 86400), "reserve": (1, 86400), "for": (1, 86400), "from": (0, 10 ** 15),
           "cap": (1, 4 << 20), "port": (1, 65535)}
DEFAULTS = {"start": {"mode": "local", "lock-wait": 60}, "why-run": {"mode": "local"}, "output": {"from": 0, "cap": 1 << 20}}


class Wrong(Exception):
    """A wrong argument: one sentence."""


def main(arguments, root="/", stdin=None, stdout=None):
    """Do what the arguments say and print the answer. Never raises for a wrong one.

    :param root: where this host's files are; a test has a folder of its own.
    :returns: the exit code.
    """
    if arguments[:1] in (["--help"], ["-h"]):
        return _help(stdout or sys.stdout)
    code = 0
    try:
        verb, asked = parse(arguments)
        answer = act(files.root(root), verb, asked, stdin or sys.stdin.buffer)
    except Wrong as problem:
        answer, code = {"error": str(problem)}, 2
    except files.Refused as problem:
        answer, code = {"refused": str(problem)}, 3
    except OSError as problem:
        if problem.errno not in FULL:
            raise
        answer, code = {"refused": "{} ({})".format(problem.strerror, problem.filename or "a file of " + files.HOME)}, 3
    print("--bgdeploy--", json.dumps(answer, default=_plain), "--end--", sep="\n", file=stdout or sys.stdout, flush=True)
    return code


def parse(arguments):
    """:returns: (verb, {option: value}). :raises Wrong: anything that is not exactly as VERBS says."""
    verb = arguments[0] if arguments else ""
    if verb not in VERBS:
        raise Wrong("a verb is needed, one of " + ", ".join(sorted(VERBS)))
    patterns, needed = VERBS[verb]
    asked, rest = dict(DEFAULTS.get(verb, {})), list(arguments[1:])
    given = set()
    while rest:
        option = rest.pop(0)
        name = option[2:]
        if not option.startswith("--") or name not in patterns:
            raise Wrong("{} does not know {!r}".format(verb, option[:80]))
        if name in given:
            raise Wrong("--{} is there twice".format(name))
        given.add(name)
        if patterns[name] is None:
            asked[name] = True
            continue
        value = rest.pop(0) if rest else ""
        # fullmatch, and not "$", which a line feed at the end would pass
        if not re.fullmatch(patterns[name], value, re.ASCII) or ".." in value:
            raise Wrong("--{} cannot be {!r}".format(name, value[:80]))
        asked[name] = _value(name, value)
    missing = [name for name in needed if name not in given]
    if missing:
        raise Wrong("{} needs --{}".format(verb, ", --".join(missing)))
    return verb, asked


def act(at, verb, asked, stdin):
    """Do one checked verb. :returns: its answer."""
    if verb == "cookbooks":
        from bgdeploy_host import keep      # tarfile is slow to import, and `look` comes twice a second
        return keep.cookbooks(at, asked["hash"], asked.get("have", False), stdin)
    if verb in ("park", "heartbeat"):
        from bgdeploy_host import keep
        if verb == "park":
            return keep.park(at, asked["component"], _service(asked.get("service") or asked["component"]))
        return keep.heartbeat(asked["port"], asked["path"])
    from bgdeploy_host import facts, runs
    if verb == "look":
        return facts.look(at, [_component(text) for text in asked["components"]], asked.get("tail"))
    if verb in ("start", "why-run"):
        unknown = [name for name in list(asked.get("restart", [])) + list(asked.get("attributes", {}))
                   if name not in asked["versions"]]
        if unknown:
            raise Wrong("{} has no version in --versions".format(unknown[0]))
        asked["attributes"] = {path: name for name, path in asked.get("attributes", {}).items()}
        for path in asked["attributes"]:
            above = [other for other in asked["attributes"] if path.startswith(other + ".")]
            if above or path.split(".")[0] == "bgdeploy":
                raise Wrong("the attribute {} lies in another one, or in bgdeploy's own".format(path))
        if verb == "start":
            return runs.start(at, asked, facts.unit_active)
        from bgdeploy_host import rehearsal
        return rehearsal.rehearse(at, asked, facts.unit_active)
    if verb in ("reserve", "release"):
        from bgdeploy_host import reserve
        if verb == "release":
            return reserve.release(at, facts.unit_active)
        with files.alone(at):
            return reserve.reserve(at, asked["run"], asked["for"])
    if verb == "stop":
        return runs.stop(at, asked["run"], facts.unit_active)
    return runs.output(at, asked["run"], asked["from"], asked["cap"])


def _value(name, value):
    if name in NUMBERS:
        low, high = NUMBERS[name]
        if not low <= int(value) <= high:
            raise Wrong("--{} is a number from {} to {}, not {}".format(name, low, high, value))
        return int(value)
    if name in PAIRS:
        pairs = [pair.split("=", 1) for pair in value.split(",")]
        if len(dict(pairs)) != len(pairs):
            raise Wrong("--{} names one component twice".format(name))
        return dict(pairs)
    return value.split(",") if name in LISTS else value


def _component(text):
    name, package, service = text.split(":", 2) if ":" in text else (text, text, text)
    return name, package, _service(service)


def _service(name):
    return name if name.endswith(".service") else name + ".service"


def _plain(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(type(value).__name__)


def _help(stdout):
    for verb in sorted(VERBS):
        patterns, needed = VERBS[verb]
        words = ["--" + name + ("" if patterns[name] is None else " ...") for name in patterns]
        print("bgdeploy-host", verb, " ".join(word if word[2:].split()[0] in needed else "[" + word + "]" for word in words),
              file=stdout)
    return 0
