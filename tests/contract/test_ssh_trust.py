"""Who may be trusted, and with what we log in: host keys, certificates, own keys, agents, sudo, jump hosts; against real sshd."""

import contextlib
import os
import shutil
import subprocess

import pytest

from bgdeploy import errors, site
from bgdeploy.outside import ssh
from tests.contract.sshd import Sshd, keys, public


def _hello(server, address="127.0.0.1", **options):
    with ssh.Shell(server.site(**options)) as shell:
        return shell.run(server.host(address=address), ["echo", "hello"]).out


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A server with keys of three types."""
    with Sshd(tmp_path_factory.mktemp("three"), hostkeys=("rsa", "ecdsa", "ed25519")) as server:
        yield server


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_whichever_type_known_hosts_lists_is_the_one_negotiated(three, kind):
    assert _hello(three, known_hosts=three.known(f"{three.name()} {public(three.hostkey(kind))}")) == b"hello\n"


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_a_changed_key_of_the_listed_type_does_not_hide_behind_another_type(three, kind, tmp_path):
    other = keys(tmp_path, "other", kind=kind)
    with pytest.raises(errors.Refused, match="has changed") as refusal:
        _hello(three, known_hosts=three.known(f"{three.name()} {public(other)}"))
    assert three.name() in refusal.value.sentence and "line 1" in refusal.value.sentence
    assert "ssh-keygen -F" in refusal.value.next_command


def test_a_host_that_has_no_key_of_the_listed_type_any_more_is_refused_as_changed(tmp_path):
    other = keys(tmp_path, "other", kind="ecdsa")
    with Sshd(tmp_path) as server, pytest.raises(errors.Refused, match=r"has changed: it shows ssh-ed25519 .* lists ecdsa"):
        _hello(server, known_hosts=server.known(f"{server.name()} {public(other)}"))


def test_a_hashed_name_with_a_port_is_found(three):
    file = three.known()
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert _hello(three, known_hosts=file) == b"hello\n"


def test_a_name_in_capitals_is_the_host_that_known_hosts_lists_in_small_letters(three):
    file = three.known(f"{three.name('localhost')} {public(three.hostkey('ed25519'))}")
    assert _hello(three, "LOCALHOST", known_hosts=file) == b"hello\n"


def test_an_unknown_host_is_refused_and_nothing_is_learned(three):
    file = three.known("# nobody")
    with pytest.raises(errors.Refused, match="is not known"):
        _hello(three, known_hosts=file)
    with open(file) as stream:
        assert stream.read() == "# nobody\n"


def test_the_second_of_two_listed_keys_of_one_type_connects(three, tmp_path):
    other = keys(tmp_path, "other")
    file = three.known(f"{three.name()} {public(other)}", f"{three.name()} {public(three.hostkey('ed25519'))}")
    assert _hello(three, known_hosts=file) == b"hello\n"


def test_a_revoked_key_is_refused(three):
    key = public(three.hostkey("ed25519"))
    with pytest.raises(errors.Refused, match="revoked"):
        _hello(three, known_hosts=three.known(f"{three.name()} {key}", f"@revoked * {key}"))


def test_a_host_certificate_alone_is_refused_and_a_pinned_key_beside_it_connects(tmp_path):
    authority = keys(tmp_path, "authority")
    keys(tmp_path, "host_ed25519")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "green1", "-h", "-n", "127.0.0.1"]
    subprocess.run([*sign, f"{tmp_path}/host_ed25519.pub"], check=True)
    with Sshd(tmp_path, certificate=True) as server:
        line = f"@cert-authority [127.0.0.1]:* {public(authority)}"
        with pytest.raises(errors.Refused, match="host certificates are not supported: pin the key"):
            _hello(server, known_hosts=server.known(line))
        pinned = f"{server.name()} {public(server.hostkey('ed25519'))}"
        assert _hello(server, known_hosts=server.known(line, pinned)) == b"hello\n"


def test_only_the_named_key_is_tried_though_an_agent_holds_many(tmp_path):
    with Sshd(tmp_path, lines=["MaxAuthTries 6"]) as server, _agent(tmp_path, *(f"foreign{n}" for n in range(8))):
        assert _hello(server) == b"hello\n"
        config = tmp_path / "config"
        config.write_text(f"Host *\n  IdentitiesOnly yes\n  IdentityFile {server.identity}\n")
        assert _hello(server, identity=None, config=str(config)) == b"hello\n"
        tried = server.log.read_text().count("Failed publickey")
    assert tried == 0


def test_a_key_locked_by_a_passphrase_is_used_through_the_agent_that_holds_it(tmp_path):
    with Sshd(tmp_path) as server, _agent(tmp_path, "foreign", str(server.identity)):
        _lock(server.identity)
        assert _hello(server) == b"hello\n"


def test_a_locked_key_without_an_agent_is_a_refusal_and_no_prompt(tmp_path):
    with Sshd(tmp_path) as server:
        _lock(server.identity)
        with pytest.raises(errors.Refused, match="user deploy"):
            _hello(server)


def test_a_host_that_wants_more_than_a_key_is_a_refusal_and_no_prompt(tmp_path):
    with Sshd(tmp_path, lines=["AuthenticationMethods publickey,password", "PasswordAuthentication yes"]) as server:
        with pytest.raises(errors.Refused, match="a password or a code after the key"):
            _hello(server)


def test_both_spellings_of_an_ipv6_address_connect(tmp_path):
    with Sshd(tmp_path, addresses=("::1",)) as server:
        file = server.known(f"[::1]:{server.port} {public(server.hostkey())}")
        assert _hello(server, "::1", known_hosts=file) == b"hello\n"
        with ssh.Shell(server.site(known_hosts=file)) as shell:
            assert shell.run(site.Host("green-2", "green", f"[::1]:{server.port}"), ["echo", "hello"]).out == b"hello\n"


def test_two_hosts_at_one_address_with_two_ports_keep_their_keys_and_connections_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with Sshd(tmp_path / "one") as one, Sshd(tmp_path / "two") as two:
        file = one.known(*(f"{server.name()} {public(server.hostkey())}" for server in (one, two)))
        two.identity = one.identity
        with ssh.Shell(one.site(known_hosts=file)) as shell:
            ports = []
            for server in (one, two):
                try:
                    ports.append(shell.run(server.host(), ["/bin/sh", "-c", "echo ${SSH_CONNECTION##* }"]).out.decode().strip())
                except errors.Refused as refusal:       # the second server knows other users' keys only
                    ports.append(refusal.sentence.split("]:")[1].split()[0])
    assert ports == [str(one.port), str(two.port)]


def test_a_jump_host_carries_all_connections_over_one_login(tmp_path):
    with Sshd(tmp_path, lines=["MaxStartups 3:90:5"], addresses=("127.0.0.1", "127.0.0.2")) as server:
        file = server.known(*(f"{server.name(address)} {public(server.hostkey())}" for address in ("127.0.0.1", "127.0.0.2")))
        with ssh.Shell(server.site(known_hosts=file, jump=f"deploy@127.0.0.2:{server.port}")) as shell:
            where = ["/bin/sh", "-c", "echo $SSH_CONNECTION"]
            seen = [shell.run(server.host(f"host-{n}"), where).out.decode().split()[2] for n in range(6)]
        log = server.log.read_text()
    assert seen == ["127.0.0.1"] * 6
    assert log.count("Accepted publickey") == 7


def test_a_jump_host_that_hangs_is_connected_to_anew_by_the_next_call(tmp_path):
    with Sshd(tmp_path, addresses=("127.0.0.1", "127.0.0.2")) as server:
        file = server.known(*(f"{server.name(address)} {public(server.hostkey())}" for address in ("127.0.0.1", "127.0.0.2")))
        with ssh.Shell(server.site(known_hosts=file, connect=2.0, jump=f"deploy@127.0.0.2:{server.port}")) as shell:
            assert shell.run(server.host("host-1"), ["echo", "one"]).out == b"one\n"
            sessions = subprocess.run(["pgrep", "-f", "sshd: deploy"], stdout=subprocess.PIPE, text=True).stdout.split()
            carrier = [pid for pid in sessions if _connected(pid, "127.0.0.2", server.port)]
            assert carrier
            subprocess.run(["kill", "-STOP", *carrier], check=True)
            try:
                with pytest.raises(errors.NoAnswer, match="host-2"):
                    shell.run(server.host("host-2"), ["true"], limit=6)
                assert shell.run(server.host("host-2"), ["echo", "two"]).out == b"two\n"
            finally:
                subprocess.run(["kill", "-CONT", *carrier], check=True)


def _connected(pid, address, port):
    """Does this process hold a TCP connection of that local end?"""
    local = "".join(f"{int(part):02X}" for part in reversed(address.split("."))) + f":{port:04X}"
    with open("/proc/net/tcp") as stream:
        inodes = {line.split()[9] for line in stream if line.split()[1] == local}
    held = set()
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:           # a session of somebody else, which ended meanwhile
        return False
    for number in numbers:
        with contextlib.suppress(OSError):
            held.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return any(f"socket:[{inode}]" in held for inode in inodes)


def test_a_proxy_command_carries_the_connection_and_ends_with_it(three, tmp_path):
    script = tmp_path / "carry.py"
    script.write_text("import socket, sys, threading\n"
                      "raw = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
                      "def copy(read, write):\n"
                      "    while True:\n"
                      "        piece = read(65536)\n"
                      "        if not piece:\n"
                      "            sys.exit()\n"
                      "        write(piece)\n"
                      "out = sys.stdout.buffer\n"
                      "show = lambda piece: (out.write(piece), out.flush())\n"
                      "threading.Thread(target=copy, args=(raw.recv, show), daemon=True).start()\n"
                      "copy(sys.stdin.buffer.raw.read, raw.sendall)\n")
    config = tmp_path / "config"
    config.write_text(f"Host *\n  ProxyCommand /usr/bin/python3 {script} %h %p\n")
    known = three.known(f"{three.name()} {public(three.hostkey('ed25519'))}")
    assert _hello(three, config=str(config), known_hosts=known) == b"hello\n"
    shown = subprocess.run(["ps", "-eo", "args"], stdout=subprocess.PIPE, text=True).stdout
    assert str(script) not in shown


needs_sudo = pytest.mark.skipif(not shutil.which("sudo"), reason="needs sudo")


@needs_sudo
def test_sudo_without_a_password_runs_as_root(tmp_path):
    rules = "deploy ALL=(root) NOPASSWD: /usr/bin/id, /usr/bin/cat"
    with Sshd(tmp_path, sudoers=rules) as server, ssh.Shell(server.site()) as shell:
        assert shell.sudo(server.host(), ["/usr/bin/id", "-un"]).out == b"root\n"
        assert shell.sudo(server.host(), ["/usr/bin/cat"], stdin=b"through").out == b"through"
        assert shell.sudo(server.host(), ["/usr/bin/id", "nobody-knows"]).exit == 1
        with pytest.raises(errors.Refused, match="NOPASSWD rule"):
            shell.sudo(server.host(), ["/usr/bin/whoami"])


@needs_sudo
@pytest.mark.parametrize("defaults", ["", "Defaults timestamp_timeout=0", "Defaults verifypw=never"])
def test_sudo_with_a_password_takes_it_from_a_file_and_the_command_gets_only_its_own_stdin(tmp_path, defaults):
    password = tmp_path / "sudo-password"
    password.write_text("lab-password\n")
    rules = f"{defaults}\ndeploy ALL=(root) ALL"
    with Sshd(tmp_path, sudoers=rules) as server:
        with ssh.Shell(server.site(sudo="password", sudo_password=site.Secret(file=str(password)))) as shell:
            assert shell.sudo(server.host(), ["/usr/bin/id", "-un"]).out == b"root\n"
            assert shell.sudo(server.host(), ["/usr/bin/cat"], stdin=b"only this").out == b"only this"
        password.write_text("wrong\n")
        with ssh.Shell(server.site(sudo="password", sudo_password=site.Secret(file=str(password)))) as shell:
            with pytest.raises(errors.Refused, match="sudo on green-1 refuses"):
                shell.sudo(server.host(), ["/usr/bin/id", "-un"], limit=30)


@needs_sudo
def test_a_password_that_sudo_does_not_ask_for_never_reaches_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_SUDO", "lab-password")
    with Sshd(tmp_path, sudoers="deploy ALL=(root) NOPASSWD: ALL") as server:
        with ssh.Shell(server.site(sudo="password", sudo_password=site.Secret(env="LAB_SUDO"))) as shell:
            assert shell.sudo(server.host(), ["/usr/bin/cat"], stdin=b"only this").out == b"only this"


@needs_sudo
def test_sudo_that_wants_a_terminal_is_a_refusal_with_the_cure(tmp_path):
    rules = "Defaults requiretty\ndeploy ALL=(root) NOPASSWD: ALL"
    with Sshd(tmp_path, sudoers=rules) as server, ssh.Shell(server.site()) as shell:
        with pytest.raises(errors.Refused, match="sudo on green-1 .*requiretty"):
            shell.sudo(server.host(), ["/usr/bin/id"])


def test_a_user_who_is_root_needs_no_sudo(three):
    known = three.known(f"{three.name()} {public(three.hostkey('ed25519'))}")
    with ssh.Shell(three.site(user="root", sudo="none", known_hosts=known)) as shell:
        assert shell.sudo(three.host(), ["id", "-un"]).out == b"root\n"


def _lock(key):
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(key)], check=True, stdout=subprocess.DEVNULL)


class _agent:
    """An ssh-agent of this test's own, holding new keys (or the ones at a path), as SSH_AUTH_SOCK."""

    def __init__(self, folder, *names):
        self._folder, self._names = folder, names

    def __enter__(self):
        socket = str(self._folder / "agent")
        self._process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
        for _ in range(100):
            if os.path.exists(socket):
                break
            subprocess.run(["sleep", "0.05"], check=True)
        self._before = os.environ.get("SSH_AUTH_SOCK")
        os.environ["SSH_AUTH_SOCK"] = socket
        for name in self._names:
            path = name if os.path.isabs(name) else keys(self._folder, name)
            subprocess.run(["ssh-add", "-q", str(path)], check=True)

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(10)
        os.environ.pop("SSH_AUTH_SOCK")
        if self._before:
            os.environ["SSH_AUTH_SOCK"] = self._before
