"""The transducer losses: from logits, from the parts of a joint, and their common lattice."""

from .lattice import lattice_loss
from .rnnt import rnnt_loss
from .transducer import default_chunk, transducer_loss

__all__ = ["default_chunk", "lattice_loss", "rnnt_loss", "transducer_loss"]
