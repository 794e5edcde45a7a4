"""The heartbeat contract, asked of the kit under the servers that people run it on: two worker processes each."""

import contextlib
import http.client
import json
import os
import signal
import sys
import threading
import time

import pytest

from tests.serving import Process, ask, eventually, free_port

TOKEN = {"Authorization": "Bearer correct-horse"}
STATE = "X-Haproxy-Server-State"
WSGI, ASGI = "tests.apps.kit_wsgi:application", "tests.apps.kit_asgi:application"

SERVERS = {
    "gunicorn": "{python} -m gunicorn -w 2 --threads 4 -b 127.0.0.1:{port} " + WSGI,
    "gunicorn, preloaded, sync": "{python} -m gunicorn -w 4 --preload -b 127.0.0.1:{port} " + WSGI,
    "uwsgi": "uwsgi --plugin python3 --http-socket 127.0.0.1:{port} --master --processes 2 --enable-threads --threads 4 "
             "--die-on-term --need-app --module " + WSGI,
    "uvicorn": "{python} -m uvicorn --workers 2 --port {port} --log-level warning " + ASGI,
    "hypercorn": "{python} -m hypercorn -w 2 -b 127.0.0.1:{port} " + ASGI,
}


def command(server, port):
    return SERVERS[server].format(python=sys.executable, port=port).split()


SECOND = {"gunicorn": "-b", "uwsgi": "--http-socket", "hypercorn": "-b"}


class Shop:
    """The test application under one server, with its state file, token and balancers in a folder of its own.

    :param second: another port that it listens on.
    """

    def __init__(self, server, folder, second=None, **settings):
        self.port, self.folder = free_port(), folder
        (folder / "shop").mkdir(exist_ok=True)
        (folder / "token").write_text("correct-horse\n")
        self.sick = folder / "sick"
        kept = dict({"component": "shop", "version": "2.0.0-1", "state_dir": str(folder), "token_file": str(folder / "token"),
                     "balancers": ["127.0.0.3", "127.0.0.4 live"]}, **settings)
        self.server = server
        argv = command(server, self.port) + ([SECOND[server], "127.0.0.1:%d" % second] if second else [])
        self.process = Process(argv, {"KIT_SETTINGS": json.dumps(kept), "KIT_SICK": str(self.sick)},
                               str(folder / "log"), lambda: ask(self.port).status == 200)

    def flip(self, word, **headers):
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self.port, method="PUT", body=word, headers=dict(TOKEN, **more))

    def detail(self):
        return json.loads(ask(self.port, "/heartbeat/detail").text)

    def words(self, asked=24):
        """What is answered over many connections, so by every worker in the end."""
        return {ask(self.port).text for _ in range(asked)}

    def everywhere(self, key, asked=12):
        """The values of a key of the detail view over many connections."""
        return {json.dumps(self.detail()[key]) for _ in range(asked)}


@pytest.fixture(scope="module", params=sorted(SERVERS))
def shop(request, tmp_path_factory):
    served = Shop(request.param, tmp_path_factory.mktemp("shop"))
    yield served
    served.process.stop(signal.SIGKILL)


def in_background(port, path):
    """A request whose answer nobody waits for, and which may be cut off."""
    def send():
        with contextlib.suppress(OSError, http.client.HTTPException):
            ask(port, path, timeout=30)
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


