"""The lab itself: it comes up, it is what it says, and nothing is left of it."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

from bgdeploy import errors
from lab import cgroups, layout, link


def left_on_the_machine(lab):
    """Whatever a lab has here: its cgroups, processes in them, mounts that name its folder."""
    place = layout.of(lab.site)
    found = [str(tree / cgroups.home(place.unit)) for tree in cgroups.TREES if (tree / cgroups.home(place.unit)).exists()]
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(lab.folder) in command and folder.name != str(os.getpid()):
            found.append(command)
    mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return found + [line for line in mounts if str(lab.folder) in line or "/run/bgdeploy" in line]


def test_every_host_answers_the_login_user_by_its_pinned_key_and_under_its_own_name(lab):
    for host in lab.site.hosts:
        done = lab.ssh(host.name, "hostname; id -un; systemctl is-system-running --wait")
        assert (done.stdout.split(), done.returncode) == ([host.name, "deploy", "running"], 0), done.stderr


def test_sudo_lets_the_login_user_do_nothing_but_bgdeploy_host(lab):
    allowed = lab.ssh("green-1", "sudo -n bgdeploy-host look --components web,api")
    assert allowed.returncode == 0 and "--bgdeploy--" in allowed.stdout, allowed.stderr
    for command in ("id", "sh -c id", "systemctl restart web", "env bgdeploy-host look --components web", "chef-client -v"):
        assert lab.ssh("green-1", f"sudo -n {command}").returncode != 0, command
    assert lab.ssh("green-1", "cat /etc/bgdeploy/heartbeat-token").returncode != 0


def test_a_host_looks_like_el_9_and_runs_chef(lab):
    done = lab.ssh("blue-1", ". /etc/os-release; echo $ID $VERSION_ID; yum --version | head -1; chef-client --version")
    assert done.stdout.split()[:2] == ["rocky", "9.4"] and "Chef Infra Client: 18" in done.stdout, done


def test_all_balancers_and_services_answer_in_the_lab_and_not_on_this_machine(lab):
    seen = lab.status()
    assert set(seen["balancers"].values()) == {"running"}
    addresses = [f"http://{node.address}:8404/" for balancer in (lab.site.live, lab.site.standby) for node in balancer.nodes]
    for url in [*addresses, lab.site.repository.url + "/repodata/repomd.xml"]:
        assert lab.run("curl", "-s", "-f", "-m", "5", "-o", "/dev/null", url).returncode == 0, url
    here = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    assert not [node for node in addresses if node.split("/")[2].split(":")[0] in here]


def test_up_again_changes_nothing(lab):
    before = link.process(layout.of(lab.site))
    assert "is up already" in lab.up()
    assert link.process(layout.of(lab.site)) == before


def test_a_second_lab_with_the_same_addresses_lives_beside_the_first_and_goes_without_a_trace(lab, make_lab):
    other = make_lab("-other")
    lab.root("green-1", "echo first > /var/tmp/whose")
    other.root("green-1", "echo second > /var/tmp/whose")
    assert lab.ssh("green-1", "cat /var/tmp/whose").stdout == "first\n"
    assert other.ssh("green-1", "cat /var/tmp/whose").stdout == "second\n"
    other.down()
    assert left_on_the_machine(other) == []
    assert lab.ssh("green-1", "true").returncode == 0


@pytest.mark.parametrize("victim", ["the init", "its parent", "every process"])
def test_up_after_a_kill_finds_nothing_alive_and_starts_anew(make_lab, victim):
    other = make_lab("-other")
    other.up()
    place = layout.of(other.site)
    other.root("green-1", "echo old > /var/tmp/whose")
    first = link.process(place)
    if victim == "the init":
        os.kill(first, signal.SIGKILL)
    elif victim == "its parent":
        os.kill(int(pathlib.Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    else:
        cgroups.kill(cgroups.home(place.unit))
    until = time.monotonic() + 10
    while cgroups.populated(cgroups.home(place.unit)) and time.monotonic() < until:
        time.sleep(0.02)
    assert other.status() is None
    assert "is up in" in other.up()
    assert other.ssh("green-1", "cat /var/tmp/whose").returncode != 0
    other.down()
    assert left_on_the_machine(other) == []


def test_down_twice_is_fine(make_lab):
    other = make_lab("-other")
    other.down()
    assert "was not up" in other.down()
    with pytest.raises(errors.Refused):
        link.ask(layout.of(other.site), {"do": "status"})


def test_a_fifth_host_may_run_one_component_only(make_lab):
    line = "      blue-2: {address: 10.77.0.22}\n"
    other = make_lab("-five", lambda text: text.replace(line, line + "      blue-3: {address: 10.77.0.23, components: [api]}\n"))
    assert [c.name for c in other.site.components if c.name in other.site.host("blue-3").components] == ["api"]
    pools = other.run("curl", "-s", "http://10.77.0.3:8404/;csv").stdout
    assert "api,blue-3," in pools and "web,blue-3," not in pools
    other.forget()
