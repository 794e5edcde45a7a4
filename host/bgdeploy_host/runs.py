"""Chef runs on this host: started detached, so that no lost connection ends them; looked at, read and stopped afterwards."""

import json
import os
import shutil
import subprocess
import time

from bgdeploy_host import client, files, outcome

LIBRARY = "/usr/lib/bgdeploy-host"
KEPT_RUNS, KEPT_COOKBOOKS = 20, 5
KEPT_BYTES = 512 << 20          # of outputs of runs before: one that floods must not fill the disk
TAIL = 4000
STOP_PATIENCE = 12.0            # SIGINT ended a run after 3 s when tried (Chef 18)
BOOTTIME = 7                    # CLOCK_BOOTTIME; Python 3.6 has no name for it
# Of a run; nothing of the caller's own environment reaches it, proxies least of all.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
CHEF_CLIENT = ("/usr/bin/chef-client", "/opt/chef/bin/chef-client", "/usr/local/bin/chef-client", "/usr/local/sbin/chef-client",
               "/usr/sbin/chef-client")


def unit(run):
    return "bgdeploy-{}.service".format(run)


def boot_id(at=files.root()):
    return files.read_text(at("/proc/sys/kernel/random/boot_id"))


def newest(at=files.root()):
    """:returns: the name of the newest run on this host, or None."""
    name = files.read_text(at(files.NEWEST))
    return name if name and os.path.isdir(at(files.RUNS + "/" + name)) else None


def state(at, run, unit_active):
    """Say where a run stands.

    :param unit_active: a function that asks systemd whether the run's unit is there; None: it did not answer.
    :returns: the `job` of `look`, without its tail.
    """
    folder = at(files.RUNS + "/" + run)
    report = files.read_json(folder + "/report.json")
    started = files.read_json(folder + "/started") or {}
    job = {"run": run, "release": files.read_text(folder + "/release"), "state": outcome.RUNNING, "exit": None, "why": "",
           "boot": files.read_text(folder + "/boot_id"), "limit": started.get("limit"), "seconds": None,
           "out_size": _size(folder + "/out"), "report": report}
    ended = _ended(at, run)
    if not ended and job["boot"] != boot_id(at):
        return dict(job, state=outcome.LOST, why="the host went down in the middle of it")
    if not ended:
        active = unit_active(run)
        # Systemd writes the exit file before it lets the unit go, so a second look at the file settles the race.
        ended = _ended(at, run) if active is False else ""
        if active is False and not ended:
            return dict(job, state=outcome.LOST, why="its unit is gone and left no exit file")
    if not ended:
        return dict(job, seconds=_since(started))
    word, number, why = outcome.translate(ended, tail(at, run), report)
    return dict(job, state=word, exit=number, why=why, seconds=_between(started, folder + "/exit"))


def _ended(at, run):
    """The exit file; exit.sh puts it elsewhere where the disk is full."""
    return files.read_text(at(files.RUNS + "/" + run + "/exit")) or files.read_text(at(files.CACHE + "/" + run + ".exit"))


def tail(at, run, size=TAIL):
    """:returns: the last lines of a run's output as text; whatever is no UTF-8 becomes a mark."""
    path = at(files.RUNS + "/" + run + "/out")
    content = files.read(path, size, max(0, _size(path) - size)) or b""
    text = content.decode("utf-8", "replace")
    # The first line is cut somewhere, unless it is all there is.
    lines = text.splitlines()[1 if len(content) == size else 0:] or [text]
    # Local mode prints this on every run, whatever client_key says: chef's own puts.
    return "\n".join(line for line in lines if "No key detected" not in line)


def output(at, run, start, cap):
    """:returns: {"run", "from", "next", "size", "data": bytes}: a piece of a run's output as it is."""
    path = at(files.RUNS + "/" + run + "/out")
    if not os.path.isdir(os.path.dirname(path)):
        raise files.Refused("there is no run {} on this host".format(run))
    piece = files.read(path, cap, start) or b""
    return {"run": run, "from": start, "next": start + len(piece), "size": _size(path), "data": piece}


def start(at, asked, unit_active):
    """Start a converge, detached, unless this very run was started before.

    :param asked: the checked arguments of the verb.
    :returns: {"run", "already", "state"}, and "reserved" where everybody else's Chef runs wait (reserve.py).
    :raises Refused: another run of ours goes on, the cookbooks are not here, this host takes only its Chef Server's cookbooks.
    """
    run, kept = asked["run"], {"reserved": True} if asked.get("reserve") else {}
    with files.alone(at):
        folder = at(files.RUNS + "/" + run)
        if os.path.isdir(folder):
            return {"run": run, "already": True, "state": state(at, run, unit_active)["state"], **kept}
        last = newest(at)
        if last and state(at, last, unit_active)["state"] == outcome.RUNNING:
            raise files.Refused("run {} goes on here; look at it, or stop it: bgdeploy-host stop --run {}".format(last, last))
        words = command(at, asked, files.RUNS + "/" + run)
        if asked.get("reserve"):
            from bgdeploy_host import reserve       # it needs this module
            reserve.reserve(at, run, asked["reserve"])
            words = [LIBRARY + "/reserved.sh", reserve.HELD, str(asked["lock-wait"])] + words
        _prune(at, last, asked.get("cookbooks"))
        files.folder(folder)
        try:
            tell(at, asked, files.RUNS + "/" + run)
            files.write(folder + "/release", asked["release"])
            files.write(folder + "/boot_id", boot_id(at))
            files.write(folder + "/out", b"")
            files.write(folder + "/started",
                        json.dumps({"at": time.time(), "boottime": time.clock_gettime(BOOTTIME), "limit": asked["limit"]}))
            files.write(at(files.NEWEST), run)
        except OSError:             # a full disk: the same run may be started again when there is room
            shutil.rmtree(folder, ignore_errors=True)
            raise
        problem = _launch(run, asked["limit"], words)
        if problem:
            files.write(folder + "/out", problem)
            files.write(folder + "/exit", "not-started")
        return {"run": run, "already": False, "state": state(at, run, unit_active)["state"], **kept}


