"""The SSH port against a real OpenSSH server on loopback."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

from bgdeploy import errors, site
from bgdeploy.outside import ssh
from tests.contract.sshd import Part, Sshd, keys


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One server for all tests that need nothing special."""
    with Sshd(tmp_path_factory.mktemp("sshd"), bashrc="") as server:
        yield server


@pytest.fixture
def shell(plain):
    with ssh.Shell(plain.site()) as opened:
        yield opened


@pytest.mark.parametrize("argument", ["plain", "two words", "", "$HOME `id` $(id)", "it's \"quoted\"", "back\\slash\\n", "a\nb\n",
                                      "!! !x %s %d", "grün ☃", "-n", "*", "{a,b}", "tab\there", "\\0101", "#x", "~", "; exit 3"])
def test_an_argument_reaches_the_program_exactly_as_it_is(shell, plain, argument):
    answer = shell.run(plain.host(), ["/usr/bin/printf", "%s.", argument])
    assert (answer.exit, answer.out, answer.err) == (0, argument.encode() + b".", b"")


@pytest.mark.parametrize("program", ["/bin/dash", "/usr/bin/tcsh", "/usr/bin/fish"])
def test_whatever_the_login_shell_is_arguments_arrive_and_exit_codes_come_back(tmp_path, program):
    if not os.path.exists(program):
        pytest.skip(f"needs {program}")
    text = "it's !! \"x\" \\ $HOME\n'"
    with Sshd(tmp_path, shell=program) as server, ssh.Shell(server.site()) as shell:
        answer = shell.run(server.host(), ["/bin/sh", "-c", 'printf %s. "$1"; exit 7', "sh", text])
    assert (answer.exit, answer.out) == (7, text.encode() + b".")


def test_bytes_go_in_and_come_out_unchanged_and_apart_from_stderr(shell, plain):
    content = bytes(range(256)) * 20000
    answer = shell.run(plain.host(), ["/bin/sh", "-c", "cat; echo careful >&2; exit 41"], stdin=content, cap=len(content))
    assert (answer.exit, answer.err, answer.cut) == (41, b"careful\n", False)
    assert answer.out == content


def test_a_program_that_reads_none_of_its_stdin_still_answers(shell, plain):
    answer = shell.run(plain.host(), ["/bin/sh", "-c", "exec <&-; echo done"], stdin=b"x" * (8 << 20))
    assert (answer.exit, answer.out) == (0, b"done\n")


def test_output_without_end_is_capped_and_a_flood_does_not_fill_memory(shell, plain):
    answer = shell.run(plain.host(), ["/bin/sh", "-c", "head -c 60000000 /dev/zero; echo end >&2"], cap=1000, limit=60)
    assert (len(answer.out), answer.cut, answer.exit, answer.err) == (1000, True, 0, b"end\n")


def test_what_a_shell_profile_prints_is_in_no_value(tmp_path):
    bashrc = "echo 'Welcome to green-1 - authorised use only'; echo careful >&2; printf 'no line end'"
    with Sshd(tmp_path, bashrc=bashrc) as server, ssh.Shell(server.site()) as shell:
        answer = shell.run(server.host(), ["echo", "value"])
    assert (answer.out, answer.err) == (b"value\n", b"")
    assert b"Welcome" in answer.noise and b"no line end" in answer.noise


def test_a_short_path_of_the_login_user_does_not_hide_sbin(tmp_path):
    with Sshd(tmp_path, lines=["SetEnv PATH=/usr/bin:/bin"]) as server, ssh.Shell(server.site()) as shell:
        answer = shell.run(server.host(), ["/bin/sh", "-c", "echo $PATH"])
    assert answer.out.startswith(b"/usr/bin:/bin:") and b"/usr/local/sbin" in answer.out


def test_a_command_out_of_time_is_no_answer_and_its_process_really_ends(shell, plain):
    shell.run(plain.host(), ["true"])
    with pytest.raises(errors.NoAnswer, match="did not end within"):
        shell.run(plain.host(), ["/bin/sleep", "4242"], limit=2)
    assert not _running("/bin/sleep 4242")
    assert shell.run(plain.host(), ["echo", "on"]).out == b"on\n"


