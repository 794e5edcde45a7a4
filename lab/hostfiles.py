"""What is written on a host before it boots: its name, its SSH keys, the heartbeat token, Chef's own configuration."""

import secrets
import subprocess

from lab import layout


def keys(site, place):
    """Make what is missing: the login key, each host's key, the token; and write known_hosts. Nothing is ever replaced but
    known_hosts, which is the lab's own."""
    place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _key(layout.identity(site, place), f"deploy@{site.name}")
    for host in site.hosts:
        _key(_host_key(place, host), host.name)
    for token in layout.tokens(site, place):
        if not token.exists():
            token.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            token.touch(mode=0o600)
            token.write_text(secrets.token_hex(24) + "\n")
    lines = []
    for host in site.hosts:
        words = [f"[{name}]:{host.port}" if host.port != 22 else name for name in dict.fromkeys((host.name, host.address))]
        kind, key = _public(_host_key(place, host)).split()[:2]
        lines.append(f"{','.join(words)} {kind} {key}\n")
    layout.known_hosts(site, place).write_text("".join(lines))


def files(site, place, host):
    """What this host's disk gets: a list of [path, octal mode, "user:group", text]."""
    everybody = "".join(f"{addresses[0]} {name}\n" for name, addresses in place.members if addresses)
    balancers = "".join(f"{node.address} {balancer.name}\n" for balancer in (site.live, site.standby) for node in balancer.nodes)
    key = _host_key(place, host)
    found = [
        ["/etc/hostname", "644", "root:root", host.name + "\n"],
        ["/etc/hosts", "644", "root:root", f"127.0.0.1 localhost\n{everybody}"],
        ["/etc/ssh/ssh_host_ed25519_key", "600", "root:root", key.read_text()],
        ["/etc/ssh/ssh_host_ed25519_key.pub", "644", "root:root", _public(key)],
        ["/home/deploy/.ssh/authorized_keys", "600", "deploy:deploy", _public(layout.identity(site, place))],
        ["/etc/bgdeploy/heartbeat-token", "640", "root:bgdeploy", layout.tokens(site, place)[0].read_text()],
        ["/etc/bgdeploy/balancers", "644", "root:root", balancers],
        ["/etc/chef/client.rb", "644", "root:root", _client_rb(host)],
    ]
    if host.port != 22:
        found.append(["/etc/ssh/sshd_config.d/port.conf", "644", "root:root", f"Port {host.port}\n"])
    return found


def _client_rb(host):
    """What the people of a site would have there: licence, name, and the place of Chef's lock."""
    return (f'node_name "{host.name}"\n'
            'chef_license "accept-no-persist"\n'
            'file_cache_path "/var/cache/chef"\n'
            "ohai.disabled_plugins = [:ShardSeed]    # asks for dmidecode, which a lab host lacks\n")


def _host_key(place, host):
    return place.folder / "hostkeys" / host.name


def _public(key):
    return key.with_name(key.name + ".pub").read_text()


def _key(path, comment):
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True,
                       capture_output=True, stdin=subprocess.DEVNULL)
