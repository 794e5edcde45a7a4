"""What can be broken in the lab, and how it is mended. Runs inside the lab's init; each fault is a pair of small functions.

A fault has a target: a host, a balancer's node, or the service "repository" or "database". `seconds` mends it by itself.
What was broken is remembered until it is mended, so that mend without a name puts everything right.
"""

import re
import subprocess
import threading
import time
from dataclasses import dataclass

from lab import network

TABLE = "table bridge faults"
FORMS = {"seconds": r"\d+(\.\d+)?", "port": r"\d{1,5}", "left": r"\d+[km]?", "rate": r"\d+[kmg]?bit"}
EXAMPLES = {"seconds": "5", "port": "22", "left": "5m", "rate": "64kbit"}


class Wrong(Exception):
    """A fault, a target or an option that is not there: one sentence."""


@dataclass(frozen=True)
class Fault:
    """:param kind: host | node | member | service: what it can be done to. :param mend: None: it is over at once."""

    kind: str
    about: str
    do: object
    mend: object = None
    options: tuple = ()


def catalogue():
    """(name, kind of target, what it does, names of its options) of every fault, for help texts."""
    return [(name, fault.kind, fault.about, _options(fault)) for name, fault in FAULTS.items()]


def _options(fault):
    return (*fault.options, *(("seconds",) if fault.mend else ()))


def carry_out(running, verb, fault=None, target=None, **options):
    """Break or mend, and say it in one sentence. :raises Wrong: no such fault, target or option; nothing was done."""
    if verb == "mend":
        return _mend(running, fault, target)
    if fault not in FAULTS:
        raise Wrong(f"there is no fault '{fault}'; there are: {', '.join(FAULTS)}")
    rule = FAULTS[fault]
    _check(running, fault, rule, target, options)
    seconds = options.pop("seconds", None)
    key = (fault, target)
    if rule.mend and f"{fault} {target}" in running.broken:
        raise Wrong(f"{fault} of {target} is broken already; mend it first")
    rule.do(running, target, **options)
    if not rule.mend:
        return f"{fault}: {target} ({rule.about})"
    said = "".join(f", {name} {value}" for name, value in options.items())
    running.broken[f"{fault} {target}"] = f"{fault} of {target}{said}"
    if seconds:
        timer = threading.Timer(float(seconds), lambda: f"{fault} {target}" in running.broken and _mend(running, *key))
        timer.daemon = True
        timer.start()
    way_back = f", for {seconds} s" if seconds else f"; mend it with --fault {fault} --target {target}"
    return f"{fault}: {target} ({rule.about}){way_back}"


def _mend(running, fault, target):
    wanted = [key for key in running.broken
              if fault in (None, key.split(" ", 1)[0]) and target in (None, key.split(" ", 1)[1])]
    if not wanted and (fault or target):
        raise Wrong(f"nothing of that is broken; broken: {', '.join(running.broken) or 'nothing'}")
    for key in wanted:
        name, broken = key.split(" ", 1)
        FAULTS[name].mend(running, broken)
        running.broken.pop(key, None)
    return f"mended: {', '.join(wanted) or 'nothing was broken'}"


def _check(running, fault, rule, target, options):
    places = {"host": running.machines, "node": running.balancers, "service": running.services,
              "member": running.members}[rule.kind]
    if target not in places:
        raise Wrong(f"{fault} wants a {rule.kind} as its target, not '{target}': {', '.join(places)}")
    if rule.kind == "host" and running.machines[target].state != "running":
        raise Wrong(f"{target} is {running.machines[target].state}: mend that first")
    allowed = _options(rule)
    for name, value in options.items():
        if name not in allowed:
            raise Wrong(f"{fault} has no option '{name}'" + (f"; it has {', '.join(allowed)}" if allowed else ""))
        if name in FORMS and not re.fullmatch(FORMS[name], str(value)):
            raise Wrong(f"{name} '{value}' of {fault} is not understood; write it like {EXAMPLES[name]}")


def _power_cut(running, host):
    network.link(running.members, host, False)         # first: the dying kernel must not say goodbye to anybody's connection
    running.machines[host].power_off()


def _power_back(running, host):
    network.link(running.members, host, True)
    running.machines[host].power_on()
    network.wait_for(running.members[host][0], running.plan["hosts"][host]["port"], b"SSH-", time.monotonic(), 60)


def _pull(running, member):
    network.link(running.members, member, False)


def _plug(running, member):
    network.link(running.members, member, True)


def _cut(running, member, to=None, port=None):
    if to is not None and to not in running.members:
        raise Wrong(f"'{to}' is not on the switch: {', '.join(running.members)}")
    there = "".join(f" ip daddr {{ {', '.join(running.members[to])} }}" for to in [to] if to)
    door = f" tcp dport {int(port)}" if port else ""
    running.rules[f"cut {member}"] = f"ip saddr {{ {', '.join(running.members[member])} }}{there}{door}"
    _filter(running)


def _drop(running, service):
    about = running.services[service]
    running.rules[f"drop {service}"] = f"ip daddr {about.address} tcp dport {about.port}"
    _filter(running)


