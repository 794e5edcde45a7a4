"""The golden image: one read-only root file system for all hosts of all labs, built once into the cache.

Three layers, each named by the hash of what goes in: `base-KEY` (Debian packages), `image-KEY` (base, golden/ and Chef), and
`host-KEY` (what installing the bgdeploy-host RPM adds). A host's own overlay comes on top. Nothing here runs a host.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from bgdeploy import errors

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent
CACHE = pathlib.Path(os.environ.get("BGDEPLOY_CACHE") or PROJECT / ".cache")
GEMS = CACHE / "gems"
PACKAGES = """openssh-server systemd systemd-sysv dbus sudo rpm dnf python3-dnf python3 gunicorn python3-pymongo ruby libarchive13
    iproute2 procps util-linux curl ca-certificates""".split()
# Nothing of these has work to do in a lab host; each costs boot time or, as timers, surprises.
MASKED = """getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
    e2scrub_reap.service fstrim.timer systemd-pstore.service systemd-resolved.service systemd-networkd.service dev-hugepages.mount
    sys-fs-fuse-connections.mount systemd-update-utmp.service systemd-update-utmp-runlevel.service modprobe@.service
    systemd-tmpfiles-setup-dev.service systemd-journal-flush.service dnf-makecache.timer""".split()
# An empty RPM database provides nothing, so that no honest package would install; this is what the Debian root really has.
PROVIDES = """/bin/sh /bin/bash /usr/bin/python3 /usr/bin/env /usr/sbin/useradd /usr/sbin/groupadd /usr/bin/systemctl
    /usr/bin/systemd-run bash python3 python3-gunicorn python3-pymongo systemd shadow-utils sudo coreutils util-linux tar gzip rpm
    dnf""".split()
BUILDER = 1                     # raise it when a change of this file must rebuild the images


def ready(say=print):
    """The image's root folder, built first if its inputs changed.

    :raises errors.Refused: what it is made of cannot be had (network, gems). Takes about a minute when it builds.
    """
    base_key, key = keys()
    image = CACHE / f"image-{key}"
    if image.exists():
        return image
    with alone("image"):
        if image.exists():
            return image
        base = CACHE / f"base-{base_key}"
        if not base.exists():
            started = time.monotonic()
            say(f"image: {len(PACKAGES)} Debian packages and what they need, once (half a minute) ...")
            with half_made(base) as folder:
                _bootstrap(folder)
            say(f"image: base done in {time.monotonic() - started:.0f} s")
        started = time.monotonic()
        with half_made(image) as folder:
            subprocess.run(["cp", "-a", f"{base}/.", str(folder)], check=True)
            _dress(folder)
            _bake_chef(folder)
        say(f"image: {image.name} done in {time.monotonic() - started:.1f} s")
        _prune(keep={base.name, image.name})
    return image


def keys():
    """(key of the base, key of the image): hashes of all that goes in, but for the day's state of the Debian mirror."""
    base = hashlib.sha256(repr((BUILDER, _codename(), PACKAGES)).encode())
    whole = base.copy()
    whole.update(repr((MASKED, PROVIDES)).encode())
    for path in sorted((HERE / "golden").rglob("*")):
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        whole.update(repr((str(path.relative_to(HERE)), path.lstat().st_mode & 0o100, content)).encode())
    for spec in sorted((GEMS / "specifications").glob("*.gemspec")):
        whole.update(spec.name.encode())
    return base.hexdigest()[:12], whole.hexdigest()[:12]


