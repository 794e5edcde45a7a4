"""What a report says of the requests sent meanwhile: what failed and where, and what LIVE sent to whom it had let go."""

import pytest

from bgdeploy import words
from bgdeploy.story import Story
from bgdeploy.storyteller import joined

FAILED = {"node": "live-1", "component": "web", "what": "status 503", "count": 3, "first": 1000000003.2, "last": 1000000005.0}
STRAY = {"node": "live-2", "component": "api", "host": "blue-1", "count": 1, "first": 1000000003.2, "last": 1000000003.2}


def share(**live):
    numbers = {"requests": 100, "failed": 3, "longest_gap_ms": 10.0, "p50_ms": 1.0, "p99_ms": 2.0}
    return {**numbers, "balancers": {"live": {**numbers, **live}, "standby": {"requests": 0}}}


def availability(counted):
    return words.availability(Story(availability=counted))


def test_failures_and_strays_are_told_by_node_component_and_time():
    lines = availability(joined([share(failures=[FAILED]), share(strays=[STRAY])]))
    assert lines[1] == "failed 3 requests of web through live-1, 01:46:43 to 01:46:45 UTC: status 503"
    assert lines[2].startswith("blue-1 was sent 1 requests of api through live-2, 01:46:43 UTC although it had been let go: ")


def test_only_the_most_frequent_kinds_are_told():
    lines = availability(joined([share(failures=[{**FAILED, "count": n} for n in range(40)])]))
    assert len(lines) == 6 and lines[1].startswith("failed 39 ")


@pytest.mark.parametrize("junk", [None, 7, "x", [None], [{}], [{"count": "x"}], [{"count": 1, "first": "x", "node": None}]])
def test_a_torn_journal_breaks_no_report(junk):
    for lines in (availability(joined([share(failures=junk, strays=junk)])), availability(share(failures=junk, strays=junk))):
        assert all(isinstance(text, str) and text.isprintable() for text in lines)
