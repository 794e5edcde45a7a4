"""What the kit's worker processes share: counts, what the balancers said, and who guessed tokens."""

import fcntl
import ipaddress
import os
import signal
import threading
import time

import pytest

from heartbeat_kit import balancers, board, door, process
from heartbeat_kit.balancers import Balancers, parse, recall, remember
from tests.serving import eventually, in_child


@pytest.fixture
def shared(tmp_path):
    return board.Board(str(tmp_path), "start-1", "2.0.0-1")


class TestBoard:
    def test_counts_of_all_processes_are_seen_by_each(self, shared):
        shared.enter()
        ready, let_go = os.pipe(), os.pipe()

        def child():
            shared.enter()
            shared.enter()
            shared.work(+1)
            os.write(ready[1], b"x")
            os.read(let_go[0], 1)
        pid = in_child(child)
        os.read(ready[0], 1)
        assert sorted((w.requests, w.work) for w in shared.workers()) == [(1, 0), (2, 1)]
        os.write(let_go[1], b"x")
        os.waitpid(pid, 0)
        shared.leave()
        assert [(w.requests, w.work) for w in shared.workers()] == [(0, 0)]

    def test_a_killed_process_counts_for_nothing_even_before_it_is_reaped(self, shared):
        ready = os.pipe()

        def child():
            shared.enter()
            os.write(ready[1], b"x")
            time.sleep(30)
        shared.enter()
        pid = in_child(child)
        os.read(ready[0], 1)
        assert sum(w.requests for w in shared.workers()) == 2
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: sum(w.requests for w in shared.workers()), lambda count: count == 1) == 1
        os.waitpid(pid, 0)

    def test_a_process_that_was_forked_in_a_request_does_not_end_it(self, shared):
        shared.enter()
        os.waitpid(in_child(shared.leave), 0)
        assert [w.requests for w in shared.workers()] == [1]

    def test_where_proc_does_not_tell_who_lives_the_count_is_unknown_and_not_none(self, shared, monkeypatch):
        monkeypatch.setattr(process, "_read", lambda path: "")
        shared.enter()
        assert shared.workers() is None and "/proc" in shared.problem
        shared.leave()

    def test_slots_of_the_dead_are_used_again(self, shared):
        for _ in range(board.SLOTS + 20):
            os.waitpid(in_child(shared.enter), 0)
        shared.enter()
        assert shared.problem is None and [w.requests for w in shared.workers()] == [1]

    def test_more_workers_than_slots_means_unknown_and_never_too_few(self, shared, monkeypatch):
        monkeypatch.setattr(board, "SLOTS", 0)
        shared.enter()
        assert shared.workers() is None and "more than" in shared.problem
        shared.leave()

    def test_threads_of_one_process_lose_no_count(self, shared):
        def work():
            for _ in range(300):
                shared.enter()
                shared.leave()
            shared.enter()
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [w.requests for w in shared.workers()] == [8]

    def test_a_new_start_begins_with_an_empty_board_and_removes_the_old_one(self, shared, tmp_path):
        shared.enter()
        new = board.Board(str(tmp_path), "start-2", "2.0.0-1")
        new.enter()
        assert [w.requests for w in new.workers()] == [1] and len(os.listdir(str(tmp_path))) == 1

    def test_a_start_id_with_slashes_stays_in_the_directory(self, tmp_path):
        new = board.Board(str(tmp_path), "../../etc/start", "1")
        new.enter()
        assert new.problem is None and len(os.listdir(str(tmp_path))) == 1

    def test_without_a_place_nothing_is_counted_and_nothing_breaks(self, tmp_path):
        lost = board.Board(str(tmp_path / "nowhere"), "start", "1")
        lost.enter()
        lost.leave()
        lost.work(+1)
        lost.update("doors", "key", lambda row: board.Row("key", 1.0, 1, ""))
        assert lost.workers() is None and lost.rows("doors") == [] and "No such file" in lost.problem

    def test_a_full_table_forgets_its_oldest_row(self, shared):
        for turn in range(board.TABLE + 5):
            shared.update("balancers", "node-%d" % turn, lambda old, turn=turn: board.Row("node-%d" % turn, turn + 1.0, 0, "UP"))
        keys = [row.key for row in shared.rows("balancers")]
        assert len(keys) == board.TABLE and keys[0] == "node-%d" % (board.TABLE + 4) and "node-0" not in keys

    def test_a_worker_stopped_with_the_lock_does_not_stop_the_others(self, shared, tmp_path, monkeypatch):
        shared.enter()
        with open(shared.path, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            monkeypatch.setattr(board, "PATIENCE", 0.05)
            assert shared.rows("balancers") == []
            shared.update("balancers", "a", lambda old: board.Row("a", 1.0, 0, "UP"))
            assert [w.requests for w in shared.workers()] == [1]
        shared.update("balancers", "a", lambda old: board.Row("a", 1.0, 0, "UP"))
        assert len(shared.rows("balancers")) == 1

    def test_rows_written_by_many_processes_at_once_are_whole(self, shared):
        def child(name):
            for turn in range(100):
                shared.update("balancers", "same", lambda old: board.Row("same", turn + 1.0, turn, name * 30))
        children = [in_child(lambda name=name: child(name)) for name in "abcd"]
        for _ in range(50):
            for row in shared.rows("balancers"):
                assert row.text in {name * 30 for name in "abcd"}
        for pid in children:
            os.waitpid(pid, 0)
        assert len(shared.rows("balancers")) == 1


class TestSendState:
    @pytest.mark.parametrize("header, wanted", [
        ("UP 2/3; address=10.0.0.1; port=80; name=bck/srv2; node=lb1; weight=1/2; scur=13/22; qcur=0",
         ("UP 2/3", "bck/srv2", "lb1", 13, 1)),
        ("DOWN; name=web/green-1;node=live-1; scur=0/7", ("DOWN", "web/green-1", "live-1", 0, None)),
        ("UP; address=fd77::11; port=8080; name=web/green-1; node=live-1.shop.lab; weight=5/256; scur=1/7; qcur=0; throttle=20%",
         ("UP", "web/green-1", "live-1.shop.lab", 1, 5)),
        ("NOLB 1/2; name=web/green-1; node=LIVE_1", ("NOLB 1/2", "web/green-1", "LIVE_1", None, None)),
        ("no check; name=web/green-1; node=live-1", ("no check", "web/green-1", "live-1", None, None)),
        ("NOLB; name=web/green-1; node=live-1", ("NOLB", "web/green-1", "live-1", None, None)),
        ("UP; name=a/b; node=n; scur=many/7; weight=0/4", ("UP", "a/b", "n", None, 0)),
    ])
    def test_the_state_is_the_text_before_the_first_semicolon(self, header, wanted):
        assert tuple(parse(header)) == wanted

    @pytest.mark.parametrize("header", [
        "", ";", "UP", "UP; name=a/b", "UP; node=x", "; name=a; node=b", "name=a; node=b", "=;=;=", "UP; name=; node="])
    def test_what_is_no_such_header_is_not_taken(self, header):
        assert parse(header) is None

    def test_long_and_strange_ones_are_cut_and_cleaned(self):
        said = parse("UP\x1b\t%s; name=%s; node=n\tm" % ("x" * 90, "y" * 300))
        assert len(said.state) == 40 and len(said.name) == 100 and said.node == "nm"

    def test_each_node_and_server_is_kept_apart(self, shared):
        for node, name, text in [("a", "web/g", "UP"), ("b", "web/g", "DOWN"), ("a", "web2/g", "UP 1/2"), ("a", "web/g", "DOWN")]:
            remember(shared, "%s; name=%s; node=%s" % (text, name, node))
        assert {(b["node"], b["name"]): b["state"] for b in recall(shared)} == {
            ("a", "web/g"): "DOWN", ("b", "web/g"): "DOWN", ("a", "web2/g"): "UP 1/2"}

    def test_addresses_come_from_a_file_and_a_change_of_it_is_seen(self, tmp_path, monkeypatch):
        monkeypatch.setattr("heartbeat_kit.balancers.LOOK_AGAIN", 0.0)
        place = tmp_path / "balancers"
        known = Balancers(str(place))
        assert not known.known("10.0.0.1")
        place.write_text("# ours\n10.0.0.1 live\n10.1.0.0/24 standby\nfd00::/64\nnonsense\n"
                         "10.0.0.2 live # both\n10.0.0.2 standby\n")
        assert all(known.known(a) for a in ("10.0.0.1", "::ffff:10.0.0.1", "10.1.0.200", "fd00::5", "10.0.0.2", "fd00::5%eth0"))
        assert not any(known.known(a) for a in ("10.0.0.3", "", None, "unix:", "fd01::1"))
        assert known.live("10.0.0.1") and not known.live("10.1.0.1") and not known.live("fd00::5")
        assert not known.live("10.0.0.2"), "an address that serves STANDBY too is not LIVE's alone"
        place.write_text("10.0.0.9\n")
        assert known.known("10.0.0.9") and not known.known("10.0.0.1")
        place.unlink()
        assert not known.known("10.0.0.9")


    def test_a_file_that_is_read_anew_while_another_thread_decides_leaves_no_old_verdict(self, monkeypatch):
        known = Balancers(["10.0.0.1 live"])

        class Compared(ipaddress.IPv4Address):
            @property
            def version(self):
                known._read([])
                return 4
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(balancers, "plain_address", Compared)
            known.live("10.0.0.1")
        assert not known.known("10.0.0.1") and not known.live("10.0.0.1")


class TestDoor:
    @pytest.fixture
    def knock(self, shared, tmp_path):
        (tmp_path / "token").write_text("  old\nnew \n\n")
        return lambda given, peer="10.0.0.1": door.knock(shared, str(tmp_path / "token"), given, peer)

    def test_every_line_of_the_file_is_a_token_so_that_one_can_be_changed_for_another(self, knock):
        assert knock("Bearer old")[0] == knock("bearer new")[0] == door.OPEN
        assert knock("Bearer ")[0] == door.WRONG and knock("")[0] == door.ANONYMOUS

    @pytest.mark.parametrize("content", [None, b"", b"\n \n"])
    def test_without_a_token_nobody_may_flip(self, shared, tmp_path, content):
        if content is not None:
            (tmp_path / "none").write_bytes(content)
        assert door.knock(shared, str(tmp_path / "none"), "Bearer ", "10.0.0.1")[0] == door.UNSET

    def test_the_door_closes_longer_and_longer_and_for_one_address_only(self, knock, monkeypatch):
        now = [1000.0]
        monkeypatch.setattr(process, "uptime", lambda: now[0])
        assert [knock("Bearer x")[0] for _ in range(3)] == [door.WRONG] * 3
        verdict, wait = knock("Bearer old")
        assert verdict == door.CLOSED and wait == door.SHORTEST
        assert knock("Bearer old", "10.0.0.2")[0] == door.OPEN
        now[0] += door.SHORTEST
        knock("Bearer x")
        assert knock("Bearer x")[1] == 2 * door.SHORTEST
        for _ in range(20):
            now[0] += door.LONGEST
            knock("Bearer x")
        assert knock("Bearer old")[1] == door.LONGEST
        now[0] += door.LONGEST
        assert knock("Bearer old")[0] == door.OPEN
        assert [knock("Bearer x")[0] for _ in range(3)] == [door.WRONG] * 3

    def test_a_whole_ipv6_network_is_one_guesser(self, knock):
        for last in range(3):
            knock("Bearer x", "fd00::%d" % (last + 1))
        assert knock("Bearer old", "fd00::99")[0] == door.CLOSED
        assert knock("Bearer old", "fd00:0:0:1::1")[0] == door.OPEN
