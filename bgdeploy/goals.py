"""From a task's checked words to a Goal. No I/O: the repository is asked through a callable. No rules of the ladder."""

from dataclasses import dataclass, replace

from bgdeploy import records, release, versions
from bgdeploy.errors import Refused
from bgdeploy.memory import fold
from bgdeploy.model import LIVE, STANDBY, Goal, Release, Want
from bgdeploy.prove import is_out, serves, untouched


@dataclass(frozen=True)
class Asked:
    """What was typed, checked: stack name, host names, pairs (component, version) ..."""

    task: str
    stack: str = None
    hosts: tuple = ()
    versions: tuple = ()
    only: tuple = ()
    first: str = None
    older: bool = False
    migration: object = None        # of outside.migrations, or None


@dataclass(frozen=True)
class Known:
    """What a goal is built from. runs: events of past runs, oldest first. open_run: events of the open one, or None.

    :param available: (component) -> full versions in the repository, newest first.
    :param cookbooks: revision of the cookbooks as they are now, "" in server mode.
    :param migrated: triples (migration, component, version) that done migrations need from now on; None: not known.
    """

    site: object
    seen: object
    runs: tuple
    available: object
    say: object
    open_run: list = None
    cookbooks: str = ""
    migrated: tuple = ()


def goal(asked, known):
    """:raises Refused: not published, older than what serves, or not clear what is meant."""
    whole = {"deploy": deploy, "rollout": rollout, "rollback": rollback, "back": back, "migrate": migrate}
    return whole.get(asked.task, step)(asked, known)


def deploy(asked, known):
    R = chosen(asked, known, [asked.stack])
    return Goal((Want(asked.stack, LIVE, R, asked.hosts),), kind="deploy")


def rollout(asked, known):
    names = order(asked, known)
    R = chosen(asked, known, names)
    migration = asked.migration
    for component, least in migration.needs if migration else ():
        brought = R.version(component)
        if brought and versions.compare(brought, least) < 0:
            raise Refused(f"the migration {migration.name} needs {component} {least}, and this rollout brings {brought}",
                          "the same command without --migrate")
    return Goal(tuple(Want(name, LIVE, R) for name in names), migration.name if migration else None,
                migration.needs if migration else (), kind="rollout")


def rollback(asked, known):
    """Per component the last version that the stack served before what it has now; cookbooks stay as they are now."""
    wants, stacks = [], [asked.stack] if asked.stack else order(asked, known)
    for name in stacks:
        hosts = [h.name for h in known.seen.stack(name)]
        cure = f"invoke rollback{f' --stack {name}' if asked.stack else ''} --version VERSION"
        history = records.served(known.runs, name)
        now = {c: found[0] for c in components(known, name) for found in [release.running(known.seen, hosts, c)] if found}
        now = {**installed(known, name), **(history[-1] if history else {}), **now}
        if asked.versions:
            target = {**now, **release.typed([(n, v) for n, v in asked.versions if n in components(known, name)],
                                             {n: known.available(n) for n, _ in asked.versions})}
        else:
            target = records.before(history, {**now, **replaced(known, name)}, records.bad(known.runs))
            if not target:
                there = "; ".join(f"{c}: {', '.join(known.available(c)[:6]) or 'none'}" for c in components(known, name))
                raise Candidates(f"the records name no version that {name} served before; the repository has {there}", cure)
            where = ", ".join(f"{c} {v}" for c, v in sorted(target.items()))
            known.say(f"{name} goes back to {where}, which it served last before")
            target = {**now, **target}
        for c in (c for c in components(known, name) if c not in target):      # Chef would be told nothing of it
            raise Candidates(f"which {c} {name} is to have is not known: none is there, and the records name none; the "
                             f"repository has {', '.join(known.available(c)[:6]) or 'none'}", cure)
        refuse_migrated(known, target)
        wants.append(Want(name, LIVE, Release(tuple(sorted(target.items())), known.cookbooks)))
    return Goal(tuple(wants), kind="rollback")


def installed(known, stack):
    """{component: version} that is installed on the stack, the newest, also where its service is down."""
    found = {}
    for c in (c for h in known.seen.stack(stack) for c in h.components if c.installed):
        found[c.name] = max(found.get(c.name) or c.installed, c.installed, key=versions.key)
    return found


