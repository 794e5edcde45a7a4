"""The inventory's shape as JSON Schema (draft 7): keys, kinds of value, limits, defaults. Data only.

`description` says what a value must look like; the loader's sentences are made from it. Defaults come from the
dataclasses, so that they stand in one place. `format: version` marks text that YAML would damage without quotes.
"""

from bgdeploy.model import Limits, Policy
from bgdeploy.site import Balancer, Chef, Heartbeat, Node, SanityCheck, Ssh

_A_NAME = "a name of letters, digits, '.', '_' and '-' that begins with a letter or digit"
NAME = r"^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 86400


def _keep(schema, default):
    return schema if default is None else {**schema, "default": default}


def _text(description, pattern=r"^.+$", default=None, **more):
    return _keep({"type": "string", "pattern": pattern, "maxLength": 1000, "description": description, **more}, default)


def _whole(description, low=0, high=10 ** 6, default=None):
    return _keep({"type": "integer", "minimum": low, "maximum": high, "description": description}, default)


def _seconds(default=None, low=0.0, high=7 * _DAY):
    low = {"minimum": 0} if low == 0 else {"exclusiveMinimum": 0}
    return _keep({"type": "number", **low, "maximum": high, "description": "a number of seconds"}, default)


def _choice(*words, default=None):
    return _keep({"type": "string", "enum": list(words), "description": "one of " + ", ".join(words)}, default)


def _flag(default=False):
    return {"type": "boolean", "default": default, "description": "true or false"}


def _port(default=None):
    return _whole("a port, 1 to 65535", 1, 65535, default)


def _path(description="a file's path", default=None):
    return _text(description, r"^[^-].*$", default)


def _http_path(default=None):
    return _text("a path that begins with / and has no spaces", r"^/[!-~]*$", default)


def _object(properties, required=(), **more):
    return {"type": "object", "properties": properties, "additionalProperties": False, "required": list(required),
            "description": "a mapping of " + ", ".join(list(properties)[:4]) + (" ..." if len(properties) > 4 else ""), **more}


def _named(each, what, least=1):
    """A mapping from names to things."""
    return {"type": "object", "minProperties": least, "additionalProperties": each, "description": f"a mapping of {what}",
            "propertyNames": {"pattern": NAME, "description": _A_NAME}}


def _names(what, least=1):
    return {"type": "array", "items": _text(_A_NAME, NAME), "minItems": least, "uniqueItems": True,
            "description": f"a list of {what}"}


def _either(description, *schemas, default=None):
    return _keep({"anyOf": list(schemas), "description": description}, default)


def _empty_too(schema):
    """`green-1:` with nothing behind it is a host with all defaults."""
    return {**schema, "type": ["object", "null"]}


def _secret(name):
    """writeOnly: what somebody typed there by mistake is not repeated in a sentence."""
    variable = _text("an environment variable's name", r"^[A-Za-z_][A-Za-z0-9_]*$", writeOnly=True)
    return {f"{name}_file": _path(), f"{name}_env": variable}


