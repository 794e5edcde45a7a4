"""Tasks beside a deployment: publish a package, judge an inventory, try a heartbeat, the lab. None acts on a site's hosts."""

import os

from bgdeploy import call, inventory, pruning, soundness
from bgdeploy.errors import BadInput, Refused
from bgdeploy.outside import packages
from bgdeploy.verbs import BASE, open_site, opened, verb

PLACE = "the name of a host, node or service"
RESERVED = ("site", "fault", "target", "say", "do", "running", "verb")      # what the lab calls its own words


@verb
def publish(console, component=None, version=None, iteration=None, description=None, env=None, json=False):
    site = inventory.load(call.env(env, BASE), BASE)
    file = call.path(description, "--description")
    # a package that the inventory has no component for: its description has to be named, bgdeploy-host's is the project's own
    other = component is not None and (file or component == packages.HELPER)
    name = call.word(component, "--component", "a package's name") if other else call.component(component, site)
    wanted, release = call.version(version), call.word(iteration, "--iteration", "the package's release, such as 1")
    done = packages.publish(site, name, wanted, iteration=release, description_file=file, say=console.line)
    console.line(f"{done.name} {done.full} " + ("is published" if done.new else "was published already, with the same content"))
    if json:
        console.document({"component": done.name, "version": done.full, "file": done.file, "new": done.new})
    return 0


@verb
def prune(console, component=None, keep=None, env=None, json=False):
    site = inventory.load(call.env(env, BASE), BASE)
    name, most = call.component(component, site), call.whole(keep, "--keep", 1)
    chosen = site.component(name)
    if chosen is None:
        raise BadInput(f"there is no component {name} in {site.file}")
    site = open_site(env)
    with opened(site, console) as session:
        lease = session.store.take({"run": "prune", "task": "prune"}).keep()      # nobody may begin to want a version meanwhile
        try:
            needed, why = pruning.used(site, session.look(), [events for _, events in session.runs()], name)
            if needed is None:
                console.line(f"{name}: nothing is pruned: {why}")
            gone = () if needed is None else packages.prune(site, chosen.package, needed, keep=most or 5, say=console.line)
        finally:
            lease.release()
    if gone:
        console.line(f"{name}: {', '.join(gone)} removed from the repository; kept because needed: {', '.join(sorted(needed))}")
    if json:
        console.document({"component": name, "removed": list(gone), "needed": sorted(needed or ()), "why": why})
    return 0


@verb
def inventory_check(console, env=None, json=False):
    name = call.env(env, BASE)
    found = inventory.problems(os.path.join(BASE, "inventories", f"{name}.yml"), BASE)
    for sentence in found:
        console.line(sentence)
    if json:
        console.document({"env": name, "problems": list(found)})
    if not found:
        for sentence in soundness.warnings(inventory.load(name, BASE)):
            console.line(f"think of it: {sentence}")
        console.line(f"inventories/{name}.yml is right")
    return 2 if found else 0


@verb
def conform(console, url=None, token_file=None, restart=None, slow=None, serving=False, level=None, ca_file=None,
            host_header=None, env=None, json=False):
    from heartbeat_kit import conform as trial
    where, token, command = call.url(url), call.path(token_file, "--token-file"), call.word(restart, "--restart", "a command")
    wanted = call.choice(level, (trial.BASIC, trial.FULL), "--level") if level is not None else trial.BASIC
    more = {"slow": call.word(slow, "--slow", "a path of the application such as /slow"), "serving": serving,
            "ca_file": call.path(ca_file, "--ca-file"), "host": call.word(host_header, "--host-header", "a host name")}
    name = call.env(env, BASE)
    site = inventory.load(name, BASE)
    if site.lab is not None:
        try:
            open_site(env)
        except Refused:
            pass        # the instance need not be the lab's
    try:
        report = trial.conform(where, token_file=token, restart=command, **more)
    except ValueError as e:
        raise BadInput(f"heartbeat.conform: {e}") from None
    console.text(trial.table(report))
    if json:
        console.document(trial.document(report))
    return 3 if trial.missed(report, wanted) else 0


@verb
def lab(console, what, env=None, json=False, seconds=None, rate=None, fault=None, target=None, option=None, jenkins=False):
    from lab import lab as data_centre
    site = inventory.load(call.env(env, BASE), BASE)
    if site.lab is None:
        raise BadInput(f"{site.file}: kind is not lab, so there is nothing to bring up or down")
    if fault is not None:
        fault = call.choice(fault, tuple(name for name, *_ in data_centre.faults.catalogue()), "--fault")
    if what == "load":
        found = data_centre.load(site, call.seconds(seconds, "--seconds", 1) or 10, call.whole(rate, "--rate", 1, 5000) or 100,
                                 console.line)
    elif what == "break":
        if fault is None:
            console.text(data_centre.fault_list())
            if json:
                console.document({"faults": [dict(zip(("name", "target", "does", "options"), fault))
                                             for fault in data_centre.faults.catalogue()]})
            return 0
        found = data_centre.break_(site, fault, call.word(target, "--target", PLACE), console.line,
                                   **call.pairs(option, "--option", RESERVED))
    elif what == "mend":
        found = data_centre.mend(site, fault, call.word(target, "--target", PLACE), console.line)
    elif what == "up":
        found = data_centre.up(site, console.line, jenkins)
    else:
        found = {"down": data_centre.down, "status": data_centre.status}[what](site, console.line)
        found = {"name": site.name, "up": found is not None, **(found or {})} if what == "status" else found
    if json and found is not None:      # else the sentence is the document's `why`
        console.document(found)
    return 0
