"""inventories/NAME.yml -> site.Site. Reads one file; contacts nothing, changes nothing."""

import os
import re
import stat
from pathlib import Path

from bgdeploy import addresses, schema as _schema, soundness, strict_yaml
from bgdeploy.did_you_mean import hint
from bgdeploy.errors import BadInput
from bgdeploy.model import Closed, Limits, Policy
from bgdeploy.site import (Balancer, Chef, Component, Heartbeat, Host, Node, Repository, SanityCheck, Secret, Site, Ssh, Stack)
from bgdeploy.validation import examine

schema = _schema.schema


def names(base):
    """The inventories there are, sorted: every inventories/NAME.yml whose NAME can be typed after --env."""
    folder = Path(base, "inventories")
    return sorted(p.stem for p in folder.glob("*.yml") if p.is_file() and re.fullmatch(_schema.NAME, p.stem))


def state_folder(base, environ=os.environ):
    """The folder of runs and of the default store: .bgdeploy beside tasks.py, or where BGDEPLOY_STATE points.

    :raises BadInput: what stands there looks like a slip: a new folder would hide the lock and all records.
    """
    said = environ.get("BGDEPLOY_STATE") or ".bgdeploy"
    path = os.path.expanduser(said)
    if said != said.strip() or said.startswith("-") or not said.isprintable() or path.startswith("~"):
        raise BadInput(f'BGDEPLOY_STATE: "{_printable(said)}" is no folder; write its path, or take the variable out')
    return os.path.normpath(os.path.join(Path(base).absolute(), path))


def load(name, base, environ=os.environ):
    """The inventory that --env names.

    :param base: the project's folder; relative paths in the inventory start there.
    :param environ: BGDEPLOY_STATE moves the default store, nothing else is read.
    :raises BadInput: no such inventory, or something in it is wrong; file, line, key and cure are named.
    """
    if not re.fullmatch(_schema.NAME, name or ""):
        raise BadInput(f'"{_printable(name)}" cannot be an inventory\'s name; {hint("", names(base))}')
    state_folder(base, environ)
    path = Path(base, "inventories", f"{name}.yml")
    if not os.path.lexists(path):
        if path.with_suffix(".yaml").exists():
            raise BadInput(f"inventories/{name}.yaml is not read; call it {name}.yml")
        raise BadInput(f"there is no inventories/{name}.yml; {hint(name, names(base))}")
    return read(path, base, environ)


def read(path, base, environ=os.environ):
    """One inventory file as a Site. See `load`."""
    file = _shown(path, base)
    data, problems = _examined(path, file)
    if problems:
        more = len([p for p in problems if not p.late or problems[0].late]) - 1
        raise BadInput(f"{file}:{problems[0]}" + (f" (and {more} more: invoke inventory.check)" if more else ""))
    return _Builder(data, Path(path), Path(base).absolute(), file, environ).site()


def problems(path, base):
    """All that is wrong with one inventory file, as sentences in the file's order; none where it is right.

    Where it cannot even be taken apart, that is the only one; names and numbers are compared once each of them is right.
    """
    file = _shown(path, base)
    try:
        return tuple(f"{file}:{problem}" for problem in _examined(path, file)[1])
    except BadInput as error:
        return (error.sentence,)


def _examined(path, file):
    tree = strict_yaml.parse(_content(path, file), file)
    if not isinstance(tree, strict_yaml.Mapping):
        raise BadInput(f"{file}:1: this is no inventory; it wants keys such as components, stacks and balancers "
                       "(inventories/sample.yml shows all)")
    data, found = examine(tree, schema())
    return data, found or soundness.check(data, tree)


def _printable(text):
    return "".join(c if c.isprintable() else "?" for c in str(text))[:60]


def _shown(path, base):
    try:
        return str(Path(path).absolute().relative_to(Path(base).absolute()))
    except ValueError:
        return str(path)


def _content(path, file):
    """At most one byte more than is allowed, so that a huge file costs nothing; a pipe would wait for ever."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise BadInput(f"{file}:1: not a regular file; write the inventory into one")
        with open(path, "rb") as opened:
            return opened.read(strict_yaml.MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}; correct its permissions or the name") from None


def _settings(part, *names_):
    """Those of the named keys that are there: what is not there keeps the dataclass's default."""
    return {name: part[name] for name in names_ if name in part}


def _pairs(mapping):
    return tuple(mapping.items())


