"""The verbs of bgdeploy. `invoke --list` shows one line each, `invoke --help TASK` all of it.

Nothing is positional and nothing is required by Invoke: what is missing is named by us, with exit code 2.
"""

import os
import signal
import sys

from invoke import Collection, Executor, task
from invoke.parser.parser import ParseMachine

BASE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, BASE)


def early(*_):
    """A signal while all of bgdeploy is being loaded, which takes up to a second."""
    try:
        os.write(2, b"interrupted before anything was begun\n")
    finally:
        os._exit(5)


for _number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(_number, early)

from bgdeploy import verbs, verbs_beside, verbs_records  # noqa: E402  (the project is importable from wherever invoke was typed)


def printed(kind, fault, trace):
    """Invoke prints --list and --help itself, and leaves a traceback where nobody reads them to the end (`| head`)."""
    if issubclass(kind, BrokenPipeError):
        os._exit(141)       # as any program that SIGPIPE ends
    sys.__excepthook__(kind, fault, trace)


sys.excepthook = printed
ENV = {"env": "inventory: inventories/NAME.yml (default: BGDEPLOY_ENV, or lab)",
       "json": "one JSON document on stdout, talk on stderr"}
STACK = {"stack": "name of the stack", "hosts": "only these hosts of it: a,b"}
RUN = {**ENV, "reason": "why, for journal and report (a ticket)", "wait": "wait for an automatic lock instead of refusing",
       "no_input": "never ask; a question ends with 7",
       "floor": "least proved-live instances of each component, for this run (recorded, ends with 6)",
       "exclude": "leave these hosts out: a,b (needs --reason)", "override_hours": "REASON to begin in closed hours (recorded)"}
YES = {"yes": "do not ask for confirmation (inventory: confirm: true)"}
VERSIONS = {"version": "2.0.0 for all, or web=2.0.0,api=1.4.1; left out: the newest that may be deployed",
            "component": "only these components change their version", "older": "insist on a version older than what serves"}
TEXTS = ["stack", "hosts", "version", "component", "first", "name", "reason", "floor", "override_hours", "untested", "env",
         "run", "choice", "last", "format", "iteration", "description", "url", "token_file", "restart", "seconds", "rate",
         "fault", "target", "exclude", "option"]


# `--reason rollback` is a reason, though it is a command's name as well: Invoke would call it ambiguous, and end with 1.
ParseMachine.check_ambiguity = lambda machine, value: False
# `status back --stack green status` looks twice: Invoke would leave out, in silence, what it has done already.
Executor.dedupe = lambda executor, calls: calls


def verb(**options):
    """A task without positional arguments and without short flags (-h is help). An option that lacks its value reaches us as
    True, so that the sentence and the exit code are ours."""
    return task(positional=[], auto_shortflags=False, optional=TEXTS, **options)


@verb(help={**STACK, **VERSIONS, **RUN, **YES})
def deploy(c, stack=None, hosts=None, version=None, component=None, older=False, env=None, json=False, reason=None, wait=False,
           no_input=False, floor=None, exclude=None, override_hours=None, yes=False):
    """Steps 1-4 on one stack: standby, converge, sanity, live."""
    verbs.act("deploy", **typed(locals()))


@verb(help={"first": "the stack to begin with", "migrate": "run the database migration at the end (step 6)",
            **VERSIONS, **RUN, **YES})
def rollout(c, first=None, version=None, component=None, migrate=False, older=False, env=None, json=False, reason=None,
            wait=False, no_input=False, floor=None, exclude=None, override_hours=None, yes=False):
    """Deploy on each stack in turn (step 5); step 6 if asked."""
    verbs.act("rollout", **typed(locals()))


@verb(help={**STACK, **RUN})
def standby(c, stack=None, hosts=None, env=None, json=False, reason=None, wait=False, no_input=False, floor=None, exclude=None,
            override_hours=None):
    """Step 1 by hand: flip to standby, see that LIVE lets go."""
    verbs.act("standby", **typed(locals()))


@verb(help={**STACK, **RUN})
def drain(c, stack=None, hosts=None, env=None, json=False, reason=None, wait=False, no_input=False, floor=None, exclude=None,
          override_hours=None):
    """Step 2a by hand: wait for requests in flight."""
    verbs.act("drain", **typed(locals()))


