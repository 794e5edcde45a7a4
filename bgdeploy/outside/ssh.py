"""Commands on hosts, over SSH connections that stay open between calls (Fabric and Paramiko; only here, in ssh_open.py and
ssh_command.py). A lost session is NoAnswer, never a failed command; the next call connects anew.
"""

import os
import random
import secrets
import threading
import time

from bgdeploy.clean import hide, line as line_of
from bgdeploy.errors import BadInput, NoAnswer, Refused
from bgdeploy.outside import ssh_config
from bgdeploy.outside.known_hosts import KnownHosts
from bgdeploy.outside.ssh_command import LOST, Answer, Tunnel, exchange
from bgdeploy.outside.ssh_open import TurnedAway, open_connection

__all__ = ["Answer", "Shell"]

# sshd's MaxStartups is per server and may begin to drop at 3 logins under way; more at once only makes retries.
_LOGINS_AT_ONCE = 3
_SESSIONS_AT_ONCE = 8       # sshd's MaxSessions is 10 a connection


# The password comes as the first line of stdin, never in an argument. sudo -n first: where no password is asked for (a NOPASSWD
# rule), the line must not reach the command; where one is, -n ran nothing, and -S reads exactly that line.
_WITH_PASSWORD = ('IFS= read -r p; r() { x=$(sudo -n -- "$@" 2>&1 1>&3 3>&-); s=$?; case "$s $x" in '
                  '"1 sudo: "*|"1 sudo-rs: "*) { printf "%s\\n" "$p"; cat; } | sudo -S -p "" -- "$@";; '
                  '*) [ -z "$x" ] || printf "%s\\n" "$x" >&2; return $s;; esac; } 3>&1; r ')


class _Line:
    """The one connection to a server, or to a jump host."""

    def __init__(self):
        self.lock, self.sessions, self.connection = threading.Lock(), threading.BoundedSemaphore(_SESSIONS_AT_ONCE), None


