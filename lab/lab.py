"""The lab's verbs: up, down, status, load, break and mend, enter. The only file of the lab that others call.

    /usr/bin/python3 -m lab.lab up|down|status|load|break|mend ...       (the same as invoke lab.up ...)

Everything runs inside one private namespace whose first process is lab/init.py; nothing is left on the machine after `down`.
"""

import json
import os
import pathlib
import sys
import time

from bgdeploy import errors
from lab import balancers, cgroups, faults, hostfiles, hostlayer, image, infra, jenkins, layout, link, network

STAND_INS = "hosts are stand-ins: systemd-nspawn machines, Debian dressed as EL 9"


def up(site, say=print, with_jenkins=False):
    """Bring the lab up, unless it is up; cleans up first what a killed one left. Prints how long each part took.

    :param with_jenkins: and a Jenkins beside it, see jenkins.py; also beside one that is up already.
    :raises errors.Refused: this machine cannot run it, or something did not start (the log is named).
    :raises errors.BadInput: the inventory does not describe a lab.
    """
    started = time.monotonic()
    place = layout.of(site)
    if os.geteuid() != 0:
        raise errors.Refused("the lab makes namespaces and mounts: it needs root", "sudo invoke lab.up")
    layers = _layers(say)
    if link.process(place):
        if json.loads((place.run / "plan.json").read_text()) != _plan(site, place, layers):
            raise errors.Refused(f"the lab '{site.name}' is up, as another inventory (or older code) described it",
                                 "invoke lab.down, then invoke lab.up")
        say(f"lab '{site.name}' is up already")
    else:
        _start(site, place, layers, say, started)
    if with_jenkins:
        jenkins.start(site, place, say)


def down(site, say=print):
    """Take the lab away: every process, mount, namespace and cgroup, and the hosts' disks. Keys, token and the published
    packages stay. Fine if nothing is up."""
    started = time.monotonic()
    place = layout.of(site)
    was = link.there(place)
    link.clear(place)
    say(f"lab '{site.name}' is down in {time.monotonic() - started:.1f} s" if was else f"lab '{site.name}' was not up")


def clear(base, say=print):
    """Take down every lab that has a folder below base, whether or not its inventory is still there."""
    for folder in sorted(pathlib.Path(base, ".lab").glob("*")):
        place = layout.at(folder)
        if link.there(place):
            say(f"lab '{place.name}' was up")
        link.clear(place)


def status(site, say=print):
    """What runs, by the lab's own knowledge (for the deployment's view: invoke status).

    :returns: the same as a dict, or None if the lab is not up.
    """
    place = layout.of(site)
    if not link.process(place):
        say(f"lab '{site.name}' is not up")
        return None
    seen = link.ask(place, {"do": "status"})
    say(f"lab '{site.name}' is up; {STAND_INS}")
    for host in site.hosts:
        about = seen["hosts"].get(host.name) or {"state": "not in this lab", "boots": 0, "free": 0}
        say(f"  {host.name:12} {host.address:15} {about['state']:8} boot {about['boots']}, {about['free'] >> 20} MB free")
    for balancer in (site.live, site.standby):
        for node in balancer.nodes:
            ports = ", ".join(f"{component} :{port}" for component, port in balancer.ports)
            state = seen["balancers"].get(node.name, "not in this lab")
            ports += f"; statistics :{balancers.STATS_PORT}"
            say(f"  {node.name:12} {node.address:15} {state:8} {balancer.name.upper()}: {ports}")
    for name, service in seen["services"].items():
        say(f"  {name:12} {place.address('infra'):15} {service['state']:8} {service['note']}")
    if door := jenkins.there(place):
        say(f"  jenkins      {door.url}, user {door.user}, password in {jenkins.password_file(place)}")
    for fault in seen["broken"].values():
        say(f"  broken: {fault}")
    return seen


def load(site, seconds=10, rate=100, say=print):
    """Send a bounded load to LIVE and print a table; see lab/load.py for what comes back. Enters the lab's network."""
    from lab import load as loading
    enter(site)
    return loading.run(site, seconds, rate, say)


def break_(site, fault, target, say=print, **options):
    """Do harm: `fault_list` has the faults, their targets and options. :raises errors.BadInput: no such fault or target."""
    say(_command(site, {"do": "break", "fault": fault, "target": target, **options}))