@verb(help={**STACK, **VERSIONS, **RUN, "why_run": "let Chef say what it would do, on hosts as they are; nothing is changed"})
def converge(c, stack=None, hosts=None, version=None, component=None, older=False, env=None, json=False, reason=None, wait=False,
             no_input=False, floor=None, exclude=None, override_hours=None, why_run=False):
    """Step 2b by hand: chef-client on hosts out of LIVE."""
    verbs.act("converge", **typed(locals()))


@verb(help={**STACK, **RUN})
def sanity(c, stack=None, hosts=None, env=None, json=False, reason=None, wait=False, no_input=False, floor=None, exclude=None,
           override_hours=None):
    """Step 3 by hand: the site's test, through STANDBY."""
    verbs.act("sanity", **typed(locals()))


@verb(help={**STACK, **RUN, "untested": "REASON to go live without sanity (recorded, ends with 6)"})
def live(c, stack=None, hosts=None, untested=None, env=None, json=False, reason=None, wait=False, no_input=False, floor=None,
         exclude=None, override_hours=None):
    """Step 4 by hand: flip to live, see that LIVE takes it on."""
    verbs.act("live", **typed(locals()))


@verb(help={"name": "the migration (default: the only one that is not done)",
            "list": "show what there is to do, and do nothing", **RUN, **YES})
def migrate(c, name=None, list=False, env=None, json=False, reason=None, wait=False, no_input=False, floor=None, exclude=None,
            override_hours=None, yes=False):
    """Step 6: the database, once all stacks run what it needs."""
    verbs.act("migrate", **typed(locals()))


@verb(help={"stack": "plan a deploy of this stack (left out: a rollout)", "hosts": STACK["hosts"],
            "first": "the stack to begin with", "exit_code": "end with 10 when there is something to do",
            "floor": RUN["floor"], **VERSIONS, **ENV})
def plan(c, stack=None, hosts=None, first=None, version=None, component=None, older=False, floor=None, exit_code=False,
         env=None, json=False):
    """What deploy or rollout would do now; changes nothing."""
    verbs.plan(**typed(locals()))


@verb(help=ENV)
def check(c, env=None, json=False):
    """Preflight of what a deployment needs; changes nothing."""
    verbs.check(**typed(locals()))


@verb(help=ENV)
def status(c, env=None, json=False):
    """Show what is really there, with a verdict for each stack."""
    verbs.status(**typed(locals()))


@verb(help={"stack": "the stack to take out of LIVE again", **RUN})
def back(c, stack=None, env=None, json=False, reason=None, wait=False, no_input=False, floor=None, exclude=None,
         override_hours=None):
    """Flip only, in seconds: take a stack out of LIVE again."""
    verbs.act("back", **typed(locals()))


@verb(help={"stack": "only this stack (left out: all)",
            "version": "where to (left out: what it served before, by the records)", **RUN, **YES})
def rollback(c, stack=None, version=None, env=None, json=False, reason=None, wait=False, no_input=False, floor=None, exclude=None,
             override_hours=None, yes=False):
    """Deploy the version that served before."""
    verbs.act("rollback", **typed(locals()))


@verb(help=RUN)
def resume(c, env=None, json=False, reason=None, wait=False, no_input=False, floor=None, exclude=None, override_hours=None):
    """Carry on the open run where it stands."""
    verbs.act("resume", **typed(locals()))


@verb(help={"run": "the run that asked (default: the open one)",
            "choice": "approve|stop, retry|exclude|stop, proceed|stop, repeat|done|stop", "reason": RUN["reason"], **ENV})
def answer(c, run=None, choice=None, reason=None, env=None, json=False):
    """Answer what a run asked; `resume` goes on."""
    verbs_records.answer(**typed(locals()))


@verb(help={"reason": "why", **ENV})
def hold(c, reason=None, env=None, json=False):
    """Freeze: no run begins until unhold."""
    verbs_records.hold(**typed(locals()))


@verb(help=ENV)
def unhold(c, env=None, json=False):
    """End a freeze."""
    verbs_records.unhold(**typed(locals()))


@verb(help=ENV)
def unlock(c, env=None, json=False):
    """Remove a lock that nobody holds any more."""
    verbs_records.unlock(**typed(locals()))


