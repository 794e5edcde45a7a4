"""How answers become Seen: a table for the folding, and an Observer over ports that are slow, mute, broken or late."""

import threading
import time

import pytest

from bgdeploy import errors, model, observe, site
from bgdeploy.outside.chef import HostFacts
from bgdeploy.outside.heartbeat import Answer

LIVE_NODES = (site.Node("live-1", "10.77.0.3", interval=0.5, fall=2, rise=2),
              site.Node("live-2", "10.77.0.4", interval=1, fall=2, rise=2))
STANDBY_NODES = (site.Node("standby-1", "10.77.0.5", interval=0.5, fall=2, rise=2),)
DETECTION = 3.0             # of live-2: 1 s, twice, and its time-out


def _site(count=1, **heartbeat):
    web = site.Component("web", "web", "web", "web", site.Heartbeat(port=8080, **heartbeat))
    hosts = tuple(site.Host(f"green-{n}", "green", f"10.77.0.{10 + n}", components=("web",)) for n in range(1, count + 1))
    live, standby = site.Balancer("live", LIVE_NODES, (("web", 8080),)), site.Balancer("standby", STANDBY_NODES, (("web", 8080),))
    return site.Site("lab", "lab.yml", "/base", (web,), (site.Stack("green", hosts),), live, standby, model.Policy())


def _pool(nodes, answer, component, host):
    return "yes" if nodes == LIVE_NODES else "no"


def _facts(active="active", start="s1", installed="2.0.0-1", **more):
    return HostFacts(boot="b1", services={"web": (active, start)}, packages={"web": installed}, **more)


def _kit(state="live", **changes):
    return Answer(**{"state": state, "version": "2.0.0-1", "started": "s1", "in_flight": 3, "since_age": 60.0, "healthy": True,
                     "status": 200, **changes})


SICK = Answer(why="web on green-1 answers 503 sick", healthy=False, status=503, version="2.0.0-1")
GONE = Answer(why="web on green-1 connection refused")

LIVE = ("live", "2.0.0-1", "s1", "yes", "no", 3, False)
STANDBY = ("standby", "2.0.0-1", "s1", "yes", "no", 3, False)
DOWN = ("down", None, None, "no", "no", 0, False)
MUTE = (None, None, "s1", None, None, None, False)
UNKNOWN = (None, None, None, None, None, None, False)
# facts, answer, seconds mute -> heartbeat, release, started, live_pool, standby_pool, sessions, sick
TABLE = {
    "live by its own word": (_facts(), _kit(), 0, LIVE),
    "standby by its own word": (_facts(), _kit("standby"), 0, STANDBY),
    "the running version counts, not the installed one": (_facts(installed="3.0.0-1"), _kit(), 0, LIVE),
    "not installed: down, let go, nothing in flight": (_facts("missing", None, ""), GONE, 0, DOWN),
    "stopped: down": (_facts("inactive", "s0"), GONE, 0, DOWN),
    "failed: down": (_facts("failed"), GONE, 0, DOWN),
    "failed is down whatever answers": (_facts("failed"), _kit(), 0, DOWN),
    "activating: down": (_facts("activating"), GONE, 9, DOWN),
    "activating is down though it answers already": (_facts("activating"), _kit(), 0, DOWN),
    "something answers for a stopped service: nobody knows": (_facts("inactive", None), _kit(), 0, UNKNOWN),
    "something answers for a missing service: nobody knows": (_facts("missing", None), _kit(), 0, UNKNOWN),
    "going down and mute: unknown, never down yet": (_facts("deactivating"), GONE, 99, MUTE),
    "going down and still answering: its word": (_facts("deactivating"), _kit("standby"), 0, STANDBY),
    "runs and is mute for a moment: unknown": (_facts(), GONE, 0, MUTE),
    "runs and is mute as long as LIVE may take: still unknown": (_facts(), GONE, DETECTION, MUTE),
    "runs and is mute for longer: sick": (_facts(), GONE, DETECTION + 0.1, (None, None, "s1", None, None, None, True)),
    "says that it is sick: unknown first": (_facts(), SICK, 0, (None, "2.0.0-1", "s1", None, None, None, False)),
    "says so for longer: sick": (_facts(), SICK, DETECTION + 0.1, (None, "2.0.0-1", "s1", None, None, None, True)),
    "not read in time: unknown, and no sickness": (_facts(), None, 0, MUTE),
    "systemd does not answer: the word alone": (_facts(None, None), _kit(), 0, ("live", "2.0.0-1", None, "yes", "no", 3, False)),
    "systemd does not answer, nor the app: unknown": (_facts(None, None), GONE, 99, UNKNOWN),
    "SSH is dead and the app answers: its own word and start": (None, _kit(), 0, LIVE),
    "SSH is dead and so is the app: unknown": (None, GONE, 99, UNKNOWN),
    "nobody answers at all": (None, None, 0, UNKNOWN),
    "another process answers than the service's: no start id": (
        _facts(start="s2"), _kit(), 0, ("live", "2.0.0-1", None, "yes", "no", 3, False)),
    "an app without a start id of its own has systemd's": (_facts(), _kit(started=None), 0, LIVE),
    "no version in the answer of an app with the kit: unknown": (
        _facts(), _kit(version=None), 0, ("live", None, "s1", "yes", "no", 3, False)),
    "not measured requests stay unknown": (
        _facts(), _kit(in_flight=None), 0, ("live", "2.0.0-1", "s1", "yes", "no", None, False)),
}


