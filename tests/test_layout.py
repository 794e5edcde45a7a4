"""How the code is laid out: who may import whom, how long a file may be, and words that have no place in it."""

import ast
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WALL, WIDTH = 400, 130

PLAIN = {"model", "site", "errors", "clean", "versions", "packaging", "scriptlets"}  # data and pure text: anybody may know them
RULES = {       # pure: what they may import besides `PLAIN`
    "prove": set(), "sentences": {"prove"}, "waits": {"sentences"}, "holds": {"prove"},
    "decide": {"holds", "prove", "sentences", "waits"}, "memory": set(), "plan": {"decide", "memory", "prove"},
    "records": {"memory"}, "release": set(), "goals": {"memory", "prove", "records", "release"},
    "drive": {"decide", "memory", "prove", "sentences"}, "observe": set(), "journal": set(), "story": set(),
    "status": {"records"}}
PORTS = {       # what of outside/ each may import: one outside system is one port, in one file or a few
    "ssh": {"known_hosts", "ssh_command", "ssh_config", "ssh_open"}, "ssh_open": {"exchange", "known_hosts", "ssh_config"},
    "exchange": {"http1"}, "served": {"exchange"}, "heartbeat": {"exchange", "heartbeat_answer"},
    "balancer": {"heartbeat_answer", "served"}, "stats": {"exchange", "heartbeat_answer"}, "sanity": {"served"},
    "probes": {"exchange", "http1", "served"}, "watch": {"availability", "http1", "probes"},
    "packages": {"repodata", "rpmfile"}, "repodata": {"rpmfile"},
    "store": {"lease", "lease_ssh", "store_file", "store_mongo"}, "store_file": {"lease"}, "store_mongo": {"lease", "mongo"},
    "lease_ssh": {"lease", "ssh"}, "migration_marker": {"lease"}, "migration_writes": {"mongo"},
    "migrations": {"lease", "migration_files", "migration_marker", "migration_writes", "mongo"}}
REACH_OUT = {"acts", "check", "chef_logs", "reservation", "run", "session", "testing", "verbs", "verbs_beside",
             "verbs_records"}  # import ports
LIBRARIES = {
    "yaml": {"strict_yaml"}, "jsonschema": {"validation"}, "rich": {"console"}, "invoke": {"verbs", "verbs_beside"},
    "requests": {"outside.packages"}, "fabric": {"outside.ssh_open"}, "paramiko": {"outside.ssh_command",
                                                                                   "outside.ssh_open"},
    "pymongo": {"outside.mongo", "outside.store_mongo", "outside.migrations", "outside.migration_marker",
                "outside.migration_writes"}}
SOCKETS = {"socket", "ssl", "http.client", "http.server", "urllib.request", "asyncio", "selectors", "socketserver"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "engine", "misc"}
FORBIDDEN = [       # written apart, so that this file does not hold them
    "/wo" + "rk/", "/tmp/b" + "g/", "TO" + "DO", "FIX" + "ME", "py" + "pi.org", "python" + "hosted.org",
    "ruby" + "gems.org", "npm" + "js.org", "proxy." + "golang.org", "deb." + "debian.org"]


def modules():
    """{name below bgdeploy, with dots: (path, ast)}."""
    found = {}
    for folder, prefix in (("bgdeploy", ""), ("bgdeploy/outside", "outside.")):
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            if name.endswith(".py") and name != "__init__.py":
                path = os.path.join(ROOT, folder, name)
                with open(path, encoding="utf-8") as f:
                    found[prefix + name[:-3]] = (path, ast.parse(f.read()))
    return found


def imports(tree):
    """(names within bgdeploy, names of everything else and of its packages) that a module imports anywhere in it."""
    own, others = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            deep = node.module in ("bgdeploy", "bgdeploy.outside")
            names = [f"{node.module}.{alias.name}" for alias in node.names] if deep else [node.module]
        else:
            continue
        for name in names:
            if name.startswith("bgdeploy."):
                own.add(name[len("bgdeploy."):])
            else:
                others |= {name, name.split(".")[0]}
    return own, others


