"""Which release is meant: from what was typed, what the repository has, what is seen and what past runs say. Pure."""

from bgdeploy import versions
from bgdeploy.errors import Refused
from bgdeploy.model import LIVE, STANDBY


def running(seen, hosts, component):
    """Versions of a component on these hosts, newest first, each once; a service that is down does not count."""
    found = {c.release for h in seen.hosts if h.name in hosts for c in h.components if c.name == component and c.release}
    return sorted(found, key=versions.key, reverse=True)


def typed(pairs, available):
    """--version: {component: full version}; a version without release means its highest release.

    :param pairs: (component, typed version). :param available: {component: [full versions, newest first]}.
    :raises Refused: not published; the nearest ones are named.
    """
    chosen = {}
    for name, text in pairs:
        match = [full for full in available[name] if versions.same_version(text, full)]
        if not match:
            there = ", ".join(available[name][:5]) or "nothing"
            cure = f"invoke publish --component {name} --version {text}"
            if not text[:1].isdigit():      # `latest`, a branch: RPM would take it, and nobody wants a package of that name
                cure = "the same command with a version that is there, or without --version"
            raise Refused(f"{name} {text} is not published; the repository has {there}", cure)
        chosen[name] = match[0]
    return chosen


def newest(name, available, bad, say):
    """The highest version that the repository has and that did not prove bad here; a skipped one is named."""
    for full in available:
        if (name, full) not in bad:
            return full
        say(f"{name} {full} is skipped: {bad[name, full]}")
    what = f"no version of {name} that may be deployed" if available else f"no {name}"
    raise Refused(f"the repository has {what}", f"invoke publish --component {name} --version VERSION")


def choose(site, seen, stacks, *, pairs=(), only=(), hosts=(), available, bad, say):
    """The versions for this run, {component: full version}.

    :param stacks: names in order. :param hosts: names, when --hosts narrows one stack. :param only: --component.
    :param available: callable (component) -> full versions, newest first (asked only where it is needed).
    """
    inside = hosts or [h.name for h in seen.hosts if h.stack in stacks]
    present = [c.name for c in site.components if any(h.component(c.name) for h in seen.hosts if h.name in inside)]
    asked = dict(pairs)
    chosen = typed([(n, v) for n, v in pairs if n in present], {n: available(n) for n in asked if n in present})
    for name in present:
        if name in chosen:
            continue
        rest = [h.name for h in seen.hosts if h.stack in stacks and h.name not in hosts]
        if (only and name not in only) or (asked and name not in asked) or (hosts and not asked):
            there = running(seen, rest if hosts else inside, name) or running(seen, [h.name for h in seen.hosts], name)
            if len(there) > 1:
                raise Refused(f"{name} runs in several versions ({', '.join(there)}), so which one stays is not clear",
                              f"add {name}=VERSION to --version")
            if there:
                chosen[name] = there[0]
                continue
        spread = [v for v in served_elsewhere(seen, stacks, inside, name) if (name, v) not in bad]
        chosen[name] = max(spread, key=versions.key) if spread else newest(name, available(name), bad, say)
    return chosen


def served_elsewhere(seen, stacks, inside, name):
    """Versions of a component that another stack serves and that are newer than what one of these stacks runs on its hosts."""
    for stack in stacks:
        here = running(seen, [h.name for h in seen.stack(stack) if h.name in inside], name)
        live = [h.name for h in seen.hosts if h.stack != stack and h.component(name) and h.component(name).heartbeat == LIVE]
        yield from (v for v in running(seen, live, name)[:1] if here and versions.compare(v, here[-1]) > 0)


def refuse_older(seen, stacks, chosen, served_before, insist):
    """A deploy of something older than the stack serves is a rollback by accident.

    :param served_before: {stack: {component: version}} that it last served, for a stack that is out of LIVE.
    :raises Refused: names rollback.
    """
    if insist:
        return
    for stack in stacks:
        for name, version in chosen.items():
            parts = [c for h in seen.stack(stack) for c in h.components if c.name == name]
            live = [c.release for c in parts if c.heartbeat == LIVE and c.release]
            out = [c for c in parts if c.heartbeat == STANDBY]
            last = live or ([served_before[stack][name]] if out and served_before.get(stack, {}).get(name) else [])
            newest_one = max(last, key=versions.key, default=None)
            if newest_one and versions.compare(version, newest_one) < 0:
                raise Refused(f"{name} {version} is older than {newest_one}, which {stack} {'serves' if live else 'last served'}",
                              f"invoke rollback --stack {stack} (or the same command with --older)")
