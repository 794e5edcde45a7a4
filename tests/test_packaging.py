"""A package's description is read strictly, laid out the same every time, and what will surprise is said."""

import os
from pathlib import Path

import pytest

from bgdeploy import packaging
from bgdeploy.errors import BadInput

GOOD = """name: web
summary: pages
files:
  web.py: /opt/web/web.py
  VERSION: /opt/web/VERSION
  web.service: /usr/lib/systemd/system/web.service
  lib: /opt/web/lib
templates: [/opt/web/VERSION]
config_files: [/opt/web/web.py]
user: web
unit: web.service
depends: [python3]
"""


@pytest.fixture
def folder(tmp_path):
    """A description and its sources."""
    for name, content in (("web.py", "print()\n"), ("VERSION", "@NAME@ @VERSION@\n"), ("web.service", "[Unit]\n"),
                          ("stop.sh", "systemctl stop web\n"),
                          ("lib/a.py", "a\n"), ("lib/__pycache__/a.pyc", "x"), ("lib/.hidden", "x"), ("lib/run", "#!/bin/sh\n")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "lib/run").chmod(0o700)
    (tmp_path / "web.yml").write_text(GOOD)
    return tmp_path


def load(folder, text):
    (folder / "web.yml").write_text(text)
    return packaging.load(folder / "web.yml")


def tree(folder):
    return {str(p.relative_to(folder)): (p.read_bytes(), oct(p.stat().st_mode & 0o777), p.stat().st_mtime)
            for p in folder.rglob("*") if p.is_file()}


def laid(description, full, folder):
    folder.mkdir()
    packaging.stage(description, full, folder)
    return tree(folder)


class TestDescription:
    def test_what_is_written_is_what_is_meant(self, folder):
        found = packaging.load(folder / "web.yml")
        assert (found.name, found.architecture, found.depends, found.user) == ("web", "noarch", ("python3",), "web")
        assert (str(folder / "web.py"), "/opt/web/web.py") in found.files

    def test_the_projects_own_descriptions_are_right(self):
        project = Path(__file__).resolve().parent.parent
        for file in ("host/packaging.yml", "lab/apps/api.yml", "lab/apps/web.yml"):
            assert packaging.warnings(packaging.load(project / file), "1.0.0-1") == []

    @pytest.mark.parametrize("old, new, says", [
        ("name: web\n", "", "the key name is missing"), ("summary: pages\n", "", "the key summary is missing"),
        ("user: web", "usr: web", "no key usr"),
        ("name: web", "name: Web App", "no package name"), ("  web.py: /opt", "  gone.py: /opt", "there is no gone.py"),
        ("/opt/web/web.py\n  V", "opt/web/web.py\n  V", "not an absolute path"),
        ("/opt/web/web.py\n  V", "/opt/../web.py\n  V", "not an absolute path"),
        ("templates: [/opt/web/VERSION]", "templates: [/opt/web/OTHER]", "which no file has as its target"),
        ("config_files: [/opt/web/web.py]", "config_files: [/etc/web.json]", "which no file has as its target"),
        ("unit: web.service", "unit: other.service", "no file has other.service"),
        ("depends: [python3]", "depends: python3", "is a list of texts"),
        ("depends: [python3]", "depends: [python3]\ndepends: [x]", "twice"), ("user: web", "user: [web]", "user is one text"),
        ("user: web", "scripts:\n  after-boot: stop.sh", "no script after-boot"),
        ("user: web", "scripts:\n  after-remove: no.sh", "there is no no.sh")])
    def test_a_wrong_one_is_refused_with_file_line_and_cure(self, folder, old, new, says):
        assert old in GOOD
        with pytest.raises(BadInput) as refusal:
            load(folder, GOOD.replace(old, new))
        assert says in refusal.value.sentence and "web.yml" in refusal.value.sentence and "\n" not in refusal.value.sentence

    @pytest.mark.parametrize("text", ["", "- a\n", "name", "\x00", "a: &x b\nc: *x\n"])
    def test_what_is_no_description_at_all_is_refused_in_one_sentence(self, folder, text):
        with pytest.raises(BadInput):
            load(folder, text)

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(BadInput, match="none.yml cannot be read"):
            packaging.load(tmp_path / "none.yml")


