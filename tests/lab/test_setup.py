"""make demo on a machine that is not ready for it: one sentence, what is missing and how to get it, exit code 3."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
SETUP = PROJECT / "lab/setup.py"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root: the machine cannot be made to look otherwise")


def set_up(*sections, before="", script=SETUP, around=()):
    """Run lab/setup.py in a mount namespace of its own, after some shell commands that change what it sees."""
    words = ["unshare", "-m", "sh", "-ec", f'{before}\nexec "$@"', "sh", *around, "/usr/bin/python3", str(script), *sections]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def one_sentence(done, *parts):
    assert (done.returncode, done.stdout) == (3, ""), done
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


@needs_root
def test_where_everything_is_in_place_it_installs_and_says_nothing():
    began = time.monotonic()
    done = set_up("run", "lab")
    if done.stdout:
        pytest.skip("this machine was not set up yet; it is now")
    assert (done.returncode, done.stderr) == (0, "") and time.monotonic() - began < 10


@needs_root
def test_another_system_than_debian_is_refused(tmp_path):
    (tmp_path / "u").mkdir(), (tmp_path / "w").mkdir()
    hide = f"mount -t overlay x -o lowerdir=/etc,upperdir={tmp_path}/u,workdir={tmp_path}/w /etc; rm /etc/debian_version"
    one_sentence(set_up("run", "lab", before=hide), "not Debian", "Debian 12")


@needs_root
def test_somebody_who_is_not_root_is_told_to_be():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:     # pytest's own folders are closed to others
        os.chmod(folder, 0o755)
        around = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        one_sentence(set_up("run", "lab", script=copy(pathlib.Path(folder)), around=around), "not root", "sudo")


@needs_root
def test_without_a_network_the_missing_package_and_the_command_to_type_are_named(tmp_path):
    script = copy(tmp_path, "[run]\nhello    says hello\n")
    if shutil.which("hello"):
        pytest.skip("the package hello is installed here")
    done = set_up("run", script=script, around=("unshare", "-n"))
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    for part in ("could not install hello", "is the network there?", "apt-get install hello"):
        assert part in done.stderr


@needs_root
def test_a_kernel_without_overlay_is_named(tmp_path):
    (tmp_path / "filesystems").write_text("nodev\ttmpfs\n\text4\n")
    hide = f"mount --bind {tmp_path}/filesystems /proc/filesystems"
    one_sentence(set_up("lab", before=hide), "no overlay file system", "modprobe overlay")


@needs_root
def test_a_container_that_may_make_no_namespaces_is_named():
    around = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    one_sentence(set_up("lab", around=around), "namespaces", "privileged")


def test_an_unknown_section_is_refused():
    done = subprocess.run(["/usr/bin/python3", str(SETUP), "everything"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and "sections are run, lab, test" in done.stderr


def copy(folder, packages=None):
    """A setup of its own: the script, with this list or the real one."""
    folder.mkdir(exist_ok=True)
    shutil.copy(SETUP, folder / "setup.py")
    (folder / "packages.txt").write_text(packages or (PROJECT / "lab/packages.txt").read_text())
    return folder / "setup.py"
