"""The campaign's cases: faults x moments of a run, who is hit, how long, and how the case is finished. Pure data.

A moment is named by what the run's journal shows when the fault comes: no sleeps, no guesses.
"""

import random
from dataclasses import dataclass

HOLD = 8.0          # seconds until a fault that mends itself is mended: longer than a node of LIVE takes to notice anything


@dataclass(frozen=True)
class Moment:
    """:param task: what is typed. :param before: tasks typed before, without a fault. :param kind, match, nth: the event of the
    journal at which the fault comes, the nth one of them in this command. :param chef: hosts that are converged.
    :param out: the deployed stack is out of LIVE at that moment. :param output: a text that Chef's output must show first.
    """

    task: str
    kind: str
    match: tuple = ()
    nth: int = 1
    before: tuple = ()
    chef: int = 0
    out: bool = True
    output: str = ""


MOMENTS = {
    "before standby": Moment("standby", "began", out=False),
    "standby": Moment("standby", "doing", (("step", "standby"),), out=False),
    "LIVE lets go": Moment("standby", "waiting", (("wait", "pool"),), out=False),
    "drain": Moment("drain", "waiting", (("wait", "drain"),), before=("long requests", "standby")),
    "sanity": Moment("sanity", "doing", (("step", "sanity"),), before=("standby",)),
    "live": Moment("live", "doing", (("step", "live"),), before=("standby",)),
    "LIVE takes on": Moment("live", "waiting", (("wait", "pool"),), before=("standby",), out=False),
    "back": Moment("back", "doing", (("step", "standby"),), out=False),
    "migrate": Moment("migrate", "doing", (("step", "migrate"),), out=False),
    "STANDBY takes on": Moment("deploy host", "waiting", (("wait", "pool"), ("why", "STANDBY has not yet taken on")), chef=1),
    "converge begins": Moment("deploy host", "doing", (("step", "converge"),), chef=1),
    "in Chef": Moment("deploy host", "waiting", (("wait", "chef"),), chef=1, output="action install"),
    "Chef has ended": Moment("deploy host", "waited", (("wait", "chef"),), chef=1),
    "sanity of a release": Moment("deploy host", "doing", (("step", "sanity"),), chef=1),
    "live of a release": Moment("deploy host", "doing", (("step", "live"),), chef=1),
    "second host": Moment("deploy", "doing", (("step", "converge"),), nth=2, chef=2),
    "soak": Moment("rollout", "waiting", (("wait", "soak"),), chef=4, out=False),
    "second stack": Moment("rollout", "doing", (("step", "standby"),), nth=2, chef=4, out=False),
}
HAND = ("before standby", "standby", "LIVE lets go", "drain", "sanity", "live", "LIVE takes on", "back")
CHEF = ("STANDBY takes on", "converge begins", "in Chef", "Chef has ended", "sanity of a release", "live of a release")


@dataclass(frozen=True)
class Harm:
    """:param fault: a name of lab/faults.py, or kill, stop, term: done to the driver. :param target: a node's or service's name,
    or "deployed" (the first host of the stack that is deployed), "serving" (of the other one), "driver".
    :param lasts: it can be held until the run has ended (else it is over at once). :param traffic: "host" | "node" | "none" |
    "unjudged": what it can do to requests through LIVE.
    """

    fault: str
    target: str
    lasts: bool
    traffic: str
    moments: tuple
    options: tuple = ()


