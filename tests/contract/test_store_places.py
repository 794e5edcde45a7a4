"""What the store does when its folder, or that on its lock host, is somebody else's, full, half written, or of another boot."""

import json
import os
import pathlib
import pwd
import stat
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from bgdeploy.errors import NoAnswer, Refused
from bgdeploy.outside import lease as leases
from bgdeploy.outside import lease_ssh, store_file
from tests.contract.sshd import Sshd
from tests.serving import ROOT
from tests.stores import described, opened, soon


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def remote(sshd, tmp_path):
    """A store whose lock lies on another host, and the folder there as we see it."""
    ssh = {"user": "deploy", "identity": str(sshd.identity), "known_hosts": sshd.known(), "config": os.devnull}
    host = {"name": "lock-1", "stack": "green", "address": "127.0.0.1", "port": sshd.port}
    store = opened(described(f"file:{tmp_path}/store", tmp_path, name=f"shop-{os.urandom(3).hex()}", host=host, ssh=ssh))
    yield store
    store.close()


def shell(store, text):
    """Runs a text on the lock host."""
    place = store.place
    answer = place._shell.run(place._host, ["/bin/sh", "-c", text])
    assert answer.exit == 0, answer.err
    return answer.out.decode()


def files(tmp_path):
    return opened(described(f"file:{tmp_path}/store", tmp_path))


# files

def test_files_are_for_their_owner_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        for umask in (0, 0o077, 0o277):
            os.umask(umask)
            base = tmp_path / f"{umask:o}"
            base.mkdir(0o700)
            base.chmod(0o700)
            store = files(base)
            lease = store.take({"who": "ann"})
            store.hold("x", "ann")
            store.append("r1", {"n": 1})
            store.remember("k", 1)
            for path in (base / "store").rglob("*"):
                wanted = 0o700 if path.is_dir() else 0o600 & ~umask if path.name == "guard" else 0o600
                assert stat.S_IMODE(path.stat().st_mode) == wanted
            lease.release()
    finally:
        os.umask(before)


