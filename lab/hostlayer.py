"""The layer between the golden image and a host's own disk: what installing the bgdeploy-host RPM adds.

A layer of its own, so that a change of host/ costs a second and not a new image.
"""

import hashlib
import pathlib
import shutil
import subprocess

from bgdeploy import errors
from lab import image

HOST = image.PROJECT / "host"
TARGETS = {"bgdeploy-host": "usr/sbin/bgdeploy-host", "bgdeploy_host": "usr/lib/bgdeploy-host/bgdeploy_host",
           "run.sh": "usr/lib/bgdeploy-host/run.sh", "exit.sh": "usr/lib/bgdeploy-host/exit.sh",
           "bgdeploy_handler.rb": "usr/lib/bgdeploy-host/bgdeploy_handler.rb"}


def folder(golden):
    """Where the layer over this image is (or will be)."""
    key = hashlib.sha256(golden.name.encode())
    for path in sorted(HOST.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            key.update(repr((str(path.relative_to(HOST)), path.stat().st_mode & 0o100)).encode() + path.read_bytes())
    return image.CACHE / f"host-{key.hexdigest()[:12]}"


def ready(golden, say=print):
    """The layer, built if host/ or the image changed. :raises errors.Refused: the RPM cannot be built or installed."""
    layer = folder(golden)
    if not layer.exists():
        with image.alone("host"):
            if not layer.exists():
                with image.half_made(layer) as half:
                    for source, target in TARGETS.items():
                        to = half / target
                        to.parent.mkdir(parents=True, exist_ok=True)
                        path = HOST / source
                        shutil.copytree(path, to) if path.is_dir() else shutil.copy(path, to)
                say(f"image: {layer.name} done")
    return layer
