"""The lab's two applications, laid out as they are packaged, under their own server, with the lab's own database."""

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pymongo
import pytest

from bgdeploy import packaging
from lab import database
from tests.serving import ROOT, Process, ask, eventually, free_port, listening

TOKEN = {"Authorization": "Bearer correct-horse"}


class Shop:
    """A host's applications in one folder: any version of each, and the database."""

    def __init__(self, folder):
        self.folder, self.processes, self.ports = folder, [], {}
        self.database_port = free_port()
        (folder / "token").write_text("correct-horse\n")

    def database(self):
        folder = self.folder / "db"
        folder.mkdir(exist_ok=True)
        argv, _ = database.command("127.0.0.1", self.database_port, folder)
        return self._keep(Process(argv, {}, str(self.folder / "db.log"), lambda: listening(self.database_port)))

    def install(self, name, version, **settings):
        """Lay the package out as `publish` does; return the command that the unit runs, on a port of this test."""
        root = self.folder / f"{name}-{version}"
        if not root.exists():
            packaging.stage(packaging.load(f"{ROOT}/lab/apps/{name}.yml"), version, root)
        self.ports.setdefault(name, free_port())
        settings.update(json.loads((root / f"etc/{name}/{name}.json").read_text()))
        settings.update(address="127.0.0.1", port=self.ports[name],
                        heartbeat={"state_dir": str(self.folder), "token_file": str(self.folder / "token")})
        settings.update({"database": f"mongodb://127.0.0.1:{self.database_port}/shop"} if name == "api"
                        else {"api": f"http://127.0.0.1:{self.ports['api']}"})
        (self.folder / name).mkdir(exist_ok=True)
        config = self.folder / f"{name}.json"
        config.write_text(json.dumps(settings))
        return [sys.executable, str(root / f"opt/{name}/serve.py"), name, str(config)]

    def start(self, name, version, settings=(), **environment):
        port = self.ports.setdefault(name, free_port())
        argv = self.install(name, version, **dict(settings))
        return self._keep(Process(argv, environment, str(self.folder / f"{name}.log"), lambda: ask(port).status))

    def ask(self, name, path, **more):
        return ask(self.ports[name], path, **more)

    def collection(self):
        return pymongo.MongoClient(f"mongodb://127.0.0.1:{self.database_port}/shop").get_default_database()["orders"]

    def _keep(self, process):
        self.processes.append(process)
        return process


@pytest.fixture
def shop(tmp_path):
    built = Shop(tmp_path)
    yield built
    for process in reversed(built.processes):
        process.stop(signal.SIGKILL)


def order(shop, customer="c-1", total=12):
    return shop.ask("api", "/orders", method="POST", body=json.dumps({"customer": customer, "total": total}))


def test_every_answer_says_who_gave_it_and_which_version_runs(shop):
    shop.database()
    shop.start("api", "2.0.0-1")
    shop.start("web", "2.0.0-1")
    assert order(shop).status == 201
    for name, path in [("api", "/orders"), ("api", "/orders/self-test"), ("api", "/heartbeat"), ("api", "/heartbeat/detail"),
                       ("api", "/nowhere"), ("web", "/"), ("web", "/heartbeat"), ("web", "/slow?s=0")]:
        answer = shop.ask(name, path)
        assert answer.headers["X-Served-By"] == socket.gethostname() and answer.headers["X-Version"] == "2.0.0-1", path
    assert "1 orders" in shop.ask("web", "/").text and "web 2.0.0-1, api 2.0.0-1" in shop.ask("web", "/").text
    assert shop.ask("api", "/orders/self-test").text.startswith("ok 2.0.0-1")
    assert json.loads(shop.ask("api", "/orders").text)["orders"][0]["customer"] == "c-1"
    assert json.loads(shop.ask("api", "/orders?newest=0").text) == {"count": 1, "orders": [], "version": "2.0.0-1"}
    assert shop.ask("api", "/orders?newest=all").status == 400
    assert shop.ask("api", "/orders", method="POST", body="{}").status == 400


def test_the_new_version_writes_another_shape_and_reads_both(shop):
    shop.database()
    for version in ("1.0.0-1", "2.0.0-1"):
        served = shop.start("api", version)
        assert order(shop, "c-" + version[0]).status == 201
        served.stop()
    shapes = {("customer_name" in stored, isinstance(stored.get("customer"), dict)) for stored in shop.collection().find()}
    assert shapes == {(True, False), (False, True)}
    for version in ("2.0.0-1", "1.0.0-1"):
        served = shop.start("api", version)
        listed = json.loads(shop.ask("api", "/orders").text)
        assert listed["count"] == 2 and {"c-1", "c-2"} == {o["customer"] for o in listed["orders"]}
        served.stop()


