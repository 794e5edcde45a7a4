"""How bgdeploy says that something is wrong: one sentence, the command that helps, an exit code.

Trouble
    BadInput      2  the call, the inventory or the configuration; nothing was contacted or changed
    Refused       3  before the first act
    Failed        4  a step failed
      Unwritable     the journal cannot be written; before the first act 3
    NoAnswer      4  an outside system did not answer, or its answer was lost: nobody knows what happened

Refusals that the rules foresee are data (`model.Stop`, `model.Ask`), not exceptions.
"""


class Trouble(Exception):
    """Something a person has to know.

    :param sentence: what was expected, what was seen, where (host, file and line); one sentence.
    :param next_command: what to type to get on, or None.
    """

    exit_code = 1

    def __init__(self, sentence, next_command=None):
        super().__init__(sentence)
        self.sentence = sentence
        self.next_command = next_command


class BadInput(Trouble):
    """The caller's words or files are wrong; nothing was contacted."""

    exit_code = 2


class Refused(Trouble):
    """Refused before the first act."""

    exit_code = 3


class Failed(Trouble):
    """An act was tried, answered, and failed."""

    exit_code = 4


class Unwritable(Failed):
    """A record could not be put on the disk; what it was to announce is not done."""


class NoAnswer(Trouble):
    """No answer, or it was lost: neither done nor failed. Only another look can tell."""

    exit_code = 4
