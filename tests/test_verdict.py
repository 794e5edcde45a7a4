"""The campaign's checker can fail: for each law a journal, or a set of samples, that breaks it, and one that is just right."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from lab import cases, trial, verdict
from lab.load import Sample, longest_gap
from lab.verdict import Baseline, Evidence
from lab.witness import Instance, Look

HOSTS = ("green-1", "green-2", "blue-1", "blue-2")
NODES = ("live-1", "live-2")
R = "api=2.0.0-1@c"


def look(at, words="llll", starts="abcd", version="2.0.0-1", pools=None):
    """A word a host: l live, s standby, - no answer; LIVE agrees with it unless pools says otherwise."""
    kinds = {"l": "live", "s": "standby"}
    said = {(host, "api"): Instance(kinds[w], version, start) for host, w, start in zip(HOSTS, words, starts) if w != "-"}
    sent = {(node, host, "api"): p == "l" for node in NODES for host, p in zip(HOSTS, pools or words)}
    return Look(at, said, sent)


def looks(*parts):
    """Parts (first second, last second, words...) as a look each half second."""
    return tuple(look(at / 2, *rest) for first, last, *rest in parts for at in range(2 * first, 2 * last))


def doing(at, step, *hosts, **fields):
    return {"at": at, "kind": "doing", "step": step, "hosts": list(hosts), **fields}


def passed(at, host, start, release=R):
    return {"at": at, "kind": "result", "step": "sanity", "host": host, "outcome": "ok", "started": f"api={start}",
            "release": release}


END = {"at": 99, "kind": "ended", "outcome": "done", "exit_code": 0, "why": "", "n": 9}


def evidence(*events, seen=None, **fields):
    given = {"runs": {"r": [*events, END]}, "looks": seen or looks((0, 9, "llll")), "floor": {"api": 2}, "nodes": NODES,
             "stacks": {"green": HOSTS[:2], "blue": HOSTS[2:]}, "commands": (("deploy", 0),)}
    return Evidence(**{**given, **fields})


def laws(found):
    return {sentence.split(":")[0] for sentence in verdict.judge(found)}


def test_a_stack_may_leave_while_the_other_one_serves():
    assert verdict.judge(evidence(doing(5, "standby", "green-1", "green-2"))) == []


@pytest.mark.parametrize("words, pools", [("lll-", "llll"), ("llls", "llls"), ("llll", "llls")])
def test_no_stack_may_leave_while_one_of_the_other_does_not_serve(words, pools):
    """Whether it is silent, says standby, or a node of LIVE has not taken it on."""
    seen = looks((0, 5, words, "abcd", "2.0.0-1", pools), (5, 9, "llll"))
    found = evidence(doing(5, "standby", "green-1", "green-2"), seen=seen)
    assert laws(found) == {"floor"}


def test_what_fell_within_the_look_before_an_act_is_not_the_drivers_fault():
    assert laws(evidence(doing(5.1, "standby", "green-1"), seen=looks((0, 4, "llll"), (4, 5, "ll--"), (5, 9, "llll")))) == set()


def test_taking_out_what_does_not_serve_lowers_nothing():
    assert laws(evidence(doing(5, "standby", "green-1"), seen=looks((0, 5, "sl-l"), (5, 9, "llll")))) == set()


@pytest.mark.parametrize("words, pools", [("llll", "llll"), ("slll", "llll")])
def test_chef_is_not_started_on_what_says_live_or_what_live_sends_to(words, pools):
    start = {"started": {"green-1": "api=a"}}
    seen = looks((0, 5, words, "abcd", "2.0.0-1", pools), (5, 9, "llll"))
    found = evidence(doing(5, "converge", "green-1", **start), seen=seen)
    assert laws(found) == {"converge"}


def test_a_process_of_our_converge_does_not_stay_live_untested():
    events = [doing(3, "converge", "green-1", started={"green-1": "api=a"})]
    after = looks((0, 3, "slll"), (3, 4, "slll", "xbcd"), (4, 9, "llll", "xbcd"))
    assert laws(evidence(*events, seen=after)) == {"untested"}
    assert laws(evidence(*events, passed(3.9, "green-1", "x"), seen=after)) == set()
    assert laws(evidence(*events, passed(3.9, "green-1", "w"), seen=after)) == set(), "it crashed and came back on what passed"
    assert laws(evidence(*events, passed(3.9, "green-1", "w", "api=1.0.0-1@c"), seen=after)) == {"untested"}
    assert laws(evidence(passed(2, "green-1", "x"), *events, seen=after)) == {"untested"}, "what passed before is forgotten"


def test_a_process_that_is_taken_out_again_at_the_next_looks_did_not_stay():
    events = [doing(3, "converge", "green-1", started={"green-1": "api=a"}), doing(5, "standby", "green-1", rescue=True)]
    assert laws(evidence(*events, passed(7, "green-1", "x"), seen=looks(
        (0, 3, "slll"), (3, 5, "llll", "xbcd"), (5, 8, "slll", "xbcd"), (8, 9, "llll", "xbcd")))) == set()


def test_no_migration_while_a_host_runs_what_cannot_read_it():
    found = evidence(doing(5, "migrate"), seen=looks((0, 9, "llll", "abcd", "1.9.9-1")))
    assert laws(found) == {"migration"}
    assert laws(evidence(doing(5, "migrate"))) == set()


@pytest.mark.parametrize("change", [
    {"runs": {"r": [doing(5, "standby", "green-1")]}}, {"runs": {"r": []}},
    {"runs": {"r": [doing(5, "standby", "green-1"), {**END, "outcome": "failed", "exit_code": 4}]}},
    {"commands": ()}, {"commands": (("deploy", 0), ("resume", 4))}, {"commands": (("deploy", 1), ("resume", 0))},
    {"lock": "somebody"}, {"runs": {"r": [{"at": 4, "kind": "began"}]}},
    {"runs": {"r": [doing(5, "standby", "green-1")]}, "commands": (("deploy", -9), ("status", 0))}])
def test_every_run_is_ended_the_lock_is_free_and_the_last_command_was_good(change):
    assert laws(evidence(**change)) == {"ended"}


def test_a_command_that_was_killed_or_refused_is_fine_if_the_next_one_finishes():
    commands = (("deploy", -9), ("resume", 3), ("deploy", 6))
    assert laws(evidence(commands=commands)) == set()
    begun = [{"at": 4, "kind": "began"}]
    assert laws(evidence(commands=commands, runs={"before its first act": begun})) == set()
    assert laws(evidence(commands=commands, runs={"killed": begun, "nobody killed this one": begun})) == {"ended"}


@pytest.mark.parametrize("words, pools, wanted", [("llls", "llls", {}), ("lll-", "llll", {}), ("llll", "llls", {}),
                                                  ("llll", "llll", {"blue-2": "1.0.0-1"})])
def test_at_the_end_every_stack_is_live_in_every_pool_on_the_version_that_was_wanted(words, pools, wanted):
    found = evidence(seen=looks((0, 9, words, "abcd", "2.0.0-1", pools)), wanted=wanted)
    assert laws(found) == {"whole"} and laws(replace(found, looks=looks((0, 9, "llll")), wanted={"blue-2": "2.0.0-1"})) == set()


def samples(good, bad=0, gap=0.0):
    """One a tenth of a second; the bad ones first, then a hole."""
    made = [Sample(n / 10, n / 10 + 0.01, "live-1", "api", False, "status 503" if n < bad else "") for n in range(good + bad)]
    return tuple(replace(s, begin=s.begin + gap, end=s.end + gap) if n > bad else s for n, s in enumerate(made))


BASE = Baseline((2, 5, 4), (1.0, 1.5, 1.2))


def test_the_driver_adds_no_failed_request_beyond_the_spread_of_the_baseline():
    assert BASE.most_failed == 8 and Baseline((0, 0, 0), (0.1, 0.1, 0.1)).most_failed == 0
    assert laws(evidence(samples=samples(50, 8), baseline=BASE)) == set()
    assert laws(evidence(samples=samples(50, 9), baseline=BASE)) == {"availability"}
    assert laws(evidence(samples=samples(50, 1), baseline=Baseline((0, 0, 0), (9, 9, 9)))) == {"availability"}
    assert laws(evidence(samples=samples(50, 9))) == set(), "not judged without a baseline"


def test_the_driver_adds_no_longer_gap_beyond_the_spread_of_the_baseline():
    assert BASE.longest == 3.5
    assert laws(evidence(samples=samples(50, gap=3.2), baseline=BASE)) == set()
    assert laws(evidence(samples=samples(50, gap=3.7), baseline=BASE)) == {"availability"}


@pytest.mark.parametrize("fault, kept", [
    ("restart", {"before", "late", "503", "elsewhere"}), ("gone", {"before", "late", "elsewhere"}),
    ("reload-forget", {"before", "late", "503", "elsewhere", "refused", "cut"})])
def test_a_node_that_is_away_costs_nobody_a_request_and_one_that_sends_wrongly_does(fault, kept):
    def one(at, what, node="live-2"):
        return Sample(at, at + 0.1, node, "api", False, what)
    refused = "connection refused"
    samples = {"before": one(8, refused), "refused": one(10.5, refused), "cut": one(10.6, "closed without an answer"),
               "503": one(10.7, "status 503"), "late": one(15, refused), "elsewhere": one(10.5, refused, "live-1")}
    bench = SimpleNamespace(load=SimpleNamespace(samples=list(samples.values())), nodes=NODES, now=lambda: 20.0)
    judged = trial.judged(bench, 5, trial.Broken(fault, "live-2", 10.0, 11.0))
    assert {name for name, sample in samples.items() if sample in judged} == kept


def test_a_gap_is_counted_for_each_component_and_up_to_the_edges():
    assert longest_gap(samples(11)) == pytest.approx(0.1)
    assert longest_gap(samples(10, 10)) == pytest.approx(1.01)
    web = tuple(replace(s, component="web", what="lost" if s.begin > 0.5 else "") for s in samples(50))
    assert longest_gap((*samples(50), *web)) == pytest.approx(4.39)


def test_a_long_request_that_no_fault_touched_is_never_cut():
    assert laws(evidence(asides=(Sample(0, 9, "live-1", "api", False, "status 502"),))) == {"availability"}


def test_the_campaign_has_at_least_150_cases_of_its_own_each_and_meets_every_fault_and_moment():
    every = cases.matrix()
    assert len(every) >= 150 and len({case.name for case in every}) == len(every)
    assert {case.moment for case in every} == set(cases.MOMENTS)
    for harm in cases.HARMS:
        assert len(harm.moments) >= 3 and len({case.finish for case in every if case.harm == harm}) > 1, harm


def test_a_small_campaign_is_a_varied_one_and_the_same_seed_draws_the_same():
    every = cases.matrix()
    dozen = cases.choose(every, 12, 3)
    assert dozen == cases.choose(every, 12, 3) != cases.choose(every, 12, 4)
    assert len({case.harm.fault for case in dozen}) >= 10 and len({case.moment for case in dozen}) >= 10
