"""Does an inventory of the right shape make sense? Names that point at each other, numbers that fit together. Pure.

`check` finds what is wrong, on the data as read; `warnings` what a person should know about a Site that is right.
"""

import re
import zoneinfo
from pathlib import PurePath

from bgdeploy import addresses, versions
from bgdeploy.did_you_mean import hint, nearest
from bgdeploy.errors import BadInput
from bgdeploy.model import Limits
from bgdeploy.site import Chef, Heartbeat, Node
from bgdeploy.validation import Problem, line_of


def hosts(data):
    """Every host as (stack, name, settings, path), whether written as a mapping or as a list of names."""
    return [(stack, *member) for stack, part in data["stacks"].items()
            for member in members(part["hosts"], ("stacks", stack, "hosts"))]


def members(part, path):
    """(name, settings, path) of a mapping of things, or of a list of their names."""
    if isinstance(part, list):
        return [(name, {}, path + (n,)) for n, name in enumerate(part)]
    return [(name, settings or {}, path + (name,)) for name, settings in part.items()]


def check(data, tree):
    """Problems of data that fit the schema, in the file's order."""
    found = [(path, what, cure) for rule in _RULES for path, what, cure in rule(data)]
    return sorted((Problem(line_of(tree, path), path, what, cure) for path, what, cure in found), key=lambda p: p.line)


def _known_components(data):
    """Every component that is named somewhere is there."""
    known = data["components"]
    named = [(("order", n), name) for n, name in enumerate(data.get("order", []))]
    for balancer in ("live", "standby"):
        named += [(("balancers", balancer, "ports", name), name) for name in data["balancers"][balancer].get("ports", {})]
    for _, _, settings, path in hosts(data):
        named += [(path + ("components", n), name) for n, name in enumerate(settings.get("components", []))]
    if isinstance(data.get("floor"), dict):
        named += [(("floor", name), name) for name in data["floor"]]
    named += [(("versions", name), name) for name in data.get("versions", {})]
    for path, name in named:
        if name not in known:
            yield path, f"there is no component {name}", hint(name, known)
    for name, text in data.get("versions", {}).items():
        try:
            versions.check(text)
        except BadInput as error:
            yield ("versions", name), error.sentence, ""
    left_out = [name for name in known if name not in data.get("order", known)]
    if left_out:
        yield ("order",), f"{left_out[0]} is missing", "name every component once"


def _attributes_apart(data):
    """One component's version cannot stand where another's attribute has its branches."""
    paths = {part["attribute"]: name for name, part in data["components"].items() if "attribute" in part}
    for path, name in paths.items():
        above = next((other for other in paths if path.startswith(other + ".")), None)
        if above:
            yield ("components", name, "attribute"), f"{path} lies in {above}, which is the version of {paths[above]}", \
                "name one beside it"


def _used_components(data):
    """Every component runs somewhere."""
    used = {name for _, _, settings, _ in hosts(data) for name in settings.get("components", data["components"])}
    for name in data["components"]:
        if name not in used:
            yield ("components", name), f"no host runs {name}", "give it to a host (stacks.*.hosts.*.components), or take it out"


def _names_apart(data):
    """Names are files, arguments and database keys: once, and not differing in case only."""
    groups = [[(name, ("components", name)) for name in data["components"]],
              [(name, ("stacks", name)) for name in data["stacks"]],
              [(name, path) for _, name, _, path in hosts(data)],
              [(name, path) for _, name, _, path in _nodes(data)]]
    for what, group in zip(("component", "stack", "host", "node"), groups):
        seen = {}
        for name, path in group:
            if name.lower() in seen:
                first, where = seen[name.lower()]
                if what == "node" and where[1] != path[1]:
                    yield path, f"{where[1]} has a node {first} too, and send-state could not tell them apart", \
                        "give each balancer process a name of its own"
                elif first == name:
                    yield path, f"{name} is a host of {where[1]} too", "a host belongs to one stack: delete one"
                else:
                    yield path, f"{name} and {first} differ only in case", f"give the {what}s different names"
            seen.setdefault(name.lower(), (name, path))


