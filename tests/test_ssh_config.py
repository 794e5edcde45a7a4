"""Where SSH leads by the user's ssh_config: as `ssh -G` says, or a refused file; never a guess."""

import getpass
import os
import shutil

import pytest

from bgdeploy import errors, site
from bgdeploy.outside import ssh_config

with_ssh = pytest.mark.skipif(not shutil.which("ssh"), reason="needs openssh-client")
NO_SSH = "no-such-ssh-client"


def _resolve(tmp_path, text, address="green1", program="ssh", port=22, user=None, **options):
    file = tmp_path / "ssh_config"
    file.write_text(text)
    return ssh_config.resolve(site.Ssh(config=str(file), **options), address, port, user, program=program)


@pytest.mark.parametrize("spec, expected", [
    ("green1", (None, "green1", None)), ("green1.lab:2222", (None, "green1.lab", 2222)),
    ("deploy@green1", ("deploy", "green1", None)),
    ("fd77::11", (None, "fd77::11", None)), ("[fd77::12]", (None, "fd77::12", None)),
    ("[fd77::12]:2222", (None, "fd77::12", 2222)),
    ("ops@[fd77::12]:22", ("ops", "fd77::12", 22)), ("10.77.0.11", (None, "10.77.0.11", None)), ("::1", (None, "::1", None))])
def test_an_address_is_read_as_host_and_port_also_where_it_is_ipv6(spec, expected):
    assert ssh_config.split(spec) == expected


@pytest.mark.parametrize("spec", ["", "-oProxyCommand=x", "a b", "host:0", "host:70000", "user@", "-l@host", "host/path"])
def test_what_is_no_address_is_bad_input(spec):
    with pytest.raises(errors.BadInput):
        ssh_config.split(spec)


@with_ssh
def test_a_match_final_with_a_negated_exec_means_what_ssh_means_by_it(tmp_path):
    text = ('Match final !originalhost hop !exec "exit 0"\n  ProxyCommand ssh hop -W %h:%p\n'
            "Host green1\n  HostName 10.77.0.99\n  User carrier\n")
    target = _resolve(tmp_path, text)
    assert (target.hostname, target.user, target.proxy_command) == ("10.77.0.99", "carrier", None)


@with_ssh
def test_a_match_that_holds_only_for_other_hosts_is_not_applied_to_this_one(tmp_path):
    text = "Match host blue* \n  User wrong\nMatch Host=green*\n  User right\n  HostName 10.77.0.98\n"
    assert _resolve(tmp_path, text).user == "right"


@with_ssh
def test_the_inventory_wins_over_the_file(tmp_path):
    text = "Host *\n  User other\n  Port 2022\n  IdentityFile /nowhere/key\n  UserKnownHostsFile /nowhere/known\n"
    target = _resolve(tmp_path, text, user=None, identity="/k", known_hosts="/h")
    assert (target.user, target.port, target.identities, target.known_hosts) == ("other", 2022, ("/k",), ("/h",))
    target = ssh_config.resolve(site.Ssh(config=str(tmp_path / "ssh_config"), user="deploy"), "green1", 2222, "root")
    assert (target.user, target.port) == ("root", 2222)


@pytest.mark.parametrize("program", [pytest.param("ssh", marks=with_ssh), NO_SSH])
def test_a_plain_file_reads_the_same_with_and_without_an_ssh_client(tmp_path, program):
    text = """# laptop
Host green* !green9
    HostName=10.77.0.11
    User  deploy
    Port 2222
    IdentityFile "/keys/one"
    IdentityFile /keys/two
    IdentitiesOnly yes
    HostKeyAlias green-alias
    ProxyJump hop1,ops@hop2:2200
    UserKnownHostsFile /known/a /known/b
    GlobalKnownHostsFile none
    ServerAliveInterval 30
Host green9
    User nobody
Match all
    User last
"""
    target = _resolve(tmp_path, text, program=program)
    assert target == ssh_config.Target(
        hostname="10.77.0.11", port=2222, user="deploy", identities=("/keys/one", "/keys/two"), only_identities=True,
        agent=os.environ.get("SSH_AUTH_SOCK"), known_hosts=("/known/a", "/known/b"), known_hosts_named=False, alias="green-alias",
        jump=("hop1", "ops@hop2:2200"), proxy_command=None)
    assert _resolve(tmp_path, text, "green9", program=program).user == "nobody"
    assert _resolve(tmp_path, text, "blue1", program=program).user == "last"


