"""One RPM file: built by FPM from a description, signed, read. Knows nothing of repositories."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bgdeploy import packaging, scriptlets, versions
from bgdeploy.clean import line
from bgdeploy.errors import Refused

LIMIT = 600.0
# What makes two packages the same for a host; not the signature, and not which machine built it.
_CONTENT = ("%{NAME} %{EPOCHNUM} %{VERSION} %{RELEASE} %{ARCH} %{PAYLOADDIGESTALT} %{PAYLOADDIGEST}\\n%{SUMMARY}\\n%{LICENSE}\\n"
            "%{PREIN}\\n%{POSTIN}\\n%{PREUN}\\n%{POSTUN}\\n[%{REQUIRENEVRS}\\n][%{PROVIDENEVRS}\\n][%{CONFLICTNEVRS}\\n]"
            "[%{FILENAMES} %{FILEMODES:octal} %{FILEFLAGS} %{FILEUSERNAME} %{FILEGROUPNAME}\\n]")

_OTHERS = ("/usr/lib/systemd", "/usr/lib/systemd/system", "/etc/sysconfig", "/etc/sudoers.d")     # folders that FPM would own


def build(description, full, folder, cache=None):
    """Build the RPM of one version: the same input gives the same payload, byte for byte.

    :param description: packaging.Description. :param full: "[EPOCH:]VERSION-RELEASE".
    :param folder: an existing folder that gets the file.
    :param cache: where `gems/` may be; FPM on the PATH serves as well.
    :returns: the file's path.
    :raises Refused: FPM or rpmbuild is missing, or says no (its last words are in the sentence).
    """
    epoch, version, release = versions.parts(full)
    program, environment = _fpm(cache)
    if not shutil.which("rpmbuild"):
        raise Refused("rpmbuild is not installed: FPM needs it to write an RPM", "apt-get install rpm")
    with tempfile.TemporaryDirectory(prefix="bgdeploy-rpm-") as work:
        tree, out = Path(work, "tree"), Path(work, "out")
        tree.mkdir(), out.mkdir()
        packaging.stage(description, full, tree)
        words = [*program, "-s", "dir", "-t", "rpm", "-n", description.name, "-v", version, "--iteration", release,
                 *(["--epoch", str(epoch)] if epoch else []), "-a", description.architecture, "--rpm-os", "linux",
                 "--description", _plain(description.summary), "--license", _plain(description.license), "--maintainer",
                 _plain(description.maintainer), "--vendor", _plain(description.vendor), "--url",
                 _plain(description.url or "none"), "--rpm-user", "root", "--rpm-group", "root",
                 "--rpm-auto-add-directories",
                 *[word for folder in _OTHERS for word in ("--rpm-auto-add-exclude-directories", folder)], "--rpm-digest",
                 "sha256", "--workdir", work, "-C", str(tree), "-p", str(out)]
        for kind, values in (("--depends", description.depends), ("--provides", description.provides),
                             ("--conflicts", description.conflicts), ("--config-files", description.config_files)):
            words += [word for value in values for word in (kind, value)]
        for hook, text in scriptlets.scripts(description, full).items():
            Path(work, hook).write_text(_plain(text), encoding="utf-8")
            words += [f"--{hook}", str(Path(work, hook))]
        for macro in ("_buildhost bgdeploy", "use_source_date_epoch_as_buildtime 1", "clamp_mtime_to_source_date_epoch 1",
                      "_build_id_links none"):
            words += ["--rpm-rpmbuild-define", macro]
        # HOME is the work folder, so that neither ~/.rpmmacros nor ~/.fpm of whoever builds gets into the package.
        run([*words, "."], f"{description.name} {full} could not be built", cwd=work,
            env={**environment, "HOME": work, "LC_ALL": "C.UTF-8", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(packaging.EPOCH)})
        built = next(iter(out.glob("*.rpm")), None)
        if built is None:
            raise Refused(f"{description.name} {full} could not be built: FPM ended well and left no file")
        return shutil.copy(built, folder)


def sign(path, gpg_home, gpg_name):
    """Sign an RPM file in place with a key of `gpg_home` that needs no passphrase; nobody is ever asked for one.

    :raises Refused: no such key, expired, locked.
    """
    words = ["rpmsign", "--define", f"__gpg {shutil.which('gpg') or '/usr/bin/gpg'}", "--define", f"_gpg_name {gpg_name}",
             "--define", "_gpg_digest_algo sha256", "--define", "_gpg_sign_cmd_extra_args --batch --pinentry-mode=error",
             "--addsign", str(path)]
    run(words, f"{Path(path).name} could not be signed: the key {gpg_name} of {gpg_home} must be valid and need no passphrase",
        env={**os.environ, "GNUPGHOME": str(gpg_home)})


def signed(path):
    """Does an RPM file carry a signature, of whatever key."""
    return run(["rpm", "-qp", "--nosignature", "--nodigest", "--qf", "%|RSAHEADER?{1}:{%|DSAHEADER?{1}:{%|SIGPGP?{1}:{%|SIGGPG?"
                "{1}:{0}|}|}|}|", str(path)], f"{path} cannot be read").strip() == "1"


def content(path):
    """:returns: a text that is equal for two RPM files exactly if hosts would install the same from them."""
    return run(["rpm", "-qp", "--nosignature", "--nodigest", "--qf", _CONTENT, str(path)], f"{path} cannot be read")


def identity(path):
    """:returns: (name, full version, architecture) of an RPM file."""
    name, epoch, rest, architecture = run(["rpm", "-qp", "--nosignature", "--nodigest", "--qf",
                                           "%{NAME} %{EPOCHNUM} %{VERSION}-%{RELEASE} %{ARCH}", str(path)],
                                           f"{path} cannot be read").split()
    return name, rest if epoch == "0" else f"{epoch}:{rest}", architecture


def run(words, what, env=None, cwd=None):
    """Run a program to its end. :returns: its stdout. :raises Refused: `what`, and why it said no; or it is missing.

    What it writes can be read by all, whatever the umask of whoever calls: FPM makes folders of the package by it.
    """
    try:
        done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", env=env, cwd=cwd, timeout=LIMIT, umask=0o022)
    except FileNotFoundError:
        package = {"createrepo_c": "createrepo-c", "ruby": "ruby"}.get(words[0], "rpm gnupg")
        raise Refused(f"{words[0]} is not installed", f"apt-get install {package}") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{what}: {words[0]} did not end within {LIMIT:.0f} s") from None
    if done.returncode:
        places = [place for place in (cwd, tempfile.gettempdir(), words[-1]) if place and os.path.isdir(place)]
        full = next((f"no space left on {place}" for place in places if shutil.disk_usage(place).free < 1 << 20), "")
        raise Refused(f"{what} ({full or _reason(done.stderr, done.stdout) or f'it ended with {done.returncode}'})")
    return done.stdout


def _reason(stderr, stdout):
    """The lines of a program's words that say why: gpg's, rpmbuild's `error:` (FPM wraps it), an exception's, else the last."""
    lines = [text.strip() for text in (stdout + "\n" + stderr).splitlines() if text.strip()]
    found = [text for text in lines if text.startswith("gpg: ")] or \
        [text[text.index("error: ") + 7:].partition('", :level=>')[0] for text in lines if "error: " in text] or \
        [text.partition(": in ")[2] or text for text in lines if re.search(r"\((?:[A-Z]\w*::)*[A-Z]\w*\)$", text)]
    return line("; ".join(dict.fromkeys(found[-3:] or lines[-3:])), 400)


def _plain(text):
    """rpmbuild takes % for a macro, in a comment too, and runs what %(...) names."""
    return text.replace("%", "%%")


def _fpm(cache):
    gems = Path(cache or os.environ.get("BGDEPLOY_CACHE") or ".cache").absolute() / "gems"
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR")}
    if (gems / "bin/fpm").exists():
        return ["ruby", str(gems / "bin/fpm")], {**kept, "GEM_HOME": str(gems), "GEM_PATH": str(gems)}
    found = shutil.which("fpm")
    if not found:
        raise Refused(f"FPM is not installed: neither {gems / 'bin/fpm'} nor fpm on the PATH",
                      f"gem install --no-document --install-dir {gems} fpm")
    return [found], {**kept, **{name: value for name, value in os.environ.items() if name.startswith("GEM_")}}