def mend(site, fault=None, target=None, say=print):
    """Undo what was broken: everything, or what the fault's name and the target select."""
    say(_command(site, {"do": "mend", "fault": fault, "target": target}))


def fault_list():
    """A text table of all faults, for help."""
    return "\n".join(f"{name:14} {kind:8} {about}" + (f"; options: {', '.join(options)}" if options else "")
                     for name, kind, about, options in faults.catalogue())


def on_host(site, host, *words, limit=60.0):
    """Run a command on a host as its root, past SSH and sudo: for those who prepare an experiment, never for a deployment.

    :returns: {"exit", "out", "err"}, texts capped. :raises errors.Refused: the lab is not up, or the host is off.
    """
    answer = link.ask(layout.of(site), {"do": "run", "host": host, "words": words, "limit": limit}, limit + 5)
    if "error" in answer:
        raise errors.Refused(f"{host}: {answer['error']}")
    return answer


def process(site):
    """Process id of the running lab's init, or None if the lab is not up."""
    return link.process(layout.of(site))


def enter(site):
    """The calling process moves into the lab's control network namespace. Call it before any thread is started: a namespace
    belongs to a thread, and new threads take it over.

    :raises errors.Refused: the lab is not up.
    """
    first = process(site)
    if not first:
        raise errors.Refused(f"the lab '{site.name}' is not up", "invoke lab.up")
    network.enter(f"/proc/{first}/root/run/netns/ctl")


def _start(site, place, layers, say, started):
    link.clear(place)
    for folder in (place.folder.parent, place.folder, place.run, place.log):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(place.folder, 0o700)
    _raise_inotify(len(site.hosts), say)
    hostfiles.keys(site, place)
    _repository(site)
    with open(os.open(place.run / "plan.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(_plan(site, place, layers), file)
    prepared = time.monotonic()
    times = link.start(place)
    hosts = [times[host.name] for host in site.hosts]
    say(f"lab '{site.name}' is up in {time.monotonic() - started:.1f} s: prepared {prepared - started:.1f} s, "
        f"network {times['network']:.1f} s, {len(hosts)} hosts answer SSH after {min(hosts):.1f}-{max(hosts):.1f} s")
    say(f"  {STAND_INS}")
    for name, service in link.ask(place, {"do": "status"})["services"].items():
        say(f"  {name}: {service['note']}")


def _plan(site, place, layers):
    """All that the init has to know, as plain data."""
    plan = {
        "name": site.name, "cgroup": cgroups.home(place.unit), "prefix": place.network.prefixlen,
        "members": {name: list(addresses) for name, addresses in place.members}, "disk": str(site.lab.get("disk", "2g")),
        "layers": [str(path) for path in layers],
        "hosts": {host.name: {"port": host.port, "services": {name: site.component(name).service for name in host.components},
                              "files": hostfiles.files(site, place, host)} for host in site.hosts},
        "balancers": balancers.write(site, place.folder / "balancers"), "services": infra.plan(site, place)}
    return json.loads(json.dumps(plan))         # as it will be read again: lists, not tuples


def _layers(say):
    golden = image.ready(say)
    return [hostlayer.ready(golden, say), golden]


def _repository(site):
    """An empty one that dnf can read, and its signing key, made the first time."""
    folder = site.repository and site.repository.directory
    if folder and not pathlib.Path(folder, "repodata/repomd.xml").exists():
        from bgdeploy.outside import packages
        packages.prepare_repository(site)


def _command(site, question):
    answer = link.ask(layout.of(site), question)
    if "error" in answer:
        raise errors.BadInput(answer["error"])
    return answer["said"]


def _raise_inotify(count, say):
    """systemd takes 6 inotify instances a host; at the usual limit of 128 the nineteenth host hangs without a word (measured)."""
    limit = pathlib.Path("/proc/sys/fs/inotify/max_user_instances")
    if count > 4 and int(limit.read_text()) < 2048:
        limit.write_text("2048")
        say("raised fs.inotify.max_user_instances to 2048 on this machine")


if __name__ == "__main__":
    from lab.cli import main
    sys.exit(main(sys.argv[1:]))
