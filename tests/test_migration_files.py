"""Migration files are read strictly: what is wrong is named with file, line and cure, before any database is asked."""

import os

import pytest

from bgdeploy.errors import BadInput
from bgdeploy.outside import migration_files, migrations

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
    (GOOD + "REPEATABLE = 'yes'\n", "REPEATABLE is 'yes'"),
    ("import sys\nsys.exit(0)\n" + GOOD, "a.py:2: cannot be loaded: SystemExit: 0"),
    ("class E(BaseException): pass\nraise E('x')\n", "a.py:2: cannot be loaded: E: x"),
    ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E()\n", "a.py:3: .* E: its text cannot be shown"),
    (GOOD.replace("def up(database): pass", "async def up(database): pass"), "up would not run when it is called"),
    (GOOD.replace("pass", "yield 1"), "up would not run when it is called"),
    (GOOD + "def check(database):\n    yield\n", "check would not run"), (GOOD + "up = dict\n", "up is missing or takes other"),
    (GOOD.replace("(database)", "(database, *, progress)"), "up is missing or takes other")])
def test_a_file_that_is_no_migration(tmp_path, text, said):
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(BadInput, match=said) as refused:
        migrations.discover(str(tmp_path))
    assert str(tmp_path / "a.py") in refused.value.sentence


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.py")
    with pytest.raises(BadInput, match="a.py is no file"):
        migrations.discover(str(tmp_path))


@pytest.mark.parametrize("parameters, given", [
    ("a", 1), ("a, b", 2), ("a, b=None", 2), ("a, b=None, *, c=1", 2), ("*all", 2), ("a, *rest", 2), ("a, **more", 1)])
def test_up_gets_as_many_arguments_as_it_takes(tmp_path, parameters, given):
    (tmp_path / "a.py").write_text(GOOD.replace("up(database): pass", f"up({parameters}): return dict(locals())"))
    up = migrations.discover(str(tmp_path))[0].module.up
    values = migration_files.call(up, "database", "progress")
    assert ("progress" in str(values)) is (given == 2) and "database" in str(values)


def test_what_it_prints_leaves_stdout_alone(tmp_path, capsys):
    """With --json there is one document on stdout and nothing else."""
    (tmp_path / "a.py").write_text("print('loading')\n" + GOOD.replace("pass", "print('running')"))
    migration_files.call(migrations.discover(str(tmp_path))[0].module.up, None, None)
    assert capsys.readouterr() == ("", "loading\nrunning\n")


def test_an_answer_that_has_not_run_is_no_answer():
    async def later():
        pass        # never awaited
    for answer in ((n for n in ()), later()):
        with pytest.raises(TypeError, match="which has not run"):
            migration_files.call(lambda database: answer, None)
        answer.close()


@pytest.mark.parametrize("count", ["many", -1, 2.5, True, [1]])
def test_a_count_is_a_number_of_documents_or_unknown(count):
    with pytest.raises(TypeError, match="it must be a number of documents, or None"):
        migration_files.number(count)
    assert migration_files.number(3) == 3 and migration_files.number(None) is None


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
