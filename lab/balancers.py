"""The LIVE and STANDBY balancers: HAProxy configuration from the inventory, as a person would write it once, and its process.

The text is what the documentation shows too. What it insists on, and why:
* status *and* an anchored expression: `expect string live` also takes "not live" and a 404 whose body is "live" (measured);
* send-state: each check tells the application what this node thinks of it;
* the server states saved just before a reload: without them every server counts as up until its first check, and LIVE sends
  requests to the stack in standby for up to three intervals (measured);
* LIVE repeats a read that got 503 on another server: that is what the kit's guard answers while its instance is in standby;
* only reads are repeated: a write may have been carried out before its answer was lost.
"""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess

from bgdeploy import errors
from lab import network

STATS_PORT = 8404
SOCKETS = pathlib.Path("/run/bgdeploy")     # in the lab's private /run: a UNIX socket's path must be short


def render(site, balancer, node, state_file="/var/lib/haproxy/server-state", stats_socket="/run/haproxy/admin.sock",
           user="haproxy"):
    """The whole haproxy.cfg of one node.

    :param balancer: site.live or site.standby. :param node: one of its nodes.
    :returns: text that HAProxy 2.4 and newer take. Never touches anything.
    """
    word = "live" if balancer.name == "live" else "standby"
    lines = [
        f"# {balancer.name.upper()}, node {node.name}: keeps the instances whose heartbeat answers \"{word}\"",
        "global",
        f"    node {node.name}",
        f"    user {user}",
        f"    group {user}",
        f"    stats socket {stats_socket} mode 600 level operator",
        f"    server-state-file {state_file}",
        "",
        "defaults",
        "    mode http",
        "    timeout connect 1s",
        "    timeout client 60s",
        "    timeout server 60s",
        f"    timeout check {_time(node.timeout)}",
        "    load-server-state-from-file global",
        "    balance roundrobin",
        "    retries 3",
        "    option redispatch 1",
        # 503 is what an instance in standby answers to LIVE (the kit's guard): a LIVE that has forgotten everything asks on
        "    retry-on conn-failure empty-response" + (" 503" if word == "live" else ""),
        f"    default-server check inter {_time(node.interval)} fall {node.fall} rise {node.rise}"
        + (f" slowstart {_time(node.slow_start)}" if node.slow_start else ""),
    ]
    for component in site.components:
        if balancer.port(component.name) is not None:
            lines += ["", *_component(site, component, word, node.address, balancer.port(component.name))]
    lines += ["", "# For people and scripts: shows, changes nothing (add ;csv for a table)", "frontend stats",
              f"    bind {node.address}:{STATS_PORT}", "    stats enable", "    stats uri /", "    stats refresh 5s"]
    return "\n".join(lines) + "\n"


def _component(site, component, word, address, frontend):
    beat = component.heartbeat
    expected = re.escape(getattr(beat, word)).replace("\\-", "-")
    rule = f"(?i)^{expected}\\s*$" if beat.ignore_case else f"^{expected}\\s*$"
    port = component.port or beat.port
    checked = (f" port {beat.port}" if beat.port != port else "") + _secure(beat, port)
    servers = [f"    server {host.name} {host.address}:{port}{checked}"
               for host in site.hosts if component.name in host.components]
    return [
        f"frontend {component.name}-in",
        f"    bind {address}:{frontend}",
        f"    default_backend {component.name}",
        "",
        f"backend {component.name}",
        "    option httpchk",
        "    http-check send-state",
        f"    http-check send meth GET uri {beat.path} ver HTTP/1.1 hdr Host {beat.host_header or 'heartbeat'}",
        "    http-check expect status 200",
        f"    http-check expect rstring {rule}",
        "    http-request disable-l7-retry unless METH_GET",
        # where connections are counted as requests in flight, those that HAProxy keeps for later would be counted too
        *(["    option http-server-close"] if beat.in_flight == "connections" else []),
        *servers,
    ]


def _secure(beat, port):
    """For a heartbeat behind TLS. Where it shares the port of the requests, these go by TLS as well."""
    if beat.scheme != "https":
        return ""
    name = re.sub(r":\d+$", "", beat.host_header or "")
    named = (f" check-sni {name} verifyhost {name}" + (f" sni str({name})" if beat.port == port else "")) if name else ""
    return f" {'ssl' if beat.port == port else 'check-ssl'} verify required ca-file {beat.ca_file or '@system-ca'}{named}"


def _time(seconds):
    return f"{round(seconds * 1000)}ms"


def write(site, folder):
    """Every node's configuration into this folder, checked by haproxy itself.

    :returns: {node name: path}. :raises errors.BadInput: haproxy refuses one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for balancer in (site.live, site.standby):
        for node in balancer.nodes:
            path = folder / f"{node.name}.cfg"
            path.write_text(render(site, balancer, node, f"{SOCKETS}/{node.name}.state", f"{SOCKETS}/{node.name}.sock"))
            check(path)
            paths[node.name] = str(path)
    return paths


def check(path):
    """Ask haproxy whether it takes this file. :raises errors.BadInput: with haproxy's first complaint."""
    done = subprocess.run(["haproxy", "-c", "-q", "-f", str(path)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "[ALERT]" in line] or done.stderr.splitlines() or ["no message"]
        raise errors.BadInput(f"haproxy does not take {path}: {said[0].strip()[:300]}")


class Balancer:
    """One node's HAProxy: master and worker. Runs inside the lab's init."""

    def __init__(self, name, config, log):
        self.name, self.config, self.log = name, config, log
        self.process = None

    def start(self, keep_states=False):
        if self.process and self.process.poll() is None:
            return
        if not keep_states:
            (SOCKETS / f"{self.name}.state").write_text("1\n")      # empty, and not missing: haproxy would warn
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*network.inside(self.name), "haproxy", "-W", "-db", "-f", self.config],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def reload(self, keep_states=True):
        """New worker by SIGUSR2, the old one finishes its requests.

        :param keep_states: dump the server states just before, for the new worker to load; False shows what happens without.
        """
        state = SOCKETS / f"{self.name}.state"
        new = state.with_suffix(".new")
        new.write_text(self.ask("show servers state") if keep_states else "1\n")
        new.rename(state)
        os.kill(self.process.pid, signal.SIGUSR2)

    def stop(self):
        """Gone at once, worker too."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def state(self):
        return "running" if self.process and self.process.poll() is None else "off"

    def ask(self, command):
        """One command on the stats socket; returns the answer's text."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(5)
            channel.connect(f"{SOCKETS}/{self.name}.sock")
            channel.sendall(command.encode() + b"\n")
            answer = b""
            while chunk := channel.recv(65536):
                answer += chunk
        return answer.decode(errors="replace")
