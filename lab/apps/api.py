"""api: reads and writes orders in the shared database.

GET /orders[?newest=N], POST /orders {"customer": ..., "total": ...}, GET /orders/self-test, GET /slow?s=N
"""

import json
from urllib.parse import parse_qs

from orders import Orders, Unavailable
from pages import Pages

LARGEST = 65536             # bytes of an order
MOST = 200                  # orders listed at once


def application(settings, version, features):
    """The WSGI application. settings: {"database": "mongodb://HOST:PORT/NAME"}."""
    orders = Orders(settings["database"], features.shape)

    def listed(environ):
        wanted = parse_qs(environ.get("QUERY_STRING", "")).get("newest", ["20"])[0]
        if not wanted.isdigit():
            return answer(400, {"error": "newest is a number"})
        some = orders.newest(min(int(wanted), MOST)) if int(wanted) else []
        return answer(200, {"count": orders.count(), "orders": some, "version": version})

    def added(environ):
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            order = json.loads(environ["wsgi.input"].read(min(length, LARGEST)).decode())
            customer, total = str(order["customer"]), float(order["total"])
        except (ValueError, KeyError, TypeError):
            return answer(400, {"error": 'an order is {"customer": TEXT, "total": NUMBER}'})
        return answer(201, {"id": orders.add(customer, total)})

    def self_test(environ):
        read = orders.newest(5)
        if not features.right:
            return 200, "text/plain", "failed: %d totals are not numbers\n" % len(read)
        return 200, "text/plain", "ok %s, %d orders read\n" % (version, len(read))

    def guarded(route):
        def ask(environ):
            try:
                return route(environ)
            except Unavailable as error:
                return answer(503, {"error": str(error)})
        return ask

    return Pages(version, {("GET", "/orders"): guarded(listed), ("POST", "/orders"): guarded(added),
                           ("GET", "/orders/self-test"): guarded(self_test)})


def answer(status, content):
    return status, "application/json", json.dumps(content) + "\n"
