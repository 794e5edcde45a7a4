"""A package's description is read strictly, laid out the same every time, and what will surprise is said."""

import os
from pathlib import Path

import pytest

from bgdeploy import packaging, scriptlets
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
            assert scriptlets.warnings(packaging.load(project / file), "1.0.0-1") == []

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
        ("user: web", "scripts:\n  after-remove: no.sh", "there is no no.sh"),
        ("user: web", "user: $(id)", "no name of a system user"), ("user: web", "user: Web", "no name of a system user"),
        ("user: web", "user: -r", "no name of a system user"), ("user: web", "user: 'web app'", "no name of a system user"),
        ("unit: web.service", "unit: web", "no unit of systemd"), ("unit: web.service", "unit: web.py", "no unit of systemd"),
        ("user: web", "architecture: noarhc", "no architecture of RPM"), ("user: web", "architecture: amd64", "no architecture"),
        ("templates: [/opt/web/VERSION]", "templates: [/opt/web/lib]", "which no file has as its target"),
        ("templates: [/opt/web/VERSION]", "templates: [/opt/web/lib/gone]", "which no file has as its target"),
        ("config_files: [/opt/web/web.py]", "config_files: [/opt/web/lib/gone]", "which no file has as its target"),
        ("  lib: /opt", "  /dev/null: /opt/web/null\n  lib: /opt", "neither a file nor a folder")])
    def test_a_wrong_one_is_refused_with_file_line_and_cure(self, folder, old, new, says):
        assert old in GOOD
        with pytest.raises(BadInput) as refusal:
            load(folder, GOOD.replace(old, new))
        assert says in refusal.value.sentence and "web.yml" in refusal.value.sentence and "\n" not in refusal.value.sentence

    @pytest.mark.parametrize("text, taken", [
        *((good, True) for good in ("python3", "python3 >= 3.9", "python3 = 1:3.9-2.el9", "/usr/bin/python3", "a~b",
                                    "perl(Foo::Bar) > 1", "libc.so.6(GLIBC_2.34)(64bit)", "(a or b >= 2.4)", "config(web) = 1")),
        *((bad, False) for bad in ("python3>=3.9", "python3 >=3.9", "python3 (>= 3.9)", ">= 3.9", "python3 >=", "python3 ~> 3.9",
                                   "python3 != 3", "python3, systemd", "python3 systemd", "a%{name}", "%(id)", "-x", "a;id", "~",
                                   "python3 >= 3..9", "python3 > 1-rc-2", "p\u00fdthon", "a" * 60 + " >= " + "1" * 60 + "!"))])
    def test_a_dependency_is_one_name_and_a_comparison_as_rpm_has_it(self, folder, text, taken):
        """RPM takes python3>=3.9 for a package of that name, and runs %(...) on the machine that builds."""
        try:
            assert load(folder, GOOD.replace("[python3]", f"['{text}']")).depends == (text,) and taken
        except BadInput as refusal:
            assert not taken and "line 12: depends:" in refusal.sentence

    def test_a_unit_and_a_configuration_file_may_come_with_a_folder(self, folder):
        (folder / "lib/lib.service").write_text("[Unit]\n")
        text = GOOD.replace("unit: web", "unit: lib")
        found = load(folder, text.replace("[/opt/web/web.py]", "[/opt/web/lib, /opt/web/lib/run]"))
        assert found.unit == "lib.service" and found.config_files == ("/opt/web/lib", "/opt/web/lib/run")

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
            load(folder, GOOD.replace("  VERSION: /opt/web/VERSION\n",
                                      "  VERSION: /opt/web/web.py\n").replace("templates: [/opt/web/VERSION]\n", ""))

    def test_a_file_below_a_file_is_refused(self, folder):
        with pytest.raises(BadInput, match="/opt/web/web.py/x wants to be in /opt/web/web.py, which is a file"):
            load(folder, GOOD.replace("  lib: ", "  stop.sh: /opt/web/web.py/x\n  lib: "))

    def test_a_link_is_the_file_that_it_leads_to(self, folder, tmp_path):
        (folder / "lib/b.py").symlink_to("a.py")
        (folder / "lib/c.py").symlink_to(folder / "web.py")
        found = laid(packaging.load(folder / "web.yml"), "2.0.0-1", tmp_path / "one")
        assert found["opt/web/lib/b.py"] == found["opt/web/lib/a.py"] and found["opt/web/lib/c.py"] == found["opt/web/web.py"]

    @pytest.mark.parametrize("harm, says", [
        (lambda lib: (lib / "x").symlink_to("/etc/hostname"), "is a link out of"),
        (lambda lib: (lib / "x").symlink_to("gone"), "is a link that leads nowhere"),
        (lambda lib: (lib / "x").symlink_to(".."), "is a link to what is no file"),
        (lambda lib: os.mkfifo(lib / "x"), "is no file and no folder"),
        (lambda lib: (lib / "a\nb").write_text(""), "has a name that an RPM cannot hold"),
        (lambda lib: Path(os.fsdecode(os.fsencode(lib) + b"/caf\xe9")).write_text(""), "has a name that an RPM cannot hold"),
        (lambda lib: [path.unlink() for path in (lib / "a.py", lib / "run")], "there is no file in")])
    def test_what_would_silently_be_missing_or_come_from_elsewhere_is_refused(self, folder, harm, says):
        harm(folder / "lib")
        with pytest.raises(BadInput, match=says) as refusal:
            packaging.load(folder / "web.yml")
        assert "\n" not in refusal.value.sentence and refusal.value.sentence.isprintable()

    def test_a_template_keeps_every_other_byte(self, folder, tmp_path):
        (folder / "VERSION").write_bytes(b"@VERSION@\r\n\xff\x00")
        found = laid(packaging.load(folder / "web.yml"), "2.0.0-1", tmp_path / "one")
        assert found["opt/web/VERSION"][0] == b"2.0.0-1\r\n\xff\x00"
