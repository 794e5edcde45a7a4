"""SSH where something is odd: key files, names, a server's last words, and stages that together would outlast the limit."""

import contextlib
import os
import socket
import threading
import time
from types import SimpleNamespace

import paramiko
import pytest

from bgdeploy import clean, errors, site
from bgdeploy.outside import ssh, ssh_command, ssh_config
from tests.contract.sshd import Sshd, keys


@pytest.fixture
def plain(tmp_path):
    with Sshd(tmp_path) as server:
        yield server


def described(**ssh):
    return site.Site("t", "", "", (), (), None, None, None, ssh=site.Ssh(user="deploy", **ssh))


def configured(tmp_path, text, **ssh):
    (tmp_path / "config").write_text(text)
    return described(config=str(tmp_path / "config"), **ssh)


class Server(paramiko.ServerInterface):
    """Half a server on loopback, of Paramiko's own. :param login, opening: seconds until it answers a key, and a new session."""

    def __init__(self, tmp_path, accepts=True, login=0.0, opening=0.0, then=lambda transport: True):
        self.accepts, self.login, self.opening, self.then, self.tried, self.transports = accepts, login, opening, then, 0, []
        key = paramiko.ECDSAKey.generate()
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")
        self.known, self.host = str(tmp_path / "known_hosts"), site.Host("green-1", "green", "127.0.0.1", port)

        def serve():
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                while True:
                    self.transports.append(paramiko.Transport(self.listener.accept()[0]))
                    self.transports[-1].add_server_key(key)
                    self.transports[-1].start_server(server=self)
        threading.Thread(target=serve, daemon=True).start()

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        self.tried += 1
        time.sleep(self.login)
        return paramiko.AUTH_SUCCESSFUL if self.accepts else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, number):
        time.sleep(self.opening)
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        return self.then(channel.get_transport())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for transport in self.transports:
            transport.close()


def test_a_server_that_thinks_long_about_each_of_many_keys_does_not_outlast_the_limit(tmp_path):
    names = [f"key{number}" for number in range(8)]
    keys(tmp_path, *names)
    text = "IdentitiesOnly yes\n" + "".join(f"IdentityFile {tmp_path}/{name}\n" for name in names)
    with Server(tmp_path, accepts=False, login=0.9) as server:
        began = time.monotonic()
        with ssh.Shell(configured(tmp_path, text, known_hosts=server.known)) as shell, pytest.raises(errors.NoAnswer):
            shell.run(server.host, ["true"], limit=2.0)
        assert time.monotonic() - began < 5 and server.tried < 5


def test_a_session_that_opens_late_leaves_the_command_only_what_is_left(tmp_path):
    keys(tmp_path, "user")
    with Server(tmp_path, opening=2.4, then=lambda transport: time.sleep(20)) as server:
        began = time.monotonic()
        with ssh.Shell(described(known_hosts=server.known, identity=str(tmp_path / "user"))) as shell, \
                pytest.raises(errors.NoAnswer, match="its result is unknown"):
            shell.run(server.host, ["true"], limit=5.0)
        assert time.monotonic() - began < 9.6       # 3 of them: does the server live?


def test_last_words_that_are_no_utf_8_are_no_answer(tmp_path):
    def goodbye(transport):
        message = paramiko.Message()
        message.add_byte(b"\x01")           # SSH_MSG_DISCONNECT, RFC 4253, 11.1
        message.add_int(11)
        message.add_string(b"termin\xe9")
        message.add_string(b"")
        transport._send_message(message)
        return True
    keys(tmp_path, "user")
    with Server(tmp_path, then=goodbye) as server, \
            ssh.Shell(described(known_hosts=server.known, identity=str(tmp_path / "user"))) as shell, \
            pytest.raises(errors.NoAnswer, match="its result is unknown"):
        shell.run(server.host, ["true"], limit=8.0)


@pytest.mark.parametrize("text", ["ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519-cert-v01@openssh.com A!B c", "\x80\x81", ""])
@pytest.mark.parametrize("named", [True, False])
def test_a_damaged_certificate_beside_the_key_is_a_refusal_that_names_it(plain, tmp_path, text, named):
    (tmp_path / "user-cert.pub").write_bytes(text.encode("latin-1"))
    given = described(identity=str(plain.identity), known_hosts=plain.known()) if named else \
        configured(tmp_path, f"IdentityFile {plain.identity}\n", known_hosts=plain.known())
    with ssh.Shell(given) as shell, pytest.raises(errors.Refused, match="user-cert.pub holds no certificate that can be read"):
        shell.run(plain.host(), ["true"])