def _addresses(data):
    seen = {}
    for stack, name, settings, path in hosts(data):
        where = path + ("address",) if "address" in settings else path
        typed = settings.get("address", name)
        try:
            address, port = addresses.split(typed)
        except ValueError as error:
            yield where, f'"{typed}" {error}', "write a host name or an IP address"
            continue
        if port and settings.get("port", port) != port:
            yield path + ("port",), f"the address says port {port}, this key {settings['port']}", "keep one of the two"
        port = port or settings.get("port") or data.get("ssh", {}).get("port", 22)
        if (address.lower(), port) in seen:
            yield where, f"{seen[address.lower(), port]} has the address {address} port {port} too", "correct one of the two"
        seen.setdefault((address.lower(), port), name)


def _nodes(data):
    return [(balancer, *member) for balancer in ("live", "standby")
            for member in members(data["balancers"][balancer]["nodes"], ("balancers", balancer, "nodes"))]


def _balancers(data):
    seen = {}
    for balancer, name, settings, path in _nodes(data):
        where = path + ("address",) if "address" in settings else path
        typed = settings.get("address", name)
        try:
            address, port = addresses.split(typed)
        except ValueError as error:
            yield where, f'"{typed}" {error}', "write a host name or an IP address"
            continue
        if port:
            yield where, f"the port {port} does not belong here", f"write it per component: balancers.{balancer}.ports"
        for component, settings_of in data["components"].items():
            front = data["balancers"][balancer].get("ports", {}).get(component, settings_of["port"])
            taken = seen.setdefault((address.lower(), front), (balancer, name, component))
            if taken != (balancer, name, component):
                yield where, f"{component} at {address} port {front} is where {taken[0]} node {taken[1]} has {taken[2]}", \
                    "every frontend has an address and port of its own"
        detection = Node(name, address, **{k: v for k, v in settings.items() if k in _TIMING}).detection
        limit = data.get("limits", {}).get("pool", Limits.pool)
        if limit <= detection:
            where = ("limits", "pool") if "pool" in data.get("limits", {}) else path
            yield where, f"node {name} needs up to {detection:g} s to notice a flip, and limits.pool is {limit:g} s", \
                f"set limits.pool to more than {detection:g}, or correct the node's interval, fall, rise and timeout"


_TIMING = ("interval", "fall", "rise", "timeout")


def _times(data):
    chef = {"limit": Chef.limit, "lock_wait": Chef.lock_wait, **data.get("chef", {})}
    longest = chef["limit"] + chef["lock_wait"]
    limit = data.get("limits", {}).get("chef")
    if limit is not None and limit < longest:
        yield ("limits", "chef"), \
            f"{limit:g} s is less than a Chef run may take: chef.limit and chef.lock_wait are {longest:g} s", \
            f"set it to {longest:g} or more, or lower chef.limit"
    for n, closed in enumerate(data.get("closed_hours", [])):
        path = ("closed_hours", n)
        if closed["from"] == closed["to"]:
            yield path + ("to",), "begins and ends at the same time", 'the whole day is from "00:00" to "24:00"'
        zone = closed.get("zone", "UTC")
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            close = nearest(zone, zoneinfo.available_timezones(), cutoff=0.8)
            yield path + ("zone",), f'"{zone}" is not a time zone', \
                f"did you mean {close}?" if close else "write one such as Europe/Berlin"


def _floor(data):
    """A floor that can never be kept would refuse every deployment, after the first look at the data centre."""
    floor = data.get("floor")
    if floor is None:
        return
    wave = data.get("wave", "stack")
    for component in data["components"]:
        wanted = floor.get(component) if isinstance(floor, dict) else floor
        own = {stack: 0 for stack in data["stacks"]}
        for stack, _, settings, _ in hosts(data):
            own[stack] += component in settings.get("components", data["components"])
        for stack, count in own.items():
            size = len(data["stacks"][stack]["hosts"])
            left = sum(own.values()) - min(count, _wave(wave, size))
            if wanted is not None and count and wanted > left:
                yield ("floor", component) if isinstance(floor, dict) else ("floor",), \
                    f"{wanted} instances of {component} can never be kept: with a wave of {stack} out there are {left}", \
                    f"lower it to {left} or less" + (", or set wave: 1" if wave == "stack" and size > 1 else "")
                break


