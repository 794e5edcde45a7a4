"""The ladder, a case a rung: what is seen, wanted and remembered -> the one next step, and its why."""

from dataclasses import replace

import pytest

from bgdeploy.model import Ask, Do, Done, Goal, Limits, Memory, Stop, Wait, Want
from tests.scenes import (NOW, ONE, POLICY, TWO, asked, dark, deploy, did, foreign, host, job, mixed, part, passed, remembers,
                          rollout, seen, steady, waiting)

TAKEN = did("standby", "green-1 green-2", steady())
OUT = steady(host("green-1", "standby"), host("green-2", "standby"))
QUIET = {"quiet": {"green-1": NOW - 2, "green-2": NOW - 2}}


def done_to(step, *hosts):
    return lambda s: isinstance(s, Do) and s.step == step and s.hosts == hosts


class TestAsWanted:
    def test_a_healthy_stack_that_is_live_on_the_release_is_done_without_a_single_act(self):
        assert isinstance(asked(deploy(release=ONE), steady()), Done)

    def test_a_lost_journal_costs_nothing_where_the_stack_is_live_on_the_release_by_anybodys_run(self):
        world = steady(host("green-1", release="2", job=job(run="another")), host("green-2", release="2", job=job(run="another")))
        assert isinstance(asked(deploy(), world), Done)

    def test_the_same_versions_brought_by_other_cookbooks_are_another_release(self):
        old = replace(TWO, cookbooks="c1")
        world = steady(*(host(n, release="2", job=job(old, run="another")) for n in ("green-1", "green-2")))
        step = asked(deploy(release=replace(TWO, cookbooks="c2")), world)
        assert done_to("standby", "green-1", "green-2")(step) and "cookbooks" in step.why

    def test_an_empty_selection_is_never_all(self):
        assert isinstance(asked(deploy(hosts=("nobody",)), steady()), Stop)

    def test_nothing_wanted_is_nothing_done(self):
        assert asked(Goal(), steady()).why == "nothing to do"

    @pytest.mark.parametrize("changes", [
        {"live_pool": None}, {"live_pool": "no"}, {"live_pool": "moving"}, {"heartbeat": None, "release": None}, {"sick": True},
        {"release": None}])
    def test_unknown_in_any_field_is_never_as_wanted(self, changes):
        one = mixed("green-1", part("api"), replace(part("web"), **changes))
        assert not isinstance(asked(deploy(release=ONE), steady(one)), Done)


class TestUnknown:
    def test_a_silent_host_is_waited_for_before_anything_is_done_and_named(self):
        step = asked(deploy(), steady(dark("green-2")))
        assert isinstance(step, Wait) and step.kind == "host" and step.hosts == ("green-2",) and "out of reach" in step.why

    def test_preflight_looks_at_every_wanted_stack_whatever_the_wave(self):
        step = asked(rollout(), steady(dark("blue-2")), wave=1)
        assert isinstance(step, Wait) and step.hosts == ("blue-2",)

    def test_after_the_limit_a_silent_host_has_failed(self):
        memory = Memory(run="run", silent={"green-2": NOW - 181})
        step = asked(deploy(), steady(dark("green-2")), memory)
        assert isinstance(step, Stop) and "green-2 (out of reach) for more than 180 s" in step.why

    def test_a_forgiven_host_that_stays_silent_fails_again(self):
        memory = remembers(TAKEN, {"kind": "forgave", "hosts": ["green-2"]}, silent={"green-2": NOW - 181})
        step = asked(deploy(), steady(host("green-1", "standby"), dark("green-2")), memory)
        assert isinstance(step, Stop) and "out of reach" in step.why

    def test_a_process_without_a_start_id_is_unknown(self):
        step = asked(deploy(), steady(mixed("green-1", part("api"), part("web", started=None))))
        assert isinstance(step, Wait) and step.kind == "host"

    def test_a_sick_component_is_known_and_is_not_waited_for(self):
        sick = mixed("green-1", part("api"), part("web", None, sick=True))
        assert done_to("standby", "green-1", "green-2")(asked(deploy(), steady(sick)))

    def test_nothing_is_asked_about_a_host_while_chef_restarts_its_services(self):
        world = steady(mixed("green-1", part("api", "standby"), part("web", None, started=None), job=job(state="running")),
                       host("green-2", "standby"))
        step = asked(deploy(), world, remembers(TAKEN, did("converge", "green-1", OUT), **QUIET))
        assert isinstance(step, Wait) and step.kind == "chef"


