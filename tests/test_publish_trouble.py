"""A publisher that meets a torn repository, a key that does not sign, or a disk that says no tells it in a sentence, and nothing
that hosts may have is replaced."""

import io
import subprocess
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import pytest
from invoke import Exit

from bgdeploy import verbs_beside
from bgdeploy.errors import Refused
from bgdeploy.outside import packages
from tests.test_packages import CACHE, a_site, described, listed, needs_fpm, signed     # noqa: F401  (signed is a fixture)


@needs_fpm
def test_a_version_for_all_machines_and_one_for_a_kind_of_them_are_one_version(signed, tmp_path):
    packages.publish(signed, "web", "1.7.0", description_file=described(tmp_path))
    file = described(tmp_path)
    file.write_text(file.read_text() + "architecture: x86_64\n")
    with pytest.raises(Refused, match="is there as web-1.7.0-1.noarch.rpm: raise --iteration"):
        packages.publish(signed, "web", "1.7.0", description_file=file)


@needs_fpm
def test_an_unsigned_one_does_not_pass_for_a_published_one_where_packages_are_signed(signed, tmp_path):
    unsigned = replace(signed, repository=replace(signed.repository, gpg_name=None))
    packages.publish(unsigned, "web", "1.8.0", description_file=described(tmp_path), say=[].append)
    with pytest.raises(Refused, match="without a signature"):
        packages.publish(signed, "web", "1.8.0", description_file=described(tmp_path))


@needs_fpm
def test_a_key_that_cannot_sign_is_refused_with_gpgs_words_and_nobody_is_asked(signed, tmp_path):
    other = replace(signed, repository=replace(signed.repository, gpg_name="nobody"))
    with pytest.raises(Refused, match="the key nobody of .* gpg: .*No secret key"):
        packages.publish(other, "web", "1.9.0", description_file=described(tmp_path))
    assert "1.9.0-1" not in listed(signed)


@needs_fpm
def test_broken_metadata_is_refused_with_the_command_that_makes_it_anew(tmp_path):
    site = a_site(tmp_path)
    (tmp_path / ".cache").symlink_to(CACHE)
    packages.prepare_repository(site)
    file = described(tmp_path / "d")
    done = packages.publish(site, "web", "1.0", description_file=file, say=[].append)
    for harm in (lambda repomd: repomd.write_text("<html>"), lambda repomd: repomd.write_text(""),
                 lambda repomd: [path.unlink() for path in repomd.parent.glob("*primary*")]):
        harm(tmp_path / "repo/repodata/repomd.xml")
        with pytest.raises(Refused, match="metadata is broken") as refusal:
            packages.publish(site, "web", "1.1", description_file=file, say=[].append)
        subprocess.run(refusal.value.next_command.split(), check=True, capture_output=True)
        assert listed(site) == ["1.0-1"]
    Path(done.file).write_bytes(b"torn")
    with pytest.raises(Refused, match="cannot be read .* move it away"):
        packages.publish(site, "web", "1.0", description_file=file, say=[].append)


@needs_fpm
def test_a_disk_that_says_no_is_a_refusal_that_names_the_place(tmp_path):
    site = a_site(tmp_path)
    (tmp_path / ".cache").symlink_to(CACHE)
    (tmp_path / "repo/.publish.lock").mkdir(parents=True)
    with pytest.raises(Refused, match="web 1.0-1 is not published: .*publish.lock: Is a directory"):
        packages.publish(site, "web", "1.0", description_file=described(tmp_path / "d"), say=[].append)


@pytest.mark.parametrize("options, file, built", [
    ({"component": "bgdeploy-host"}, "host/packaging.yml", "bgdeploy-host"),
    ({"component": "cache", "description": "packaging/other.yml"}, "packaging/other.yml", "cache"),
    ({"component": "web"}, "packaging/web.yml", "web")])
def test_publish_takes_the_host_command_and_any_package_whose_description_is_named(tmp_path, monkeypatch, options, file, built):
    """No inventory has bgdeploy-host as a component, and its page says: invoke publish --component bgdeploy-host."""
    for folder in ("inventories", file.partition("/")[0], "repo"):
        (tmp_path / folder).mkdir()
    (tmp_path / "inventories/shop.yml").write_text(
        "components: {web: {port: 80}}\nstacks: {green: {hosts: [g]}, blue: {hosts: [b]}}\n"
        "balancers: {live: {nodes: [l]}, standby: {nodes: [s]}}\nrepository: {url: 'http://127.0.0.1:9', directory: repo}\n")
    (tmp_path / file).write_text(f"name: {built}\nsummary: it\nfiles: {{it.py: /opt/it.py}}\n")
    (tmp_path / file).with_name("it.py").write_text("one\n")
    monkeypatch.setattr(verbs_beside, "BASE", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def build(description, full, *_, **__):
        raise Refused(f"would build {description.name} {full}")
    monkeypatch.setattr(packages.rpmfile, "build", build)
    err = io.StringIO()
    with redirect_stderr(err), pytest.raises(Exit) as end:
        verbs_beside.publish(version="1.0", env="shop", **options)
    assert end.value.code == 3 and f"would build {built} 1.0-1" in err.getvalue()
