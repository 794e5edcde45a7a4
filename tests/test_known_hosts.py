"""Host keys by known_hosts: our matcher against a table, and against what ssh-keygen -F says."""

import base64
import shutil
import subprocess

import pytest

from bgdeploy import errors
from bgdeploy.outside import known_hosts
from tests.contract.sshd import keys, public

NAMES = [
    ("green1.lab", "green1.lab", True), ("green1.lab", "green2.lab", False), ("GREEN1.lab", "green1.LAB", True),
    ("*.lab", "green1.lab", True), ("*.lab", "green1.lab.evil", False), ("green?.lab", "green1.lab", True),
    ("green?.lab", "green12.lab", False), ("*.lab,!green1.lab", "green1.lab", False), ("!green1.lab,*.lab", "green1.lab", False),
    ("!green1.lab,*.lab", "green2.lab", True), ("!green1.lab", "green2.lab", False), ("a,b,c", "b", True), ("a,b,c", "d", False),
    ("[green1.lab]:2222", "[green1.lab]:2222", True), ("[green1.lab]:2222", "green1.lab", False),
    ("green1.lab", "[green1.lab]:2222", False), ("[*.lab]:2222", "[green1.lab]:2222", True),
    ("[*.lab]:*", "[green1.lab]:2222", True),
    ("10.77.0.1?", "10.77.0.11", True), ("fd77::11", "FD77::11", True), ("*", "anything", True),
    ("green1.lab.", "green1.lab", False),
    ("green1[.]lab", "green1.lab", False), ("g.een1.lab", "green1.lab", False), ("", "green1.lab", False),
]


@pytest.mark.parametrize("names, name, expected", NAMES)
def test_the_first_field_of_a_line_means_a_name_as_openssh_reads_it(names, name, expected):
    assert known_hosts.matches(names, name) is expected


# ssh-keygen -H leaves a file with such lines as it is
BAD = ("green1.lab ssh-ed25519 AAAA", "green1.lab ssh-ed25519 !!!", "green1.lab",
       "green1.lab ssh-ed25519 AAAAB3NzaC1yc2EAAAADAQABAAAAQQC7")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    made = {kind: keys(folder, f"key_{kind}", kind=kind) for kind in ("ed25519", "ecdsa", "rsa")}
    made["other"] = keys(folder, "other")
    return made


def _write(folder, *lines):
    path = folder / "known_hosts"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _blob(pair):
    return base64.b64decode(public(pair).split()[1])


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs openssh-client")
def test_it_finds_the_same_lines_as_ssh_keygen(tmp_path, pairs, hashed):
    file = _write(tmp_path, "# a comment", "", f"green1.lab {public(pairs['ed25519'])}",
                  f"green1.lab,10.77.0.11 {public(pairs['rsa'])} a note",
                  f"[green1.lab]:2222 {public(pairs['ecdsa'])}", f"*.lab,!green2.lab {public(pairs['other'])}",
                  f"@revoked * {public(pairs['other'])}", f"@cert-authority *.lab {public(pairs['rsa'])}",
                  *([] if hashed else BAD), f"fd77::11 {public(pairs['ed25519'])}", f"[fd77::12]:2222 {public(pairs['ed25519'])}")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    known = known_hosts.KnownHosts([file])
    for name in ("green1.lab", "[green1.lab]:2222", "green2.lab", "green3.lab", "10.77.0.11", "other", "fd77::11",
                 "[fd77::12]:2222", "fd77::12"):
        said = subprocess.run(["ssh-keygen", "-F", name, "-f", file], stdout=subprocess.PIPE, text=True).stdout
        theirs = [int(line.split("found: line ")[1].split()[0]) for line in said.splitlines() if "found: line " in line]
        theirs = [line for line in theirs if hashed or not 9 <= line < 9 + len(BAD)]       # it lists damaged lines, too
        assert [entry.line for entry in known.find(name)] == theirs, name


def test_bad_lines_are_skipped_and_remembered_not_fatal(tmp_path, pairs):
    good = f"green1.lab {public(pairs['ed25519'])}"
    file = _write(tmp_path, "green1.lab ssh-ed25519 AAAA", "\x00\xff rubbish", "@unknown green1.lab " + public(pairs["rsa"]),
                  "|1|notbase64|x ssh-rsa AAAA", "green1.lab 1024 35 1234567", good, "green1.lab ssh-ed25519")
    known = known_hosts.KnownHosts([file])
    assert [entry.line for entry in known.find("green1.lab")] == [6]
    assert [line for _, line in known.skipped] == [1, 2, 3, 4, 5, 7]


def test_the_listed_key_proves_the_host_whatever_the_case_of_its_name(tmp_path, pairs):
    known = known_hosts.KnownHosts([_write(tmp_path, f"green1.lab {public(pairs['ed25519'])}")])
    assert known.prove("GREEN1.lab", 22, _blob(pairs["ed25519"])).line == 1


