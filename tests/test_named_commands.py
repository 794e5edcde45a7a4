"""What an end names to be typed leads out: it is not refused, and does not go round in a circle."""

from tests.scenes import TWO, asked, by_hand, did, host, job, passed, remembers, steady

OUT = steady(host("green-1", "standby"), host("green-2", "standby"))
CONVERGED = did("converge", "green-1 green-2", OUT)


def test_a_test_that_is_due_beside_hosts_that_are_live_is_named_for_its_hosts_alone():
    """Named for the whole stack it was refused and named standby of the stack, that named live, and live the test again."""
    world = steady(*(host(n, word, "2", job=job(), started="s2") for n, word in (("green-1", "live"), ("green-2", "standby"))))
    memory = remembers(did("standby", "green-1 green-2", steady()), CONVERGED, passed("green-1", world))
    assert asked(by_hand("live", release=TWO), world, memory).next_command == "invoke sanity --stack green --hosts green-2"
    of_one = asked(by_hand("sanity", release=TWO, hosts=("green-1",)), world, memory)
    assert of_one.next_command == "invoke standby --stack green --hosts green-1"
