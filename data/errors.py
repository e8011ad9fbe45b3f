"""The one exception that means "what you gave me is at fault, not the program"."""

from dataclasses import dataclass


class InputError(ValueError):
    """A user's mistake or a damaged input.

    The message is one sentence: which file, what is wrong with it, what to do. The command line
    prints it without a traceback and exits with status 2; batch work puts the item that raised
    it into a quarantine list and goes on.
    """


@dataclass(frozen=True)
class Rejected:
    """An entry of a quarantine list: what was left out, and why."""

    where: str  # `manifest.jsonl:17`, or a recording's id
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"