class TestTree:
    def test_contents_modes_and_times_come_from_the_description_only(self, folder, tmp_path):
        description = packaging.load(folder / "web.yml")
        first = laid(description, "2.0.0-1", tmp_path / "one")
        for path in folder.rglob("*"):
            os.utime(path, (1, 1))
        assert laid(description, "2.0.0-1", tmp_path / "two") == first
        assert first["opt/web/VERSION"][0] == b"web 2.0.0-1\n" and first["opt/web/lib/run"][1] == "0o755"
        assert first["opt/web/web.py"][1] == "0o644"

    def test_caches_and_hidden_files_stay_out(self, folder, tmp_path):
        found = laid(packaging.load(folder / "web.yml"), "2.0.0-1", tmp_path / "one")
        assert sorted(found) == ["opt/web/VERSION", "opt/web/lib/a.py", "opt/web/lib/run", "opt/web/web.py",
                                 "usr/lib/systemd/system/web.service"]

    def test_two_versions_of_a_file_never_agree_in_time_and_size(self, folder, tmp_path):
        """Python's cache looks at nothing else."""
        description = packaging.load(folder / "web.yml")
        one, two = laid(description, "2.0.0-1", tmp_path / "one"), laid(description, "2.0.1-1", tmp_path / "two")
        assert len(one["opt/web/VERSION"][0]) == len(two["opt/web/VERSION"][0])
        assert one["opt/web/VERSION"][2] != two["opt/web/VERSION"][2]
        assert one["opt/web/web.py"] == two["opt/web/web.py"]

    def test_two_files_for_one_place_are_refused(self, folder, tmp_path):
        with pytest.raises(BadInput, match="two files want to be /opt/web/web.py"):
            laid(load(folder, GOOD.replace("  VERSION: /opt/web/VERSION\n",
                                           "  VERSION: /opt/web/web.py\n").replace("templates: [/opt/web/VERSION]\n", "")),
                 "2.0.0-1", tmp_path / "one")


class TestScripts:
    def test_user_and_unit_bring_theirs(self, folder):
        found = packaging.scripts(packaging.load(folder / "web.yml"), "2.0.0-1")
        assert sorted(found) == sorted(packaging.HOOKS) and "useradd" in found["before-install"]
        assert " web " in found["before-install"]
        assert 'if [ "$1" = 0 ]; then systemctl disable --now web.service' in found["before-remove"]

    def test_a_given_one_takes_the_place_of_its_default(self, folder):
        found = packaging.scripts(load(folder, GOOD + "scripts:\n  before-remove: stop.sh\n"), "2.0.0-1")
        assert found["before-remove"] == "systemctl stop web\n" and "useradd" in found["before-install"]

    @pytest.mark.parametrize("hook, script, warned", [
        ("before-remove", "systemctl stop web\n", True), ("after-remove", "rm -rf /var/lib/web\n", True),
        ("before-remove", "# looks at $1\nsystemctl stop web\n", True),
        ("before-remove", '[ "$1" = 0 ] || exit 0\nsystemctl stop web\n', False),
        ("before-remove", "if [ ${1:-0} -eq 0 ]; then systemctl stop web; fi\n", False),
        ("after-remove", "systemctl daemon-reload || :\n", False),
        ("after-install", "systemctl restart web\n", False)])
    def test_a_removal_script_that_does_not_look_at_its_argument_is_pointed_out(self, folder, hook, script, warned):
        (folder / "stop.sh").write_text(script)
        found = packaging.warnings(load(folder, GOOD + f"scripts:\n  {hook}: stop.sh\n"), "2.0.0-1")
        assert bool(found) is warned and (not warned or f"its {hook} script does not look at $1" in found[0])

    def test_a_version_that_sorts_wrongly_is_pointed_out(self, folder):
        assert "sorts after 2.0.0" in packaging.warnings(packaging.load(folder / "web.yml"), "2.0.0_rc1-1")[0]