_HEADERS = {"type": "object", "description": "a mapping of header names to text",
            "additionalProperties": _text("one line of text"),
            "propertyNames": {"pattern": r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", "description": "a header's name"}}
_ADDRESS = _text("a host name or an IP address", r"^[A-Za-z0-9_:\[][^\s,/@]*$")
_HOST_NAME = _text("a host name", r"^[A-Za-z0-9_.-]+(:[0-9]+)?$")
_USER = _text("a user's name", r"^[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?$")
_JUMP = r"([A-Za-z0-9_][^\s,:]*@)?[A-Za-z0-9_\[][^\s,@]*"
_SCHEME = _choice("http", "https", default="http")
_URL = _text("an http:// or https:// address without a password", r"^https?://[^\s/@][^\s@]*$")
_RECIPE = _text("a recipe such as web or web::default",
                r"^(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(::[A-Za-z0-9_][A-Za-z0-9_-]{0,99})?$")
_MONGODB = r"mongodb(\+srv)?://[!-~]+"


def _heartbeat():
    h = Heartbeat
    return _object({
        "scheme": _SCHEME, "port": _port(), "path": _http_path(h.path),
        "detail": _text("a path that begins with /, or none", r"^(none|/[!-~]*)$", h.detail),
        "via": _choice("direct", "ssh", default=h.via), "host_header": _HOST_NAME, "headers": _HEADERS,
        "live": _text("the word for live", r"^\S(.*\S)?$", h.live),
        "standby": _text("the word for standby", r"^\S(.*\S)?$", h.standby),
        "ignore_case": _flag(h.ignore_case), "json_key": _text("a key, with dots into nested objects", r"^\S+$"),
        "flip_method": _choice("PUT", "POST", "PATCH", "GET", "DELETE", default=h.flip_method),
        "flip_path": _http_path(), "flip_body": {**_text("text with {word}", r"^.*$"), "default": h.flip_body},
        "flip_headers": _HEADERS, **_secret("token"),
        "user": _text("a user's name", r"^[^\s:]+$"), **_secret("password"), "ca_file": _path(),
        "version_path": _http_path(), "version_pattern": _text("a regular expression with one group"),
        "in_flight": _choice("kit", "balancer", "connections", "none", default=h.in_flight),
        "timeout": _seconds(h.timeout, low=1, high=60), "after_restart": _choice("keep", "standby", "live")})


def _component():
    check = _object({"path": _http_path(), "status": _whole("an HTTP status, 100 to 599", 100, 599, SanityCheck.status),
                     "text": _text("text that the answer holds"), "header": _HEADERS}, ["path"])
    return _object({
        "port": _port(), "package": _text("a package's name", r"^(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}$"),
        "service": _text("a systemd service's name without .service",
                         r"^(?!.*\.service$)(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9:._@\\-]{0,99}$"),
        "recipe": _RECIPE,
        "attribute": _text("an attribute path of at most 8 names, such as shop.web.version, outside of bgdeploy",
                           r"^(?!bgdeploy(\.|$))[A-Za-z0-9_][A-Za-z0-9_-]{0,63}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,63}){0,7}$"),
        "heartbeat": _heartbeat(),
        "sanity": {"type": "array", "items": check, "description": "a list of checks"}}, ["port"])


def _stacks():
    host = _object({"address": _ADDRESS, "port": _port(), "user": _USER, "components": _names("components")})
    hosts = _either("a mapping of hosts, or a list of names", _named(_empty_too(host), "hosts"), _names("host names"))
    return _named(_object({"hosts": hosts}, ["hosts"]), "stacks")


def _balancer():
    n = Node
    node = _object({"address": _ADDRESS, "interval": _seconds(n.interval, low=1),
                    "fall": _whole("a whole number from 1", 1, 100, n.fall),
                    "rise": _whole("a whole number from 1", 1, 100, n.rise), "timeout": _seconds(n.timeout),
                    "slow_start": _seconds(n.slow_start), "stats": _URL})
    nodes = _either("a mapping of nodes, or a list of names", _named(_empty_too(node), "nodes"), _names("node names"))
    ports = {"type": "object", "additionalProperties": _port(), "description": "a mapping of components to ports"}
    return _object({"nodes": nodes, "ports": ports, "scheme": {**_SCHEME, "default": Balancer.scheme},
                    "host_header": _HOST_NAME, "ca_file": _path(),
                    "stats_user": _text("a user's name", r"^[^\s:]+$"), **_secret("stats_password")}, ["nodes"])


def _ssh():
    s = Ssh
    return _object({
        "user": _USER, "port": _port(s.port), "identity": _path(), "known_hosts": _path(), "config": _path(),
        "jump": _text("jump hosts as [user@]host[:port], with commas between them",
                      rf"^{_JUMP}(,{_JUMP})*$"),
        "sudo": _choice("nopasswd", "password", "none", default=s.sudo), **_secret("sudo_password"),
        "helper": _text("an absolute path", r"^/[!-~]+$", s.helper),
        "connect": _seconds(s.connect, low=1, high=600),
        "keepalive": _whole("a whole number of seconds from 1", 1, 3600, int(s.keepalive))})


def _policy():
    p, limits = Policy, Limits
    count = _whole("a whole number from 0")
    closed = _object({
        "days": {"type": "array", "items": _choice(*DAYS), "minItems": 1, "uniqueItems": True, "default": list(DAYS),
                 "description": "a list of days"},
        "from": _text("a time such as 08:00", r"^([01][0-9]|2[0-3]):[0-5][0-9]$"),
        "to": _text("a time such as 18:00", r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"),
        "zone": _text("a time zone such as Europe/Berlin", r"^[A-Za-z][A-Za-z0-9_+/-]*$", "UTC")}, ["from", "to"])
    return {
        "floor": _either("a whole number, or one for each component", count,
                         {"type": "object", "additionalProperties": count}),
        "wave": _either("stack, a number of hosts from 1, or a share such as 25%", _whole("a number of hosts from 1", 1),
                        _text("stack, a number of hosts from 1, or a share from 1% to 100%", r"^(stack|[1-9][0-9]?%|100%)$"),
                        default=p.wave),
        "canary": _flag(p.canary), "parallel": _whole("a whole number from 1", 1, 1000, p.parallel),
        "max_failed": _whole("a whole number from 0", 0, default=p.max_failed),
        "on_failure": _choice("stop", "ask", default=p.on_failure),
        "gates": {"type": "array", "items": _choice("standby", "converge", "sanity", "live", "migrate", "stack"),
                  "uniqueItems": True, "default": [], "description": "a list of steps"},
        "gate_expiry": _seconds(p.gate_expiry, low=1, high=365 * _DAY),
        "closed_hours": {"type": "array", "items": closed, "default": [], "description": "a list of hours"},
        "soak": _seconds(p.soak),
        "drain": _object({"limit": _seconds(limits.drain, low=1), "then": _choice("proceed", "ask", "stop", default=p.drain_then),
                          "wait": _seconds(p.unmeasured)}),
        "max_in_flight": _whole("a whole number from 1", 1),
        "limits": _object({"pool": _seconds(limits.pool, low=1), "chef": _seconds(low=1), "host": _seconds(limits.host, low=1),
                           "sanity": _seconds(limits.sanity, low=1)}),
        "tries": _whole("a whole number from 1", 1, 100, p.tries),
        "accept": {"type": "array", "items": _text("a warning's code such as drain-unmeasured", r"^[a-z][a-z0-9-]*$"),
                   "uniqueItems": True, "default": [], "description": "a list of warning codes"}}


def _top():
    c = Chef
    version = _text('a version such as "2.0.0" or "2.0.0-1"', r"^[A-Za-z0-9:._+~^-]+$", format="version")
    return {
        "name": _text(_A_NAME, NAME), "kind": _choice("site", "lab", default="site"),
        "components": _named(_component(), "components"), "order": _names("components"), "stacks": _stacks(),
        "balancers": _object({"live": _balancer(), "standby": _balancer()}, ["live", "standby"]),
        "repository": _object({"url": _URL,
                               "directory": _path("a folder's path"), "gpg_name": _text("a key's name"),
                               "gpg_home": _path("a folder's path")},
                              ["url"]),
        "chef": _object({"cookbooks": _choice("local", "server", default=c.cookbooks), "path": _path("a folder's path", c.path),
                         "run_list": {"type": "array", "items": _RECIPE, "maxItems": 64, "default": [],
                                      "description": "a list of 64 recipes at most"},
                         "limit": {**_seconds(c.limit, high=_DAY), "minimum": 10, "description": "a number of seconds from 10"},
                         "lock_wait": _seconds(c.lock_wait, high=_DAY),
                         "reserve": _seconds(c.reserve, high=_DAY), "minimal_ohai": _flag(c.minimal_ohai)}),
        "ssh": _ssh(), **_secret("token"),
        "versions": {"type": "object", "additionalProperties": version, "description": "a mapping of components to versions"},
        "store": _text("file:PATH or mongodb://...", rf"^(file:.+|{_MONGODB})$", "file:.bgdeploy/store"),
        **_secret("store_password"),
        "lock_host": _text("the name of a host", NAME), "production": _flag(), "confirm": _flag(),
        "database": _text("a mongodb:// address", rf"^{_MONGODB}$"), **_secret("database_password"),
        "migrations": _path("a folder's path", "migrations"), "hooks": _path("a folder's path", "hooks"),
        "watch": _object({"rate": {"type": "number", "exclusiveMinimum": 0, "maximum": 5000, "default": 5.0,
                                   "description": "a number of requests a second"}}),
        **_policy(),
        "lab": _empty_too(_object({
            "network": _text("a network such as 10.77.0.0/24", r"^[0-9A-Fa-f.:]+/[0-9]{1,3}$"),
            "controller": _text("an IP address", r"^[0-9A-Fa-f.:]+$"),
            "disk": _text("a size such as 2g or 500m", r"^[1-9][0-9]{0,9}[kmg]?$", "2g")}))}


def schema():
    """The inventory as a JSON Schema document (draft 7), for editors and for `inventory.check`; a fresh dict."""
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "bgdeploy inventory",
            **_object(_top(), ["components", "stacks", "balancers"])}
