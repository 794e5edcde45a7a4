"""Migration files are read strictly: what is wrong is named with file, line and cure, before any database is asked."""

import pytest

from bgdeploy.errors import BadInput
from bgdeploy.outside import migrations

GOOD = 'NAME = "m"\nNEEDS = {"web": "1:2.0~rc1", "api": "2.0.0-1"}\ndef up(database): pass\n'


@pytest.mark.parametrize("text, said", [
    ("NAME = \n", r"a.py:1: cannot be loaded: SyntaxError"),
    ("import nothing_like_this\n" + GOOD, r"a.py:1: .*ModuleNotFoundError"),
    ("\n\n1 / 0\n", r"a.py:3: cannot be loaded: ZeroDivisionError"), (GOOD.replace('"m"', "5"), "NAME is missing"),
    (GOOD.replace('"m"', '"../m"'), "NAME"), (GOOD.replace("NEEDS", "NEED"), "NEEDS is missing"),
    (GOOD.replace('"2.0.0-1"', "2.0"), "NEEDS"),
    (GOOD.replace("2.0.0-1", "-1"), "a.py: NEEDS: "), (GOOD.replace("def up", "def down"), "up is missing"),
    (GOOD.replace("(database)", "()"), "up is missing or takes other"), (GOOD + "check = 5\n", "check is missing or"),
    (GOOD + "def count(database, progress): pass\n", "count is missing or"),
    (GOOD + "REPEATABLE = 'yes'\n", "REPEATABLE is 'yes'")])
def test_a_file_that_is_no_migration(tmp_path, text, said):
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(BadInput, match=said) as refused:
        migrations.discover(str(tmp_path))
    assert str(tmp_path / "a.py") in refused.value.sentence


def test_files_are_taken_in_order_and_others_left_alone(tmp_path):
    for name in ("b.py", "a.py", "c.py"):
        (tmp_path / name).write_text(GOOD.replace('"m"', f'"m-{name[0]}"'))
    for name in ("_draft.py", ".hidden.py", "README", "x.txt"):
        (tmp_path / name).write_text("not python")
    found = migrations.discover(str(tmp_path))
    assert [migration.name for migration in found] == ["m-a", "m-b", "m-c"]
    assert found[0].needs == (("api", "2.0.0-1"), ("web", "1:2.0~rc1")) and found[0].repeatable is False
    assert not list(tmp_path.glob("__pycache__")), "nothing is written beside them"


def test_two_files_of_one_name_are_refused_and_no_folder_is_none(tmp_path):
    (tmp_path / "a.py").write_text(GOOD)
    (tmp_path / "b.py").write_text(GOOD)
    with pytest.raises(BadInput, match="b.py: NAME 'm' is that of .*a.py too"):
        migrations.discover(str(tmp_path))
    assert migrations.discover(str(tmp_path / "none")) == () and migrations.discover(None) == ()
