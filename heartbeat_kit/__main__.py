"""python3 -m heartbeat_kit read|set|park COMPONENT: the stored heartbeat, with the application up or down.

read COMPONENT               prints live or standby, then what is known of it; on stderr, why it is standby by default
set COMPONENT live|standby   stores the word as the API does
park COMPONENT               stores standby
Options: --state-dir DIR (default /var/lib/bgdeploy-heartbeat), --reason TEXT. Exit: 0 done, 2 bad call, 4 not stored.
"""

import argparse
import getpass
import os
import sys

from . import state


def main(arguments):
    parser = argparse.ArgumentParser(prog="python3 -m heartbeat_kit", description="A component's stored heartbeat.")
    parser.add_argument("verb", choices=("read", "set", "park"))
    parser.add_argument("component")
    parser.add_argument("word", nargs="?", choices=state.WORDS)
    parser.add_argument("--state-dir", default="/var/lib/bgdeploy-heartbeat")
    parser.add_argument("--reason", default="")
    given = parser.parse_args(arguments)
    if (given.verb == "set") != (given.word is not None):
        parser.error("set takes a word, live or standby; read and park take none")
    if not given.component or "/" in given.component or given.component.startswith("."):
        parser.error("%r is no component's name: write the name of its folder in %s" % (given.component, given.state_dir))
    if not given.state_dir:
        parser.error("--state-dir is empty: write a folder, or leave it out")
    kept = state.State(os.path.join(given.state_dir, given.component))
    if given.verb != "read":
        try:
            kept.set(given.word or state.STANDBY, by=_who(), why=given.reason or "by hand on the host")
        except OSError as error:
            print("%s: not stored: %s" % (kept.file, error.strerror), file=sys.stderr)
            return 4
    stored = kept.read()
    if stored.note:
        print("%s: %s" % (kept.file, stored.note), file=sys.stderr)
    coding = sys.stdout.encoding or "ascii"             # a terminal that knows no umlauts gets question marks
    print(state.render(stored).encode(coding, "replace").decode(coding), end="")
    return 0


def _who():
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):            # a user without a name, as containers have them
        return "uid %d" % os.getuid()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
