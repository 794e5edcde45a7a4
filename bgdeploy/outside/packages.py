"""The RPM repository: which versions it has, and publishing one more. The hosts' dnf reads the same files.

Facts: the file name of an RPM has no epoch (rpm#2384), so packages with one lie in a folder of their own; a version that was
published is never replaced, because hosts that have its metadata would fail on the checksum.
"""

import http.client
import os
import re
import shlex
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import requests

from bgdeploy import packaging, scriptlets, versions
from bgdeploy.errors import BadInput, NoAnswer, Refused
from bgdeploy.outside import repodata, rpmfile

CONNECT, READ, WHOLE = 3.0, 5.0, 60.0       # seconds; dnf on a host would need 103 to notice a silent repository (measured)
MOST_REPOMD, MOST_PACKED = 1 << 20, 128 << 20
KEY_FILE = "RPM-GPG-KEY-bgdeploy"
HELPER = "bgdeploy-host"        # a package that every site publishes and that no inventory has as a component


@dataclass(frozen=True)
class Published:
    """:param full: "[EPOCH:]VERSION-RELEASE". :param new: False: the very same content was there already."""

    name: str
    full: str
    file: str
    new: bool


def available(site, package):
    """Ask the repository which versions of a package it has, as the hosts would see it. Changes nothing.

    :returns: list of "VERSION-RELEASE" (epoch in front if not 0), newest first by RPM's order; [] if it has none.
    :raises NoAnswer: it does not answer, in seconds (a silent one too), or with something that is no repository.
    """
    url = _url(site)
    with requests.Session() as session:
        session.trust_env = False       # neither the shell's proxies nor ~/.netrc
        for last in (False, True):
            part = repodata.parts(_get(session, url + "/repodata/repomd.xml", MOST_REPOMD), url)["primary"]
            try:
                packed = _get(session, f"{url}/{part.href}", MOST_PACKED)
                found = repodata.packages(packed, part, url, package)
                break
            except NoAnswer:
                # Somebody published between the two requests; once more from the beginning settles it.
                if last:
                    raise
    return sorted({listed.full for listed in found}, key=versions.key, reverse=True)


def publish(site, component_name, version, *, iteration=None, description_file=None, say=print):
    """Build, sign and publish one version of a component (or of a package that is no component, such as bgdeploy-host).

    :param version: as typed: "2.0.0", "1:2.0", "2.0.0~rc1", or with its release "2.0.0-2".
    :param iteration: RPM's release, "1" if neither it nor the version says so.
    :param description_file: how it is packaged (docs/packaging.md); None: packaging/NAME.yml of the project, in a lab lab/apps/,
        for bgdeploy-host always the project's own.
    :param say: called with one sentence for each warning.
    :returns: Published. :raises BadInput: version or description; Refused: this version is there with other content, the site
        does not publish; FPM, rpmsign, createrepo_c or the disk said no.
    """
    directory, full = _directory(site), _full(version, iteration)
    component = site.component(component_name)
    if component is None and description_file is None and component_name != HELPER:
        names = ", ".join(known.name for known in site.components)
        raise BadInput(f"there is no component {component_name} in {site.file}; it has {names}")
    description = packaging.load(description_file or _usual(site, component_name))
    package = component.package if component else component_name
    if description.name != package:
        raise BadInput(f"{description.file} describes {description.name}, and {component_name} is the package {package}")
    for sentence in scriptlets.warnings(description, full):
        say(f"warning: {sentence}")
    epoch, target = versions.parts(full)[0], None
    named = f" --description {shlex.quote(str(description_file))}" if description_file else ""
    higher = f"invoke publish --component {component_name} --version {full.rpartition('-')[0]} " \
        f"--iteration {_next_release(full)}{named}"
    try:
        with tempfile.TemporaryDirectory(prefix="bgdeploy-publish-") as work:
            built = Path(rpmfile.build(description, full, work, cache=_cache(site)))
            with repodata.alone(directory, say):
                target = Path(directory, f"epoch-{epoch}" if epoch else "", built.name)
                if target.exists():
                    return _again(site, directory, target, built, description.name, full, higher)
                _refuse_equal(directory, description, full, str(target.relative_to(directory)))
                _sign(site, built, say)
                repodata.place(built, target)
                repodata.renew(directory)
    except OSError as problem:
        where = problem.filename or directory
        raise Refused(f"{description.name} {full} is not published: {where}: {problem.strerror}") from None
    except KeyboardInterrupt:
        how = "lies in the repository, maybe without being listed; the same command again makes that good" \
            if target is not None and target.exists() else "is not published"
        raise KeyboardInterrupt(f"interrupted: {description.name} {full} {how}") from None
    return Published(description.name, full, str(target), True)


