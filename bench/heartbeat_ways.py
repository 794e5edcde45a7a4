"""What a look at a heartbeat costs by each way there: direct, by TLS, through the SSH connection that is open already.

    /usr/bin/python3 -m bench.heartbeat_ways [--rounds 15]

A look is one request here (an application without the kit), each on a connection or channel of its own, on the loopback.
Prints minimum, median and maximum of the rounds, in milliseconds of the clock and of this process (which is the application
too), and each way beside direct.
"""

import argparse
import contextlib
import dataclasses
import pathlib
import statistics
import tempfile
import time

from bgdeploy import site as sites
from bgdeploy.outside import heartbeat
from bgdeploy.outside.ssh import Shell
from tests.authority import made
from tests.contract.sshd import Sshd
from tests.heartbeats import PLAIN, place
from tests.scripted import Scripted, answer

LOOKS = 100


def looked(site, host, shell):
    """(seconds of the clock, seconds of this process) for a look."""
    clock, own = time.perf_counter(), time.process_time()
    for _ in range(LOOKS):
        seen = heartbeat.read(site, host, "web", shell)
        assert seen.state == "live", seen.why
    return (time.perf_counter() - clock) / LOOKS, (time.process_time() - own) / LOOKS


def show(way, rounds, direct):
    for n, what in enumerate(("clock", "processor")):
        times = [spent[n] for spent in rounds]
        ratio = statistics.median(times) / statistics.median([spent[n] for spent in direct])
        print("%-12s %-10s min %6.2f  median %6.2f  max %6.2f ms  %5.2f x direct" % (
            way, what, *(1e3 * f(times) for f in (min, statistics.median, max)), ratio))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = made(folder)
        sshd = stack.enter_context(Sshd(folder))
        shell = stack.enter_context(Shell(sshd.site()))
        shell.run(sshd.host(), ["true"])        # logging in is not what is measured
        plain = stack.enter_context(Scripted([answer("live\n")]))
        secure = stack.enter_context(Scripted([answer("live\n")], context=authority.server))
        beat = dataclasses.replace(PLAIN, timeout=10.0)
        tls = dataclasses.replace(beat, scheme="https", host_header="shop.lab", ca_file=authority.file)
        site, _ = place(dataclasses.replace(beat, via="ssh"), plain.port, "192.0.2.1")
        far = dataclasses.replace(sshd.host(), components=("web",))
        ways = {"direct": place(beat, plain.port), "TLS": place(tls, secure.port),
                "SSH channel": (dataclasses.replace(site, stacks=(sites.Stack("green", (far,)),)), far)}
        spent = {way: [] for way in ways}
        for _ in range(rounds):                 # in turns, so that all meet the same machine
            for way, (described, host) in ways.items():
                spent[way].append(looked(described, host, shell))
        for way in ways:
            show(way, spent[way], spent["direct"])


if __name__ == "__main__":
    main()
