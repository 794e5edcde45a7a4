"""lab/lab.py from a shell, for those who build the rest: the product's own way in is tasks.py."""

import sys

from bgdeploy import errors, inventory
from lab import lab


def main(words):
    verbs = {"up": lab.up, "down": lab.down, "status": lab.status, "load": lab.load}
    if words == ["clear"]:
        return lab.clear(lab.CODE)
    if not words or words[0] not in verbs:
        print("usage: python3 -m lab.lab up|down|status|load [INVENTORY], or clear", file=sys.stderr)
        return 2
    try:
        verbs[words[0]](inventory.load(words[1] if len(words) > 1 else "lab", lab.CODE))
    except errors.Trouble as trouble:
        print(trouble.sentence + (f"\n  next: {trouble.next_command}" if trouble.next_command else ""), file=sys.stderr)
        return trouble.exit_code
    return 0
