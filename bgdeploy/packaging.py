"""How a component is packaged: a description file a person writes (docs/packaging.md), checked, and laid out as a tree.

No package is built here and nothing is contacted; outside/rpmfile.py does that.
"""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from bgdeploy import strict_yaml, versions
from bgdeploy.errors import BadInput

HOOKS = ("before-install", "after-install", "before-remove", "after-remove")
LISTS = ("templates", "config_files", "depends", "provides", "conflicts")
TEXTS = {"name": "", "summary": "", "architecture": "noarch", "license": "unspecified", "maintainer": "bgdeploy",
         "vendor": "none", "url": "", "user": "", "unit": ""}
# Every file's time lies in the half year before this moment, at a place given by its content: rebuilt, it is the same again, and
# two versions of a file never agree in time and size, which is all that Python's cache and rsync look at.
EPOCH = 1700000000
_SPREAD = 15000000
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}")
_TARGET = re.compile(r"(?:/[A-Za-z0-9][A-Za-z0-9._@+-]*)+")
_LOOKS_AT_ONE = re.compile(r"""\$1\b|\$\{1[}:=#%-]|\$@|\$\*""")

DEFAULT_SCRIPTS = {
    "before-install": ("user", 'getent passwd @USER@ >/dev/null || useradd --system --user-group --no-create-home '
                               '--home-dir /nonexistent --shell /usr/sbin/nologin @USER@\n'),
    "after-install": ("unit", "systemctl daemon-reload || :\n"),
    "before-remove": ("unit", 'if [ "$1" = 0 ]; then systemctl disable --now @UNIT@ || :; fi\n'),
    "after-remove": ("unit", "systemctl daemon-reload || :\n"),
}


@dataclass(frozen=True)
class Description:
    """One package as described.

    :param files: pairs (source path, target on the host); a source may be a folder.
    :param templates: targets in which @VERSION@ becomes VERSION-RELEASE and @NAME@ the name.
    :param config_files: targets that an upgrade does not overwrite once they were edited.
    :param scripts: pairs (hook, source path). A hook without one has a default where `user` or `unit` is set.
    """

    file: str
    name: str
    summary: str
    files: tuple
    architecture: str = "noarch"
    license: str = "unspecified"
    maintainer: str = "bgdeploy"
    vendor: str = "none"
    url: str = ""
    user: str = ""
    unit: str = ""
    templates: tuple = ()
    config_files: tuple = ()
    depends: tuple = ()
    provides: tuple = ()
    conflicts: tuple = ()
    scripts: tuple = ()