@contextlib.contextmanager
def in_use(image):
    """While this is open the image's folder is not pruned. A lab's init keeps it open as long as it lives."""
    with open(f"{image}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield lock


def sources():
    """The Debian archives this machine's apt uses, as one-line sources for mmdebstrap."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)", "Created-By: Packages"]
    for attempt in range(2):
        found = [line.split("|") for line in subprocess.run(asked, capture_output=True, text=True).stdout.splitlines()]
        lines = [f"deb {uri} {release} {part}" for uri, release, part, origin in found
                 if origin == "Debian" and (release == _codename() or release.startswith(_codename() + "-"))]
        if lines or attempt:
            return list(dict.fromkeys(lines))
        subprocess.run(["apt-get", "-q", "update"], capture_output=True)


def _bootstrap(folder):
    lines = sources()
    if not lines:
        raise errors.Refused(f"apt on this machine has no package list of Debian {_codename()}: the lab's image cannot be built",
                             "apt-get update")
    # The machine's own ways of fetching (a proxy, a mirror frozen in time) hold for the image's packages too.
    fetching = subprocess.run(["apt-config", "dump", "Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until",
                               "Acquire::Check-Date"], capture_output=True, text=True).stdout
    options = [f"--aptopt={line.rstrip(';')}" for line in fetching.splitlines() if not line.rstrip(";").endswith('""')]
    leaner = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale")]
    log = CACHE / "image.log"
    with open(log, "wb") as out:
        done = subprocess.run(["nice", "mmdebstrap", "--mode=root", "--variant=minbase", "--include=" + ",".join(PACKAGES),
                               "--dpkgopt=force-unsafe-io", *leaner, *options, _codename(), str(folder), *lines],
                              stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("E:")] or ["no message"]
        raise errors.Refused(f"mmdebstrap could not build the hosts' root ({said[0][:200]}; all of it in {log})", "invoke lab.up")
    for mirror in [folder / "etc/apt/sources.list", *(folder / "etc/apt/sources.list.d").glob("*")]:
        mirror.unlink(missing_ok=True)          # a lab host reaches the lab's repository, nothing else


def _dress(root):
    """Users, units, and the look of an EL 9 host (os-release and the name yum are all that ohai and Chef ask for)."""
    for name in ("os-release", "ssh/sshd_config.d/lab.conf"):
        (root / "etc" / name).unlink(missing_ok=True)       # os-release is a link into /usr/lib
    subprocess.run(["cp", "-a", "--no-preserve=ownership", f"{HERE}/golden/.", str(root)], check=True)
    for path in (root, root / "etc", root / "usr", root / "usr/bin", root / "opt"):
        os.chmod(path, 0o755)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()                                        # every host gets its own
    for unit in MASKED:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    target = root / "etc/systemd/system/default.target"
    target.unlink(missing_ok=True)
    target.symlink_to("/lib/systemd/system/multi-user.target")
    (root / "etc/machine-id").write_text("")
    for link, to in (("usr/bin/yum", "dnf-3"), ("usr/libexec/platform-python", "/usr/bin/python3")):
        (root / link).unlink(missing_ok=True)
        (root / link).symlink_to(to)
    for folder in ("etc/yum.repos.d", "etc/bgdeploy", "etc/chef", "var/lib/bgdeploy", "var/lib/bgdeploy-heartbeat"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    inside(root, "groupadd", "--system", "bgdeploy")
    inside(root, "useradd", "--create-home", "--shell", "/bin/bash", "deploy")
    with tempfile.TemporaryDirectory() as folder:
        provides = [word for name in PROVIDES for word in ("--provides", name)]
        shim = gem("fpm", "-s", "empty", "-t", "rpm", "-n", "debian-base", "-v", "12", "--rpm-os", "linux", "-a", "noarch",
                   "--description", "What the Debian root of a lab host has, said in RPM's words", *provides, "-p", folder)
        rpm = next(pathlib.Path(folder).glob("*.rpm"), None)
        if rpm is None:
            raise errors.Refused(f"fpm could not build the hosts' base package ({shim.stderr[-200:]})", "make lab")
        install(root, rpm)


def _bake_chef(root):
    """Chef's gems into the image, and its compile cache warmed by one empty run."""
    for part in ("bin", "gems", "specifications", "extensions"):
        subprocess.run(["cp", "-a", str(GEMS / part), str(root / "opt/chef-gems")], check=True)
    subprocess.run(["chown", "-R", "root:root", str(root / "opt/chef-gems")], check=True)
    for words in (["chef-client", "-z", "--chef-license", "accept-no-persist", "-l", "fatal", "--config-option",
                   "chef_repo_path=/tmp/warm", "--config-option", "file_cache_path=/tmp/warm/cache"], ["ohai", "--version"]):
        done = inside(root, *words, check=False)
        if done.returncode:
            raise errors.Refused(f"{words[0]} does not run in the image ({(done.stdout + done.stderr)[-300:]})", "make lab")
    for left in ("tmp/warm", "root/.chef", "etc/chef/client.pem", "etc/chef/accepted_licenses"):
        shutil.rmtree(root / left, ignore_errors=True)


def inside(root, *words, check=True):
    """Run a command in the image, in its own mount, pid and net namespaces (so that it can leave nothing running)."""
    return subprocess.run(["unshare", "-m", "-p", "-n", "-f", "--kill-child=KILL", "--root", str(root), "--mount-proc", *words],
                          capture_output=True, text=True, errors="replace", check=check, stdin=subprocess.DEVNULL)


def gem(name, *words, **options):
    """Run an executable of the gems in the cache."""
    environment = {**os.environ, "GEM_HOME": str(GEMS), "GEM_PATH": str(GEMS)}
    return subprocess.run(["ruby", str(GEMS / "bin" / name), *words], env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, **options)


def install(root, *rpms):
    """RPMs into a root that no host runs on."""
    done = subprocess.run(["rpm", "--root", str(root), "--dbpath", "/var/lib/rpm", "--force-debian", "--nosignature", "-U",
                           *map(str, rpms)], capture_output=True, text=True)
    if done.returncode:
        raise errors.Refused(f"rpm could not install {rpms[0].name} into the image ({done.stderr.strip()[-300:]})", "make lab")


def _codename():
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return "bookworm"


@contextlib.contextmanager
def alone(name):
    """One builder at a time, whoever asks: two labs that come up at once build the image once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def half_made(target):
    """A folder that gets the target's name only when it is complete."""
    folder = target.with_name(target.name + ".new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _prune(keep):
    """Older images go, unless a lab lives on them."""
    for old in [*CACHE.glob("image-*"), *CACHE.glob("base-*")]:
        if old.name in keep or not old.is_dir():
            continue
        with open(f"{old}.lock", "a") as lock:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
                os.unlink(f"{old}.lock")
