"""The layer between the golden image and a host's own disk: what installing the bgdeploy-host RPM adds, and its sudo rule.

A layer of its own, so that a change of host/ costs a second and not a new image.
"""

import hashlib
import os
import subprocess
import tempfile

from bgdeploy import errors, packaging
from bgdeploy.outside import rpmfile
from lab import image

HOST = image.PROJECT / "host"
SAMPLE, RULE = "usr/share/doc/bgdeploy-host/sudoers.sample", "etc/sudoers.d/bgdeploy"
VERSION = "1.0.0-1"


def ready(golden, say=print):
    """The layer's folder, built if host/ or the image changed.

    :param golden: the image's folder. :raises errors.Trouble: the RPM cannot be built or installed.
    """
    layer = image.CACHE / f"host-{_key(golden)}"
    if not layer.exists():
        with image.alone("host"):
            if not layer.exists():
                with image.half_made(layer) as folder:
                    _install(golden, folder)
                say(f"image: {layer.name} done (bgdeploy-host as an RPM)")
    return layer / "upper"


def _key(golden):
    key = hashlib.sha256(golden.name.encode())
    for path in sorted(HOST.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            key.update(repr((str(path.relative_to(HOST)), path.stat().st_mode & 0o100)).encode() + path.read_bytes())
    return key.hexdigest()[:12]


def _install(golden, folder):
    for part in ("upper", "work", "root"):
        (folder / part).mkdir()
    with tempfile.TemporaryDirectory() as work:
        rpm = rpmfile.build(packaging.load(HOST / "packaging.yml"), VERSION, work, cache=image.CACHE)
        mount = f"mount -t overlay overlay -o lowerdir={golden},upperdir={folder}/upper,workdir={folder}/work {folder}/root"
        install = f"rpm --root {folder}/root --dbpath /var/lib/rpm --force-debian --nosignature -U {rpm}"
        # What a person would do on a real host: the packaged sample becomes the rule, if sudo takes it.
        rule = f"install -m 440 {folder}/root/{SAMPLE} {folder}/root/{RULE} && chroot {folder}/root visudo -cqf /{RULE}"
        done = subprocess.run(["unshare", "-m", "sh", "-ec", f"{mount}; {install}; {rule}"], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
    if done.returncode:
        raise errors.Refused(f"bgdeploy-host could not be installed into the hosts' image ({done.stderr.strip()[-300:]})",
                             f"rm -rf {image.CACHE}")
    for part in ("work/work", "work", "root"):
        os.path.isdir(folder / part) and os.rmdir(folder / part)