class TestReading:
    def test_without_a_state_file_it_says_standby_in_plain_text_and_nothing_else(self, shop):
        (shop.folder / "shop" / "state").unlink(missing_ok=True)
        answer = ask(shop.port, headers={"Accept-Encoding": "gzip", "Accept": "application/json"})
        assert (answer.status, answer.text) == (200, "standby\n")
        assert answer.headers["Content-Type"].split(";")[0] == "text/plain"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Length"] == "8"
        assert answer.headers["Content-Encoding"] is None and answer.headers["Location"] is None

    def test_head_has_the_headers_of_get_and_no_body(self, shop):
        got, headed = ask(shop.port), ask(shop.port, method="HEAD")
        assert (headed.status, headed.text) == (200, "")
        assert headed.headers["Content-Length"] == got.headers["Content-Length"]

    def test_other_methods_are_told_which_are_known(self, shop):
        answer = ask(shop.port, method="POST", body="live", headers=TOKEN)
        assert answer.status == 405 and "PUT" in answer.headers["Allow"]
        assert ask(shop.port, "/heartbeat/detail", method="PUT", body="live", headers=TOKEN).status == 405

    def test_a_sick_app_says_503_in_either_state(self, shop):
        for word in ("live", "standby"):
            shop.flip(word)
            shop.sick.touch()
            try:
                answer = ask(shop.port)
                assert (answer.status, answer.text) == (503, "sick\n")
                assert shop.detail()["healthy"] is False and shop.detail()["state"] == word
            finally:
                shop.sick.unlink()
            assert ask(shop.port).text == word + "\n"

    def test_the_applications_own_paths_are_left_alone(self, shop):
        assert ask(shop.port, "/").text.strip().isdigit()
        assert ask(shop.port, "/heartbeats").text.strip().isdigit()


class TestFlipping:
    def test_every_worker_says_the_new_word_and_the_file_holds_it(self, shop):
        for word in ("live", "standby", "live"):
            answer = shop.flip(word, X_Bgdeploy_By="anna@ci", X_Bgdeploy_Reason="CHG-17", X_Bgdeploy_Run="r-1")
            assert (answer.status, answer.text) == (200, word + "\n")
            assert shop.words() == {word + "\n"}
            assert (shop.folder / "shop" / "state").read_text().split("\n")[0] == word
        seen = shop.detail()
        assert (seen["by"], seen["why"], seen["run"]) == ("anna@ci", "CHG-17", "r-1")
        assert 0 <= seen["since_age"] < 60

    def test_without_a_token_it_is_401_and_with_a_wrong_one_403_and_nothing_changes(self, shop):
        shop.flip("standby")
        assert ask(shop.port, method="PUT", body="live", source="127.0.0.7").status == 401
        for given in ("Bearer wrong", "Bearer", "Bearer correct-horsee", "Basic correct-horse", "correct-horse"):
            source = "127.0.0.%d" % (20 + len(given))
            answer = ask(shop.port, method="PUT", body="live", headers={"Authorization": given}, source=source)
            assert answer.status == 403, given
        assert shop.words() == {"standby\n"}

    def test_an_address_that_guesses_is_shut_out_for_a_while_and_nobody_else_is(self, shop):
        guess = [ask(shop.port, method="PUT", body="live", headers={"Authorization": "Bearer guess"}, source="127.0.0.9").status
                 for _ in range(6)]
        assert guess[:3] == [403] * 3 and 429 in guess[3:]
        shut = ask(shop.port, method="PUT", body="live", headers=TOKEN, source="127.0.0.9")
        assert shut.status == 429 and int(shut.headers["Retry-After"]) >= 1
        assert shop.flip("standby").status == 200
        assert eventually(lambda: ask(shop.port, method="PUT", body="standby", headers=TOKEN, source="127.0.0.9").status,
                          lambda status: status == 200, pace=0.3) == 200

    @pytest.mark.parametrize("body", ["", "Live", "LIVE", "live standby", "not live", '{"state": "live"}', "live" * 50, "l\0ive"])
    def test_any_other_body_is_400_and_changes_nothing(self, shop, body):
        shop.flip("standby")
        assert shop.flip(body).status == 400
        assert ask(shop.port).text == "standby\n"

    def test_a_flip_for_another_version_or_start_is_412_and_says_what_runs(self, shop):
        shop.flip("standby")
        tag = ask(shop.port, "/heartbeat/detail").headers["ETag"]
        for other in ('"1.0.0-1/%s"' % shop.detail()["start"], '"2.0.0-1/another"', "2.0.0-1"):
            answer = shop.flip("live", If_Match=other)
            assert (answer.status, answer.headers["ETag"]) == (412, tag)
            assert tag in answer.text or shop.server == "hypercorn"      # which sends no body with a 412
        assert shop.words() == {"standby\n"}
        assert shop.flip("live", If_Match=tag).status == 200

    def test_flips_at_once_leave_one_word_that_all_workers_say(self, shop):
        tag = ask(shop.port, "/heartbeat/detail").headers["ETag"]
        results = []
        flips = [threading.Thread(target=lambda word=word: results.append(shop.flip(word, If_Match=tag)))
                 for word in ("live", "standby") * 8]
        for flip in flips:
            flip.start()
        for flip in flips:
            flip.join(20)
        assert {(result.status, result.text) for result in results} == {(200, "live\n"), (200, "standby\n")}
        assert len(results) == 16
        assert len(shop.words()) == 1
        assert not (shop.folder / "shop" / "state.new").exists()


