"""Who served an answer: names as the inventory has them, and never a guess between two."""

import dataclasses

import pytest

from bgdeploy import site as sites
from bgdeploy.outside import sanity, served
from bgdeploy.outside.http1 import Came
from tests.heartbeats import PLAIN, place
from tests.scripted import Scripted

SHORT, LONG = ("green-1", "blue-1"), ("green-1.shop.example", "blue-1.shop.example")


@pytest.mark.parametrize("said, names, host", [
    ("green-1", SHORT, "green-1"), ("green-1.shop.example", SHORT, "green-1"), ("GREEN-1", SHORT, "green-1"),
    ("green-1", LONG, "green-1.shop.example"), ("green-1.other.example", LONG, "green-1.other.example"),
    ("green-1", ("green-1.a", "green-1.b"), "green-1"), ("green-10", SHORT, "green-10"), ("red-1", SHORT, "red-1"),
    ("green-1\x1b[31m", SHORT, "green-1"),
])
def test_a_host_is_known_by_its_short_or_its_full_name_where_only_one_can_be_meant(said, names, host):
    assert served.host(said, names) == host


def test_an_answer_without_a_name_tells_what_came_instead():
    assert served.named(Came(503)) == (None, "status 503")
    assert served.named("lb-1 connection refused") == (None, "lb-1 connection refused")
    assert served.named(Came(200, {"x-served-by": "a"})) == ("a", None)
    assert served.named(Came(200, {"x-served-by": "a", "x-version": "2.0.0-1"}), ["a"]) == ("a", "2.0.0-1")


def test_checks_that_wait_for_an_absent_host_keep_no_other_check_from_its_time():
    with Scripted([b"HTTP/1.1 200 OK\r\nX-Served-By: green-2\r\nContent-Length: 2\r\n\r\nok"]) as standby:
        site, absent = place(PLAIN, 1)
        there = dataclasses.replace(absent, name="green-2")
        web = dataclasses.replace(site.components[0], sanity=tuple(sites.SanityCheck(f"/{n}") for n in range(9)))
        site = dataclasses.replace(site, components=(web,), stacks=(sites.Stack("green", (absent, there)),),
                                   standby=dataclasses.replace(site.standby, ports=(("web", standby.port),)))
        first, second = sanity.check(site, [absent, there], None, 1.0)
    assert (first.outcome, second.outcome) == ("unknown", "ok") and len(second.evidence["passed"]) == 9
