"""From typed words to a goal: versions, order, rollback, back, and steps by hand that join an open run."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from bgdeploy import goals
from bgdeploy.errors import Refused
from bgdeploy.goals import Asked, Candidates, Known
from bgdeploy.model import Release, Want
from tests.scenes import deploy, did, host, job, mixed, part, passed, seen, steady
from tests.test_records import OUT, on, run

SITE = SimpleNamespace(components=(SimpleNamespace(name="api"), SimpleNamespace(name="web")),
                       stacks=(SimpleNamespace(name="green"), SimpleNamespace(name="blue")))
REPOSITORY = {"api": ["2", "1"], "web": ["2", "1"]}
M = SimpleNamespace(name="add-prices", needs=(("web", "2"),))


def known(world=None, runs=(), open_run=None, said=None, repository=REPOSITORY, **more):
    return Known(SITE, world or steady(), tuple(runs), repository.__getitem__, (said if said is not None else []).append,
                 open_run, **more)


def release(version, cookbooks=""):
    return Release((("api", version), ("web", version)), cookbooks)


def ended(outcome, world):
    return {"kind": "ended", "outcome": outcome, "exit_code": 0, "seen": world.to_json()}


class TestDeployAndRollout:
    def test_deploy_is_one_want_with_the_newest_and_the_cookbooks_of_now(self):
        goal = goals.goal(Asked("deploy", "green"), known(cookbooks="c1"))
        assert goal.wants == (Want("green", "live", release("2", "c1")),) and goal.kind == "deploy"

    def test_hosts_narrow_it(self):
        assert goals.goal(Asked("deploy", "green", hosts=("green-2",)), known()).wants[0] == Want("green", "live", release("1"),
                                                                                                  ("green-2",))

    def test_older_than_what_serves_is_refused_unless_insisted_on(self):
        asked = Asked("deploy", "green", versions=(("api", "1"), ("web", "1")))
        with pytest.raises(Refused, match="older than 2, which green serves"):
            goals.goal(asked, known(on("2")))
        assert goals.goal(replace(asked, older=True), known(on("2"))).wants[0].release == release("1")

    def test_out_of_live_the_records_say_what_it_last_served(self):
        with pytest.raises(Refused, match="older than 2, which green last served"):
            goals.goal(Asked("deploy", "green", versions=(("api", "1"), ("web", "1"))),
                       known(on("2", "standby"), [run(first=on("2"))]))

    def test_a_rollout_takes_every_stack_in_the_inventorys_order_with_one_release(self):
        goal = goals.goal(Asked("rollout"), known())
        assert [w.stack for w in goal.wants] == ["green", "blue"] and {w.release for w in goal.wants} == {release("2")}

    def test_with_a_migration_that_needs_more_than_it_brings_it_is_refused_before_anything_is_done(self):
        asked = Asked("rollout", migration=M, versions=(("api", "1"), ("web", "1")), older=True)
        with pytest.raises(Refused, match="add-prices needs web 2, and this rollout brings 1"):
            goals.goal(asked, known())
        assert goals.goal(replace(asked, versions=(("api", "1"), ("web", "2"))), known()).migrate == "add-prices"

    def test_stacks_already_out_of_live_go_first(self):
        out = steady(host("blue-1", "standby"), host("blue-2", "standby"))
        assert [w.stack for w in goals.goal(Asked("rollout"), known(out)).wants] == ["blue", "green"]
        more = steady(host("green-2", "standby"), host("blue-1", "standby"), host("blue-2", "standby"))
        assert [w.stack for w in goals.goal(Asked("rollout"), known(more)).wants] == ["blue", "green"], "green-1 may not leave"

    def test_a_named_first_goes_first(self):
        assert [w.stack for w in goals.goal(Asked("rollout", first="blue"), known()).wants] == ["blue", "green"]

    def test_with_a_migration_it_comes_last_with_what_it_needs(self):
        goal = goals.goal(Asked("rollout", migration=M), known())
        assert (goal.migrate, goal.needs) == ("add-prices", (("web", "2"),))

    def test_after_a_migration_no_version_comes_back_that_it_left_behind(self):
        asked = Asked("deploy", "green", versions=(("api", "1"), ("web", "1")), older=True)
        with pytest.raises(Refused, match="the migration add-prices needs"):
            goals.goal(asked, known(on("2"), migrated=(("add-prices", "web", "2"),)))
        with pytest.raises(Refused, match="does not say which migrations are done"):
            goals.goal(asked, known(on("2"), migrated=None))


def tried(version, name):
    """A deployment of green that its sanity test stopped."""
    after = on(version, "standby")
    failed = [did("sanity", "green-1", after, release(version)), *passed("green-1", after, release(version), "failed")]
    return run(did("standby", "green-1 green-2", steady()), *failed, ended("failed", after),
               goal=deploy(release=release(version)), name=name)


class TestRollback:
    def back_to(self, world, runs, **asked):
        return goals.goal(Asked("rollback", "green", **asked), known(world, runs)).wants[0].release

    def test_to_the_version_that_served_before(self):
        assert self.back_to(on("2"), [run(ended("done", on("2")), goal=deploy())]) == release("1")

    def test_after_two_deployments_that_failed_to_the_last_one_that_served(self):
        said = []
        runs = [tried("1.1", "r1"), tried("1.2", "r2")]
        goal = goals.goal(Asked("rollback", "green"), known(on("1.2", "standby"), runs, said=said))
        assert goal.wants[0].release == release("1") and goal.kind == "rollback"
        assert said == ["green goes back to api 1, web 1, which it served last before"]

    def test_where_the_old_version_still_runs_out_of_live_to_just_that(self):
        half = run(did("standby", "green-1 green-2", steady()), ended("failed", OUT), goal=deploy())
        older = run(first=on("0.9"), name="r0")
        assert self.back_to(OUT, [older, half]) == release("1")

    def test_of_a_stack_that_was_half_way_to_what_it_served_before(self):
        half = steady(host("green-1", release="2"), host("green-2", "standby", "2"))
        assert self.back_to(half,
                            [run(did("standby", "green-1", steady()), ended("failed", half), goal=deploy())]) == release("1")

    def test_twice_does_not_return_to_what_was_rolled_back(self):
        first = run(did("standby", "green-1", on("1")), ended("done", on("2")), goal=deploy())
        second = run(did("standby", "green-1", on("2")), ended("done", on("1")), task="rollback",
                     goal=deploy(release=release("1")), first=on("2"))
        with pytest.raises(Candidates) as refused:
            self.back_to(on("1"), [first, second])
        assert refused.value.exit_code == 2

    def test_unknown_to_the_records_is_a_call_without_a_version_2_with_the_candidates(self):
        with pytest.raises(Candidates, match=r"the repository has api: 2, 1; web: 2, 1") as refused:
            self.back_to(on("2"), [])
        assert refused.value.exit_code == 2 and refused.value.next_command == "invoke rollback --stack green --version VERSION"

    def test_a_component_that_is_down_stays_at_what_is_installed_and_one_that_is_nowhere_has_to_be_named(self):
        """Left out, Chef was told nothing of it, and the run could never end."""
        down = steady(*(mixed(n, part("api", release="2"), part("web", "down", "2")) for n in ("green-1", "green-2")))
        assert self.back_to(down, [], versions=(("api", "1"),)) == Release((("api", "1"), ("web", "2")))
        gone = steady(*(mixed(n, part("api", release="2"), part("web", "down", "")) for n in ("green-1", "green-2")))
        with pytest.raises(Candidates, match="which web green is to have is not known"):
            self.back_to(gone, [], versions=(("api", "1"),))

    def test_where_no_stack_was_named_the_cure_names_none(self):
        """With one it was refused while an open run had another stack out of LIVE."""
        with pytest.raises(Candidates) as refused:
            goals.goal(Asked("rollback"), known(on("2")))
        assert refused.value.next_command == "invoke rollback --version VERSION"

    def test_a_version_may_be_typed(self):
        assert self.back_to(on("2"), [], versions=(("api", "1"), ("web", "1"))) == release("1")
        assert self.back_to(on("2"), [], versions=(("web", "1"),)) == Release((("api", "2"), ("web", "1")))

    def test_a_refused_run_pinned_nothing(self):
        refused = run({"kind": "ended", "outcome": "refused"}, goal=deploy(release=release("3")), first=on("2"), name="r9")
        assert self.back_to(on("2", "standby"), [run(did("standby", "green-1", steady()), ended("done", on("2")), goal=deploy()),
                                                 refused]) == release("1")

    def test_cookbooks_stay_as_they_are_now(self):
        goal = goals.goal(Asked("rollback", "green"), known(on("2"), [run(ended("done", on("2")))], cookbooks="c9"))
        assert goal.wants[0].release.cookbooks == "c9"

    def test_of_every_stack_where_none_is_named(self):
        world = seen(*(host(n, release="2") for n in ("green-1", "blue-1")))
        before = seen(*(host(n) for n in ("green-1", "blue-1")))
        goal = goals.goal(Asked("rollback"), known(world, [run(ended("done", world), first=before)]))
        assert [(w.stack, w.release) for w in goal.wants] == [("green", release("1")), ("blue", release("1"))]


class TestBack:
    def test_it_is_a_flip_without_a_release(self):
        assert goals.goal(Asked("back", "green"), known()).wants == (Want("green", "standby"),)

    def test_what_the_open_run_took_out_elsewhere_and_did_not_touch_returns_first(self):
        world = steady(host("blue-1", "standby"), host("blue-2", "standby"))
        opened = run(did("standby", "blue-1 blue-2", steady()))
        assert goals.goal(Asked("back", "green"), known(world, open_run=opened)).wants == (
            Want("blue", "live", None, ("blue-1", "blue-2")), Want("green", "standby"))
        touched = [*opened, did("converge", "blue-1", world)]
        assert goals.goal(Asked("back", "green"), known(world, open_run=touched)).wants[0].hosts == ("blue-2",)


class TestStepsByHand:
    OPEN = run(did("standby", "green-1 green-2", steady()), goal=deploy(release=release("1.5")))

    @pytest.mark.parametrize("task", ["standby", "drain"])
    def test_standby_and_drain_pin_nothing(self, task):
        goal = goals.goal(Asked(task, "green", hosts=("green-1",)), known(OUT, open_run=self.OPEN))
        assert goal.wants == (Want("green", "standby", None, ("green-1",)),) and goal.only == task

    def test_converge_takes_the_pinned_release_or_pins_one(self):
        assert goals.goal(Asked("converge", "green"), known(OUT, open_run=self.OPEN)).wants[0].release == release("1.5")
        assert goals.goal(Asked("converge", "green"), known(OUT)).wants[0].release == release("2")
        typed = Asked("converge", "green", versions=(("api", "1"), ("web", "1")))
        assert goals.goal(typed, known(OUT, open_run=self.OPEN)).wants[0].release == release("1")

    def test_converge_of_hosts_with_more_on_them_than_the_pinned_release_names_keeps_what_it_does_not_name(self):
        opened = run(did("standby", "green-1", OUT), goal=deploy(release=Release((("api", "1.5"),))))
        assert goals.goal(Asked("converge", "green"), known(OUT, open_run=opened, repository={"api": ["1.5"]})).wants[0].release \
            == Release((("api", "1.5"), ("web", "1")))

    def test_sanity_is_of_the_pinned_release_or_of_what_chef_left_or_of_what_runs(self):
        assert goals.goal(Asked("sanity", "green"), known(OUT, open_run=self.OPEN)).wants[0].release == release("1.5")
        left = steady(*(host(n, "standby", "2", job=job(run="another")) for n in ("green-1", "green-2")))
        assert goals.goal(Asked("sanity", "green"), known(left)).wants[0].release == release("2")
        assert goals.goal(Asked("sanity", "green"), known(OUT, cookbooks="c1")).wants[0].release == release("1", "c1")

    def test_live_with_nothing_converged_returns_what_was_there(self):
        assert goals.goal(Asked("live", "green"), known(OUT, open_run=self.OPEN)).wants[0].release is None
        converged = [*self.OPEN, did("converge", "green-1", OUT)]
        assert goals.goal(Asked("live", "green"), known(OUT, open_run=converged)).wants[0].release == release("1.5")
        assert goals.goal(Asked("live", "green"), known(OUT)).wants[0].release is None


def test_migrate_wants_no_stack():
    goal = goals.goal(Asked("migrate", migration=M), known())
    assert (goal.wants, goal.migrate, goal.needs, goal.kind) == ((), "add-prices", (("web", "2"),), "migrate")
