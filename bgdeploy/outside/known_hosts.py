"""Which host keys are known: OpenSSH's known_hosts files, read by a small strict matcher of our own. No connection here.

Why not paramiko's reader (measured with 2.12): it ignores @revoked and @cert-authority, tries only the first of two keys
of a type, and one bad line raises for the whole file. File format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
"""

import base64
import binascii
import hashlib
import hmac
import re
import shlex
from dataclasses import dataclass

from bgdeploy.errors import BadInput, Refused

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa", "ssh-dss",
         "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")


@dataclass(frozen=True)
class Entry:
    """One good line. marker: "" | "revoked" | "cert-authority"; names: the first field as written."""

    marker: str
    names: str
    kind: str
    key: bytes
    file: str
    line: int

    @property
    def place(self):
        return f"{self.file} line {self.line}"


def lookup_name(address, port=22):
    """The name under which a host is listed: `green1.lab`, or `[green1.lab]:2222` where the port is not 22. Lower case."""
    return address.lower() if port == 22 else f"[{address.lower()}]:{port}"


def fingerprint(key):
    """What `ssh-keygen -l` prints for this key blob: SHA256 and unpadded base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def matches(names, name):
    """Does the first field of a line (hashed, or patterns with * ? and !) mean this lookup name? Case does not count."""
    name = name.lower()
    if names.startswith("|1|"):
        return _hashed(names, name)
    found = False
    for pattern in names.lower().split(","):
        negated = pattern.startswith("!")
        if _glob(pattern[negated:], name):
            if negated:             # a negated pattern that matches wins over everything on its line
                return False
            found = True
    return found


class KnownHosts:
    """The entries of some known_hosts files, in order.

    :param files: paths; each must exist if `required`. A file that is not there counts as empty otherwise.
    :raises BadInput: a required file is missing, or a file cannot be read.
    """

    def __init__(self, files, required=False):
        self.files = tuple(files)
        self.entries = []
        self.skipped = []           # (file, line) of lines that are no entry: reported by `check`, never fatal
        for file in self.files:
            self._read(file, required)

    def _read(self, file, required):
        try:
            with open(file, encoding="utf-8", errors="replace") as stream:
                lines = stream.read().split("\n")
        except FileNotFoundError:
            if required:
                raise BadInput(f"known_hosts file {file} does not exist: correct ssh.known_hosts in the inventory, "
                               "or write it with ssh-keyscan and compare the fingerprints") from None
            return
        except OSError as error:
            raise BadInput(f"known_hosts file {file} cannot be read: {error.strerror}") from None
        for number, text in enumerate(lines, 1):
            entry = _parse(text, file, number)
            if entry:
                self.entries.append(entry)
            elif text.strip() and not text.lstrip().startswith("#"):
                self.skipped.append((file, number))

    def find(self, name):
        """All entries, marked ones too, that mean this lookup name (what `ssh-keygen -F NAME` lists)."""
        return tuple(entry for entry in self.entries if matches(entry.names, name))

    def kinds(self, name):
        """Key types listed for this name, in the file's order: only these may be negotiated (else a changed key hides
        behind one of another type)."""
        return tuple(dict.fromkeys(entry.kind for entry in self.find(name) if not entry.marker))

    def only_certificates(self, address, port):
        """Is this host known by a certificate authority alone?"""
        found = self._candidates(address, port)
        return any(e.marker == "cert-authority" for e in found) and not any(e.marker == "" for e in found)

    def refuse_certificates(self, address, port):
        """:raises Refused: the host is listed by a @cert-authority line alone, which this driver does not follow."""
        if self.only_certificates(address, port):
            entry = next(e for e in self._candidates(address, port) if e.marker == "cert-authority")
            name = lookup_name(address, port)
            raise Refused(f"{name} is known by a certificate authority only ({entry.place}), and host certificates are not "
                          f"supported: pin the key with {_keyscan(address, port)} >> {shlex.quote(entry.file)} and compare "
                          "its fingerprint", _keyscan(address, port))

    def prove(self, address, port, key):
        """Is this the key of that host? Returns the entry that proves it.

        :param key: the wire blob, which begins with its type (RFC 4253, 6.6).
        :raises Refused: unknown, changed or revoked, with the name, file, line, fingerprints and the command that lists it.
        """
        name, kind = lookup_name(address, port), _kind(key)
        listed = self.find(name)
        for entry in self._candidates(address, port):
            if entry.marker == "revoked" and entry.key == key:
                raise Refused(f"{name} shows a revoked host key: {kind} {fingerprint(key)} is marked @revoked in {entry.place}: "
                              "do not connect; give the host a new key", _keygen(name, entry.file))
        plain = [entry for entry in listed if not entry.marker]
        proof = next((entry for entry in plain if entry.key == key), None)
        if proof is None and not plain and port != 22:
            # as ssh does: a key listed for the bare name proves the host on another port too, if it is that very key
            proof = next((e for e in self.find(lookup_name(address)) if not e.marker and e.key == key), None)
        if proof:
            return proof
        if plain:
            same = next((entry for entry in plain if entry.kind == kind), plain[0])
            raise Refused(f"the host key of {name} has changed: it shows {kind} {fingerprint(key)}, but {same.place} lists "
                          f"{same.kind} {fingerprint(same.key)}: somebody may be in between; if the host was reinstalled, "
                          f"compare the fingerprint on its console and replace that line", _keygen(name, same.file))
        self.refuse_certificates(address, port)
        where = " or ".join(self.files) or "no known_hosts file"
        raise Refused(f"the host key of {name} is not known: it shows {kind} {fingerprint(key)}, and {where} has no line for "
                      f"{name}: add it with {_keyscan(address, port)} and compare the fingerprint",
                      _keygen(name, self.files[0]) if self.files else _keyscan(address, port))

    def _candidates(self, address, port):
        names = {lookup_name(address, port), lookup_name(address)}
        return tuple(entry for entry in self.entries if any(matches(entry.names, name) for name in names))


def _parse(text, file, number):
    """One line -> Entry, or None for what is not one: blank, comment, unknown marker or type, damaged key."""
    fields = text.strip().split()
    if not fields or fields[0].startswith("#"):
        return None
    marker = ""
    if fields[0].startswith("@"):
        marker = fields.pop(0)[1:]
        if marker not in ("revoked", "cert-authority"):
            return None
    if len(fields) < 3 or fields[1] not in KINDS:
        return None
    try:
        key = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    if _kind(key) != fields[1] or len(key) <= 4 + len(fields[1]):      # a blob that contradicts its line is damaged
        return None
    return Entry(marker, fields[0], fields[1], key, file, number)


def _kind(key):
    return key[4:4 + int.from_bytes(key[:4], "big")].decode("ascii", "replace")


def _hashed(names, name):
    try:
        _, _, salt, digest = names.split("|")
        salt, digest = base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def _glob(pattern, name):
    """* and ? only: brackets are part of `[host]:port`, so fnmatch would misread them."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), name, re.DOTALL) is not None


def _keygen(name, file):
    return f"ssh-keygen -F {shlex.quote(name)} -f {shlex.quote(file)}"


def _keyscan(address, port):
    return f"ssh-keyscan{'' if port == 22 else f' -p {port}'} {shlex.quote(address)}"
