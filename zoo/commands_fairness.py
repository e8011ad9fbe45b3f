"""`parley fairness`: discover, mitigate and report, each in a module of its own."""

from .commands import Command, Commands

_TABLE = {
    "discover": Command("commands_discover", "discover_command", "groups that are served worst"),
    "assign": Command("commands_assign", "assign_command", "a corpus's speakers to cohorts"),
    "units": Command("commands_assign", "units_command", "a table of areas, for discover"),
    "pseudo-label": Command(
        "commands_pseudo_label", "pseudo_label_command", "a teacher's confident transcripts"
    ),
    "mitigate": Command("commands_mitigate", "mitigate_command", "train a model to serve them"),
    "report": Command("commands_fairness_report", "report_command", "what is known, on one page"),
}
_EXAMPLES = """
parley fairness discover rnnt-tiny --data "assistant?speakers=3000&utterances=12&seed=11" \\
  --split train --by regions --min-region-words 3000 --out regions
parley fairness assign regions --data "assistant?speakers=1000&seed=12" --split train \\
  --out assigned.json
parley fairness mitigate ewc rnnt-tiny --run-dir runs/repaired \\
  --data.train "assistant?speakers=1000&seed=12&cohorts=assigned.json&cohort_group=bottom"
parley fairness report before.jsonl after.jsonl --cohorts regions --out report.html
"""
COMMANDS = Commands(
    "parley fairness",
    "Finds the speakers whom a recogniser serves badly, and repairs it.",
    _TABLE,
    _EXAMPLES,
)


def fairness_command(argv: list[str]) -> int:
    return COMMANDS.run(argv)
