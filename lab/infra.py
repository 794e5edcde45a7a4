"""The infra host: the RPM repository over HTTP and the database server. Plain processes in its namespace, no machine."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
from urllib.parse import urlsplit

from lab import network

HERE = pathlib.Path(__file__).resolve().parent


def plan(site, layout):
    """What runs on infra: {name: {"words": [...], "port", "address", "note"}}, and notes on what does not."""
    services = {}
    if site.repository:
        url = urlsplit(site.repository.url)
        folder = pathlib.Path(site.repository.directory or layout.folder / "repo")
        folder.mkdir(parents=True, exist_ok=True)
        services["repository"] = {
            "address": url.hostname, "port": url.port or 80, "note": f"{site.repository.url} from {folder}",
            "words": [sys.executable, "-m", "http.server", str(url.port or 80), "--bind", url.hostname, "-d", str(folder)]}
    if site.database:
        services["database"] = _database(urlsplit(site.database), layout)
    return services


def _database(url, layout):
    folder, port = layout.folder / "db", url.port or 27017
    folder.mkdir(parents=True, exist_ok=True)
    service = {"address": url.hostname, "port": port}
    if real := shutil.which("mongod"):
        return {**service, "note": real, "words": [
            real, "--bind_ip", url.hostname, "--port", str(port), "--dbpath", str(folder), "--nounixsocket", "--quiet"]}
    own = HERE / "database.py"
    if not own.exists():
        return {**service, "note": "not there: neither a mongod on the PATH nor lab/database.py", "words": None}
    return {**service, "note": "the lab's stand-in, lab/database.py (no mongod on the PATH)",
            "words": [sys.executable, str(own), "--bind", url.hostname, "--port", str(port), "--file", f"{folder}/data.sqlite"]}


class Service:
    """One process on the infra host. Runs inside the lab's init."""

    def __init__(self, name, described, log):
        self.name, self.log = name, log
        self.words, self.address, self.port, self.note = (described[key] for key in ("words", "address", "port", "note"))
        self.process = None

    def start(self):
        if self.words and self.state == "off":
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen([*network.inside("infra"), *self.words], stdin=subprocess.DEVNULL,
                                                stdout=log, stderr=log, start_new_session=True)

    def stop(self):
        """Gone at once, as after a crash."""
        if self.state == "running":
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def state(self):
        return "missing" if not self.words else "running" if self.process and self.process.poll() is None else "off"
