"""bgdeploy.testing proves that old and new code can read at every moment of a migration, and notices where they cannot."""

import os
import sys

import pytest

from bgdeploy.testing import readable_throughout
from tests.databases import client, db, server         # noqa: F401 (fixtures)
from tests.serving import ROOT

OLD = [{"_id": n, "customer_name": f"c{n}", "total": n} for n in range(7)]
ORDERS = {"orders": [*OLD, {"_id": 7, "customer": {"name": "c7"}}]}
SAMPLE = os.path.join(ROOT, "migrations", "orders_customer.py")


@pytest.fixture
def code():
    """The lab's own way to read an order, which is that of every version."""
    sys.path.insert(0, os.path.join(ROOT, "lab", "apps"))
    try:
        import orders
    finally:
        sys.path.pop(0)
    return lambda database: sorted((order["id"], order["customer"]) for order in map(orders.read, database.orders.find()))


def flat(database):
    """Code of before the nested shape: it knows customer_name and nothing else."""
    return sorted((order["_id"], order["customer_name"]) for order in database.orders.find())


def test_the_lab_s_migration_is_readable_throughout_by_the_lab_s_code(db, code):
    assert readable_throughout(SAMPLE, db, ORDERS, {"1.0.0": code, "2.0.0": code}) == 7


def test_code_that_cannot_read_the_new_shape_is_found_at_the_first_write(db, code):
    only_old = {"orders": OLD}
    with pytest.raises(AssertionError, match="orders-customer: after 1 writes 1.0.0 cannot read: KeyError"):
        readable_throughout(SAMPLE, db, only_old, {"1.0.0": flat, "2.0.0": code})


@pytest.mark.parametrize("up, said", [
    ('progress.batches(database.orders, {}, lambda d: {"$unset": {"customer_name": ""}})', "after 1 writes code understands"),
    ('database.orders.update_one({"_id": 1}, {"$set": {"customer_name": "x"}})', "after 1 writes code understands"),
    ('progress.batches(database.orders, {}, lambda d: {"$inc": {"n": 1}})', "begun again, the documents differ"),
    ('database.orders.delete_many({})', "after 1 writes code understands"), ("pass", "it wrote nothing")])
def test_wrong_migrations_are_found(db, code, tmp_path, up, said):
    path = tmp_path / "wrong.py"
    path.write_text(f'NAME = "wrong"\nNEEDS = {{"api": "2.0.0"}}\nREPEATABLE = True\ndef up(database, progress):\n    {up}\n')
    with pytest.raises(AssertionError, match=said):
        readable_throughout(str(path), db, ORDERS, {"code": code})
