"""YAML as a person typed it: every scalar stays text, with its line; what can mislead is refused. No I/O.

PyYAML reads 1.10 as 1.1, `no` as False, 1:2.0 as 62.0, lets the last of two equal keys win and unfolds alias bombs
(measured with PyYAML 6.0). So only its event stream is used here, and a small tree is built from that.
"""

import re
import unicodedata
from dataclasses import dataclass

import yaml

from bgdeploy.errors import BadInput

MAX_BYTES = 256 * 1024      # a host takes about 60 bytes: room for thousands
MAX_DEPTH = 16              # the deepest key of an inventory is at 7
_RESOLVER = yaml.resolver.Resolver()


@dataclass(frozen=True)
class Scalar:
    """:param quoted: False for a plain scalar, the kind that YAML 1.1 may read as something else."""

    text: str
    line: int
    quoted: bool = True

    @property
    def reads_as(self):
        """What YAML 1.1 takes it for: str | int | float | bool | null | timestamp | merge | value."""
        if self.quoted:
            return "str"
        return _RESOLVER.resolve(yaml.ScalarNode, self.text, (True, False)).rpartition(":")[2]


@dataclass(frozen=True)
class Mapping:
    """:param entries: {key: (the key's line, node)} in the file's order."""

    entries: dict
    line: int


@dataclass(frozen=True)
class Sequence:
    items: tuple
    line: int


def parse(content, file):
    """The tree of a YAML file.

    :param content: bytes of the file. :param file: its name, for sentences only.
    :returns: Mapping | Sequence | Scalar, or None for an empty file.
    :raises BadInput: not UTF-8, too large, too deep, tabs, invisible characters, more than one document, directives,
        anchors, aliases, merge keys, tags, duplicate or compound keys, values over several lines, not YAML.
    """
    text = _decode(content, file)
    _refuse_misleading_characters(text, file)
    try:
        return _Builder(file).build(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        _refuse_broken(file, error)
    except yaml.YAMLError as error:
        _refuse(file, 1, f"not YAML: {str(error).splitlines()[0]}", "correct the file")
    except (ValueError, OverflowError):     # PyYAML's chr() on "\U99999999"
        where = re.search(r"\\U(?!00(0|10))", text)
        _refuse(file, text.count("\n", 0, where.start()) + 1 if where else 1, "an escape of a character that there is not",
                "correct it, or use single quotes")


# What PyYAML says, by its beginning, and what to do; None: say its own words.
_BROKEN = (
    ("mapping values are not allowed here", "a colon where none can be",
     "put a value that has ': ' in it in quotes, and check the indentation"),
    ("could not find expected ':'", "a key without its colon", "a key ends with a colon and a space"),
    ("expected '<document start>'", "this line begins farther to the left than the first one", "indent it like the lines above"),
    ("expected <block end>", "this line is not indented like the ones around it", "indent it like them"),
    ("found unexpected end of stream", "a quote that is not closed", "close it"),
    ("found character", None, "put the value in quotes"),
    ("expected ',' or", None, "close the bracket"),
)


def _refuse_broken(file, error):
    """Where something was opened and not closed, the line that matters is the one that opened it."""
    said = error.problem or error.context or "it cannot be read"
    mark = error.problem_mark or error.context_mark
    if error.context_mark and re.search("simple key|flow|quoted", error.context or ""):
        mark = error.context_mark
    what, cure = next(((w or said, c) for begin, w, c in _BROKEN if said.startswith(begin)), (said, "correct the line"))
    _refuse(file, mark.line + 1 if mark else 1, f"not YAML: {what}", cure)


def _refuse(file, line, what, cure):
    raise BadInput(f"{file}:{line}: {what}; {cure}")


def _decode(content, file):
    if len(content) > MAX_BYTES:
        _refuse(file, 1, f"the file has more than {MAX_BYTES} bytes", "is it an inventory?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(file, content.count(b"\n", 0, error.start) + 1, f"byte 0x{content[error.start]:02x} is not UTF-8",
                "save the file as UTF-8")
    return text.replace("\r\n", "\n")


def _misleading(text):
    """The first character that looks like another one, or like nothing: match, or None."""
    for found in re.finditer(r"[^\x20-\x7e\n]", text):
        if unicodedata.category(found.group())[0] in "CZ":
            return found
    return None


def _refuse_misleading_characters(text, file):
    found = _misleading(text)
    if not found:
        return
    line = text.count("\n", 0, found.start()) + 1
    if found.group() == "\t":
        _refuse(file, line, "a tab", "type spaces")
    _refuse(file, line, f"an invisible character, {_name(found.group())}", "delete it or type an ordinary space")


def _name(character):
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" ({name})" if name else "")