@pytest.mark.parametrize("case", TABLE)
def test_one_hosts_answers_fold_to(case):
    facts, answer, mute, expected = TABLE[case]
    described = _site()
    ports = observe.Ports(None, None, _pool)
    host = observe.host_seen(described, described.hosts[0], facts, {"web": answer}, {"web": mute}, ports)
    seen = host.component("web")
    assert (seen.heartbeat, seen.release, seen.started, seen.live_pool, seen.standby_pool, seen.sessions, seen.sick) == expected
    assert seen.installed == (facts.packages["web"] if facts else None)
    assert (host.name, host.stack, host.reachable, host.boot) == ("green-1", "green", facts is not None, "b1" if facts else None)


def test_what_is_unknown_says_why():
    described = _site()
    ports = observe.Ports(None, None, _pool)
    host = observe.host_seen(described, described.hosts[0], None, {"web": GONE}, {}, ports, "green-1: no TCP connection")
    assert host.component("web").note == "web on green-1 connection refused; green-1: no TCP connection"


def test_an_app_without_any_version_of_its_own_runs_what_is_installed():
    described = _site(detail=None)
    answer = Answer("live", status=200, healthy=True)
    host = observe.host_seen(described, described.hosts[0], _facts(), {"web": answer}, {}, observe.Ports(None, None, _pool))
    assert (host.component("web").release, host.component("web").started) == ("2.0.0-1", "s1")
    host = observe.host_seen(described, described.hosts[0], None, {"web": answer}, {}, observe.Ports(None, None, _pool))
    assert (host.component("web").release, host.component("web").started) == (None, None)


def test_a_process_that_is_older_than_its_package_runs_nobody_knows_what():
    """A Chef run that was killed between dnf and the restart leaves this, and an upgrade by hand does."""
    ports, facts = observe.Ports(None, None, _pool), _facts(older=("web",))
    told = _site(detail=None, version_path="/version")
    for described, answer, release in ((_site(detail=None), Answer("live", status=200), None),
                                       (told, Answer("live", version="1.0.0-1"), "1.0.0-1"),
                                       (_site(), _kit(version="1.0.0-1"), "1.0.0-1")):
        seen = observe.host_seen(described, described.hosts[0], facts, {"web": answer}, {}, ports).component("web")
        assert seen.release == release and ("which version runs is not known" in seen.note) is (release is None)


class Clock:
    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


class Ports:
    """Hosts that answer what `facts` and `answers` say: by name, a value, an exception to raise, or a function to call."""

    def __init__(self, facts=None, answers=None):
        self.facts, self.answers, self.asked, self.lock = facts or {}, answers or {}, [], threading.Lock()

    def ports(self):
        return observe.Ports(self.look, self.read, _pool)

    def look(self, shell, described, host, limit):
        return self._give(self.facts.get(host.name, _facts()), ("look", host.name))

    def read(self, described, host, component, shell):
        return self._give(self.answers.get((host.name, component.heartbeat.via), self.answers.get(host.name, _kit())),
                          ("read", host.name, component.heartbeat.via))

    def _give(self, value, question):
        with self.lock:
            self.asked.append(question)
        if isinstance(value, Exception):
            raise value
        return value() if callable(value) else value


@pytest.fixture
def observer():
    made = []

    def make(described, ports, **options):
        made.append(observe.Observer(described, None, ports.ports(), now=lambda: 7.0, **options))
        return made[-1]
    yield make
    for one in made:
        one.close()


def test_a_look_sees_every_host_in_the_inventorys_order(observer):
    seen = observer(_site(5), Ports()).look()
    assert seen.at == 7.0 and [h.name for h in seen.hosts] == [f"green-{n}" for n in range(1, 6)]
    assert all(h.component("web").serves for h in seen.hosts)


def test_a_look_may_be_at_some_hosts_only(observer):
    ports = Ports()
    seen = observer(_site(3), ports).look(hosts=("green-2",))
    assert [h.name for h in seen.hosts] == ["green-2"] and {q[1] for q in ports.asked} == {"green-2"}