def replaced(known, stack):
    """What a rollback gets away from, {component: version}: what the whole stack serves; where it does not serve one version,
    what the last run wanted on it, however far that came."""
    wanted = records.last_pinned(known.runs, stack)
    found = dict(wanted.versions) if wanted else {}
    for name in components(known, stack):
        parts = [h.component(name) for h in known.seen.stack(stack) if h.component(name)]
        if all(c.heartbeat == LIVE for c in parts) and len({c.release for c in parts}) == 1 and parts[0].release:
            found[name] = parts[0].release
    return {name: version for name, version in found.items() if name in components(known, stack)}


class Candidates(Refused):
    """`rollback` does not know where to: the call needs a version (exit 2)."""

    exit_code = 2


def back(asked, known):
    """Flip only: first what this run took out elsewhere and did not touch returns, then the stack leaves."""
    memory = fold(known.open_run or [])
    wants = []
    for name in known.seen.stacks:
        hosts = tuple(h.name for h in known.seen.stack(name) if is_out(h) and untouched(h, memory))
        if name != asked.stack and hosts:
            wants.append(Want(name, LIVE, None, hosts))
    return Goal((*wants, Want(asked.stack, STANDBY)), kind="back")


def migrate(asked, known):
    return Goal((), asked.migration.name, asked.migration.needs, kind="migrate")


def step(asked, known):
    """One step by hand: the same ladder, for this step alone; it shares the open run's pinned release."""
    if asked.task in ("standby", "drain"):
        return Goal((Want(asked.stack, STANDBY, None, asked.hosts),), only=asked.task, kind="step")
    hosts = [h for h in known.seen.stack(asked.stack) if not asked.hosts or h.name in asked.hosts]
    pinned = records.pinned(known.open_run, asked.stack) if known.open_run else None
    if asked.task == "converge":
        there = {c.name for h in hosts for c in h.components}
        if asked.versions or not pinned:
            R = chosen(asked, known, [asked.stack])
        elif there <= set(dict(pinned.versions)):
            R = pinned
        else:       # it was pinned for hosts that have less on them
            R = chosen(replace(asked, versions=pinned.versions), known, [asked.stack])
    elif asked.task == "sanity":
        R = pinned or left_by_chef(hosts, known)
    else:
        memory = fold(known.open_run or [])
        R = None if all(h.name not in memory.jobs for h in hosts) else pinned
    return Goal((Want(asked.stack, LIVE, R, asked.hosts),), only=asked.task, kind="step")


def chosen(asked, known, stacks):
    bad = records.bad(known.runs)
    versions_ = release.choose(known.site, known.seen, stacks, pairs=asked.versions, only=asked.only, hosts=asked.hosts,
                               available=known.available, bad=bad, say=known.say)
    last = {name: (records.served(known.runs, name) or [{}])[-1] for name in stacks}
    release.refuse_older(known.seen, stacks, versions_, last, asked.older)
    refuse_migrated(known, versions_)
    return Release(tuple(sorted(versions_.items())), known.cookbooks)


def refuse_migrated(known, chosen_versions):
    """After a migration no version comes back that cannot read what it wrote; where nobody can tell, nothing older does."""
    if known.migrated is None:
        for component, version in chosen_versions.items():
            now = release.running(known.seen, [h.name for h in known.seen.hosts], component)
            if now and versions.compare(version, now[0]) < 0:
                raise Refused(f"the database does not say which migrations are done, so {component} {version}, older than "
                              f"{now[0]}, may not come back", "invoke status")
        return
    for name, component, least in known.migrated:
        version = chosen_versions.get(component)
        if version and versions.compare(version, least) < 0:
            raise Refused(f"{component} {version} is older than {least}, which the migration {name} needs, and that is done",
                          "invoke status")


def left_by_chef(hosts, known):
    """The release that the hosts' last Chef run brought, else what runs, so that sanity can be asked for by hand."""
    for h in hosts:
        if h.job and h.job.kind == "chef" and h.job.release:
            return Release.parse(h.job.release)
    found = {c.name: c.release for h in hosts for c in h.components if c.release}
    return Release(tuple(sorted(found.items())), known.cookbooks)


def order(asked, known):
    """Stacks as a rollout takes them: the one asked for, then those out of LIVE, whole ones first, then the inventory's order."""
    names = [s.name for s in known.site.stacks]
    out = [n for n in names if not all(serves(h) for h in known.seen.stack(n))]
    whole = [n for n in out if not any(serves(h) for h in known.seen.stack(n))]     # the floor holds none of their hosts back
    first = [asked.first] if asked.first else []
    return list(dict.fromkeys(first + whole + out + names))


def components(known, stack):
    return [c.name for c in known.site.components if any(h.component(c.name) for h in known.seen.stack(stack))]