def _wave(wave, size):
    if wave == "stack":
        return size
    return wave if isinstance(wave, int) else max(1, size * int(wave.rstrip("%")) // 100)


def _store(data):
    store, host = data.get("store", "file:"), data.get("lock_host")
    names = [name for _, name, _, _ in hosts(data)]
    if host and host not in names:
        yield ("lock_host",), f"there is no host {host}", hint(host, names)
    if data.get("production") and not host and not store.startswith("mongodb"):
        yield ("production",), "a file store locks out drivers on this machine only", \
            "name a lock_host, or a store: mongodb://... that every driver reaches"
    for key in ("store", "database"):
        if re.match(r"mongodb(\+srv)?://[^@?]*:[^@?]*@", data.get(key, "")):
            yield (key,), "holds a password", f"take it out and name {key}_password_file or {key}_password_env"
    for secret in ("store_password_file", "store_password_env"):
        if secret in data and not store.startswith("mongodb"):
            yield (secret,), "a file store has no password", "take it out"


def _secrets(data):
    """Each credential by one reference, with the user it belongs to."""
    places = [((), data, name) for name in ("token", "store_password", "database_password")]
    places.append((("ssh",), data.get("ssh", {}), "sudo_password"))
    for component, settings in data["components"].items():
        beat = settings.get("heartbeat", {})
        places += [(("components", component, "heartbeat"), beat, name) for name in ("token", "password")]
    places += [(("balancers", name), part, "stats_password") for name, part in data["balancers"].items()]
    for path, part, name in places:
        if f"{name}_file" in part and f"{name}_env" in part:
            yield path + (f"{name}_env",), f"{name}_file is there too", "keep one of the two"
    ssh = data.get("ssh", {})
    for key in ("sudo_password_file", "sudo_password_env"):
        if key in ssh and ssh.get("sudo") != "password":
            yield ("ssh", key), "is only used with sudo: password", "add that, or take it out"


def _heartbeats(data):
    for component, settings in data["components"].items():
        beat, path = settings.get("heartbeat", {}), ("components", component, "heartbeat")
        live, standby = beat.get("live", Heartbeat.live), beat.get("standby", Heartbeat.standby)
        if live == standby or beat.get("ignore_case") and live.lower() == standby.lower():
            yield path + ("standby",), f'live and standby are the same word "{live}"', "write what the application really answers"
        elif "standby" == live.lower() or "live" == standby.lower():     # read so, what is to leave LIVE would go live
            key, said = ("live", live) if live.lower() == "standby" else ("standby", standby)
            yield path + (key,), f'the word for {key} is "{said}", as if live and standby were swapped', \
                "write each word behind the key that says what it means"
        if "{word}" not in flip_body(beat) + beat.get("flip_path", ""):
            yield path + ("flip_body",), "neither flip_body nor flip_path holds {word}", \
                "put {word} where live or standby belongs"
        for key in ("headers", "flip_headers"):
            for name in beat.get(key, {}):
                if name.lower() in ("authorization", "cookie", "proxy-authorization"):
                    yield path + (key,), f"{name} is a credential, which does not belong into the inventory", \
                        "use token_file, token_env, or user with password_file"
                elif name.lower() in _FRAMING:
                    yield path + (key, name), "is not for an inventory to say: bgdeploy sends it as the request needs it", \
                        "use host_header" if name.lower() == "host" else "take it out"
        yield from _pair(beat, path, "user", "password")
        if "ca_file" in beat and beat.get("scheme") != "https":
            yield path + ("ca_file",), "is only used with scheme: https", "add that, or take it out"
        if beat.get("in_flight") == "kit" and beat.get("detail") == "none":
            yield path + ("in_flight",), "kit needs the detail view, and detail is none", "write balancer, connections or none"
        if "version_path" in beat and "version_pattern" not in beat:
            yield path + ("version_path",), "has no version_pattern", 'add one such as "version: (\\S+)"'
        try:
            groups = re.compile(beat.get("version_pattern", "()")).groups
        except (re.error, RecursionError, OverflowError) as error:
            yield path + ("version_pattern",), f"is not a regular expression: {error}", "correct it"
        else:
            if groups != 1:
                yield path + ("version_pattern",), f"has {groups} groups", \
                    "one pair of brackets marks the version; write others as (?:...)"


# what makes a request whole, or names whom it is for; a second one beside ours would be read in two ways (RFC 9112 6.3)
_FRAMING = ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "expect", "upgrade", "te", "trailer",
            "accept-encoding")


