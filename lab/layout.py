"""From the inventory to the lab's plan: who is on the switch, with which address, and where the lab keeps its files.

Pure but for reading the file system's paths; the plan is plain data, so that the lab's init needs no inventory.
"""

import hashlib
import ipaddress
import pathlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from bgdeploy import errors

USER = "deploy"                 # the one login of the image
TAKEN = ("ctl", "infra", "switch")


@dataclass(frozen=True)
class Layout:
    """Where one lab is.

    :param folder: what it keeps: keys, token, repository; `run/` and `log/` inside are of the running lab.
    :param unit: the name of its cgroup: unique on this machine, also for labs of the same name in two copies of the project.
    :param network: the lab's one network.
    :param members: everybody on the switch: pairs (name, tuple of addresses).
    """

    name: str
    folder: pathlib.Path
    unit: str
    network: object
    members: tuple

    @property
    def run(self):
        return self.folder / "run"

    @property
    def log(self):
        return self.folder / "log"

    def address(self, name):
        return dict(self.members)[name][0]


def of(site):
    """The layout of a site of lab kind.

    :raises errors.BadInput: not a lab, an address that is no IP address, one address twice, files outside the lab's folder.
    """
    if site.lab is None:
        raise errors.BadInput(f"{site.file}: '{site.name}' is not a lab: only an inventory with 'kind: lab' can be brought up")
    folder = pathlib.Path(site.base) / ".lab" / site.name
    members = {host.name: (host.address,) for host in site.hosts}
    for balancer in (site.live, site.standby):
        for node in balancer.nodes:
            if node.name in members:
                raise errors.BadInput(f"{site.file}: '{node.name}' is a host and a balancer's node: call one of them otherwise")
            members[node.name] = (node.address,)
    for name in TAKEN:
        if name in members:
            raise errors.BadInput(f"{site.file}: the lab uses the name '{name}' itself: call the host or node otherwise")
    services = [urlsplit(url).hostname for url in (site.repository.url if site.repository else None, site.database) if url]
    members["infra"] = tuple(dict.fromkeys(services))
    network = _network(site)
    members["ctl"] = (site.lab.get("controller") or str(network[2]),)
    _check(site, folder, members, network)
    return at(folder, network, tuple(members.items()))


def at(folder, network=None, members=()):
    """The layout of whatever lab has this folder; enough to take it down without its inventory."""
    unit = f"bgdeploy-lab-{folder.name}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:6]}"
    return Layout(folder.name, folder, unit, network, members)


def identity(site, layout):
    return pathlib.Path(site.ssh.identity) if site.ssh.identity else layout.folder / "key"


def known_hosts(site, layout):
    return pathlib.Path(site.ssh.known_hosts) if site.ssh.known_hosts else layout.folder / "known_hosts"


def tokens(site, layout):
    """The files with heartbeat tokens that the inventory names; by default the lab's own one."""
    named = [c.heartbeat.token.file for c in site.components if c.heartbeat.token and c.heartbeat.token.file]
    return [pathlib.Path(name) for name in dict.fromkeys(named)] or [layout.folder / "token"]


def _network(site):
    named = site.lab.get("network")
    try:
        return ipaddress.IPv4Network(str(named) if named else f"{site.hosts[0].address}/24", strict=bool(named))
    except ValueError:
        if named:
            raise errors.BadInput(f"{site.file}: '{named}' is no IPv4 network; write 'lab: {{network: 10.77.0.0/24}}'") from None
        raise errors.BadInput(f"{site.file}: '{site.hosts[0].address}' of {site.hosts[0].name} is no IPv4 address, and a lab has "
                              "no name service; write 'address: 10.77.0.11' at each host and node") from None


def _check(site, folder, members, network):
    seen = {}
    for name, addresses in members.items():
        for address in addresses:
            try:
                inside = ipaddress.IPv4Address(address) in network
            except ValueError:
                raise errors.BadInput(f"{site.file}: '{address}' of {name} is no IPv4 address, and a lab has no names") from None
            if not inside:
                raise errors.BadInput(f"{site.file}: {address} of {name} is outside the lab's network {network}")
            if address in seen:
                raise errors.BadInput(f"{site.file}: {name} and {seen[address]} have the same address {address}")
            seen[address] = name
    layout = at(folder)
    written = [identity(site, layout), known_hosts(site, layout), *tokens(site, layout)]
    written += [pathlib.Path(site.repository.directory)] if site.repository and site.repository.directory else []
    for path in written:
        if folder not in path.parents:
            raise errors.BadInput(f"{site.file}: the lab writes {path}, so it has to be inside {folder}")
    for user in {site.ssh.user, *(host.user for host in site.hosts)} - {None, USER}:
        raise errors.BadInput(f"{site.file}: the lab's hosts have no user '{user}': write 'ssh: {{user: {USER}}}'")
