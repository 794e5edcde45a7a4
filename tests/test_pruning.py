"""A version goes only where hosts and records prove that nothing needs it: no host, no open run, no way back."""

from types import SimpleNamespace

import pytest

from bgdeploy import pruning
from tests.scenes import dark, deploy, did, host, rollout, steady
from tests.test_records import ended, run

SITE = SimpleNamespace(versions=())
DID = did("standby", "green-1 green-2", steady())


def history(*released):
    """Runs that brought both stacks to each of these versions, one after the other."""
    worlds = [everything(version) for version in released]
    return [run(DID, ended("done", after), goal=rollout(), first=before) for before, after in zip(worlds, worlds[1:])]


def everything(version, **more):
    names = ("green-1", "green-2", "blue-1", "blue-2")
    return steady(*(host(name, release=version, installed=version, **more) for name in names))


def test_what_runs_and_where_a_rollback_goes_stay():
    needed, why = pruning.used(SITE, everything("3"), history("1", "2", "3"), "api")
    assert why == "" and {"2", "3"} <= needed and "1" not in needed


def test_an_installed_version_that_does_not_run_yet_stays_and_so_does_what_the_inventory_pins():
    world = steady(host("green-1", release="3", installed="4"), host("green-2", release="3", installed="3"))
    needed, _ = pruning.used(SimpleNamespace(versions=(("api", "0.5"), ("web", "0.6"))), world, history("1", "2", "3"), "api")
    assert {"4", "0.5"} <= needed and "0.6" not in needed


def test_what_an_open_run_wants_stays():
    open_run = run(DID, ended("failed"), goal=deploy(), first=everything("3"))
    needed, _ = pruning.used(SITE, everything("3"), [*history("1", "2", "3"), open_run], "api")
    assert deploy().wants[0].release.version("api") in needed


@pytest.mark.parametrize("odd", [dark("green-1"), host("green-1", heartbeat=None, installed="3"),
                                 host("green-1", release="3", installed=None)])
def test_one_host_of_which_something_is_not_known_keeps_everything(odd):
    needed, why = pruning.used(SITE, steady(odd), history("1", "2", "3"), "api")
    assert needed is None and "green-1" in why


def test_without_records_of_a_way_back_everything_stays():
    for runs in ([], history("3", "3")):
        needed, why = pruning.used(SITE, everything("3"), runs, "api")
        assert needed is None and "served before" in why
