"""What a person typed after a task: from the strings that Invoke hands over to checked values. Pure, but for the list of files.

Invoke gives text, None for an option that was left out, "" for `--hosts "$UNSET"`, "--yes" for `--stack=--yes`, True for an
option without its value, and a list for one that may be repeated (measured with invoke 2.0). Every function here takes
one of those and the option's name for its sentence, and raises BadInput for all that is not clearly meant.
"""

import os
import re

from bgdeploy import inventory, schema
from bgdeploy import versions as rpm
from bgdeploy.clean import line
from bgdeploy.did_you_mean import hint
from bgdeploy.errors import BadInput

LONGEST_REASON = 500


def env(typed, base, environ=os.environ):
    """--env: the name of an inventory that is there; by default BGDEPLOY_ENV, or lab."""
    where, name = "--env", typed
    if typed is None:
        where, name = ("BGDEPLOY_ENV", environ["BGDEPLOY_ENV"]) if environ.get("BGDEPLOY_ENV") else ("--env", "lab")
    there = inventory.names(base)
    name = _text(name, where, "an inventory's name", there)
    if not re.fullmatch(schema.NAME, name):
        raise BadInput(f"{where}: {_quote(name)} cannot be an inventory's name; {hint('', there)}")
    if name not in there:
        raise BadInput(f"{where}: there is no inventories/{name}.yml; {hint(name, there)}")
    return name


def stack(typed, site, option="--stack"):
    """The name of one stack; it must be given."""
    names = [s.name for s in site.stacks]
    if typed is None:
        raise BadInput(f"{option} is missing; type {option} {'|'.join(names)}")
    return _known(_text(typed, option, "a stack's name", names), names, "stack", option, site)


def maybe_stack(typed, site, option="--first"):
    """The name of one stack, or None where the option was left out. An empty text is an error, never 'left out'."""
    return None if typed is None else stack(typed, site, option)


def hosts(typed, site, stack_name=None, option="--hosts"):
    """--hosts a,b: names in the inventory's order.

    :param stack_name: the stack that they must belong to, or None.
    :returns: () where the option was left out; never () for anything that was typed.
    :raises BadInput: also for an empty selection: an unset variable of a CI job must not mean 'all'.
    """
    if typed is None:
        return ()
    known = [h.name for h in site.hosts if stack_name in (None, h.stack)]
    chosen = _list(typed, option, "host names", known)
    for name in chosen:
        other = site.host(name)
        if other and name not in known:
            raise BadInput(f"{option}: {name} belongs to stack {other.stack}, not to {stack_name}; "
                           f"{stack_name} has {', '.join(known)}")
        _known(name, known, "host", option, site)
    return tuple(name for name in known if name in chosen)


def components(typed, site, option="--component"):
    """--component web: names in the inventory's order; () where the option was left out."""
    if typed is None:
        return ()
    known = [c.name for c in site.components]
    chosen = [_known(name, known, "component", option, site) for name in _list(typed, option, "component names", known)]
    return tuple(name for name in known if name in chosen)


def component(typed, site, option="--component"):
    """Exactly one component's name; it must be given."""
    names = [c.name for c in site.components]
    if typed is None:
        raise BadInput(f"{option} is missing; type {option} {'|'.join(names)}")
    return _known(_text(typed, option, "a component's name", names), names, "component", option, site)


