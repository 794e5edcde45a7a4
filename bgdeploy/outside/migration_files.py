"""The files of a site's migrations: read strictly, and their functions called so that whatever they do becomes a sentence.

It is a site's own code: it may raise anything, call sys.exit, print, or forget that a generator's body does not run by itself.
"""

import contextlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from dataclasses import dataclass

from bgdeploy import clean, versions
from bgdeploy.errors import BadInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True)
class Migration:
    """One file. :param needs: pairs (component, version). :param module: the loaded file, with up, check and count."""

    name: str
    file: str
    needs: tuple
    repeatable: bool
    module: object


def discover(folder):
    """The migrations of a folder, in the order of their file names; () if there is no such folder.

    :raises BadInput: a file that is not a migration; the sentence names file, line and cure. Loading runs the file's top level.
    """
    if not folder or not os.path.isdir(folder):
        return ()
    found = {}
    for file in sorted(os.listdir(folder)):
        if file.endswith(".py") and not file.startswith(("_", ".")):
            migration = load(os.path.join(folder, file))
            if migration.name in found:
                raise BadInput(f"{migration.file}: NAME {migration.name!r} is that of {found[migration.name].file} too; "
                               f"give it another one")
            found[migration.name] = migration
    return tuple(found.values())


def load(path):
    """The Migration of one file. :raises BadInput: see `discover`."""
    if not os.path.isfile(path):
        raise BadInput(f"{path} is no file: a migration is a file of Python, and nothing else there ends with .py")
    label = re.sub(r"\W", "_", os.path.basename(path)[:-3])
    spec = importlib.util.spec_from_file_location(f"bgdeploy_migration_{label}", path)
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with _printing_beside():
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:        # whatever a site's file does wrong, sys.exit too, is that file's fault, not ours
        raise BadInput(f"{path}{_line_in(path, trouble)}: cannot be loaded: {_words(trouble)}") from None
    finally:
        sys.dont_write_bytecode = before
    name, needs, repeatable = (getattr(module, key, None) for key in ("NAME", "NEEDS", "REPEATABLE"))
    if not isinstance(name, str) or not _NAME.match(name):
        raise BadInput(f'{path}: NAME is missing or no name of letters, digits, ".", "_" and "-"; write NAME = "orders-customer"')
    if not isinstance(needs, dict) or not needs or not all(isinstance(part, str) for pair in needs.items() for part in pair):
        raise BadInput(f'{path}: NEEDS is missing or not a dict of texts; write NEEDS = {{"api": "2.0.0"}}')
    for version in needs.values():
        try:
            versions.check(version)
        except BadInput as trouble:
            raise BadInput(f"{path}: NEEDS: {trouble.sentence}") from None
    if repeatable not in (None, True, False):
        raise BadInput(f"{path}: REPEATABLE is {repeatable!r}; write True or False")
    for function, most in (("up", 2), ("check", 1), ("count", 1)):
        _callable(path, module, function, most)
    return Migration(name, path, tuple(sorted(needs.items())), bool(repeatable), module)


def call(function, *arguments):
    """function(as many of the arguments as it takes); what it prints goes to stderr, where a document on stdout stays whole.

    :raises: whatever it raises; TypeError: it returned something that has not run yet.
    """
    with _printing_beside():
        answer = function(*arguments[:_takes(function, len(arguments))])
    if inspect.isawaitable(answer) or inspect.isgenerator(answer) or inspect.isasyncgen(answer):
        raise TypeError(f"{getattr(function, '__name__', 'it')} returned a {type(answer).__name__}, which has not run: "
                        "write a plain function, without async and yield")
    return answer


def asked(migration, name, database):
    """What an optional function of a migration says, or None where it has none."""
    return call(getattr(migration.module, name), database) if hasattr(migration.module, name) else None


def number(count):
    """What `count` returned, if that is a number of documents or None. :raises TypeError: it is not."""
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
        raise TypeError(f"count returned {clean.line(repr(count), 80)}: it must be a number of documents, or None")
    return count


def told_by(trouble, migration, what=""):
    """Where and how a migration's own code broke: 'm.py:12: ValueError: what it said'."""
    return f"{os.path.basename(migration.file)}{_line_in(migration.file, trouble)}: {what}{_words(trouble)}"


def _printing_beside():
    return contextlib.redirect_stdout(sys.stderr)


def _takes(function, most):
    """How many of `most` arguments it takes by their place; 0: none of the ways in which it is called here fits."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return 0                        # of a built-in nobody can tell
    for how_many in range(most, 0, -1):
        with contextlib.suppress(TypeError):
            signature.bind(*range(how_many))
            return how_many
    return 0


def _callable(path, module, name, most):
    function = getattr(module, name, None)
    if function is None and name != "up":
        return
    form = f"def {name}({'database, progress' if name == 'up' else 'database'}):"
    if not callable(function) or not _takes(function, most):
        raise BadInput(f"{path}: {name} is missing or takes other arguments; write {form}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadInput(f"{path}: {name} would not run when it is called; write a plain {form} without async and yield")


def _words(trouble):
    """An exception of a site's own code, with its kind, which often says more than its text."""
    try:
        text = clean.line(trouble, 300)
    except Exception:                   # its __str__ is the site's own code, too
        text = "its text cannot be shown"
    return f"{type(trouble).__name__}: {text}".rstrip(": ")


def _line_in(path, trouble):
    """':12' where the exception came from in that file, or ''."""
    if isinstance(trouble, SyntaxError) and trouble.filename == path:
        return f":{trouble.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(trouble.__traceback__) if frame.filename == path]
    return f":{lines[-1]}" if lines else ""
