"""What a person wrote in the inventory: the data centre as described. Data only; inventory.py reads it from YAML.

All times are seconds, all sizes bytes. Paths are absolute (the loader resolves them against the project's folder).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Secret:
    """A credential by reference: read when needed, never stored. Exactly one of the two is set."""

    env: str = None
    file: str = None


@dataclass(frozen=True)
class Heartbeat:
    """How one component's heartbeat is read and flipped. The defaults are the kit's.

    :param detail: path of the kit's JSON detail view, or None for an app without the kit.
    :param via: "direct" or "ssh" (a channel on the host's open SSH connection).
    :param live, standby: the exact words the app answers.
    :param flip_body: template with {word}; likewise flip_path.
    :param version_path, version_pattern: for an app without the kit; no path: the package database.
    :param headers, flip_headers: pairs (name, text). No credential among them.
    :param token: None: BGDEPLOY_HEARTBEAT_TOKEN of the environment, or the file that BGDEPLOY_HEARTBEAT_TOKEN_FILE names.
    :param in_flight: "kit" | "balancer" | "connections" | "none": how requests in flight are known.
    :param after_restart: "keep" | "standby" | "live": what it says after a restart, as its people say; None: nobody said. For
        `check` alone: no rule relies on it.
    """

    scheme: str = "http"
    port: int = 80
    path: str = "/heartbeat"
    detail: str = "/heartbeat/detail"
    via: str = "direct"
    host_header: str = None
    headers: tuple = ()
    live: str = "live"
    standby: str = "standby"
    ignore_case: bool = False
    json_key: str = None
    flip_method: str = "PUT"
    flip_path: str = None
    flip_body: str = "{word}"
    flip_headers: tuple = ()
    token: Secret = None
    user: str = None
    password: Secret = None
    ca_file: str = None
    version_path: str = None
    version_pattern: str = None
    in_flight: str = "kit"
    timeout: float = 3.0
    after_restart: str = None

    @property
    def by_package(self):
        """The application says no version of itself: the package database is asked in its place."""
        return not self.detail and not self.version_path


@dataclass(frozen=True)
class SanityCheck:
    """One request through STANDBY and what must come back.

    :param text: what the body holds. :param header: pairs (name, exact value), all of which must be there.
    """

    path: str
    status: int = 200
    text: str = None
    header: tuple = ()


@dataclass(frozen=True)
class Component:
    """One application with a heartbeat, one RPM, one systemd service.

    :param port: where it serves requests on its host; heartbeat.port may be another one.
    """

    name: str
    package: str
    service: str
    recipe: str
    heartbeat: Heartbeat
    sanity: tuple = ()
    attribute: str = ""         # server mode: attribute path that holds this component's version
    port: int = None


@dataclass(frozen=True)
class Host:
    name: str
    stack: str
    address: str
    port: int = 22
    user: str = None
    components: tuple = ()      # names, in the inventory's order


@dataclass(frozen=True)
class Stack:
    name: str
    hosts: tuple


@dataclass(frozen=True)
class Node:
    """One balancer process. Its check timing gives the time after which it must have noticed a flip.

    :param stats: URL of its read-only statistics page, where the site grants one, else None.
    """

    name: str
    address: str
    interval: float = 2.0
    fall: int = 3
    rise: int = 2
    timeout: float = 1.0
    slow_start: float = 0.0
    stats: str = None

    @property
    def detection(self):
        """Seconds after which this node has surely seen a flip, either way."""
        return self.interval * max(self.fall, self.rise) + self.timeout


@dataclass(frozen=True)
class Balancer:
    """LIVE or STANDBY: its nodes, and the port of each component's frontend on every node.

    :param ca_file: the authority of its certificates where scheme (or a node's statistics page) is https, None: the system's.
    :param stats_user, stats_password: basic auth of the nodes' statistics pages.
    """

    name: str
    nodes: tuple
    ports: tuple                # pairs (component, port)
    scheme: str = "http"
    host_header: str = None
    ca_file: str = None
    stats_user: str = None
    stats_password: Secret = None

    @property
    def detection(self):
        return max(node.detection for node in self.nodes)

    def port(self, component):
        return dict(self.ports).get(component)


@dataclass(frozen=True)
class Chef:
    """:param cookbooks: "local" (tar over SSH) or "server" (the site's Chef Server and the node's own run list)."""

    cookbooks: str = "local"
    path: str = "cookbooks"
    run_list: tuple = ()        # local mode; empty: the recipe of each component on the host
    limit: float = 900.0
    lock_wait: float = 60.0
    reserve: float = 3600.0     # server mode: so long at the most other Chef runs wait on a host out of LIVE; 0: not at all
    minimal_ohai: bool = False


@dataclass(frozen=True)
class Ssh:
    user: str = None
    port: int = 22
    identity: str = None
    known_hosts: str = None
    config: str = None          # an ssh_config file; None: ~/.ssh/config
    jump: str = None
    sudo: str = "nopasswd"      # nopasswd | password | none (the user is root)
    sudo_password: Secret = None
    helper: str = "/usr/sbin/bgdeploy-host"
    connect: float = 5.0
    keepalive: float = 15.0


@dataclass(frozen=True)
class Repository:
    """:param url: what the hosts' dnf reads. :param directory: where `publish` writes (None: this site only reads)."""

    url: str
    directory: str = None
    gpg_name: str = None
    gpg_home: str = None


@dataclass(frozen=True)
class Site:
    """The whole inventory. `policy` is a model.Policy; `lab` the lab's own section (a dict) or None."""

    name: str
    file: str
    base: str
    components: tuple           # in the inventory's order: live in this order, leave in reverse
    stacks: tuple
    live: Balancer
    standby: Balancer
    policy: object
    repository: Repository = None
    chef: Chef = Chef()
    ssh: Ssh = Ssh()
    production: bool = False
    confirm: bool = False
    store: str = None           # "file:PATH" or "mongodb://..."
    store_password: Secret = None
    lock_host: str = None
    accept: tuple = ()
    watch_rate: float = 5.0
    database: str = None        # what migrations change
    migrations: str = None
    hooks: str = None
    lab: dict = None
    database_password: Secret = None
    versions: tuple = ()        # pairs (component, version): what --version means when it is left out

    @property
    def hosts(self):
        return tuple(host for stack in self.stacks for host in stack.hosts)

    def host(self, name):
        return next((h for h in self.hosts if h.name == name), None)

    def stack(self, name):
        return next((s for s in self.stacks if s.name == name), None)

    def component(self, name):
        return next((c for c in self.components if c.name == name), None)
