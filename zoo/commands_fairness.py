"""`parley fairness`: discover, mitigate and report, each in a module of its own."""

import importlib
import sys
from collections.abc import Callable

from .cli import Command

COMMANDS = {
    "discover": Command("commands_discover", "discover_command", "groups that are served worst"),
    "assign": Command("commands_assign", "assign_command", "a corpus's speakers to cohorts"),
    "units": Command("commands_assign", "units_command", "a table of areas, for discover"),
    "pseudo-label": Command(
        "commands_pseudo_label", "pseudo_label_command", "a teacher's confident transcripts"
    ),
    "mitigate": Command("commands_mitigate", "mitigate_command", "train a model to serve them"),
    "report": Command("commands_fairness_report", "report_command", "what is known, on one page"),
}
_EXAMPLES = """examples:
  parley fairness discover rnnt-tiny --data "assistant?speakers=3000&utterances=12&seed=11" \\
    --split train --by regions --min-region-words 3000 --out regions
  parley fairness assign regions --data "assistant?speakers=1000&seed=12" --split train \\
    --out assigned.json
  parley fairness mitigate ewc rnnt-tiny --run-dir runs/repaired \\
    --data.train "assistant?speakers=1000&seed=12&cohorts=assigned.json&cohort_group=bottom"
  parley fairness report before.jsonl after.jsonl --cohorts regions --out report.html
"""


def fairness_command(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage(), end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    name, *rest = argv
    if name not in COMMANDS:
        from .registry import unknown_name

        raise unknown_name(name, list(COMMANDS), "command", "parley fairness --help")
    command = COMMANDS[name]
    module = importlib.import_module(f".{command.module}", __package__)
    function: Callable[[list[str]], int] = getattr(module, command.function)
    return function(rest)


def _usage() -> str:
    lines = "\n".join(f"  {name:<13} {command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: parley fairness COMMAND ...\n\nFinds the speakers whom a recogniser serves badly, "
        f"and repairs it.\n\ncommands:\n{lines}\n\n{_EXAMPLES}\n"
        "Each command explains itself: parley fairness COMMAND --help\n"
    )