class TestStandby:
    def test_a_live_stack_on_another_version_leaves_first(self):
        step = asked(deploy(), steady())
        assert done_to("standby", "green-1", "green-2")(step) and step.release == TWO
        assert step.why == "green-1 green-2 leaves LIVE: api=2,web=2 is wanted; api 1, web 1 now"

    @pytest.mark.parametrize("other", [host("blue-2", "standby"), dark("blue-2"), host("blue-2", live_pool="moving"),
                                       host("blue-2", live_pool=None), host("blue-2", "down")])
    def test_refused_when_the_rest_is_not_proved_to_serve_at_the_floor_and_who_is_missing_is_named(self, other):
        step = asked(deploy(), steady(other))
        assert isinstance(step, Stop) and "the floor is 2" in step.why and "blue-2" in step.why

    def test_the_interlock_counts_each_component(self):
        step = asked(deploy(), steady(mixed("blue-1", part("api"), part("web", "standby"))))
        assert isinstance(step,
                          Stop) and "web would be served by 1, the floor is 2" in step.why and "api" not in step.why.split(";")[0]

    def test_the_default_floor_is_what_the_smallest_stack_holds_of_the_component(self):
        world = seen(host("green-1"), host("green-2"), host("blue-1"), host("blue-3", parts=("api",)))
        assert done_to("standby", "green-1", "green-2")(asked(deploy(), world))
        short = seen(host("green-1"), host("green-2"), host("blue-1"), host("blue-3", "standby", parts=("api",)))
        assert "api would be served by 1, the floor is 2" in asked(deploy(), short).why

    def test_a_lowered_floor_lets_go_on(self):
        assert done_to("standby", "green-1", "green-2")(asked(deploy(), steady(host("blue-2", "down")), floor=(("*", 1),)))

    def test_a_stack_that_serves_nobody_is_deployed_even_when_nothing_else_serves(self):
        world = seen(*(host(n, "down", "") for n in ("green-1", "green-2", "blue-1", "blue-2")))
        assert done_to("converge", "green-1")(asked(deploy(), world))

    def test_then_every_node_of_live_has_let_go(self):
        world = steady(host("green-1", "standby", live_pool="moving"), host("green-2", "standby"))
        step = asked(deploy(), world, remembers(TAKEN))
        assert isinstance(step, Wait) and step.kind == "pool" and step.hosts == ("green-1",) and "let go of green-1" in step.why
        half = mixed("green-1", part("api", "standby"), part("web", "standby", live_pool="yes"))
        assert asked(deploy(), steady(half, host("green-2", "standby")), remembers(TAKEN)).hosts == ("green-1",)

    def test_then_standby_has_taken_on_what_runs(self):
        world = steady(host("green-1", "standby", standby_pool="moving"), host("green-2", "standby"))
        step = asked(deploy(), world, remembers(TAKEN))
        assert isinstance(step, Wait) and step.kind == "pool" and "STANDBY" in step.why

    def test_a_balancer_that_never_lets_go_ends_the_run_and_names_the_way_back(self):
        world = steady(host("green-1", "standby", live_pool="yes"), host("green-2", "standby"))
        step = asked(deploy(), world, remembers(TAKEN, waiting("pool", "green", NOW - 61)))
        assert isinstance(step, Stop) and "substring" in step.why and step.next_command == "invoke live --stack green"

    def test_waits_cannot_feed_each_other_the_limit_runs_from_the_first(self):
        world = steady(host("green-1", "standby", live_pool="moving"), host("green-2", "standby"))
        memory = remembers(TAKEN, waiting("pool", "green", NOW - 61), waiting("pool", "green", NOW - 5))
        assert isinstance(asked(deploy(), world, memory), Stop)

    def test_a_wave_takes_no_more_hosts_than_it_may(self):
        assert done_to("standby", "green-1")(asked(deploy(), steady(), wave=1, floor=(("*", 3),)))

    @pytest.mark.parametrize("wave, hosts, size",
                             [("25%", 10, 2), ("25%", 2, 1), ("50%", 3, 1), ("100%", 3, 3), (2, 5, 2), ("stack", 5, 5)])
    def test_a_share_of_a_stack_is_rounded_down_to_at_least_one(self, wave, hosts, size):
        world = seen(*(host(f"green-{n}") for n in range(hosts)), *(host(f"blue-{n}") for n in range(hosts)))
        assert len(asked(deploy(), world, wave=wave).hosts) == size

    def test_an_excluded_host_is_left_alone(self):
        memory = Memory(run="run", first_seen=steady(), excluded={"green-1": "x"})
        assert done_to("standby", "green-2")(asked(deploy(), steady(), memory))

    def test_the_load_that_is_there_now_must_fit_what_remains(self):
        busy = steady(*(host(n, sessions=10) for n in ("green-1", "green-2", "blue-1", "blue-2")))
        why = asked(deploy(), busy, max_in_flight=19).why
        assert "40 requests of api are in flight now, 20 each for the 2 that remain" in why
        assert isinstance(asked(deploy(), busy, max_in_flight=20), Do)

    def test_a_load_that_nobody_counts_is_not_taken_for_none(self):
        step = asked(deploy(), steady(host("blue-1", sessions=None)), max_in_flight=20)
        assert isinstance(step, Stop) and "on blue-1 is not known" in step.why


