"""The data centre for the tests. BGDEPLOY_LAB=required: one that cannot start is a failure; off: these tests are skipped."""

import contextlib
import os

import pytest

from bgdeploy import errors
from tests.lab import labs

FIRST = ("test_rollout", "test_chef_server", "test_campaign", "test_jenkins")        # the longest


def pytest_collection_modifyitems(items):
    """The longest files first, so that two that share the work end at about the same time."""
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(FIRST)))


@pytest.fixture(scope="session")
def machine():
    """Skips or fails what needs a data centre that this machine cannot run."""
    wish = os.environ.get("BGDEPLOY_LAB", "")
    if wish == "off":
        pytest.skip("BGDEPLOY_LAB=off")
    if reason := labs.unable():
        give_up(f"no lab: {reason}")
    labs.sweep()


def give_up(reason):
    (pytest.fail if os.environ.get("BGDEPLOY_LAB") == "required" else pytest.skip)(reason)


@contextlib.contextmanager
def maker():
    """A function (suffix, edit) -> Lab that is up; `edit` changes the inventory's text. All of them are taken away at the end."""
    made = {}

    def make(suffix, edit=lambda text: text):
        if suffix not in made:
            new = labs.Lab(f"test-{os.getpid()}{suffix}", edit)
            made[suffix] = new
            try:
                new.up()
            except errors.Refused as trouble:
                give_up(f"no lab: {trouble.sentence}")
        return made[suffix]

    try:
        yield make
    finally:
        for one in made.values():
            one.forget()


@pytest.fixture(scope="module")
def make_lab(machine):
    """Labs of one file: a data centre that idles on costs those after it a part of the machine."""
    with maker() as make:
        yield make


@pytest.fixture(scope="session")
def lab(machine):
    """Four hosts, two stacks, as inventories/lab.yml has them; one for the whole session, so leave it whole."""
    with maker() as make:
        yield make("")


@pytest.fixture(autouse=True)
def _mended(request):
    """No fault outlives the test that made it."""
    yield
    if "lab" in request.fixturenames:
        one = request.getfixturevalue("lab")
        if one.status():
            one.mend()
