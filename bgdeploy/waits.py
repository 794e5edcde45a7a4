"""The waits that several rungs share, and what each becomes at its limit. Pure; part of the rules."""

from bgdeploy.model import DOWN, Ask, Stop, Wait
from bgdeploy.sentences import doubt, ids, names, pools


def patience(q, want, silent):
    """Wait for hosts that are not known, as long as the policy says; past that, None."""
    waiting = [h for h in silent if q.now < q.memory.silent.get(h.name, q.now) + q.policy.limits.host]
    if waiting:
        since = min(q.memory.silent.get(h.name, q.now) for h in waiting)
        return Wait("host", want.stack, ids(waiting), since, since + q.policy.limits.host,
                    "no answer yet from " + "; ".join(doubt(h) for h in waiting))
    return None


def trouble(q, want, bad):
    """Something failed: a person decides where the site wants that and the run has begun; else it stops."""
    why, hosts = "; ".join(bad.values()), tuple(bad)
    if q.policy.on_failure == "ask" and q.memory.acted:
        return Ask("failure", want.stack, hosts, ("retry", "exclude", "stop"), why)
    return Stop(why, f"invoke resume | invoke deploy --stack {want.stack} --version VERSION | "
                     f"invoke rollback --stack {want.stack} | invoke back --stack {want.stack}", hosts)


def pool(q, want, hosts, balancer, verb):
    """Wait for a balancer, LIVE or STANDBY, to have let go of hosts or taken them on; at the limit a Stop that names who is late.

    :param verb: "let go of" or "taken on".
    """
    since = q.memory.waits.get(("pool", want.stack), q.now)
    until = since + q.policy.limits.pool
    seen = pools(hosts, balancer, late=q.now - since > q.policy.detection)
    if q.now < until:
        return Wait("pool", want.stack, ids(hosts), since, until,
                    f"{balancer} has not yet {verb} {names(hosts)}: {seen}")
    late = [(c.live_pool if balancer == "LIVE" else c.standby_pool, c.note) for h in hosts for c in h.components
            if not c.sick and c.heartbeat != DOWN]
    hint = ""
    if any(word is None and not note for word, note in late):       # a note says itself why nothing is heard
        hint = "; is http-check send-state set there, and its address in the host's file of balancers?"
    elif verb == "let go of" and all(word is not None for word, _ in late):
        hint = "; is its check a substring?" if balancer == "LIVE" else ""
    return Stop(f"{balancer} has not {verb} {names(hosts)} within {q.policy.limits.pool:g} s: {seen}{hint}",
                f"invoke live --stack {want.stack}" if verb == "let go of" else "invoke status", ids(hosts))
