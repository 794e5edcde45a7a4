"""python3 -m heartbeat_kit.conform --url http://HOST:PORT/heartbeat: tries the contract and prints a table.

Exit: 0 the contract is kept at the level asked for, 3 it is not, 2 bad call.
"""

import argparse
import signal
import sys

from . import conform, missed, table
from .verdict import BASIC, FULL


def main(arguments):
    parser = argparse.ArgumentParser(prog="python3 -m heartbeat_kit.conform", description=__doc__.split("\n\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-file")
    parser.add_argument("--restart", metavar="CMD")
    parser.add_argument("--slow", metavar="PATH")
    parser.add_argument("--ca-file", help="authority of its certificate, for https")
    parser.add_argument("--host-header", metavar="NAME", help="the Host that it wants, and its certificate's name")
    parser.add_argument("--serving", action="store_true")
    parser.add_argument("--level", choices=(BASIC, FULL), default=BASIC)
    given = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):          # as Ctrl-C: the word is put back before it ends
        if signal.getsignal(number) != signal.SIG_IGN:      # nohup
            signal.signal(number, signal.default_int_handler)
    try:
        report = conform(given.url, given.token_file, given.restart, given.slow, given.serving, ca_file=given.ca_file,
                         host=given.host_header)
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    coding = sys.stdout.encoding or "ascii"             # a terminal that knows no umlauts gets question marks
    print(table(report).encode(coding, "replace").decode(coding))
    return 3 if missed(report, given.level) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
