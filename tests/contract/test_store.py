"""The store's contract, asked of every kind of store: a folder, a MongoDB, and a lock on another host.

The MongoDB is as a site has it: TLS with a private authority, a user with a password, a replica set with a member away; plain
for drivers with false clocks.
"""

import glob
import os
import signal
import threading
import time

import pytest

from bgdeploy.errors import BadInput, NoAnswer, Refused
from bgdeploy.outside import lease as leases
from tests.authority import authority  # noqa: F401
from tests.contract.sshd import Sshd
from tests.databases import Database
from tests.stores import Driver, described, opened


@pytest.fixture(scope="module")
def database(tmp_path_factory, authority):
    with Database(tmp_path_factory.mktemp("database"), authority=authority) as server:
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with Database(tmp_path_factory.mktemp("plain")) as server:
        yield server


@pytest.fixture(scope="module")
def lock_host(tmp_path_factory):
    """A real sshd; what another process needs to log in."""
    with Sshd(tmp_path_factory.mktemp("sshd"), lines=["MaxStartups 100"]) as server:
        ssh = {"user": "deploy", "identity": str(server.identity), "known_hosts": server.known(), "config": os.devnull}
        yield {"host": {"name": "lock-1", "stack": "green", "address": "127.0.0.1", "port": server.port}, "ssh": ssh}


@pytest.fixture(params=["file", "mongo", "lock_host"])
def description(request, tmp_path):
    if request.param == "lock_host":
        there = request.getfixturevalue("lock_host")
        return described(f"file:{tmp_path}/store", tmp_path, name=f"shop-{os.urandom(3).hex()}", **there)
    if request.param == "mongo":
        # a false clock kills the threads that watch a replica set: libfaketime makes time.sleep an EINVAL there (measured)
        server = request.getfixturevalue("plain" if "shift" in request.fixturenames else "database")
        secret = {"password": {"file": os.path.join(server.folder, "password")}} if server.guarded else {}
        return described(server.address(f"store_{os.urandom(3).hex()}"), tmp_path, **secret)
    return described(f"file:{tmp_path}/store", tmp_path)


@pytest.fixture
def store(description):
    store = opened(description)
    yield store
    store.close()


def test_a_lock_is_free_taken_and_free_again(store):
    """Who holds it is told while it is held, and nothing is left afterwards."""
    assert store.holder() is None
    with store.take({"who": "ann", "why": "TICKET-1", "run": "20260101-1", "task": "rollout"}) as lease:
        assert lease.mine()
        held = store.holder()
        assert (held["who"], held["why"], held["run"], held["pid"], held["expired"]) == ("ann", "TICKET-1", "20260101-1",
                                                                                         os.getpid(), False)
        assert held["age"] >= 0 and held["quiet"] >= 0
    assert store.holder() is None


def test_the_second_is_refused_and_told_who_is_first(store, monkeypatch):
    monkeypatch.setenv("BUILD_URL", "https://ci/job/7")
    with store.take({"who": "ann", "why": "TICKET-1"}):
        with pytest.raises(Refused) as refused:
            store.take({"who": "bob"})
    for part in ("ann", "TICKET-1", str(os.getpid()), "https://ci/job/7"):
        assert part in refused.value.sentence
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), NoAnswer("the answer was lost")])
def test_what_was_taken_without_anybody_hearing_of_it_is_let_go(store, monkeypatch, trouble):
    """A signal in the middle of it, or a lost answer: the next one need not wait for it to run out."""
    put = store.place.put

    def taken_and_cut(*arguments):
        assert put(*arguments)
        raise trouble
    monkeypatch.setattr(store.place, "put", taken_and_cut)
    with pytest.raises(type(trouble)):
        store.take({"who": "ann"})
    assert store.holder() is None


def test_who_waits_gets_it_when_the_first_lets_go_and_hears_of_whom_he_waits(store):
    first, said = store.take({"who": "ann"}), []
    threading.Timer(0.5, first.release).start()
    second = store.take({"who": "bob"}, wait=20, say=said.append)
    assert second.mine() and not first.mine()
    assert any("ann" in sentence for sentence in said)
    second.release()


def test_a_wait_ends_at_its_limit(store):
    with store.take({"who": "ann"}):
        began = time.monotonic()
        with pytest.raises(Refused, match="waited"):
            store.take({"who": "bob"}, wait=0.5)
        assert 0.4 < time.monotonic() - began < 10


def test_a_person_s_hold_is_not_waited_for_and_not_taken_over(store):
    store.hold("the auditors are here", "carol")
    for options in ({"wait": 30}, {"over": True}):
        began = time.monotonic()
        with pytest.raises(Refused, match="carol froze this site .*the auditors are here"):
            store.take({"who": "bob"}, **options)
        assert time.monotonic() - began < 10
    with pytest.raises(Refused, match="the auditors"):
        store.hold("another reason", "dave")
    assert store.holder() is None
    assert store.unhold()["by"] == "carol" and store.held() is None
    store.take({"who": "bob"}).release()