MODULES = modules()


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_knows_only_data_and_the_rules_below_it(name):
    own, _ = imports(MODULES[name][1])
    assert own - PLAIN <= RULES[name], f"{name} imports {own - PLAIN - RULES[name]}"


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.startswith("outside.")))
def test_a_port_knows_no_rule_and_no_other_port_but_those_it_is_made_of(name):
    own, _ = imports(MODULES[name][1])
    ports = {n[len("outside."):] for n in own if n.startswith("outside.")}
    assert {n for n in own if not n.startswith("outside.")} <= PLAIN, f"{name} imports {own}"
    assert ports <= PORTS.get(name[len("outside."):], set()), f"{name} imports {ports}"


def test_only_a_few_reach_the_outside():
    found = {name for name, (_, tree) in MODULES.items() if not name.startswith("outside.")
             and any(n.startswith("outside") for n in imports(tree)[0])}
    assert found <= REACH_OUT, found - REACH_OUT


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_a_library_is_imported_where_its_subject_lives_and_nowhere_else(library):
    found = {name for name, (_, tree) in MODULES.items() if library in imports(tree)[1]}
    assert found <= LIBRARIES[library], found - LIBRARIES[library]


def test_nothing_but_a_port_opens_a_connection():
    assert not {name for name, (_, tree) in MODULES.items() if not name.startswith("outside.") and SOCKETS & imports(tree)[1]}


def test_the_vocabulary_imports_nothing_and_the_rules_read_no_clock():
    assert imports(MODULES["model"][1]) == (set(), {"dataclasses"})
    for name in ("decide", "holds", "waits", "prove", "sentences", "memory", "plan", "records", "release", "goals"):
        assert not {"time", "os", "random", "threading", "subprocess"} & imports(MODULES[name][1])[1], name


def test_only_the_console_prints():
    found = {name for name, (_, tree) in MODULES.items() for node in ast.walk(tree)
             if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"}
    assert found <= {"console", "run"}, found


def tracked(*endings):
    """Paths that belong to the project: what git knows, or, without git, what is there."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() if listed.returncode == 0 else [
        os.path.relpath(os.path.join(folder, name), ROOT) for folder, _, files in os.walk(ROOT) for name in files]
    return [name for name in names if name.endswith(endings) and os.path.isfile(os.path.join(ROOT, name))]


def text(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as f:
        return f.read()


def test_no_file_is_longer_than_the_wall_and_no_line_than_the_width():
    found = []
    for name in tracked(".py", ".rb", ".sh"):
        rows = text(name).splitlines()
        found += [f"{name}: {len(rows)} lines"] if len(rows) > WALL else []
        found += [f"{name}:{n}: {len(row)} characters" for n, row in enumerate(rows, 1) if len(row) > WIDTH]
    assert not found, "\n".join(found)


def test_no_file_has_a_vague_name():
    assert not [name for name in tracked(".py", ".rb") if os.path.basename(name).rsplit(".", 1)[0] in VAGUE]


def test_nothing_of_one_machine_and_nothing_left_undone():
    found = []
    for name in tracked(".py", ".rb", ".sh", ".md", ".yml", ".txt", ".cfg", ".toml", ".erb", "Makefile"):
        rows = text(name).splitlines()
        found += [f"{name}:{n}: {word}" for n, row in enumerate(rows, 1) for word in FORBIDDEN
                  if word in row and not re.search(r"[\w.]" + re.escape(word), row)]
    undone = "NotImplemented" + "Error"         # the lab's database answers by it what it does not serve
    found += [name for name in tracked(".py") if undone in text(name) and not name.startswith("lab/database")]
    assert not found, "\n".join(found)


def test_every_module_says_what_lives_in_it():
    assert not [name for name, (_, tree) in MODULES.items() if not ast.get_docstring(tree)]
