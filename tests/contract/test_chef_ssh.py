"""The Chef port over a real sshd to the real bgdeploy-host, whose files are put under a folder of the test."""

import os
import stat
import textwrap

import pytest

from bgdeploy import errors, model, site
from bgdeploy.outside import chef, ssh
from tests.contract.sshd import Sshd

CODE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class World:
    """A site of one host, `green-1`, whose helper is `text`."""

    def __init__(self, server, at):
        self.server, self.at = server, at
        self.root = at / "root"
        self.helper = at / "bgdeploy-host"
        components = tuple(site.Component(name, name, name, name, site.Heartbeat()) for name in ("api", "web"))
        part = server.site(user="root", sudo="none", helper=str(self.helper))
        self.site = site.Site("lab", "lab.yml", str(at), components, (), None, None, model.Policy(), ssh=part.ssh,
                              chef=site.Chef(limit=60))
        self.host = site.Host("green-1", "green", "127.0.0.1", server.port, components=("api", "web"))
        self.shell = ssh.Shell(self.site)

    def real(self):
        self.write(f"""\
            #!/usr/bin/python3 -IS
            import sys
            sys.path.insert(0, {os.path.join(CODE, "host")!r})
            from bgdeploy_host import verbs
            sys.exit(verbs.main(sys.argv[1:], {str(self.root)!r}))
            """)
        return self

    def write(self, text):
        self.helper.write_text(textwrap.dedent(text))
        self.helper.chmod(0o755)

    def answers(self, text):
        self.write(f"#!/bin/sh\n{text}\n")

    def have_chef(self):
        path = self.root / "usr/bin/chef-client"
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def world(server, tmp_path):
    made = World(server, tmp_path)
    yield made
    made.shell.close()


def _says(document):
    return f"echo --bgdeploy--; echo '{document}'; echo --end--"


RELEASE = model.Release((("api", "2.0.0-1"), ("web", "2.0.0-1")), "abcdef0123456789")


def test_a_look_at_an_empty_host_brings_facts_and_no_job(world):
    (world.root / "etc").mkdir(parents=True)
    facts = chef.look(world.real().shell, world.site, world.host)
    assert facts.job is None and set(facts.services) == {"api", "web"} and facts.licence is False


def test_cookbooks_are_sent_once_and_only_when_their_content_is_not_there(world, tmp_path):
    (tmp_path / "cookbooks/web/recipes").mkdir(parents=True)
    (tmp_path / "cookbooks/web/recipes/default.rb").write_text("# web\n")
    name, archive = chef.revision(str(tmp_path / "cookbooks"))
    first = chef.send_cookbooks(world.real().shell, world.site, world.host, name, archive)
    again = chef.send_cookbooks(world.shell, world.site, world.host, name, b"never looked at")
    assert (first.outcome, again.outcome) == ("ok", "ok") and "bytes sent" in first.detail
    kept = world.root / "var/lib/bgdeploy/cookbooks" / name / "web/recipes/default.rb"
    assert kept.read_text() == "# web\n"


def test_damaged_cookbooks_are_a_failure_and_nothing_is_left(world):
    result = chef.send_cookbooks(world.real().shell, world.site, world.host, "abcdef0123456789", b"no archive")
    assert result.outcome == "failed" and "could not be unpacked" in result.detail
    assert not (world.root / "var/lib/bgdeploy/cookbooks/abcdef0123456789").exists()


def test_a_start_that_is_refused_is_failed_with_the_reason(world):
    result = chef.start(world.real().shell, world.site, world.host, "r1", RELEASE)
    assert (result.host, result.outcome) == ("green-1", "failed") and "chef-client is not on this host" in result.detail
    world.have_chef()
    result = chef.start(world.shell, world.site, world.host, "r1", RELEASE)
    assert result.outcome == "failed" and "cookbooks abcdef0123456789 are not on this host" in result.detail


