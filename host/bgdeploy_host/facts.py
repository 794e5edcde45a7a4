"""What `look` tells: services, packages, the newest run, whoever else converges. Changes nothing but its own cache.

A driver looks about twice a second: one call of systemctl for everything, and rpm only when its database has changed.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import time

from bgdeploy_host import client, files, outcome, reserve, runs

PROPERTIES = ("LoadState", "ActiveState", "SubState", "InvocationID", "StateChangeTimestampMonotonic", "UnitFileState",
              "ExecMainStartTimestampMonotonic")
DAEMONS = ("chef-client.service", "chef-client.timer")
RPM_FOLDERS = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")
RPM_FILES = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages", "Packages.db")
CRON_FOLDERS = ("/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/var/spool/cron")
OTHER_LOCKS = ("/etc/chef/local-mode-cache/cache/chef-client-running.pid",
               "/root/.chef/local-mode-cache/cache/chef-client-running.pid")
DNF_LOCKS = ("/var/lib/dnf/rpmdb_lock.pid", "/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid")
DISKS = ("/var", "/usr", "/")
LONGEST = 300


def look(at, components, tail_of=None):
    """Tell what is on this host.

    :param components: triples (component, package, service).
    :param tail_of: a run whose last lines are wanted even while all is well.
    :returns: the document of the verb `look` (docs/host-helper.md); None in it is unknown.
    """
    run = runs.newest(at)
    units = [service for _, _, service in components] + list(DAEMONS) + [reserve.UNIT] + ([runs.unit(run)] if run else [])
    shown = systemctl_show(units)
    active = _unit_active(shown, run)
    job = runs.state(at, run, active) if run else None
    if job and (run == tail_of or job["state"] not in (outcome.OK, outcome.RUNNING)):
        job["tail"] = runs.tail(at, run)
    versions, installed = packages(at, [package for _, package, _ in components])
    return {
        "boot": runs.boot_id(at), "now": time.time(),
        "services": {name: service(shown, at_unit) for name, _, at_unit in components},
        "packages": {name: versions.get(package) for name, package, _ in components},
        "older": [name for name, package, at_unit in components if older(shown.get(at_unit), installed.get(package))],
        "job": job, "foreign": foreign(at), "daemon": _daemon(at, shown), "licence": client.licence(at),
        "proxies": client.proxies(at), "no_proxy": client.setting(at, "no_proxy"),
        "chef_server": client.setting(at, "chef_server_url"), "package_lock": _holder(at, DNF_LOCKS), **disk(at, DISKS),
        "server_only": os.path.lexists(at(files.SERVER_ONLY)),
        "reserved": reserve.state(at, shown.get(reserve.UNIT, {}).get("ActiveState") == "active"),
    }


def systemctl_show(units):
    """:returns: {unit: {property: value}}, or {} when systemd does not answer."""
    words = ["/usr/bin/systemctl", "show", "--no-pager"] + ["--property=" + ",".join(PROPERTIES), "--"] + units
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    blocks = done.stdout.decode("utf-8", "replace").rstrip("\n").split("\n\n") if done.returncode == 0 else []
    # A block a unit, in the order asked: an alias would answer with another Id.
    return {unit: dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for unit, block in zip(units, blocks)} \
        if len(blocks) == len(units) else {}


def unit_active(run):
    """Ask systemd whether a run's unit is there: True, False, or None (it does not answer)."""
    return _unit_active(systemctl_show([runs.unit(run)]), run)(run)


def _unit_active(shown, run):
    def answer(_):
        found = shown.get(runs.unit(run))
        return found["ActiveState"] not in ("inactive", "failed") if found and "ActiveState" in found else None
    return answer


def service(shown, name):
    """One service: `active` as systemd says it, or missing; `start` is the id of this start; `since` in epoch seconds."""
    found = shown.get(name)
    if not found or "ActiveState" not in found:
        return {"active": None, "sub": None, "start": None, "since": None}
    changed = int(found.get("StateChangeTimestampMonotonic") or 0)
    missing = found.get("LoadState") == "not-found"
    return {"active": "missing" if missing else {"reloading": "active"}.get(found["ActiveState"], found["ActiveState"]),
            "sub": found.get("SubState"), "start": found.get("InvocationID") or None,
            "since": round(time.time() - time.monotonic() + changed / 1e6, 1) if changed else None}


def older(shown, installed):
    """Whether a service's process began before its package was installed, so that it may run what was there before.

    :param installed: epoch seconds. One from the future (the clock was set back since) says nothing.
    """
    began = int((shown or {}).get("ExecMainStartTimestampMonotonic") or 0)
    now = time.time()
    return bool(began and installed and installed <= now and now - time.monotonic() + began / 1e6 < installed)