def versions(typed, site, only=(), option="--version"):
    """--version 2.0.0 for every component, or web=2.0.0,api=1.4.1 for those named.

    :param only: what --component narrows it to; () for all.
    :returns: pairs (component, version as `versions.check` gives it) in the inventory's order: () where it was left out.
        Whether the repository has them is not looked at.
    """
    if typed is None:
        return ()
    names = [c.name for c in site.components]
    parts = _list(typed, option, "a version such as 2.0.0, or one for each component such as web=2.0.0,api=1.4.1", ())
    if len(parts) == 1 and "=" not in parts[0]:
        checked = _version(parts[0], option)
        return tuple((name, checked) for name in names if not only or name in only)
    chosen = {}
    for part in parts:
        name, sign, text = part.partition("=")
        if not sign:
            raise BadInput(f"{option}: {_quote(part)} names no component; write one version for all, "
                           f"or {names[0]}=2.0.0 for each")
        _known(name, names, "component", option, site)
        if name in chosen:
            raise BadInput(f"{option}: {name} is there twice; name it once")
        if only and name not in only:
            raise BadInput(f"{option}: {name} is not among --component {','.join(only)}; name it there too, or leave it out here")
        if not text:
            raise BadInput(f"{option}: no version after {name}=; write {name}=2.0.0")
        chosen[name] = _version(text, option)
    return tuple((name, chosen[name]) for name in names if name in chosen)


def version(typed, option="--version"):
    """Exactly one version; it must be given."""
    if typed is None:
        raise BadInput(f"{option} is missing; type {option} 2.0.0")
    return _version(_text(typed, option, "a version such as 2.0.0"), option)


def excluded(typed, why, site, stack_name=None, of=()):
    """--exclude HOST --reason R: pairs (host, reason) in the inventory's order; () where it was left out.

    :param typed: text, or the list of a repeatable option (empty: left out). :param why: what --reason was given.
    :param stack_name: the stack that they must belong to, or None. :param of: what --hosts was given.
    :raises BadInput: also where nothing is left of a stack: that too is an empty selection.
    """
    if typed is None or typed == []:
        return ()
    chosen = hosts(",".join(typed) if isinstance(typed, (list, tuple)) else typed, site, stack_name, "--exclude")
    for one in site.stacks:
        left = [h.name for h in one.hosts if h.name not in chosen and (not of or h.name in of)]
        if stack_name in (None, one.name) and not left:
            raise BadInput(f"--exclude: no host of {one.name} is left; leave one in")
    if why is None:
        raise BadInput("--exclude needs --reason; type --reason and why " + " and ".join(chosen) + " must stay out")
    text = reason(why)
    return tuple((name, text) for name in chosen)


def reason(typed, option="--reason"):
    """A sentence of a person's: one line, or None where it was left out. It is kept in the journal and shown."""
    if typed is None:
        return None
    text = _text(typed, option, "a few words")
    if len(text) > LONGEST_REASON:
        raise BadInput(f"{option}: {len(text)} characters are too many; write at most {LONGEST_REASON}")
    return text


def whole(typed, option, low=0, high=1_000_000):
    """A whole number in plain digits, or None where it was left out."""
    return _number(typed, option, low, high, r"[0-9]{1,12}", int, "a whole number")


def seconds(typed, option, low=0, high=7 * 86400):
    """A number of seconds in plain digits, or None where it was left out. Units are not guessed."""
    return _number(typed, option, low, high, r"[0-9]{1,12}(\.[0-9]{1,6})?", float, "a number of seconds")


def choice(typed, words, option="--choice"):
    """One of the words, or None where it was left out."""
    if typed is None:
        return None
    text = _text(typed, option, "one of " + ", ".join(words))
    if text not in words:
        raise BadInput(f"{option}: {_quote(text)} is not known; {hint(text, words)}")
    return text


def run(typed, option="--run"):
    """A run's ID as `history` lists it, or None where it was left out. Whether there is such a run is not looked at."""
    if typed is None:
        return None
    text = _text(typed, option, "a run's ID")
    if not re.fullmatch(schema.NAME, text):
        raise BadInput(f"{option}: {_quote(text)} is no run's ID; invoke history lists them")
    return text


def url(typed, option="--url"):
    """An http or https address without a password; it must be given."""
    if typed is None:
        raise BadInput(f"{option} is missing; type {option} http://HOST:PORT/heartbeat")
    text = _text(typed, option, "an address such as http://HOST:PORT/heartbeat")
    found = re.fullmatch(r"https?://([^/?#\s]+)([/?][^#\s]*)?", text)
    if not found or "\\" in text:
        raise BadInput(f"{option}: {_quote(text)} is no address; write one such as http://HOST:PORT/heartbeat")
    if "@" in found[1]:
        raise BadInput(f"{option}: a user and password do not belong into an address; use --token-file")
    return text


