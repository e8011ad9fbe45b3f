"""Commands by name: what `parley`, `parley card` and `parley fairness` have in common.

A command is a function of its arguments that returns the exit status. Its module is imported when
it is called for, so that `parley list` answers before JAX could have been imported.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Command(NamedTuple):
    module: str
    """In the zoo."""
    function: str
    summary: str


@dataclass(frozen=True)
class Commands(Mapping[str, Command]):
    """Commands that follow one word.

    Attributes:
      program: what is typed before a command's name, `parley card`.
      purpose: a sentence.
      table: the commands by name, in the order in which help shows them.
      examples: lines of a shell.
    """

    program: str
    purpose: str
    table: Mapping[str, Command]
    examples: str

    def __getitem__(self, name: str) -> Command:
        return self.table[name]

    def __iter__(self):
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def run(self, argv: list[str]) -> int:
        """Runs the command that is named first with the arguments after it.

        Raises:
          InputError: there is no such command.
        """
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(self.usage(), end="", file=sys.stdout if argv else sys.stderr)
            return 0 if argv else 2
        name, *rest = argv
        if name not in self.table:
            from .registry import unknown_name

            raise unknown_name(name, list(self.table), "command", f"{self.program} --help")
        command = self.table[name]
        module = importlib.import_module(f".{command.module}", __package__)
        function: Callable[[list[str]], int] = getattr(module, command.function)
        return function(rest)

    def usage(self) -> str:
        width = max(map(len, self.table))
        lines = "\n".join(f"  {n:<{width}} {command.summary}" for n, command in self.table.items())
        examples = "\n".join(f"  {line}" for line in self.examples.strip().splitlines())
        return (
            f"usage: {self.program} COMMAND ...\n\n{self.purpose}\n\ncommands:\n{lines}\n\n"
            f"examples:\n{examples}\n\n"
            f"Each command explains itself: {self.program} COMMAND --help\n"
        )
