"""Chef on a host, through its one root command bgdeploy-host: look, start a detached converge, stop it, read its output.

What a run came to is translated here, so that no rule ever sees an exit code. The helper's JSON: docs/host-helper.md.
Facts about Chef's codes and traps: measured with 18.11.11.
"""

import base64
import binascii
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import time
from dataclasses import dataclass, field

from bgdeploy.clean import clean, line
from bgdeploy.errors import BadInput, NoAnswer, Refused, Trouble
from bgdeploy.model import Job, Release, Result

TAIL_LINES, TAIL = 40, 4000
OUTPUT_CAP = 1 << 20
# Never part of what a host converges, so a change there must not look like another release.
_LEFT_OUT = ("spec", "test", "documentation", "docs")
# States of bgdeploy-host that the rules know under another name. killed and timeout: it did something and nobody knows how much.
_STATES = {"killed": "lost", "timeout": "lost", "licence": "config"}
_KNOWN = ("running", "ok", "failed", "locked", "reboot", "again", "config", "lost")
_RUN = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,119}", re.ASCII)     # a part of it becomes a file's name here
_LICENCE = "accept it on the host: chef_license 'accept' in /etc/chef/client.rb"


@dataclass(frozen=True)
class HostFacts:
    """What one look at a host over SSH found. None is unknown.

    :param services: {component: (active, start)}: systemd's ActiveState or "missing", and the InvocationID.
    :param packages: {component: "VERSION-RELEASE" | "" not installed | None}.
    :param older: components whose process began before their package was installed.
    :param daemon: does something start chef-client here by itself? :param disk: {folder: free bytes}; inodes alike.
    :param proxies: settings of client.rb that send Chef's and dnf's traffic elsewhere; no_proxy: its exceptions.
    :param reserved: other Chef runs wait here for a deployment: {"run", "left": seconds, "held"}.
    :param report: what our Chef handler wrote of the newest run, or None. :param noise: what the login shell printed by itself.
    """

    boot: str = None
    job: Job = None
    services: dict = field(default_factory=dict)
    packages: dict = field(default_factory=dict)
    older: tuple = ()
    daemon: bool = None
    licence: bool = None
    disk: dict = field(default_factory=dict)
    inodes: dict = field(default_factory=dict)
    read_only: tuple = ()
    proxies: tuple = ()
    no_proxy: str = None
    chef_server: str = None
    package_lock: dict = None
    server_only: bool = None
    reserved: dict = None
    report: dict = None
    exit: int = None
    out_size: int = None
    now: float = None
    noise: str = ""


def look(shell, site, host, *, tail=None, limit=15.0):
    """See what is on a host: services, packages, the newest converge, whoever else converges. Changes nothing.

    :param tail: a run id whose last lines are wanted though all is well. :param limit: seconds, connecting included.
    :raises NoAnswer, Refused: as Shell.sudo; also an answer that is none.
    """
    answer, said = _ask(shell, site, host, look_argv(site, host, tail), limit=limit)
    return facts(said, noise=clean(answer.noise, 500))


def look_argv(site, host, tail=None):
    components = ",".join(_triple(site.component(name)) for name in host.components)
    return ["look", "--components", components, *(["--tail", tail] if tail else [])]


def facts(said, noise=""):
    """The helper's document -> HostFacts. Pure; whatever is missing or of another kind is unknown."""
    job, foreign, boot = _dict(said.get("job")), _dict(said.get("foreign")), _text(said.get("boot"))
    services = {name: (_text(s.get("active")), _text(s.get("start")))
                for name, s in _dict(said.get("services")).items() if isinstance(s, dict)}
    packages = {name: version if isinstance(version, str) and re.fullmatch(r"[!-~]{0,200}", version) else None
                for name, version in _dict(said.get("packages")).items()}
    return HostFacts(
        boot=boot, services=services, packages=packages,
        job=_foreign(foreign) if foreign else _job(job, boot, said.get("package_lock")) if job else None,
        daemon=_flag(said.get("daemon")), licence=_flag(said.get("licence")),
        disk=_dict(said.get("disk")), inodes=_dict(said.get("inodes")),
        read_only=_texts(said.get("read_only")), older=_texts(said.get("older")), proxies=_texts(said.get("proxies")),
        no_proxy=_text(said.get("no_proxy")),
        chef_server=_text(said.get("chef_server")),
        package_lock=said.get("package_lock"),
        server_only=_flag(said.get("server_only")), reserved=_dict(said.get("reserved")) or None, exit=job.get("exit"),
        report=job.get("report") if isinstance(job.get("report"), dict) else None,
        out_size=job.get("out_size"), now=said.get("now"), noise=noise)