def test_a_command_that_ignores_the_polite_signal_ends_too(shell, plain):
    shell.run(plain.host(), ["true"])
    with pytest.raises(errors.NoAnswer):
        shell.run(plain.host(), ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done # marker-of-this-test"], limit=2)
    assert not _running("marker-of-this-test")


def test_a_command_of_root_ends_too_although_sshd_passes_no_signal_to_root(plain):
    with ssh.Shell(plain.site(user="root")) as shell:
        shell.run(plain.host(), ["true"])
        with pytest.raises(errors.NoAnswer):
            shell.run(plain.host(), ["/bin/sleep", "4343"], limit=2)
    assert not _running("/bin/sleep 4343")


def test_a_time_out_of_one_command_leaves_the_others_on_that_connection_alone(shell, plain):
    shell.run(plain.host(), ["true"])
    answers = []
    other = threading.Thread(target=lambda: answers.append(shell.run(plain.host(), ["/bin/sh", "-c", "sleep 5; echo whole"])))
    other.start()
    with pytest.raises(errors.NoAnswer):
        shell.run(plain.host(), ["/bin/sleep", "60"], limit=1.5)
    other.join()
    assert answers[0].out == b"whole\n"


def test_a_background_child_that_keeps_stdout_open_delays_nobody(shell, plain):
    began = time.monotonic()
    answer = shell.run(plain.host(), ["/bin/sh", "-c", "sleep 20 & echo started"])
    assert (answer.out, answer.exit) == (b"started\n", 0)
    assert time.monotonic() - began < 15


def test_a_session_killed_in_mid_command_is_no_answer_and_the_next_call_connects_anew(shell, plain):
    first = shell.run(plain.host(), ["/bin/sh", "-c", "echo $PPID"])
    assert first.exit == 0
    kill_session = "kill -9 $(ps -o ppid= -p $(ps -o sid= -p $$))"
    with pytest.raises(errors.NoAnswer, match="unknown"):
        shell.run(plain.host(), ["/bin/sh", "-c", kill_session + "; sleep 30"], limit=20)
    assert shell.run(plain.host(), ["echo", "back"]).out == b"back\n"


def test_a_command_killed_by_a_signal_has_no_answer_rather_than_an_exit_code(shell, plain):
    with pytest.raises(errors.NoAnswer, match="before its answer came"):
        shell.run(plain.host(), ["/bin/sh", "-c", "kill -9 -$(ps -o pgid= -p $$ | tr -d ' ')"], limit=20)


def test_a_kept_connection_that_died_meanwhile_is_replaced_without_a_word(plain):
    with ssh.Shell(plain.site()) as shell:
        session = shell.run(plain.host(), ["/bin/sh", "-c", "ps -o ppid= -p $(ps -o sid= -p $$)"]).out.strip().decode()
        subprocess.run(["kill", "-9", session], check=True)
        assert shell.run(plain.host(), ["echo", "again"]).out == b"again\n"


def test_many_commands_at_once_share_one_connection_within_the_servers_limit_of_sessions(tmp_path):
    with Sshd(tmp_path) as server, ssh.Shell(server.site()) as shell:
        answers = _all(30, lambda n: shell.run(server.host(), ["/bin/sh", "-c", f"sleep 0.1; echo {n}"], limit=60).out)
        log = server.log.read_text()
    assert answers == [f"{n}\n".encode() for n in range(30)]
    assert log.count("Accepted publickey") == 1


def test_forty_hosts_behind_one_server_with_few_logins_at_a_time_are_all_reached(tmp_path):
    with Sshd(tmp_path, lines=["MaxStartups 3:90:5"]) as server, ssh.Shell(server.site()) as shell:
        answers = _all(40, lambda n: shell.run(server.host(f"host-{n}"), ["echo", str(n)], limit=90).out)
    assert answers == [f"{n}\n".encode() for n in range(40)]


def test_logins_turned_away_by_others_who_hold_the_slots_are_tried_again(tmp_path):
    with Sshd(tmp_path, lines=["MaxStartups 3:100:3", "LoginGraceTime 4"]) as server, ssh.Shell(server.site()) as shell:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
        try:
            assert shell.run(server.host(), ["echo", "in"], limit=60).out == b"in\n"
        finally:
            for one in silent:
                one.close()


def test_a_server_without_a_banner_is_no_answer_within_the_limit():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        host = site.Host("green-1", "green", "127.0.0.1", server.getsockname()[1])
        with ssh.Shell(_site(connect=1.0)) as shell, pytest.raises(errors.NoAnswer, match="green-1: .*no SSH banner"):
            shell.run(host, ["true"], limit=8)


def test_a_server_that_stalls_after_its_banner_is_no_answer_within_the_limit():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        held = []

        def greet():
            held.append(server.accept()[0])
            held[0].sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        threading.Thread(target=greet, daemon=True).start()
        host = site.Host("green-1", "green", "127.0.0.1", server.getsockname()[1])
        began = time.monotonic()
        with ssh.Shell(_site(connect=1.0)) as shell, pytest.raises(errors.NoAnswer, match="key exchange"):
            shell.run(host, ["true"], limit=8)
        assert time.monotonic() - began < 20


def test_nobody_listening_is_no_answer_at_once_with_the_address():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    with ssh.Shell(_site()) as shell, pytest.raises(errors.NoAnswer, match=rf"\[127.0.0.1\]:{port}: Connection refused"):
        shell.run(site.Host("green-1", "green", "127.0.0.1", port), ["true"])


def _frozen(server, shell):
    """The processes that carry the connection of this shell, stopped: TCP still acknowledges, nothing answers."""
    session = shell.run(server.host(), ["/bin/sh", "-c", "ps -o ppid= -p $(ps -o sid= -p $$)"]).out.strip().decode()
    parent = subprocess.run(["ps", "-o", "ppid=", "-p", session], stdout=subprocess.PIPE, text=True).stdout.split()
    subprocess.run(["kill", "-STOP", session, *parent], check=True)
    return [session, *parent]


def test_a_kept_connection_that_hangs_is_replaced_within_the_limit(tmp_path):
    with Sshd(tmp_path) as server, ssh.Shell(server.site()) as shell:
        stopped = _frozen(server, shell)
        try:
            assert shell.run(server.host(), ["echo", "on"], limit=20).out == b"on\n"
        finally:
            subprocess.run(["kill", "-CONT", *stopped], check=True)


def test_a_server_that_hangs_altogether_is_no_answer_at_the_deadline(tmp_path):
    with Sshd(tmp_path) as server, ssh.Shell(server.site()) as shell:
        stopped = _frozen(server, shell)
        subprocess.run(["kill", "-STOP", str(server.process.pid)], check=True)
        try:
            began = time.monotonic()
            with pytest.raises(errors.NoAnswer):
                shell.run(server.host(), ["true"], limit=3)
            assert time.monotonic() - began < 20
        finally:
            subprocess.run(["kill", "-CONT", str(server.process.pid), *stopped], check=True)
        assert shell.run(server.host(), ["echo", "thawed"]).out == b"thawed\n"


CUT = """
import pathlib, subprocess, sys, time
sys.path[:0] = [{code!r}]
from bgdeploy import errors
from bgdeploy.outside import ssh
from tests.contract.sshd import Sshd
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with Sshd(pathlib.Path({at!r})) as server, ssh.Shell(server.site(keepalive=1.0)) as shell:
    shell.run(server.host(), ["true"])
    rule = "type filter hook output priority 0; tcp dport %d ct state established drop;" % server.port
    table = "table inet cut {{ chain c {{ " + rule + " }}; }};"
    cutter = subprocess.Popen(["/bin/sh", "-c", "sleep 1; exec nft -f -"], stdin=subprocess.PIPE)
    cutter.stdin.write(table.encode())
    cutter.stdin.close()
    began = time.monotonic()
    try:
        shell.run(server.host(), ["/bin/sh", "-c", "sleep 100"], limit=90)
    except errors.NoAnswer as trouble:
        print(round(time.monotonic() - began), trouble.sentence)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    print(shell.run(server.host(), ["echo", "on again"]).out.decode())
"""


@pytest.mark.skipif(not (shutil.which("nft") and shutil.which("ip")), reason="needs nftables and iproute2")
def test_a_firewall_that_drops_an_idle_session_is_noticed_within_the_keepalive_limit(tmp_path):
    code = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(["unshare", "-n", sys.executable, "-c", CUT.format(code=code, at=str(tmp_path))],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=180)
    if "unshare failed" in done.stderr:
        pytest.skip("no network namespace here: " + done.stderr.strip())
    assert "was lost" in done.stdout and "on again" in done.stdout, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) < 40


