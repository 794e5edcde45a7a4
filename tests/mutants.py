"""Faults that the tests must find: each changes one place of the rules, the loop, the fold, the journal or the plan.

A mutant that survives is a hole: widen the generator of tests/simulate.py, or add the unit test. test_mutants.py applies them.
"""

from dataclasses import dataclass

TRIALS, HANDS = "trials", "hands"       # judges: arbitrary trials of a run; of steps by hand. Else a test, as pytest names it
DECIDE, HOLDS, DRIVE, MEMORY = ("tests/test_decide.py", "tests/test_decide_holds.py", "tests/test_drive.py",
                                "tests/test_memory.py")
VOIDS = f"{MEMORY}::test_a_converge_voids_what_was_known_of_the_host"
KEPT = "tests/test_plan.py::test_the_printed_plan_is_the_one_that_is_kept"


@dataclass(frozen=True)
class Mutant:
    """:param law: what it breaks, in words. :param judge: the cheapest that must find it."""

    name: str
    file: str
    old: str
    new: str
    law: str
    judge: str = TRIALS


MUTANTS = (
    # ---- the ladder
    Mutant("no-interlock", "decide.py", "    if lacking:\n        lacking += ", "    if False:\n        lacking += ",
           "an act never lowers a component below its floor"),
    Mutant("interlock-of-the-other-components", "decide.py", "if c.heartbeat == LIVE and c.name not in loose(h, q.memory)}",
           "if c.heartbeat != LIVE and c.name not in loose(h, q.memory)}", "the floor is asked of the components that leave"),
    Mutant("leaving-hosts-count", "decide.py", "    away = {h.name for h in leaving} | {h.name for h in q.seen.hosts",
           "    away = {h.name for h in q.seen.hosts", "who leaves does not serve any more"),
    Mutant("half-out-is-out", "prove.py", "    return bool(host.components) and all(idle(c) for c in host.components)",
           "    return any(idle(c) for c in host.components)", "a host of which anything is live is not out of LIVE",
           f"{HOLDS}::TestStepsByHand"),
    Mutant("no-wait-for-live-to-let-go", "decide.py", "    if held:\n", "    if False:\n",
           "a host out of LIVE is waited for until every node has let go", f"{DECIDE}::TestStandby"),
    Mutant("no-sanity", "decide.py", "    if fresh:\n", "    if False:\n", "what was converged is tested",
           f"{DECIDE}::TestSanityAndLive"),
    Mutant("live-untested", "decide.py", "        if not may_serve(h, want.release, q.memory):", "        if False:",
           "no process of our converge goes live untested", f"{HOLDS}::TestStepsByHand"),
    Mutant("strays-stay", "decide.py", "stray(q) or preflight(q) or rescue(q), None", "preflight(q) or rescue(q), None",
           "no process of our converge stays live untested"),
    Mutant("no-wait-for-live-to-take-on", "decide.py",
           '    return pool(q, want, joining, "LIVE", "taken on") if joining else None\n\n\nRUNGS',
           "    return None\n\n\nRUNGS", "a stack is live when every node of LIVE sends to it"),
    Mutant("all-at-once", "decide.py", "    room = (q.policy.parallel if proved else 1) - len(working)", "    room = len(ready)",
           "one host first, then as many as may run at a time", f"{DECIDE}::TestConverge"),
    Mutant("running-ones-do-not-count", "decide.py", "(q.policy.parallel if proved else 1) - len(working)",
           "(q.policy.parallel if proved else 1)", "running Chef runs count over the whole stack", f"{DECIDE}::TestConverge"),
    Mutant("failures-do-not-stop", "decide.py", "    if len(bad) > q.policy.max_failed or len(bad) == len(hosts):",
           "    if False:",
           "more failures than allowed end the run", f"{DECIDE}::TestConverge"),
    Mutant("no-drain", "decide.py", '("drain", drain), ', "", "requests in flight are waited for"),
    Mutant("drain-of-the-unmeasured-never-ends", "prove.py", 'return "unmeasured" if now >= since + policy.unmeasured else None',
           "return None", "every wait has an end"),
    Mutant("fight-whoever-took-it-out", "decide.py", "step = unknown(q, want, wave) or somebody(q, want, wave)",
           "step = unknown(q, want, wave)", "a change made by hand is respected", f"{DECIDE}::TestSanityAndLive"),
    Mutant("rescue-what-was-touched", "prove.py", "not worked_on(host, memory) and memory.taken.get(host.name) == host.started",
           "memory.taken.get(host.name) is not None", "rescue and back return only what served before"),
    Mutant("no-rescue", "decide.py", "    if not lacking or q.memory.short_since is None or", "    if True or",
           "a shortfall is mended first",
           f"{HOLDS}::TestRescue"),
    Mutant("preflight-of-the-first-wave", "decide.py", "stray(q) or preflight(q) or rescue(q)", "stray(q) or rescue(q)",
           "nothing begins while a wanted host is unknown", f"{DECIDE}::TestUnknown"),
    Mutant("migrate-while-mixed", "decide.py", "if c and (c.release is None or versions.compare(c.release, least) < 0):",
           "if c and c.release is None:", "no migration while mixed", f"{HOLDS}::TestMigrate"),
    Mutant("migrate-in-the-dark", "decide.py", "    if dark:\n", "    if False:\n", "unknown is never new enough",
           f"{HOLDS}::TestMigrate"),
    Mutant("migrate-again-unasked", "decide.py", 'not marker.get("repeatable") and choice != "repeat":', "False:",
           "a migration found begun is a person's question", f"{HOLDS}::TestMigrate"),
    Mutant("by-hand-does-the-rest", "decide.py", "    if q.goal.only in (None, name) or not isinstance(step, Do):",
           "    if True:",
           "a step by hand never does another step", HANDS),
    Mutant("back-over-a-failed-host", "decide.py", "if hasty and h.name not in away and unsound(h)}", "if False}",
           "back relies on nobody whose Chef run goes on or failed", f"{HOLDS}::TestBack"),
    Mutant("back-puts-the-unsound-live", "decide.py", "sound = [h for h in hosts if known(h) and not unsound(h)]",
           "sound = list(hosts)",
           "back puts nobody live whose last converge failed", f"{HOLDS}::TestBack"),
    # ---- what holds it
    Mutant("gates-open", "holds.py", "    if step.step in q.policy.gates and", "    if False and", "a gate waits for a person"),
    Mutant("stack-gate-opens-at-resume", "decide.py", "any(h.name in q.memory.lived for h",
           "any(h.name in q.memory.released for h",
           "a gate between stacks outlives a resume", f"{HOLDS}::TestGates"),
    Mutant("hours-hold-nothing", "holds.py", "    if hours and not q.memory.acted:", "    if False:",
           "no run begins in closed hours",
           f"{HOLDS}::TestClosedHours"),
    Mutant("no-patience", "holds.py", "        if same >= q.policy.tries or alike >= 3 * q.policy.tries:", "        if False:",
           "no act is repeated for ever", f"{HOLDS}::TestPatience"),
    # ---- what counts as proved
    Mutant("one-node-is-enough", "prove.py", "all(c.live_pool == NO for c in host.components",
           "any(c.live_pool == NO for c in host.components",
           "every component and node has let go", f"{DECIDE}::TestStandby"),
    Mutant("half-live-hosts-stay", "decide.py", "        return not may_serve(h, R, q.memory)\n", "        return False\n",
           "every run can be finished: a half live host is tested whole", f"{DECIDE}::TestSanityAndLive"),
    Mutant("the-interlock-ends-it", "decide.py",
           "        if may_wait(q, step):\n            step, refused = None, refused or step",
           "        if False:\n            pass", "every run can be finished: what is out first", f"{DECIDE}::TestStandby"),
    Mutant("unknown-pool-is-let-go", "prove.py", "all(c.live_pool == NO for c", 'all(c.live_pool in (NO, None, "moving") for c',
           "unknown is never a yes", f"{DECIDE}::TestStandby"),
    Mutant("serves-by-its-own-word", "model.py", "return self.heartbeat == LIVE and self.live_pool == YES and not self.sick",
           "return self.heartbeat == LIVE and not self.sick", "who serves is proved by every node of LIVE",
           f"{DECIDE}::TestStandby"),
    Mutant("sane-whatever-process", "prove.py",
           "return host.started is not None and (host.name, release.id, host.started) in memory.sane",
           "return any(name == host.name for name, _, _ in memory.sane)", "evidence is of exactly the process that goes live",
           f"{DECIDE}::TestSanityAndLive"),
    Mutant("chefs-word-is-enough", "prove.py", "    if not runs(host, release):\n        return False\n", "",
           "the running process decides, never Chef's word alone"),
    Mutant("old-cookbooks-are-fine", "prove.py", 'return host.job.release == release.id and host.job.state == "ok"',
           "return True",
           "converged means that the last job was for this release and ended ok", f"{DECIDE}::TestAsWanted"),
    Mutant("one-quiet-look", "prove.py", 'return "drained" if now - memory.quiet.get(host.name, now) >= QUIET else None',
           'return "drained"', "two looks a second apart count 0", f"{DECIDE}::TestDrain"),
    Mutant("uncounted-load-is-none", "prove.py", "        if uncounted:\n", "        if False:\n", "unknown load is not no load",
           f"{DECIDE}::TestStandby"),
    # ---- the loop
    Mutant("no-second-look", "drive.py", "    both = agreed(step, second)\n", "    both = step\n", "look again before each act"),
    Mutant("act-without-the-lock", "drive.py", "    gone = ports.lost()\n", "    gone = None\n",
           "a driver that lost its lock stops",
           f"{DRIVE}::TestTheLock"),
    Mutant("act-first-write-later", "drive.py", "        memory = remember(memory, journal.write(kind, **fields))",
           "        memory = memory if kind == 'doing' else remember(memory, journal.write(kind, **fields))",
           "an act is on disk before it is done", "tests/test_journal.py"),
    Mutant("converges-share-a-number", "drive.py", "    attempt = 1 + max(", "    attempt = 1 + 0 * max(",
           "each converge has a number of its own", f"{DRIVE}::TestActing"),
    Mutant("interrupted-and-acting", "drive.py", "    if interrupt.wanted:\n        return None\n", "",
           "after a signal nothing new is started", f"{DRIVE}::TestInterruption"),
    Mutant("eight-is-four", "drive.py", "    if short and memory.acted and code in (4, 7):", "    if False:",
           "8 when the floor is not proved", f"{DRIVE}::TestExitCodes"),
    Mutant("silent-waits", "drive.py", "    elif now - waiting.said >= SAY_EVERY:", "    elif False:",
           "a line at least once a minute",
           f"{DRIVE}::TestWaits"),
    Mutant("every-drain-is-over", "drive.py", "{name: end for name, end in ends.items() if end}",
           '{name: end or "drained" for name, end in ends.items()}', "a question is no answer: an interrupted drain goes on",
           f"{DRIVE}::TestWaits"),
    Mutant("back-asks-the-hooks", "drive.py", '    quietly = step.rescue or goal.kind == "back"', "    quietly = False",
           "no hook holds back or rescue", f"{DRIVE}::TestHooks"),
    # ---- the fold
    Mutant("converge-keeps-evidence", "memory.py", "sane=frozenset(s for s in m.sane if s[0] not in hosts),\n", "",
           "whatever touches a host voids what was known of it", VOIDS),
    Mutant("converge-is-forgotten", "memory.py", "jobs={**{h: started.get(h) for h in hosts}, **m.jobs}, ", "",
           "what this run touched is remembered", VOIDS),
    Mutant("waits-restart", "memory.py", '    return replace(m, waits={(e["wait"], e["stack"]): e["at"], **m.waits})',
           '    return replace(m, waits={**m.waits, (e["wait"], e["stack"]): e["at"]})', "a wait's limit runs from its start",
           f"{MEMORY}::test_a_wait_runs_from_its_first_event_until_an_act_on_its_stack"),
    Mutant("tries-uncounted", "memory.py", "        tries[key] = tries.get(key, 0) + 1", "        pass", "every act is counted",
           f"{MEMORY}::test_dropped_and_begun_acts_are_tries_by_process"),
    Mutant("all-of-it-served", "memory.py", ' and h in (e.get("served") or ())', "", "only what served counts as untouched",
           f"{MEMORY}::test_standby_remembers_how_it_ran_of_those_that_served"),
    Mutant("resume-makes-converges-anew", "memory.py", 'spent={**m.spent, **{h: n - 1',
           'converges={**m.converges, **{h: 1 + 0 * n',
           "forgiven converges keep their numbers",
           f"{MEMORY}::test_forgiving_gives_another_try_and_keeps_count_of_the_converges"),
    # ---- journal and plan
    Mutant("torn-line-joins-the-next", "journal.py", '            os.write(self._file, b"\\n")\n', "            pass\n",
           "a torn line tears no later event", "tests/test_journal.py"),
    Mutant("no-fsync", "journal.py", "            os.fsync(self._file)\n        except OSError", "        except OSError",
           "on disk before anybody is told", "tests/test_journal.py"),
    Mutant("plan-forgets-to-remember", "plan.py", "            memory = remember(memory, event)", "            pass",
           "the run does exactly its plan", KEPT),
    Mutant("plan-puts-nobody-live", "plan.py", "    if step.step in (LIVE, STANDBY):", "    if step.step in (STANDBY,):",
           "the run does exactly its plan", KEPT),
)
