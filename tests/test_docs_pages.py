"""What README, runbook and the pages beside them tell people to type and to open is there."""

import re
from pathlib import Path

import pytest

from tests.test_docs_commands import tasks

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CHANGELOG.md", "docs/how-it-decides.md", "docs/runbook.md", "docs/jenkins.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_types_exists_with_its_options(page):
    known, wrong = tasks(), []
    for typed in re.findall(r"invoke ([a-z.]+[^`\n]*)", (ROOT / page).read_text(encoding="utf-8")):
        name, *words = typed.split()
        name = name.rstrip(".")
        options = {re.sub(r"[^a-z-]", "", word[2:]) for word in words if word.startswith("--")}
        if name not in known or options - known[name] - {"help", "list"}:
            wrong.append(typed)
    assert wrong == []


def test_the_runbook_says_something_about_every_exit_code():
    text = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \**(\d)\** \|", text, re.MULTILINE) == list("012345678")


def test_every_make_target_that_the_readme_names_exists():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"demo", "campaign"} <= set(named) <= set(targets)
