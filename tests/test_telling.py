"""What a line says is so, and no more than what is known."""

import pytest

from bgdeploy import telling


def said(**event):
    return telling.event_line({"at": 0, **event}).partition(" ")[2]


@pytest.mark.parametrize("passed, line", [
    (True, "green Chef has ended after 35.0 s"), (None, "green Chef has ended after 35.0 s"),
    (False, "green waits for Chef no longer, after 35.0 s")])
def test_that_chef_has_ended_is_said_only_where_the_run_got_on_from_it(passed, line):
    """A host that falls silent ends the wait too: under load it was seen that the wait began again."""
    assert said(kind="waited", wait="chef", stack="green", hosts=["green-1"], seconds=35.0, outcome="over", passed=passed) == line
