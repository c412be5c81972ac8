"""User-facing errors: state the rule, then the value, then the way out.

Anything that a user can cause ends in one of these; the command line prints
the message on one line and exits with `exit_code`. Any other exception is a
defect of edgekd and keeps its traceback.
"""

from __future__ import annotations


class EdgekdError(Exception):
    """Base of all errors whose message is written for the user.

    Args:
        rule: what must hold, as a clause without a final period
            (``"`steps >= 1` must hold"``).
        found: the value or state that broke the rule (``"steps=0"``).
        fix: optional way out, as a sentence.

    Attributes:
        from_outside: the machine ended the work, nothing in it is wrong: what was finished is
            kept, and goes on.
    """

    exit_code = 2
    from_outside = False

    def __init__(self, rule: str, found: str, fix: str = "") -> None:
        self.rule = rule
        self.found = found
        self.fix = fix
        text = f"{rule}, but got {found}"
        super().__init__(one_line(f"{text}. {fix}" if fix else text))

    def __reduce__(self) -> tuple[type[EdgekdError], tuple[str, str, str]]:
        """Pickled as what it was made of, so that another process raises the same."""
        return type(self), (self.rule, self.found, self.fix)


class InputError(EdgekdError):
    """Bad usage or input: a recipe, a folder, a file or an option."""


class DiskError(InputError):
    """The disk is full, or takes nothing from this user."""

    from_outside = True


class LostError(EdgekdError):
    """The place where work was under way is gone."""

    exit_code = 1
    from_outside = True


class GateError(EdgekdError):
    """A gate was not passed: parity, quality floor, budget, or a loss that is not finite."""

    exit_code = 3


class MemoryGateError(GateError):
    """The system killed a process for want of memory."""

    from_outside = True


def one_line(text: str) -> str:
    """A text that does not steer a terminal: names and messages of others are in it."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else ascii(letter)[1:-1]
        for letter in text
    )
