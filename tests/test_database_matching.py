"""The lab's database answers simple queries by itself, as mongomock would: its meaning is the measure.

Only booleans are left out: mongomock takes False for 0, and MongoDB does not (BSON compares kinds first).
"""

import datetime

import pytest
from bson.objectid import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as some
from mongomock import filtering

from lab.database_matching import quick

SCALARS = some.one_of(some.integers(-3, 3), some.floats(-2, 2), some.sampled_from(["", "a", "b", "1"]), some.none(),
                      some.sampled_from([ObjectId(b"0" * 12), datetime.datetime(2026, 1, 1), datetime.datetime(2027, 1, 1)]))
VALUES = some.one_of(SCALARS, some.lists(SCALARS, max_size=3), some.dictionaries(some.sampled_from("xy"), SCALARS, max_size=2))
FIELDS = some.sampled_from(["a", "b", "c"])
CONDITIONS = some.one_of(
    VALUES, some.builds(lambda yes: {"$exists": yes}, some.booleans()),
    some.dictionaries(some.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), SCALARS, min_size=1, max_size=2),
    some.builds(lambda values: {"$in": values}, some.lists(SCALARS, max_size=3)))


@settings(max_examples=300, deadline=None)
@given(some.dictionaries(FIELDS, CONDITIONS, max_size=3), some.dictionaries(FIELDS, VALUES, max_size=3))
def test_what_it_says_is_what_mongomock_says(query, document):
    look = quick(query)
    said = look(document) if look else None
    if said is not None:
        assert said is bool(filtering.filter_applies(query, document))


@pytest.mark.parametrize("query, document, said", [
    ({"a": {"$exists": True}}, {"a": None}, True), ({"a": 1}, {"a": 1.0}, True), ({"a": 1}, {"a": True}, False),
    ({"a": 1}, {"a": [1]}, None),
    ({"a": 1, "b": 2}, {"a": [1], "b": 3}, False), ({"a": {"$gt": 1}}, {"a": "text"}, False), ({}, {"a": 1}, True),
    ({"a": None}, {}, None),
    ({"$or": [{"a": 1}]}, {"a": 1}, None), ({"a.b": 1}, {"a": {"b": 1}}, None), ({"a": {"$regex": "x"}}, {"a": "x"}, None)])
def test_what_is_simple_and_what_is_left_to_mongomock(query, document, said):
    look = quick(query)
    assert (look(document) if look else None) is said
