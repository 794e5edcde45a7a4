"""The cookbooks do what a Chef person expects, on EL 8 and EL 9, and are written as Chef people write: their own specs say so."""

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
GEMS = Path(os.environ.get("BGDEPLOY_CACHE") or PROJECT / ".cache") / "gems-test"
pytestmark = pytest.mark.skipif(not list(GEMS.glob("specifications/chefspec-*.gemspec")),
                                reason=f"the gems for ChefSpec and Cookstyle are not in {GEMS}: make test installs them")


def ruby(program, *words, **environment):
    """chefspec 9.3 asks for an older rspec than Chef does; where both are there, the older one has to be named."""
    older = sorted(GEMS.glob("specifications/rspec-core-3.12.*.gemspec"))
    named = [f"_{older[-1].stem.rpartition('-')[2]}_"] if program == "rspec" and older else []
    return subprocess.run(["ruby", str(GEMS / "bin" / program), *named, *words], cwd=PROJECT / "cookbooks", capture_output=True,
                          text=True,
                          timeout=300, env={**os.environ, "GEM_HOME": str(GEMS), "GEM_PATH": str(GEMS), "LC_ALL": "C.UTF-8",
                                            **environment})


@pytest.mark.parametrize("version", ["8", "9"])
def test_every_recipe_and_action_does_what_its_spec_says(version):
    done = ruby("rspec", "--no-color", "--pattern", "*/spec/unit/**/*_spec.rb", CHEFSPEC_VERSION=version)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert ", 0 failures" in done.stdout and not done.stdout.startswith("0 examples")


def test_cookstyle_finds_nothing():
    done = ruby("cookstyle", "--no-color", ".")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_every_property_is_on_the_documentation_page():
    source = (PROJECT / "cookbooks/bgdeploy/resources/component.rb").read_text()
    page = (PROJECT / "cookbooks/bgdeploy/documentation/bgdeploy_component.md").read_text()
    names = [line.split()[1].strip(":,") for line in source.splitlines() if line.startswith("property :")]
    assert len(names) > 10 and [name for name in names if f"`{name}`" not in page] == []
