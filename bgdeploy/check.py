"""`invoke check`: everything that a deployment needs, looked at before it is needed. Changes nothing, takes no lock.

A row is (outcome, what, detail, cure); outcome ok | warn | fail. fail: a deployment would be refused or would stop half way.
"""

import os
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from bgdeploy import records, soundness
from bgdeploy.clean import line
from bgdeploy.errors import NoAnswer, Refused, Trouble
from bgdeploy.model import DOWN, LIVE, STANDBY
from bgdeploy.outside import balancer, chef, heartbeat, packages
from bgdeploy.outside.exchange import authority
from bgdeploy.prove import floor, serving, shortfall

Row = namedtuple("Row", "outcome what detail cure")
OK, WARN, FAIL = "ok", "warn", "fail"
# Bytes that a converge may need below /var: package, metadata, Chef's cache (measured: 40 MB are not enough).
ROOM, INODES = 200 << 20, 2000


def check(site, session):
    """All rows, in the order in which a deployment meets them. Never raises for what the site does."""
    rows = [Row(WARN, "inventory", sentence, "") for sentence in soundness.warnings(site)]
    rows = rows or [Row(OK, "inventory", site.file, "")]
    rows += state_folder(session) + store(session) + cookbooks(site) + repository(site)
    seen = session.look()
    for host in site.hosts:
        rows += on_host(site, session, host, seen.host(host.name))
    runs = [events for _, events in session.runs()]
    rows += restarts(site, records.restarts(runs))
    left_out = records.left_out(runs)
    rows += [Row(WARN, name, f"left out of an earlier run, not put live by one since, perhaps live on an old version: {why}",
                 f"invoke deploy --stack {site.host(name).stack} --hosts {name}")
             for name, why in sorted(left_out.items()) if site.host(name)]
    return rows + pools(site, seen) + capacity(site, seen) + database(site, session)


def state_folder(session):
    folder = session.state
    while folder and not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if os.access(folder or ".", os.W_OK | os.X_OK):
        return [Row(OK, "runs", session.state, "")]
    return [Row(FAIL, "runs", f"{session.state} cannot be written by this user", "change its owner, or set BGDEPLOY_STATE")]


def store(session):
    try:
        holder, held = session.store.holder(), session.store.held()
    except Trouble as e:
        return [Row(FAIL, "store", e.sentence, e.next_command or "")]
    if session.store.shared:
        rows = [Row(OK, "lock", session.store.name, "")]
    else:
        rows = [Row(WARN, "lock", f"{session.store.name}: excludes drivers on this machine only",
                    "lock_host: or store: mongodb://...")]
    if holder:
        outcome, cure = (WARN, "invoke unlock") if holder.get("expired") else (FAIL, "wait for it")
        rows.append(Row(outcome, "lock", f"held by {holder['text']}", cure))
    if held:
        rows.append(Row(FAIL, "hold", f"{held['by']} froze this site: {held['reason']}", "invoke unhold"))
    return rows


def cookbooks(site):
    if site.chef.cookbooks != "local":
        return [Row(OK, "cookbooks", "from the Chef Server", "")]
    try:
        revision, tar = chef.revision(os.path.join(site.base, site.chef.path))
    except Trouble as e:
        return [Row(FAIL, "cookbooks", e.sentence, e.next_command or "")]
    return [Row(OK, "cookbooks", f"{site.chef.path}, revision {revision}, {len(tar)} bytes; "
                "whoever may send them is root on the hosts", "")]


def repository(site):
    rows = []
    for component in site.components:
        try:
            found = packages.available(site, component.package)
            rows.append(Row(OK if found else FAIL, f"repository {component.name}", ", ".join(found[:4]) or "no version",
                            "" if found else f"invoke publish --component {component.name} --version VERSION"))
        except Trouble as e:
            rows.append(Row(FAIL, f"repository {component.name}", e.sentence, e.next_command or ""))
    return rows


def refuse(site, session, names):
    """Before a run's first act: what would stop a converge on these hosts half way, asked of all of them at once.

    :raises Refused: the first thing that is wrong, and its cure. A host that only does not answer is left to the rules.
    """
    def asked(name):
        try:
            return converging(site, site.host(name), chef.look(session.shell, site, site.host(name)))
        except NoAnswer:
            return []
    pool = ThreadPoolExecutor(16)
    try:
        for row in [row for rows in pool.map(asked, names) for row in rows]:
            if row.outcome == FAIL:
                raise Refused(f"{row.what}: {row.detail}", row.cure or None)
    finally:
        pool.shutdown(wait=False)       # an abort does not wait for them


