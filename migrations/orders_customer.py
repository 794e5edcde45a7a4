"""Orders of api 1.x name their customer in a field of its own; from 2.0.0 on the customer is a document.

    {"customer_name": "Ada", ...}  ->  {"customer": {"name": "Ada"}, ...}

api 2.0.0 and later read both. Repeatable: an order that was changed no longer matches the query.
"""

NAME = "orders-customer"
NEEDS = {"api": "2.0.0"}
REPEATABLE = True

OLD = {"customer_name": {"$exists": True}}


def up(database, progress):
    progress.batches(database.orders, OLD, nested, size=200)


def nested(order):
    """The change of one order; a customer who is there already stays as he is."""
    change = {"$unset": {"customer_name": ""}}
    if not isinstance(order.get("customer"), dict):
        change["$set"] = {"customer": {"name": order["customer_name"]}}
    return change


def count(database):
    return database.orders.count_documents(OLD)


def check(database):
    left = count(database)
    return f"{left} orders still have customer_name" if left else None
