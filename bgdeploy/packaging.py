"""How a component is packaged: a description file a person writes (docs/packaging.md), checked, and laid out as a tree.

No package is built here and nothing is contacted; outside/rpmfile.py does that.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from bgdeploy import strict_yaml
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
_TARGET = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._@+-]*)+")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")       # what useradd takes on EL; it gets into a script that root runs
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@+-]*\.(?:service|socket|timer|path|target|mount)")
_ARCHITECTURES = ("noarch", "x86_64", "aarch64", "ppc64le", "s390x", "riscv64", "i686", "armv7hl")
# "python3", "python3 >= 3.9", "perl(Foo::Bar)", "libc.so.6()(64bit)", "(a or b)". RPM reads what it does not know as one more
# name (python3>=3.9 is a package that nobody has), and expands % on the machine that builds.
_DEPENDENCY = re.compile(
    r"(?:[A-Za-z0-9_/](?:[A-Za-z0-9._+/:@~^-]|\([A-Za-z0-9._+/:@~^=-]*(?:\([A-Za-z0-9._+/:@~^=-]*\))?\))*"
    r"(?: (?:<|<=|=|==|>=|>) (?:[0-9]+:)?[A-Za-z0-9](?:[A-Za-z0-9_+~^]|\.(?!\.))*(?:-[A-Za-z0-9][A-Za-z0-9._+~^]*)?)?"
    r"|\([A-Za-z0-9._+/:@~^()<>= -]+\))")


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
    for key, form, what in (("name", _NAME, "package name: lower case letters, digits, . _ + -"),
                            ("user", _USER, "name of a system user: lower case letters, digits, _ -, at most 32"),
                            ("unit", _UNIT, "unit of systemd: write its file's name, as in web.service"),
                            ("architecture", re.compile("|".join(_ARCHITECTURES)), "architecture of RPM: "
                             + ", ".join(_ARCHITECTURES))):
        if key in found and not form.fullmatch(found[key]):
            raise BadInput(f"{path}, line {entries[key][0]}: {found[key]!r} is no {what}")
    for key in ("depends", "provides", "conflicts"):
        wrong = next((text for text in found.get(key, ()) if not _DEPENDENCY.fullmatch(text)), None)
        if wrong is not None:
            raise BadInput(f"{path}, line {entries[key][0]}: {key}: {wrong!r} is not as RPM has it: one package an entry, with "
                           "spaces around a comparison, as in [python3 >= 3.9, systemd]")
    found["files"] = tuple(_file(path, *entry) for entry in _pairs(path, "files", entries["files"]))
    given = _pairs(path, "scripts", entries["scripts"]) if "scripts" in entries else ()
    found["scripts"] = tuple(_script(path, *entry) for entry in given)
    description = Description(file=str(path), **found)
    _check_targets(description, entries)
    return description


def contents(description):
    """Every file of the package. :returns: {place on the host: source path}, a folder's files each.

    :raises BadInput: an empty folder, two files for one place, or what is no plain file: a link that leads out of the
        description's folder or nowhere, a socket, a name that no RPM can hold.
    """
    found = {}
    for source, target in description.files:
        inner = list(_inner(description, Path(source)))
        if not inner:
            raise BadInput(f"{description.file}: there is no file in {source}, which is to be {target}: was it built? "
                           "(hidden files and __pycache__ stay out)")
        for path in inner:
            place = target if path == Path(source) else f"{target}/{path.relative_to(source)}"
            if place in found:
                raise BadInput(f"{description.file}: two files want to be {place}")
            found[place] = path
    for place in found:
        above = next((str(folder) for folder in Path(place).parents if str(folder) in found), None)
        if above:
            raise BadInput(f"{description.file}: {place} wants to be in {above}, which is a file")
    return found


def stage(description, full, folder):
    """Lay the package's files out below `folder`: contents, modes (0755 for what may be run, else 0644) and times only from the
    description's own files, so that the same input gives the same tree.

    :raises BadInput: as `contents`, or a file that cannot be read.
    """
    for place, path in contents(description).items():
        laid = Path(folder, place.lstrip("/"))
        laid.parent.mkdir(parents=True, exist_ok=True)
        try:
            content, mode = path.read_bytes(), path.stat().st_mode
        except OSError as problem:
            raise BadInput(f"{description.file}: {path} cannot be read ({problem.strerror})") from None
        laid.write_bytes(filled(content, description, full) if place in description.templates else content)
        laid.chmod(0o755 if mode & 0o100 else 0o644)
        moment = EPOCH - int(hashlib.sha256(laid.read_bytes()).hexdigest()[:12], 16) % _SPREAD
        os.utime(laid, (moment, moment))
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        if path.is_dir():
            path.chmod(0o755)
            os.utime(path, (EPOCH, EPOCH))


def filled(content, description, full):
    """Bytes with the words @VERSION@, @NAME@, @USER@ and @UNIT@ replaced; all else stays as it is, whatever it is."""
    for word, value in (("VERSION", full), ("NAME", description.name), ("USER", description.user), ("UNIT", description.unit)):
        content = content.replace(f"@{word}@".encode(), value.encode())
    return content


def _inner(description, source):
    """The files of a source: itself, or all of a folder. A link is the file that it leads to."""
    if source.is_dir():
        paths = [path for path in sorted(source.rglob("*")) if not _left_out(path.relative_to(source))]
    else:
        paths = [source]
    homes = [Path(os.path.realpath(home)) for home in (Path(description.file).parent, source)]
    for path in paths:
        wrong = None
        if not path.is_symlink():
            wrong = None if path.is_file() or path.is_dir() else "is no file and no folder"
        elif not path.exists():
            wrong = "is a link that leads nowhere"
        elif not path.is_file():
            wrong = "is a link to what is no file: put that itself there"
        elif not any(home in Path(os.path.realpath(path)).parents for home in homes):
            wrong = f"is a link out of {homes[0]}, to {os.path.realpath(path)}; name that itself under files:"
        if not str(path.name).isprintable():        # nor is a byte that is no UTF-8
            wrong = "has a name that an RPM cannot hold: letters, digits and spaces of UTF-8"
        if wrong:
            raise BadInput(f"{description.file}: {str(path)!r} {wrong}")
        if path.is_file():
            yield path


def _left_out(path):
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts) or path.suffix == ".pyc"


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
    if not found.is_file() and not found.is_dir():
        raise BadInput(f"{path}, line {line}: " + (f"{source} is neither a file nor a folder" if found.exists() else
                       f"there is no {source} beside the description ({found})"))
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
    places = contents(description)
    for key, folders in (("templates", ()), ("config_files", {str(above) for place in places for above in Path(place).parents})):
        for target in getattr(description, key):
            inside = target in folders and any(target == one or target.startswith(one + "/") for _, one in description.files)
            if target not in places and not inside:
                raise BadInput(f"{description.file}, line {entries[key][0]}: {key} names {target}, "
                               "which no file has as its target")
    if description.unit and not any(os.path.basename(place) == description.unit for place in places):
        raise BadInput(f"{description.file}, line {entries['unit'][0]}: no file has {description.unit} as its target")
