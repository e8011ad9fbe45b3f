"""A cohort as an input of the encoder: one vector c for the whole utterance, beside every frame.

What is appended to a frame x is projected back to the frame's width, so that every family of
encoders takes it: [x; c] [I; W] = x + c W. A first layer that is linear in [x; c] is of this form.
W is 0 at the beginning: a model that did not know cohorts, and gets this input, is what it was.

The unknown cohort is c = 0, and frames stay as they are. Whoever says nothing of cohorts gets it.

Source: Dheram et al. 2022, "Toward Fairness in Speech Recognition", arXiv 2207.11345, where c in
R^2 is appended to every acoustic frame.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from .layers import dropout


@dataclasses.dataclass(frozen=True)
class CohortConfig:
    """What the encoder is told of the speaker's cohort.

    Attributes:
      kind: onehot: a unit vector for each cohort; posterior: probabilities of the cohorts, as the
        metadata have them; learned: probabilities or unit vector times a table that is learned.
      column: of the metadata: the cohort's name, or for posteriors a list with a number for each.
      values: names of the cohorts, in the order of their numbers. Any other one is unknown.
      width: of a learned vector.
      dropout: share of training's utterances whose cohort is taken for unknown.
    """

    kind: Literal["off", "onehot", "posterior", "learned"] = "off"
    column: str = "cohort_group"
    values: tuple[str, ...] = ("bottom", "middle", "top")
    width: int = 2
    dropout: float = 0.15


class DefaultCohort(nnx.Variable):
    """The row that is taken where none comes with the audio: no trained parameter."""


class CohortInput(nnx.Module):
    """Adds what is known of the cohort to features.

    Attributes:
      default: [K], the cohort of all rows for which none is given; zeros, unknown, until someone
        sets another one: then the same programs, streams too, run for that cohort.
    """

    def __init__(self, config: CohortConfig, size: int, *, rngs: nnx.Rngs):
        """`size`: width of a frame."""
        count = len(config.values)
        self.config = config
        learned = config.kind == "learned"
        draw = nnx.initializers.normal(1.0)
        self.table = nnx.Param(draw(rngs.params(), (count, config.width))) if learned else None
        width = config.width if learned else count
        self.projection = nnx.Param(jnp.zeros((width, size)))
        self.default = DefaultCohort(jnp.zeros(count))

    def __call__(
        self, x: jax.Array, cohort: jax.Array | None = None, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Features [B, T, D] and cohorts [B, K], zeros where unknown -> [B, T, D].

        key: given in training, to forget some of the cohorts.
        """
        if cohort is None:
            cohort = self.default[...][None, :]
        elif key is not None:
            known = jnp.ones((cohort.shape[0], 1), cohort.dtype)
            # Zeros and ones: what is kept is not scaled up.
            kept = dropout(known, self.config.dropout, key) > 0.0
            cohort = jnp.where(kept, cohort, 0.0)
        c = cohort if self.table is None else cohort @ self.table[...]
        return x + (c @ self.projection[...]).astype(x.dtype)[:, None, :]
