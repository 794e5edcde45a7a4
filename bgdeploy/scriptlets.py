"""What RPM runs on a host when a package comes or goes: a site's scripts, our defaults, and what will surprise about them."""

import re
from pathlib import Path

from bgdeploy import versions
from bgdeploy.errors import BadInput
from bgdeploy.packaging import filled

DEFAULTS = {
    "before-install": ("user", 'getent passwd @USER@ >/dev/null || useradd --system --user-group --no-create-home '
                               '--home-dir /nonexistent --shell /usr/sbin/nologin @USER@\n'),
    "after-install": ("unit", "systemctl daemon-reload || :\n"),
    "before-remove": ("unit", 'if [ "$1" = 0 ]; then systemctl disable --now @UNIT@ || :; fi\n'),
    "after-remove": ("unit", "systemctl daemon-reload || :\n"),
}
_LOOKS_AT_ONE = re.compile(r"""\$1\b|\$\{1[}:=#%+?/-]|\$@|\$\*""")
_ASKS = re.compile(r"(?:^|[\s;&|({])(?:\[\[?|test|case|if|\(\()\s|\$@|\$\*")
_HARMLESS = re.compile(
    r"(?:set|exit|return|true|echo|printf|export|umask|unset|getent|command|then|else|do|done|fi|esac|test|\[\[?|:)(?![\w-])|[{}]"
    r"|(?:/usr/s?bin/|/s?bin/)?systemctl (?:-\S+ )*daemon-reload|[A-Za-z_]\w*=\S*$")
_SHELL = re.compile(r"#! ?(?:/usr)?/bin/(?:env )?(?:ba|da|k)?sh\b")


def scripts(description, full):
    """:returns: {hook: text} of a version, the defaults included, with @VERSION@ and @NAME@ replaced.

    :raises BadInput: a script that is no text, or is written for something else than the shell, which is what RPM runs it with.
    """
    given = {hook: _read(description, hook, Path(source)) for hook, source in description.scripts}
    for hook, (needs, text) in DEFAULTS.items():
        if getattr(description, needs):
            given.setdefault(hook, text)
    return {hook: filled(text.encode(), description, full).decode() for hook, text in sorted(given.items())}


def warnings(description, full):
    """Sentences about what will surprise: a removal script that does not look at $1 also runs on every upgrade."""
    found = []
    for hook, text in scripts(description, full).items():
        if hook.endswith("remove") and _harms_an_upgrade(text):
            found.append(f"{description.name}: its {hook} script does not look at $1, so it also runs when the old version goes "
                         'during an upgrade; begin it with: [ "$1" = 0 ] || exit 0')
        macro = re.search(r"^\s*(%[a-z_]+)", text, re.MULTILINE)
        if macro:
            found.append(f"{description.name}: its {hook} script says {macro[1]}, and no macro is expanded there: write what it "
                         "stands for")
    misleading = versions.misleading(full)
    return found + ([misleading] if misleading else [])


def _harms_an_upgrade(text):
    """Does a command come before the first question about $1? What stands in quotes '' is somebody else's $1 (awk's, say), and
    what stands in a function is done where that is called.
    """
    text = re.sub(r"^\s*[\w-]+ ?\(\)\s*\{.*?^\s*\}", "", text, flags=re.MULTILINE | re.DOTALL)
    for line in text.splitlines():
        line = re.sub(r"(?:^|\s)#.*", "", re.sub(r"'[^']*'", "''", line))
        for command in re.split(r";|&&|\|\|", line):
            command = re.sub(r"^(?:(?:if|elif|while|then|else|do|!)\s+)+", "", command.strip())
            if _LOOKS_AT_ONE.search(command) and (_ASKS.search(command) or re.match(r"[A-Za-z_]\w*=", command)):
                return False
            if command and not _HARMLESS.match(command):
                return True
    return False


def _read(description, hook, source):
    try:
        text = source.read_bytes().decode().replace("\r\n", "\n")
    except OSError as problem:
        raise BadInput(f"{description.file}: {source} cannot be read ({problem.strerror})") from None
    except UnicodeDecodeError as problem:
        raise BadInput(f"{description.file}: {source} is no text in UTF-8 (byte {problem.start + 1}); save it as UTF-8") from None
    if "\0" in text:
        raise BadInput(f"{description.file}: {source} is no script: it has a NUL in it")
    if text.startswith("#!") and not _SHELL.match(text):
        raise BadInput(f"{description.file}: {source} begins with {text.splitlines()[0][:60]!r}, and RPM runs {hook} with "
                       "/bin/sh: write it for the shell, or let it call the other program")
    return text
