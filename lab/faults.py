"""What can be broken in the lab, and how it is mended. Runs inside the lab's init."""


class Wrong(Exception):
    """A fault or a target that is not there: one sentence."""


def carry_out(data, verb, fault, target, **options):
    raise Wrong(f"unknown fault '{fault}'")
