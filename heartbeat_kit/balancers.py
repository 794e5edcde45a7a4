"""Who the balancers are, and what they last said of this instance (HAProxy's `http-check send-state`).

The header is the balancer's opinion *before* the check that carries it. Anyone who reaches the port can forge it, so it is
taken only from addresses that the site named.
"""

import ipaddress
import os
import re
import time
from collections import namedtuple

from . import process
from .board import Row

HEADER = "X-Haproxy-Server-State"
LOOK_AGAIN = 1.0            # seconds for which the address file is not looked at again
REMEMBERED = 1024           # addresses whose verdict is kept

Said = namedtuple("Said", "state name node scur weight")


def parse(header):
    """'UP 2/3; address=..; name=bck/srv2; node=lb1; weight=1/2; scur=13/22' -> Said; None when it is not such a header.

    `state` is the text before the first semicolon; `scur` and `weight` are the server's own (the numbers before the slashes),
    None where they are not told.
    """
    state, *parts = [part.strip() for part in header[:1024].split(";")]
    pairs = dict(part.split("=", 1) for part in parts if "=" in part)
    if not state or not pairs.get("node") or not pairs.get("name"):
        return None
    name, node = _plain(pairs["name"], 100), _plain(pairs["node"], 90)
    return Said(_plain(state, 40), name, node, _own(pairs, "scur"), _own(pairs, "weight"))


class Balancers:
    """The addresses of the balancers, from a file or a list.

    File: an address or network a line, then optionally `live` or `standby`; # begins a comment. A change is seen within a
    second or so. No file: no balancer is known, and no header is taken.

    :param source: a path, or a list of such lines.
    """

    def __init__(self, source):
        self._path = source if isinstance(source, str) else None
        self._mark, self._looked = None, 0.0
        self._read([] if self._path else source)

    def known(self, address):
        """Whether this is one of the balancers' addresses."""
        return self._verdict(address)[0]

    def live(self, address):
        """Whether only LIVE's nodes have this address. One that serves STANDBY too cannot be told apart, so it does not count."""
        return self._verdict(address)[1]

    def _verdict(self, address):
        if self._path:
            self._look()
        networks, verdicts = self._lines            # together: another thread may read the file anew at any moment
        verdict = verdicts.get(address)
        if verdict is None:
            found = plain_address(address)
            words = [word for network, word in networks if found and found.version == network.version and found in network]
            verdict = (bool(words), bool(words) and all(word == "live" for word in words))
            if len(verdicts) < REMEMBERED:
                verdicts[address] = verdict
        return verdict

    def _look(self):
        now = time.monotonic()
        if now - self._looked < LOOK_AGAIN and self._looked:
            return
        self._looked = now
        try:
            found = os.stat(self._path)
            mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            if mark != self._mark:
                with open(self._path, errors="replace") as file:
                    self._read(file.read(65536).splitlines())
                self._mark = mark
        except OSError:
            self._mark = None
            self._read([])

    def _read(self, lines):
        networks, problem = [], None
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            wrong, word = "", " ".join(words[1:]).lower()
            try:
                networks.append((ipaddress.ip_network(words[0], strict=False), word))
                if word not in ("", "live", "standby"):         # believed, and guarded from nobody
                    wrong = "%s is neither live nor standby" % _plain(word, 40)
            except ValueError:                  # an unreadable line names nobody
                wrong = "%s is no address" % _plain(words[0], 40)
            if wrong:
                problem = problem or "%s, line %d: %s" % (self._path or "balancers", number, wrong)
        self._lines, self.problem = (networks, {}), problem


def remember(board, header):
    """Keep what a balancer said, by node and server name."""
    said = parse(header)
    if said:
        numbers = [-1 if number is None else number for number in (said.scur, said.weight)]
        row = Row(said.node + "\t" + said.name, process.uptime(), numbers[0], said.state, numbers[1])
        board.update("balancers", row.key, lambda old: row)


def recall(board):
    """What every balancer node last said, newest first, ages in seconds."""
    now, said = process.uptime(), []
    for row in board.rows("balancers"):
        node, _, name = row.key.partition("\t")
        said.append({"node": node, "name": name, "state": row.text, "age": round(max(0.0, now - row.at), 3),
                     "scur": None if row.number < 0 else row.number, "weight": None if row.more < 0 else row.more})
    return said


def plain_address(text):
    """An address as the server gives it -> ipaddress object (an IPv4 one inside IPv6 unwrapped, a zone dropped), or None."""
    try:
        address = ipaddress.ip_address((text or "").partition("%")[0].strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _own(pairs, key):
    number = pairs.get(key, "").split("/")[0]
    return int(number) if re.match("[0-9]{1,9}$", number) else None


def _plain(text, longest):
    return "".join(c for c in text if c.isprintable() and c != "\t")[:longest]
