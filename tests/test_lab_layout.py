"""Which inventories the lab takes, and what it says to the others; nothing is started here."""

import dataclasses
from pathlib import Path

import pytest

from bgdeploy import errors, inventory
from lab import balancers, hostfiles, layout

BASE = Path(__file__).resolve().parents[1]


@pytest.fixture
def site():
    return inventory.load("lab", BASE, environ={})


def test_everybody_is_on_the_switch_under_a_name_and_an_address(site):
    members = dict(layout.of(site).members)
    assert members["ctl"] == ("10.77.0.2",) and members["infra"] == ("10.77.0.6",)
    assert members["green-1"] == ("10.77.0.11",) and members["live-2"] == ("10.77.0.4",)
    assert len(members) == 9


def test_the_same_name_in_another_copy_of_the_project_is_another_lab(site, tmp_path):
    folder = tmp_path / ".lab/lab"
    assert layout.at(folder).unit != layout.of(site).unit
    assert layout.at(folder).unit.startswith("bgdeploy-lab-lab-")


def with_host(site, **changes):
    green = dataclasses.replace(site.stacks[0], hosts=(dataclasses.replace(site.stacks[0].hosts[0], **changes),
                                                       *site.stacks[0].hosts[1:]))
    return dataclasses.replace(site, stacks=(green, *site.stacks[1:]))


@pytest.mark.parametrize("changes, said", [
    ({"address": "green-1.example"}, "'green-1.example' of green-1 is no IPv4 address"),
    ({"address": "2001:db8::1"}, "'2001:db8::1' of green-1 is no IPv4 address"),
    ({"address": "10.77.0.12"}, "green-2 and green-1 have the same address 10.77.0.12"),
    ({"address": "10.77.0.2"}, "ctl and green-1 have the same address"),
    ({"name": "live-1"}, "'live-1' is a host and a balancer's node"),
    ({"name": "ctl"}, "the lab uses the name 'ctl' itself"),
    ({"user": "root"}, "the lab's hosts have no user 'root'"),
])
def test_a_host_that_a_lab_cannot_be_is_refused_in_a_sentence_that_names_the_file(site, changes, said):
    with pytest.raises(errors.BadInput, match=said) as caught:
        layout.of(with_host(site, **changes))
    assert site.file in str(caught.value)


def test_a_host_outside_the_network_is_refused(site):
    far = dataclasses.replace(site, lab={"network": "10.78.0.0/24"})
    with pytest.raises(errors.BadInput, match="outside the lab's network 10.78.0.0/24"):
        layout.of(far)
    with pytest.raises(errors.BadInput, match="'10.77.0.1/24' is no IPv4 network; write"):
        layout.of(dataclasses.replace(site, lab={"network": "10.77.0.1/24"}))


def test_a_site_is_no_lab_and_a_lab_writes_only_into_its_own_folder(site):
    with pytest.raises(errors.BadInput, match="is not a lab"):
        layout.of(dataclasses.replace(site, lab=None))
    for change in ({"ssh": dataclasses.replace(site.ssh, identity="/home/me/.ssh/id_ed25519")},
                   {"ssh": dataclasses.replace(site.ssh, known_hosts="/home/me/.ssh/known_hosts")},
                   {"repository": dataclasses.replace(site.repository, directory="/srv/repo")}):
        with pytest.raises(errors.BadInput, match="so it has to be inside"):
            layout.of(dataclasses.replace(site, **change))


def test_a_port_of_its_own_is_pinned_with_the_port(site, tmp_path):
    moved = dataclasses.replace(with_host(site, port=2222), base=str(tmp_path))
    there = dataclasses.replace(
        moved, ssh=dataclasses.replace(site.ssh, identity=None, known_hosts=None),
        repository=None, components=tuple(dataclasses.replace(c, heartbeat=dataclasses.replace(c.heartbeat, token=None))
                                          for c in site.components))
    place = layout.of(there)
    hostfiles.keys(there, place)
    lines = (tmp_path / ".lab/lab/known_hosts").read_text().splitlines()
    assert lines[0].startswith("[green-1]:2222,[10.77.0.11]:2222 ssh-ed25519 ") and lines[1].startswith("green-2,10.77.0.12 ")
    written = {path: (mode, owner) for path, mode, owner, text in hostfiles.files(there, place, there.hosts[0])}
    assert written["/etc/ssh/sshd_config.d/port.conf"] == ("644", "root:root")
    assert written["/etc/bgdeploy/heartbeat-token"] == ("640", "root:bgdeploy")
    before = (tmp_path / ".lab/lab/key").read_text()
    hostfiles.keys(there, place)
    assert (tmp_path / ".lab/lab/key").read_text() == before and (tmp_path / ".lab/lab").stat().st_mode & 0o777 == 0o700


def test_haproxy_itself_takes_every_nodes_configuration(site, tmp_path):
    paths = balancers.write(site, tmp_path)
    assert set(paths) == {"live-1", "live-2", "standby-1"}
    (tmp_path / "bad.cfg").write_text("nonsense\n")
    with pytest.raises(errors.BadInput, match="haproxy does not take .*bad.cfg"):
        balancers.check(tmp_path / "bad.cfg")
