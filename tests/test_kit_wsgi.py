"""The kit in front of a WSGI application, called directly: counting, health, conditions, places. Under servers: contract/."""

import io
import json
import os

import pytest

from heartbeat_kit import Heartbeat, board
from heartbeat_kit.wsgi import Counted
from tests.serving import in_child


class TestWsgi:
    @pytest.fixture
    def heartbeat(self, tmp_path):
        (tmp_path / "shop").mkdir()
        return Heartbeat("shop", "2.0.0-1", state_dir=str(tmp_path), token_file=str(tmp_path / "token"), balancers=["10.0.0.1"])

    def call(self, application, path="/", method="GET", **environ):
        seen = {}
        body = application(dict({"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": "10.0.0.7", "SERVER_NAME": "h",
                                 "SERVER_PORT": "80", "wsgi.input": io.BytesIO()}, **environ),
                           lambda status, headers, *rest: seen.update(status=status, headers=dict(headers)))
        return seen, body

    def flip(self, heartbeat, **environ):
        return self.call(heartbeat.wsgi(None), "/heartbeat", "PUT", HTTP_AUTHORIZATION="Bearer t",
                         **dict({"wsgi.input": io.BytesIO(b"live"), "CONTENT_LENGTH": "4"}, **environ))

    def in_flight(self, heartbeat):
        return json.loads(b"".join(self.call(heartbeat.wsgi(None), "/heartbeat/detail")[1]).decode())["in_flight"]

    def test_a_body_is_counted_out_once_when_it_is_closed(self, heartbeat):
        closed = []

        class Body(list):
            def close(self):
                closed.append(True)
        _, body = self.call(heartbeat.wsgi(lambda environ, start: Body([b"x"])))
        assert self.in_flight(heartbeat) == 1 and len(body) == 1 and list(body) == [b"x"]
        assert self.in_flight(heartbeat) == 1
        body.close()
        body.close()
        del body
        assert closed == [True] and self.in_flight(heartbeat) == 0

    def test_a_body_that_a_server_forgets_to_close_is_counted_out_when_it_goes(self, heartbeat):
        _, body = self.call(heartbeat.wsgi(lambda environ, start: iter([b"x"])))
        assert self.in_flight(heartbeat) == 1
        del body
        assert self.in_flight(heartbeat) == 0

    def test_a_close_that_raises_still_counts_out(self):
        class Body(list):
            def close(self):
                raise ValueError("no")
        left = []
        with pytest.raises(ValueError):
            Counted(Body(), lambda: left.append(True)).close()
        assert left == [True]

    def test_a_generator_has_no_length_for_a_server_to_use(self, heartbeat):
        _, body = self.call(heartbeat.wsgi(lambda environ, start: iter([b"x"])))
        assert not hasattr(body, "__len__")     # waitress asks whether there is one, and calls it

    def test_a_health_check_that_raises_is_a_no_and_its_text_is_in_the_detail(self, tmp_path):
        sick = Heartbeat("shop", "1", healthy=lambda: 1 / 0, state_dir=str(tmp_path), balancers=[])
        assert self.call(sick.wsgi(None), "/heartbeat")[0]["status"] == "503 Service Unavailable"
        detail = json.loads(b"".join(self.call(sick.wsgi(None), "/heartbeat/detail")[1]).decode())
        assert detail["healthy"] is False and "ZeroDivisionError" in detail["problems"][0]

    def test_a_health_check_that_nobody_awaits_is_a_no_and_says_how_to_write_it(self, tmp_path):
        async def well():
            return True
        sick = Heartbeat("shop", "1", healthy=lambda: well(), state_dir=str(tmp_path), balancers=[])
        assert self.call(sick.wsgi(None), "/heartbeat")[0]["status"].startswith("503")
        assert "async def" in sick.health()[1]

    @pytest.mark.parametrize("body", ["\u00a0live", "live\u2028", "\x1clive", "\ufefflive", "live\0"])
    def test_a_word_with_anything_unseen_beside_it_is_another_body(self, heartbeat, tmp_path, body):
        (tmp_path / "token").write_text("t")
        sent = body.encode()
        seen, _ = self.flip(heartbeat, CONTENT_LENGTH=str(len(sent)), **{"wsgi.input": io.BytesIO(sent)})
        assert seen["status"].startswith("400") and heartbeat.state.read().word == "standby"

    @pytest.mark.parametrize("condition", ["", " ", ",", '""'])
    def test_a_condition_that_names_nothing_is_not_met(self, heartbeat, tmp_path, condition):
        (tmp_path / "token").write_text("t")
        seen, _ = self.flip(heartbeat, HTTP_IF_MATCH=condition)
        assert seen["status"].startswith("412") and heartbeat.state.read().word == "standby"

    def test_work_that_the_application_cannot_count_is_unknown(self, heartbeat):
        heartbeat._busy = lambda: 1 / 0
        assert json.loads(b"".join(self.call(heartbeat.wsgi(None), "/heartbeat/detail")[1]).decode())["busy"] is None
        heartbeat._busy = lambda: 3
        assert json.loads(b"".join(self.call(heartbeat.wsgi(None), "/heartbeat/detail")[1]).decode())["busy"] == 3

    def test_workers_of_two_versions_refuse_every_conditional_flip(self, heartbeat, tmp_path):
        (tmp_path / "token").write_text("t\n")
        older = board.Board(heartbeat.board.directory, heartbeat.start, "1.0.0-1")
        ready, let_go = os.pipe(), os.pipe()

        def child():
            older.enter()
            os.write(ready[1], b"x")
            os.read(let_go[0], 1)
        pid = in_child(child)
        os.read(ready[0], 1)
        self.call(heartbeat.wsgi(lambda environ, start: [b""]))
        seen, body = self.flip(heartbeat, HTTP_IF_MATCH=heartbeat.etag)
        assert seen["status"].startswith("412") and b"1.0.0-1, 2.0.0-1" in body[0]
        os.write(let_go[1], b"x")
        os.waitpid(pid, 0)
        seen, _ = self.flip(heartbeat, HTTP_IF_MATCH=heartbeat.etag)
        assert seen["status"] == "200 OK"

    @pytest.mark.parametrize("only_on, server, allowed", [
        (None, ("0.0.0.0", "80"), True), ([81], ("h", "81"), True), (["127.0.0.1:81"], ("127.0.0.1", "81"), True),
        (["[::1]:81"], ("::1", "81"), True), ([81], ("h", "80"), False),
        (["127.0.0.1:81"], ("10.0.0.1", "81"), False), ([], ("h", "80"), False)])
    def test_flips_and_details_are_answered_only_where_the_site_says(self, tmp_path, only_on, server, allowed):
        bound = Heartbeat("shop", "1", state_dir=str(tmp_path), balancers=[], only_on=only_on)
        place = {"SERVER_NAME": server[0], "SERVER_PORT": server[1]}
        assert self.call(bound.wsgi(None), "/heartbeat", **place)[0]["status"] == "200 OK"
        assert (self.call(bound.wsgi(None), "/heartbeat/detail", **place)[0]["status"] == "200 OK") is allowed
        assert self.call(bound.wsgi(None), "/heartbeat", "PUT", **place)[0]["status"][:3] == ("401" if allowed else "403")

    def test_a_disk_that_is_full_is_told_and_the_word_stays(self, heartbeat, tmp_path, monkeypatch):
        (tmp_path / "token").write_text("t\n")
        monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        seen, body = self.flip(heartbeat)
        assert seen["status"].startswith("500") and b"No space left" in body[0] and b"now is standby" in body[0]

    def test_a_version_that_no_header_could_hold_is_made_one_that_can(self, tmp_path):
        odd = Heartbeat("shop", 'a"b\n\u20ac', state_dir=str(tmp_path), balancers=[], start="s")
        assert self.call(odd.wsgi(None), "/heartbeat/detail")[0]["headers"]["ETag"] == "\"a'b ?/s\""

    @pytest.mark.parametrize("name, wrong", [
        ("component", "../x"), ("component", ""), ("component", None), ("version", ""), ("version", 2.0), ("version", None),
        ("version", "2.0 1"), ("after_boot", "live"), ("healthy", True), ("busy", 3), ("token_file", None), ("state_dir", None),
        ("run_dir", 1), ("balancers", "127.0.0.1"), ("balancers", None), ("balancers", ["nonsense"]), ("balancers", [7]),
        ("balancers", ["10.0.0.1 liv"]), ("only_on", 9080), ("only_on", "9080"), ("only_on", ["web"]),
        ("only_on", ["localhost:9080"]), ("only_on", [0]), ("only_on", ["127.0.0.1"]), ("only_on", ["127.0.0.1:"]),
        ("guard_after", "10"), ("guard_after", -1),
        ("linger", None), ("linger", True), ("path", "heartbeat"), ("path", "/"), ("path", None), ("start", 5), ("start", "")])
    def test_a_setting_that_cannot_be_meant_is_refused_at_once_with_what_to_write(self, tmp_path, name, wrong):
        usual = {"component": "shop", "version": "1", "state_dir": str(tmp_path), "balancers": []}
        with pytest.raises(ValueError) as said:
            Heartbeat(**dict(usual, **{name: wrong}))
        assert str(said.value).startswith("%s is %r: write " % (name, wrong))

    @pytest.mark.parametrize("name, right", [
        ("balancers", ["10.0.0.0/8", "10.77.0.3 live  # lb", "", "# none", "::1 standby"]), ("balancers", ()),
        ("balancers", "/nonexistent"), ("only_on", [9080, "127.0.0.1:9080", "[::1]:9080"]), ("linger", 0), ("guard_after", 0.5),
        ("healthy", lambda: True), ("path", "/health/beat"), ("run_dir", "/nonexistent")])
    def test_a_setting_that_can_be_meant_is_taken(self, tmp_path, name, right):
        usual = {"component": "shop", "version": "1", "state_dir": str(tmp_path), "balancers": []}
        assert Heartbeat(**dict(usual, **{name: right})).component == "shop"

    @pytest.mark.parametrize("line, wrong", [
        ("live-2 live", "live-2 is no address"), ("10.77.0.4.1", "10.77.0.4.1 is no address"), ("10.77.0.9 LIVE", None),
        ("10.77.0.9 live,", "live, is neither live nor standby"), ("10.77.0.9 live standby", "live standby is neither live nor")])
    def test_a_line_of_the_balancers_file_that_cannot_be_meant_is_told_in_the_detail_view(self, tmp_path, line, wrong):
        (tmp_path / "balancers").write_text("# LIVE\n10.77.0.3 live\n%s\n" % line)
        (tmp_path / "shop").mkdir(exist_ok=True)
        (tmp_path / "token").write_text("t\n")
        kit = Heartbeat("shop", "1-1", state_dir=str(tmp_path), balancers=str(tmp_path / "balancers"),
                        token_file=str(tmp_path / "token"))
        assert kit.balancers.known("10.77.0.3") and not kit.balancers.known("10.77.0.4")
        told = json.loads(self.call(kit.wsgi(None), "/heartbeat/detail")[1][0]).get("problems", [])
        assert [text.startswith("%s, line 3: %s" % (tmp_path / "balancers", wrong)) for text in told] == [True] * bool(wrong)

    @pytest.mark.parametrize("token, folder, words", [
        (None, "shop", "token: No such file or directory: nobody may flip"),
        (b"\n \n", "shop", "token is empty: nobody may flip"),
        (b"\xef\xbb\xbft\n", "shop", "token has to be plain ASCII"), ("caf\u00e9\n".encode(), "shop", "has to be plain ASCII"),
        (b"t\n", "none", "none is no folder that this service can write to"),
        (b"t\n", "token", "token is no folder that this service can write to"), (b"one\ntwo words\n", "shop", None)])
    def test_why_nobody_could_flip_it_is_told_before_somebody_has_to(self, heartbeat, tmp_path, token, folder, words):
        if token is not None:
            (tmp_path / "token").write_bytes(token)
        kit = Heartbeat(folder, "1-1", state_dir=str(tmp_path), token_file=str(tmp_path / "token"), balancers=[],
                        run_dir=str(tmp_path))
        said = json.loads(self.call(kit.wsgi(None), "/heartbeat/detail")[1][0]).get("problems", [])
        assert [words in problem for problem in said] == [True] if words else said == []

    def test_requests_are_not_counted_where_two_services_of_one_name_share_a_folder(self, heartbeat, tmp_path):
        """The second removes the first one's board: what later workers of the first do would be missing in its count."""
        body = self.call(heartbeat.wsgi(lambda environ, start: [b"x"]))[1]
        assert self.in_flight(heartbeat) == 1
        other = Heartbeat("shop", "3.0.0-1", state_dir=str(tmp_path), balancers=[], start="another")
        assert self.in_flight(other) == 0 and self.in_flight(heartbeat) is None
        said = json.loads(self.call(heartbeat.wsgi(None), "/heartbeat/detail")[1][0])["problems"]
        assert any("another service" in problem for problem in said)
        body.close()

    @pytest.mark.parametrize("sent, length", [
        (b"live" + b" " * 61 + b"standby", "72"), (b"live" + b" " * 61, "65"), (b"live", "40"), (b"live", "-4"),
        (b"live", "four"),
        (b"", "4"), (b"live\0", "5"), ("lıve".encode(), "5")])
    def test_a_body_that_is_too_long_or_did_not_come_whole_changes_nothing(self, heartbeat, tmp_path, sent, length):
        (tmp_path / "token").write_text("t\n")
        seen, _ = self.flip(heartbeat, CONTENT_LENGTH=length, **{"wsgi.input": io.BytesIO(sent)})
        assert seen["status"] == "400 Bad Request" and heartbeat.state.read().word == "standby"

    def test_a_client_that_goes_away_while_its_body_is_read_changes_nothing(self, heartbeat, tmp_path):
        class Gone(io.BytesIO):
            def read(self, size=-1):
                raise OSError("error during read(4) on wsgi.input")         # uWSGI's words
        (tmp_path / "token").write_text("t\n")
        seen, _ = self.flip(heartbeat, **{"wsgi.input": Gone()})
        assert seen["status"] == "400 Bad Request" and heartbeat.state.read().word == "standby"