def stop(at, run, unit_active):
    """Ask a run to end (SIGINT: the only signal that Chef obeys in mid-run), and end it if it does not.

    :returns: {"run", "state"}.
    """
    if not os.path.isdir(at(files.RUNS + "/" + run)):
        raise files.Refused("there is no run {} on this host".format(run))
    if unit_active(run):
        systemctl("kill", "--signal=INT", "--kill-who=main", unit(run))
        until = time.monotonic() + STOP_PATIENCE
        while time.monotonic() < until and unit_active(run):
            time.sleep(0.1)
        if unit_active(run):
            systemctl("stop", unit(run))
    return {"run": run, "state": state(at, run, unit_active)["state"]}


def command(at, asked, where):
    """The command line of a converge whose files are in the folder `where` of this host.

    :raises Refused: no chef-client, no such cookbooks, or this host takes only its Chef Server's, or none at an attribute.
    """
    chef = next((path for path in CHEF_CLIENT if os.access(at(path), os.X_OK)), None)
    if not chef:
        raise files.Refused("chef-client is not on this host: none of {} can be run".format(", ".join(CHEF_CLIENT)))
    words = [chef, "--once", "--no-color", "--force-formatter", "--log_level", "warn", "--config", where + "/client.rb",
             "--json-attributes", where + "/attrs.json", "--run-lock-timeout", str(asked["lock-wait"])]
    if asked["mode"] == "server":
        allowed = files.read_text(at(files.SERVER_ONLY)).split()
        for path, component in (asked.get("attributes") or {}).items():
            if os.path.lexists(at(files.SERVER_ONLY)) and "{}={}".format(component, path) not in allowed:
                raise files.Refused("no deployment may set the attribute {1} here: the line {0}={1} is not in {2}".format(
                    component, path, files.SERVER_ONLY))
        # The node's own run list: with -o the node would not be saved, and the next daemon run would undo the pin.
        return words
    if os.path.lexists(at(files.SERVER_ONLY)):
        raise files.Refused(files.SERVER_ONLY_SAYS)
    if not asked.get("recipes") or not asked.get("cookbooks"):
        raise files.Refused("a run in local mode needs --recipes and --cookbooks")
    kept = at(files.COOKBOOKS + "/" + asked["cookbooks"])
    if not os.path.isdir(kept):
        raise files.Refused("the cookbooks {} are not on this host: send them first".format(asked["cookbooks"]))
    os.utime(kept)      # the newest used are kept
    return words + ["--local-mode", "--override-runlist", ",".join("recipe[{}]".format(name) for name in asked["recipes"])]


def tell(at, asked, where):
    """Write what a converge is told into the folder `where` of this host: attributes and configuration."""
    attributes = {"bgdeploy": {"run": asked["run"], "versions": asked["versions"], "restart": asked.get("restart") or []}}
    for path, component in (asked.get("attributes") or {}).items():
        _place(attributes, path, asked["versions"][component])
    files.write(at(where) + "/attrs.json", json.dumps(attributes))
    files.write(at(where) + "/client.rb", client.config(at, asked, where))


def _launch(run, limit, command_line):
    folder = files.RUNS + "/" + run
    words = ["/usr/bin/systemd-run", "--quiet", "--no-ask-password", "--collect", "--unit=" + unit(run),
             "--description=bgdeploy converge " + run, "--property=RuntimeMaxSec={}".format(limit),
             "--property=TimeoutStopSec=20", "--property=KillMode=mixed", "--property=WorkingDirectory=/",
             "--property=ExecStopPost={}/exit.sh {}".format(LIBRARY, folder),
             *["--setenv={}={}".format(*pair) for pair in sorted(ENVIRONMENT.items())],
             "--", LIBRARY + "/run.sh", folder] + command_line
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.stdout.decode("utf-8", "replace")[:2000]
    return None if done.returncode == 0 else said or "systemd-run: exit code {}".format(done.returncode)


def systemctl(*words):
    """Without asking for a password, and without its words: what came of it is looked at."""
    subprocess.run(["/usr/bin/systemctl", "--no-ask-password"] + list(words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def _place(attributes, path, version):
    *above, last = path.split(".")
    for name in above:
        attributes = attributes.setdefault(name, {})
    attributes[last] = version


def _prune(at, *needed):
    """Remove what is old and not needed. Ages alone do not tell: a clock that was set back makes the newest the eldest."""
    for kind, kept in ((files.RUNS, KEPT_RUNS), (files.COOKBOOKS, KEPT_COOKBOOKS)):
        where = files.folder(at(kind))
        by_age = sorted(os.scandir(where), key=lambda entry: entry.stat(follow_symlinks=False).st_mtime, reverse=True)
        room = KEPT_BYTES
        for number, entry in enumerate(by_age):
            room -= _size(entry.path + "/out")
            if entry.name not in needed and (number >= kept or (number and room < 0)):
                shutil.rmtree(entry.path, ignore_errors=True)


def _size(path):
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _since(started):
    began = started.get("boottime")
    return round(max(0.0, time.clock_gettime(BOOTTIME) - began), 1) if isinstance(began, (int, float)) else None


def _between(started, exit_file):
    began = started.get("at")
    try:
        return round(max(0.0, os.lstat(exit_file).st_mtime - began), 1) if isinstance(began, (int, float)) else None
    except OSError:
        return None
