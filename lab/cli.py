"""lab/lab.py from a shell, for those who build the rest: the product's own way in is tasks.py."""

import pathlib
import sys

from bgdeploy import errors, inventory
from lab import lab, link


def main(words):
    verbs = {"up": lab.up, "down": lab.down, "status": lab.status, "load": lab.load}
    if words == ["clear"]:
        return lab.clear(link.CODE)
    if not words or words[0] not in (*verbs, "break", "mend"):
        print("usage: python3 -m lab.lab up|down|status|load|break|mend [FILE.yml] [fault=F target=T ...], or clear",
              file=sys.stderr)
        return 2
    try:
        verb, *words = words
        file = pathlib.Path(words.pop(0) if words and words[0].endswith(".yml") else link.CODE / "inventories/lab.yml").resolve()
        site = inventory.load(file.stem, file.parent.parent)
        if verb in verbs:
            verbs[verb](site)
        else:
            named = dict(word.split("=", 1) for word in words)
            {"break": lab.break_, "mend": lab.mend}[verb](site, named.pop("fault", None), named.pop("target", None), **named)
    except errors.Trouble as trouble:
        print(trouble.sentence + (f"\n  next: {trouble.next_command}" if trouble.next_command else ""), file=sys.stderr)
        return trouble.exit_code
    return 0
