"""The repository: what it has is read as RPM orders it; publishing is whole, signed, and never over another content."""

import functools
import gzip
import hashlib
import http.server
import lzma
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bgdeploy import model, packaging, site as sites
from bgdeploy.errors import BadInput, NoAnswer, Refused
from bgdeploy.outside import packages, repodata, rpmfile

PROJECT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("BGDEPLOY_CACHE") or PROJECT / ".cache")
needs_fpm = pytest.mark.skipif(not ((CACHE / "gems/bin/fpm").exists() or shutil.which("fpm")) or not shutil.which("createrepo_c"),
                               reason=f"FPM (in {CACHE / 'gems'} or on the PATH) and createrepo_c are needed to publish")


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Served:
    """A folder over HTTP on 127.0.0.1."""

    def __init__(self, folder, handler=Files):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def a_site(folder, url="http://127.0.0.1:9", **repository):
    component = sites.Component("web", "web", "web", "web", sites.Heartbeat())
    nobody = sites.Balancer("live", (), ())
    return sites.Site("test", "inventories/test.yml", str(folder), (component,), (), nobody, nobody, model.Policy(),
                      repository=sites.Repository(url, **{"directory": str(folder / "repo"), **repository}))


def metadata(folder, versions, pack=gzip.compress, suffix=".gz", name="web"):
    """The two files of a repository, written by hand."""
    entries = "".join(
        f'<package type="rpm"><name>{name}</name><arch>noarch</arch><version epoch="{e}" ver="{v}" rel="{r}"/>'
        f'<location href="{name}-{v}-{r}.noarch.rpm"/></package>' for e, v, r in versions)
    packed = pack(f'<metadata xmlns="http://linux.duke.edu/metadata/common" packages="1">{entries}</metadata>'.encode())
    digest = hashlib.sha256(packed).hexdigest()
    (folder / "repodata").mkdir(parents=True, exist_ok=True)
    (folder / f"repodata/primary.xml{suffix}").write_bytes(packed)
    (folder / "repodata/repomd.xml").write_text(
        f'<repomd xmlns="http://linux.duke.edu/metadata/repo"><data type="primary"><checksum type="sha256">{digest}</checksum>'
        f'<location href="repodata/primary.xml{suffix}"/><size>{len(packed)}</size></data></repomd>')


def zstd(content):
    return subprocess.run(["zstd", "-q"], input=content, capture_output=True, check=True).stdout


