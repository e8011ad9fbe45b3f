"""What an amortized encoder spends: which gates are open, on speech and between, over a corpus.

    usage = measure_usage(read_model(folder), open_corpus("assistant", "test"))
    print(usage.ratio, usage.speech_ratio)

Ratios are multiply-adds against those of the dense encoder, arbitrators included, as
`models.cost.gated_cost` counts them; frames of all recordings are pooled, padding does not count.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..data.corpus import Corpus
from ..data.errors import InputError
from ..data.loader import evaluation_batches
from ..models.centred_frontend import CentredFrontendConfig, spectrogram
from ..models.cost import GatedCost, gated_cost
from ..models.encoders.amortized import AmortizedConfig, AmortizedEncoder
from ..models.frontend import FrontendConfig, append_tail
from ..train.recipe import Recipe
from .package import ModelPackage

QUIET, LOUD, BETWEEN = 5.0, 95.0, 0.4
"""A frame holds speech where its level is over `BETWEEN` of the way from the quiet percentile of
its recording to the loud one."""


class Gates(NamedTuple):
    """Of one recording, by frame.

    Attributes:
      open: [T, blocks, 2] bool: attention and feed-forward of each block.
      probability: [T, blocks, 2], what they were decided by.
      level: [T], mean of the log-mel energies.
      frame_s: seconds of a frame.
    """

    open: np.ndarray
    probability: np.ndarray
    level: np.ndarray
    frame_s: float

    @property
    def speech(self) -> np.ndarray:
        """[T] bool, by its level alone: an estimate, good where noise is well below speech."""
        quiet, loud = np.percentile(self.level, (QUIET, LOUD))
        return self.level > quiet + BETWEEN * (loud - quiet)


@dataclass(frozen=True)
class Usage:
    """Pooled over a corpus.

    Attributes:
      frames, speech_frames: how many there were, the silence that ends a recording included.
      rates, speech_rates: [blocks, 2], share of all frames, and of those with speech, for which a
        gate is open.
      of_utterances: ratio of each recording.
      cost: what the parts cost.
      theta: probability above which the gates were open.
    """

    frames: int
    speech_frames: int
    rates: np.ndarray
    speech_rates: np.ndarray
    of_utterances: np.ndarray
    cost: GatedCost
    theta: float = 0.5

    @property
    def between_rates(self) -> np.ndarray:
        """[blocks, 2], of the frames without speech."""
        rest = self.rates * self.frames - self.speech_rates * self.speech_frames
        return rest / max(self.frames - self.speech_frames, 1)

    @property
    def ratio(self) -> float:
        """The encoder's share of the dense one's multiply-adds."""
        return float(self.cost.ratio(self.rates))

    @property
    def speech_ratio(self) -> float:
        """The same, of the frames with speech alone."""
        return float(self.cost.ratio(self.speech_rates))

    @property
    def model_ratio(self) -> float:
        """Of the whole model, with front end, prediction network and joint."""
        return float(self.cost.model_ratio(self.rates))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ratios and rates to four digits."""
        return {
            "ratio": round(self.ratio, 4),
            "speech_ratio": round(self.speech_ratio, 4),
            "model_ratio": round(self.model_ratio, 4),
            "theta": self.theta,
            "dense": self.cost.dense,
            "frames": self.frames,
            "speech": round(self.speech_frames / self.frames, 4),
            "rates": np.round(self.rates, 4).tolist(),
            "speech_rates": np.round(self.speech_rates, 4).tolist(),
            "utterances": np.round(
                np.percentile(self.of_utterances, (5, 25, 50, 75, 95)), 4
            ).tolist(),
        }


def has_gates(recipe: Recipe) -> bool:
    return isinstance(recipe.model.encoder, AmortizedConfig)


def gates_of(package: ModelPackage, samples: np.ndarray) -> Gates:
    """The gates of one recording, int16 [N].

    Raises InputError where the model has none.
    """
    require_gates(package)
    padded = np.zeros((1, -(-len(samples) // 16_000) * 16_000), np.int16)
    padded[0, : len(samples)] = samples
    found = _gates(package.graphdef, (package.params, package.frozen), padded, [len(samples)])
    return next(_rows(found, package.model().frame_s))


def measure_usage(
    package: ModelPackage,
    corpus: Corpus,
    *,
    on_audio: Callable[[float], None] | None = None,
) -> Usage:
    """Runs the encoder over a corpus and counts. `on_audio(seconds)` is told of progress.

    Raises InputError where the model has no gates or the corpus no recording that can be read.
    """
    require_gates(package)
    encoder = package.recipe.model.encoder
    assert isinstance(encoder, AmortizedConfig)
    cost = gated_cost(package.recipe.model)
    variables = jax.device_put((package.params, package.frozen))
    frame_s = package.model().frame_s
    counts, of_utterances = np.zeros(2, int), []
    open_, open_in_speech = 0.0, 0.0
    for batch in evaluation_batches(corpus):
        lengths = batch["sample_lengths"]
        found = _gates(package.graphdef, variables, batch["samples"], lengths)
        for row, gates in enumerate(_rows(found, frame_s)):
            if batch["index"][row] < 0 or not len(gates.open):
                continue
            speech = gates.speech
            counts += (len(speech), int(speech.sum()))
            open_ = open_ + gates.open.sum(axis=0)
            open_in_speech = open_in_speech + gates.open[speech].sum(axis=0)
            of_utterances.append(float(cost.ratio(gates.open.mean(axis=0))))
        if on_audio is not None:
            on_audio(float(lengths.sum()) / 16_000)
    if not of_utterances:
        raise InputError(f"{corpus.name} has no recording that can be read.")
    frames, speech_frames = (int(n) for n in counts)
    return Usage(
        frames,
        speech_frames,
        np.asarray(open_) / frames,
        np.asarray(open_in_speech) / max(speech_frames, 1),
        np.asarray(of_utterances),
        cost,
        encoder.theta,
    )


def require_gates(package: ModelPackage) -> None:
    """Raises InputError where the model has no gates."""
    if not has_gates(package.recipe):
        raise InputError(
            f"{package.recipe.name} has no gates: name an amortized model, see `parley list`."
        )


def _rows(found: Any, frame_s: float) -> Iterator[Gates]:
    """Of each row of a batch, its frames."""
    open_, probability, level, lengths = jax.device_get(found)
    for row, n in enumerate(lengths):
        yield Gates(open_[row, :n], probability[row, :n], level[row, :n], frame_s)


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def _gates(graphdef: Any, variables: Any, samples: Any, lengths: Any) -> Any:
    """Open gates [B, T, blocks, 2], their probabilities, levels [B, T], and lengths [B]."""
    model = nnx.merge(graphdef, *variables)
    encoder, config = model.encoder, model.config.frontend
    assert isinstance(encoder, AmortizedEncoder)
    samples, lengths = append_tail(samples, jnp.asarray(lengths), config)
    x, frames = model.features(samples, lengths)
    _, frames, gates, logits = encoder.masked_with_logits(x, frames)
    level = _levels(samples, config, encoder.stride)[:, : gates.shape[1]]
    return gates > 0, jax.nn.sigmoid(logits), level, frames


def _levels(
    samples: jax.Array, config: FrontendConfig | CentredFrontendConfig, stride: int
) -> jax.Array:
    """Mean log-mel energy of each encoder frame [B, T]."""
    levels = spectrogram(samples, config).mean(axis=2)
    each = stride * config.stack
    whole = levels.shape[1] // each * each
    return levels[:, :whole].reshape(levels.shape[0], -1, each).mean(axis=2)