def packages(at, names):
    """:returns: ({package: "2.0.0-1" as RPM has it, epoch in front if not 0; "" if not installed; None if rpm failed},
    {package: when it was installed, epoch seconds}).
    """
    mark = [_stamp(at(folder + "/" + name)) for folder in RPM_FOLDERS for name in RPM_FILES] + [sorted(names)]
    kept = files.read_json(at(files.CACHE + "/packages.json")) or {}
    if kept.get("mark") == mark and "installed" in kept:
        return kept["packages"], kept["installed"]
    asked, installed = dict.fromkeys(names), {}
    form = "%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} %{INSTALLTIME}\n"
    words = ["/usr/bin/rpm", "-q", "--qf", form, "--"] + sorted(asked)
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "HOME": "/root"})
    said = done.stdout.decode("utf-8", "replace").splitlines()
    for line in said:
        words = line.split()
        if len(words) == 3 and words[0] in asked:
            asked[words[0]] = words[1][2:] if words[1].startswith("0:") else words[1]
            installed[words[0]] = int(words[2]) if words[2].isdigit() else None
        elif line.startswith("package ") and line.endswith(" is not installed") and words[1] in asked:
            asked[words[1]] = ""
    if None not in asked.values():
        with contextlib.suppress(OSError):      # /run is full: rpm is asked each time
            files.folder(at(files.CACHE))
            files.write(at(files.CACHE + "/packages.json"), json.dumps({"mark": mark, "packages": asked, "installed": installed}))
    return asked, installed


def foreign(at):
    """Whoever else converges here now: {"pid", "user", "since", "command"}, or None. Ours is known by its unit."""
    for path in (client.lockfile(at),) + OTHER_LOCKS:
        pid = files.read_text(at(path), 32)
        # The file stays behind after a run, and a daemon stays alive between runs: only the lock itself says that one is on.
        # It is tried only while the process that it names lives, so that a run that is just starting never finds it taken by us.
        if _somebody(at, pid) and _locked(at(path)):
            return process(at, int(pid))
    return None


def _somebody(at, pid):
    """Is this the number of a process that lives and belongs to no run of ours?"""
    place = at("/proc/" + pid)
    return pid.isdigit() and os.path.isdir(place) and "/bgdeploy-" not in files.read_text(place + "/cgroup")


def process(at, pid):
    """:returns: {"pid", "user", "since", "command"} of a process: what is not known is None."""
    import pwd      # seldom needed
    found = {"pid": pid, "user": None, "since": None, "command": None}
    try:
        uid = os.stat(at("/proc/{}".format(pid))).st_uid
        found["user"] = str(uid)
        found["user"] = pwd.getpwuid(uid).pw_name
    except (OSError, KeyError):
        pass
    words = (files.read(at("/proc/{}/cmdline".format(pid)), 4096) or b"").decode("utf-8", "replace").replace("\0", " ").strip()
    found["command"] = words[:LONGEST] or None
    ticks = files.read_text(at("/proc/{}/stat".format(pid))).rpartition(")")[2].split()
    if len(ticks) > 19:
        found["since"] = round(time.time() - time.clock_gettime(runs.BOOTTIME) + int(ticks[19]) / os.sysconf("SC_CLK_TCK"), 1)
    return found


def disk(at, folders):
    """:returns: what a look says of these folders' disks: bytes free for root, inodes free where they are counted, read-only."""
    free, inodes, fixed = {}, {}, []
    for folder in folders:
        try:
            numbers = os.statvfs(at(folder))
        except OSError:
            continue
        free[folder] = numbers.f_bfree * numbers.f_frsize
        if numbers.f_files:
            inodes[folder] = numbers.f_ffree
        if numbers.f_flag & os.ST_RDONLY:
            fixed.append(folder)
    return {"disk": free, "inodes": inodes, "read_only": fixed}


def _daemon(at, shown):
    """Does something here start chef-client by itself: a service, a timer, cron? None: systemd did not answer."""
    units = [shown.get(name, {}) for name in DAEMONS]
    if any(unit.get("UnitFileState", "").startswith("enabled") or unit.get("ActiveState") == "active" for unit in units):
        return True
    for folder in CRON_FOLDERS:
        try:
            names = os.listdir(at(folder))
        except OSError:
            continue
        for name in names:
            if not name.startswith(".") and _calls_chef(files.read_text(at(folder + "/" + name))):
                return True
    if _calls_chef(files.read_text(at("/etc/crontab"))):
        return True
    return False if shown else None


def _calls_chef(table):
    return any("chef-client" in line and not line.lstrip().startswith("#") for line in table.splitlines())


def _holder(at, paths):
    """Who else holds one of dnf's locks (Chef's dnf waits for it). Its files name the process, and outlive a killed one."""
    for path in paths:
        pid = files.read_text(at(path), 32)
        if _somebody(at, pid):
            return process(at, int(pid))
    return None


def _locked(path):
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _stamp(path):
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size, found.st_ino]
