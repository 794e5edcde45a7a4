"""One GET through a balancer, and who served it: the instance names itself by two headers. Library of the HTTP ports."""

from bgdeploy.clean import clean
from bgdeploy.errors import Trouble
from bgdeploy.outside import exchange

SERVED_BY, VERSION = "x-served-by", "x-version"


def request(balancer, node, component, path, limit, cap=exchange.CAP):
    """One GET through one node's address: the http1.Came, or a sentence (str) of what happened instead. Never raises."""
    try:
        return exchange.ask(node.address, balancer.port(component), path, scheme=balancer.scheme,
                            host_header=balancer.host_header, ca_file=balancer.ca_file, limit=limit, cap=cap)
    except exchange.Lost as lost:
        return f"{node.name} {clean(lost.why, 200)}"
    except Trouble as trouble:
        return trouble.sentence


def named(came, names=()):
    """(host, version) that an answer names, or (None, what came instead).

    :param names: the inventory's hosts; "green-1.shop.example" is taken for "green-1", and the other way round, where only
        one of them can be meant. An unknown name is returned as it came.
    """
    if isinstance(came, str):
        return None, came
    said = came.headers.get(SERVED_BY)
    return (host(said, names), clean(came.headers.get(VERSION, ""), 80) or None) if said else (None, f"status {came.status}")


def host(said, names):
    """The inventory's name for what an instance calls itself, cleaned; what it said if that fits none, or several."""
    said = clean(said, 80)
    if said in names:
        return said
    alike = [name for name in names if _short(name) == _short(said) and ("." not in name or "." not in said)]
    return alike[0] if len(alike) == 1 else said


def _short(name):
    return name.partition(".")[0].lower()
