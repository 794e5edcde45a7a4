"""The Chef port's pure parts: arguments as text, the helper's answers as facts, cookbooks as one reproducible archive."""

import gzip
import io
import json
import os
import tarfile

import pytest

from bgdeploy import errors, model, site, story
from bgdeploy.outside import chef


def _site(**options):
    components = tuple(site.Component(name, name, name, name, site.Heartbeat()) for name in ("api", "web"))
    return site.Site("lab", "lab.yml", "/base", components, (), None, None, model.Policy(), chef=site.Chef(**options))


def _host(*components):
    return site.Host("green-1", "green", "10.77.0.11", components=components)


RELEASE = model.Release((("api", "2.0.0-1"), ("web", "1:2.0.0-3")), "3f2a")


def _line(*argv):
    return " ".join(argv)


def test_a_local_converge_is_told_its_recipes_versions_and_cookbooks():
    assert _line(*chef.start_argv(_site(), _host("api", "web"), "r1", RELEASE)) == (
        "start --run r1 --release api=2.0.0-1,web=1:2.0.0-3@3f2a --limit 900 --versions api=2.0.0-1,web=1:2.0.0-3 --mode local "
        "--lock-wait 60 --recipes api,web --cookbooks 3f2a")


def test_a_host_is_told_only_what_it_runs():
    argv = _line(*chef.start_argv(_site(), _host("api"), "r1", RELEASE, restart=("web",)))
    assert "--versions api=2.0.0-1 " in argv and "--recipes api " in argv and "--restart" not in argv


def test_a_restart_minimal_ohai_and_a_run_list_are_passed_on():
    made = _site(minimal_ohai=True, run_list=("base", "web::blue"), limit=30.7, lock_wait=0.0)
    argv = _line(*chef.start_argv(made, _host("api", "web"), "r1", RELEASE, restart=("web",)))
    assert "--limit 30 " in argv and "--lock-wait 0 " in argv and "--recipes base,web::blue " in argv
    assert argv.endswith("--minimal-ohai --restart web")


def test_a_converge_from_a_chef_server_names_the_attributes_and_no_recipe():
    made = _site(cookbooks="server")
    web = site.Component("web", "web", "web", "web", site.Heartbeat(), attribute="shop.web.version")
    made = site.Site(**{**made.__dict__, "components": (made.components[0], web)})
    argv = _line(*chef.start_argv(made, _host("api", "web"), "r1", model.Release(RELEASE.versions)))
    assert argv.endswith("--mode server --lock-wait 60 --attributes web=shop.web.version --reserve 3600")
    assert "--recipes" not in argv and "--cookbooks" not in argv


def test_a_look_names_package_and_service_where_they_differ():
    other = site.Component("web", "shop-web", "shop", "web", site.Heartbeat())
    made = _site()
    made = site.Site(**{**made.__dict__, "components": (made.components[0], other)})
    assert chef.look_argv(made, _host("api", "web")) == ["look", "--components", "api,web:shop-web:shop"]


def _job(**changes):
    return {"run": "r1", "release": RELEASE.id, "state": "ok", "exit": 0, "why": "converged", "limit": 900, "seconds": 4.2,
            "out_size": 10, "report": None, **changes}


@pytest.mark.parametrize("word, state", [
    ("running", "running"), ("ok", "ok"), ("failed", "failed"), ("locked", "locked"), ("reboot", "reboot"), ("again", "again"),
    ("config", "config"), ("licence", "config"), ("killed", "lost"), ("timeout", "lost"), ("lost", "lost"),
    ("new-word", "lost"), (None, "lost")])
def test_every_word_of_the_helper_is_one_of_the_rules_and_the_unheard_of_is_nothing_good(word, state):
    job = chef.facts({"job": _job(state=word)}).job
    assert (job.kind, job.run, job.release, job.state) == ("chef", "r1", RELEASE.id, state)


@pytest.mark.parametrize("began, now, state", [
    ("b1", "b1", "reboot"), ("b1", "b2", "again"), (None, "b2", "reboot"), ("b1", None, "reboot")])
def test_a_reboot_that_chef_asked_for_is_over_once_the_host_is_up_under_another_boot_id(began, now, state):
    assert chef.facts({"boot": now, "job": _job(state="reboot", exit=35, boot=began)}).job.state == state


