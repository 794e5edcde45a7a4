"""Which versions of a component something still needs: what is seen on hosts, what is open, where a rollback would go. Pure."""

from bgdeploy import records
from bgdeploy.model import DOWN


def used(site, seen, runs, component):
    """All versions of a component that must stay in the repository.

    :param seen: one look at the whole site. :param runs: lists of events, one a run, oldest first.
    :returns: (set of full versions, ""), or (None, why): not all of it is known, so nothing may go.
    """
    found = {version for name, version in site.versions if name == component}
    for host in seen.hosts:
        c = host.component(component)
        if c is None:
            continue
        if host.reachable is not True or c.installed is None or (c.heartbeat != DOWN and c.release is None):
            return None, f"what {host.name} has of {component} is not known"
        found |= {c.installed, c.release} - {"", None}
    for events in runs:
        if records.is_open(events):
            for goal in records.goals_of(events):
                found |= {version for want in goal.get("wants") or () for name, version in _pairs(want) if name == component}
    for stack in (stack for stack in seen.stacks if any(h.component(component) for h in seen.stack(stack))):
        history = [one for one in records.served(runs, stack) if one.get(component)]
        now = {h.component(component).release for h in seen.stack(stack) if h.component(component)} - {None}
        # whatever stands there now is what a rollback gets away from; before the first deployment it has nowhere to go
        targets = [records.before(history, {component: version}, records.bad(runs)).get(component) for version in now]
        last = records.last_pinned(runs, stack)
        if last is None or not history or (now and None in targets):
            return None, f"the records name no version of {component} that {stack} served before"
        found |= {version for version in (*targets, last.version(component), history[-1][component]) if version}
    return found, ""


def _pairs(want):
    return [tuple(pair.split("=", 1)) for pair in (want.get("release") or "").split("@")[0].split(",") if "=" in pair]