def _unfilter(name):
    def mend(running, target):
        running.rules.pop(f"{name} {target}", None)
        _filter(running)
    return mend


def _filter(running):
    """The switch's packet filter, all rules at once. Bridge family: members are on one network, nothing is routed."""
    rules = "\n".join(f"    {rule} drop" for rule in running.rules.values())
    chain = f"  chain forward {{\n    type filter hook forward priority 0; policy accept;\n{rules}\n  }}\n"
    text = f"{TABLE}\ndelete {TABLE}\n{TABLE} {{\n{chain}}}\n"
    subprocess.run([*network.inside(network.SWITCH), "nft", "-f", "-"], input=text, check=True, capture_output=True, text=True)


def _slow(running, member, rate="64kbit"):
    """A token bucket on both ends of the cable (netem, which could also lose and delay, is not in every kernel)."""
    for place, device in _ends(running, member):
        network.tc(place, "qdisc", "replace", "dev", device, "root", "tbf", "rate", rate, "burst", "4kb", "latency", "2s")


def _fast(running, member):
    for place, device in _ends(running, member):
        network.tc(place, "qdisc", "del", "dev", device, "root")


def _ends(running, member):
    return (network.SWITCH, network.port(running.members, member)), (member, "eth0")


def _freeze(running, host):
    running.machines[host].freeze(True)


def _thaw(running, host):
    running.machines[host].freeze(False)


def _fill(running, host, left="5m"):
    running.machines[host].shrink(left)


def _unfill(running, host):
    running.machines[host].shrink(None)


def _hold_chef(running, host):
    """What a run that somebody started by hand looks like: Chef's own lock file, locked, with a process id in it."""
    lock = "/var/cache/chef/chef-client-running.pid"
    running.machines[host].inside("mkdir", "-p", "/var/cache/chef", check=True)
    running.holders[host] = running.machines[host].inside_later(
        "flock", "--exclusive", "--nonblock", lock, "sh", "-c", f"echo $PPID > {lock}; exec sleep 86400")


def _release_chef(running, host):
    running.machines[host].inside("pkill", "-KILL", "-f", "sleep 86400")
    running.holders.pop(host).wait()


def _refuse(running, host):
    """Another token on the host: flips are answered 403, everything else goes on."""
    token = running.machines[host].root / "etc/bgdeploy/heartbeat-token"
    running.tokens[host] = token.read_text()
    token.write_text("not-the-token-you-know\n")


def _accept(running, host):
    (running.machines[host].root / "etc/bgdeploy/heartbeat-token").write_text(running.tokens.pop(host))


def _crash(running, host, component=None):
    services = running.plan["hosts"][host]["services"]
    if component is not None and component not in services:
        raise Wrong(f"{host} has no component '{component}': {', '.join(services)}")
    for service in [services[component]] if component else services.values():
        running.machines[host].inside("systemctl", "kill", "--signal=KILL", "--kill-who=all", service)


def _stop_service(running, service):
    running.services[service].stop()


def _start_service(running, service):
    running.services[service].start()


def _stop_node(running, node):
    running.balancers[node].stop()


def _start_node(running, node):
    running.balancers[node].start()


def _restart_node(running, node):
    _stop_node(running, node)
    _start_node(running, node)


FAULTS = {
    "power": Fault("host", "the plug is pulled; the same disk boots when it is mended", _power_cut, _power_back),
    "partition": Fault("member", "its network cable is pulled", _pull, _plug),
    "cut": Fault("member", "what it sends is dropped: all of it, or --option to=MEMBER,port=NUMBER",
                 _cut, _unfilter("cut"), ("to", "port")),
    "hang": Fault("host", "all its processes stand still; its kernel still accepts connections", _freeze, _thaw),
    "slow": Fault("member", "its cable carries only 64kbit a second, or --option rate=RATE", _slow, _fast, ("rate",)),
    "disk-full": Fault("host", "5m of its disk are left to write, or --option left=SIZE", _fill, _unfill, ("left",)),
    "chef-lock": Fault("host", "somebody else's run holds Chef's lock", _hold_chef, _release_chef),
    "flip-refused": Fault("host", "its heartbeats take no flip: another token is on the host", _refuse, _accept),
    "crash": Fault("host", "the application is killed, all workers at once: all of them, or --option component=NAME",
                   _crash, None, ("component",)),
    "dead": Fault("service", "its process is killed: connections are refused", _stop_service, _start_service),
    "drop": Fault("service", "packets to it are dropped without an answer", _drop, _unfilter("drop")),
    "reload": Fault("node", "haproxy is reloaded, server states kept", lambda running, node: running.balancers[node].reload()),
    "reload-forget": Fault("node", "haproxy is reloaded without kept states: every server counts as up until its first check",
                           lambda running, node: running.balancers[node].reload(keep_states=False)),
    "restart": Fault("node", "haproxy is killed and started again, without kept states", _restart_node),
    "gone": Fault("node", "haproxy is killed and stays away", _stop_node, _start_node),
}
