"""Which release is meant: what was typed, what the repository has, what is seen, what past runs say."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from bgdeploy import release
from bgdeploy.errors import Refused
from tests.scenes import dark, host, mixed, part, seen, steady

SITE = SimpleNamespace(components=(SimpleNamespace(name="api"), SimpleNamespace(name="web")))
REPOSITORY = {"web": ["2.1.0-1", "2.0.0-2", "2.0.0-1", "1.0.0-1"], "api": ["1.4.1-1", "1.4.0-1"]}


def choose(world, *stacks, said=None, bad=(), repository=REPOSITORY, **typed):
    return release.choose(SITE, world, list(stacks or ["green"]), available=repository.__getitem__, bad=dict(bad),
                          say=(said if said is not None else []).append, **typed)


def on(version, *names, word="live", parts=("web",)):
    return [host(name, word, version, parts=parts) for name in names]


class TestTyped:
    def test_a_version_without_release_is_its_highest_release_and_with_one_exactly_that(self):
        assert release.typed([("web", "2.0.0")], REPOSITORY) == {"web": "2.0.0-2"}
        assert release.typed([("web", "2.0.0-1")], REPOSITORY) == {"web": "2.0.0-1"}

    def test_one_for_every_component_or_one_each(self):
        both = {"web": ["2.0.0-1"], "api": ["2.0.0-3", "2.0.0-1"]}
        assert choose(steady(), repository=both, pairs=(("api", "2.0.0"), ("web", "2.0.0"))) == {"api": "2.0.0-3",
                                                                                                 "web": "2.0.0-1"}
        assert choose(steady(), pairs=(("web", "2.0.0"), ("api", "1.4.1"))) == {"api": "1.4.1-1", "web": "2.0.0-2"}

    def test_what_is_not_published_is_refused_and_what_there_is_is_named(self):
        with pytest.raises(Refused, match=r"web 3.0.0 is not published; the repository has 2.1.0-1, 2.0.0-2") as refused:
            choose(steady(), pairs=(("web", "3.0.0"), ("api", "1.4.1")))
        assert refused.value.exit_code == 3 and refused.value.next_command == "invoke publish --component web --version 3.0.0"

    @pytest.mark.parametrize("word", ["latest", "newest", "v2.0.0", "main"])
    def test_what_is_no_version_is_not_to_be_published_but_left_out(self, word):
        with pytest.raises(Refused, match=f"web {word} is not published") as refused:
            release.typed((("web", word),), {"web": ["2.1.0-1"]})
        assert "publish" not in refused.value.next_command and "without --version" in refused.value.next_command

    def test_a_prefix_of_a_version_is_another_version(self):
        with pytest.raises(Refused):
            release.typed([("web", "2.0")], REPOSITORY)

    def test_what_proved_bad_may_be_typed(self):
        assert choose(seen(*on("1", "green-1")), pairs=(("web", "2.1.0"),), bad={("web", "2.1.0-1"): "x"}) == {"web": "2.1.0-1"}


class TestLeftOut:
    def test_the_highest_that_the_repository_has(self):
        assert choose(steady()) == {"api": "1.4.1-1", "web": "2.1.0-1"}

    def test_what_proved_bad_here_is_skipped_and_named(self):
        said = []
        bad = {("web", "2.1.0-1"): "it failed its sanity test in run r1"}
        assert choose(steady(), bad=bad, said=said)["web"] == "2.0.0-2"
        assert said == ["web 2.1.0-1 is skipped: it failed its sanity test in run r1"]

    def test_nothing_left_is_refused(self):
        with pytest.raises(Refused, match="the repository has no web"):
            choose(steady(), repository={"web": [], "api": ["1-1"]})
        with pytest.raises(Refused, match="no version of api that may be deployed"):
            choose(steady(), repository={**REPOSITORY, "api": ["1-1"]}, bad={("api", "1-1"): "x"})

    def test_where_another_stack_serves_something_newer_than_this_one_that(self):
        world = seen(*on("2.0.0-1", "green-1", "green-2"), *on("1.0.0-1", "blue-1", "blue-2"))
        assert choose(world, "blue") == {"web": "2.0.0-1"}

    def test_also_to_finish_a_rollout(self):
        world = seen(*on("2.0.0-1", "green-1"), *on("1.0.0-1", "blue-1"))
        assert choose(world, "green", "blue") == {"web": "2.0.0-1"} == choose(world, "blue", "green")

    def test_not_where_this_one_is_as_new(self):
        world = seen(*on("2.0.0-1", "green-1"), *on("1.0.0-1", "blue-1"))
        assert choose(world, "green") == {"web": "2.1.0-1"}

    def test_its_own_hosts_are_no_other_stack(self):
        world = seen(*on("2.0.0-1", "green-1"), *on("1.0.0-1", "green-2", "blue-1"))
        assert choose(world, "green") == {"web": "2.1.0-1"}

    def test_what_another_stack_has_in_standby_is_not_served(self):
        world = seen(*on("2.0.0-1", "green-1", word="standby"), *on("1.0.0-1", "blue-1"))
        assert choose(world, "blue") == {"web": "2.1.0-1"}

    def test_what_another_stack_serves_and_proved_bad_is_not_followed(self):
        world = seen(*on("2.0.0-1", "green-1"), *on("1.0.0-1", "blue-1"))
        assert choose(world, "blue", bad={("web", "2.0.0-1"): "x"}) == {"web": "2.1.0-1"}

    def test_an_empty_stack_gets_the_newest(self):
        world = seen(*on("1.0.0-1", "green-1"), host("blue-1", "down", "", parts=("web",)))
        assert choose(world, "blue") == {"web": "2.1.0-1"}

    def test_only_components_of_these_hosts_are_chosen(self):
        assert set(choose(seen(*on("1", "green-1", parts=("api",))))) == {"api"}


class TestNarrowed:
    def test_component_narrows_which_versions_change(self):
        world = seen(*on("1.0.0-1", "green-1", "green-2", parts=("api", "web")))
        assert choose(world, only=("web",)) == {"api": "1.0.0-1", "web": "2.1.0-1"}

    def test_a_version_for_one_component_leaves_the_other_as_it_runs(self):
        world = seen(*on("1.0.0-1", "green-1", parts=("api", "web")))
        assert choose(world, pairs=(("web", "2.0.0"),)) == {"api": "1.0.0-1", "web": "2.0.0-2"}

    def test_hosts_without_a_version_get_what_the_rest_of_the_stack_runs(self):
        world = seen(*on("1.0.0-1", "green-1"), host("green-2", "down", "", parts=("web",)), *on("2.0.0-1", "blue-1"))
        assert choose(world, hosts=("green-2",)) == {"web": "1.0.0-1"}

    def test_a_rest_that_runs_several_versions_is_not_guessed_at(self):
        world = seen(*on("1.0.0-1", "green-1"), *on("2.0.0-1", "green-3"), host("green-2", "down", "", parts=("web",)))
        with pytest.raises(Refused, match=r"web runs in several versions \(2.0.0-1, 1.0.0-1\)"):
            choose(world, hosts=("green-2",))

    def test_a_rest_that_is_down_asks_the_other_stacks(self):
        world = seen(host("green-1", "down", "1.0.0-1", parts=("web",)), host("green-2", "down", "", parts=("web",)),
                     *on("2.0.0-1", "blue-1"))
        assert choose(world, hosts=("green-2",)) == {"web": "2.0.0-1"}


class TestOlder:
    def refuse(self, world, chosen, served=None, insist=False):
        release.refuse_older(world, ["green"], chosen, {"green": served or {}}, insist)

    def test_older_than_the_stack_serves_is_refused_and_names_rollback(self):
        with pytest.raises(Refused, match="web 1.9.0-1 is older than 1.10.0-1, which green serves") as refused:
            self.refuse(seen(*on("1.10.0-1", "green-1"), *on("3-1", "blue-1")), {"web": "1.9.0-1"})
        assert refused.value.exit_code == 3 and "invoke rollback --stack green" in refused.value.next_command

    def test_out_of_live_older_than_it_last_served(self):
        world = seen(*on("2.0.1-1", "green-1", word="standby"))
        with pytest.raises(Refused, match="older than 2.0.0-1, which green last served"):
            self.refuse(world, {"web": "1.0.0-1"}, {"web": "2.0.0-1"})
        self.refuse(world, {"web": "2.0.0-1"}, {"web": "2.0.0-1"})      # what failed and is installed now counts for nothing

    @pytest.mark.parametrize("down", [host("green-1", "down", "9.0.0-1", parts=("web",)), dark("green-1", parts=("web",))])
    def test_an_installed_version_whose_service_is_down_does_not_count(self, down):
        self.refuse(seen(down), {"web": "1.0.0-1"})

    def test_a_person_may_insist(self):
        self.refuse(seen(*on("2.0.0-1", "green-1")), {"web": "1.0.0-1"}, insist=True)

    def test_the_same_or_newer_is_no_rollback(self):
        self.refuse(seen(*on("2.0.0-1", "green-1")), {"web": "2.0.0-1"})
        self.refuse(seen(*on("2.0.0~rc1-1", "green-1")), {"web": "2.0.0-1"})

    def test_the_newest_that_serves_counts(self):
        with pytest.raises(Refused):
            self.refuse(seen(*on("1.0.0-1", "green-1"), *on("2.0.0-1", "green-2")), {"web": "1.0.0-1"})


def test_a_service_that_is_down_runs_nothing():
    world = seen(mixed("green-1", part("web", "down", "2"), part("api", release=None)), replace(host("green-2"), reachable=True))
    assert release.running(world, ["green-1"], "web") == [] == release.running(world, ["green-1"], "api")
    assert release.running(world, ["green-1", "green-2"], "web") == ["1"]
