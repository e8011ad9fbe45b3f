"""The calibrator that a model's folder may hold, as `calibration.json`.

It belongs to the weights beside it: a folder that is written anew by training has none.
"""

import datetime
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.errors import InputError
from ..data.files import replace_file
from ..metrics.calibration import Calibrator, fit_calibrator

if TYPE_CHECKING:
    from .evaluation import Evaluation

CALIBRATION = "calibration.json"
_FEWEST = 20
"""Wrong words, and right ones, that a calibrator is fitted to: ten for each of its numbers."""


def read_calibrator(folder: Path) -> Calibrator | None:
    """The folder's calibrator; None where it has none. Raises InputError for a damaged file."""
    path = Path(folder) / CALIBRATION
    try:
        record = json.loads(path.read_bytes())
        calibrator = Calibrator(float(record["slope"]), float(record["intercept"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise _damaged(path) from None
    if not (calibrator.slope > 0 and math.isfinite(calibrator.slope + calibrator.intercept)):
        raise _damaged(path)
    return calibrator


def write_calibrator(
    folder: Path, calibrator: Calibrator, evaluation: "Evaluation", by: str
) -> Path:
    """Writes `calibration.json`, with what it was fitted to and `by` which command."""
    path = Path(folder) / CALIBRATION
    fitted = evaluation.confidence
    record = {
        "slope": round(calibrator.slope, 4),
        "intercept": round(calibrator.intercept, 4),
        "words": fitted.words,
        "right": fitted.right,
        "command": by,
        "date": datetime.date.today().isoformat(),
    }
    replace_file(path, json.dumps(record, indent=1) + "\n")
    return path


def calibrator_for(evaluation: "Evaluation") -> Calibrator:
    """Fits a calibrator to the words of an evaluation, whose confidences must be raw.

    Raises:
      InputError: too few words are right or wrong, or the surer ones are not the better ones.
    """
    confidences, right = evaluation.judged()
    n_right = sum(right)
    n_wrong = len(right) - n_right
    if min(n_right, n_wrong) < _FEWEST:
        raise InputError(
            f"{n_right:,} words are right and {n_wrong:,} wrong, and a calibrator needs {_FEWEST} "
            "of each: give a larger or a harder corpus."
        )
    calibrator = fit_calibrator(confidences, right)
    if calibrator.slope <= 0:
        raise InputError(
            "the words that the model is surest of are not the ones it has right: no calibrator "
            "can repair that; train the model further, or look at the corpus."
        )
    return calibrator


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path} is damaged: delete it, or make it again with parley evaluate --calibrate."
    )
