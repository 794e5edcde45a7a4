"""The lab's verbs: up, down, status, load, break and mend, enter. The only file of the lab that others call.

    /usr/bin/python3 -m lab.lab up|down|status [INVENTORY]       (the same as invoke lab.up ... --env)

Everything runs inside one private namespace whose first process is lab/init.py; nothing is left on the machine after `down`.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

from bgdeploy import errors
from lab import balancers, cgroups, hostfiles, hostlayer, image, infra, layout, network

STAND_INS = "hosts are stand-ins: systemd-nspawn machines, Debian dressed as EL 9"
CODE = pathlib.Path(__file__).resolve().parent.parent


def up(site, say=print):
    """Bring the lab up, unless it is up; cleans up first what a killed one left. Prints how long each part took.

    :raises errors.Refused: this machine cannot run it, or something did not start (the log is named).
    :raises errors.BadInput: the inventory does not describe a lab.
    """
    started = time.monotonic()
    place = layout.of(site)
    if os.geteuid() != 0:
        raise errors.Refused("the lab makes namespaces and mounts: it needs root", "sudo invoke lab.up")
    if _process(place):
        if json.loads((place.run / "plan.json").read_text()) != _plan(site, place, _layers(say)):
            raise errors.Refused(f"the lab '{site.name}' is up, as another inventory (or older code) described it",
                                 "invoke lab.down, then invoke lab.up")
        say(f"lab '{site.name}' is up already")
        return
    _clear(place)
    layers = _layers(say)
    for folder in (place.folder.parent, place.folder, place.run, place.log):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(place.folder, 0o700)
    _raise_inotify(len(site.hosts), say)
    hostfiles.keys(site, place)
    _repository(site)
    with open(os.open(place.run / "plan.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(_plan(site, place, layers), file)
    prepared = time.monotonic()
    _spawn(place)
    answer = _ready(place)
    times = answer["times"]
    hosts = [times[host.name] for host in site.hosts]
    say(f"lab '{site.name}' is up in {time.monotonic() - started:.1f} s: prepared {prepared - started:.1f} s, network {times['network']:.1f} s, "
        f"{len(hosts)} hosts answer SSH after {min(hosts):.1f}-{max(hosts):.1f} s ({STAND_INS})")
    for name, service in _ask(place, {"do": "status"})["services"].items():
        say(f"  {name}: {service['note']}")


def down(site, say=print):
    """Take the lab away: every process, mount, namespace and cgroup, and the hosts' disks. Keys, token and the published
    packages stay. Fine if nothing is up."""
    started = time.monotonic()
    place = layout.of(site)
    was = _process(place) or cgroups.exists(cgroups.home(place.unit))
    _clear(place)
    say(f"lab '{site.name}' is down in {time.monotonic() - started:.1f} s" if was else f"lab '{site.name}' was not up")


def clear(base, say=print):
    """Take down every lab that has a folder below base, whether or not its inventory is still there."""
    for folder in sorted(pathlib.Path(base, ".lab").glob("*")):
        place = layout.at(folder)
        if _process(place) or cgroups.exists(cgroups.home(place.unit)):
            say(f"lab '{place.name}' was up")
        _clear(place)


def status(site, say=print):
    """What runs, by the lab's own knowledge (for the deployment's view: invoke status).

    :returns: the same as a dict, or None if the lab is not up.
    """
    place = layout.of(site)
    if not _process(place):
        say(f"lab '{site.name}' is not up")
        return None
    seen = _ask(place, {"do": "status"})
    say(f"lab '{site.name}' is up; {STAND_INS}")
    for host in site.hosts:
        about = seen["hosts"].get(host.name) or {"state": "not in this lab", "boots": 0, "free": 0}
        say(f"  {host.name:12} {host.address:15} {about['state']:8} boot {about['boots']}, {about['free'] >> 20} MB free")
    for balancer in (site.live, site.standby):
        for node in balancer.nodes:
            ports = ", ".join(f"{component} :{port}" for component, port in balancer.ports)
            say(f"  {node.name:12} {node.address:15} {seen['balancers'].get(node.name, 'not in this lab'):8} {balancer.name.upper()}: {ports}; "
                f"statistics :{balancers.STATS_PORT}")
    for name, service in seen["services"].items():
        say(f"  {name:12} {place.address('infra'):15} {service['state']:8} {service['note']}")
    for fault in seen["broken"].values():
        say(f"  broken: {fault}")
    return seen


def load(site, seconds=10, rate=100, say=print):
    """Send a bounded load to LIVE and print a table; see lab/load.py for what comes back. Enters the lab's network."""
    from lab import load as loading
    enter(site)
    return loading.run(site, seconds, rate, say)


def break_(site, fault, target, say=print, **options):
    """Do harm: see lab/faults.py for the faults, their targets and options. :raises errors.BadInput: no such fault or target."""
    say(_command(site, "break", fault, target, options))


def mend(site, fault=None, target=None, say=print):
    """Undo one fault, or all of them when none is named."""
    say(_command(site, "mend", fault, target, {}))


