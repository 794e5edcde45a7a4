"""Real HAProxy processes on loopback addresses, configured by the lab's own text, with applications on the kit behind them."""

import contextlib
import getpass
import itertools
import os
import signal
import socket
import socketserver
import threading
import time
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from bgdeploy import site as sites
from bgdeploy.model import Policy
from heartbeat_kit import Heartbeat
from lab import balancers
from tests.serving import Process

TOKEN = "correct-horse"
_numbers = itertools.count(1)


def address():
    """A loopback address of this process and this test alone, so that any port on it is free."""
    number = next(_numbers)
    return f"127.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}.{number}"


def answers(where, port):
    with socket.create_connection((where, port), timeout=1):
        return True


class Haproxy(Process):
    """One HAProxy by this configuration. :param at: (address, port) on which it answers once it is up."""

    def __init__(self, text, folder, at, name="haproxy"):
        self.config = folder / f"{name}.cfg"
        self.config.write_text(text)
        super().__init__(["haproxy", "-W", "-db", "-f", str(self.config)], {}, str(folder / f"{name}.log"), lambda: answers(*at))

    def reload(self):
        self.process.send_signal(signal.SIGUSR2)


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads, request_queue_size = True, 200


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass

    def address_string(self):
        return self.client_address[0]


class App:
    """An application on the real kit, in this process: /slow?N takes N seconds, everything else says who answered."""

    def __init__(self, host, folder, where, port, known, version="2.0.0-1", component="web", **settings):
        self.host, self.version, self.slow = host, version, threading.Event()
        state = folder / host
        (state / component).mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(TOKEN + "\n")
        self.kit = Heartbeat(component, version, token_file=str(folder / "token"), balancers=list(known), state_dir=str(state),
                             start=f"start-of-{host}", **settings)
        self.server = _Server((where, port), _Quiet)
        self.server.set_app(self._signed(self.kit.wsgi(self._shop)))
        threading.Thread(target=self.server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def _shop(self, environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            time.sleep(float(environ["QUERY_STRING"]))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"shop ok\n"]

    def _signed(self, inner):
        def application(environ, start_response):
            def begin(status, headers, *more):
                return start_response(status, headers + [("X-Served-By", self.host), ("X-Version", self.version)], *more)
            return inner(environ, begin)
        return application


class Data:
    """Two hosts, green-1 and blue-1, with one component `web`, behind LIVE (two nodes) and STANDBY (one), all real.

    :param settings: of the kit. :param intervals: {node: seconds} other than the usual. :param beat: of site.Heartbeat.
    :param strangers: more balancers' addresses that the kit knows. :param change: applied to every node's configuration.
    """

    def __init__(self, folder, settings=None, intervals=(), strangers=(), change=str, **beat):
        self.folder, self.change = folder, change
        nodes = {name: sites.Node(name, address(), interval, 2, 2) for name, interval in
                 {"live-1": 0.2, "live-2": 0.4, "standby-1": 0.2, **dict(intervals)}.items()}
        where = {name: address() for name in ("green-1", "blue-1")}
        hosts = tuple(sites.Host(name, name[:-2], where[name], components=("web",)) for name in where)
        heartbeat = sites.Heartbeat(port=8080, timeout=2.0, token=sites.Secret(file=str(folder / "token")), **beat)
        web = sites.Component("web", "web", "web", "web", heartbeat, (sites.SanityCheck("/", 200, "ok"),), port=8080)
        live = sites.Balancer("live", (nodes["live-1"], nodes["live-2"]), (("web", 80),))
        standby = sites.Balancer("standby", (nodes["standby-1"],), (("web", 80),))
        stacks = tuple(sites.Stack(host.stack, (host,)) for host in hosts)
        self.site = sites.Site("t", "t.yml", str(folder), (web,), stacks, live, standby, Policy(), watch_rate=100.0)
        known = [f"{node.address} {side.name}" for side in (live, standby) for node in side.nodes] + list(strangers)
        self.apps = {h.name: App(h.name, folder, h.address, 8080, known, **(settings or {})) for h in hosts}
        self.apps["blue-1"].kit.state.set("live")
        self.nodes = {node.name: self.start(balancer, node) for balancer in (live, standby) for node in balancer.nodes}

    def start(self, balancer, node):
        """Start one node's HAProxy by the lab's text."""
        state = self.folder / f"{node.name}.state"
        state.write_text("1\n")
        admin = str(self.folder / f"{node.name}.sock")
        text = balancers.render(self.site, balancer, node, str(state), admin, getpass.getuser())
        # on the loopback every node would come from 127.0.0.1
        text = self.change(text.replace("defaults\n", f"defaults\n    source {node.address}\n"))
        return Haproxy(text, self.folder, (node.address, 80), node.name)

    def keep_states(self, name):
        """What a reload has to be preceded by: the servers' states, written where the new process looks."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(self.folder / f"{name}.sock"))
            channel.sendall(b"show servers state\n")
            (self.folder / f"{name}.state").write_bytes(b"".join(iter(lambda: channel.recv(65536), b"")))

    def stop(self):
        for thing in [*self.nodes.values(), *self.apps.values()]:
            with contextlib.suppress(Exception):
                thing.stop()
