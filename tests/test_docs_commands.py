"""docs/commands.md knows every command and every option of tasks.py, and no others."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
LATER = {"inventory_check": "inventory.check", "conform": "heartbeat.conform", "up": "lab.up", "down": "lab.down",
         "lab_status": "lab.status", "load": "lab.load", "break_": "lab.break", "mend": "lab.mend", "demo": "lab.demo"}


def tasks():
    """{command: its options}, from the source: nothing is run for it."""
    found = {}
    for node in ast.parse((ROOT / "tasks.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(d).startswith(("task", "verb")) for d in node.decorator_list):
            options = {a.arg.strip("_").replace("_", "-") for a in node.args.args[1:]}
            found[LATER.get(node.name, node.name.strip("_"))] = options
    return found


def test_a_list_of_commands_has_one_line_for_each_where_a_terminal_has_80_columns():
    source = ast.parse((ROOT / "tasks.py").read_text("utf-8"))
    rows = [(node.name, ast.get_docstring(node).splitlines()[0]) for node in source.body
            if isinstance(node, ast.FunctionDef) and node.name in {**LATER, **dict.fromkeys(tasks())}]
    assert len(rows) == len(tasks()) and [row for row in rows if len(row[1]) > 57] == []


def test_every_command_is_described():
    assert [name for name in tasks() if f"`{name}`" not in PAGE and f"`{name} " not in PAGE] == []


def test_every_option_is_described_and_no_other():
    there = {option for options in tasks().values() for option in options}
    described = set(re.findall(r"--([a-z][a-z-]*)", PAGE))
    assert described - {"list", "help", "dry"} <= there        # those three are Invoke's
    assert there <= described


def test_the_options_beside_a_command_are_its_own():
    known = tasks()
    for row in re.findall(r"^\| (`[a-z.`, ]+`) \| [^|]* \| ([^|]*)\|$", PAGE, re.MULTILINE):
        for name in re.findall(r"[a-z.]+", row[0]):
            wrong = set(re.findall(r"--([a-z][a-z-]*)", row[1])) - known.get(name, set())
            assert not wrong or name in ("unhold", "lab.mend", "lab.break"), f"{name} has no {wrong}"


def test_nothing_is_positional_and_nothing_is_required():
    """`invoke deploy --help` would run a task that has a required argument, with the word --help as its value."""
    for node in ast.parse((ROOT / "tasks.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(d).startswith(("task", "verb")) for d in node.decorator_list):
            assert len(node.args.defaults) == len(node.args.args) - 1, f"{node.name} has an option without a default"