class TestAvailable:
    @pytest.mark.parametrize("pack, suffix", [(gzip.compress, ".gz"), (lzma.compress, ".xz"), (bytes, ""), pytest.param(
        zstd, ".zst", marks=pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed"))])
    def test_versions_come_newest_first_by_rpms_order_however_the_metadata_is_packed(self, tmp_path, pack, suffix):
        metadata(tmp_path / "repo",
                 [("0", "1.9", "1"), ("0", "1.10", "1"), ("1", "1.0", "1"), ("0", "2.0~rc1", "1"), ("0", "2.0", "1"),
                  ("0", "2.0", "10"),
                                     ("0", "2.0", "9")], pack, suffix)
        with Served(tmp_path / "repo") as served:
            found = packages.available(a_site(tmp_path, served.url), "web")
            assert packages.available(a_site(tmp_path, served.url + "/"), "other") == []
        assert found == ["1:1.0-1", "2.0-10", "2.0-9", "2.0-1", "2.0~rc1-1", "1.10-1", "1.9-1"]

    def test_nobody_listens(self, tmp_path):
        with pytest.raises(NoAnswer, match="does not answer"):
            packages.available(a_site(tmp_path), "web")

    def test_a_silent_one_costs_seconds_and_not_minutes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(packages, "READ", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            began = time.monotonic()
            with pytest.raises(NoAnswer, match="does not answer"):
                packages.available(a_site(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"), "web")
        assert time.monotonic() - began < 5

    def test_one_that_drips_is_cut_off(self, tmp_path, monkeypatch):
        monkeypatch.setattr(packages, "WHOLE", 0.5)

        class Drip(Files):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                try:
                    for _ in range(60):
                        self.wfile.write(b" ")
                        self.wfile.flush()
                        time.sleep(0.05)
                except OSError:
                    pass
        with Served(tmp_path, Drip) as served, pytest.raises(NoAnswer):
            packages.available(a_site(tmp_path, served.url), "web")

    def test_one_that_breaks_off_is_no_answer(self, tmp_path):
        class Short(Files):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"<repomd>")
        with Served(tmp_path, Short) as served, pytest.raises(NoAnswer):
            packages.available(a_site(tmp_path, served.url), "web")

    def test_a_redirect_is_not_followed_and_named(self, tmp_path):
        class Elsewhere(Files):
            def do_GET(self):
                self.send_response(302)
                self.send_header("Location", "http://login.example.com/")
                self.end_headers()
        with Served(tmp_path, Elsewhere) as served, pytest.raises(NoAnswer, match="302 to http://login.example.com/"):
            packages.available(a_site(tmp_path, served.url), "web")

    @pytest.mark.parametrize("content",
                             ["<html>log in</html>", "not xml", "", '<!DOCTYPE r [<!ENTITY a "b">]><repomd>&a;</repomd>'])
    def test_what_is_no_repository_is_said_so_in_one_sentence(self, tmp_path, content):
        metadata(tmp_path / "repo", [])
        (tmp_path / "repo/repodata/repomd.xml").write_text(content)
        with Served(tmp_path / "repo") as served, pytest.raises(NoAnswer) as trouble:
            packages.available(a_site(tmp_path, served.url), "web")
        assert "\n" not in trouble.value.sentence

    def test_metadata_of_another_moment_is_read_once_more_and_then_refused(self, tmp_path):
        metadata(tmp_path / "repo", [("0", "1.0", "1")])
        (tmp_path / "repo/repodata/primary.xml.gz").write_bytes(gzip.compress(b"<metadata/>"))
        with Served(tmp_path / "repo") as served, pytest.raises(NoAnswer, match="other checksum"):
            packages.available(a_site(tmp_path, served.url), "web")

    def test_a_bomb_is_not_unpacked(self, tmp_path, monkeypatch):
        monkeypatch.setattr(repodata, "MOST_XML", 100000)
        metadata(tmp_path / "repo", [("0", "1.0", str(n)) for n in range(2000)])
        with Served(tmp_path / "repo") as served, pytest.raises(NoAnswer, match="unpacks to more than"):
            packages.available(a_site(tmp_path, served.url), "web")

    def test_proxies_of_the_shell_are_not_asked(self, tmp_path, monkeypatch):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        metadata(tmp_path / "repo", [("0", "1.0", "1")])
        with Served(tmp_path / "repo") as served:
            assert packages.available(a_site(tmp_path, served.url), "web") == ["1.0-1"]


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A site with a repository and a key of its own."""
    folder = tmp_path_factory.mktemp("site")
    site = a_site(folder, gpg_home=str(folder / "gpg"), gpg_name="test-key")
    (folder / ".cache").symlink_to(CACHE)
    packages.prepare_repository(site)
    return site


def described(folder, name="web", text="one\n", more=""):
    folder.mkdir(exist_ok=True)
    (folder / "web.py").write_text(text)
    (folder / "stop.sh").write_text("systemctl stop web\n")
    (folder / "web.yml").write_text(f"name: {name}\nsummary: pages\nfiles:\n  web.py: /opt/web/web.py\n{more}")
    return folder / "web.yml"


def listed(site):
    return sorted(p.full for p in repodata.read(site.repository.directory))


@needs_fpm
class TestPublish:
    def test_an_empty_repository_can_be_read_and_preparing_it_again_changes_nothing(self, signed):
        key = Path(signed.repository.directory, packages.KEY_FILE)
        before = key.read_bytes()
        packages.prepare_repository(signed)
        assert key.read_bytes() == before and b"BEGIN PGP PUBLIC KEY" in before

    def test_a_version_is_built_signed_and_listed(self, signed, tmp_path):
        done = packages.publish(signed, "web", "1.0.0", description_file=described(tmp_path))
        assert (done.full, done.new) == ("1.0.0-1", True) and "1.0.0-1" in listed(signed)
        (tmp_path / "db").mkdir()
        rpm = ["rpm", "--dbpath", str(tmp_path / "db")]
        subprocess.run([*rpm, "--import", str(Path(signed.repository.directory, packages.KEY_FILE))], check=True)
        assert "signatures OK" in subprocess.run([*rpm, "-K", done.file], capture_output=True, text=True).stdout

    def test_the_same_again_is_fine_and_changes_nothing(self, signed, tmp_path):
        file = described(tmp_path)
        first = packages.publish(signed, "web", "1.1.0", description_file=file)
        bytes_before = Path(first.file).read_bytes()
        again = packages.publish(signed, "web", "1.1.0", description_file=file)
        assert again.new is False and Path(first.file).read_bytes() == bytes_before

    def test_another_content_under_the_same_version_is_refused_and_the_first_stays(self, signed, tmp_path):
        first = packages.publish(signed, "web", "1.2.0", description_file=described(tmp_path))
        kept = Path(first.file).read_bytes()
        with pytest.raises(Refused, match="raise --iteration") as refusal:
            packages.publish(signed, "web", "1.2.0", description_file=described(tmp_path, text="two\n"))
        assert refusal.value.next_command == \
            f"invoke publish --component web --version 1.2.0 --iteration 2 --description {tmp_path}/web.yml"
        assert Path(first.file).read_bytes() == kept
        assert packages.publish(signed, "web", "1.2.0", iteration="2",
                                description_file=described(tmp_path, text="two\n")).full == "1.2.0-2"

    def test_another_script_is_another_content(self, signed, tmp_path):
        packages.publish(signed, "web", "1.3.0", description_file=described(tmp_path))
        with pytest.raises(Refused):
            packages.publish(signed, "web", "1.3.0",
                             description_file=described(tmp_path, more="scripts: {after-install: stop.sh}\n"), say=[].append)

    def test_what_rpm_takes_for_one_version_is_refused(self, signed, tmp_path):
        packages.publish(signed, "web", "1.4", description_file=described(tmp_path))
        with pytest.raises(Refused, match="one version to RPM"):
            packages.publish(signed, "web", "1.04", description_file=described(tmp_path))

    def test_an_epoch_and_the_same_version_without_it_live_side_by_side(self, signed, tmp_path):
        one = packages.publish(signed, "web", "1:2.0", description_file=described(tmp_path))
        two = packages.publish(signed, "web", "2.0", description_file=described(tmp_path))
        assert one.full == "1:2.0-1" and two.full == "2.0-1" and one.file != two.file
        assert {"1:2.0-1", "2.0-1"} <= set(listed(signed))

    @pytest.mark.parametrize("version, full", [("2.0.0~rc1", "2.0.0~rc1-1"), ("1.10", "1.10-1"), ("3.0-5", "3.0-5")])
    def test_a_version_is_published_as_rpm_has_it(self, signed, tmp_path, version, full):
        assert packages.publish(signed, "web", version, description_file=described(tmp_path)).full == full
        assert full in listed(signed)

    @pytest.mark.parametrize("version, iteration",
                             [("2.0.0-rc1", None), ("", None), ("1.0 ", None), ("1.0", "rc1"), ("1.0-2", "3")])
    def test_a_wrong_version_is_bad_input_and_nothing_is_built(self, signed, tmp_path, version, iteration):
        before = sorted(os.listdir(signed.repository.directory))
        with pytest.raises(BadInput):
            packages.publish(signed, "web", version, iteration=iteration, description_file=described(tmp_path))
        assert sorted(os.listdir(signed.repository.directory)) == before

    def test_a_removal_script_that_stops_the_service_on_upgrades_goes_out_with_a_warning(self, signed, tmp_path):
        said = []
        packages.publish(signed, "web", "1.5.0", description_file=described(tmp_path, more="scripts: {before-remove: stop.sh}\n"),
                         say=said.append)
        assert len(said) == 1 and "does not look at $1" in said[0]

    def test_a_description_of_something_else_is_refused(self, signed, tmp_path):
        with pytest.raises(BadInput, match="describes other"):
            packages.publish(signed, "web", "1.0.0", description_file=described(tmp_path, name="other"))
        with pytest.raises(BadInput, match="there is no component nobody"):
            packages.publish(signed, "nobody", "1.0.0")

    def test_a_site_that_only_reads_refuses_to_publish(self, tmp_path):
        with pytest.raises(Refused, match="only reads its repository"):
            packages.publish(a_site(tmp_path, directory=None), "web", "1.0.0", description_file=described(tmp_path / "d"))

    def test_the_same_input_gives_the_same_payload_byte_for_byte(self, tmp_path, monkeypatch):
        found = []
        for umask, zone in ((0o022, "UTC"), (0o077, "Asia/Tokyo"), (0, "UTC")):
            (tmp_path / oct(umask)).mkdir()
            monkeypatch.setenv("TZ", zone)
            before = os.umask(umask)
            try:
                built = rpmfile.build(packaging.load(described(tmp_path / "d")), "1.0.0-1", tmp_path / oct(umask), CACHE)
            finally:
                os.umask(before)
            found.append(Path(built).read_bytes())
            time.sleep(1.1)     # a second is what RPM's times are counted in
        assert found[0] == found[1] == found[2]

    def test_whoever_serves_the_repository_can_read_it_whatever_the_umask(self, signed, tmp_path):
        before = os.umask(0o077)
        try:
            done = packages.publish(signed, "web", "2:1.0", description_file=described(tmp_path))
        finally:
            os.umask(before)
        for path in (Path(done.file), Path(done.file).parent, *Path(signed.repository.directory, "repodata").iterdir()):
            assert path.stat().st_mode & 0o044 == 0o044, path

    def test_nothing_in_a_description_is_a_macro_to_the_machine_that_builds(self, tmp_path):
        file = described(tmp_path)
        file.write_text(file.read_text().replace("summary: pages", "summary: '50% of %{name} %(id)'\nlicense: 'A %{?x} B'"))
        built = rpmfile.build(packaging.load(file), "1.0.0-1", tmp_path, CACHE)
        assert rpmfile.run(["rpm", "-qp", "--nosignature", "--qf", "%{SUMMARY}|%{LICENSE}", built], "") == \
            "50% of %{name} %(id)|A %{?x} B"

    def test_percent_signs_in_a_script_stay_as_they_are(self, tmp_path):
        file = described(tmp_path, more="scripts: {after-install: stop.sh}\n")
        (tmp_path / "stop.sh").write_text("# 100% of %{name}, %post\ndate +%s %%\n")
        built = rpmfile.build(packaging.load(file), "1.0.0-1", tmp_path, CACHE)
        said = subprocess.run(["rpm", "-qp", "--nosignature", "--qf", "%{POSTIN}", built], capture_output=True, text=True).stdout
        assert said.strip() == "# 100% of %{name}, %post\ndate +%s %%"

    def test_a_publisher_that_was_killed_before_the_metadata_is_made_good_by_the_next(self, signed, tmp_path, monkeypatch):
        monkeypatch.setattr(repodata, "renew", lambda folder: None)
        packages.publish(signed, "web", "1.6.0", description_file=described(tmp_path))
        monkeypatch.undo()
        assert "1.6.0-1" not in listed(signed)
        assert packages.publish(signed, "web", "1.6.0", description_file=described(tmp_path)).new is False
        assert "1.6.0-1" in listed(signed)


@needs_fpm
class TestPrune:
    @pytest.fixture
    def many(self, tmp_path):
        site = a_site(tmp_path)
        (tmp_path / ".cache").symlink_to(CACHE)
        packages.prepare_repository(site)
        for version in ("1.0", "1.9", "1.10", "2.0"):
            packages.publish(site, "web", version, description_file=described(tmp_path / "d"), say=[].append)
        return site

    def test_only_what_is_neither_used_nor_among_the_newest_goes(self, many):
        assert packages.prune(many, "web", {"1.0-1"}, keep=1) == ("1.9-1", "1.10-1")
        assert listed(many) == ["1.0-1", "2.0-1"]
        kept = sorted(f for f in os.listdir(many.repository.directory) if f.endswith(".rpm"))
        assert kept == ["web-1.0-1.noarch.rpm", "web-2.0-1.noarch.rpm"]

    def test_where_not_everything_is_known_nothing_goes_and_that_is_said(self, many):
        said = []
        assert packages.prune(many, "web", None, keep=1, say=said.append) == () and len(listed(many)) == 4
        assert "nothing is pruned" in said[0]

    def test_another_package_and_the_newest_stay(self, many):
        assert packages.prune(many, "api", set(), keep=0, say=[].append) == ()
        assert packages.prune(many, "web", set(), say=[].append) == ()
        assert len(listed(many)) == 4


PUBLISHER = """
import sys
sys.path[:0] = sys.argv[1:2]
from tests.test_packages import a_site, packages, Path
folder, number = Path(sys.argv[2]), sys.argv[3]
site = a_site(folder, gpg_home=str(folder / "gpg"), gpg_name="test-key")
packages.publish(site, "web", f"7.0.{number}", description_file=folder / "d" / "web.yml")
"""


@needs_fpm
def test_publishers_at_once_all_end_up_in_and_readers_never_see_half(signed, tmp_path):
    folder = Path(signed.base)
    described(folder / "d")
    with Served(folder / "repo") as served:
        site = a_site(folder, served.url)
        at_work = [subprocess.Popen([sys.executable, "-c", PUBLISHER, str(PROJECT), str(folder), str(number)],
                                    stderr=subprocess.PIPE)
                   for number in range(8)]
        reads, caches = 0, [dnf(served.url, tmp_path)]
        while any(publisher.poll() is None for publisher in at_work):
            packages.available(site, "web")
            reads += 1
            if caches[-1].poll() is not None:
                caches.append(dnf(served.url, tmp_path))
            time.sleep(0.02)
        problems = [said for one in at_work + caches for said in [one.communicate()[1].decode()] if one.returncode]
        assert not problems, problems[0]
        assert {f"7.0.{number}-1" for number in range(8)} <= set(packages.available(site, "web")) and reads > 5


def dnf(url, folder):
    """dnf itself reads the repository anew, as a host does: a process that ends with 0 if it found all of it whole."""
    (folder / "dnf-log").mkdir(exist_ok=True)
    options = {"reposdir": "/none", "cachedir": folder / "dnf", "persistdir": folder / "dnf-state", "logdir": folder / "dnf-log"}
    return subprocess.Popen(["dnf", "-q", "makecache", "--refresh", f"--installroot={folder / 'root'}", "--releasever=9",
                             f"--repofrompath=one,{url}", *(f"--setopt={name}={value}" for name, value in options.items())],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