def start(shell, site, host, run, release, restart=(), limit=60.0):
    """Start a converge that goes on by itself, whatever becomes of the connection. Started twice with one run id, it runs once.

    :param run: the run's id (it names the transient unit). :param release: model.Release.
    :param restart: components whose service Chef is to restart although nothing changed.
    :returns: Result: ok (it runs, or it did before), failed (refused: nothing was started), unknown (the answer was lost).
    """
    return _act(shell, site, host, start_argv(site, host, run, release, restart), limit,
                lambda said: (f"already started, {said.get('state')}" if said.get("already") else "started")
                + ("; other Chef runs there wait until it is live" if said.get("reserved") else ""))


def start_argv(site, host, run, release, restart=()):
    """The helper's arguments for a converge of this host: its own components only, in the inventory's order. Pure."""
    versions = [(name, release.version(name)) for name in host.components if release.version(name)]
    argv = ["start", "--run", run, "--release", release.id, "--limit", str(int(site.chef.limit)),
            "--versions", ",".join(f"{name}={version}" for name, version in versions),
            "--mode", site.chef.cookbooks, "--lock-wait", str(int(site.chef.lock_wait))]
    if site.chef.cookbooks == "local":
        recipes = site.chef.run_list or tuple(site.component(name).recipe for name in host.components)
        argv += ["--recipes", ",".join(recipes)]
        argv += ["--cookbooks", release.cookbooks] if release.cookbooks else []
    else:
        paths = [f"{name}={site.component(name).attribute}" for name, _ in versions if site.component(name).attribute]
        argv += ["--attributes", ",".join(paths)] if paths else []
        argv += ["--reserve", str(max(1, int(site.chef.reserve)))] if site.chef.reserve else []
    if site.chef.minimal_ohai:
        argv.append("--minimal-ohai")
    again = [name for name, _ in versions if name in restart]
    return argv + (["--restart", ",".join(again)] if again else [])


def why_run(shell, site, host, versions=(), limit=180.0):
    """Let Chef say what it would do on a host, and change nothing: its words for a person; no rule reads them.

    :param versions: pairs (component, full version); what is not named stays as it is installed. Cookbooks: as they are now.
    :returns: text, cleaned and capped. :raises Refused: a run goes on, or nothing is installed and no version was named.
    """
    cookbooks, content = revision(os.path.join(site.base, site.chef.path)) if site.chef.cookbooks == "local" else ("", b"")
    there = {name: version for name, version in look(shell, site, host).packages.items() if version}
    release = Release(tuple(sorted({**there, **dict(versions)}.items())), cookbooks)
    if not any(release.version(name) for name in host.components):
        raise Refused(f"{host.name}: nothing is installed, so there is no version to rehearse: name one with --version")
    if content:
        sent = send_cookbooks(shell, site, host, cookbooks, content)
        if sent.outcome != "ok":
            raise NoAnswer(sent.detail) if sent.outcome == "unknown" else Refused(sent.detail)
    argv = start_argv(site, host, "why-run", release)
    dropped = {"--run", "--release", "--limit", "--lock-wait", "--reserve"}
    kept = [word for at, word in enumerate(argv) if word not in dropped and (at == 0 or argv[at - 1] not in dropped)]
    _, said = _ask(shell, site, host, ["why-run", *kept[1:], "--limit", str(int(limit) - 20)], limit=limit)
    return f"{host.name}: {line(said.get('why'), 800)}\n" + clean(said.get("output") or "", 1 << 16)


def reserve(shell, site, host, run, limit=30.0):
    """Keep other Chef runs on a host off for longer: `chef.reserve` seconds from now (`start` does it the first time)."""
    argv = ["reserve", "--run", run, "--for", str(max(1, int(site.chef.reserve)))]
    return _act(shell, site, host, argv, limit, lambda said: "")


def release(shell, site, host, limit=10.0):
    """Let other Chef runs on a host go on. :returns: Result; ok also where none was kept off: evidence["released"] tells."""
    return _act(shell, site, host, ["release"], limit, lambda said: "")


