"""The kit behind a real HAProxy: what it hears of the balancer, and how it keeps a LIVE that forgot everything from erring."""

import json
import shutil
from collections import Counter

import pytest

from tests.contract.test_kit_servers import TOKEN, command
from tests.serving import Process, ask, eventually, free_port

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")

CONFIG = """
global
    node {node}
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    timeout check 1s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response 503
frontend web-in
    bind 127.0.0.1:{port}
    default_backend web
backend web
    balance roundrobin
    option httpchk
    http-check send-state
    http-check send meth GET uri /heartbeat ver HTTP/1.1 hdr Host heartbeat
    http-check expect status 200
    http-check expect rstring ^{word}\\s*$
    default-server check inter {interval} fall 2 rise 2
    source {source}
    server green-1 127.0.0.1:{green}
    server blue-1 127.0.0.1:{blue}
"""
LIVE, STANDBY = "127.0.0.4", "127.0.0.3"


class Stack:
    """Two instances of the test application, green and blue, and the balancers a test asks for."""

    def __init__(self, folder):
        self.folder, self.ports, self.processes = folder, {}, []

    def instance(self, name, **settings):
        folder = self.folder / name
        (folder / "web").mkdir(parents=True)
        (folder / "token").write_text("correct-horse\n")
        port = self.ports[name] = free_port()
        kept = dict({"component": "web", "version": name, "state_dir": str(folder), "token_file": str(folder / "token"),
                     "balancers": [LIVE + " live", STANDBY + " standby"]}, **settings)
        environment = {"KIT_SETTINGS": json.dumps(kept), "KIT_SICK": str(folder / "sick")}
        served = Process(command("gunicorn", port), environment, str(folder / "log"), lambda: ask(port).status == 200)
        self.processes.append(served)

    def balancer(self, node, word, source, interval):
        port, file = free_port(), self.folder / (node + ".cfg")
        file.write_text(CONFIG.format(node=node, word=word, source=source, interval=interval, port=port, **self.ports))
        log = str(self.folder / (node + ".log"))
        self.processes.append(Process(["haproxy", "-db", "-f", str(file)], {}, log, lambda: ask(port, "/").status))
        return port

    def flip(self, name, word):
        assert ask(self.ports[name], method="PUT", body=word, headers=TOKEN).status == 200

    def said(self, name):
        """{balancer node: state} as this instance heard it."""
        return {b["node"]: b["state"] for b in json.loads(ask(self.ports[name], "/heartbeat/detail").text)["balancers"]}


@pytest.fixture
def stack(tmp_path):
    built = Stack(tmp_path)
    yield built
    for process in reversed(built.processes):
        process.stop()


def test_a_flip_is_followed_by_what_each_balancer_says_of_it(stack):
    stack.instance("green")
    stack.instance("blue")
    stack.flip("green", "live")
    live = stack.balancer("lb-live", "live", LIVE, "100ms")
    standby = stack.balancer("lb-standby", "standby", STANDBY, "100ms")
    in_live, out = {"lb-live": "UP", "lb-standby": "DOWN"}, {"lb-live": "DOWN", "lb-standby": "UP"}
    for green, blue in ((in_live, out), (out, in_live)):
        stack.flip("green", "live" if green is in_live else "standby")
        stack.flip("blue", "live" if blue is in_live else "standby")
        for name, wanted in (("green", green), ("blue", blue)):
            assert eventually(lambda: stack.said(name), lambda seen: seen == wanted) == wanted
        served = [{ask(port, "/").headers["X-Version"] for _ in range(10)} for port in (live, standby)]
        assert served == ([{"green"}, {"blue"}] if green is in_live else [{"blue"}, {"green"}])


@pytest.mark.parametrize("guard", [True, False])
def test_a_live_that_comes_up_with_every_server_up_serves_nobody_from_a_guarded_standby(stack, guard):
    """Its first check comes after three seconds here: until then HAProxy counts every server as UP."""
    for name in ("green", "blue"):
        stack.instance(name, guard=guard, guard_after=0.0)
    stack.flip("green", "live")
    live = stack.balancer("lb-live", "live", LIVE, "3s")
    answers = Counter((answer.status, answer.headers["X-Version"]) for answer in (ask(live, "/") for _ in range(200)))
    if guard:
        assert answers == {(200, "green"): 200}
    else:
        assert answers[200, "blue"] >= 1
