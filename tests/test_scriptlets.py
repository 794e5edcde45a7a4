"""What RPM runs when a package comes or goes: ours by default, a site's instead, and a word about what would surprise."""

import pytest

from bgdeploy import packaging, scriptlets
from bgdeploy.errors import BadInput
from tests.test_packaging import GOOD, folder, load      # noqa: F401  (folder is a fixture)


class TestScripts:
    def test_user_and_unit_bring_theirs(self, folder):
        found = scriptlets.scripts(packaging.load(folder / "web.yml"), "2.0.0-1")
        assert sorted(found) == sorted(packaging.HOOKS) and "useradd" in found["before-install"]
        assert " web " in found["before-install"]
        assert 'if [ "$1" = 0 ]; then systemctl disable --now web.service' in found["before-remove"]

    def test_a_given_one_takes_the_place_of_its_default(self, folder):
        found = scriptlets.scripts(load(folder, GOOD + "scripts:\n  before-remove: stop.sh\n"), "2.0.0-1")
        assert found["before-remove"] == "systemctl stop web\n" and "useradd" in found["before-install"]

    @pytest.mark.parametrize("hook, script, warned", [
        ("before-remove", "systemctl stop web\n", True), ("after-remove", "rm -rf /var/lib/web\n", True),
        ("before-remove", "# looks at $1\nsystemctl stop web\n", True),
        ("before-remove", '[ "$1" = 0 ] || exit 0\nsystemctl stop web\n', False),
        ("before-remove", "if [ ${1:-0} -eq 0 ]; then systemctl stop web; fi\n", False),
        ("after-remove", "systemctl daemon-reload || :\n", False),
        ("after-install", "systemctl restart web\n", False),
        ("before-remove", "systemctl stop web  # not if $1 is 1\n", True),
        ("before-remove", "kill $(pidof web | awk '{print $1}')\n", True),
        ("before-remove", "echo removing $1\nsystemctl stop web\n", True),
        ("before-remove", 'systemctl stop web; [ "$1" = 0 ] && rm -rf /var/lib/web\n', True),
        ("before-remove", "echo bye; systemctl stop web\n", True),
        ("before-remove", "if [ -d /run/systemd/system ]; then systemctl stop web; fi\n", True),
        ("before-remove", 'case "$1" in\n0) systemctl stop web ;;\nesac\n', False),
        ("before-remove", "case $1 in 0) systemctl stop web;; esac\n", False),
        ("before-remove", 'action=$1\nif [ "$action" = 0 ]; then\n  systemctl stop web\nfi\n', False),
        ("before-remove", "[[ $1 == 0 ]] && systemctl stop web\nexit 0\n", False),
        ("before-remove", "test \"$1\" -gt 0 && exit 0\nsystemctl stop web\n", False),
        ("before-remove", "if [ -d /run/systemd/system ]; then\n  [ $1 = 0 ] && systemctl stop web\nfi\n", False),
        ("before-remove", 'gone() {\n  systemctl stop web\n}\nif [ "$1" = 0 ]; then gone; fi\n', False),
        ("after-remove", "#!/bin/sh\nset -e\n/usr/bin/systemctl --quiet daemon-reload >/dev/null 2>&1 || :\nexit 0\n", False)])
    def test_a_removal_script_that_does_not_look_at_its_argument_is_pointed_out(self, folder, hook, script, warned):
        (folder / "stop.sh").write_text(script)
        found = scriptlets.warnings(load(folder, GOOD + f"scripts:\n  {hook}: stop.sh\n"), "2.0.0-1")
        assert bool(found) is warned and (not warned or f"its {hook} script does not look at $1" in found[0])

    def test_a_version_that_sorts_wrongly_is_pointed_out(self, folder):
        assert "sorts after 2.0.0" in scriptlets.warnings(packaging.load(folder / "web.yml"), "2.0.0_rc1-1")[0]

    @pytest.mark.parametrize("content, says", [
        (b"echo caf\xe9\n", "is no text in UTF-8"), (b"echo a\0b\n", "it has a NUL"),
        (b"#!/usr/bin/python3\nprint()\n", "RPM runs before-remove with /bin/sh")])
    def test_what_the_shell_cannot_run_is_refused(self, folder, content, says):
        (folder / "stop.sh").write_bytes(content)
        with pytest.raises(BadInput, match=says):
            scriptlets.scripts(load(folder, GOOD + "scripts:\n  before-remove: stop.sh\n"), "2.0.0-1")

    @pytest.mark.parametrize("first", ["#!/bin/sh", "#!/bin/bash -e", "#! /usr/bin/sh", "#!/usr/bin/env bash", "set -e"])
    def test_a_script_of_the_shell_is_taken_with_the_line_ends_of_any_editor(self, folder, first):
        (folder / "stop.sh").write_bytes(f"{first}\r\nexit 0\r\n".encode())
        found = scriptlets.scripts(load(folder, GOOD + "scripts:\n  before-remove: stop.sh\n"), "2.0.0-1")
        assert found["before-remove"] == f"{first}\nexit 0\n"

    def test_a_macro_that_nobody_expands_is_pointed_out(self, folder):
        (folder / "stop.sh").write_text('[ "$1" = 0 ] || exit 0\n%systemd_preun web.service\n')
        found = scriptlets.warnings(load(folder, GOOD + "scripts:\n  before-remove: stop.sh\n"), "2.0.0-1")
        assert len(found) == 1 and "before-remove script says %systemd_preun" in found[0]
