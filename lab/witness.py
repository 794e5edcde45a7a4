"""What is true in the lab, twice a second, past the driver: each application's own word, and each balancer node's own table.

The campaign's checker judges a run against this and never against what the driver believed.
"""

import asyncio
import contextlib
import csv
import json
import threading
import time
from dataclasses import dataclass, field

from bgdeploy.outside.http1 import Malformed
from lab.balancers import STATS_PORT
from lab.load import answer_of

EVERY = 0.5         # seconds between two looks
PATIENCE = 1.0      # seconds that one question may take


@dataclass(frozen=True)
class Instance:
    """One component on one host by its own word. :param word: live | standby. :param start: systemd's id of the process."""

    word: str
    version: str
    start: str


@dataclass(frozen=True)
class Look:
    """One moment. What did not answer is missing.

    :param at: seconds since the epoch, when it began. :param instances: {(host, component): Instance}.
    :param pools: {(node, host, component): True if the node sends requests to it}.
    """

    at: float
    instances: dict = field(default_factory=dict)
    pools: dict = field(default_factory=dict)

    def serves(self, host, component, nodes):
        """Says live, and every node that answers sends to it; at least one does."""
        told = [self.pools[node, host, component] for node in nodes if (node, host, component) in self.pools]
        one = self.instances.get((host, component))
        return one is not None and one.word == "live" and bool(told) and all(told)


class Witness:
    """start(), stop(); `looks` grows meanwhile. The thread that calls start has to be in the lab's network."""

    def __init__(self, site):
        self.looks = []
        self._over, self._thread = threading.Event(), None
        self._zero = time.time() - time.monotonic()
        self._instances = {(host.name, name): (host.address, site.component(name).port, site.component(name).heartbeat.path)
                           for host in site.hosts for name in host.components}
        self._nodes = {node.name: node.address for balancer in (site.live, site.standby) for node in balancer.nodes}

    def start(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="witness", daemon=True)
        self._thread.start()
        return self

    def stop(self):
        self._over.set()
        self._thread.join(PATIENCE + EVERY + 5)
        return self.looks

    async def _watch(self):
        while not self._over.is_set():
            began = time.monotonic()
            instances, pools = {}, {}
            await asyncio.gather(*[self._instance(key, *where, instances) for key, where in self._instances.items()],
                                 *[self._node(name, address, pools) for name, address in self._nodes.items()])
            self.looks.append(Look(self._zero + began, instances, pools))
            await asyncio.sleep(max(0.05, began + EVERY - time.monotonic()))

    async def _instance(self, key, address, port, path, found):
        body = await _get(address, port, f"{path}/detail")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(body)
            found[key] = Instance(said["state"], said["version"], said["start"])

    async def _node(self, name, address, found):
        body = await _get(address, STATS_PORT, "/;csv")
        for row in csv.DictReader((body or "").removeprefix("# ").splitlines()):
            if row.get("svname") not in (None, "FRONTEND", "BACKEND"):
                found[name, row["svname"], row["pxname"]] = row["status"].startswith("UP")


async def _get(address, port, path):
    """The body of one GET, or None."""
    writer = None
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: witness\r\nConnection: close\r\n\r\n".encode())
            came = await answer_of(reader)
            return came.body.decode(errors="replace") if came.status == 200 else None
    except (OSError, TimeoutError, Malformed):
        return None
    finally:
        if writer is not None:
            writer.transport.abort()
