"""Arbitrary start states, goals, policies and misfortunes: at every act and every look the laws hold, and every run ends.

What can happen: tests/simulate.py, and tests/keyboard.py for whole commands. What may not: tests/laws.py. `make soak` runs as
many trials as told.
"""

from collections import Counter

from hypothesis import Phase, given, settings, strategies as st

from tests import keyboard, simulate

ONCE = (Phase.explicit, Phase.generate)     # a seed that breaks a law is the shortest report there is: nothing to shrink
SEEDS = st.integers(0, (1 << 48) - 1)


@settings(max_examples=1800, deadline=None, phases=ONCE, database=None)
@given(SEEDS)
def test_no_act_breaks_a_law_and_every_run_ends(seed):
    verdict = simulate.trial(seed, *simulate.misfortune(seed))
    assert not verdict.violations, f"simulate.trial({seed}, *simulate.misfortune({seed})): {verdict.violations[0]}"


@settings(max_examples=200, deadline=None, phases=ONCE, database=None)
@given(SEEDS)
def test_a_step_by_hand_never_does_another_step(seed):
    verdict = simulate.hand_trial(seed)
    assert not verdict.violations, f"simulate.hand_trial({seed}): {verdict.violations[0]}"


@settings(max_examples=150, deadline=None, phases=ONCE, database=None, derandomize=True)
@given(SEEDS)
def test_whatever_was_typed_before_no_act_breaks_a_law_and_what_each_end_names_leads_to_the_end_of_every_run(seed):
    _, violations = keyboard.session_trial(seed)
    assert not violations, f"keyboard.session_trial({seed}): {violations[0]}"


def test_a_trial_is_the_same_twice():
    for seed in range(5):
        one, two = (simulate.trial(seed, *simulate.misfortune(seed)) for _ in range(2))
        assert one.world.acts == two.world.acts and one.looks == two.looks


def test_the_generator_is_awake():
    """A green simulation says nothing where nothing happens: every step, every end and every goal must be common."""
    acts, codes, events, kinds = Counter(), Counter(), Counter(), Counter()
    for seed in range(400):
        world, ends, book = watched(seed)
        acts.update(step for step, _ in world.acts)
        codes.update(end.exit_code for end in ends)
        events.update(e["kind"] if e["kind"] != "doing" else "rescue" if e["rescue"] else "doing" for e in book.events)
        kinds.update(e["wait"] for e in book.events if e["kind"] == "waiting")
    assert min(acts[step] for step in ("standby", "converge", "sanity", "live")) > 100 and acts["migrate"] > 5
    assert min(codes[code] for code in (0, 3, 4, 6, 7, 8)) > 5
    assert min(events[kind] for kind in ("rescue", "dropped", "resumed", "asked", "answered", "seen_live")) > 5
    assert min(kinds[kind] for kind in ("pool", "drain", "chef", "host", "soak")) > 10


def watched(seed):
    books, Notebook = [], simulate.Notebook

    def kept(world):
        books.append(Notebook(world))
        return books[-1]
    simulate.Notebook = kept
    try:
        verdict = simulate.trial(seed, *simulate.misfortune(seed))
    finally:
        simulate.Notebook = Notebook
    return verdict.world, verdict.ends, books[0]
