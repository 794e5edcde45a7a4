"""The lab's network: a switch, and a network namespace with one cable to it for every member. Runs inside the lab's init.

Namespaces are named in the lab's own /run/netns, so that two labs may use the same names and the same addresses.
"""

import ctypes
import os
import socket
import subprocess
import time

CLONE_NEWNET = 0x40000000
SWITCH = "switch"


def build(members, prefix):
    """Make everything. :param members: {name: [addresses]} :param prefix: length of the network's prefix in bits."""
    _batch([], ["netns add " + name for name in (SWITCH, *members)])
    cables = ["link add br0 type bridge", "link set br0 up", "link set lo up"]
    for name in members:
        cables += [f"link add {port(members, name)} type veth peer name eth0 netns {name}",
                   f"link set {port(members, name)} master br0 up"]
    _batch(["-n", SWITCH], cables)
    for name, addresses in members.items():
        _batch(["-n", name], ["link set lo up", *(f"addr add {a}/{prefix} dev eth0" for a in addresses), "link set eth0 up"])


def port(members, name):
    """The switch's end of this member's cable; Linux takes 15 characters."""
    return f"p{list(members).index(name)}"


def link(members, name, up):
    """Plug in or pull the cable of a member."""
    ip("-n", SWITCH, "link", "set", port(members, name), "up" if up else "down")


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def tc(name, *words):
    """Traffic control in a member's namespace."""
    subprocess.run(["tc", "-n", name, *words], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def wait_for(address, port, greeting, start, limit=90.0):
    """Seconds since start until this port accepts (and greets). Moves the calling thread into the control namespace.

    :raises OSError: at the limit.
    """
    enter("/run/netns/ctl")
    while True:
        try:
            with socket.create_connection((address, port), timeout=2) as connection:
                if not greeting or connection.recv(len(greeting)) == greeting:
                    return time.monotonic() - start
        except OSError:
            pass
        if time.monotonic() - start > limit:
            raise OSError(f"{address}:{port} does not answer after {limit:.0f} s")
        time.sleep(0.02)


def inside(name):
    """The words to put in front of a command that shall run in a member's namespace."""
    return ["nsenter", f"--net=/run/netns/{name}", "--"]


def enter(path):
    """The calling thread, and whatever it starts from now on, moves into the network namespace that this file names."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(descriptor, CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def _batch(words, lines):
    subprocess.run(["ip", *words, "-batch", "-"], input="\n".join(lines) + "\n", check=True, capture_output=True, text=True)
