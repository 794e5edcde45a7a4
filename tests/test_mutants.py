"""Every fault of tests/mutants.py is found by its judge, and without a fault the judges are silent."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.mutants import HANDS, MUTANTS, TRIALS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEEDS = (1, 2)      # a run of trials with each, until one finds it
NUMBER = 1200       # trials of one seed
PATIENCE = 600      # seconds for one judge, on however busy a machine


def test_each_mutant_changes_exactly_one_place():
    for mutant in MUTANTS:
        with open(os.path.join(ROOT, "bgdeploy", mutant.file), encoding="utf-8") as f:
            assert f.read().count(mutant.old) == 1, f"{mutant.name}: {mutant.old!r} must stand once in {mutant.file}"
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30


def test_every_fault_is_found(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        survivors = [m for m, found in zip(MUTANTS, pool.map(lambda m: killed(m, tmp_path / m.name), MUTANTS)) if not found]
    assert not survivors, "\n".join(f"{m.name} survives: {m.law}" for m in survivors)


def killed(mutant, folder):
    """Apply it to a copy of the package; does its judge find it?"""
    shutil.copytree(os.path.join(ROOT, "bgdeploy"), folder / "bgdeploy", ignore=shutil.ignore_patterns("__pycache__"))
    os.makedirs(folder / "tests")
    for name in os.listdir(os.path.join(ROOT, "tests")):
        if name.endswith(".py"):
            shutil.copy(os.path.join(ROOT, "tests", name), folder / "tests")
    shutil.copytree(os.path.join(ROOT, "tests", "plans"), folder / "tests" / "plans")
    path = folder / "bgdeploy" / mutant.file
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
    if mutant.judge in (TRIALS, HANDS):
        return any(judge(folder, "-m", "tests.simulate", "hunt", mutant.judge, str(NUMBER), str(seed)) for seed in SEEDS)
    return judge(folder, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.judge)


def judge(folder, *words):
    """True if the judge complains; a judge that cannot even be run is an error of this test."""
    environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode in (0, 1) and "ImportError" not in done.stderr, done.stdout[-2000:] + done.stderr[-2000:]
    return done.returncode == 1


def test_without_a_fault_the_judges_are_silent(tmp_path):
    class Nothing:
        file, old, new, judge, name = "decide.py", "THE RULES.", "THE RULES.", TRIALS, "nothing"
    assert not killed(Nothing, tmp_path / "nothing")
