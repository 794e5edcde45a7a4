"""A publisher that meets a torn repository, a key that does not sign, or a disk that says no tells it in a sentence, and nothing
that hosts may have is replaced."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

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