def test_a_run_started_twice_with_one_id_is_one_run(world, tmp_path):
    world.real().have_chef()
    (tmp_path / "cookbooks/web").mkdir(parents=True)
    (tmp_path / "cookbooks/web/metadata.rb").write_text("name 'web'\n")
    name, archive = chef.revision(str(tmp_path / "cookbooks"))
    assert chef.send_cookbooks(world.shell, world.site, world.host, name, archive).outcome == "ok"
    release = model.Release(RELEASE.versions, name)
    results = [chef.start(world.shell, world.site, world.host, "r1", release) for _ in range(2)]
    assert [r.outcome for r in results] == ["ok", "ok"]
    assert [r.evidence["already"] for r in results] == [False, True] and "already started" in results[1].detail


def test_output_is_read_piece_by_piece_from_an_offset(world):
    folder = world.root / "var/lib/bgdeploy/runs/r1"
    folder.mkdir(parents=True)
    content = bytes(range(256)) * 9
    (folder / "out").write_bytes(content)
    pieces, offset = [], 0
    for _ in range(5):
        piece, offset, size = chef.output(world.real().shell, world.site, world.host, "r1", offset, cap=1000)
        pieces.append(piece)
    assert b"".join(pieces) == content and pieces[-1] == b"" and offset == size == len(content)
    with pytest.raises(errors.Refused, match="no run r2"):
        chef.output(world.shell, world.site, world.host, "r2")


def test_parking_where_nothing_is_stored_is_done_already(world):
    world.answers(_says('{"component": "web", "parked": false, "why": "no heartbeat is stored here"}'))
    result = chef.park(world.shell, world.site, world.host, "web")
    assert (result.outcome, result.detail) == ("ok", "no heartbeat is stored here")


@pytest.mark.parametrize("text, outcome, part", [
    ("exit 0", "unknown", "no answer"),
    ("echo what; exit 1", "unknown", "ended with 1 and no answer: what"),
    ("echo --bgdeploy--; echo '{\"run\": '; exit 0", "unknown", "no answer"),
    ("echo --bgdeploy--; echo '[1]'; echo --end--", "unknown", "no answer"),
    ("echo --bgdeploy--; echo '{\"run\": 1}'; echo --end--; exit 1", "unknown", "no answer"),
    ("echo --bgdeploy--; echo '{\"refused\": \"run r0 goes on here\"}'; echo --end--; exit 3", "failed", "run r0 goes on here"),
    ("echo --bgdeploy--; echo '{\"error\": \"start does not know it\"}'; echo --end--; exit 2", "failed", "another version"),
    ("kill -9 $PPID", "unknown", "before its answer came"),
    ("echo Hello; " + _says('{"run": "r1", "already": false, "state": "running"}'), "ok", "started")])
def test_a_start_is_ok_failed_or_unknown_by_what_the_helper_really_said(world, text, outcome, part):
    world.answers(text)
    result = chef.start(world.shell, world.site, world.host, "r1", RELEASE, limit=20)
    assert result.outcome == outcome and part in result.detail


def test_a_host_without_the_helper_names_the_rpm(world):
    result = chef.start(world.shell, world.site, world.host, "r1", RELEASE)
    assert result.outcome == "failed" and "install the RPM bgdeploy-host" in result.detail


def test_a_start_whose_answer_is_late_is_unknown(world):
    chef.look(world.real().shell, world.site, world.host)
    world.answers("sleep 30")
    result = chef.start(world.shell, world.site, world.host, "r1", RELEASE, limit=1.5)
    assert result.outcome == "unknown" and "its result is unknown" in result.detail


def test_a_host_that_nobody_can_reach_raises_from_a_look_and_makes_an_act_unknown(world):
    gone = site.Host("green-9", "green", "127.0.0.1", 1, components=("api",))
    with pytest.raises(errors.NoAnswer, match="green-9"):
        chef.look(world.shell, world.site, gone)
    assert chef.stop(world.shell, world.site, gone, "r1").outcome == "unknown"
