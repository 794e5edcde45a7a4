"""One command over an open SSH connection: its text, and the exchange that brings back its answer. No connecting here.

Whatever the login shell is or prints (banners, colours, a .bashrc that talks), the answer is what stands between two markers
drawn for this one command; without the second marker there is no answer, whatever exit status came.
"""

import contextlib
import random
import re
import select
import shlex
import socket
import threading
import time
from dataclasses import dataclass

import paramiko

from bgdeploy.errors import NoAnswer

# Appended, so that the host's own order wins: non-interactive shells often lack the sbin folders.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _/.,:=+-")
_GRACE = 1.0        # seconds to wait for stderr's end once stdout's came
# Paramiko raises to whoever waits what its own thread met: a goodbye that is no UTF-8 comes as a UnicodeDecodeError.
LOST = (paramiko.SSHException, EOFError, OSError, ValueError)


@dataclass(frozen=True)
class Answer:
    """What a command answered.

    :param exit: its exit code, 0-255. :param out, err: its bytes, at most `cap` of each, from the beginning.
    :param cut: more came than `cap`. :param noise: what the login shell printed by itself.
    """

    exit: int
    out: bytes = b""
    err: bytes = b""
    cut: bool = False
    noise: bytes = b""


def line(argv, marker, prelude=""):
    """The text that sshd hands to the login shell: `/bin/sh -c '...'` with nothing inside the quotes that any shell would read.

    sh, bash, csh and fish disagree about quotes, `!` and backslashes; so every other byte goes as an octal number that
    /bin/sh itself turns back. Pure.

    :param argv: program and arguments, each quoted.
    :param prelude: shell text before it, ours only; it may end the command early with `e CODE`.
    """
    script = (f"PATH=$PATH:{_PATH} LC_ALL=C; export PATH LC_ALL; read -r a a a a g a </proc/$$/stat; "
              f"echo {marker} $g; echo {marker} >&2; "
              f"e() {{ echo; echo {marker} $1; echo >&2; echo {marker} >&2; exit $1; }}; "
              f"{prelude}{' '.join(map(shlex.quote, argv))}; e $?")
    octal = "".join(chr(byte) if chr(byte) in _SAFE else f"\\0{byte:03o}" for byte in script.encode())
    return f"/bin/sh -c 'eval \"$(printf %b \"{octal}\")\"'"


class _Stream:
    """One output stream: what came before the first marker, what came after it (capped), and the last bytes."""

    def __init__(self, marker, cap):
        self._begin, self._end = re.compile(rb"%s ?(\d*)\n" % marker.encode()), re.compile(rb"\n%s ?(\d*)\n" % marker.encode())
        self._cap, self.noise, self.body, self.began, self.size, self.tail = cap, b"", bytearray(), False, 0, b""
        self.group = ""             # the process group of the command on the host

    def take(self, piece):
        if not self.began:
            self.noise += piece
            found = self._begin.search(self.noise)
            if not found:
                self.noise = self.noise[-65536:]
                return
            piece, self.noise = self.noise[found.end():], self.noise[:found.start()]
            self.group, self.began = found.group(1).decode(), True
        self.size += len(piece)
        self.body += piece[:max(0, self._cap + 256 - len(self.body))]
        self.tail = (self.tail + piece)[-256:]

    def last(self):
        """What stands behind the second marker ("" for stderr, "CODE" for stdout), or None while it has not come whole."""
        found = self._end.search(self.tail)
        return found.group(1).decode() if found else None

    def answer(self):
        """The bytes between the markers (all that came, without the second one), capped; and whether there was more."""
        found = self._end.search(self.tail)
        length = self.size - len(self.tail) + found.start() if found else self.size
        return bytes(self.body[:min(length, self._cap)]), length > self._cap


def exchange(transport, argv, marker, *, stdin=b"", until, cap, label, prelude="", slow=None):
    """Run it and wait for its answer.

    :param until: time.monotonic() of the deadline; then the remote process is sent TERM, and KILL a second later.
    :param slow: seconds for opening the channel. :returns: Answer.
    :raises NoAnswer: lost, timed out, or ended without our second marker: nobody knows what it did.
    :raises ConnectionError: the channel could not even be opened: nothing was run.
    """
    limit = until - time.monotonic()
    channel = _opened(transport, until, slow, label)
    # exec_command waits for the server's word without a limit of its own: closing the channel ends that wait
    watch = threading.Timer(max(0.1, until - time.monotonic()), shut, [channel])
    watch.daemon = True
    watch.start()
    out, err = _Stream(marker, cap), _Stream(marker, cap)
    try:
        channel.exec_command(line(argv, marker, prelude))
        watch.cancel()
        if not _follow(channel, out, err, stdin, until):
            _end(transport, channel, out.group)
            raise NoAnswer(f"{label}: {argv[0]} did not end within {limit:.0f} s and was told to stop: its result is unknown")
    except LOST as error:
        raise NoAnswer(f"{label}: the SSH connection was lost during {argv[0]} "
                       f"({str(error) or type(error).__name__}): its result is unknown") from None
    finally:
        watch.cancel()
        shut(channel)
    code = out.last()
    if code is None:
        what = "SSH session ended" if transport.is_active() else "SSH connection was lost"
        raise NoAnswer(f"{label}: the {what} during {argv[0]} before its answer came: its result is unknown")
    body, cut = out.answer()
    stderr, cut_too = err.answer()
    return Answer(int(code), body, stderr, cut or cut_too, out.noise + err.noise)