def stop(shell, site, host, run, limit=60.0):
    """End a converge: SIGINT, which Chef obeys within seconds, then systemd's stop. Result as for `start`."""
    return _act(shell, site, host, ["stop", "--run", run], limit, lambda said: f"it is {said.get('state')}")


def park(shell, site, host, component, limit=30.0):
    """Set the stored heartbeat of a component that does not run to standby, so that it cannot come up live.

    :param component: site.Component or its name. :returns: Result; ok also where nothing is stored yet.
    """
    component = site.component(component) if isinstance(component, str) else component
    argv = ["park", "--component", component.name]
    argv += ["--service", component.service] if component.service != component.name else []
    return _act(shell, site, host, argv, limit, lambda said: "parked in standby" if said.get("parked") else line(said.get("why")))


def send_cookbooks(shell, site, host, revision, tar_bytes, limit=120.0):
    """Bring the cookbooks to a host, only if it does not have this revision. They appear there whole or not at all.

    :param revision, tar_bytes: from `revision()`. :returns: Result; sending the same twice does no harm.
    """
    began = time.monotonic()
    asked = _act(shell, site, host, ["cookbooks", "--hash", revision, "--have"], limit, lambda said: "")
    if asked.outcome != "ok" or asked.evidence.get("have") is True:
        return asked
    left = max(1.0, limit - (time.monotonic() - began))
    return _act(shell, site, host, ["cookbooks", "--hash", revision], left, lambda said: f"{len(tar_bytes)} bytes sent",
                stdin=tar_bytes)


def output(shell, site, host, run, offset=0, cap=OUTPUT_CAP, limit=30.0):
    """A piece of a run's output as it is.

    :returns: (bytes, next offset, size of it all by now); b"" when there is no more yet.
    :raises NoAnswer, Refused: as Shell.sudo, or no such run.
    """
    argv = ["output", "--run", run, "--from", str(int(offset)), "--cap", str(int(cap))]
    _, said = _ask(shell, site, host, argv, limit=limit, cap=2 * cap + 65536)
    try:
        piece = base64.b64decode(said.get("data") or "", validate=True)
    except (binascii.Error, ValueError):
        raise NoAnswer(f"{host.name}: bgdeploy-host output answered something that is not base64") from None
    size = said.get("size")
    return piece, int(offset) + len(piece), size if isinstance(size, int) else int(offset) + len(piece)


def revision(path):
    """The cookbooks in a folder as one archive, and the name of exactly this content.

    The same content gives the same bytes: sorted, no times, no owners, two file modes. Left out: what begins with a dot, and
    spec, test and documentation of a cookbook.

    :returns: (16 hex digits, bytes of a tar.gz). :raises BadInput: no cookbooks there, or a link that leads nowhere.
    """
    files = sorted(_files(path))
    if not files:
        raise BadInput(f"there are no cookbooks in {path}: correct chef.path in the inventory")
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in files:
            source = os.path.join(path, name)
            try:
                with open(source, "rb") as stream:
                    content = stream.read()
                mode = os.stat(source).st_mode
            except OSError as error:
                raise BadInput(f"cookbook file {source} cannot be read: {error.strerror}") from None
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if mode & 0o100 else 0o644
            archive.addfile(member, io.BytesIO(content))
    content = plain.getvalue()
    return hashlib.sha256(content).hexdigest()[:16], gzip.compress(content, 6, mtime=0)


def _files(path):
    for folder, folders, names in os.walk(path):
        within = os.path.relpath(folder, path)
        depth = 0 if within == "." else within.count(os.sep) + 1
        folders[:] = [name for name in folders if not name.startswith(".") and not (depth == 1 and name in _LEFT_OUT)]
        linked = next((name for name in folders if os.path.islink(os.path.join(folder, name))), None)
        if linked:
            raise BadInput(f"{os.path.join(folder, linked)} is a link to a folder: put the cookbook itself there")
        yield from (os.path.normpath(os.path.join(within, name)) for name in names
                    if depth and not name.startswith(".") and not name.endswith(("~", ".swp", ".orig", ".rej")))


