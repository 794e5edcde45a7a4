"""What an end names to be typed leads out: it is not refused, and does not go round in a circle."""

from tests.scenes import TWO, asked, back, by_hand, did, host, job, passed, remembers, steady

OUT = steady(host("green-1", "standby"), host("green-2", "standby"))
CONVERGED = did("converge", "green-1 green-2", OUT)


def test_a_test_that_is_due_beside_hosts_that_are_live_is_named_for_its_hosts_alone():
    """Named for the whole stack it was refused and named standby of the stack, that named live, and live the test again."""
    world = steady(*(host(n, word, "2", job=job(), started="s2") for n, word in (("green-1", "live"), ("green-2", "standby"))))
    memory = remembers(did("standby", "green-1 green-2", steady()), CONVERGED, passed("green-1", world))
    assert asked(by_hand("live", release=TWO), world, memory).next_command == "invoke sanity --stack green --hosts green-2"
    of_one = asked(by_hand("sanity", release=TWO, hosts=("green-1",)), world, memory)
    assert of_one.next_command == "invoke standby --stack green --hosts green-1"


def test_a_run_that_left_out_every_host_of_a_stack_names_how_it_ends():
    """`back` of a stack that a run of another one had left out ended so for ever, and named status."""
    left = remembers({"kind": "excluded", "hosts": {"green-1": "told", "green-2": "told"}})
    assert asked(back(), steady(), left).next_command == "invoke answer --run run --choice stop"
