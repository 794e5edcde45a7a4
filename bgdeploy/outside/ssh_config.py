"""Where a host's SSH really is, by the run user's ssh_config: asked of `ssh -G`, else read from a small checked subset.

Why not paramiko's reader (measured with 2.12): criteria it does not know count as matching, so that a block meant for one
host applied to all; `Match final` and `Match host=...` raise. Nothing here connects (but a `Match exec` of the user's own
file is run by ssh itself, as ssh would).
"""

import getpass
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace

from bgdeploy.errors import BadInput, NoAnswer

# Keywords of ssh_config(5) that change nothing for a driver without a terminal; the subset reader may pass over them.
_HARMLESS = frozenset("""addkeystoagent addressfamily batchmode checkhostip ciphers clearallforwardings compression
    connectionattempts controlmaster controlpath controlpersist escapechar exitonforwardfailure fingerprinthash forwardagent
    forwardx11 forwardx11timeout forwardx11trusted gssapiauthentication gssapidelegatecredentials hashknownhosts
    hostkeyalgorithms ipqos kbdinteractiveauthentication kexalgorithms loglevel macs numberofpasswordprompts
    passwordauthentication permitlocalcommand preferredauthentications pubkeyacceptedalgorithms pubkeyauthentication
    rekeylimit requesttty sendenv serveralivecountmax serveraliveinterval setenv stricthostkeychecking tcpkeepalive
    updatehostkeys verifyhostkeydns visualhostkey""".split())
_USED = frozenset("""hostname user port identityfile identitiesonly identityagent userknownhostsfile globalknownhostsfile
    hostkeyalias proxyjump proxycommand connecttimeout certificatefile""".split())
_MANY = ("identityfile", "certificatefile")
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True)
class Target:
    """One SSH server as it is to be reached.

    :param alias: the name that known_hosts lists (HostKeyAlias), or None: hostname and port.
    :param identities: key files to try, in order; only these if `only_identities`.
    :param agent: path of the agent's socket, None for none.
    :param jump: the jump hosts that lead to it, outermost first, each as `user@host:port`.
    """

    hostname: str
    port: int = 22
    user: str = None
    identities: tuple = ()
    only_identities: bool = False
    agent: str = None
    known_hosts: tuple = ()
    known_hosts_named: bool = False
    alias: str = None
    jump: tuple = ()
    proxy_command: str = None

    @property
    def server(self):
        """What counts as one sshd for MaxStartups."""
        return self.hostname, self.port


def split(spec):
    """`user@host:port`, `[fd77::12]:2222`, `fd77::11` -> (user|None, host, port|None).

    :raises BadInput: no host, a port that is none, or a name that a program would take for an option.
    """
    user, _, rest = spec.strip().rpartition("@")
    found = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?", rest) or re.fullmatch(r"([^:\s]+)(?::(\d+))?", rest)
    host, port = found.groups() if found else (rest, None)
    if not host or host.startswith("-") or user.startswith("-") or re.search(r"[\s\[\]/]", host):
        raise BadInput(f"{spec!r} is no SSH address: write host, host:port, user@host:port or [IPv6]:port")
    if port is not None and not 0 < int(port) < 65536:
        raise BadInput(f"{spec!r} has no port between 1 and 65535")
    return user or None, host, int(port) if port else None


def resolve(ssh, address, port=None, user=None, jump=None, program="ssh"):
    """What the inventory and the user's ssh_config together say of this address. The inventory's words win.

    :param ssh: site.Ssh. :param port: None or 22: ssh_config's Port applies. :param jump: a jump host of its own, else ssh.jump.
    :param program: the ssh client to ask; where it is missing, the subset reader answers.
    :raises BadInput: a file that ssh refuses, or (without ssh) a criterion or keyword outside the subset: file, line, cure.
    """
    named_user, host, named_port = split(address)
    user, port = named_user or user or ssh.user, named_port or (port if port not in (None, 22) else None)
    client = shutil.which(program)
    said = _ask(client, ssh.config, host, port, user) if client else _subset(ssh.config, host)
    files = (ssh.known_hosts,) if ssh.known_hosts else tuple(
        path for key, default in zip(("userknownhostsfile", "globalknownhostsfile"), _KNOWN_HOSTS)
        for path in said.get(key, default).split() if path.lower() != "none")
    jumps = jump if jump is not None else ssh.jump or said.get("proxyjump", "none")
    agent = said.get("identityagent", "SSH_AUTH_SOCK")
    hostname, port = said.get("hostname", host).strip("[]").lower(), port or int(said.get("port", 22))
    user = user or said.get("user") or _myself()
    tokens = {"h": hostname, "n": host, "p": str(port), "r": user, "d": os.path.expanduser("~"),
              "i": str(os.getuid()), "k": said.get("hostkeyalias", host), "%": "%"}
    return Target(
        hostname=hostname, port=port, user=user,
        identities=(ssh.identity,) if ssh.identity else tuple(_path(file, tokens) for file in said.get("identityfile", ())),
        only_identities=bool(ssh.identity) or said.get("identitiesonly") == "yes",
        agent=os.environ.get("SSH_AUTH_SOCK") if agent == "SSH_AUTH_SOCK" else None if agent == "none" else _home(agent),
        known_hosts=tuple(map(_home, files)),
        known_hosts_named=bool(ssh.known_hosts),
        alias=said.get("hostkeyalias"),
        jump=() if jumps.lower() == "none" or not jumps else tuple(jumps.split(",")),
        proxy_command=None if ssh.jump or said.get("proxycommand", "none").lower() == "none" else said["proxycommand"])