class TestDrain:
    def test_requests_in_flight_are_waited_for(self):
        step = asked(deploy(), steady(host("green-1", "standby", sessions=3), host("green-2", "standby")), remembers(TAKEN))
        assert isinstance(step, Wait) and step.kind == "drain" and "green-1: 6" in step.why

    def test_one_quiet_look_is_not_enough_two_a_second_apart_are(self):
        assert asked(deploy(), OUT, remembers(TAKEN, quiet={"green-1": NOW, "green-2": NOW})).kind == "drain"
        assert done_to("converge", "green-1")(asked(deploy(), OUT, remembers(TAKEN, **QUIET)))

    def test_at_the_limit_the_inventory_says_what_becomes_of_it(self):
        world = steady(host("green-1", "standby", sessions=3), host("green-2", "standby"))
        memory = remembers(TAKEN, waiting("drain", "green", NOW - 61), **QUIET)
        stop, ask = asked(deploy(), world, memory, drain_then="stop"), asked(deploy(), world, memory, drain_then="ask")
        assert isinstance(stop, Stop) and "green-1: 6" in stop.why and "invoke live --stack green" in stop.next_command
        assert isinstance(ask, Ask) and ask.choices == ("proceed", "stop")
        assert done_to("converge", "green-1")(asked(deploy(), world, memory, drain_then="proceed"))

    def test_a_person_who_says_proceed_is_obeyed_at_once_and_the_end_says_so(self):
        world = steady(host("green-1", "standby", sessions=3), host("green-2", "standby"))
        memory = remembers(TAKEN, {"kind": "answered", "choice": "proceed", "gate": "drain", "stack": "green",
                                   "hosts": ["green-1"]}, **QUIET)
        assert done_to("converge", "green-1")(asked(deploy(), world, memory, drain_then="ask"))
        assert "a person said proceed" in memory.drains["green-1"]

    def test_what_nothing_can_count_is_waited_for_as_long_as_the_policy_says_and_no_longer(self):
        world = steady(*(host(n, "standby", sessions=None) for n in ("green-1", "green-2")))
        step = asked(deploy(), world, remembers(TAKEN, waiting("drain", "green", NOW - 10)))
        assert isinstance(step, Wait) and "nothing counts them" in step.why and step.until == NOW + 20
        assert done_to("converge", "green-1")(asked(deploy(), world, remembers(TAKEN, waiting("drain", "green", NOW - 31))))

    def test_a_host_that_is_down_has_no_requests_in_flight(self):
        assert done_to("converge", "green-1")(asked(deploy(), steady(host("green-1", "down"), host("green-2", "down"))))

    def test_what_crashed_in_this_run_may_be_live_again_in_a_second_and_is_waited_for_until_live_has_noticed(self):
        for world in (steady(host("green-1", "down"), host("green-2", "standby")), steady(*map(self.half_down, (1, 2)))):
            now, later = ({"quiet": {name: NOW - age for name in ("green-1", "green-2")}} for age in (2, 4))
            step = asked(deploy(), world, remembers(TAKEN, first=steady(), **now))
            assert isinstance(step, Wait) and step.kind == "drain" and "green-1" in step.hosts
            assert done_to("converge", "green-1")(asked(deploy(), world, remembers(TAKEN, first=steady(), **later)))
            assert done_to("converge", "green-1")(asked(deploy(), world, remembers(TAKEN, first=world, **now)))

    def half_down(self, n):
        return mixed(f"green-{n}", part("api", "standby"), part("web", "down"))

    @pytest.mark.parametrize("end", ["drained", "unmeasured"])      # of one that was sick beside what is counted, say
    def test_a_recorded_drain_holds_only_as_long_as_nothing_new_comes_in(self, end):
        world = steady(host("green-1", "standby", sessions=4), host("green-2", "down"))
        step = asked(deploy(), world, remembers(TAKEN, {"kind": "waited", "wait": "drain", "outcomes": {"green-1": end}}))
        assert isinstance(step, Wait) and step.kind == "drain" and step.hosts == ("green-1",)