def prepare_repository(site):
    """Make the site's repository and its signing key if they are not there: an empty repository that dnf can read, and the key's
    public half in it as RPM-GPG-KEY-bgdeploy. What is there stays.
    """
    directory = _directory(site, make=True)
    with repodata.alone(directory):
        if site.repository.gpg_name:
            _make_key(site, directory)
        if not Path(directory, "repodata/repomd.xml").exists():
            repodata.renew(directory)


def prune(site, package, used, *, keep=5, say=print):
    """Take versions out of the repository that nothing needs any more: first out of the metadata, then the files.

    :param used: every full version of the package that runs or is installed on some host, is pinned by an open run, or is where a
        rollback would go; None: not all of that is known, and then nothing is removed.
    :param keep: so many of the newest stay in any case.
    :returns: the removed versions, oldest first. Never touches what is in `used`, and never another package.
    :raises Refused: the site does not publish, its metadata is broken, createrepo_c or the disk said no.
    """
    directory = _directory(site)
    if used is None:
        say(f"{package}: nothing is pruned, because not every host answered and told what it has")
        return ()
    try:
        with repodata.alone(directory, say):
            listed = sorted(repodata.read(directory, package), key=lambda found: versions.key(found.full))
            newest = sorted({found.full for found in listed}, key=versions.key)[-keep:] if keep > 0 else []
            gone = [found for found in listed
                    if found.full not in newest and not any(versions.compare(found.full, one) == 0 for one in used)]
            if not gone:
                say(f"{package}: nothing to prune: {len(listed)} versions, all of them used or among the {keep} newest")
                return ()
            repodata.renew(directory, without=[found.href for found in gone])
            for found in gone:
                Path(directory, found.href).unlink(missing_ok=True)
    except OSError as problem:
        raise Refused(f"{package}: not all of it is pruned: {problem.filename or directory}: {problem.strerror}") from None
    return tuple(dict.fromkeys(found.full for found in gone))


def _usual(site, name):
    return Path(site.base, "host/packaging.yml" if name == HELPER else
                f"{'packaging' if site.lab is None else 'lab/apps'}/{name}.yml")


def _again(site, directory, target, built, name, full, higher):
    try:
        there = rpmfile.content(target)
    except Refused as trouble:
        raise Refused(f"{trouble.sentence}: move it away, then publish again", f"mv {target} /var/tmp/") from None
    what = "with other content" if there != rpmfile.content(built) else "without a signature" if \
        site.repository.gpg_name and not rpmfile.signed(target) else ""
    if what:
        raise Refused(f"{name}-{full} is in {directory} {what}, and hosts may have it: a published version is never "
                      "replaced; raise --iteration", higher)
    if not any(listed.href == str(target.relative_to(directory)) for listed in repodata.read(directory, name)):
        repodata.renew(directory)       # a publisher was killed between the two
    return Published(name, full, str(target), False)


def _refuse_equal(directory, description, full, href):
    """1.0 and 1.00 are one version to RPM: the second would never be installed over the first. Nor may a version be there for
    all machines and for one kind of them.
    """
    for listed in repodata.read(directory, description.name):
        if listed.full != full and versions.compare(listed.full, full) == 0:
            raise Refused(f"{description.name} {full} and {listed.full}, which is there, are one version to RPM: "
                          "raise the version or --iteration")
        kinds = {listed.architecture, description.architecture}
        if listed.full == full and listed.href != href and (len(kinds) == 1 or "noarch" in kinds):
            raise Refused(f"{description.name} {full} is there as {listed.href}: raise --iteration")


def _full(version, iteration):
    checked = versions.check(version)
    epoch, plain, release = versions.parts(checked)
    if release and iteration and release != str(iteration):
        raise BadInput(f"the version {version} ends with release {release}, and --iteration says {iteration}: "
                       "give one of the two")
    return versions.check(f"{str(epoch) + ':' if epoch else ''}{plain}-{release or iteration or 1}")


def _next_release(full):
    release = full.rpartition("-")[2]
    return int(release) + 1 if release.isdigit() else release + ".1"


def _get(session, url, most):
    """The whole answer, capped in size and in time from beginning to end; a redirect is not followed."""
    found = []

    def work():
        try:
            found.append((_asked(session, url, most), None))
        except BaseException as trouble:
            found.append((None, trouble))
    # aside, because a head that drips would never be late: requests' limits begin anew with each byte
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(WHOLE + CONNECT + READ)
    content, trouble = found[0] if found else (None, NoAnswer(f"the repository {url} did not answer within {WHOLE:.0f} s"))
    if trouble is not None:
        raise trouble
    return content


