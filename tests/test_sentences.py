"""Sentences that stand on what was seen, in the words that a person on call reads."""

import pytest

from bgdeploy.prove import shortfall
from bgdeploy.sentences import reached, standing
from tests.scenes import POLICY, by_hand, dark, deploy, host, job, steady


@pytest.mark.parametrize("world, said", [
    (steady(), "at the last look green serves, blue serves"),
    (steady(host("green-1", "standby", job=job(state="running")), host("green-2", "standby")),
     "at the last look green does not serve, blue serves; Chef goes on on green-1"),
    (steady(host("green-1", "standby"), dark("blue-1"), host("extra-1"), host("extra-2")),
     "at the last look green serves with 1 of 2 hosts, blue serves with 1 of 2 hosts (blue-1 not known), extra serves"),
    (None, "nothing was looked at")])
def test_where_an_interrupted_run_stands(world, said):
    assert standing(world, shortfall(world, POLICY) if world else []) == said


def test_a_goal_for_some_hosts_of_a_stack_is_not_told_as_one_for_all():
    assert reached(deploy()) == "green is live on api=2,web=2"
    assert reached(deploy("green", hosts=("green-1",))).startswith("green-1 of green is live on ")
    assert reached(by_hand("standby")) == "standby is done on green"


def test_what_is_not_proved_to_be_served_is_said_beside_it():
    world = steady(host("green-1", "standby"), host("green-2", "standby"), host("blue-1", "down"))
    said = standing(world, shortfall(world, POLICY))
    assert "blue serves with 1 of 2 hosts; the floor is not proved to be served: api would be served by 1, the floor is 2" in said