@verb(help={"last": "how many runs (default 20)", **ENV})
def history(c, last=None, env=None, json=False):
    """Show what was done, by whom, with what result."""
    verbs_records.history(**typed(locals()))


@verb(help={"run": "the run (default: the last)", "format": "html|md|json|junit (default md)", **ENV})
def report(c, run=None, format=None, env=None, json=False):
    """Print the report of a run."""
    verbs_records.report(**typed(locals()))


@verb(help={"component": "which", "version": "2.0.0, or with its release 2.0.0-2", "iteration": "the release (default 1)",
            "description": "packaging file (default: lab/apps/COMPONENT.yml in the lab, packaging/COMPONENT.yml elsewhere)",
            **ENV})
def publish(c, component=None, version=None, iteration=None, description=None, env=None, json=False):
    """Build an RPM and publish it, signed (what CI calls)."""
    verbs_beside.publish(**typed(locals()))


@verb(help={"component": "which", "keep": "how many of the newest stay in any case (default 5)", **ENV})
def prune(c, component=None, keep=None, env=None, json=False):
    """Take versions out of the repository that nothing needs."""
    verbs_beside.prune(**typed(locals()))


@verb(name="check", help=ENV)
def inventory_check(c, env=None, json=False):
    """Say all that is wrong with an inventory, if anything is."""
    verbs_beside.inventory_check(**typed(locals()))


@verb(help={"url": "http://HOST:PORT/heartbeat", "token_file": "file with the flip token",
            "restart": "command that restarts the app", "slow": "a path of the app that takes seconds",
            "serving": "flip it although a balancer looks at it", "level": "basic (usual) or full: what must be kept",
            "ca_file": "authority of its certificate, for https", "host_header": "Host that it wants, and the certificate's name",
            **ENV})
def conform(c, url=None, token_file=None, restart=None, slow=None, serving=False, level=None, ca_file=None, host_header=None,
            env=None, json=False):
    """Try the heartbeat contract on a running instance."""
    verbs_beside.conform(**typed(locals()))


@verb(help={"jenkins": "and a Jenkins for this machine's browser, whose builds deploy to it", **ENV})
def up(c, jenkins=False, env=None, json=False):
    """Bring the data centre on this machine up."""
    verbs_beside.lab("up", **typed(locals()))


@verb(help=ENV)
def down(c, env=None, json=False):
    """Take it away, with every process, mount and namespace."""
    verbs_beside.lab("down", **typed(locals()))


@verb(name="status", help=ENV)
def lab_status(c, env=None, json=False):
    """Show the lab's hosts, balancers, repository and database."""
    verbs_beside.lab("status", **typed(locals()))


@verb(help={"seconds": "how long (default 10)", "rate": "requests a second (default 100)", **ENV})
def load(c, seconds=None, rate=None, env=None, json=False):
    """Send a bounded load to LIVE and print what came back."""
    verbs_beside.lab("load", **typed(locals()))


@verb(name="break", help={"fault": "what (left out: shows all)", "target": "host, node or service",
                          "option": "name=value,name=value", **ENV})
def break_(c, fault=None, target=None, option=None, env=None, json=False):
    """Do harm to the lab, to see what a deployment makes of it."""
    verbs_beside.lab("break", **typed(locals()))


@verb(help={"fault": "which (left out: all)", "target": "where", **ENV})
def mend(c, fault=None, target=None, env=None, json=False):
    """Undo what lab.break did."""
    verbs_beside.lab("mend", **typed(locals()))


def typed(words):
    """A task's options; and under `astray` what Invoke took for itself, though it was meant for the task."""
    astray = "--" if "--" in sys.argv else "--dry" if words["c"].config.run.dry else None
    return {**{name: value for name, value in words.items() if name != "c"}, **({"astray": astray} if astray else {})}


ns = Collection(deploy, rollout, standby, drain, converge, sanity, live, migrate, plan, check, status, back, rollback, resume,
                answer, hold, unhold, unlock, history, report, publish, prune)
ns.add_collection(Collection("inventory", inventory_check))
ns.add_collection(Collection("heartbeat", conform))
ns.add_collection(Collection("lab", up, down, lab_status, load, break_, mend))