def _asked(session, url, most):
    try:
        with session.get(url, timeout=(CONNECT, READ), stream=True, allow_redirects=False,
                         headers={"Accept-Encoding": "identity"}) as answer:
            if answer.status_code != 200:
                where = f" to {answer.headers.get('Location', '')[:200]}" if answer.is_redirect else ""
                raise NoAnswer(f"the repository answers {answer.status_code}{where} for {url}: "
                               "repository.url in the inventory must be the folder that has repodata/")
            content = b"".join(_pieces(answer, url, most))
    # ValueError: what urllib3 and the standard library have against a name or a number, which requests hands on
    except (requests.RequestException, http.client.HTTPException, OSError, ValueError) as problem:
        raise NoAnswer(f"the repository {url} does not answer ({_short(problem)})") from None
    length = answer.headers.get("Content-Length", "")
    if re.fullmatch("[0-9]{1,15}", length, re.ASCII) and len(content) < int(length):
        raise NoAnswer(f"the repository {url} broke off after {len(content)} of {length} bytes")
    return content


def _pieces(answer, url, most):
    # read1 of the standard library's response comes back with whatever is there; requests' own reading waits for a full piece, so
    # that a server that drips would never be late.
    until, size = time.monotonic() + WHOLE, 0
    while piece := answer.raw._original_response.read1(1 << 16):
        size += len(piece)
        if size > most:
            raise NoAnswer(f"{url} is larger than {most >> 20} MB")
        if time.monotonic() > until:
            raise NoAnswer(f"the repository {url} took longer than {WHOLE:.0f} s for its metadata")
        yield piece


def _short(problem):
    """urllib3 wraps the reason in objects that print themselves with their addresses."""
    inner = problem.args[0] if problem.args else problem
    reason = str(getattr(inner, "reason", None) or problem)
    words = re.findall(r"(?:timed out|refused|No route|unreachable|reset|not known|broken)[^)'\"]*", reason)
    return f"{type(problem).__name__}: {words[-1] if words else reason[:200]}"


def _url(site):
    if not site.repository:
        raise BadInput(f"{site.file} has no repository: it needs repository: {{url: ...}} to know which versions there are")
    return site.repository.url.rstrip("/")


def _directory(site, make=False):
    if not site.repository or not site.repository.directory:
        raise Refused(f"{site.file} has no repository.directory: this site only reads its repository and does not publish")
    directory = site.repository.directory
    if make:
        Path(directory).mkdir(parents=True, exist_ok=True)
    elif not Path(directory).is_dir():
        raise Refused(f"the repository's folder {directory} is not there",
                      "invoke lab.up" if site.lab is not None else f"mkdir -p {directory}")
    return directory


def _cache(site):
    return os.environ.get("BGDEPLOY_CACHE") or Path(site.base, ".cache")


def _gpg_home(site):
    return site.repository.gpg_home or os.environ.get("GNUPGHOME") or Path.home() / ".gnupg"


def _make_key(site, directory):
    home, name = Path(_gpg_home(site)), site.repository.gpg_name
    environment = {**os.environ, "GNUPGHOME": str(home)}
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    gpg = ["gpg", "--batch", "--quiet"]
    try:
        if subprocess.run([*gpg, "--list-secret-keys", name], env=environment, capture_output=True,
                          stdin=subprocess.DEVNULL).returncode:
            rpmfile.run([*gpg, "--passphrase", "", "--quick-generate-key", name, "rsa3072", "sign", "never"],
                        f"no signing key could be made in {home}", env=environment)
        exported = rpmfile.run([*gpg, "--armor", "--export", name], f"the key {name} could not be exported", env=environment)
        public = Path(directory, KEY_FILE)
        if not public.exists() or public.read_text() != exported:
            beside = public.with_name("." + public.name)
            beside.write_text(exported)
            beside.chmod(0o644)
            os.replace(beside, public)
    finally:
        _stop_agent(site)


def _sign(site, built, say):
    if not site.repository.gpg_name:
        say("warning: the inventory names no gpg_name, so the package is not signed and hosts with gpgcheck refuse it")
        return
    try:
        rpmfile.sign(built, _gpg_home(site), site.repository.gpg_name)
    finally:
        _stop_agent(site)


def _stop_agent(site):
    """gpg leaves an agent running for its home folder; nothing of ours stays behind."""
    if site.repository.gpg_home:
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], env={**os.environ, "GNUPGHOME": str(site.repository.gpg_home)},
                       capture_output=True, stdin=subprocess.DEVNULL)