def test_without_a_database_business_says_503_and_the_heartbeat_stays_quick(shop):
    shop.start("api", "2.0.0-1")
    shop.start("web", "2.0.0-1")
    assert shop.ask("api", "/orders").status == 503 and "database" in shop.ask("api", "/orders").text
    assert shop.ask("web", "/").status == 503
    stop, waits = threading.Event(), []

    def press():
        while not stop.is_set():
            assert shop.ask("api", "/orders").status == 503
    clients = [threading.Thread(target=press, daemon=True) for _ in range(12)]
    for client in clients:
        client.start()
    for _ in range(20):
        began = time.monotonic()
        assert shop.ask("api", "/heartbeat").text == "standby\n"
        waits.append(time.monotonic() - began)
    stop.set()
    for client in clients:
        client.join(20)
    assert sorted(waits)[-2] < 1.0, "a balancer's check waits about a second"
    shop.database()
    assert eventually(lambda: shop.ask("api", "/orders").status, lambda status: status == 200) == 200
    assert eventually(lambda: shop.ask("web", "/").status, lambda status: status == 200) == 200


def test_2_0_1_does_not_start_and_says_why(shop):
    shop.ports["api"] = free_port()
    argv = shop.install("web", "2.0.1-1")
    with pytest.raises(AssertionError) as refused:
        Process(argv, {}, str(shop.folder / "log"), lambda: listening(shop.ports["web"]), limit=3)
    assert "web 2.0.1-1 does not start" in str(refused.value) and "Traceback" not in str(refused.value)


def test_2_0_2_starts_and_its_pages_are_wrong(shop):
    shop.database()
    shop.start("api", "2.0.2-1")
    shop.start("web", "2.0.2-1")
    assert order(shop).status == 201
    page, test = shop.ask("web", "/"), shop.ask("api", "/orders/self-test")
    assert page.status == 200 and "orders" not in page.text
    assert test.status == 200 and "ok" not in test.text
    assert shop.ask("web", "/heartbeat").text == "standby\n"


def test_an_upgrade_keeps_the_word_and_changes_version_and_start_id(shop):
    seen = []
    for version, start in (("1.0.0-1", "a" * 32), ("2.0.0-1", "b" * 32), ("1.0.0-1", "c" * 32)):
        shop.ports.setdefault("api", free_port())
        served = shop.start("web", version, INVOCATION_ID=start)
        if not seen:
            shop.ask("web", "/heartbeat", method="PUT", body="live", headers=TOKEN)
        detail = json.loads(shop.ask("web", "/heartbeat/detail").text)
        seen.append((shop.ask("web", "/heartbeat").text, detail["version"], detail["start"]))
        served.stop()
    assert seen == [("live\n", "1.0.0-1", "a" * 32), ("live\n", "2.0.0-1", "b" * 32), ("live\n", "1.0.0-1", "c" * 32)]


@pytest.mark.parametrize("begins", ["live", "standby"])
def test_without_the_kit_every_start_begins_with_the_same_word(shop, begins):
    shop.ports["api"] = free_port()
    served = shop.start("web", "2.0.0-1", {"without_kit": begins})
    other = {"live": "standby", "standby": "live"}[begins]
    assert shop.ask("web", "/heartbeat").text == begins + "\n" and shop.ask("web", "/version").text == "2.0.0-1\n"
    assert shop.ask("web", "/heartbeat", method="PUT", body=other, headers={"Authorization": "Bearer x"}).status == 403
    assert shop.ask("web", "/heartbeat", method="PUT", body=other, headers=TOKEN).text == other + "\n"
    assert {shop.ask("web", "/heartbeat").text for _ in range(20)} == {other + "\n"}
    assert shop.ask("web", "/heartbeat/detail").status == 404
    served.restart()
    assert shop.ask("web", "/heartbeat").text == begins + "\n"


def test_systemd_is_told_when_it_listens_and_two_workers_serve(shop):
    place = str(shop.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(place)
        told.settimeout(10)
        shop.ports["api"] = free_port()
        shop.start("web", "2.0.0-1", NOTIFY_SOCKET=place)
        assert told.recv(1000).startswith(b"READY=1")
    assert eventually(lambda: json.loads(shop.ask("web", "/heartbeat/detail").text)["workers"], lambda count: count == 2) == 2


def test_a_request_in_flight_is_finished_when_the_service_stops(shop):
    shop.ports["api"] = free_port()
    served = shop.start("web", "2.0.0-1")
    answers = []
    request = threading.Thread(target=lambda: answers.append(shop.ask("web", "/slow?s=2")))
    request.start()
    assert eventually(lambda: json.loads(shop.ask("web", "/heartbeat/detail").text)["in_flight"], lambda count: count == 1) == 1
    os.kill(served.process.pid, signal.SIGTERM)
    request.join(20)
    assert [answer.status for answer in answers] == [200]
    assert served.process.wait(20) == 0


def test_the_units_run_what_the_packages_hold():
    for name in ("api", "web"):
        unit = Path(ROOT, "lab/apps", f"{name}.service").read_text()
        targets = {target for _, target in packaging.load(f"{ROOT}/lab/apps/{name}.yml").files}
        assert f"ExecStart=/usr/bin/python3 /opt/{name}/serve.py {name}\n" in unit and f"/opt/{name}/serve.py" in targets
        for line in ("Type=notify", f"User={name}", f"StateDirectory=bgdeploy-heartbeat/{name}", "KillMode=mixed"):
            assert line + "\n" in unit
