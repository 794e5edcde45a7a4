"""The sample inventory is the manual: it knows every key and every default, and whatever it shows can be loaded."""

import re
from pathlib import Path

import pytest

from bgdeploy import inventory, soundness, strict_yaml
from bgdeploy.strict_yaml import Mapping, Sequence

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "inventories" / "sample.yml"
TEXT = SAMPLE.read_text(encoding="utf-8")
LINES = TEXT.split("\n")
OR = re.compile(r"^( *)# or: (([a-z_]+): .*)$")


def schema_keys(schema, path=()):
    """Every key of the schema as {path: its schema}; '*' for a name that a person chooses, and for a list's items."""
    found = {}
    for part in schema.get("anyOf", [schema]):
        for key, below in part.get("properties", {}).items():
            found[path + (key,)] = below
            found |= schema_keys(below, path + (key,))
        for below in (part.get("additionalProperties"), part.get("items")):
            if isinstance(below, dict):
                found |= schema_keys(below, path + ("*",))
    return found


KEYS = {path: below for path, below in schema_keys(inventory.schema()).items()
        if path[:2] != ("balancers", "standby")} | {("balancers", "standby"): {}}      # told once, at live


def spelled(path):
    """The path with '*' in the place of names; STANDBY's keys are LIVE's."""
    general = ()
    for step in ("balancers", "live") + path[2:] if path[:2] == ("balancers", "standby") and path[2:] else path:
        general += (step if general + (step,) in KEYS else "*",)
    return general


def sample_keys(node, path=()):
    """(path, line) of every key in the sample, alternatives apart."""
    if isinstance(node, Mapping):
        for key, (line, below) in node.entries.items():
            yield path + (key,), line
            yield from sample_keys(below, path + (key,))
    elif isinstance(node, Sequence):
        for n, item in enumerate(node.items):
            yield from sample_keys(item, path + (n,))


SHOWN = {}
for shown_path, shown_line in sample_keys(strict_yaml.parse(TEXT.encode(), "sample.yml")):
    SHOWN.setdefault(spelled(shown_path), []).append(shown_line)
ALTERNATIVES = [n for n, line in enumerate(LINES) if OR.match(line)]


def comment(line):
    """The comment beside a line, with the lines below it that only go on with it."""
    said = LINES[line - 1].partition("# ")[2]
    while LINES[line].startswith(" " * 32 + "# "):
        said += " " + LINES[line].strip(" #")
        line += 1
    return said


def typed(default):
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_it_loads_without_a_warning():
    site = inventory.load("sample", ROOT)
    assert soundness.warnings(site) == ()
    assert [len(stack.hosts) for stack in site.stacks] == [3, 3]


def test_it_shows_every_key_of_the_schema():
    alternatives = {OR.match(LINES[n])[3] for n in ALTERNATIVES}
    in_braces = {key for n in ALTERNATIVES for key in re.findall(r"[{ ]([a-z_]+): ", OR.match(LINES[n])[2])}
    assert [path for path in KEYS if path not in SHOWN and path[-1] not in alternatives | in_braces] == []


def test_it_shows_no_key_that_the_schema_does_not_have():
    names = {("components", "*"), ("stacks", "*"), ("stacks", "*", "hosts", "*"), ("balancers", "live", "nodes", "*")}
    free = {"headers", "flip_headers", "header", "versions", "floor", "ports"}
    assert [p for p in SHOWN if p not in KEYS and p not in names and p[-2] not in free] == []


@pytest.mark.parametrize("place", ALTERNATIVES, ids=lambda n: OR.match(LINES[n])[3])
def test_an_alternative_can_stand_in_its_place(place, tmp_path):
    indent, line, key = OR.match(LINES[place]).groups()
    twin = re.sub("_env$", "_file", key)
    changed = [text for n, text in enumerate(LINES) if n != place and not (twin != key and text.startswith(f"{indent}{twin}: "))]
    changed.insert(place - (len(LINES) - 1 - len(changed)), indent + line)
    text = "\n".join(changed)
    if key == "lab":
        text = text.replace("kind: site", "kind: lab")
    if key.startswith("sudo"):
        text = text.replace("sudo: nopasswd", "sudo: password")
    (tmp_path / "x.yml").write_text(text, encoding="utf-8")
    assert inventory.read(tmp_path / "x.yml", tmp_path)


WITH_DEFAULT = [path for path, below in KEYS.items()
                if not isinstance(below.get("default", {}), (dict, list)) and path[0] != "lab"]


@pytest.mark.parametrize("path", WITH_DEFAULT, ids=".".join)
def test_it_names_the_default_that_the_loader_takes(path):
    default = re.escape(typed(KEYS[path]["default"]))
    assert any(re.search(rf"Default: {default}(?![\w.-]*\w)", comment(line)) for line in SHOWN[path])


def test_the_defaults_that_the_schema_names_are_those_of_the_loader(tmp_path):
    """Writing a default out changes nothing."""
    good = (Path(__file__).parent / "inventories" / "good.yml").read_text(encoding="utf-8")
    (tmp_path / "x.yml").write_text(good, encoding="utf-8")
    plain = inventory.read(tmp_path / "x.yml", tmp_path, environ={})
    written, nested = [], {}
    for path in [p for p in WITH_DEFAULT if len(p) <= 2 and p[0] != "balancers"]:
        place = written if len(path) == 1 else nested.setdefault(path[0], [])
        place.append(f"{path[-1]}: {typed(KEYS[path]['default'])}")
    written += [f"{key}: {{{', '.join(parts)}}}" for key, parts in nested.items()]
    (tmp_path / "x.yml").write_text(good + "\n".join(written) + "\n", encoding="utf-8")
    assert len(written) > 15
    assert inventory.read(tmp_path / "x.yml", tmp_path, environ={}) == plain
