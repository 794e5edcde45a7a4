"""What can be broken is really broken, seen from where a driver sits, and whole again when it is mended."""

import time

import pytest

from bgdeploy import errors
from lab import lab as verbs


def boot(lab, host):
    return lab.ssh(host, "cat /proc/sys/kernel/random/boot_id").stdout


def test_a_power_cut_silences_a_host_and_its_disk_outlives_it(lab):
    before = boot(lab, "green-2")
    lab.root("green-2", "echo kept > /var/tmp/note")
    lab.break_("power", "green-2")
    assert lab.status()["hosts"]["green-2"]["state"] == "off"
    assert lab.run("ping", "-c1", "-W1", "10.77.0.12").returncode != 0
    lab.mend("power", "green-2")
    assert boot(lab, "green-2") not in ("", before)
    assert lab.ssh("green-2", "cat /var/tmp/note").stdout == "kept\n"


def test_a_reboot_from_inside_brings_the_host_back(lab):
    before = boot(lab, "green-2")
    lab.root("green-2", "systemctl reboot")
    until = time.monotonic() + 30
    while (now := boot(lab, "green-2")) in ("", before) and time.monotonic() < until:
        time.sleep(0.1)
    assert now not in ("", before)


def test_a_pulled_cable_is_plugged_in_again_by_itself_after_the_time_asked_for(lab):
    lab.break_("partition", "blue-1", seconds=1)
    assert lab.status()["broken"] == {"partition blue-1": "partition of blue-1"}
    until = time.monotonic() + 10
    while lab.status()["broken"] and time.monotonic() < until:
        time.sleep(0.1)
    assert lab.ssh("blue-1", "true").returncode == 0


def test_a_cut_drops_one_direction_to_one_member_and_one_port(lab):
    lab.break_("cut", "ctl", to="green-1", port=22)
    assert "timed out" in lab.ssh("green-1", "true").stderr
    assert lab.ssh("green-2", "true").returncode == 0
    lab.mend("cut", "ctl")
    assert lab.ssh("green-1", "true").returncode == 0


def test_a_hanging_host_takes_connections_and_says_nothing(lab):
    lab.break_("hang", "blue-2")
    probe = "import socket; s = socket.create_connection(('10.77.0.22', 22), 2); s.settimeout(1); s.recv(1)"
    assert "timed out" in lab.run("/usr/bin/python3", "-c", probe).stderr
    lab.mend()
    assert lab.ssh("blue-2", "true").returncode == 0


def test_a_full_disk_takes_no_more_than_what_was_left(lab):
    lab.break_("disk-full", "blue-2", left="1m")
    assert "No space left" in lab.ssh("blue-2", "head -c 2000000 /dev/zero > /var/tmp/big").stderr
    lab.mend()
    assert lab.ssh("blue-2", "head -c 2000000 /dev/zero > /var/tmp/big").returncode == 0


def test_a_slow_cable_is_slow(lab):
    lab.break_("slow", "blue-2", rate="128kbit")
    began = time.monotonic()
    lab.ssh("blue-2", "head -c 30000 /dev/urandom | base64")
    slow = time.monotonic() - began
    lab.mend()
    began = time.monotonic()
    lab.ssh("blue-2", "head -c 30000 /dev/urandom | base64")
    assert slow > 2 * (time.monotonic() - began)


def test_a_foreign_run_holds_chefs_lock_and_the_host_says_so(lab):
    lab.break_("chef-lock", "green-1")
    assert '"foreign": {' in lab.ssh("green-1", "sudo -n bgdeploy-host look --components web").stdout
    lab.mend()
    assert '"foreign": null' in lab.ssh("green-1", "sudo -n bgdeploy-host look --components web").stdout


def test_a_dead_repository_refuses_and_a_dropping_one_says_nothing(lab):
    ask = ("curl", "-sS", "-m", "1", "-o", "/dev/null", lab.site.repository.url + "/repodata/repomd.xml")
    lab.break_("dead", "repository")
    assert lab.run(*ask).returncode == 7
    lab.mend()
    lab.break_("drop", "repository")
    assert lab.run(*ask).returncode == 28
    lab.mend()
    until = time.monotonic() + 10
    while (code := lab.run(*ask).returncode) and time.monotonic() < until:
        time.sleep(0.1)
    assert code == 0


def test_a_balancer_node_can_be_reloaded_restarted_and_gone(lab):
    def answers():
        return lab.run("curl", "-s", "-m", "1", "-o", "/dev/null", "http://10.77.0.4:8404/").returncode == 0
    for fault in ("reload", "reload-forget", "restart"):
        lab.break_(fault, "live-2")
        until = time.monotonic() + 10
        while not answers() and time.monotonic() < until:
            time.sleep(0.05)
        assert lab.status()["balancers"]["live-2"] == "running" and answers(), fault
    lab.break_("gone", "live-2")
    assert not answers()
    lab.mend()
    assert lab.status()["balancers"]["live-2"] == "running"


@pytest.mark.parametrize("fault, target, options, said", [
    ("powder", "green-1", {}, "there is no fault 'powder'"),
    ("power", "green-9", {}, "wants a host as its target, not 'green-9': green-1, green-2"),
    ("power", "live-1", {}, "wants a host"),
    ("reload", "green-1", {}, "wants a node"),
    ("power", "green-1", {"colour": "red"}, "no option 'colour'; it has seconds"),
    ("crash", "green-1", {"component": "db"}, "no component 'db': api, web"),
    ("cut", "green-1", {"to": "mars"}, "'mars' is not on the switch"),
    ("cut", "green-1", {"port": "ssh"}, "port 'ssh' of cut is not understood; write it like 22"),
    ("power", "green-1", {"seconds": "soon"}, "seconds 'soon' of power is not understood; write it like 5"),
    ("slow", "green-1", {"rate": "slowly"}, "write it like 64kbit"),
    ("disk-full", "green-1", {"left": "-5m"}, "write it like 5m"),
])
def test_a_fault_that_is_not_there_is_refused_in_a_sentence_and_breaks_nothing(lab, fault, target, options, said):
    with pytest.raises(errors.BadInput, match=said):
        lab.break_(fault, target, **options)
    assert lab.status()["broken"] == {}


def test_the_list_of_faults_names_every_one_with_its_target_and_options():
    listed = verbs.fault_list()
    assert "power          host" in listed and "options: left" in listed