HARMS = (
    Harm("power", "deployed", True, "host", ("standby", "LIVE lets go", "live", "LIVE takes on", "back", "converge begins",
                                             "in Chef", "live of a release")),
    Harm("power", "serving", True, "host", ("before standby", "standby", "LIVE lets go", "drain", "live", "back", "in Chef",
                                            "second host")),
    Harm("partition", "deployed", True, "host", ("before standby", "LIVE lets go", "sanity", "LIVE takes on", "back",
                                                 "in Chef", "Chef has ended")),
    Harm("partition", "serving", True, "host", ("standby", "LIVE lets go", "sanity", "live", "back", "STANDBY takes on")),
    Harm("cut", "deployed", True, "host", ("standby", "drain", "live", "back", "sanity of a release")),
    Harm("cut", "serving", True, "host", ("before standby", "LIVE lets go", "LIVE takes on", "Chef has ended")),
    Harm("hang", "deployed", True, "host", ("before standby", "standby", "LIVE lets go", "live", "LIVE takes on", "in Chef")),
    Harm("hang", "serving", True, "host", ("before standby", "standby", "LIVE lets go", "drain", "sanity", "second host")),
    Harm("slow", "deployed", True, "host", ("before standby", "LIVE lets go", "sanity", "LIVE takes on", "back", "in Chef")),
    Harm("slow", "serving", True, "host", ("standby", "drain", "live")),
    Harm("crash", "deployed", False, "host", ("standby", "LIVE lets go", "sanity", "live", "LIVE takes on", "Chef has ended",
                                              "live of a release")),
    Harm("crash", "serving", False, "host", ("before standby", "standby", "LIVE lets go", "drain", "back", "converge begins",
                                             "second stack")),
    Harm("disk-full", "deployed", True, "none", ("standby", "live", "back", "converge begins", "in Chef"), (("left", "64k"),)),
    Harm("chef-lock", "deployed", True, "none", ("before standby", "LIVE lets go", "converge begins")),
    Harm("flip-refused", "deployed", True, "none", ("before standby", "standby", "live", "back", "live of a release")),
    Harm("dead", "repository", True, "none", ("LIVE lets go", "STANDBY takes on", "converge begins")),
    Harm("drop", "repository", True, "none", ("back", "STANDBY takes on", "in Chef")),
    Harm("dead", "database", True, "unjudged", ("standby", "sanity", "live", "back", "migrate", "sanity of a release")),
    Harm("drop", "database", True, "unjudged", ("LIVE lets go", "sanity", "back", "migrate")),
    Harm("reload", "live-2", False, "node", ("standby", "LIVE lets go", "drain", "LIVE takes on", "back", "Chef has ended")),
    Harm("reload-forget", "live-2", False, "node", ("standby", "LIVE lets go", "drain", "live", "back", "in Chef")),
    Harm("restart", "live-2", False, "node", ("standby", "LIVE lets go", "drain", "LIVE takes on", "back")),
    Harm("gone", "live-2", True, "node", ("before standby", "LIVE lets go", "drain", "live", "LIVE takes on", "back",
                                          "live of a release", "soak")),
    Harm("partition", "live-1", True, "node", ("standby", "LIVE lets go", "LIVE takes on", "back")),
    Harm("restart", "standby-1", False, "none", ("drain", "sanity", "sanity of a release")),
    Harm("gone", "standby-1", True, "none", ("LIVE lets go", "sanity", "live", "back", "STANDBY takes on")),
    Harm("kill", "driver", False, "none", (*HAND, "migrate", "converge begins", "in Chef", "Chef has ended", "second host",
                                           "soak")),
    Harm("stop", "driver", False, "none", ("standby", "LIVE takes on", "in Chef")),
    Harm("term", "driver", False, "none", ("before standby", "standby", "LIVE lets go", "drain", "live", "back", "migrate",
                                           "in Chef")),
)
FINISHES = {"standby": ("resume", "again", "back"), "drain": ("resume", "again", "back"), "sanity": ("resume", "again", "back"),
            "live": ("resume", "again"), "back": ("again", "resume"), "migrate": ("resume", "again"),
            "deploy host": ("resume", "again", "rollback", "back"), "deploy": ("resume", "rollback", "again", "back"),
            "rollout": ("resume", "again")}


@dataclass(frozen=True)
class Case:
    """:param held: the fault lasts until the command has ended; else HOLD seconds, or none. :param finish: what is typed if the
    command did not reach its goal: resume | again | back | rollback. :param turn: 0, 1: which stack is deployed."""

    harm: Harm
    moment: str
    held: bool
    finish: str
    turn: int

    @property
    def name(self):
        return f"{self.harm.fault} {self.harm.target}, {self.moment}" + (", held" if self.held else "")


def matrix():
    """Every case, in the order of the table. Brief and held, finishes and stacks go round, so that each meets each."""
    found, rounds = [], {}
    for harm in HARMS:
        for moment in harm.moments:
            task = MOMENTS[moment].task
            ways = FINISHES[task]
            turn = rounds[task] = rounds.get(task, -1) + 1
            held = harm.lasts and (len(found) % 2 == 0 or harm.target == "live-1")
            found.append(Case(harm, moment, held, ways[turn % len(ways)], (turn // len(ways)) % 2))
    return found


def choose(cases, number, seed):
    """A varied subset: no fault, moment or finish comes again before the others have come, as far as that goes.

    Migrations first: they need every host on the newer version, as a lab begins. Then what needs no Chef, in seconds: a campaign
    that is cut short has most of its cases.
    """
    mixed = list(cases)
    random.Random(seed).shuffle(mixed)
    met, chosen = {}, []
    while mixed and (number is None or len(chosen) < number):
        case = min(mixed, key=lambda c: [sum(met.get(word, 0) for word in words(c)), met.get(c.harm.fault, 0)])
        mixed.remove(case)
        chosen.append(case)
        for word in words(case):
            met[word] = met.get(word, 0) + 1
    return sorted(chosen, key=lambda c: (c.moment != "migrate", MOMENTS[c.moment].chef))


def words(case):
    return (f"fault {case.harm.fault}", f"target {case.harm.target}", f"moment {case.moment}", f"finish {case.finish}")
