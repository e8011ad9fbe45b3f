"""`parley fairness mitigate`."""

import shlex
import sys

from ..data.errors import InputError
from .commands_train import is_given, override, run_training
from .registry import folder_of, unknown_name

_USAGE = """usage: parley fairness mitigate METHOD MODEL --data.train CORPUS [--run-dir DIR]
       [--resume] [any recipe field by its path]

Trains a model on, so that it serves speakers better whom it serves badly, and writes a new model's
folder. MODEL is a name that `parley list` shows, or a model's folder; its recipe is kept but for
what the method changes. A run that was stopped goes on with --resume and the same options.

methods:
{methods}

--data.train names the badly served speakers, for oversample and cohort-input everybody (by default
what the model was trained on). ewc measures the Fisher information on what the model was trained
on, or on --adapt.fisher.data.

examples:
  parley fairness mitigate ewc rnnt-tiny --data.train "assistant?accent=scotland"
  parley fairness mitigate ewc rnnt-tiny --data.train "assistant?accent=scotland" \\
    --adapt.weight 1 --adapt.parts encoder --run-dir runs/scotland
  parley fairness mitigate oversample rnnt-tiny --data.train assistant \\
    --data.oversample accent=scotland,caribbean:4
  parley fairness mitigate cohort-input rnnt-tiny --data.train assistant \\
    --model.cohort.column accent --model.cohort.values us scotland caribbean

All fields and their values: parley fairness mitigate METHOD MODEL --help
"""


def mitigate_command(argv: list[str]) -> int:
    from ..fairness.mitigation import METHODS, mitigation

    if len(argv) < 2 or argv[0].startswith("-") or argv[1].startswith("-"):
        wants_help = bool({"-h", "--help"} & set(argv))
        lines = "\n".join(f"  {name:<17} {method.summary}" for name, method in METHODS.items())
        print(_USAGE.format(methods=lines), file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    name, start, *rest = argv
    if name not in METHODS:
        raise unknown_name(name, list(METHODS), "method", "parley fairness mitigate --help")
    from .package import read_recipe

    recipe = mitigation(read_recipe(folder_of(start)), name, start)
    wants_help = bool({"-h", "--help"} & set(rest))
    if METHODS[name].adapts and not (is_given("--data.train", rest) or wants_help):
        raise InputError(
            f"{name} trains on the speakers who are served badly: name them by --data.train, for "
            'example --data.train "assistant?accent=scotland".'
        )
    prog = f"parley fairness mitigate {name} {start}"
    said = shlex.join(
        ["parley", "fairness", "mitigate", *(word for word in argv if word != "--resume")]
    )
    return run_training(override(recipe, rest, prog), said)