class _Builder:
    """One pass over the events, with a stack of what is open; never recursive, so that depth is only a number."""

    def __init__(self, file):
        self.file = file
        self.open = []          # of (kind, line, parts, keys); a mapping's parts are keys and values in turn
        self.root = None
        self.documents = 0

    def build(self, events):
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                self._document(event, line)
            elif isinstance(event, yaml.AliasEvent):
                _refuse(self.file, line, "a word that begins with * is an alias",
                        "aliases are not supported: write the value out, or quote it")
            elif isinstance(event, yaml.ScalarEvent):
                self._plain_node_only(event, line)
                self._add(self._scalar(event, line))
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._plain_node_only(event, line)
                if len(self.open) >= MAX_DEPTH:
                    _refuse(self.file, line, f"nested deeper than {MAX_DEPTH} levels", "no key of an inventory lies so deep")
                self.open.append((type(event), line, [], {}))
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._close()
        return self.root

    def _document(self, event, line):
        self.documents += 1
        if self.documents > 1:
            _refuse(self.file, line, "a second document begins", "one file holds one inventory: take the '---' out")
        if event.version or event.tags:
            _refuse(self.file, line, "a % directive", "take it out")

    def _plain_node_only(self, event, line):        # the word is not shown: it may be a password
        if event.anchor:
            _refuse(self.file, line, "a word that begins with & is an anchor",
                    "anchors are not supported: write the value out, or quote it")
        if event.tag:
            _refuse(self.file, line, "a word that begins with ! is a tag",
                    "tags are not supported: take it out, or quote the value")

    def _scalar(self, event, line):
        if "\n" in event.value:
            _refuse(self.file, line, "a value that runs over several lines", "write it on one line")
        hidden = _misleading(event.value)
        if hidden:
            _refuse(self.file, line, f"an escape for an invisible character, {_name(hidden.group())}", "take it out")
        return Scalar(event.value, line, quoted=event.style is not None)

    def _add(self, node):
        if not self.open:
            self.root = node
            return
        kind, _, parts, keys = self.open[-1]
        if kind is yaml.MappingStartEvent and len(parts) % 2 == 0:
            self._check_key(node, keys)
        parts.append(node)

    def _check_key(self, key, keys):
        if not isinstance(key, Scalar):
            _refuse(self.file, key.line, "a list or mapping as a key", "a key is one word")
        if key.reads_as == "merge":
            _refuse(self.file, key.line, "<< is a merge key", "merge keys are not supported: write the keys out")
        if not key.text:
            _refuse(self.file, key.line, "a key without a name", "write the key before the colon")
        if key.text in keys:
            _refuse(self.file, key.line, f"{key.text} is there twice, first in line {keys[key.text]}",
                    "merge the two or delete one")
        keys[key.text] = key.line

    def _close(self):
        kind, line, parts, _ = self.open.pop()
        if kind is yaml.SequenceStartEvent:
            self._add(Sequence(tuple(parts), line))
        else:
            self._add(Mapping({k.text: (k.line, v) for k, v in zip(parts[::2], parts[1::2])}, line))