def test_a_lease_that_nobody_renews_ends_by_itself(store):
    left = store.take({"who": "ann"}, ttl=2)
    assert left.mine()
    time.sleep(2.1)
    taken = store.take({"who": "bob"}, ttl=1.5, wait=20)
    assert taken.mine() and not left.mine() and not left.renew()
    taken.release()


def test_a_lease_that_is_kept_outlives_its_ttl(store):
    with store.take({"who": "ann"}, ttl=2.4) as kept:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            assert kept.mine()
            with pytest.raises(Refused):
                store.take({"who": "bob"})
            time.sleep(0.3)


def test_release_never_frees_another_s(store):
    late = store.take({"who": "ann"}, ttl=1.0)
    time.sleep(1.1)
    other = store.take({"who": "bob"}, wait=20)
    assert not late.release()
    assert store.holder()["who"] == "bob" and other.mine()
    assert other.release() and other.release()


def test_a_lock_taken_over_is_noticed_before_the_next_act(store):
    """`back` takes it from a living driver; the driver's next question says so, within a second or two."""
    first = store.take({"who": "ann"}).keep()
    second = store.take({"who": "bob"}, over=True)
    time.sleep(leases.FRESH + 0.1)
    assert not first.mine() and second.mine()
    assert not first.release() and store.holder()["who"] == "bob"
    second.release()


def test_of_fifty_contenders_one_wins(store, description):
    """Six processes and 44 threads begin at the same moment; nobody waits."""
    stores = [store, *(opened(description) for _ in range(3))]         # one SSH connection carries eight questions at once
    drivers = [Driver(description, ttl=30, who=f"process-{number}") for number in range(6)]
    won, refused, start = [], [], threading.Barrier(45)

    def contend(number):
        start.wait()
        try:
            won.append(stores[number % 4].take({"who": f"thread-{number}"}))
        except Refused as trouble:
            refused.append(trouble.sentence)
    try:
        assert [driver.answer() for driver in drivers] == ["ready"] * 6
        moment = time.clock_gettime(time.CLOCK_MONOTONIC_RAW) + 0.3
        threads = [threading.Thread(target=contend, args=(number,)) for number in range(44)]
        for thread in threads:
            thread.start()
        for driver in drivers:
            driver.process.stdin.write(f"race {moment}\n")
            driver.process.stdin.flush()
        time.sleep(0.2)
        start.wait()
        said = [driver.answer() for driver in drivers]
        for thread in threads:
            thread.join(60)
    finally:
        for driver in drivers:
            driver.end()
        for other in stores[1:]:
            other.close()
    assert said.count("taken") + len(won) == 1
    assert len(refused) + len([one for one in said if one.startswith("Refused the lock is held by")]) == 49
    for lease in won:
        lease.release()


def test_a_driver_that_slept_past_its_time_knows_that_it_lost(store, description):
    with Driver(description, ttl=3) as paused:
        assert paused.answer() == "ready" and paused.say("take") == "taken" and paused.say("keep") == "kept"
        assert paused.say("mine") == "True"
        os.kill(paused.pid, signal.SIGSTOP)
        time.sleep(3.1)
        mine = store.take({"who": "bob"}, wait=20)
        os.kill(paused.pid, signal.SIGCONT)
        assert paused.say("mine") == "False"
        assert paused.say("release") == "False"
        assert mine.mine() and store.holder()["who"] == "bob"
        mine.release()


def test_a_driver_that_slept_past_its_time_lost_it_even_if_nobody_came(store, description):
    with Driver(description, ttl=1.0) as paused:
        assert paused.answer() == "ready" and paused.say("take") == "taken"
        os.kill(paused.pid, signal.SIGSTOP)
        time.sleep(1.3)
        os.kill(paused.pid, signal.SIGCONT)
        assert paused.say("mine") == "False"


def test_the_lock_of_a_killed_driver_on_this_machine_is_free_at_once(store, description):
    with Driver(description, ttl=300, who="victim") as victim:
        assert victim.answer() == "ready" and victim.say("take") == "taken"
        with pytest.raises(Refused, match="victim"):
            store.take({"who": "bob"})
        victim.end(signal.SIGKILL)
    said = []
    store.take({"who": "bob"}, say=said.append).release()
    assert "victim" in said[0]


def faked(*settings):
    """Words before a command that give it a clock of its own. Not by the program `faketime`: killed, it leaves a segment in
    /dev/shm, and a later one with the same process id ends at once (measured)."""
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        pytest.skip("libfaketime is not installed")
    return ["env", f"LD_PRELOAD={library}", *settings]


@pytest.mark.parametrize("shift", ["+3600s", "-3600s", "-7776000s", "+420s"])
def test_drivers_whose_clocks_differ_never_steal_and_never_wait_for_ever(store, description, shift):
    """The other driver's wall clock is far from ours: his living lock is respected, and so is ours.

    On files libfaketime may bend every clock that it can; the drivers of databases and of Paramiko only live without that.
    """
    if "host" in description:
        pytest.skip("libfaketime breaks the waits of Paramiko and subprocess; a lock host's ages are by its uptime alone")
    false = faked(f"FAKETIME={shift}", *(() if description["store"].startswith("file:") else ("FAKETIME_DONT_FAKE_MONOTONIC=1",)))
    with Driver(description, ttl=4, who="elsewhen", before=false) as other:
        assert other.answer() == "ready" and other.say("take") == "taken" and other.say("keep") == "kept"
        held = store.holder()
        assert held["age"] >= 0 and held["quiet"] >= 0 and held["expired"] is False
        with pytest.raises(Refused, match="elsewhen"):
            store.take({"who": "bob"})
        assert other.say("release") == "True"
        with store.take({"who": "bob"}, ttl=4):
            assert other.say("take").startswith("Refused the lock is held by bob")
        assert other.say("take 5") == "taken"


