"""A repository that answers oddly, drips, or is being changed by somebody who never ends."""

import fcntl
import gzip
import http.server
import re
import time
from pathlib import Path

import pytest

from bgdeploy.errors import NoAnswer, Refused
from bgdeploy.outside import packages, repodata
from tests.test_packages import Files, Served, a_site, metadata

REPOMD = ('<repomd xmlns="http://linux.duke.edu/metadata/repo"><data type="primary"><location href="repodata/primary.xml"/>'
          '<size>{size}</size></data></repomd>')
PRIMARY = ('<metadata xmlns="http://linux.duke.edu/metadata/common"><package><name>web</name><arch>noarch</arch>'
           '<version epoch="{epoch}" ver="1.0" rel="1"/><location href="x"/></package></metadata>')


def served(tmp_path, repomd, primary):
    (tmp_path / "repodata").mkdir()
    (tmp_path / "repodata/repomd.xml").write_bytes(repomd)
    (tmp_path / "repodata/primary.xml").write_bytes(primary)
    return Served(tmp_path)


def broken():
    packed = bytearray(gzip.compress(b"<a>" + b"x" * 5000 + b"</a>"))
    packed[20:30] = b"\xff" * 10
    return bytes(packed)


@pytest.mark.parametrize("repomd, primary", [
    (REPOMD.replace("primary.xml", "primary.xml.gz").encode(), None), ('<?xml version="1.0" encoding="klingon"?>' + REPOMD, ""),
    ('<?xml version="1.0" encoding="big5"?>' + REPOMD, ""), (REPOMD, '<?xml version="1.0" encoding="klingon"?>' + PRIMARY),
    (REPOMD, '<?xml version="1.0" encoding="utf-7"?>' + PRIMARY), (REPOMD, PRIMARY.format(epoch="\u00b2")),
    (REPOMD, PRIMARY.format(epoch="x")), (REPOMD, PRIMARY.format(epoch="9" * 5000))], ids=range(8))
def test_metadata_that_nobody_can_read_is_no_answer(tmp_path, repomd, primary):
    repomd = repomd if isinstance(repomd, bytes) else repomd.encode()
    with served(tmp_path, repomd, b"" if primary is None else primary.encode()) as here:
        (tmp_path / "repodata/primary.xml.gz").write_bytes(broken())
        with pytest.raises(NoAnswer) as trouble:
            packages.available(a_site(tmp_path, here.url), "web")
    assert re.search("cannot be read|is no XML", trouble.value.sentence)


@pytest.mark.parametrize("size", ["\u00b2", "9" * 5000, "-1", ""], ids=["power", "long", "negative", "none"])
def test_a_size_that_is_no_number_matters_to_nobody(tmp_path, size):
    with served(tmp_path, REPOMD.format(size=size).encode(), PRIMARY.format(epoch="1").encode()) as here:
        assert packages.available(a_site(tmp_path, here.url), "web") == ["1:1.0-1"]


@pytest.mark.parametrize("url", ["http://repo..example/x", f"http://{'r' * 70}.example/", "http://\u2100/"])
def test_an_address_with_a_name_that_is_none_is_no_answer(tmp_path, url):
    with pytest.raises(NoAnswer, match="does not answer"):
        packages.available(a_site(tmp_path, url), "web")


def test_a_head_that_drips_is_cut_off(tmp_path, monkeypatch):
    for name in ("WHOLE", "CONNECT", "READ"):
        monkeypatch.setattr(packages, name, 0.3)

    class Drip(http.server.BaseHTTPRequestHandler):
        def __init__(self, *arguments, directory):
            super().__init__(*arguments)

        def do_GET(self):
            try:
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 100:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.1)
            except OSError:
                pass
    with Served(tmp_path, Drip) as here:
        began = time.monotonic()
        with pytest.raises(NoAnswer, match="did not answer within"):
            packages.available(a_site(tmp_path, here.url), "web")
        assert time.monotonic() - began < 6


def test_a_publisher_that_never_ends_is_not_waited_for_without_a_word_nor_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(repodata, "PATIENCE", 0.4)
    metadata(tmp_path / "repo", [("0", "1.0", "1")])
    said = []
    with open(tmp_path / "repo/.publish.lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="another process has been changing the repository"):
            packages.prune(a_site(tmp_path), "web", (), say=said.append)
    assert len(said) == 1 and "it is waited for" in said[0]


def test_what_does_not_fit_on_the_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))
    monkeypatch.setattr(repodata.shutil, "copyfile", full)
    with pytest.raises(OSError):
        repodata.place(tmp_path / "web.rpm", tmp_path / "web-1.rpm")
    assert list(tmp_path.iterdir()) == []
