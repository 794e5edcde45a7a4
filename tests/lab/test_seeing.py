"""What a driver sees of the lab's hosts over SSH while one of them is hurt: it as unknown, the others as they are."""

import contextlib
import time

import pytest

from bgdeploy import model, observe
from bgdeploy.outside import balancer, chef, heartbeat, ssh

LIMIT = 4.0         # seconds a look, as in a run


@contextlib.contextmanager
def watching(lab):
    """An Observer that has seen every host once, so that all connections are open."""
    with lab.inside() as site, ssh.Shell(site) as shell:
        observer = observe.Observer(site, shell, observe.Ports(chef.look, heartbeat.read, balancer.pool))
        try:
            assert all(host.reachable for host in observer.look().hosts), observer.troubles
            yield observer
        finally:
            observer.close()


def until_reachable(observer, name, seconds=60):
    """Look until that host answers again; its HostSeen."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        host = observer.look(LIMIT).host(name)
        if host.reachable:
            return host
        time.sleep(0.2)
    pytest.fail(f"{name} does not come back: {observer.troubles}")


@pytest.mark.parametrize("fault, target, options", [
    ("power", "green-2", {}), ("partition", "green-2", {}), ("hang", "green-2", {}), ("cut", "green-2", {}),
    ("cut", "ctl", {"to": "green-2", "port": 22})])
def test_a_hurt_host_is_unknown_in_time_and_the_others_are_seen_all_the_while(lab, fault, target, options):
    with watching(lab) as observer:
        boot = observer.look(LIMIT).host("green-2").boot
        lab.break_(fault, target, **options)
        for _ in range(2):
            began = time.monotonic()
            seen = observer.look(LIMIT)
            assert time.monotonic() - began < LIMIT + 3
            assert [h.name for h in seen.hosts if h.reachable] == ["green-1", "blue-1", "blue-2"]
        hurt = seen.host("green-2")
        assert None in {c.heartbeat for c in hurt.components} and hurt.job is None and "green-2" in observer.troubles["green-2"]
        lab.mend()
        again = until_reachable(observer, "green-2")
        assert (again.boot == boot) == (fault != "power")


def test_hosts_with_nothing_installed_are_down_and_not_unknown(lab):
    lab.root("blue-2", "systemctl stop web api 2>/dev/null; rpm -e web api 2>/dev/null; true")
    with watching(lab) as observer:
        host = observer.look(LIMIT).host("blue-2")
    assert {c.heartbeat for c in host.components} == {model.DOWN} and [c.installed for c in host.components] == ["", ""]
    assert all(c.live_pool == c.standby_pool == model.NO and c.sessions == 0 for c in host.components)


def test_a_root_command_that_hangs_is_unknown_and_does_not_block_the_next_look(lab):
    release = model.Release((("api", "1.0.0-1"), ("web", "1.0.0-1")), "0123456789abcdef")
    with lab.inside() as site, ssh.Shell(site) as shell:
        host = site.host("green-1")
        first = chef.look(shell, site, host)
        lab.break_("hang", "green-1")
        result = chef.start(shell, site, host, "hang-1", release, limit=3)
        lab.mend()
        assert result.outcome == "unknown"
        assert chef.look(shell, site, host).boot == first.boot


def test_a_profile_that_prints_is_in_no_fact_and_is_told_once_to_check(lab):
    lab.root("green-1", "echo 'echo Welcome to green1 - authorised use only' > /home/deploy/.bashrc")
    try:
        with lab.inside() as site, ssh.Shell(site) as shell:
            facts = chef.look(shell, site, site.host("green-1"))
    finally:
        lab.root("green-1", "rm -f /home/deploy/.bashrc")
    assert "Welcome" in facts.noise and facts.boot and facts.services


def test_nothing_is_run_from_a_tmp_that_is_mounted_noexec(lab):
    lab.root("green-1", "mount -t tmpfs -o noexec none /tmp && mount -t tmpfs -o noexec none /var/tmp")
    try:
        with lab.inside() as site, ssh.Shell(site) as shell:
            assert chef.look(shell, site, site.host("green-1")).boot
            assert shell.run(site.host("green-1"), ["ls", "-A", "/tmp", "/var/tmp"]).out == b"/tmp:\n\n/var/tmp:\n"
    finally:
        lab.root("green-1", "umount /tmp /var/tmp")