def path(typed, option):
    """A file's or folder's path as typed, or None where it was left out. Nothing is opened."""
    return None if typed is None else _text(typed, option, "a path")


def word(typed, option, wanted):
    """One line of text as typed, or None where it was left out. :param wanted: what it should be, for the sentence."""
    return None if typed is None else _text(typed, option, wanted)


def pairs(typed, option, never=()):
    """name=value,name=value as a dict; {} where it was left out. Nothing of it is passed over in silence.

    :param never: names that mean something else.
    """
    if typed is None:
        return {}
    found = {}
    for part in _list(typed, option, "name=value", ()):
        name, sign, value = part.partition("=")
        if not re.fullmatch(r"[a-z][a-z_]*", name) or not sign or not value:
            raise BadInput(f"{option}: {_quote(part)} is not name=value; write such as seconds=5")
        if name in never:
            raise BadInput(f"{option}: {name} is no option's name here; take it out")
        if name in found:
            raise BadInput(f"{option}: {name} is there twice; name it once")
        found[name] = value
    return found


def _text(typed, option, wanted, known=()):
    """One line of text that does not look like an option."""
    of = f": {', '.join(list(known)[:10])}" if known else ""
    if typed is True or typed is False:
        raise BadInput(f"{option} has no value; it wants {wanted}{of}")
    if isinstance(typed, (list, tuple)):
        if len(typed) != 1:
            raise BadInput(f"{option} is there {len(typed)} times; it wants {wanted}, once")
        typed = typed[0]
    text = str(typed).strip(" ")
    if not text:
        raise BadInput(f"{option} is empty; it wants {wanted}{of} (is a variable of the calling script not set?)")
    if text.startswith("-"):
        raise BadInput(f"{option}: {_quote(text)} begins with a dash, like another option; {option} wants {wanted}{of}")
    if not text.isprintable():
        raise BadInput(f"{option}: {_quote(text)} has a line break or an invisible character; it wants {wanted} on one line")
    return text


def _list(typed, option, wanted, known):
    """The parts of a,b; the list of a repeatable option is taken likewise."""
    typed = ",".join(map(str, typed)) if isinstance(typed, (list, tuple)) else typed
    if isinstance(typed, str) and not typed.replace(",", "").strip(" "):
        raise BadInput(f"{option}: empty selection; it wants {wanted}, with a comma between them, or leave {option} out "
                       "(is a variable of the calling script not set?)")
    parts = [part.strip(" ") for part in _text(typed, option, wanted, known).split(",")]
    for n, part in enumerate(parts):
        if not part:
            raise BadInput(f"{option}: {_quote(typed)} has an empty place between its commas; take the spare comma out")
        if part.startswith("-"):
            raise BadInput(f"{option}: {_quote(part)} begins with a dash; it wants {wanted}")
        if part in parts[:n]:
            raise BadInput(f"{option}: {_quote(part)} is there twice; name it once")
    return parts


def _known(name, names, what, option, site):
    if name not in names:
        raise BadInput(f"{option}: {site.file} has no {what} {_quote(name)}; {hint(name, names)}")
    return name


def _version(text, option):
    try:
        return rpm.check(text)
    except BadInput as error:
        raise BadInput(f"{option}: {error.sentence}") from None


def _number(typed, option, low, high, pattern, kind, wanted):
    if typed is None:
        return None
    text = _text(typed, option, wanted) if not str(typed).startswith("-") else str(typed)
    if not re.fullmatch(pattern, text):
        raise BadInput(f"{option}: {_quote(text)} is not {wanted} in plain digits; write one from {low} to {high}")
    number = kind(text)
    if not low <= number <= high:
        raise BadInput(f"{option}: {_quote(text)} is out of range; write {wanted} from {low} to {high}")
    return number


def _quote(text):
    return '"' + "".join(c if c.isprintable() else "?" for c in line(str(text), 60)) + '"'