@pytest.mark.parametrize("shift", ["-3600s", "+3600s"])
def test_a_clock_that_is_set_in_mid_run_costs_no_living_driver_its_lock(store, description, tmp_path, shift):
    """L07: the other driver's wall clock jumps an hour while he holds the lock; he goes on renewing, and nobody steals it."""
    if "host" in description:
        pytest.skip("libfaketime breaks the waits of Paramiko")
    clock = tmp_path / "clock"
    clock.write_text("+0s\n")
    before = faked(f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")
    with Driver(description, ttl=6, who="elsewhen", before=before) as other:
        assert other.answer() == "ready" and other.say("take") == "taken" and other.say("keep") == "kept"
        clock.write_text(f"{shift}\n")
        with pytest.raises(Refused, match="elsewhen"):
            store.take({"who": "bob"}, wait=8)          # longer than his lease would live without being renewed
        held = store.holder()
        assert held["age"] >= 8 and held["quiet"] >= 0 and held["expired"] is False
        assert other.say("mine") == "True" and other.say("release") == "True"
        store.take({"who": "bob"}).release()


def test_unlock_spares_the_living_and_removes_what_nobody_holds(store, description):
    assert store.unlock() is None
    with Driver(description, ttl=1.0, who="victim") as victim:
        assert victim.answer() == "ready" and victim.say("take") == "taken"
        time.sleep(1.1)
        with pytest.raises(Refused, match=f"(?s)victim.*{victim.pid}") as refused:
            store.unlock()                  # its time is over, but the process lives: ending it is the person's choice
        assert f"kill {victim.pid}" in refused.value.next_command
        victim.end(signal.SIGKILL)
        assert "victim" in store.unlock()
    assert store.holder() is None


def test_events_come_back_in_order_and_once(store):
    assert store.recent() == []
    for event in ({"n": 1, "kind": "began", "hosts": {"green1.lab": "$x"}}, {"n": 2, "kind": "doing"}, {"n": 2, "kind": "doing"},
                  {"n": 10, "kind": "ended"}, {"n": 9, "kind": "result", "detail": "żółć\udcff"}):
        store.append("20260101-000001-ab", event)
    store.append("20260101-000002-cd", {"n": 1, "kind": "began"})
    events = store.events("20260101-000001-ab")
    assert [event["n"] for event in events] == [1, 2, 9, 10]
    assert events[0]["hosts"] == {"green1.lab": "$x"} and events[2]["detail"] == "żółć\udcff"
    assert store.events("20260101-000003-ef") == []
    assert store.runs() == ["20260101-000001-ab", "20260101-000002-cd"]
    assert store.recent(1) == [("20260101-000002-cd", [{"n": 1, "kind": "began"}])]
    assert [(run, [event["n"] for event in events]) for run, events in store.recent()] == [
        ("20260101-000001-ab", [1, 2, 9, 10]), ("20260101-000002-cd", [1])]


def test_values_are_remembered_until_forgotten(store):
    assert store.recall("pin/web") is None and store.recall("pin/web", "none") == "none"
    store.remember("pin/web", "2.0.0-1")
    store.remember("pin/web", {"version": "2.0.1-1", "why.": ["a", 1, None]})
    store.remember("bad/web/1:2.0~rc1", "sanity: / said 500")
    assert store.recall("pin/web") == {"version": "2.0.1-1", "why.": ["a", 1, None]}
    assert store.keys() == ["bad/web/1:2.0~rc1", "pin/web"] and store.keys("pin/") == ["pin/web"]
    store.forget("pin/web")
    store.forget("pin/web")
    assert store.recall("pin/web") is None and store.keys("pin/") == []


@pytest.mark.parametrize("run", ["../x", "", "a/b", "-x", "x" * 200, None])
def test_a_run_s_id_is_never_a_path(store, run):
    with pytest.raises(BadInput):
        store.append(run, {"n": 1})
    with pytest.raises(BadInput):
        store.remember("x\n", 1)


def test_a_process_that_lives_in_another_container_is_not_called_dead():
    """The same pid in another process space says nothing about ours."""
    me = leases.myself()
    assert leases.alive_here(me) and not leases.dead(me)
    for other in ({"space": "pid:[1]"}, {"boot": "another"}, {"start": None}, {"pid": "x"}):
        stranger = {"process": {**me["process"], **other}}
        assert not leases.dead(stranger) and not leases.alive_here(stranger)
    reused = {"process": {**me["process"], "start": me["process"]["start"] - 1}}
    assert leases.dead(reused) and not leases.alive_here(reused)
