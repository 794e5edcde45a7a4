"""One authenticated SSH connection, with every stage bounded: socket, banner, key exchange, proof of the host, login.

Uses Fabric's and Paramiko's public extension points only (connect_kwargs `sock` and `transport_factory`, MissingHostKeyPolicy,
SecurityOptions), so that Fabric 2.6 to 3.2 and Paramiko 2.12 to 5 do alike. What a stock connection lacks was measured:
no keepalive, no TCP_NODELAY (40 ms lost at login and at every command), no host key check, up to an hour in open_session.
"""

import logging
import os
import socket
import subprocess
import threading
import time

import paramiko
from fabric import Config, Connection

from bgdeploy.errors import NoAnswer, Refused, Trouble
from bgdeploy.outside import exchange
from bgdeploy.outside.known_hosts import lookup_name
from bgdeploy.outside.ssh_config import expand

# Paramiko logs tracebacks of lost connections; without a handler Python would print them on the terminal.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

# Signature algorithms for a key type as known_hosts names it (RFC 8332: one RSA key, three algorithms).
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")}
_TWO_FACTORS = "it asks for a password or a code after the key, which is not supported"
_KEY_CLASSES = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


class TurnedAway(Exception):
    """The server took the TCP connection and closed it before its banner: MaxStartups, or it is just starting. Worth a retry."""


class Wire:
    """What Paramiko gets as its socket: reads of 64 KiB that feed many packets, and a look at the banner beforehand.

    :param raw: a connected socket, or a Channel of a jump host.
    :param child: the ProxyCommand behind it, ended with it.
    """

    def __init__(self, raw, child=None):
        self._raw, self._child, self._ahead = raw, child, b""
        self._closed = False            # Paramiko 2.12 reads a socket's own flag of this name when it closes

    def greeting(self, limit):
        """The first bytes that the server sends, kept for Paramiko.

        :raises TurnedAway: closed without a banner. :raises socket.timeout: silent for `limit` seconds.
        """
        self._raw.settimeout(limit)
        try:
            self._ahead = self._raw.recv(65536)
        except ConnectionError:
            raise TurnedAway from None
        # OpenSSH 9.4 and newer say why they close: one line instead of a banner
        if not self._ahead or self._ahead.startswith((b"Exceeded MaxStartups", b"Not allowed at this time")):
            raise TurnedAway(self._ahead.decode(errors="replace").strip())

    def recv(self, size):
        if not self._ahead:
            self._ahead = self._raw.recv(65536)
        piece, self._ahead = self._ahead[:size], self._ahead[size:]
        return piece

    def send(self, piece):
        return self._raw.send(piece)

    def settimeout(self, seconds):
        self._raw.settimeout(seconds)

    def getpeername(self):
        return self._raw.getpeername()

    def close(self):
        self._closed = True
        try:
            self._raw.shutdown(socket.SHUT_RDWR)        # wakes the thread that reads; close alone leaves it for its second
        except (OSError, EOFError, paramiko.SSHException):
            pass
        self._raw.close()
        if self._child and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(1)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


class _Transport(paramiko.Transport):
    _active_check_timeout = 1.0         # an idle connection wakes once a second, not ten times (measured: CPU of 100 hosts / 10)

    def auth_interactive_dumb(self, username, handler=None, submethods=""):
        """SSHClient's last resort after a key that is not enough; it would ask whoever sits at our terminal, or hang."""
        raise paramiko.AuthenticationException(_TWO_FACTORS)


class _Proof(paramiko.MissingHostKeyPolicy):
    """Asked by Paramiko for every host key, because its own list stays empty."""

    def __init__(self, known, address, port):
        self._known, self._address, self._port = known, address, port

    def missing_host_key(self, client, hostname, key):
        self._known.prove(self._address, self._port, key.asbytes())


