"""A dozen of the campaign's cases, as varied as a few minutes allow: each ends finished, and breaks no law (lab/verdict.py).

`make campaign` runs all of them. Here traffic is judged where the fault itself costs no request, so that nothing has to be
measured first: as many as without a driver is none.
"""

import pytest

from lab import bench as benches, cases, trial, verdict

HARMLESS = verdict.Baseline((0, 0, 0), (2.0, 2.0, 2.0))
DOZEN = (
    ("kill driver", "in Chef"), ("gone live-2", "LIVE takes on"), ("term driver", "migrate"), ("crash serving", "LIVE lets go"),
    ("power deployed", "LIVE takes on"), ("partition serving", "live"), ("reload-forget live-2", "drain"),
    ("flip-refused deployed", "back"), ("hang deployed", "before standby"), ("gone standby-1", "sanity"),
    ("disk-full deployed", "standby"), ("dead database", "standby"),
)


@pytest.fixture(scope="module")
def bench(make_lab):
    """One lab for all cases, every stack live; each case leaves it so."""
    one = make_lab("c", benches.hasty)
    with one.inside(), benches.Bench(one.site, one.folder / "state") as table:
        table.publish()
        assert table.whole(), table.trouble
        yield table


def case(harm, moment):
    return next(c for c in cases.matrix() if (f"{c.harm.fault} {c.harm.target}", c.moment) == (harm, moment))


@pytest.mark.parametrize("harm, moment", sorted(DOZEN, key=lambda pair: pair[1] != "migrate"))
def test_a_fault_at_a_moment_ends_in_a_finished_run_and_breaks_no_law(bench, harm, moment):
    assert bench.whole(), bench.trouble
    one = case(harm, moment)
    known = HARMLESS if one.harm.traffic in ("none", "node") else None
    evidence, shown = trial.trial(bench, one, known)
    assert not shown["notes"], (shown["notes"], shown["said"])
    assert verdict.judge(evidence) == [], {key: shown[key] for key in ("command", "code", "finished", "what", "said")}


def test_the_dozen_is_a_varied_one():
    dozen = [case(*pair) for pair in DOZEN]
    assert len({c.harm.fault for c in dozen}) >= 10 and len({c.moment for c in dozen}) >= 9
    assert {c.finish for c in dozen} >= {"resume", "again", "back"} and len({c.held for c in dozen}) == 2