def flip_body(beat):
    """The body of a flip, as written or by default: none with methods for which servers expect none (RFC 9110 9.3.1, 9.3.5)."""
    return beat.get("flip_body", "" if beat.get("flip_method") in ("GET", "DELETE") else Heartbeat.flip_body)


def _statistics(data):
    for name, part in data["balancers"].items():
        path = ("balancers", name)
        yield from _pair(part, path, "stats_user", "stats_password")
        pages = [settings.get("stats", "") for _, settings, _ in members(part["nodes"], ())]
        if "stats_user" in part and not any(pages):
            yield path + ("stats_user",), "no node has a statistics page", "add stats: URL to the nodes, or take it out"
        if "ca_file" in part and part.get("scheme") != "https" and not any(url.startswith("https:") for url in pages):
            yield path + ("ca_file",), "is only used with scheme: https, or a stats: https://... page", "add one, or take it out"


def _pair(part, path, user, password):
    """A user's name and a reference to the password: both or none."""
    found = next((key for key in (f"{password}_file", f"{password}_env") if key in part), None)
    if (user in part) != bool(found):
        yield path + (found or user,), "user and password go together", \
            f"add the other: {user}, and {password}_file or {password}_env"


def _lab(data):
    if "lab" in data and data.get("kind") != "lab":
        yield ("lab",), "is only for kind: lab", "add kind: lab, or take it out"


_RULES = (_known_components, _attributes_apart, _used_components, _names_apart, _addresses, _balancers, _times, _floor, _store,
          _secrets, _heartbeats, _statistics, _lab)


def warnings(site):
    """What is legal, and what a person should know: a tuple of sentences."""
    said = []
    if site.name != PurePath(site.file).stem:
        said.append(f"{site.file}: locks and reports call this {site.name}; two inventories with one name would share them")
    if len(site.stacks) == 1:
        said.append(f"{site.file}: there is one stack, {site.stacks[0].name}: nothing else can serve while it is out")
    for component in site.components:
        stacks = [s.name for s in site.stacks if any(component.name in h.components for h in s.hosts)]
        if len(stacks) == 1 and len(site.stacks) > 1:
            said.append(f"{site.file}: only {stacks[0]} runs {component.name}: nothing else can serve it while that stack is out")
        if dict(site.policy.floor).get(component.name) == 0:
            said.append(f"{site.file}: floor 0 for {component.name}: an act may leave nothing serving")
        if component.heartbeat.via == "direct":
            said += _shared_addresses(site, component)
    found = ((name, versions.misleading(text)) for name, text in site.versions)
    said += [f"{site.file}: versions.{name}: {sentence}" for name, sentence in found if sentence]
    return tuple(said)


def _shared_addresses(site, component):
    seen = {}
    for host in site.hosts:
        if component.name not in host.components:
            continue
        if host.address in seen:
            yield (f"{site.file}: {seen[host.address]} and {host.name} share the address {host.address}: {component.name}'s "
                   f"heartbeat at port {component.heartbeat.port} is one and the same for both; set via: ssh for it")
        seen.setdefault(host.address, host.name)