class TestConverge:
    def test_one_host_first_the_canary(self):
        step = asked(deploy(), OUT, remembers(TAKEN, **QUIET))
        assert done_to("converge", "green-1")(step) and step.why.startswith("canary: green-1 to api=2,web=2")

    def test_without_a_canary_as_many_as_may_run_at_a_time(self):
        assert done_to("converge", "green-1", "green-2")(asked(deploy(), OUT, remembers(TAKEN, **QUIET), canary=False))

    def test_after_the_canary_the_rest(self):
        world = steady(host("green-1", "standby", "2", job=job(), started="s2"), host("green-2", "standby"))
        memory = remembers(TAKEN, did("converge", "green-1", OUT), **QUIET)
        assert done_to("converge", "green-2")(asked(deploy(), world, memory))

    def test_running_ones_count_over_the_whole_stack(self):
        world = seen(*(host(f"green-{n}", "standby") for n in (1, 2, 3)), host("green-4", "standby", job=job(state="running")),
                     *(host(f"blue-{n}") for n in (1, 2, 3, 4)))
        step = asked(deploy(), world, Memory(run="run", quiet={f"green-{n}": NOW - 2 for n in range(5)}), canary=False,
                     parallel=2)
        assert done_to("converge", "green-1")(step)

    @pytest.mark.parametrize("running", [job(state="running"), job(state="reboot"), foreign()])
    def test_a_host_whose_job_runs_is_waited_for(self, running):
        step = asked(deploy(), steady(host("green-1", "standby", job=running), host("green-2", "standby")),
                     remembers(TAKEN, **QUIET))
        assert isinstance(step, Wait) and step.kind == "chef" and "green-1" in step.hosts

    def test_the_wait_for_chef_ends_at_its_limit(self):
        world = steady(host("green-1", "standby", job=job(state="running")), host("green-2", "standby"))
        step = asked(deploy(), world, remembers(TAKEN, waiting("chef", "green", NOW - 1201), **QUIET))
        assert isinstance(step, Stop) and "Chef has not ended within 1200 s" in step.why

    @pytest.mark.parametrize("state", ["failed", "locked", "config"])
    def test_a_failed_chef_run_stops_with_its_reason(self, state):
        ended = job(state=state, tail="\ndnf: no space\nthe last line\n")
        world = steady(host("green-1", "standby", job=ended), host("green-2", "standby"))
        step = asked(deploy(), world, remembers(TAKEN, did("converge", "green-1", OUT), **QUIET))
        assert isinstance(step, Stop) and step.why == f"Chef ended {state} on green-1: dnf: no space"
        assert "invoke rollback --stack green" in step.next_command and "invoke resume" in step.next_command

    @pytest.mark.parametrize("state", ["lost", "again"])
    def test_a_lost_run_and_one_that_wants_another_are_converged_again(self, state):
        world = steady(host("green-1", "standby", job=job(state=state)), host("green-2", "standby"))
        assert done_to("converge", "green-1")(asked(deploy(), world, remembers(TAKEN, did("converge", "green-1", OUT), **QUIET)))

    def test_somebody_elses_failure_is_no_failure_of_this_run(self):
        world = steady(host("green-1", "standby", job=job(state="failed", run="another")), host("green-2", "standby"))
        assert done_to("converge", "green-1")(asked(deploy(), world, remembers(TAKEN, **QUIET)))

    def test_within_max_failed_the_failed_host_is_dropped_and_the_end_says_so(self):
        failed = host("green-1", "standby", job=job(state="failed"))
        rest = host("green-2", "standby", "2", job=job(), started="s2")
        after = steady(failed, rest)
        memory = remembers(TAKEN, did("converge", "green-1 green-2", OUT), passed("green-2", after), **QUIET)
        assert done_to("live", "green-2")(asked(deploy(), after, memory, max_failed=1))
        served = steady(failed, host("green-2", release="2", job=job(), started="s2"))
        end = asked(deploy(), served, memory, max_failed=1)
        assert isinstance(end, Done) and end.warnings == (("dropped", "Chef ended failed on green-1: no output"),)

    def test_max_failed_is_an_absolute_number_and_never_all_of_a_stack(self):
        world = steady(*(host(n, "standby", job=job(state="failed")) for n in ("green-1", "green-2")))
        memory = remembers(TAKEN, did("converge", "green-1 green-2", OUT), **QUIET)
        assert isinstance(asked(deploy(), world, memory, max_failed=1), Stop)
        assert isinstance(asked(deploy(), world, memory, max_failed=2), Stop)

    def test_where_the_inventory_says_so_a_person_is_asked_but_not_before_the_first_act(self):
        world = steady(host("green-1", "standby", job=job(state="failed")), host("green-2", "standby"))
        step = asked(deploy(), world, remembers(TAKEN, did("converge", "green-1", OUT), **QUIET), on_failure="ask")
        assert isinstance(step, Ask) and step.choices == ("retry", "exclude", "stop") and step.hosts == ("green-1",)
        silent = Memory(run="run", silent={"green-2": NOW - 500})
        assert isinstance(asked(deploy(), steady(dark("green-2")), silent, on_failure="ask"), Stop)

    def test_chef_ok_and_the_old_version_answers_one_more_converge_then_stop_with_the_reason(self):
        stale = host("green-1", "standby", "1", installed="2", job=job())
        world, first = steady(stale, host("green-2", "standby")), did("converge", "green-1", OUT)
        assert done_to("converge", "green-1")(asked(deploy(), world, remembers(TAKEN, first, **QUIET)))
        again = steady(replace(stale, job=job(run="run.2")), host("green-2", "standby"))
        step = asked(deploy(), again, remembers(TAKEN, first, first, **QUIET))
        assert isinstance(step, Stop) and "Chef ended ok on green-1, but api 2 is installed, and 1 runs" in step.why

    def test_where_chef_was_told_another_version_by_somebody_higher_the_stop_names_who(self):
        held = job(run="run.2", tail="converged, but not on what was asked: ... is set by env_override")
        world = steady(host("green-1", "standby", "1", job=held), host("green-2", "standby"))
        first = did("converge", "green-1", OUT)
        step = asked(deploy(), world, remembers(TAKEN, first, first, **QUIET))
        assert isinstance(step, Stop) and "1 runs (converged, but" in step.why and "env_override)" in step.why

    def test_a_forgiven_stale_process_gets_one_more_converge_and_no_more(self):
        world = steady(host("green-1", "standby", "1", installed="2", job=job(run="run.2")), host("green-2", "standby"))
        converged = did("converge", "green-1", OUT)
        memory = remembers(TAKEN, converged, converged, {"kind": "forgave", "hosts": ["green-1"]}, **QUIET)
        assert done_to("converge", "green-1")(asked(deploy(), world, memory))
        assert isinstance(asked(deploy(), world, remembers(TAKEN, converged, converged, {"kind": "forgave", "hosts": ["green-1"]},
                                                            converged, **QUIET)), Stop)

    def test_a_service_that_is_down_after_chef_ended_ok_is_named_with_what_is_installed(self):
        twice = did("converge", "green-1", OUT)
        for installed, said in (("2", "is installed"), ("", "was wanted, nothing is installed"), (None, "was wanted")):
            web = replace(part("web", "down", "2"), installed=installed, note="its service is inactive")
            world = steady(mixed("green-1", part("api", "standby", "2"), web, job=job(run="run.2")), host("green-2", "standby"))
            step = asked(deploy(), world, remembers(TAKEN, twice, twice, **QUIET))
            assert isinstance(step, Stop) and f"web 2 {said}, and its service is inactive" in step.why

    def test_an_empty_host_of_a_running_stack_joins_without_a_drain(self):
        step = asked(deploy(release=ONE, hosts=("green-2",)), steady(host("green-2", "down", "")))
        assert done_to("converge", "green-2")(step) and "api down" in step.why