@pytest.mark.parametrize("line, named", [
    ('Match final !originalhost hop !exec "true"', "Match final"), ("Match host=green*", "Match host=green*"),
    ("Include other", "include"),
    ("Match user root", "Match user root"), ("CanonicalizeHostname yes", "canonicalizehostname"), ("Nonsense on", "nonsense")])
def test_without_an_ssh_client_what_cannot_be_read_surely_is_refused_with_file_line_and_cure(tmp_path, line, named):
    with pytest.raises(errors.BadInput) as refusal:
        _resolve(tmp_path, f"# first\n{line}\n  User wrong\n", program=NO_SSH)
    assert refusal.value.exit_code == 2
    for part in (f"{tmp_path}/ssh_config line 2", named, "ssh.config in the inventory"):
        assert part in refusal.value.sentence


@with_ssh
def test_a_file_that_ssh_refuses_is_bad_input_in_its_words(tmp_path):
    with pytest.raises(errors.BadInput, match=r"ssh_config.*line 2.*nonsense"):
        _resolve(tmp_path, "Host *\n  Nonsense on\n")


@pytest.mark.parametrize("program", [pytest.param("ssh", marks=with_ssh), NO_SSH])
def test_a_named_file_that_is_missing_is_bad_input(tmp_path, program):
    with pytest.raises(errors.BadInput, match="nowhere"):
        ssh_config.resolve(site.Ssh(config=str(tmp_path / "nowhere")), "green1", program=program)


def test_names_are_folded_to_lower_case(tmp_path):
    assert _resolve(tmp_path, "", "GREEN1.Lab").hostname == "green1.lab"


def test_somebody_is_always_the_user(tmp_path):
    assert _resolve(tmp_path, "", program=NO_SSH).user == getpass.getuser()


@with_ssh
def test_the_inventorys_jump_host_replaces_the_files(tmp_path):
    text = "Host *\n  ProxyCommand nc %h %p\nHost hop\n  HostName 10.77.0.9\n  User ops\n"
    target = _resolve(tmp_path, text, jump="hop")
    assert (target.jump, target.proxy_command) == (("hop",), None)
    hop = ssh_config.jump_target(target, site.Ssh(config=str(tmp_path / "ssh_config"), jump="hop", user="deploy"))
    assert (hop.hostname, hop.user, hop.jump) == ("10.77.0.9", "ops", ())


@with_ssh
def test_a_chain_of_jump_hosts_is_followed_from_the_inside_out(tmp_path):
    target = _resolve(tmp_path, "Host green1\n  ProxyJump one,two\n")
    settings = site.Ssh(config=str(tmp_path / "ssh_config"))
    two = ssh_config.jump_target(target, settings)
    one = ssh_config.jump_target(two, settings)
    assert (two.hostname, one.hostname, ssh_config.jump_target(one, settings)) == ("two", "one", None)


@with_ssh
def test_the_jump_host_itself_is_reached_directly(tmp_path):
    settings = site.Ssh(config=str(tmp_path / "ssh_config"), jump="hop")
    target = _resolve(tmp_path, "Host hop\n  HostName 10.77.0.9\n", "hop", jump="hop")
    assert ssh_config.jump_target(target, settings) is None


@with_ssh
def test_a_loop_of_jump_hosts_is_refused_in_sshs_words(tmp_path):
    everywhere = _resolve(tmp_path, "Host *\n  ProxyJump hop\n")
    with pytest.raises(errors.BadInput, match="loop via hop"):
        ssh_config.jump_target(everywhere, site.Ssh(config=str(tmp_path / "ssh_config")))


@pytest.mark.parametrize("command, expected", [("nc %h %p", "nc 10.77.0.11 2222"), ("x %r@%n %%h", "x deploy@10.77.0.11 %h")])
def test_the_tokens_of_a_proxy_command_are_filled_in(command, expected):
    assert ssh_config.expand(command, ssh_config.Target("10.77.0.11", 2222, "deploy")) == expected


def test_a_token_that_only_ssh_understands_is_refused():
    with pytest.raises(errors.BadInput, match="%C.*not supported"):
        ssh_config.expand("x %C", ssh_config.Target("10.77.0.11"))
