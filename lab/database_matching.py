"""Quick answers to simple queries: what mongomock would say of a document, for the few shapes that scans ask again and again.

mongomock takes some ten microseconds a document; a scan of a large collection would hold everybody else for a second.
"""

import datetime

from bson.objectid import ObjectId

_MISSING = object()
_SCALARS = (str, int, float, bool, ObjectId, datetime.datetime, bytes)
_ORDER = {"$gt": lambda a, b: a > b, "$gte": lambda a, b: a >= b, "$lt": lambda a, b: a < b, "$lte": lambda a, b: a <= b}


def quick(query):
    """A function (document) -> True, False, or None where only mongomock can tell; None if the query is not of a simple shape."""
    tests = []
    for field, wanted in query.items():
        if field.startswith("$") or "." in field:
            return None
        conditions = wanted.items() if _operators(wanted) else [("$eq", wanted)]
        for operator, value in conditions:
            test = _test(field, operator, value)
            if test is None:
                return None
            tests.append(test)

    def look(document):
        sure = True
        for test in tests:
            said = test(document)
            if said is False:
                return False            # whatever the others say
            sure = sure and said is True
        return True if sure else None
    return look


def _operators(wanted):
    return isinstance(wanted, dict) and bool(wanted) and all(key.startswith("$") for key in wanted)


def _test(field, operator, value):
    if operator == "$exists" and isinstance(value, (bool, int)):
        return lambda document: (field in document) == bool(value)
    if operator == "$eq" or operator in _ORDER:
        if not isinstance(value, _SCALARS):
            return None
        kind, compare = _kind(value), _ORDER.get(operator, lambda a, b: a == b)

        def test(document):
            found = document.get(field, _MISSING)
            if found is _MISSING or found is None:
                return False
            if not isinstance(found, _SCALARS):
                return None             # lists match by their elements
            return compare(found, value) if _kind(found) == kind else False
        return test
    return None


def _kind(value):
    """Values of different kinds are never equal and never compared; True is no number."""
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else "text" if isinstance(value, str) else type(value)