def test_a_run_that_brought_something_else_says_who_is_to_blame_and_a_good_one_says_nothing():
    assert chef.facts({"job": _job()}).job.tail == ""
    held = _job(why="converged, but not on what was asked", report={"outranked": {"web": "env_override"}})
    assert chef.facts({"job": held}).job.tail == "converged, but not on what was asked"


def test_what_a_good_run_updated_is_told_in_one_line_with_place_and_seconds_and_stands_in_the_results():
    report = {"updated_count": 41, "updated": [
        {"resource": "dnf_package[web]", "cookbook": "bgdeploy", "line": "bgdeploy/resources/component.rb:97", "seconds": 3.21},
        {"resource": "file[/etc/web/web.json]", "cookbook": "", "line": None, "seconds": None}, "odd"]}
    job = chef.facts({"job": _job(report=report, tail="first line of the output")}).job
    said = "41 updated: dnf_package[web] (bgdeploy/resources/component.rb:97, 3.2 s), file[/etc/web/web.json] (0.0 s)"
    assert job.tail.splitlines()[0] == said
    act = story.Part("act", "converge", "green", ("green-1",), 0.0, results={"green-1": ("ok", "", 0.1)})
    done = story.Phase("converge", "green", [act], 1.0, jobs={"green-1": job})
    assert done.outcome("green-1") == ("ok", said, 4.2)
    done.jobs["green-1"] = chef.facts({"job": _job(tail="first line of the output")}).job
    assert done.outcome("green-1") == ("ok", "", 4.2)
    for odd in (5, "x", {}, [], [None]):
        assert chef.facts({"job": _job(report={"updated": odd, "updated_count": "many"})}).job.tail == ""


def test_a_run_that_waits_for_dnf_says_who_holds_its_lock():
    holder = {"pid": 71, "user": "root", "since": 0.0, "command": "dnf-automatic"}
    assert chef.facts({"job": _job(state="running"), "package_lock": holder}).job.tail == \
        "dnf's lock is held by pid 71 of root since 00:00:00 UTC: dnf-automatic"
    assert chef.facts({"job": _job(), "package_lock": holder}).job.tail == ""


def test_a_missing_licence_names_the_cure():
    job = chef.facts({"job": _job(state="licence", exit=172, why="the Chef licence is not accepted (exit code 172)")}).job
    assert "chef_license 'accept' in /etc/chef/client.rb" in job.tail


def test_the_reason_stands_above_the_last_lines_which_are_cleaned():
    job = chef.facts({"job": _job(state="failed", why="boom", tail="\x1b[31mred\x1b[0m\nline")}).job
    assert job.tail == "boom\nred\nline"


def test_a_converge_of_somebody_else_is_what_runs_whatever_ours_came_to():
    said = {"job": _job(), "foreign": {"pid": 77, "user": "root", "since": 0.0, "command": "chef-client -d"}}
    job = chef.facts(said).job
    assert (job.kind, job.state, job.release, job.tail) == ("foreign", "running", None, "chef-client -d")
    assert "pid 77 of root since 00:00:00" in job.run


@pytest.mark.parametrize("said", [
    {}, {"job": None, "services": None, "packages": [], "boot": 3, "disk": "x", "foreign": 4, "daemon": "yes"},
    {"services": {"web": None, "api": {}}, "packages": {"web": None, "api": 7}, "job": {}},
    {"packages": {"web": "2.0.0-1\x1b[2J", "api": "2.0.0-1 " + "x" * 300}}])
def test_what_the_helper_does_not_say_is_unknown(said):
    facts = chef.facts(said)
    assert facts.boot is None and facts.daemon is None and facts.licence is None and facts.job is None
    assert facts.services.get("web", (None, None)) == (None, None)
    assert facts.packages.get("web") is None and facts.packages.get("api") is None


@pytest.mark.parametrize("value", [5, -1, 1e400, float("nan"), [], [1], {"a": 1}, True, "x" * 5000, "r1./../../../x"])
@pytest.mark.parametrize("key", ["run", "state", "seconds", "release", "tail", "boot", "report", "since", "older", "proxies",
                                 "read_only", "services", "packages"])