class Shell:
    """A pool of connections to the hosts of one site. Thread-safe; made once, closed once.

    :param site: site.Site; its `ssh` gives user, key, known_hosts, ssh_config, jump host, sudo.
    :param ask: callable(sentence) -> str for a sudo password that no file or variable gives, or None: never ask.
    :param pause: how to sleep between tries. Nothing is contacted before the first call.
    """

    def __init__(self, site, ask=None, pause=time.sleep):
        self._ssh, self._ask, self._pause = site.ssh, ask, pause
        self._lines, self._servers, self._targets, self._known = {}, {}, {}, {}
        self._lock, self._closed, self._password = threading.Lock(), False, None

    def run(self, host, argv, *, stdin=None, limit=30.0, cap=1 << 20, prelude=""):
        """Run a program on a host and bring back what it answered.

        :param host: site.Host. :param argv: program and arguments; each reaches it as it is, no shell reads them.
        :param stdin: bytes for it. :param limit: seconds for everything, connecting included. :param cap: bytes kept of each
            output; the rest is read and dropped.
        :returns: Answer, whatever the exit code.
        :raises NoAnswer: unreachable, lost, or out of time (then the remote process was told to end): the result is unknown.
        :raises Refused: the host key is unknown or changed, or the login is not accepted: nothing was run.
        """
        until = time.monotonic() + limit
        line = self._line(host)
        if not line.sessions.acquire(timeout=limit):
            raise NoAnswer(f"{host.name}: {_SESSIONS_AT_ONCE} commands are under way there already, none ended in {limit:.0f} s")
        try:
            for last in (False, True):
                connection = self._open(line, host, until)
                try:
                    return exchange(connection.transport, argv, f"bgdeploy-{secrets.token_hex(8)}", stdin=stdin, until=until,
                                    cap=cap, label=host.name, prelude=prelude, slow=self._slow(until, last))
                except ConnectionError as error:        # nothing was run on it: a kept connection that died meanwhile
                    connection.client.close()
                    if last:
                        raise NoAnswer(f"{host.name}: the SSH connection was lost at once: {error}") from None
                except NoAnswer:
                    if not _alive(connection.transport):
                        connection.client.close()
                    raise
        finally:
            line.sessions.release()

    def sudo(self, host, argv, **options):
        """`run` as root, in the way that `ssh.sudo` of the inventory names. Arguments as there.

        :raises Refused: sudo itself said no (no rule, wants a terminal or a password): nothing was run.
        """
        if self._ssh.sudo == "none":
            return self.run(host, argv, **options)
        if self._ssh.sudo == "password":
            options["stdin"] = self._secret() + b"\n" + (options.get("stdin") or b"")
            options["prelude"] = _WITH_PASSWORD
            answer = self.run(host, argv, **options)
        else:
            answer = self.run(host, ["sudo", "-n", "--", *argv], **options)
        if answer.exit == 1 and not answer.out and any(text.startswith(b"sudo: ") for text in answer.err.splitlines()):
            raise Refused(_sudo_says_no(host.name, argv[0], self._ssh.sudo, answer.err))
        return answer

    def tunnel(self, host, address, port, limit=10.0):
        """A connection from that host to address:port (its own 127.0.0.1, say), as a socket-like object.

        :raises NoAnswer: the host does not answer, or nobody listens there. :raises Refused: as `run`.
        """
        until, line = time.monotonic() + limit, self._line(host)
        for last in (False, True):
            transport = (connection := self._open(line, host, until)).transport
            patience, began = max(0.1, until - time.monotonic()), time.monotonic()
            try:
                return Tunnel(transport.open_channel("direct-tcpip", (address, int(port)), ("127.0.0.1", 0), timeout=patience))
            except LOST as error:
                # Paramiko keeps one error for all channels of a connection: what a refusal is called is not to be relied on
                if transport.is_active() and time.monotonic() - began < patience:
                    raise NoAnswer(f"{host.name}: no connection on the host to {address}:{port}: {error}") from None
                connection.client.close()
                if last:
                    raise NoAnswer(f"{host.name}: the SSH connection was lost: {str(error) or type(error).__name__}") from None

    def close(self):
        """End every connection. What runs detached on the hosts goes on."""
        with self._lock:
            self._closed = True
            lines = list(self._lines.values())
        for line in lines:
            connection = line.connection
            if connection:
                connection.client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _slow(self, until, last):
        """How long a session may take to open: on a kept connection half of what is left, so that a new one can be tried."""
        left = until - time.monotonic()
        return min(self._ssh.connect + 5, left if last else left / 2)

    def _line(self, key):
        with self._lock:
            return self._lines.setdefault(key, _Line())

    def _open(self, line, host, until):
        """The open connection of this line, made if there is none."""
        if not line.lock.acquire(timeout=max(0.0, until - time.monotonic())):
            raise NoAnswer(f"{host.name}: another call is still connecting to it")
        try:
            if not (line.connection and line.connection.is_connected):
                self._check_open()
                line.connection = self._connect(self._target(host), host.name, until)
            return line.connection
        finally:
            line.lock.release()

    def _connect(self, target, label, until):
        hop = ssh_config.jump_target(target, self._ssh) if not target.proxy_command else None
        jump = self._line(("jump", hop.hostname, hop.port, hop.user)) if hop else None
        through = self._jump(jump, hop, label, until) if hop else None
        try:
            return self._login(target, through and through.transport, label, until)
        except NoAnswer:
            if through and not _alive(through.transport):
                through.client.close()
            raise

    def _jump(self, line, hop, label, until):
        """The connection to a jump host, shared by all who go through it."""
        if not line.lock.acquire(timeout=max(0.0, until - time.monotonic())):
            raise NoAnswer(f"{label}: the jump host {hop.hostname} did not answer in time")
        try:
            if not (line.connection and line.connection.is_connected):
                self._check_open()
                line.connection = self._connect(hop, f"jump host {hop.hostname} (to {label})", until)
            return line.connection
        finally:
            line.lock.release()

    def _login(self, target, through, label, until):
        """Log in, few at a time on one server; turned away, try again after a pause that differs for everybody."""
        known = self._known_hosts(target)
        with self._lock:
            turn = self._servers.setdefault(target.server, threading.BoundedSemaphore(_LOGINS_AT_ONCE))
        away, tries = "", 0
        while True:
            if not turn.acquire(timeout=max(0.0, until - time.monotonic())):
                raise NoAnswer(f"{label}: its turn to log in at {target.hostname} did not come in time{away}")
            try:
                return open_connection(target, known, through=through, label=label, connect=self._ssh.connect,
                                       keepalive=self._ssh.keepalive, until=until)
            except TurnedAway as error:
                said = str(error) or "closed before its banner"
                away = f" (the server turned logins away: {said}; see MaxStartups in its sshd_config)"
            finally:
                turn.release()
            tries += 1
            nap = random.uniform(0.05, min(2.0, 0.2 * 2 ** tries))
            if tries >= 12 or time.monotonic() + nap >= until:
                raise NoAnswer(f"{label}: no SSH session at {target.hostname} port {target.port} after {tries} tries{away}")
            self._pause(nap)

    def _target(self, host):
        with self._lock:
            known = self._targets.get(host)
        target = known or ssh_config.resolve(self._ssh, host.address, host.port, host.user)
        with self._lock:
            return self._targets.setdefault(host, target)

    def _known_hosts(self, target):
        with self._lock:
            if target.known_hosts not in self._known:
                self._known[target.known_hosts] = KnownHosts(target.known_hosts, required=target.known_hosts_named)
            return self._known[target.known_hosts]

    def _check_open(self):
        if self._closed:
            raise NoAnswer("the SSH connections of this run are closed already")

    def _secret(self):
        with self._lock:
            if self._password is None:
                self._password = self._read_secret()
            return self._password

    def _read_secret(self):
        secret = self._ssh.sudo_password
        if secret is None and self._ask is None:
            raise BadInput("ssh.sudo is `password`, and neither ssh.sudo_password_file nor ssh.sudo_password_env is set")
        if secret is None:
            text, where = self._ask(f"sudo password of {self._ssh.user or 'the SSH user'}: "), "what was typed"
        elif secret.env:
            text, where = os.environ.get(secret.env, ""), f"the variable {secret.env}"
        else:
            where = f"the file {secret.file}"
            try:
                with open(secret.file, encoding="utf-8", errors="surrogateescape") as stream:
                    text = stream.readline().rstrip("\n")
            except OSError as error:
                raise BadInput(f"the sudo password: {where} cannot be read: {error.strerror}") from None
        if not text:
            raise BadInput(f"the sudo password: {where} is empty or not set")
        hide(text)
        return text.encode("utf-8", "surrogateescape")          # the very bytes, whatever their encoding is


def _alive(transport):
    """Does the server still answer, be it with a no? Others may be using this connection: only a dead or mute one is given up."""
    began = time.monotonic()
    try:
        transport.open_session(timeout=3.0).close()
    except LOST:
        return transport.is_active() and time.monotonic() - began < 3.0
    return True


def _sudo_says_no(name, program, mode, err):
    said = line_of(err, 300)
    if "command not found" in said:
        cure = f"install what provides {program} there (the RPM bgdeploy-host)"
    elif "tty" in said or "terminal" in said and "password" not in said:
        cure = "add `Defaults:USER !requiretty` for the SSH user to its sudoers"
    elif "password" not in said:
        cure = f"give the SSH user a sudoers rule for {program}"
    elif mode == "password":
        cure = "correct the password that ssh.sudo_password_file or ssh.sudo_password_env names"
    else:
        cure = f"give the SSH user a NOPASSWD rule for {program}, or set ssh.sudo: password in the inventory"
    return f"sudo on {name} refuses ({said}): {cure}"