def test_a_folder_of_somebody_else_is_refused_before_anything(tmp_path):
    """L09: run as one user, then as another."""
    files(tmp_path)
    nobody = pwd.getpwnam("nobody")
    for folder in (tmp_path, *tmp_path.parents):
        if folder == pathlib.Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    text = ("import os, sys; os.setgid(%d); os.setuid(%d)\n"
            "from tests.stores import opened, described\nfrom bgdeploy.errors import Refused\n"
            "try: opened(described(*sys.argv[1:]))\nexcept Refused as e: print(e.exit_code, e)") % (nobody.pw_gid, nobody.pw_uid)
    argv = [sys.executable, "-c", "import tests.stores\n" + text, f"file:{tmp_path}/store", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("3 ") and f"{tmp_path}/store" in done.stdout, done.stderr
    assert "belongs to root (mode 0700)" in done.stdout and "BGDEPLOY_STATE" in done.stdout


def test_a_file_in_the_way_of_the_folder_is_refused(tmp_path):
    (tmp_path / "store").write_text("")
    assert f"{tmp_path}/store" in soon(lambda: files(tmp_path)).sentence


def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path):
    """A tmpfs of 64 KiB; the value that does not fit leaves the old one, and no litter."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    text = ("import subprocess, sys, os\n"
            "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', sys.argv[2]], check=True)\n"
            "from tests.stores import opened, described\nfrom bgdeploy.errors import Failed\n"
            "s = opened(described(*sys.argv[1:]))\ns.remember('k', 'old')\ns.append('r', {'n': 1})\n"
            "for call in (lambda: s.remember('k', 'x' * 90000), lambda: s.append('r', {'n': 2, 'x': 'y' * 90000})):\n"
            "    try: call()\n    except Failed as e: print(e, '|', e.next_command)\n"
            "print(s.recall('k'), len(s.events('r')), os.listdir(sys.argv[2] + '/store/shop/values'))\n")
    done = subprocess.run(["unshare", "-m", sys.executable, "-c", text, f"file:{tmp_path}/store", str(tmp_path)], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all("No space left on device | make room" in line for line in lines[:2])
    assert lines[2] == "old 1 ['k.json']"


def test_a_torn_event_is_skipped_and_the_next_one_is_whole(tmp_path):
    store = files(tmp_path)
    store.append("r1", {"n": 1})
    path = tmp_path / "store" / "shop" / "runs" / "r1.jsonl"
    path.write_text(path.read_text() + '{"n": 2, "ki')
    store.append("r1", {"n": 3})
    assert [event["n"] for event in store.events("r1")] == [1, 3]


@pytest.mark.parametrize("left", ["", "{", "[]", "null", '{"token": 5}', '{"token": "x", "holder": {}, "ttl": "y", "boot": "z"}',
                                  '{"token": "a", "holder": [1], "ttl": 30, "boot": null, "taken": 1, "renewed": 1, "count": 0}',
                                  '{"token": "a", "holder": {}, "ttl": "x", "boot": null, "taken": 1, "renewed": 1, "count": 0}'])
def test_a_lease_file_that_is_no_lease_is_watched_and_then_replaced(tmp_path, monkeypatch, left):
    monkeypatch.setattr(leases, "TTL", 0.6)
    monkeypatch.setattr(leases.Slip.__init__, "__defaults__", tuple(
        0.6 if value == 30.0 else value for value in leases.Slip.__init__.__defaults__))
    store = files(tmp_path)
    (tmp_path / "store" / "shop" / "lease.json").write_text(left)
    began = time.monotonic()
    with store.take({"who": "bob"}, ttl=3) as lease:
        assert lease.mine() and time.monotonic() - began < 10


def test_a_lease_from_before_a_restart_or_from_another_machine_is_watched_not_believed(tmp_path):
    """A folder on a network file system: the boot id is another one, so no clock of ours says how old it is."""
    store, path = files(tmp_path), tmp_path / "store" / "shop" / "lease.json"
    store.take({"who": "elsewhere"}, ttl=1.0)
    document = {**json.loads(path.read_text()), "boot": "another"}
    document["holder"]["process"]["boot"] = "another"
    path.write_text(json.dumps(document))
    shown = store.holder()
    assert shown["expired"] is None and shown["quiet"] is None
    said, stop = [], threading.Event()

    def renew():
        for count in range(1, 40):
            if stop.is_set():
                return
            temporary = path.with_suffix(".new")
            temporary.write_text(json.dumps({**document, "count": count, "renewed": 5.0}))
            temporary.rename(path)
            time.sleep(0.2)
    living = threading.Thread(target=renew)
    living.start()
    taken = []
    waiter = threading.Thread(target=lambda: taken.append(store.take({"who": "bob"}, ttl=3, wait=60, say=said.append)))
    waiter.start()
    time.sleep(2.0)
    assert not taken and "watched" in said[0], "somebody renews it, on whatever machine"
    stop.set()
    living.join(20)
    waiter.join(20)
    assert taken and taken[0].mine()
    taken[0].release()


def test_a_process_stopped_in_the_middle_of_a_change_holds_nobody_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(store_file, "PATIENCE", 0.5)
    store = files(tmp_path)
    with store.place.folder.guarded():
        trouble = soon(lambda: store.take({"who": "bob"}))
    assert isinstance(trouble, NoAnswer) and "fuser" in trouble.sentence
    store.take({"who": "bob"}).release()


def test_a_kept_lease_survives_a_short_trouble_and_ends_with_a_long_one(tmp_path, monkeypatch):
    store = files(tmp_path)
    lease = store.take({"who": "ann"}, ttl=2.4).keep()
    silent = threading.Event()
    renew = store.place.renew

    def moody(token, ttl):
        if silent.is_set():
            raise NoAnswer("silent")
        return renew(token, ttl)
    monkeypatch.setattr(store.place, "renew", moody)
    silent.set()
    time.sleep(1.3)
    assert lease.mine(), "less than a ttl"
    silent.clear()
    time.sleep(1.5)
    assert lease.mine()
    silent.set()
    end = time.monotonic() + 2.4
    while lease.mine():
        assert time.monotonic() < end, "acts end before the store may give it to somebody else"
        time.sleep(0.05)


# a lock host

def test_a_lock_host_s_files_are_private_and_in_the_user_s_home(remote):
    with remote.take({"who": "ann"}):
        remote.hold("x", "carol")
        listed = shell(remote, "cd ~/.bgdeploy && stat -c '%a %n' . *")
        assert all(line.split()[0] in ("700", "600") for line in listed.splitlines()), listed
        remote.unhold()


def test_a_folder_that_an_administrator_made_is_used_and_shared_with_its_group(remote, monkeypatch):
    shell(remote, "mkdir -p ~/shared && chmod 2770 ~/shared")
    monkeypatch.setattr(lease_ssh, "FOLDER", shell(remote, "printf %s ~/shared"))
    with remote.take({"who": "ann"}):
        listed = shell(remote, "cd ~/shared && stat -c '%a %n' *").splitlines()
        assert {line.split()[0] for line in listed} == {"660"} and len(listed) == 2


def test_a_lock_host_that_was_restarted_is_watched_not_believed(remote):
    remote.take({"who": "ann"}, ttl=1.0)
    name = remote.place._site
    edits = "-e '1s/[^ ]*/another/4' -e 's/\"boot\": \"[^\"]*\"/\"boot\": \"b\"/'"
    shell(remote, f"cd ~/.bgdeploy && sed -i {edits} {name}.lease")
    assert remote.holder()["expired"] is None
    said = []
    remote.take({"who": "bob"}, say=said.append).release()
    assert "watched" in said[0]


@pytest.mark.parametrize("left", ["", "half a li", "a b c d e f\\n{", "x 1 y z 3 4\\n{}\\n"])
def test_a_lease_cut_short_on_the_lock_host_is_replaced_after_a_while(remote, left, monkeypatch):
    monkeypatch.setattr(leases.Slip.__init__, "__defaults__", tuple(
        0.6 if value == 30.0 else value for value in leases.Slip.__init__.__defaults__))
    remote.holder()
    shell(remote, f"printf '{left}' > ~/.bgdeploy/{remote.place._site}.lease")
    with remote.take({"who": "bob"}) as lease:
        assert lease.mine()


def test_a_lock_folder_that_cannot_be_written_is_refused_with_its_owner(remote):
    shell(remote, "mkdir -p ~/.bgdeploy && chmod 500 ~/.bgdeploy")
    try:
        trouble = soon(lambda: remote.take({"who": "ann"}))
        assert isinstance(trouble, Refused) and "/home/deploy/.bgdeploy" in trouble.sentence and "dr-x------" in trouble.sentence
        assert "/var/lib/bgdeploy-lease" in trouble.next_command
    finally:
        shell(remote, "chmod 700 ~/.bgdeploy")


def test_somebody_in_the_middle_of_a_change_there_holds_nobody_for_long(remote):
    remote.holder()
    path = f".bgdeploy/{remote.place._site}.guard"
    shell(remote, f"cd; (flock 9; exec >&- 2>&-; sleep 6) 9>{path} & sleep 0.2")
    trouble = soon(lambda: remote.take({"who": "ann"}))
    assert isinstance(trouble, NoAnswer) and "fuser" in trouble.sentence


def test_a_lock_host_that_goes_down_is_said_in_seconds(tmp_path):
    with Sshd(tmp_path) as server:
        ssh = {"user": "deploy", "identity": str(server.identity), "known_hosts": server.known(), "config": os.devnull}
        host = {"name": "lock-1", "stack": "green", "address": "127.0.0.1", "port": server.port}
        store = opened(described(f"file:{tmp_path}/store", tmp_path, host=host, ssh=ssh))
        lease = store.take({"who": "ann"}, ttl=3)
        store.place._shell.close()
    store = opened(described(f"file:{tmp_path}/store", tmp_path, host=host, ssh=ssh))
    assert isinstance(soon(store.holder), NoAnswer)
    assert lease.release() is False


def test_records_stay_where_the_store_is(remote, tmp_path):
    """`lock_host` moves the lock and the hold, nothing else."""
    remote.remember("k", 1)
    remote.hold("x", "carol")
    names = [path.name for path in pathlib.Path(tmp_path, "store").rglob("*.json")]
    assert names == ["k.json"]
    remote.unhold()


# any place

class NeverYes:
    """A place that shows a lease whose time is over, or none, and changes nothing."""

    def __init__(self, slip):
        self.slip, self.asked = slip, 0

    def read(self):
        return self.slip

    def put(self, old, token, holder, ttl):
        self.asked += 1
        return False

    def drop(self, token):
        self.asked += 1
        return False


def take(place):
    return leases.take(place, {"who": "bob"})


OVER = leases.Slip("t", {"who": "ann"}, ttl=1.0, quiet=9.0)


@pytest.mark.parametrize("call,slip", [(take, None), (take, OVER), (leases.unlock, OVER)])
def test_a_place_that_never_says_yes_is_not_asked_for_ever(monkeypatch, call, slip):
    monkeypatch.setattr(leases, "pause", lambda seconds: None)
    place = NeverYes(slip)
    with pytest.raises(NoAnswer, match="could not be changed"):
        call(place)
    assert place.asked == leases.RACES + 1


@pytest.mark.parametrize("call", [take, leases.unlock])
def test_a_lease_whose_age_nobody_can_tell_is_not_watched_for_ever_once_it_was_seen_to_be_renewed(monkeypatch, call):
    """Two machines and one folder on a network file system: the second driver hung for as long as the first one drove."""
    class Shared:
        looks = 0

        def read(self):
            self.looks += 1
            return leases.Slip("t", {"who": "ann", "host": "ci-2"}, stamp=self.looks // 5)
    place = Shared()
    monkeypatch.setattr(leases, "pause", lambda seconds: None)
    with pytest.raises(Refused, match="ann on ci-2"):
        call(place)
    assert place.looks == 5