def shut(channel):
    """Close a channel. Paramiko raises there what it met when the connection broke, which is no news by then."""
    with contextlib.suppress(*LOST):
        channel.close()


class Tunnel:
    """A channel as HTTP and TLS know a socket: what Paramiko raises is an OSError here, and closing raises nothing."""

    def __init__(self, channel):
        self._channel, self.settimeout = channel, channel.settimeout

    def recv(self, size):
        return self._done(self._channel.recv, size)

    def sendall(self, content):
        return self._done(self._channel.sendall, content)

    def close(self):
        shut(self._channel)

    def _done(self, act, argument):
        try:
            return act(argument)
        except OSError:
            raise
        except LOST as error:
            raise ConnectionError(str(error) or type(error).__name__) from None


def _opened(transport, until, slow, label):
    """A new session. Where the server has as many as it allows (MaxSessions), its turn is waited for: nothing was run yet.

    Paramiko keeps one error for all channels of a connection, so a refusal may also come as a plain SSHException.
    """
    nap = 0.02
    while True:
        left = until - time.monotonic()
        patience, began = max(0.1, min(left, slow or left)), time.monotonic()
        try:
            return transport.open_session(timeout=patience)
        except LOST as error:
            if not transport.is_active() or time.monotonic() - began >= patience:
                raise ConnectionError(str(error) or type(error).__name__) from None
            if left <= nap:
                raise NoAnswer(f"{label}: the SSH server opens no further session: {error} (see MaxSessions in its "
                               "sshd_config)") from None
        time.sleep(random.uniform(nap / 2, nap))
        nap = min(0.5, 2 * nap)


def _follow(channel, out, err, stdin, until):
    """Feed and read until the answer is whole or the session is over; False at the deadline."""
    pending = memoryview(stdin or b"")
    if not pending:
        channel.shutdown_write()
    poller = select.poll()
    poller.register(channel.fileno(), select.POLLIN)
    over = None
    while True:
        moved = _read(channel, out, err)
        if pending is not None and len(pending):
            pending, sent = _feed(channel, pending)
            moved = moved or sent
        if out.last() is not None:
            if err.last() is not None:
                return True
            over = over or time.monotonic() + _GRACE
        elif channel.exit_status_ready():
            over = over or time.monotonic() + _GRACE
        if moved:
            continue
        now = time.monotonic()
        if channel.closed or channel.eof_received or (over and now >= over):
            _read(channel, out, err)
            return True
        if now >= until:
            return False
        # a window that opens for stdin, and an exit status, do not wake the poll: look again soon enough
        nap = 0.02 if pending is not None and len(pending) else 0.25 if over else 1.0
        poller.poll(max(1, 1000 * min(nap, until - now)))


def _read(channel, out, err):
    moved = False
    while channel.recv_ready():
        out.take(channel.recv(65536))
        moved = True
    while channel.recv_stderr_ready():
        err.take(channel.recv_stderr(65536))
        moved = True
    return moved


def _feed(channel, pending):
    if not channel.send_ready():
        return pending, False
    try:
        sent = channel.send(pending[:32768])
    except (socket.timeout, OSError):       # it ended without reading all of it: its answer says why
        return None, False
    pending = pending[sent:]
    if not pending:
        channel.shutdown_write()
    return pending, bool(sent)


def _end(transport, channel, group):
    """Make the remote process end: closing the channel alone leaves it running.

    RFC 4254, 6.9: sshd passes a signal on to the command's process group. It refuses that for a login as root (measured with
    OpenSSH 9.2), so kill(1) follows over a session of its own. What runs as another user under sudo hears neither: the
    commands sent so are short, and whatever is long runs detached.
    """
    for name in ("TERM", "KILL"):
        _signal(channel, name)
        if _over(channel, 1.0):
            return
        if group:
            _kill(transport, name, group)
            if _over(channel, 0.5):
                return


def _over(channel, seconds):
    return channel.closed or channel.status_event.wait(seconds)


def _signal(channel, name):
    message = paramiko.Message()
    message.add_byte(paramiko.common.cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("signal")
    message.add_boolean(False)
    message.add_string(name)
    try:
        channel.transport._send_user_message(message)       # Paramiko has no public name for it, in any version
    except Exception:       # the connection is gone: there is nobody to tell
        pass


def _kill(transport, name, group):
    try:
        other = transport.open_session(timeout=2.0)
        watch = threading.Timer(2.0, shut, [other])
        watch.start()
        try:
            other.exec_command(f"/bin/sh -c 'kill -{name} -{group}'")
            other.status_event.wait(2.0)
        finally:
            watch.cancel()
            shut(other)
    except LOST:
        pass
