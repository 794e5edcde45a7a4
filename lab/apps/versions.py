"""What each version of the lab's applications does: one source tree, and this table.

The VERSION file, written when a package is built, holds VERSION-RELEASE.
"""

import os
from collections import namedtuple

Features = namedtuple("Features", "shape starts right")
Features.__doc__ = """shape: of the documents it writes; starts: its service comes up; right: its pages are as they should be."""

FLAT, NESTED = "customer_name", "customer.name"

TABLE = {
    "1.0.0": Features(shape=FLAT, starts=True, right=True),
    "2.0.0": Features(shape=NESTED, starts=True, right=True),
    "2.0.1": Features(shape=NESTED, starts=False, right=True),
    "2.0.2": Features(shape=NESTED, starts=True, right=False),
}


def features(version):
    """The features of "2.0.0-1". A version that is not in the table is like the first of its kind: 1.x like 1.0.0, else 2.0.0."""
    upstream = version.split(":")[-1].split("-")[0]
    return TABLE.get(upstream) or TABLE["1.0.0" if upstream.startswith(("0.", "1.")) else "2.0.0"]


def installed():
    """The VERSION-RELEASE of the tree that this file lies in; "0.0.0-0" where it was never packaged."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "VERSION")) as file:
        version = file.read().strip()
    return "0.0.0-0" if version.startswith("@") else version