def enter(site):
    """The calling process moves into the lab's control network namespace. Call it before any thread is started: a namespace
    belongs to a thread, and new threads take it over.

    :raises errors.Refused: the lab is not up.
    """
    process = _process(layout.of(site))
    if not process:
        raise errors.Refused(f"the lab '{site.name}' is not up", "invoke lab.up")
    network.enter(f"/proc/{process}/root/run/netns/ctl")


def _plan(site, place, layers):
    """All that the init has to know, as plain data."""
    plan = {
        "name": site.name, "cgroup": cgroups.home(place.unit), "prefix": place.network.prefixlen,
        "members": {name: list(addresses) for name, addresses in place.members}, "disk": str(site.lab.get("disk", "2g")),
        "layers": [str(path) for path in layers],
        "hosts": {host.name: {"port": host.port, "services": _services(site, host), "files": hostfiles.files(site, place, host)}
                  for host in site.hosts},
        "balancers": balancers.write(site, place.folder / "balancers"), "services": infra.plan(site, place)}
    return json.loads(json.dumps(plan))         # as it will be read again: lists, not tuples


def _repository(site):
    """An empty one that dnf can read, and its signing key, made the first time."""
    folder = site.repository and site.repository.directory
    if folder and not pathlib.Path(folder, "repodata/repomd.xml").exists():
        from bgdeploy.outside import packages
        packages.prepare_repository(site)


def _services(site, host):
    return {name: site.component(name).service for name in host.components}


def _layers(say):
    golden = image.ready(say)
    return [hostlayer.ready(golden, say), golden]


def _spawn(place):
    """Start the init, detached from this process and its terminal."""
    words = ["unshare", "-m", "-n", "-p", "-f", "--kill-child=KILL", "--mount-proc", "--propagation", "private",
             sys.executable, "-m", "lab.init", str(place.folder)]
    if cgroups.by_systemd():
        words = ["systemd-run", "--quiet", "--scope", f"--unit={place.unit}", "-p", "Delegate=yes", *words]
    with open(place.log / "init.log", "wb") as log:
        process = subprocess.Popen(words, cwd=CODE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        if (place.run / "control").exists():
            with contextlib.suppress(OSError):
                first = _child(process.pid)
                (place.run / "pid").write_text(f"{first} {_birth(first)}")
                return
        time.sleep(0.01)
    said = (place.log / "init.log").read_text(errors="replace").strip().splitlines() or ["no message"]
    _clear(place)
    raise errors.Refused(f"the lab's init did not start ({said[-1][:300]})", f"see {place.log / 'init.log'}")


def _ready(place):
    answer = _ask(place, {"do": "wait", "limit": 120}, limit=130)
    if answer.get("error") or not answer.get("ready"):
        _clear(place)
        raise errors.Refused(f"the lab did not start: {answer.get('error') or 'not ready after 120 s'}", f"see {place.log}")
    return answer


def _clear(place):
    """Kill and remove whatever a lab of this name and place has left, however it ended."""
    home = cgroups.home(place.unit)
    if process := _process(place):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)        # the first process of the namespace: the kernel kills the rest
    if not cgroups.remove(home):
        raise errors.Refused(f"the control group {home} of the lab's last run does not go away", f"see {cgroups.TOP}")
    for left in ("run", "db"):
        shutil.rmtree(place.folder / left, ignore_errors=True)


def _process(place):
    """Process id of the running lab's init, or None. The birth time guards against a number that was given out again."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        number, birth = (place.run / "pid").read_text().split()
        if _birth(number) == birth:
            return int(number)
    return None


def _birth(number):
    fields = pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ValueError("dead")
    return fields[19]


def _child(number):
    return int(pathlib.Path(f"/proc/{number}/task/{number}/children").read_text().split()[0])


def _command(site, verb, fault, target, options):
    place = layout.of(site)
    if not _process(place):
        raise errors.Refused(f"the lab '{site.name}' is not up", "invoke lab.up")
    answer = _ask(place, {"do": verb, "fault": fault, "target": target, **options})
    if "error" in answer:
        raise errors.BadInput(answer["error"])
    return answer["said"]


def _ask(place, question, limit=60.0):
    """One question to the lab's init. :raises errors.NoAnswer: it does not answer within the limit."""
    folder = os.open(place.run, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(limit)
            channel.connect(f"/proc/self/fd/{folder}/control")
            channel.sendall(json.dumps(question).encode() + b"\n")
            return json.loads(channel.makefile().readline() or '{"error": "the init went away"}')
    except (OSError, ValueError) as error:
        raise errors.NoAnswer(f"the lab's init does not answer ({error})", "invoke lab.down, then invoke lab.up") from None
    finally:
        os.close(folder)


def _raise_inotify(count, say):
    """systemd takes 6 inotify instances a host; at the usual limit of 128 the nineteenth host hangs without a word (measured)."""
    limit = pathlib.Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < 2048 and count > 4:
        limit.write_text("2048")
        say("raised fs.inotify.max_user_instances to 2048 on this machine")


if __name__ == "__main__":
    from lab.cli import main
    sys.exit(main(sys.argv[1:]))