def on_host(site, session, host, seen):
    try:
        facts = chef.look(session.shell, site, host)
    except Trouble as e:
        return [Row(FAIL, host.name, e.sentence, e.next_command or "")]
    rows = converging(site, host, facts)
    if facts.noise:
        rows.append(Row(WARN, host.name, f"the login shell prints by itself: {facts.noise[:120]!r}",
                        "harmless here; move it to an interactive profile"))
    for c in seen.components if seen else ():
        rows += on_component(site, session, host, c)
    if rows:
        return rows
    runs = ", ".join(f"{c.name} {c.release or c.heartbeat}" for c in seen.components)
    return [Row(OK, host.name, f"answers over SSH; {runs}", "")]


def converging(site, host, facts):
    """What a look over SSH says about the next converge."""
    rows = []
    if facts.daemon and site.chef.cookbooks == "local":
        rows.append(Row(FAIL, host.name, "something there starts chef-client by itself (service, timer or cron)",
                        "disable it: it would undo what was deployed"))
    if facts.licence is False:
        rows.append(Row(FAIL, host.name, "Chef's licence is not accepted there", "chef_license 'accept' in /etc/chef/client.rb"))
    for what, name in proxied(site, facts):
        proxies = line(" and ".join(map(str, facts.proxies)), 100)
        rows.append(Row(FAIL, host.name, f"{proxies} of client.rb there would send requests for {what} through a proxy: no_proxy "
                        f"does not name {name}", f"add {name} to no_proxy in /etc/chef/client.rb"))
    if facts.job and facts.job.kind == "foreign":
        rows.append(Row(WARN, host.name, f"a Chef run of somebody else goes on ({facts.job.run})", "a converge waits for it"))
    if facts.reserved:
        rows.append(Row(WARN, host.name, f"other Chef runs wait there for run {line(facts.reserved.get('run'), 80)}, "
                        f"{line(facts.reserved.get('left'), 20)} s at the most",
                        "invoke resume; to end it on the host: bgdeploy-host release"))
    if facts.package_lock:
        rows.append(Row(WARN, host.name, chef.package_lock(facts.package_lock), "a converge waits for it"))
    rows += [Row(WARN, host.name, f"{free >> 20} MB are free in {folder}", "make room: a full disk ends a converge in the middle")
             for folder, free in facts.disk.items() if isinstance(free, int) and free < ROOM]
    rows += [Row(WARN, host.name, f"{free} inodes are free in {folder}", "remove what is not needed: no inode, no file")
             for folder, free in facts.inodes.items() if isinstance(free, int) and free < INODES]
    rows += [Row(FAIL, host.name, f"{line(folder, 100)} is mounted read-only there", f"mount -o remount,rw {line(folder, 100)}")
             for folder in facts.read_only]
    return rows


def proxied(site, facts):
    """Pairs (what, name of its host) that Chef and dnf would ask for through a proxy.

    no_proxy as Chef and curl both understand it: whole names and addresses, endings of names, *; not networks.
    """
    asked = [("the repository", site.repository.url)] if site.repository else []
    asked += [("the Chef Server", facts.chef_server)] if site.chef.cookbooks == "server" and facts.chef_server else []
    direct = [word.strip().lower() for word in (facts.no_proxy or "").split(",") if word.strip()]
    for what, url in asked if facts.proxies else ():
        name = (urlsplit(url).hostname or "").lower()
        ends = any(name == word or name.endswith("." + word.lstrip("*.")) or word == "*" for word in direct)
        if name and not ends:
            yield what, name


def on_component(site, session, host, c):
    if c.heartbeat == DOWN:
        return []
    answer = heartbeat.read(site, host, c.name, session.shell)
    if answer.state is None:
        return [Row(FAIL, host.name, answer.why, conform(site, host, site.component(c.name).heartbeat))]
    rows = [Row(WARN, host.name, f"{c.name} hears balancer {node}, which the inventory does not name",
                "name it, or nobody waits for it") for node in balancer.strangers(site, answer)]
    if c.started is None:
        rows.append(Row(FAIL, host.name, f"{c.name}: its start id is not known", "a sanity test could not be tied to a process"))
    return rows