def test_what_is_of_another_kind_than_the_helper_writes_is_unknown_too_and_leads_nowhere(key, value):
    """What a host says names files here, and goes into JSON that others read."""
    job = {"run": "r1", "state": "ok", "seconds": 3, "boot": "b"}
    for said in ({"job": {**job, key: value}, key: value}, {"foreign": {"pid": 7, key: value}}):
        facts = chef.facts(said)
        json.dumps([facts.job.seconds], allow_nan=False)
        assert ".." not in facts.job.run and len(facts.job.run) < 200


def test_a_usual_answer_becomes_facts():
    facts = chef.facts({"boot": "b1", "now": 5.0, "services": {"web": {"active": "active", "sub": "running", "start": "abc"}},
                        "packages": {"web": "2.0.0-1", "api": ""}, "job": None, "foreign": None, "daemon": False, "licence": True,
                        "disk": {"/var": 7}, "proxies": ["http_proxy"], "package_lock": None, "server_only": False})
    assert facts.services == {"web": ("active", "abc")} and facts.packages == {"web": "2.0.0-1", "api": ""}
    assert (facts.boot, facts.job, facts.daemon, facts.licence) == ("b1", None, False, True)
    assert (facts.disk, facts.proxies) == ({"/var": 7}, ("http_proxy",))


def _cookbooks(folder, order=("web", "api")):
    for name in order:
        (folder / name / "recipes").mkdir(parents=True)
        (folder / name / "recipes" / "default.rb").write_text(f"# {name}\n")
        (folder / name / "metadata.rb").write_text(f"name '{name}'\n")
    return str(folder)


def test_the_same_cookbooks_are_the_same_bytes_wherever_and_whenever_they_lie(tmp_path):
    one, two = _cookbooks(tmp_path / "one"), _cookbooks(tmp_path / "two", ("api", "web"))
    os.utime(os.path.join(two, "web", "metadata.rb"), (1, 1))
    os.chmod(os.path.join(two, "web", "metadata.rb"), 0o600)
    assert chef.revision(one) == chef.revision(two)
    name, archive = chef.revision(one)
    assert len(name) == 16 and int(name, 16) >= 0
    members = tarfile.open(fileobj=io.BytesIO(archive)).getmembers()
    assert [m.name for m in members] == ["api/metadata.rb", "api/recipes/default.rb", "web/metadata.rb", "web/recipes/default.rb"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}
    assert gzip.decompress(archive)


def test_only_what_a_host_converges_changes_the_revision(tmp_path):
    folder = _cookbooks(tmp_path)
    before = chef.revision(folder)[0]
    (tmp_path / "web" / "spec").mkdir()
    (tmp_path / "web" / "spec" / "default_spec.rb").write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("x")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "web" / "recipes" / "default.rb~").write_text("x")
    assert chef.revision(folder)[0] == before
    (tmp_path / "web" / "recipes" / "test").mkdir()
    (tmp_path / "web" / "recipes" / "test" / "other.rb").write_text("x")
    assert chef.revision(folder)[0] != before


def test_an_executable_file_stays_one(tmp_path):
    folder = _cookbooks(tmp_path)
    os.chmod(tmp_path / "web" / "recipes" / "default.rb", 0o700)
    modes = {m.name: m.mode for m in tarfile.open(fileobj=io.BytesIO(chef.revision(folder)[1])).getmembers()}
    assert modes["web/recipes/default.rb"] == 0o755


@pytest.mark.parametrize("make", ["nothing", "empty", "only-a-file", "dangling", "linked-folder"])
def test_what_is_no_folder_of_cookbooks_is_bad_input_with_the_place(tmp_path, make):
    folder = tmp_path / "cookbooks"
    if make != "nothing":
        folder.mkdir()
    if make == "only-a-file":
        (folder / "notes").write_text("x")
    if make in ("dangling", "linked-folder"):
        _cookbooks(folder)
    if make == "dangling":
        os.symlink("/nowhere", folder / "web" / "broken.rb")
    if make == "linked-folder":
        os.symlink(str(tmp_path), folder / "other")
    with pytest.raises(errors.BadInput, match="cookbooks"):
        chef.revision(str(folder))


def test_a_long_name_fits_the_archive(tmp_path):
    folder = _cookbooks(tmp_path)
    deep = tmp_path / "web" / ("a" * 90) / ("b" * 90)
    deep.mkdir(parents=True)
    (deep / ("c" * 90 + ".rb")).write_text("x")
    assert chef.revision(folder)[0]
