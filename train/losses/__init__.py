"""The transducer losses: from logits, from the parts of a joint, and their common lattice."""

from .arcs import alignment_window
from .lattice import lattice_loss
from .pruned import (
    PrunedLoss,
    pruned_loss,
    pruned_transducer_loss,
    pruning_window,
)
from .rnnt import rnnt_loss
from .simple import simple_loss
from .tdt import tdt_loss, tdt_transducer_loss
from .transducer import default_chunk, transducer_arcs, transducer_loss

__all__ = [
    "PrunedLoss",
    "alignment_window",
    "default_chunk",
    "lattice_loss",
    "pruned_loss",
    "pruned_transducer_loss",
    "pruning_window",
    "rnnt_loss",
    "simple_loss",
    "tdt_loss",
    "tdt_transducer_loss",
    "transducer_arcs",
    "transducer_loss",
]