class TestSanityAndLive:
    READY = steady(*(host(n, "standby", "2", job=job(), started="s2") for n in ("green-1", "green-2")))
    MEMORY = (TAKEN, did("converge", "green-1 green-2", OUT))

    def test_what_was_converged_is_tested_through_standby(self):
        assert done_to("sanity", "green-1", "green-2")(asked(deploy(), self.READY, remembers(*self.MEMORY)))

    def test_not_before_standby_has_taken_it_on(self):
        late = steady(host("green-1", "standby", "2", job=job(), started="s2", standby_pool="moving"), self.READY.host("green-2"))
        step = asked(deploy(), late, remembers(*self.MEMORY))
        assert isinstance(step, Wait) and step.kind == "pool" and step.hosts == ("green-1",)

    def test_a_failed_test_stops_and_a_new_process_is_tested_anew(self):
        wrong = passed("green-1", self.READY, outcome="failed", detail="the page is wrong")
        step = asked(deploy(), self.READY, remembers(*self.MEMORY, wrong))
        assert isinstance(step, Stop) and step.why == "the page is wrong"
        restarted = steady(host("green-1", "standby", "2", job=job(), started="s3"), self.READY.host("green-2"))
        assert done_to("sanity", "green-1", "green-2")(asked(deploy(), restarted, remembers(*self.MEMORY, wrong)))

    def test_exactly_the_tested_processes_go_live(self):
        memory = remembers(*self.MEMORY, passed("green-1 green-2", self.READY))
        step = asked(deploy(), self.READY, memory)
        assert done_to("live", "green-1", "green-2")(step) and "passed sanity" in step.why
        restarted = steady(host("green-1", "standby", "2", job=job(), started="s3"), self.READY.host("green-2"))
        assert done_to("sanity", "green-1")(asked(deploy(), restarted, memory))

    def test_evidence_of_another_release_counts_for_nothing(self):
        memory = remembers(*self.MEMORY, passed("green-1 green-2", self.READY, release=ONE))
        assert asked(deploy(), self.READY, memory).step == "sanity"

    def test_then_every_node_of_live_has_taken_it_on(self):
        joining = steady(*(host(n, "live", "2", job=job(), started="s2", live_pool="moving") for n in ("green-1", "green-2")))
        memory = remembers(*self.MEMORY, passed("green-1 green-2", self.READY), did("live", "green-1 green-2", self.READY))
        step = asked(deploy(), joining, memory)
        assert isinstance(step, Wait) and step.kind == "pool" and "taken on" in step.why

    def test_a_live_app_that_crashed_and_restarted_on_the_tested_release_goes_on_serving(self):
        world = steady(*(host(n, "live", "2", job=job(), started="s9") for n in ("green-1", "green-2")))
        assert isinstance(asked(deploy(), world, remembers(*self.MEMORY, passed("green-1 green-2", self.READY))), Done)

    @pytest.mark.parametrize("state", ["ok", "failed", "running"])
    def test_an_app_that_came_up_live_after_our_converge_is_taken_out_whatever_else_is_the_matter(self, state):
        born = host("green-1", "live", "2", job=job(state=state), started="s2")
        world = steady(born, host("green-2", "standby"), host("blue-1", "down"), host("blue-2", "down"))
        memory = remembers(TAKEN, did("converge", "green-1", OUT), **QUIET)
        step = asked(deploy(), world, memory, gates=("standby",))
        assert done_to("standby", "green-1")(step) and "untested" in step.why and step.rescue

    def test_the_old_process_that_a_person_put_live_again_is_respected_by_the_interlock(self):
        put = host("green-1", "live", "1", job=job(state="failed"), started="s1")
        world = steady(put, host("green-2", "standby"), host("blue-1", "down"), host("blue-2", "down"))
        assert not isinstance(asked(deploy(), world, remembers(TAKEN, did("converge", "green-1", OUT), **QUIET)), Do)

    def test_a_host_of_which_somebody_took_one_half_out_is_tested_whole_before_it_returns(self):
        memory = remembers(*self.MEMORY, passed("green-1 green-2", self.READY))
        half = mixed("green-1", part("api", "standby", "2", started="s2"), part("web", "live", "2", started="s2"), job=job())
        assert done_to("live", "green-1", "green-2")(asked(deploy(), steady(half, self.READY.host("green-2")), memory))
        other = mixed("green-1", part("api", "standby", "2", started="s9"), part("web", "live", "2", started="s2"), job=job())
        assert done_to("standby", "green-1")(asked(deploy(), steady(other, self.READY.host("green-2")), memory))

    def test_a_down_component_does_not_go_live_and_the_way_is_named(self):
        after = steady(mixed("green-1", part("api", "standby"), part("web", "down")), host("green-2", "standby"))
        step = asked(Goal((Want("green", "live"),), kind="step", only="live"), after, remembers(TAKEN))
        assert isinstance(step, Stop) and step.next_command == "invoke converge --stack green --hosts green-1"

    def test_whom_somebody_took_out_after_this_run_put_it_live_is_not_fought(self):
        memory = remembers(*self.MEMORY, passed("green-1 green-2", self.READY), did("live", "green-1 green-2", self.READY),
                           {"kind": "seen_live", "hosts": {h.name: h.started for h in self.READY.stack("green")}})
        world = steady(self.READY.host("green-1"), host("green-2", "live", "2", job=job(), started="s2"))
        step = asked(deploy(), world, memory)
        assert isinstance(step, Stop) and "someone took green-1 out" in step.why
        assert step.next_command == "invoke live --stack green --hosts green-1"


def test_the_other_stack_follows_only_when_the_first_is_as_wanted():
    done = [host(n, "live", "2", job=job(run="another")) for n in ("green-1", "green-2")]
    assert done_to("standby", "blue-1", "blue-2")(asked(rollout(), steady(*done)))
    waits = steady(replace(done[0], components=tuple(replace(c, live_pool="moving") for c in done[0].components)), done[1])
    assert asked(rollout(), waits).stack == "green"


def test_limits_are_the_policys():
    short = replace(POLICY, limits=Limits(pool=5))
    world = steady(host("green-1", "standby", live_pool="moving"), host("green-2", "standby"))
    assert isinstance(asked(deploy(), world, remembers(TAKEN, waiting("pool", "green", NOW - 6)), short), Stop)