def open_connection(target, known, *, through=None, label, connect=5.0, keepalive=15.0, until):
    """Connect, prove the host, log in.

    :param target: ssh_config.Target. :param known: KnownHosts.
    :param through: the Transport of the jump host, or None. :param label: the host's name, for sentences.
    :param connect: seconds for the TCP connection, and for each of banner, key exchange and login (there at least 5).
    :param keepalive: seconds of silence after which we say something; see TCP_USER_TIMEOUT below.
    :param until: time.monotonic() at which all of it must be over.
    :returns: an open fabric.Connection.
    :raises Refused: the host's key or our login is not accepted. :raises NoAnswer: it cannot be reached, or fell silent.
    :raises TurnedAway: see there.
    """
    listed = (target.alias, 22) if target.alias else (target.hostname, target.port)
    known.refuse_certificates(*listed)
    kinds = known.kinds(lookup_name(*listed))
    for offered in dict.fromkeys((kinds, ())):
        # a server without a key of a listed type is asked again for any: the proof then says what it shows instead
        wire = _wire(target, through, label, _left(until, connect, label), keepalive)
        try:
            return _login(wire, target, _Proof(known, *listed), offered, label, max(5.0, connect), keepalive, until)
        except paramiko.ssh_exception.IncompatiblePeer as error:
            problem = error
    raise NoAnswer(f"{label}: no algorithm in common with the SSH server at {_at(target)}: {problem}")


def _login(wire, target, proof, kinds, label, stage, keepalive, until):
    began = time.monotonic()
    connection = None
    # Each stage has a limit of its own, and so has each key that is tried; only this keeps them all within `until`
    watch = threading.Timer(max(0.1, until - time.monotonic()), wire.close)
    watch.daemon = True
    watch.start()
    try:
        wire.greeting(_left(until, stage, label))
        connection = _connection(wire, target, proof, kinds, _left(until, stage, label))
        connection.open()
        connection.transport.set_keepalive(int(keepalive))
        return connection
    except BaseException as error:
        transport = connection.client.get_transport() if connection else None
        alive = bool(transport and transport.is_active())
        if connection:
            connection.client.close()
        wire.close()
        if time.monotonic() >= until and not isinstance(error, (Trouble, TurnedAway)) and isinstance(error, Exception):
            raise NoAnswer(f"{label}: no SSH connection to {_at(target)} in the time given") from None
        raise _translated(error, target, label, alive, time.monotonic() - began, stage) from None
    finally:
        watch.cancel()


def _connection(wire, target, proof, kinds, stage):
    def transport(sock, **options):
        made = _Transport(sock, **options)
        made.banner_timeout = made.handshake_timeout = made.auth_timeout = stage
        security = made.get_security_options()
        wanted = [name for kind in kinds for name in _ALGORITHMS.get(kind, (kind,))]
        if wanted:
            security.key_types = tuple(name for name in wanted if name in security.key_types) or security.key_types
        return made

    # `ssh_config` given and lazy: no ssh_config, fabric.yaml or environment of the person who calls changes the connection
    config = Config(lazy=True, ssh_config=paramiko.SSHConfig())
    connection = Connection(target.hostname, user=target.user or config.user, port=target.port, config=config,
                            connect_kwargs={"sock": wire, "transport_factory": transport, "timeout": stage,
                                            "look_for_keys": False, **_keys(target)})
    connection.client.set_missing_host_key_policy(proof)
    return connection


def _keys(target):
    """What to log in with, as arguments of SSHClient.connect: the named keys only, where keys are named.

    An agent with many keys would use up MaxAuthTries before the right one (paramiko issue 1390).
    """
    files = [path for path in target.identities if _readable(path)]
    if not target.only_identities:
        # Paramiko knows one agent only, the one of the environment
        return {"key_filename": files, "allow_agent": bool(target.agent) and target.agent == os.environ.get("SSH_AUTH_SOCK")}
    keys = [key for key in (_key(path, target.agent) for path in files) if key]
    if len(keys) == 1:
        return {"pkey": keys[0], "allow_agent": False}
    return {"key_filename": files, "allow_agent": False}