def test_a_key_file_that_is_no_text_is_passed_over_as_ssh_does(plain, tmp_path):
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    text = f"IdentityFile {tmp_path}/binary\nIdentityFile {plain.identity}\n"
    with ssh.Shell(configured(tmp_path, text, known_hosts=plain.known())) as shell:
        assert shell.run(plain.host(), ["echo", "in"]).out == b"in\n"


def test_the_key_of_a_host_is_found_by_the_tokens_in_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("KEYS", "/k")
    text = "HostName %h.lab\nPort 2222\nUser deploy\nIdentityFile ${KEYS}/%r@%h:%p-%n-%%-%k\n"
    given = configured(tmp_path, text)
    assert ssh_config.resolve(given.ssh, "green1").identities == ("/k/deploy@green1.lab:2222-green1-%-green1",)


@pytest.mark.parametrize("address", ["green..lab", "g" * 70 + ".lab"])
def test_what_is_no_host_name_is_no_answer_like_a_name_that_nobody_knows(tmp_path, address):
    for given, name in ((configured(tmp_path, ""), address), (configured(tmp_path, f"HostName {address}\n"), "green1")):
        with ssh.Shell(given) as shell, pytest.raises(errors.NoAnswer, match=f"the name {address} cannot be resolved"):
            shell.run(site.Host("green-1", "green", name), ["true"], limit=5)


def test_a_name_service_that_hangs_costs_no_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(8))
    began = time.monotonic()
    with ssh.Shell(configured(tmp_path, "")) as shell, pytest.raises(errors.NoAnswer):
        shell.run(site.Host("green-1", "green", "green1.lab"), ["true"], limit=1.0)
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("line", ["Port abc", "Port 99999", "Port -1", "Port 0", "HostName", "User"])
def test_without_ssh_a_line_that_makes_no_sense_is_refused_with_its_number(tmp_path, line):
    with pytest.raises(errors.BadInput, match="config line 2: "):
        ssh_config.resolve(configured(tmp_path, f"Host *\n{line}\n").ssh, "green1", program="no-such-ssh")


@pytest.mark.parametrize("place", ["file", "env"])
def test_a_sudo_password_is_the_bytes_that_stand_there_and_is_shown_nowhere(tmp_path, place):
    (tmp_path / "secret").write_bytes(b"gr\xfcn-hunter2\r\n")
    os.environb[b"OUR_SUDO"] = b"gr\xfcn-hunter2"
    try:
        secret = site.Secret(file=str(tmp_path / "secret")) if place == "file" else site.Secret(env="OUR_SUDO")
        assert ssh.Shell(described(sudo="password", sudo_password=secret))._secret() == b"gr\xfcn-hunter2"
        assert "hunter2" not in clean.clean(b"sudo said gr\xfcn-hunter2!")
    finally:
        del os.environ["OUR_SUDO"]
        clean._hidden = ()


def test_a_sudo_password_that_is_empty_is_bad_input_and_no_wrong_password(tmp_path):
    (tmp_path / "secret").write_text("")
    for secret in (site.Secret(file=str(tmp_path / "secret")), site.Secret(env="OUR_UNSET_SUDO")):
        with pytest.raises(errors.BadInput, match="is empty or not set"):
            ssh.Shell(described(sudo="password", sudo_password=secret))._secret()


class Broken:
    """A session whose connection breaks under it: Paramiko then raises the same from every call, `close` too."""

    closed, out = False, ""

    def __init__(self, trouble):
        self.trouble = trouble

    def settimeout(self, seconds):
        pass

    def close(self, *_):
        raise self.trouble

    exec_command = recv = sendall = close


@pytest.mark.parametrize("trouble", [EOFError(), paramiko.SSHException("rekey"), OSError("gone")])
def test_a_connection_that_breaks_is_an_unknown_result_also_while_the_session_is_closed(trouble):
    transport = SimpleNamespace(open_session=lambda timeout: Broken(trouble), is_active=lambda: True)
    with pytest.raises(errors.NoAnswer, match="its result is unknown"):
        ssh_command.exchange(transport, ["true"], "marker", until=time.monotonic() + 5, cap=100, label="green-1")
    line = ssh_command.Tunnel(Broken(trouble))
    for act in (lambda: line.recv(1), lambda: line.sendall(b"x")):
        with pytest.raises(OSError):
            act()
    line.close()
