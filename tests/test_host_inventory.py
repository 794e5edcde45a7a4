"""What an inventory may say, bgdeploy-host takes: a converge, with the stack out of LIVE, is too late to learn otherwise."""

import re

import pytest
from hypothesis import given, settings, strategies as st

from tests.hostfolder import START

from bgdeploy import inventory, site
from bgdeploy.model import Policy, Release
from bgdeploy.outside import chef

from bgdeploy_host import verbs

SCHEMA = inventory.schema()["properties"]
COMPONENT = SCHEMA["components"]["additionalProperties"]["properties"]
CHEF = SCHEMA["chef"]["properties"]


def texts(schema):
    """Whatever text this part of the schema takes; `$` of JSON Schema is the end, which Python's is not quite."""
    return st.from_regex(re.compile(schema["pattern"].replace("$", r"\Z"), re.ASCII))


def settled(name="web", package="web", service="web", recipe="web", attribute="", cookbooks="local", **chef_settings):
    """A site of one host that runs one component."""
    component = site.Component(name, package, service, recipe, site.Heartbeat(), attribute=attribute)
    host = site.Host("green-1", "green", "10.77.0.11", components=(name,))
    made = site.Site("x", "x.yml", "/base", (component,), (), None, None, Policy(), chef=site.Chef(cookbooks, **chef_settings))
    return made, host


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_names_that_an_inventory_may_have_are_names_here(data):
    name = data.draw(texts(SCHEMA["components"]["propertyNames"]))
    package, service = data.draw(texts(COMPONENT["package"])), data.draw(texts(COMPONENT["service"]))
    recipe, path = data.draw(texts(COMPONENT["recipe"])), data.draw(texts(COMPONENT["attribute"]))
    made, host = settled(name, package, service, recipe, path)
    _, asked = verbs.parse(chef.look_argv(made, host))
    assert verbs._component(asked["components"][0]) == (name, package, service + ".service")
    release = Release(((name, "1:2.0.0-1"),), "3f2a9c01")
    verbs.parse(chef.start_argv(made, host, "r1", release, restart=(name,)))
    made, host = settled(name, package, service, recipe, path, cookbooks="server")
    verbs.parse(chef.start_argv(made, host, "r1", release))
    verbs.parse(["park", "--component", name, "--service", service])


@pytest.mark.parametrize("name", ["shop.web", "a" * 100])
def test_a_component_without_a_recipe_of_its_own_has_one_that_can_be_run(name):
    made, host = settled(name, recipe=name)
    verbs.parse(chef.start_argv(made, host, "r1", Release(((name, "2.0.0-1"),), "3f2a9c01")))


@pytest.mark.parametrize("key, option", [("limit", "--limit"), ("lock_wait", "--lock-wait"), ("reserve", "--reserve")])
def test_the_shortest_and_the_longest_times_are_taken(key, option):
    for number in (CHEF[key]["minimum"], CHEF[key]["maximum"]):
        value = max(1, int(number)) if key == "reserve" else int(number)     # as start_argv writes them
        words = [word for word in START if word not in ("--limit", "900")] if key == "limit" else START
        assert verbs.parse(words + [option, str(value)])[1][option[2:]] == value


def test_a_run_list_is_taken_word_by_word_and_as_a_whole():
    items = CHEF["run_list"]["items"]
    for word in ("web", "web::blue", "shop.web", "a" * 100 + "::" + "b" * 100):
        assert re.search(items["pattern"], word)
        made, host = settled(run_list=(word,) * CHEF["run_list"]["maxItems"])
        verbs.parse(chef.start_argv(made, host, "r1", Release((("web", "2.0.0-1"),), "3f2a9c01")))
    for word in ("recipe[web]", "role[web]", "web@1.0.0"):                  # Chef's other forms: no converge here could run them
        assert not re.search(items["pattern"], word)