def conform(site, host, h):
    """The command that tries this heartbeat as the inventory has it, or, for one of other words than the contract's, where they
    stand."""
    if h.detail is None and (h.live, h.standby, h.json_key) != (LIVE, STANDBY, None):
        return f"compare what it answers with its heartbeat: in {site.file}"
    by_ssh = h.via == "ssh"         # then nobody but the host may reach it
    url = f"{h.scheme}://{authority('127.0.0.1' if by_ssh else host.address, h.port, h.scheme)}{h.path}"
    more = (f" --host-header {h.host_header}" if h.host_header else "") + (f" --ca-file {h.ca_file}" if h.ca_file else "")
    return (f"on {host.name}: python3 -m heartbeat_kit.conform" if by_ssh else "invoke heartbeat.conform") + f" --url {url}{more}"


def restarts(site, sighted):
    """What a component says after a restart: as the records saw it, else as the inventory says, else that nobody knows.

    :param sighted: records.restarts(...).
    """
    rows = []
    for c in site.components:
        words = [(word, f"seen on {sighted[c.name, word][0]} in run {sighted[c.name, word][1]}") for word in (LIVE, STANDBY)
                 if (c.name, word) in sighted]
        if not words and c.heartbeat.after_restart in RESTARTED:
            words = [(c.heartbeat.after_restart, "the inventory says so")]
        rows += [Row(WARN, f"restart {c.name}", f"{RESTARTED[word][0]} ({why})", RESTARTED[word][1]) for word, why in words]
        if not words and not c.heartbeat.detail and c.heartbeat.after_restart is None:
            rows.append(Row(WARN, f"restart {c.name}", "it has no kit, and what it says after a restart is not known",
                            "try it (invoke heartbeat.conform with --restart), then write after_restart: keep, standby or live"))
    return rows


RESTARTED = {
    LIVE: ("it comes up live: after a crash, a reboot or a Chef run an untested process serves until somebody takes it out (in a "
           "run the next look does)", "let it begin in standby unless a stored word says live: docs/heartbeat.md"),
    STANDBY: ("it loses its word: a live instance that crashes, or whose host reboots, is out of LIVE; after a power cut all are",
              "store the word in a file: docs/heartbeat.md; until then invoke deploy --stack NAME tests it and puts it back"),
}


def pools(site, seen):
    """Every named node must be heard: a silent one would end a run."""
    rows = []
    for which, side in (("LIVE", site.live), ("STANDBY", site.standby)):
        dumb = [(f"{h.name} {c.name}", getattr(c, f"{side.name}_nodes"), c.note) for h in seen.hosts for c in h.components
                if c.heartbeat not in (DOWN, None) and getattr(c, f"{side.name}_pool") is None]
        if dumb:
            why = "; ".join(filter(None, dumb[0][1:]))
            rows.append(Row(FAIL, which, f"not every node is heard by {', '.join(who for who, _, _ in dumb[:6])}"
                            + (f" ({why})" if why else ""),
                            "do the statistics pages in the inventory answer?" if any(node.stats for node in side.nodes) else
                            f"is http-check send-state set on {', '.join(n.name for n in side.nodes)}, and do the hosts know "
                            "their addresses (/etc/bgdeploy/balancers)?"))
        else:
            rows.append(Row(OK, which, f"{len(side.nodes)} nodes; a flip is noticed within {side.detection:g} s", ""))
    return rows


def capacity(site, seen):
    """What the rest would carry while a stack is out, with the requests that are in flight now."""
    rows, usual = [], floor(seen, site.policy)
    for stack in site.stacks:
        away = [h.name for h in stack.hosts]
        live = {c.name for h in seen.stack(stack.name) for c in h.components if c.heartbeat == LIVE}
        lacking = shortfall(seen, site.policy, away, live) if live else []
        rest = serving(seen, away)
        now = in_flight(seen)
        each = ", ".join(f"{name}: {now.get(name, 0)} in flight, {now.get(name, 0) / rest[name]:.1f} each for {rest[name]}"
                         for name in sorted(usual) if rest.get(name))
        rows.append(Row(FAIL, f"without {stack.name}", "; ".join(lacking), "invoke status") if lacking
                    else Row(OK, f"without {stack.name}", each or "nothing serves now: a first deployment", ""))
    return rows


def in_flight(seen):
    """{component: requests in flight on all of its live instances}."""
    found = {}
    for h in seen.hosts:
        for c in h.components:
            if c.heartbeat == LIVE:
                found[c.name] = found.get(c.name, 0) + (c.sessions or 0)
    return found


def database(site, session):
    if not site.database:
        return []
    try:
        open_ones = [m for m in session.migrations.discover() if session.migrations.state(m.name)["state"] != "done"]
    except Trouble as e:
        return [Row(WARN, "database", e.sentence, "migrations cannot run; a deployment does not need it")]
    return [Row(OK, "database", f"migrations to run: {', '.join(m.name for m in open_ones) or 'none'}", "")]