def test_a_host_that_hangs_is_unknown_at_the_limit_and_delays_nobody(observer):
    hang = threading.Event()
    ports = Ports({"green-2": hang.wait}, {"green-2": hang.wait})
    watcher = observer(_site(4), ports)
    began = time.monotonic()
    seen = watcher.look(limit=1.0)
    assert time.monotonic() - began < 5
    assert [h.reachable for h in seen.hosts] == [True, False, True, True]
    assert seen.host("green-2").component("web").heartbeat is None and "green-2" in watcher.troubles
    hang.set()


def test_a_host_that_still_owes_an_answer_is_not_asked_again_and_its_late_answer_is_not_used(observer):
    hang = threading.Event()

    def late():
        hang.wait()
        return _facts(installed="1.0.0-1")
    ports = Ports({"green-1": late})
    watcher = observer(_site(1), ports)
    for _ in range(3):
        assert watcher.look(limit=0.3).hosts[0].reachable is False
    assert ports.asked.count(("look", "green-1")) == 1
    ports.facts["green-1"] = _facts()
    hang.set()
    for _ in range(100):
        seen = watcher.look(limit=2.0)
        if seen.hosts[0].reachable:
            break
    assert seen.hosts[0].component("web").installed == "2.0.0-1"


def test_whatever_a_port_raises_is_an_answer_that_did_not_come(observer):
    ports = Ports({"green-1": errors.NoAnswer("green-1: gone"), "green-2": errors.Refused("green-2: changed key"),
                   "green-3": ValueError("odd")})
    watcher = observer(_site(4), ports)
    seen = watcher.look()
    assert [h.reachable for h in seen.hosts] == [False, False, False, True]
    assert watcher.troubles == {"green-1": "green-1: gone", "green-2": "green-2: changed key", "green-3": "odd"}


def test_a_wrong_configuration_is_raised_and_not_taken_for_a_dead_host(observer):
    with pytest.raises(errors.BadInput):
        observer(_site(1), Ports({"green-1": errors.BadInput("known_hosts is missing")})).look()


def test_an_instance_that_only_its_own_host_hears_is_known_and_not_sick(observer):
    ports = Ports(answers={("green-1", "direct"): GONE, ("green-1", "ssh"): _kit("standby")})
    component = observer(_site(1), ports).look().hosts[0].component("web")
    assert (component.heartbeat, component.sick) == ("standby", False)
    assert "only on the host itself" in component.note


def test_nobody_asks_inside_a_host_whose_service_does_not_run(observer):
    ports = Ports({"green-1": _facts("inactive")}, {"green-1": GONE})
    observer(_site(1), ports).look()
    assert ("read", "green-1", "ssh") not in ports.asked


def test_sick_is_only_who_was_mute_over_more_than_one_look_for_longer_than_live_needs(observer):
    clock, ports = Clock(), Ports(answers={"green-1": GONE})
    watcher = observer(_site(1), ports, clock=clock)

    def sick(after):
        clock.time += after
        return watcher.look(limit=60).hosts[0].component("web").sick
    assert [sick(0), sick(2.0), sick(0.9), sick(0.2), sick(5)] == [False, False, False, True, True]
    ports.answers["green-1"] = _kit()
    assert sick(1) is False
    ports.answers["green-1"] = GONE
    assert [sick(1), sick(2), sick(2)] == [False, False, True]


def test_a_new_process_gets_its_own_time_before_it_is_sick(observer):
    clock, ports = Clock(), Ports(answers={"green-1": GONE})
    watcher = observer(_site(1), ports, clock=clock)
    watcher.look(limit=60)
    clock.time += 10
    ports.facts["green-1"] = _facts(start="s2")
    assert watcher.look(limit=60).hosts[0].component("web").sick is False
    clock.time += 10
    assert watcher.look(limit=60).hosts[0].component("web").sick is True


def test_a_look_without_ssh_neither_makes_sick_nor_forgets(observer):
    clock, ports = Clock(), Ports(answers={"green-1": GONE})
    watcher = observer(_site(1), ports, clock=clock)
    watcher.look(limit=60)
    clock.time += 10
    ports.facts["green-1"] = errors.NoAnswer("green-1: gone")
    assert watcher.look(limit=60).hosts[0].component("web").sick is False
    ports.facts["green-1"] = _facts()
    assert watcher.look(limit=60).hosts[0].component("web").sick is True


def test_threads_are_kept_between_looks(observer):
    watcher = observer(_site(6), Ports())
    watcher.look()
    before = threading.active_count()
    for _ in range(20):
        watcher.look()
    assert threading.active_count() <= before + 12