def _readable(path):
    """Can Paramiko try this key? It passes over one of a type that it does not know, not over what is no text.

    :raises Refused: the certificate beside it is none.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            stream.read(1 << 16)
    except (OSError, ValueError):
        return False
    try:
        if os.path.isfile(path + "-cert.pub"):
            paramiko.pkey.PublicBlob.from_file(path + "-cert.pub")
    except (paramiko.SSHException, ValueError, OSError, IndexError) as error:
        raise Refused(f"{path}-cert.pub holds no certificate that can be read ({_said(error)}): replace it, or move it "
                      "away") from None
    return True


def _key(path, agent):
    """The private key in this file; where it is locked by a passphrase or only its .pub is there, the agent's copy; or None."""
    for kind in _KEY_CLASSES:
        try:
            key = kind.from_private_key_file(path)
        except (paramiko.SSHException, ValueError, OSError, IndexError):    # another type, locked, or a public key
            continue
        if os.path.exists(path + "-cert.pub"):
            key.load_certificate(path + "-cert.pub")
        return key
    if not agent:
        return None
    for name in (path + ".pub", path):
        try:
            with open(name, encoding="utf-8", errors="replace") as stream:
                blob = stream.read().split()[1]
        except (OSError, IndexError):
            continue
        held = next((key for key in paramiko.Agent().get_keys() if key.get_base64() == blob), None)
        if held:
            return held
    return None


def _wire(target, through, label, seconds, keepalive):
    if target.proxy_command:
        return _proxied(target)
    if through:
        try:
            return Wire(through.open_channel("direct-tcpip", (target.hostname, target.port), ("127.0.0.1", 0), timeout=seconds))
        except paramiko.ChannelException as error:
            raise NoAnswer(f"{label}: the jump host cannot reach {_at(target)}: {error.text}") from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise NoAnswer(f"{label}: the connection to the jump host was lost: {_said(error)}") from None
    try:
        raw = exchange.connect(target.hostname, target.port, time.monotonic() + seconds)
    except socket.gaierror as error:
        raise NoAnswer(f"{label}: the name {target.hostname} cannot be resolved: {error.strerror}") from None
    except (TimeoutError, socket.timeout):      # one and the same only from Python 3.10 on
        raise NoAnswer(f"{label}: no TCP connection to {_at(target)} within {seconds:.0f} s: off, or packets dropped") from None
    except OSError as error:
        raise NoAnswer(f"{label}: no TCP connection to {_at(target)}: {_said(error)}") from None
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # set_keepalive alone never ends a dead connection: what was sent and not acknowledged for so long (ms) does. So a peer that
    # is gone is noticed after 2 x keepalive + 5 seconds at the latest: 35 with the default
    raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", 18), int(1000 * (keepalive + 5)))
    return Wire(raw)


def _proxied(target):
    """The ProxyCommand with one end of a socket pair as its stdin and stdout; in a session of its own, so that Ctrl-C is ours."""
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen(["/bin/sh", "-c", "exec " + expand(target.proxy_command, target)], stdin=theirs, stdout=theirs,
                                 stderr=subprocess.DEVNULL, start_new_session=True)
    return Wire(ours, child)


def _translated(error, target, label, alive, seconds, stage):
    """What went wrong, as one of our kinds; what ends a program (Ctrl-C) is handed back as it is."""
    where = _at(target)
    if isinstance(error, (Refused, NoAnswer, TurnedAway, paramiko.ssh_exception.IncompatiblePeer)):
        return error
    if isinstance(error, socket.timeout):
        return NoAnswer(f"{label}: {where} takes the connection and sends no SSH banner within {seconds:.0f} s")
    if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error):
        if alive and seconds < stage:
            keys = ", ".join(path for path in target.identities if os.path.exists(path)) or "no key"
            more = f" ({error})" if str(error) == _TWO_FACTORS else ""
            return Refused(f"{label}: {where} does not accept user {target.user} with {keys}{more}"
                           f"{'' if target.only_identities else ' or the agent'}: correct ssh.user or ssh.identity in the "
                           "inventory, or the host's authorized_keys")
        if not alive:
            return NoAnswer(f"{label}: {where} closed the connection during the login of {target.user}: lost, or too many keys "
                            "were tried (then name one: ssh.identity in the inventory)")
        return NoAnswer(f"{label}: {where} did not answer the login of {target.user} within {stage:.0f} s")
    if isinstance(error, Exception):        # of any kind: Paramiko raises what its own thread met in the server's messages
        what = f"fell silent during the key exchange ({seconds:.0f} s)" if seconds >= stage else f"broke off: {_said(error)}"
        return NoAnswer(f"{label}: the SSH connection to {where} {what}")
    return error


def _left(until, most, label):
    left = min(most, until - time.monotonic())
    if left <= 0:
        raise NoAnswer(f"{label}: no SSH connection in the time given")
    return left


def _at(target):
    return lookup_name(target.hostname, target.port)


def _said(error):
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