def test_a_tunnel_reaches_what_listens_on_the_host_itself(shell, plain):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        port = server.getsockname()[1]
        threading.Thread(target=lambda: server.accept()[0].sendall(b"live\n"), daemon=True).start()
        tunnel = shell.tunnel(plain.host(), "127.0.0.1", port)
        tunnel.settimeout(10)
        assert tunnel.recv(100) == b"live\n"
        tunnel.close()
    with pytest.raises(errors.NoAnswer, match=f"127.0.0.1:{port}"):
        shell.tunnel(plain.host(), "127.0.0.1", port)


def test_a_user_whom_the_host_does_not_accept_is_a_refusal_that_names_user_and_key(plain, tmp_path):
    stranger = keys(tmp_path, "stranger")
    with ssh.Shell(plain.site(identity=str(stranger))) as shell, pytest.raises(errors.Refused, match=r"deploy.*stranger"):
        shell.run(plain.host(), ["true"])


def test_a_closed_shell_says_so(plain):
    shell = ssh.Shell(plain.site())
    shell.run(plain.host(), ["true"])
    shell.close()
    with pytest.raises(errors.NoAnswer, match="closed"):
        shell.run(plain.host(), ["true"])


def _running(text):
    for _ in range(40):         # a killed process may take a moment to be gone
        shown = subprocess.run(["ps", "-eo", "args"], stdout=subprocess.PIPE, text=True).stdout
        if not any(text in line and "octal" not in line for line in shown.splitlines()):
            return False
        time.sleep(0.05)
    return True


def _all(count, function):
    answers = [None] * count

    def one(n):
        answers[n] = function(n)
    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _site(**options):
    return Part(site.Ssh(user="deploy", known_hosts=os.devnull, config=os.devnull, **options))


