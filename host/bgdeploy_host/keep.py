"""The smaller verbs: cookbooks that come by SSH, a heartbeat that is set to standby while its service is down, a local GET."""

import gzip
import hashlib
import os
import shutil
import tarfile
import zlib

from bgdeploy_host import facts, files

MOST_BYTES, MOST_FILES, DEEPEST = 200 << 20, 20000, 50
LONGEST_ANSWER = 1 << 16


def cookbooks(at, revision, have, stream):
    """Unpack a tar.gz of cookbooks from `stream`, whole or not at all; or only say whether this revision is here.

    :param revision: the first hex digits of the SHA-256 of the tar inside.
    Who may send cookbooks decides what root runs on this host (docs/chef.md says so). A host with
    /etc/bgdeploy/server-only takes none.
    """
    kept = at(files.COOKBOOKS + "/" + revision)
    if have or os.path.isdir(kept):
        return {"hash": revision, "have": os.path.isdir(kept)}
    if os.path.lexists(at(files.SERVER_ONLY)):
        raise files.Refused(files.SERVER_ONLY_SAYS)
    with files.alone(at):
        files.folder(at(files.COOKBOOKS))
        beside = "{}.{}.new".format(kept, os.getpid())
        shutil.rmtree(beside, ignore_errors=True)
        os.mkdir(beside, 0o700)
        try:
            _unpack(stream, beside, revision)
            os.sync()
            if not os.path.isdir(kept):
                os.rename(beside, kept)
            files.sync_folder(at(files.COOKBOOKS))
        except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, RecursionError) as problem:     # tarfile's, too
            raise files.Refused("the cookbooks could not be unpacked: {}".format(problem))
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return {"hash": revision, "have": True}


def _unpack(stream, folder, revision):
    total = count = 0
    plain = _Hashed(gzip.GzipFile(fileobj=stream))
    with tarfile.open(fileobj=plain, mode="r|") as archive:
        for member in archive:
            total, count = total + member.size, count + 1
            path = os.path.normpath(member.name)
            if path.startswith(("/", "..")) or not (member.isreg() or member.isdir()):
                raise tarfile.TarError("{!r} is no plain file or folder inside the archive".format(member.name[:200]))
            if total > MOST_BYTES or count > MOST_FILES or path.count("/") >= DEEPEST:
                raise tarfile.TarError("more than {} MB, {} files or {} levels".format(MOST_BYTES >> 20, MOST_FILES, DEEPEST))
            target = os.path.join(folder, path)
            if member.isdir():
                os.makedirs(target, 0o755, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
            with open(target, "xb") as handle:
                shutil.copyfileobj(archive.extractfile(member), handle)
                os.fchmod(handle.fileno(), 0o755 if member.mode & 0o100 else 0o644)
    while plain.read(1 << 16):      # what tar pads at the end
        if plain.size > 2 * MOST_BYTES:
            raise tarfile.TarError("it does not end")
    if not count:
        raise tarfile.TarError("it is empty")
    if not plain.sum.hexdigest().startswith(revision):
        found = plain.sum.hexdigest()[:len(revision)]
        raise tarfile.TarError("their SHA-256 begins with {}, not with {}".format(found, revision))


class _Hashed:
    """A stream that knows the checksum of what was read from it."""

    def __init__(self, stream):
        self.stream, self.sum, self.size = stream, hashlib.sha256(), 0

    def read(self, size):
        piece = self.stream.read(size)
        self.sum.update(piece)
        self.size += len(piece)
        return piece


def park(at, component, service):
    """Set the stored heartbeat to standby, so that the service cannot come up live. Only while it does not run.

    :returns: {"component", "parked": bool, "why"}: False where there is nothing to park.
    """
    seen = facts.service(facts.systemctl_show([service]), service)
    if seen["active"] not in ("inactive", "failed", "missing", "activating"):
        raise files.Refused("{} is {}: ask the running application itself to go to standby".format(
            service, seen["active"] or "unknown"))
    path = at(files.HEARTBEATS + "/" + component)
    try:
        # The folder belongs to the application's user, who may put links into it: nothing below is followed.
        folder_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {"component": component, "parked": False, "why": "no heartbeat is stored here"}
    except OSError as problem:
        raise files.Refused("{} is not a folder: {}".format(path, problem.strerror))
    try:
        owner = os.fstat(folder_fd)
        files.write("state", "standby\n", 0o644, folder_fd, (owner.st_uid, owner.st_gid))
    except OSError as problem:          # a full disk, or what the application's user put in the way
        raise files.Refused("{}/state cannot be written: {}".format(path, problem.strerror))
    finally:
        os.close(folder_fd)
    return {"component": component, "parked": True, "why": ""}


def heartbeat(port, path):
    """GET a heartbeat on 127.0.0.1, for an application that does not answer from outside. Follows nothing, sends no secret."""
    import http.client      # slow to import, and seldom needed
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "identity", "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(LONGEST_ANSWER)
        headers = {name.lower(): value for name, value in answer.getheaders()[:40]}
        return {"status": answer.status, "headers": headers, "body": body, "why": ""}
    except (OSError, ValueError, http.client.HTTPException) as problem:     # ValueError: a chunk of a negative length
        return {"status": None, "headers": {}, "body": b"", "why": "{}: {}".format(type(problem).__name__, problem)}
    finally:
        connection.close()