class _Builder:
    """From data that are right to a Site; nothing in here can fail."""

    def __init__(self, data, path, base, file, environ):
        self.data, self.base, self.file, self.environ = data, base, file, environ
        self.stem = path.stem
        self.order = tuple(data.get("order", data["components"]))

    def path(self, text):
        return os.path.normpath(os.path.join(self.base, os.path.expanduser(text))) if text is not None else None

    def secret(self, part, name):
        if f"{name}_file" in part:
            return Secret(file=self.path(part[f"{name}_file"]))
        return Secret(env=part[f"{name}_env"]) if f"{name}_env" in part else None

    def site(self):
        data = self.data
        live, standby = self.balancer("live"), self.balancer("standby")
        return Site(
            name=data.get("name", self.stem), file=self.file, base=str(self.base),
            components=tuple(self.component(name) for name in self.order), stacks=self.stacks(), live=live, standby=standby,
            policy=self.policy(live, standby), repository=self.repository(), chef=self.chef(), ssh=self.ssh(),
            production=data.get("production", False), confirm=data.get("confirm", False), store=self.store(),
            store_password=self.secret(data, "store_password"), lock_host=data.get("lock_host"),
            accept=tuple(data.get("accept", ())), watch_rate=float(data.get("watch", {}).get("rate", Site.watch_rate)),
            database=data.get("database"), database_password=self.secret(data, "database_password"),
            migrations=self.path(data.get("migrations", "migrations")), hooks=self.path(data.get("hooks", "hooks")),
            lab=(data.get("lab") or {}) if data.get("kind") == "lab" else None, versions=_pairs(data.get("versions", {})))

    def component(self, name):
        part = self.data["components"][name]
        checks = tuple(SanityCheck(check["path"], header=_pairs(check.get("header", {})), **_settings(check, "status", "text"))
                       for check in part.get("sanity", ()))
        return Component(name=name, package=part.get("package", name), service=part.get("service", name),
                         recipe=part.get("recipe", name), heartbeat=self.heartbeat(part), sanity=checks,
                         attribute=part.get("attribute", ""), port=part["port"])

    def heartbeat(self, component):
        part = component.get("heartbeat", {})
        detail = part.get("detail", Heartbeat.detail)
        kit = detail != "none"
        plain = _settings(part, "scheme", "path", "via", "host_header", "live", "standby", "ignore_case", "json_key",
                          "flip_method", "flip_path", "flip_body", "user", "version_path", "version_pattern",
                          "timeout", "after_restart")
        plain.setdefault("flip_body", soundness.flip_body(part))
        return Heartbeat(port=part.get("port", component["port"]), detail=detail if kit else None,
                         in_flight=part.get("in_flight", "kit" if kit else "none"), headers=_pairs(part.get("headers", {})),
                         flip_headers=_pairs(part.get("flip_headers", {})), ca_file=self.path(part.get("ca_file")),
                         token=self.secret(part, "token") or (None if "user" in part else self.secret(self.data, "token")),
                         password=self.secret(part, "password"), **plain)

    def stacks(self):
        found = {name: [] for name in self.data["stacks"]}
        for stack, name, part, _ in soundness.hosts(self.data):
            address, port = addresses.split(part.get("address", name))
            port = port or part.get("port") or self.data.get("ssh", {}).get("port", Ssh.port)
            mine = part.get("components", self.order)
            found[stack].append(Host(name, stack, address, port, part.get("user"), tuple(c for c in self.order if c in mine)))
        return tuple(Stack(name, tuple(hosts)) for name, hosts in found.items())

    def balancer(self, name):
        part = self.data["balancers"][name]
        nodes = tuple(Node(node, addresses.split(settings.get("address", node))[0],
                           **_settings(settings, "interval", "fall", "rise", "timeout", "slow_start", "stats"))
                      for node, settings, _ in soundness.members(part["nodes"], ()))
        ports = tuple((c, part.get("ports", {}).get(c, self.data["components"][c]["port"])) for c in self.order)
        return Balancer(name, nodes, ports, ca_file=self.path(part.get("ca_file")),
                        stats_password=self.secret(part, "stats_password"),
                        **_settings(part, "scheme", "host_header", "stats_user"))

    def repository(self):
        part = self.data.get("repository")
        return part and Repository(part["url"], self.path(part.get("directory")), part.get("gpg_name"),
                                   self.path(part.get("gpg_home")))

    def chef(self):
        part = self.data.get("chef", {})
        return Chef(path=self.path(part.get("path", Chef.path)), run_list=tuple(part.get("run_list", ())),
                    **_settings(part, "cookbooks", "limit", "lock_wait", "reserve", "minimal_ohai"))

    def ssh(self):
        part = self.data.get("ssh", {})
        return Ssh(identity=self.path(part.get("identity")), known_hosts=self.path(part.get("known_hosts")),
                   config=self.path(part.get("config")), sudo_password=self.secret(part, "sudo_password"),
                   **_settings(part, "user", "port", "jump", "sudo", "helper", "connect", "keepalive"))

    def store(self):
        typed = self.data.get("store")
        if typed is None:
            return "file:" + os.path.join(state_folder(self.base, self.environ), "store")
        return typed if typed.startswith("mongodb") else "file:" + self.path(typed[len("file:"):])

    def policy(self, live, standby):
        data = self.data
        floor, drain, limits = data.get("floor", {}), data.get("drain", {}), data.get("limits", {})
        slowest = max(node.slow_start for balancer in (live, standby) for node in balancer.nodes)
        chef = self.chef()
        return Policy(
            floor=tuple((c, floor) for c in self.order) if isinstance(floor, int) else _pairs(floor),
            limits=Limits(drain=drain.get("limit", Limits.drain), **_settings(limits, "pool", "host", "sanity"),
                          chef=limits.get("chef", max(Limits.chef, chef.limit + chef.lock_wait + 240))),
            drain_then=drain.get("then", Policy.drain_then), unmeasured=drain.get("wait", Policy.unmeasured),
            gates=tuple(data.get("gates", ())), closed=self.closed(), soak=max(data.get("soak", Policy.soak), slowest),
            detection=max(live.detection, standby.detection), order=self.order,
            **_settings(data, "wave", "canary", "parallel", "max_failed", "on_failure", "gate_expiry", "max_in_flight", "tries"))

    def closed(self):
        """Hours over midnight become two: the rules only know hours within a day."""
        found = []
        for part in self.data.get("closed_hours", ()):
            days = tuple(sorted(_schema.DAYS.index(day) for day in part.get("days", _schema.DAYS)))
            start, end = (int(part[key][:2]) * 60 + int(part[key][3:]) for key in ("from", "to"))
            zone = part.get("zone", Closed.zone)
            if start < end:
                found.append(Closed(days, start, end, zone))
            else:
                found.append(Closed(days, start, 1440, zone))
                found.append(Closed(tuple(sorted((day + 1) % 7 for day in days)), 0, end, zone))
        return tuple(closed for closed in found if closed.start < closed.end)