def _ask(shell, site, host, argv, *, limit, cap=1 << 20, stdin=None):
    """(Answer, document) of the helper.

    :raises Refused: it, sudo or sshd said no: nothing was done. :raises NoAnswer: nobody knows.
    """
    answer = shell.sudo(host, [site.ssh.helper, *argv], stdin=stdin, limit=limit, cap=cap)
    _, found, rest = answer.out.partition(b"--bgdeploy--\n")
    text, ended, _ = rest.partition(b"\n--end--")
    try:
        said = json.loads(text.decode("utf-8", "replace")) if found and ended else None
    except ValueError:
        said = None
    if isinstance(said, dict) and answer.exit == 0:
        return answer, said
    if isinstance(said, dict) and answer.exit in (2, 3):
        why = line(said.get("refused") or said.get("error"))
        cure = " (is the RPM bgdeploy-host there of another version?)" if answer.exit == 2 else ""
        raise Refused(f"{host.name}: bgdeploy-host {argv[0]} refuses: {why}{cure}")
    if answer.exit in (126, 127) and not answer.out:
        raise Refused(f"{host.name}: {site.ssh.helper} cannot be run ({line(answer.err, 200)}): install the RPM bgdeploy-host "
                      "there")
    raise NoAnswer(f"{host.name}: bgdeploy-host {argv[0]} ended with {answer.exit} and no answer: "
                   f"{line(answer.err or answer.out, 300) or 'it said nothing'}")


def _act(shell, site, host, argv, limit, detail, stdin=None):
    """An act's Result: a refusal is failed (nothing was done), no answer is unknown (only another look can tell)."""
    began = time.monotonic()
    try:
        _, said = _ask(shell, site, host, argv, limit=limit, stdin=stdin)
    except NoAnswer as trouble:
        return Result(host.name, "unknown", trouble.sentence, time.monotonic() - began, {})
    except Trouble as trouble:
        return Result(host.name, "failed", trouble.sentence, time.monotonic() - began, {})
    return Result(host.name, "ok", detail(said), time.monotonic() - began, said)


def package_lock(held):
    """Who else holds dnf's lock, in words; "" for nobody."""
    return f"dnf's lock is held by {_who(held)}: {line(held.get('command'), 200)}" if _dict(held) else ""


def _job(job, boot, locked=None):
    word = _text(job.get("state"))
    state = _STATES.get(word, word)
    if state == "reboot" and boot and job.get("boot") not in (None, boot):
        state = "again"         # the reboot that it asked for is over: what is left to do needs another run
    if state not in _KNOWN:
        state = "lost"
    why = line(job.get("why"), 800)
    if word == "licence":
        why = f"{why or 'the Chef licence is not accepted'}: {_LICENCE}"
    tail = clean(job.get("tail") or "", TAIL, TAIL_LINES)
    if state == "running":
        why = package_lock(locked)
    elif state == "ok" and not _dict(_dict(job.get("report")).get("outranked")):
        why = _updated(_dict(job.get("report")))
    shown = "\n".join(part for part in (why, tail) if part)
    run = job.get("run")
    return Job("chef", run if isinstance(run, str) and _RUN.fullmatch(run) else "?", _text(job.get("release")), state, shown,
               _seconds(job.get("seconds")))


def _updated(report):
    """What a run that ended well updated, in one line: each resource with its place and seconds; "" where nothing is told."""
    found = report.get("updated")
    found = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    count = report.get("updated_count") if type(report.get("updated_count")) is int else len(found)
    told = [f"{one.get('resource')} ({place}{_seconds(one.get('seconds')) or 0:.1f} s)" for one in found
            for place in [f"{one.get('line') or one.get('cookbook') or ''}, ".lstrip(", ")]]
    return line(f"{count} updated: {', '.join(told)}", 800) if found else ""


def _foreign(foreign):
    """Somebody else's converge holds Chef's lock: who, since when, what; it counts as running until it lets go."""
    return Job("foreign", _who(foreign), None, "running", line(foreign.get("command"), 300))


def _who(process):
    since = _seconds(process.get("since"))
    began = time.strftime(" since %H:%M:%S UTC", time.gmtime(since)) if since is not None else ""
    return f"pid {line(process.get('pid'), 20)} of {line(process.get('user'), 60) or 'somebody'}{began}"


def _triple(component):
    same = component.package == component.service == component.name
    return component.name if same else f"{component.name}:{component.package}:{component.service}"


def _dict(value):
    return value if isinstance(value, dict) else {}


def _text(value):
    return clean(value, 2000) if isinstance(value, str) and value else None


def _texts(value):
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _seconds(value):
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e11 else None


def _flag(value):
    return value if isinstance(value, bool) else None
