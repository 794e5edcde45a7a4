"""python3 serve.py api|web [CONFIG]: runs one of the lab's applications under gunicorn, behind its heartbeat.

CONFIG is JSON, by default /etc/NAME/NAME.json:
    address, port            where it listens ("0.0.0.0", 8081)
    database (api)           mongodb://HOST:PORT/NAME
    api (web)                http://127.0.0.1:8081
    workers, threads         2 processes of 16 threads
    heartbeat                settings of the heartbeat kit, such as {"state_dir": ..., "token_file": ..., "balancers": ...}
    without_kit              "live" or "standby": a heartbeat without the kit that begins so (see plain.py)

Tells systemd that it is ready once it listens (gunicorn does). On SIGTERM requests in flight are finished.
"""

import importlib
import json
import sys

from gunicorn.app.base import BaseApplication

from heartbeat_kit import Heartbeat
from pages import signed
from plain import Plain
from versions import features, installed

PORTS = {"api": 8081, "web": 8080}


class Server(BaseApplication):
    """gunicorn, told by a dict instead of its command line. The application is built before the workers are forked."""

    def __init__(self, application, options):
        self.application, self.options = application, options
        super().__init__(prog="serve.py")

    def load_config(self):
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self):
        return self.application


def main(name, file):
    try:
        with open(file) as opened:
            settings = json.load(opened)
    except (OSError, ValueError) as error:
        return "%s does not start: %s: %s" % (name, file, error)
    version = installed()
    kind = features(version)
    if not kind.starts:
        return "%s %s does not start: %s has no \"currency\", which this version needs" % (name, version, file)
    begins = settings.get("without_kit")
    heartbeat = (Plain(name, version, begins, **settings.get("heartbeat", {})) if begins
                 else Heartbeat(name, version, **settings.get("heartbeat", {})))
    application = importlib.import_module(name).application(settings, version, kind)
    Server(signed(heartbeat.wsgi(application), version), {
        "bind": "%s:%d" % (settings.get("address", "0.0.0.0"), settings.get("port", PORTS[name])),
        "workers": settings.get("workers", 2),
        "worker_class": "worker.Worker",
        "threads": settings.get("threads", 16),
        "preload_app": True,
        "keepalive": 30,
        "timeout": 60,
        "graceful_timeout": 30,
        "worker_tmp_dir": "/dev/shm",       # gunicorn's own sign of life; on a disk it stalls when the disk does
        "loglevel": "warning",
    }).run()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in PORTS:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else "/etc/%s/%s.json" % (sys.argv[1], sys.argv[1])))
