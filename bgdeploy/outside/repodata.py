"""A repository's metadata: read from its XML, and written so that a reader never sees half of it. No network here."""

import bz2
import contextlib
import fcntl
import gzip
import hashlib
import io
import lzma
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import xml.etree.ElementTree as tree
import zlib
from dataclasses import dataclass
from pathlib import Path

from bgdeploy.errors import NoAnswer, Refused
from bgdeploy.outside import rpmfile

REPO, COMMON = "{http://linux.duke.edu/metadata/repo}", "{http://linux.duke.edu/metadata/common}"
_NO_XML = (tree.ParseError, LookupError, ValueError)        # the latter: of an encoding that nobody here knows
PATIENCE = 600.0            # seconds for which another publisher is waited for
MOST_XML = 512 << 20        # bytes of unpacked primary metadata: a large distribution has about 100 MB


@dataclass(frozen=True)
class Listed:
    """One package as the metadata has it. :param full: "[EPOCH:]VERSION-RELEASE"."""

    name: str
    full: str
    architecture: str
    href: str


@dataclass(frozen=True)
class Part:
    """One file of the metadata, named by repomd.xml."""

    kind: str
    href: str
    checksum: str           # "" unless it is SHA-256


def parts(repomd, where):
    """:returns: {kind: Part} of a repomd.xml. :raises NoAnswer: it is none."""
    found = {}
    for entry in _xml(repomd, where).iter(REPO + "data"):
        location, checksum = (entry.find(REPO + name) for name in ("location", "checksum"))
        if location is not None:
            known = checksum is not None and checksum.get("type") == "sha256" and checksum.text
            found[entry.get("type")] = Part(entry.get("type"), location.get("href", ""), checksum.text.strip() if known else "")
    if "primary" not in found:
        raise NoAnswer(f"{where} names no primary metadata: it is no RPM repository")
    return found


def packages(packed, part, where, only=None):
    """The packages of a primary metadata file.

    :param packed: the file's bytes. :param part: its Part (for compression and checksum). :param only: a package's name.
    :returns: list of Listed. :raises NoAnswer: wrong checksum, too large, no XML, a compression nobody here knows.
    """
    if part.checksum and hashlib.sha256(packed).hexdigest() != part.checksum:
        raise NoAnswer(f"{where}: {part.href} is not the file that repomd.xml names (other checksum)")
    found = []
    try:
        with _unpack(packed, part.href, where) as stream:
            for _, entry in tree.iterparse(_Capped(stream, where)):
                if entry.tag != COMMON + "package":
                    continue
                name, version = entry.findtext(COMMON + "name"), entry.find(COMMON + "version")
                location = entry.find(COMMON + "location")
                if version is not None and (only is None or name == only) and entry.findtext(COMMON + "arch") != "src":
                    epoch, full = version.get("epoch") or "0", f"{version.get('ver')}-{version.get('rel')}"
                    if not re.fullmatch("[0-9]{1,10}", epoch, re.ASCII):
                        raise ValueError(f"{name} {full} has the epoch {epoch[:40]!r}")
                    found.append(Listed(name, full if epoch == "0" else f"{epoch}:{full}", entry.findtext(COMMON + "arch") or "",
                                        location.get("href", "") if location is not None else ""))
                entry.clear()
    except (*_NO_XML, OSError, EOFError, lzma.LZMAError, zlib.error) as problem:
        raise NoAnswer(f"{where}: {part.href} cannot be read ({problem})") from None
    return found


def read(folder, only=None):
    """:returns: what the metadata of a repository on this machine lists; [] before there is any.
    :raises Refused: it is torn; with the command that makes it anew.
    """
    if not Path(folder, "repodata/repomd.xml").exists():
        return []
    try:
        part = parts(Path(folder, "repodata/repomd.xml").read_bytes(), str(folder))["primary"]
        return packages(Path(folder, part.href).read_bytes(), part, str(folder), only)
    except NoAnswer as problem:
        why = problem.sentence
    except OSError as problem:
        why = f"{problem.filename}: {problem.strerror}"
    raise Refused(f"the repository's metadata is broken ({why}): make it anew from its RPM files",
                  f"createrepo_c {shlex.quote(str(folder))}")