def test_the_second_of_two_keys_of_one_type_is_as_good_as_the_first(tmp_path, pairs):
    known = known_hosts.KnownHosts([_write(tmp_path, *(f"green1.lab {public(pairs[name])}" for name in ("other", "ed25519")))])
    assert known.prove("green1.lab", 22, _blob(pairs["ed25519"])).line == 2


def test_a_changed_key_is_refused_with_name_place_both_fingerprints_and_the_command(tmp_path, pairs):
    file = _write(tmp_path, "# first", f"[green1.lab]:2222 {public(pairs['other'])}")
    with pytest.raises(errors.Refused) as refusal:
        known_hosts.KnownHosts([file]).prove("green1.lab", 2222, _blob(pairs["ed25519"]))
    sentence = refusal.value.sentence
    fingerprints = [_fingerprint(pairs[name]) for name in ("other", "ed25519")]
    for part in ("[green1.lab]:2222", f"{file} line 2", "has changed", *fingerprints):
        assert part in sentence
    assert refusal.value.next_command == f"ssh-keygen -F '[green1.lab]:2222' -f {file}"
    assert refusal.value.exit_code == 3


def test_an_unknown_key_is_refused_with_the_name_and_how_to_add_it(tmp_path, pairs):
    file = _write(tmp_path, f"green2.lab {public(pairs['ed25519'])}")
    with pytest.raises(errors.Refused, match=r"\[green1.lab\]:2222 is not known.*ssh-keyscan -p 2222 green1.lab"):
        known_hosts.KnownHosts([file]).prove("green1.lab", 2222, _blob(pairs["ed25519"]))


def test_a_key_of_another_type_than_listed_is_a_changed_key(tmp_path, pairs):
    known = known_hosts.KnownHosts([_write(tmp_path, f"green1.lab {public(pairs['rsa'])}")])
    assert known.kinds("green1.lab") == ("ssh-rsa",)
    with pytest.raises(errors.Refused, match="has changed"):
        known.prove("green1.lab", 22, _blob(pairs["ed25519"]))


@pytest.mark.parametrize("line", ["@revoked * {}", "@revoked green1.lab {}", "@revoked [green1.lab]:2222 {}"])
def test_a_revoked_key_is_refused_although_another_line_lists_it(tmp_path, pairs, line):
    file = _write(tmp_path, f"[green1.lab]:2222 {public(pairs['ed25519'])}", line.format(public(pairs["ed25519"])))
    with pytest.raises(errors.Refused, match=r"revoked.*line 2"):
        known_hosts.KnownHosts([file]).prove("green1.lab", 2222, _blob(pairs["ed25519"]))


def test_a_revoked_key_of_somebody_else_does_no_harm(tmp_path, pairs):
    file = _write(tmp_path, f"@revoked * {public(pairs['other'])}", f"green1.lab {public(pairs['ed25519'])}")
    assert known_hosts.KnownHosts([file]).prove("green1.lab", 22, _blob(pairs["ed25519"])).line == 2


def test_the_key_of_the_bare_name_proves_another_port_only_if_it_is_that_very_key(tmp_path, pairs):
    known = known_hosts.KnownHosts([_write(tmp_path, f"green1.lab {public(pairs['ed25519'])}")])
    assert known.prove("green1.lab", 2222, _blob(pairs["ed25519"])).line == 1
    with pytest.raises(errors.Refused, match="not known"):
        known.prove("green1.lab", 2222, _blob(pairs["other"]))


def test_a_host_known_by_a_certificate_authority_alone_is_refused_with_the_cure(tmp_path, pairs):
    known = known_hosts.KnownHosts([_write(tmp_path, f"@cert-authority *.lab {public(pairs['other'])}")])
    with pytest.raises(errors.Refused, match="certificates are not supported: pin the key with ssh-keyscan -p 2222 green1.lab"):
        known.refuse_certificates("green1.lab", 2222)
    known.refuse_certificates("elsewhere", 22)


def test_a_pinned_key_behind_an_authority_is_used(tmp_path, pairs):
    known = known_hosts.KnownHosts([_write(tmp_path, f"@cert-authority *.lab {public(pairs['other'])}",
                                           f"[green1.lab]:2222 {public(pairs['ed25519'])}")])
    known.refuse_certificates("green1.lab", 2222)
    assert known.prove("green1.lab", 2222, _blob(pairs["ed25519"])).line == 2


def test_a_certificate_authoritys_own_key_is_no_host_key(tmp_path, pairs):
    known = known_hosts.KnownHosts([_write(tmp_path, f"@cert-authority *.lab {public(pairs['ed25519'])}")])
    with pytest.raises(errors.Refused):
        known.prove("green1.lab", 22, _blob(pairs["ed25519"]))


def test_a_named_file_that_is_missing_is_bad_input_and_an_unnamed_one_is_empty(tmp_path):
    missing = str(tmp_path / "nothing")
    assert known_hosts.KnownHosts([missing]).entries == []
    with pytest.raises(errors.BadInput, match="does not exist"):
        known_hosts.KnownHosts([missing], required=True)


def _fingerprint(pair):
    said = subprocess.run(["ssh-keygen", "-l", "-f", f"{pair}.pub"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return said.split()[1]
