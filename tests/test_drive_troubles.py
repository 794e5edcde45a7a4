"""What the drive does where something goes wrong beside the hosts: a file of ours, a claim, a signal at an awkward moment."""

from dataclasses import replace
from types import SimpleNamespace

from bgdeploy import drive as driving, opening
from bgdeploy.drive import Interrupt, drive
from bgdeploy.errors import BadInput, Refused, Unwritable
from bgdeploy.memory import fold
from bgdeploy.model import Goal, Policy
from tests.scenes import dark, deploy, did, steady
from tests.test_drive import Book, OUT, READY, SERVED, Script, TAKEN, TESTED, began, run


def test_4_or_8_a_file_of_ours_that_is_gone_in_the_middle_of_a_run_is_no_bad_call():
    """A password file that is just being renewed, say: 2 would say that nothing was changed, and no end was written."""
    for world, code in ((OUT, 4), (steady(*OUT.stack("green"), dark("blue-1"), dark("blue-2")), 8)):
        end, book, _ = run(deploy(), world, BadInput("the sudo password file /p cannot be read"), events=[TAKEN])
        assert (end.exit_code, end.next, book.kinds()[-1]) == (code, ("invoke resume",), "ended") and "/p cannot" in end.why


def test_4_an_act_that_is_refused_though_it_was_begun():
    """Somebody else claimed the migration between the look and the act."""
    def act(do, seen, attempt):
        raise Refused("orders is carried out by ann", "invoke status")
    world = replace(steady(), migration={"name": "m", "state": "absent"})
    end, book, _ = run(Goal((), "m", (), kind="migrate"), world, act=act)
    assert (end.exit_code, end.why, book.kinds()[-1]) == (4, "orders is carried out by ann", "ended")


def test_8_a_journal_that_cannot_be_written_while_nobody_can_be_asked_either():
    book = Book(began(READY), *TESTED)
    script = Script(book, READY, READY, BadInput("the sudo password file /p cannot be read"))
    book.write = lambda kind, **fields: (_ for _ in ()).throw(Unwritable("j: cannot be written: No space left", "make room"))
    end = drive(deploy(), Policy(), book, script.ports)
    assert (end.exit_code, end.seen) == (8, None) and "No space left" in end.why and "nothing was seen" in end.why


def test_a_signal_that_comes_while_the_act_is_written_down_still_starts_nothing():
    """The disk, the shared store and the lock are asked in between: seconds."""
    interrupt = Interrupt()

    class Slow(Book):
        def write(self, kind, **fields):
            interrupt.wanted = interrupt.wanted or ("SIGTERM" if kind == "doing" else None)
            return super().write(kind, **fields)
    book = Slow(began(READY), *TESTED)
    script = Script(book, READY)
    end = drive(deploy(), Policy(), book, script.ports, interrupt)
    assert end.exit_code == 5 and script.done == []
    assert book.kinds()[-3:] == ["dropped", "interrupted", "ended"], "no report says that it was begun"


def test_nothing_is_done_on_a_look_that_a_silent_lock_made_old(monkeypatch):
    """It takes eight seconds to say nothing; what was to remain may be gone by then."""
    clock, waits = [0.0], [8.0, 0.1]

    def lost():
        clock[0] += waits.pop(0)
    monkeypatch.setattr(driving, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    end, book, script = run(deploy(), READY, READY, READY, READY, SERVED, events=TESTED, lost=lost)
    assert end.exit_code == 0 and not waits and [step for step, _, _ in script.done] == ["live"]
    assert book.kinds()[len(TESTED) + 1:][:3] == ["doing", "dropped", "doing"] and "old" in book.last("dropped")["why"]
    assert {step: n for (step, *_), n in fold(book.events).tries.items()}["live"] == 2, "one dropped, one done"


def test_whom_a_person_takes_out_is_not_fought_though_the_host_was_out_of_reach_when_it_was_first_seen_to_serve():
    unsure = replace(SERVED.host("green-1"), reachable=False, job=None, components=tuple(
        replace(c, started=None) for c in SERVED.host("green-1").components))
    dim, out = steady(unsure, SERVED.host("green-2")), steady(READY.host("green-1"), SERVED.host("green-2"))
    end, _, script = run(deploy(), READY, READY, dim, SERVED, out, events=TESTED)
    assert [step for step, _, _ in script.done] == ["live"] and "someone took green-1 out" in end.why


def test_resume_which_a_ci_job_types_by_itself_does_not_fight_whoever_took_a_host_out():
    book = Book(began(steady()), *TESTED, did("live", "green-1 green-2", READY),
                {"kind": "seen_live", "hosts": {h.name: h.started for h in READY.stack("green")}}, {"kind": "resumed"})
    out = steady(READY.host("green-1"), SERVED.host("green-2"))
    opening.forgive(book, out)
    script = Script(book, out)
    end = drive(deploy(), Policy(), book, script.ports)
    assert script.done == [] and end.next == ("invoke live --stack green --hosts green-1",)