class TestSharing:
    def test_all_workers_give_the_same_start_id_and_count_each_other(self, shop):
        shop.words()
        assert len(shop.everywhere("start")) == 1
        assert eventually(lambda: shop.detail()["workers"], lambda n: n == (4 if "sync" in shop.server else 2))

    def test_a_request_in_flight_is_seen_by_every_worker_and_heartbeats_are_not_counted(self, shop):
        slow = [in_background(shop.port, "/slow?s=1.5"), in_background(shop.port, "/work?s=1.5")]
        assert eventually(lambda: shop.detail()["in_flight"], lambda count: count == 2, limit=1) == 2
        assert shop.everywhere("in_flight") == {"2"} and shop.everywhere("busy") == {"1"}
        for thread in slow:
            thread.join(10)
        assert eventually(lambda: shop.detail()["in_flight"], lambda count: count == 0) == 0
        assert shop.everywhere("in_flight") == {"0"} and shop.everywhere("busy") == {"0"}

    def test_a_streamed_answer_counts_until_its_last_byte(self, shop):
        stream = in_background(shop.port, "/stream?n=4&s=0.3")
        time.sleep(0.6)
        assert shop.detail()["in_flight"] == 1
        stream.join(10)
        assert eventually(lambda: shop.detail()["in_flight"], lambda count: count == 0) == 0

    def test_a_request_that_ends_in_an_exception_is_counted_out(self, shop):
        for _ in range(4):
            try:
                ask(shop.port, "/raise")
            except OSError:
                pass
        assert eventually(lambda: shop.detail()["in_flight"], lambda count: count == 0) == 0


class TestBalancers:
    said = "UP 1/2; address=10.77.0.11; port=8080; name=web/green-1; node=live-1; weight=1/2; scur=13/22; qcur=0"

    def test_what_a_balancer_says_is_known_to_every_worker_with_its_age(self, shop):
        ask(shop.port, headers={STATE: self.said}, source="127.0.0.3")
        ask(shop.port, headers={STATE: self.said.replace("UP 1/2", "DOWN").replace("live-1", "live-2")}, source="127.0.0.4")
        for _ in range(12):
            found = {b["node"]: b for b in shop.detail()["balancers"]}
            first = found["live-1"]
            assert (first["state"], first["name"], first["scur"]) == ("UP 1/2", "web/green-1", 13)
            assert found["live-2"]["state"] == "DOWN"
            assert 0 <= first["age"] < 30
        ask(shop.port, headers={STATE: self.said.replace("UP 1/2", "UP")}, source="127.0.0.3")
        assert {b["node"]: b["state"] for b in shop.detail()["balancers"]}["live-1"] == "UP"

    def test_nobody_else_is_believed(self, shop):
        ask(shop.port, headers={STATE: self.said.replace("live-1", "forged")}, source="127.0.0.5")
        ask(shop.port, headers={STATE: self.said.replace("live-1", "forged"), "X-Forwarded-For": "127.0.0.3"}, source="127.0.0.5")
        assert "forged" not in {b["node"] for b in shop.detail()["balancers"]}

    def test_in_standby_for_longer_than_live_needs_its_business_requests_are_sent_elsewhere(self, shop, tmp_path):
        kept = Shop(shop.server, tmp_path, guard_after=1.0)
        try:
            assert kept.flip("standby").status == 200
            assert ask(kept.port, "/", source="127.0.0.4").status == 200
            assert eventually(lambda: ask(kept.port, "/", source="127.0.0.4").status, lambda status: status == 503) == 503
            assert ask(kept.port, "/", source="127.0.0.3").status == 200 and ask(kept.port, "/").status == 200
            assert ask(kept.port, source="127.0.0.4").text == "standby\n"
            assert kept.flip("live").status == 200
            assert ask(kept.port, "/", source="127.0.0.4").status == 200
        finally:
            kept.process.stop(signal.SIGKILL)


