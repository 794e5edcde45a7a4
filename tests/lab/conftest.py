"""The data centre for the tests. BGDEPLOY_LAB=required: one that cannot start is a failure; off: these tests are skipped."""

import os

import pytest

from bgdeploy import errors
from tests.lab import labs


@pytest.fixture(scope="session")
def make_lab():
    """A function (suffix, edit) -> Lab that is up; `edit` changes the inventory's text. All of them are taken away at the end."""
    wish = os.environ.get("BGDEPLOY_LAB", "")
    if wish == "off":
        pytest.skip("BGDEPLOY_LAB=off")
    give_up = pytest.fail if wish == "required" else pytest.skip
    if reason := labs.unable():
        give_up(f"no lab: {reason}")
    labs.sweep()
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

    yield make
    for one in made.values():
        one.forget()


@pytest.fixture(scope="session")
def lab(make_lab):
    """Four hosts, two stacks, as inventories/lab.yml has them; one for the whole session, so leave it whole."""
    return make_lab("")


@pytest.fixture(autouse=True)
def _mended(request):
    """No fault outlives the test that made it."""
    yield
    if "lab" in request.fixturenames:
        one = request.getfixturevalue("lab")
        if one.status():
            one.mend()