def expand(command, target):
    """%h %p %r %n %% of a ProxyCommand.

    :raises BadInput: any other token: what it means is ssh's own business.
    """
    known = {"h": target.hostname, "p": str(target.port), "r": target.user or "", "n": target.hostname, "%": "%"}

    def token(match):
        if match.group(1) not in known:
            raise BadInput(f"ProxyCommand {command!r} for {target.hostname} uses {match.group(0)}, which is not supported: "
                           "use %h, %p, %r, or ProxyJump")
        return known[match.group(1)]
    return re.sub(r"%(.?)", token, command)


def jump_target(target, ssh, program="ssh"):
    """The innermost jump host of `target`, itself resolved (its own jumps are what is left), or None."""
    if not target.jump:
        return None
    rest = ",".join(target.jump[:-1])
    hop = resolve(replace(ssh, jump=None, user=None), target.jump[-1], jump=rest or None, program=program)
    if hop.server == target.server:         # the jump host itself is reached directly, as ssh does
        return None
    return replace(hop, jump=()) if any(split(spec)[1].lower() == hop.hostname for spec in hop.jump) else hop


def _ask(client, config, host, port, user):
    """`ssh -G`: keyword -> value (identityfile: a tuple)."""
    argv = [client, "-G", *(["-F", config] if config else []), *(["-p", str(port)] if port else []),
            *(["-l", user] if user else []), "--", host]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=15)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"ssh -G {host} gave no answer within 15 s: a `Match exec` in the ssh_config hangs") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:300]
        raise BadInput(f"ssh refuses its configuration for {host}: {said}: correct that file, or name another one with "
                       "ssh.config in the inventory")
    return _collect(line.split(None, 1) for line in done.stdout.decode(errors="replace").splitlines())


def _collect(pairs):
    said = {}
    for keyword, *value in pairs:
        keyword, value = keyword.lower(), value[0].strip() if value else ""
        if keyword in _MANY:
            said[keyword] = (*said.get(keyword, ()), value)
        else:
            said.setdefault(keyword, value)     # the first value obtained is the one used: ssh_config(5)
    return said


def _subset(config, host):
    """Without an ssh client: Host blocks with plain keywords, `Match all`; everything else is refused, never guessed."""
    pairs = []
    for file in (config,) if config else ("~/.ssh/config", "/etc/ssh/ssh_config"):
        try:
            with open(_home(file), encoding="utf-8", errors="replace") as stream:
                lines = stream.read().splitlines()
        except FileNotFoundError:
            if config:
                raise BadInput(f"ssh_config file {file} does not exist: correct ssh.config in the inventory") from None
            continue
        except OSError as error:
            raise BadInput(f"ssh_config file {file} cannot be read: {error.strerror}") from None
        pairs += _blocks(lines, file, host)
    said = _collect(pairs)
    if "hostname" in said:
        said["hostname"] = said["hostname"].replace("%h", host)
    return said


def _blocks(lines, file, host):
    applies = True
    for number, text in enumerate(lines, 1):
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        keyword, _, value = re.sub(r"\s*=\s*|\s+", " ", text, count=1).partition(" ")
        keyword, value = keyword.lower(), value.strip().strip('"')
        if keyword == "host":
            applies = _host_block(value.split(), host)
        elif keyword == "match" and value.lower() == "all":
            applies = True
        elif keyword in _USED:
            if not value or keyword == "port" and not (re.fullmatch("[0-9]{1,5}", value, re.ASCII) and 0 < int(value) < 65536):
                raise BadInput(f"{file} line {number}: `{text[:80]}` cannot be understood: correct that line")
            if applies:
                yield keyword, value
        elif keyword not in _HARMLESS:
            what = f"criterion `Match {value}`" if keyword == "match" else f"keyword `{keyword}`"
            raise BadInput(f"{file} line {number}: the {what} cannot be read without an ssh client on this machine: install "
                           "one (openssh-client), or put the blocks for these hosts in a file of its own and name it with "
                           "ssh.config in the inventory")


def _host_block(patterns, host):
    found = False
    for pattern in patterns:
        negated = pattern.startswith("!")
        glob = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern[negated:].lower())
        if re.fullmatch(glob, host.lower()):
            if negated:
                return False
            found = True
    return found


def _home(path):
    return os.path.expanduser(path.strip('"'))


def _path(text, tokens):
    """An IdentityFile, of which `ssh -G` leaves the tokens as they were typed (measured with OpenSSH 9.2)."""
    text = re.sub("%(.)", lambda match: tokens.get(match[1], match[0]), text)
    return _home(re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), text))


def _myself():
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise BadInput(f"nobody knows the name of uid {os.getuid()} on this machine: write ssh.user in the inventory") from None