def load(path):
    """Read a description file.

    :raises BadInput: naming file, line and cure: no such file, unknown key, a source that is not there, a target that no
        file has, a path that is not absolute.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise BadInput(f"{path} cannot be read ({problem.strerror}): a package needs its description (docs/packaging.md)") \
            from None
    tree = strict_yaml.parse(content, str(path))
    if not isinstance(tree, strict_yaml.Mapping):
        raise BadInput(f"{path}: keys are expected, such as name, summary and files (docs/packaging.md)")
    entries = dict(tree.entries)
    known = {**TEXTS, **dict.fromkeys(LISTS), "files": None, "scripts": None}
    for key, (line, _) in entries.items():
        if key not in known:
            raise BadInput(f"{path}, line {line}: there is no key {key}; the keys are {', '.join(sorted(known))}")
    found = {key: _text(path, key, entries[key]) for key in TEXTS if key in entries}
    found.update({key: _list(path, key, entries[key]) for key in LISTS if key in entries})
    for key in ("name", "summary", "files"):
        if key not in entries:
            raise BadInput(f"{path}: the key {key} is missing")
    if not _NAME.fullmatch(found["name"]):
        raise BadInput(f"{path}, line {entries['name'][0]}: {found['name']!r} is no package name: "
                       "lower case letters, digits, . _ + -")
    found["files"] = tuple(_file(path, *entry) for entry in _pairs(path, "files", entries["files"]))
    given = _pairs(path, "scripts", entries["scripts"]) if "scripts" in entries else ()
    found["scripts"] = tuple(_script(path, *entry) for entry in given)
    description = Description(file=str(path), **found)
    _check_targets(description, entries)
    return description


def scripts(description, full):
    """:returns: {hook: text} of a version, the defaults included, with @VERSION@ and @NAME@ replaced."""
    given = {hook: Path(source).read_text() for hook, source in description.scripts}
    for hook, (needs, text) in DEFAULT_SCRIPTS.items():
        if getattr(description, needs):
            given.setdefault(hook, text)
    return {hook: _fill(text, description, full) for hook, text in sorted(given.items())}


def warnings(description, full):
    """Sentences about what will surprise: a removal script that does not look at $1 also runs on every upgrade."""
    found = []
    for hook, text in scripts(description, full).items():
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if hook.endswith("remove") and not _LOOKS_AT_ONE.search("\n".join(lines)) and \
                any("daemon-reload" not in line for line in lines):
            found.append(f"{description.name}: its {hook} script does not look at $1, so it also runs when the old version goes "
                         'during an upgrade; begin it with: [ "$1" = 0 ] || exit 0')
    misleading = versions.misleading(full)
    return found + ([misleading] if misleading else [])


def stage(description, full, folder):
    """Lay the package's files out below `folder`: contents, modes (0755 for what may be run, else 0644) and times only from the
    description's own files, so that the same input gives the same tree.

    :raises BadInput: two files for one target.
    """
    for source, target in description.files:
        source = Path(source)
        for path in _inner(source):
            place = target if path == source else f"{target}/{path.relative_to(source)}"
            laid = Path(folder, place.lstrip("/"))
            if laid.exists():
                raise BadInput(f"{description.file}: two files want to be {place}")
            laid.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, laid)
            if place in description.templates:
                laid.write_text(_fill(path.read_text(), description, full))
            laid.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
            moment = EPOCH - int(hashlib.sha256(laid.read_bytes()).hexdigest()[:12], 16) % _SPREAD
            os.utime(laid, (moment, moment))
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        if path.is_dir():
            path.chmod(0o755)
            os.utime(path, (EPOCH, EPOCH))


def _inner(source):
    if not source.is_dir():
        return [source]
    return sorted(path for path in source.rglob("*") if path.is_file() and not _left_out(path.relative_to(source)))


def _left_out(path):
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts) or path.suffix == ".pyc"


def _fill(text, description, full):
    for word, value in (("VERSION", full), ("NAME", description.name), ("USER", description.user), ("UNIT", description.unit)):
        text = text.replace(f"@{word}@", value)
    return text


def _text(path, key, entry):
    line, node = entry
    if not isinstance(node, strict_yaml.Scalar) or not node.text.strip():
        raise BadInput(f"{path}, line {line}: {key} is one text")
    return node.text.strip()


def _list(path, key, entry):
    line, node = entry
    items = node.items if isinstance(node, strict_yaml.Sequence) else [None]
    if not all(isinstance(item, strict_yaml.Scalar) and item.text for item in items):
        raise BadInput(f"{path}, line {line}: {key} is a list of texts, as in [python3, systemd]")
    return tuple(item.text for item in items)


def _pairs(path, key, entry):
    line, node = entry
    if not isinstance(node, strict_yaml.Mapping) or not node.entries:
        raise BadInput(f"{path}, line {line}: {key} is a mapping, and not an empty one")
    return [(name, line, _text(path, f"{key}: {name}", (line, value))) for name, (line, value) in node.entries.items()]


def _file(path, source, line, target):
    found = path.parent / source
    if not found.exists():
        raise BadInput(f"{path}, line {line}: there is no {source} beside the description ({found})")
    if not _TARGET.fullmatch(target) or ".." in target:
        raise BadInput(f"{path}, line {line}: {target} is not an absolute path of letters, digits and . _ @ + -")
    return str(found), target


def _script(path, hook, line, source):
    if hook not in HOOKS:
        raise BadInput(f"{path}, line {line}: there is no script {hook}; the scripts are {', '.join(HOOKS)}")
    if not (path.parent / source).is_file():
        raise BadInput(f"{path}, line {line}: there is no {source} beside the description ({path.parent / source})")
    return hook, str(path.parent / source)


def _check_targets(description, entries):
    targets = [target for _, target in description.files]
    for key in ("templates", "config_files"):
        for target in getattr(description, key):
            if not any(target == known or target.startswith(known + "/") for known in targets):
                raise BadInput(f"{description.file}, line {entries[key][0]}: {key} names {target}, "
                               "which no file has as its target")
    if description.unit and not any(os.path.basename(target) == description.unit for target in targets):
        raise BadInput(f"{description.file}, line {entries['unit'][0]}: no file has {description.unit} as its target")