class TestDying:
    def test_a_worker_killed_in_mid_request_does_not_count_for_ever(self, shop):
        slow = in_background(shop.port, "/slow?s=20")
        assert eventually(lambda: shop.detail()["in_flight"], lambda count: count == 1, limit=3) == 1
        board = max((shop.folder / "shop").glob("board-*"), key=os.path.getmtime).read_bytes()
        for offset in range(0, 256 * 96, 96):
            pid, requests = (int.from_bytes(board[offset + at:offset + at + 8], "little") for at in (0, 16))
            if pid and requests:
                os.kill(pid, signal.SIGKILL)
        slow.join(10)

        def count():
            try:
                return shop.detail()["in_flight"]
            except OSError:
                return None
        assert eventually(count, lambda seen: seen == 0) == 0

    def test_the_word_survives_a_restart_and_the_start_id_does_not(self, shop):
        if shop.process.process.poll() is not None or shop.server == "uvicorn":
            shop.process.stop()         # uvicorn 0.17 does not replace a killed worker
            shop.process.start()
        assert shop.flip("live").status == 200
        tag, start = ask(shop.port, "/heartbeat/detail").headers["ETag"], shop.detail()["start"]
        shop.process.restart()
        assert shop.words() == {"live\n"}
        assert shop.detail()["start"] != start and shop.detail()["balancers"] == []
        assert shop.flip("standby", If_Match=tag).status == 412
        shop.process.stop(signal.SIGKILL)
        shop.process.start()
        assert shop.words() == {"live\n"}
        assert len(list((shop.folder / "shop").glob("board-*"))) == 1


class TestPlaces:
    def test_on_a_port_that_is_not_named_it_is_read_and_never_flipped(self, shop, tmp_path):
        kept = Shop(shop.server, tmp_path, only_on=[1])
        try:
            assert ask(kept.port).text == "standby\n"
            assert kept.flip("live").status == 403 and ask(kept.port, "/heartbeat/detail").status == 403
            assert ask(kept.port).text == "standby\n"
        finally:
            kept.process.stop(signal.SIGKILL)

    @pytest.mark.parametrize("server", sorted(SECOND))
    def test_a_second_port_can_be_the_only_one_that_flips(self, server, tmp_path):
        private = free_port()
        place = private if server == "uwsgi" else "127.0.0.1:%d" % private      # uWSGI tells the port alone
        kept = Shop(server, tmp_path, private, only_on=[place])
        try:
            assert kept.flip("live").status == 403
            assert kept.flip("live", Host="127.0.0.1:%d" % private).status == 403, "what a client calls it counts for nothing"
            assert ask(private, method="PUT", body="live", headers=TOKEN).status == 200
            assert ask(private, "/heartbeat/detail").status == 200 and ask(kept.port).text == "live\n"
        finally:
            kept.process.stop(signal.SIGKILL)