@contextlib.contextmanager
def alone(folder, say=lambda sentence: None):
    """One publisher at a time on this repository; others wait. A killed one leaves no lock behind.

    :param say: called with a sentence when a wait begins. :raises Refused: it did not end in PATIENCE: a stopped process, say.
    """
    path = Path(folder, ".publish.lock")
    with open(path, "a") as lock:
        until, told = time.monotonic() + PATIENCE, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused(f"{folder}: another process has been changing the repository for {PATIENCE:.0f} s",
                                  f"fuser -v {shlex.quote(str(path))}") from None
                if not told:
                    say(f"{folder}: another process is changing the repository: it is waited for, {PATIENCE:.0f} s at the most")
                told = True
                time.sleep(0.1)
        yield


def place(rpm, target):
    """Put a finished RPM file into the repository under its name, whole or not at all."""
    _folder(target.parent)
    beside = target.with_name(f".{target.name}.new")       # no name that createrepo_c would take
    try:
        shutil.copyfile(rpm, beside)
        beside.chmod(0o644)
        _sync(beside)
        os.replace(beside, target)
    except OSError:
        beside.unlink(missing_ok=True)      # half of it would keep a full disk full
        raise
    _sync(target.parent)


def renew(folder, without=()):
    """Write the metadata of all RPM files below `folder`. To be called by whoever holds `alone`.

    :param without: hrefs that are to be left out.
    Every file but repomd.xml has its checksum in its name, so old and new lie side by side; repomd.xml is renamed last, and what
    the one before it named stays for readers that are under way.
    """
    folder = Path(folder)
    repodata = folder / "repodata"
    for left in folder.glob(".repodata-*"):         # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".repodata-", dir=folder) as work:
        words = ["createrepo_c", "--quiet", "--no-database", "--general-compress-type=gz", "--excludes=*/.*", "--outputdir", work]
        if (repodata / "repomd.xml").exists():
            words += ["--update", "--update-md-path", str(folder)]
        words += [f"--excludes={href}" for href in without]
        rpmfile.run([*words, str(folder)], f"the metadata of {folder} could not be made")
        _folder(repodata)
        keep = {path.name for path in Path(work, "repodata").iterdir()} | _named(repodata)
        for path in sorted(Path(work, "repodata").iterdir(), key=lambda path: path.name == "repomd.xml"):
            path.chmod(0o644)
            _sync(path)
            os.replace(path, repodata / path.name)
    _sync(repodata)
    for path in repodata.iterdir():
        if path.name not in keep:
            path.unlink()


def _folder(path):
    """One that whoever serves the repository can read, whatever the umask here."""
    if not path.is_dir():
        path.mkdir()
        path.chmod(0o755)


def _named(repodata):
    try:
        return {Path(part.href).name for part in parts((repodata / "repomd.xml").read_bytes(), str(repodata)).values()}
    except (OSError, NoAnswer):
        return set()


def _xml(content, where):
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise NoAnswer(f"{where} declares XML entities, which repository metadata never does")
    try:
        return tree.fromstring(content)
    except _NO_XML as problem:
        raise NoAnswer(f"{where} is no XML ({problem}): is a repository there, or a login page?") from None


def _unpack(packed, name, where):
    stream = io.BytesIO(packed)
    if name.endswith(".gz"):
        return gzip.open(stream)
    if name.endswith((".xz", ".lzma")):
        return lzma.open(stream)
    if name.endswith(".bz2"):
        return bz2.open(stream)
    if name.endswith(".zst"):
        return _Zstd(packed, where)
    return stream


class _Zstd(contextlib.AbstractContextManager):
    """zstd's own program unpacks it: Python has no module for it before 3.14."""

    def __init__(self, packed, where):
        if not shutil.which("zstd"):
            raise NoAnswer(f"the metadata of {where} is packed with zstd, which is not installed here: apt-get install zstd")
        self.source = tempfile.TemporaryFile()
        self.source.write(packed)
        self.source.seek(0)
        self.process = subprocess.Popen(["zstd", "-dcq"], stdin=self.source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.read = self.process.stdout.read

    def __exit__(self, *_):
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()
        self.source.close()


class _Capped:
    """A stream for the XML parser that ends at a size, and at the first sign of XML entities."""

    def __init__(self, stream, where):
        self.stream, self.where, self.left = stream, where, MOST_XML

    def read(self, size=-1):
        piece = self.stream.read(size if size > 0 else 1 << 16)
        if self.left == MOST_XML and b"<!" in piece[:1024]:
            raise NoAnswer(f"the metadata of {self.where} declares XML entities, which repository metadata never does")
        self.left -= len(piece)
        if self.left < 0:
            raise NoAnswer(f"the metadata of {self.where} unpacks to more than {MOST_XML >> 20} MB")
        return piece


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
