"""The heartbeat of one component: what it answers to whom. The protocol without a server; wsgi.py and asgi.py carry it."""

import contextlib
import inspect
import json
import os

from . import asgi, door, process, settings, state, wsgi
from .balancers import HEADER, Balancers, recall, remember
from .board import Board
from .wire import SHORT, document, text


class Heartbeat:
    """A component's heartbeat; `wsgi(app)` or `asgi(app)` puts it in front of an application.

    :param component: its name; the state file lies in STATE_DIR/COMPONENT.
    :param version: what runs, as "VERSION-RELEASE".
    :param healthy: called on every GET; false (or an exception) makes it answer 503 in either state. It must be quick, and
        must not ask what all instances share: a database that is down would empty every pool at once.
    :param busy: called for the detail view: how much work, other than requests, a restart would cut off.
    :param token_file: a token a line. No token: nobody may flip.
    :param balancers: a file, or a list, of the balancers' addresses; see heartbeat_kit/balancers.py.
    :param after_boot: "keep" or "standby": what a stored `live` is worth after a reboot.
    :param only_on: ports, or "ADDRESS:PORT", on which flips and the detail view are answered; None: on every one.
    :param guard: in standby, answer 503 to business requests from LIVE's nodes, so that a LIVE balancer that comes up with
        every server marked UP tries elsewhere. Needs addresses marked `live`, and `retry-on 503` there.
    :param guard_after: seconds after a flip to standby before the guard acts: LIVE must have had time to notice.
    :param linger: for sticky sessions: seconds after a flip to standby for which LIVE's checks are answered 404 while busy()
        (count the sessions there) is not 0. HAProxy with `http-check disable-on-404` then keeps the sessions that are there
        and brings no new ones. Needs addresses marked `live`. 0: never.
    :param run_dir: where the workers' shared file lies. Default: systemd's RuntimeDirectory, else beside the state file.
    :param start: the service's start id, the same in all workers. Default: see process.start_id.
    :raises ValueError: a setting that cannot be right, and what to write instead.
    """

    def __init__(self, component, version, healthy=None, busy=None, token_file="/etc/bgdeploy/heartbeat-token",
                 balancers="/etc/bgdeploy/balancers", state_dir="/var/lib/bgdeploy-heartbeat", after_boot="keep", only_on=None,
                 guard=True, guard_after=10.0, linger=0.0, path="/heartbeat", run_dir=None, start=None):
        settings.check({name: value for name, value in locals().items() if name != "self"})
        self.component, self.version = component, _plain(version)
        self.start = _plain(start or process.start_id())
        self.path, self.detail = path, path + "/detail"
        self.state = state.State(os.path.join(state_dir, component), after_boot)
        run_dir = run_dir or os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or self.state.directory
        self.board = Board(run_dir, self.start, self.version)
        self.balancers = Balancers(balancers)
        self._healthy, self._busy, self._token_file = healthy, busy, token_file
        self._only_on = None if only_on is None else {str(place).replace("[", "").replace("]", "") for place in only_on}
        self._guard_after, self._linger = max(guard_after, linger) if guard else None, linger

    def wsgi(self, application):
        """The WSGI application with this heartbeat in front of it."""
        return wsgi.Middleware(self, application)

    def asgi(self, application):
        """The ASGI application with this heartbeat in front of it."""
        return asgi.Middleware(self, application)

    @contextlib.contextmanager
    def working(self):
        """`with heartbeat.working(): ...` counts a piece of work that is not a request, in whichever worker it is done."""
        self.board.work(+1)
        try:
            yield
        finally:
            self.board.work(-1)

    @property
    def etag(self):
        return '"%s/%s"' % (self.version, self.start)

    def mine(self, path):
        return path == self.path or path == self.detail

    def guarded(self, peer):
        """Whether a business request from this peer is to be refused: LIVE sends it, and this instance is in standby for good."""
        if self._guard_after is None or not self.balancers.live(peer):
            return False
        stored = self.state.glance()
        return stored.word == state.STANDBY and (stored.since is None or (state.age(stored) or 0.0) >= self._guard_after)

    def refusal(self):
        """What a guarded request gets."""
        return text(503, "standby: this instance takes no requests from LIVE\n")

    def answer(self, request, verdict=None):
        """Answer a request to one of this heartbeat's two paths.

        :param verdict: (healthy, why) if the caller has asked already, else it is asked here.
        """
        said = request.header(HEADER)
        if said and self.balancers.known(request.peer):
            remember(self.board, said)
        private = request.path == self.detail or request.method not in ("GET", "HEAD")
        if private and not self._private(request.local):
            return text(403, "the heartbeat is not flipped or looked into on this port\n")
        if request.method in ("GET", "HEAD"):
            healthy = verdict or self.health()
            return self._detail(*healthy) if request.path == self.detail else self._word(request.peer, *healthy)
        if request.method == "PUT" and request.path == self.path:
            return self._flip(request)
        return text(405, "GET, HEAD or PUT\n", ("Allow", "GET, HEAD, PUT" if request.path == self.path else "GET, HEAD"))

    def health(self):
        """(healthy, why) by the application's own word."""
        try:
            said = self._healthy is None or self._healthy()
            if inspect.iscoroutine(said):
                said.close()
                return False, "healthy() has to be awaited: write it as async def under ASGI, as def under WSGI"
            return (True, "") if said else (False, "healthy() said no")
        except Exception as error:
            return False, state.line("healthy() raised %s: %s" % (type(error).__name__, error))

    def _word(self, peer, healthy, why):
        if not healthy:
            return text(503, "sick\n")
        stored = self.state.read()
        return text(404, "draining\n") if self._lingers(stored, peer) else text(200, stored.word + "\n")

    def _lingers(self, stored, peer):
        """Whether LIVE asks, and sessions of before the flip are still to be served."""
        if not self._linger or stored.word != state.STANDBY or not self.balancers.live(peer):
            return False
        age = state.age(stored)
        return age is not None and age < self._linger and self._work(self.board.workers()) != 0

    def _detail(self, healthy, why):
        stored, workers = self.state.read(), self.board.workers()
        age = state.age(stored)
        seen = {
            "component": self.component, "version": self.version, "start": self.start,
            "state": stored.word, "since_age": None if age is None else round(age, 3),
            "by": stored.by, "why": stored.why or stored.note, "run": stored.run,
            "in_flight": None if workers is None else sum(worker.requests for worker in workers),
            "busy": self._work(workers), "healthy": healthy, "workers": None if workers is None else len(workers),
            "balancers": recall(self.board),
        }
        problems = (why, self.state.problem(), self.board.problem, self.board.removed, door.problem(self._token_file),
                    self.balancers.problem, self._mixed(workers))
        if any(problems):
            seen["problems"] = [problem for problem in problems if problem]
        return document(json.dumps(seen) + "\n", ("ETag", self.etag))

    def _flip(self, request):
        verdict, wait = door.knock(self.board, self._token_file, request.header("Authorization"), request.peer)
        if verdict == door.ANONYMOUS:
            return text(401, "a flip needs Authorization: Bearer TOKEN\n", ("WWW-Authenticate", "Bearer"))
        if verdict == door.CLOSED:
            return text(429, "too many wrong tokens from this address: wait\n", ("Retry-After", str(int(wait) + 1)))
        if verdict == door.UNSET:
            return text(403, "no token can be read on this host: nobody may flip\n")
        if verdict == door.WRONG:
            return text(403, "wrong token\n")
        body = request.body()
        word = body.strip().decode("utf-8", "replace")
        if word not in state.WORDS or len(body) > SHORT:
            return text(400, "the body must be live or standby\n")
        header = request.header
        try:
            self.state.set(word, by=header("X-Bgdeploy-By") or request.peer, why=header("X-Bgdeploy-Reason"),
                           run=header("X-Bgdeploy-Run"), check=lambda: self._expected(header("If-Match", None)))
        except Mismatch as mismatch:
            return text(412, "%s\n" % mismatch, ("ETag", self.etag))
        except state.Busy as error:
            return text(503, "not changed: %s\n" % error.strerror, ("Retry-After", "1"))
        except OSError as error:
            return text(500, "not stored in %s: %s; the word now is %s\n" % (
                self.state.directory, error.strerror, self.state.read().word))
        return text(200, word + "\n", ("ETag", self.etag))

    def _expected(self, condition):
        """Raise Mismatch unless the condition names what runs. Called with the state file's lock held."""
        if condition is None or condition.strip() == "*":       # an empty one names nothing that could run
            return
        if self.etag not in [part.strip() for part in condition.split(",")]:
            raise Mismatch("runs %s" % self.etag)
        mixed = self._mixed(self.board.workers())
        if mixed:
            raise Mismatch(mixed)

    def _mixed(self, workers):
        """A worker that was replaced after an upgrade and before the restart runs the new code: then no version is the truth."""
        versions = sorted({worker.version for worker in workers or ()})
        return "the workers run different versions: %s" % ", ".join(versions) if len(versions) > 1 else None

    def _work(self, workers):
        try:
            own = int(self._busy()) if self._busy else 0
        except Exception:
            return None
        return None if workers is None else own + sum(worker.work for worker in workers)

    def _private(self, local):
        address, port = local
        return self._only_on is None or str(port) in self._only_on or "%s:%s" % (address, port) in self._only_on


def _plain(text):
    """Text that an ETag can hold."""
    return state.line(text).encode("ascii", "replace").decode().replace('"', "'")


class Mismatch(Exception):
    """Something else runs than the caller has seen."""
