"""Training with channels and turn markers: its loss, its start, its errors, its collapse."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parley.data.conversations import ConversationConfig, ConversationCorpus
from parley.data.errors import InputError
from parley.data.loader import make_loader
from parley.data.tokenizer import MARKERS, Tokenizer, TokenizerConfig
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.encoders.separator import SeparatorConfig
from parley.models.frontend import append_tail
from parley.train.experiment import Condition
from parley.train.loop import train
from parley.train.losses import rnnt_loss
from parley.train.losses.turns import activity_loss, marker_penalties
from parley.train.recipe import LossConfig, TurnLossConfig
from parley.train.sharding import make_mesh
from parley.train.start import Start, initial_state
from parley.train.step import build_model, ctc_loss, losses, split_model
from parley.train.validation import Validation
from tones import ToneCorpus, recipe

ENCODER = SeparatorConfig(width=16, mixture=1, separation=1, recognition=1, output=16)
LOSS = LossConfig(
    fastemit=0.01,
    fastemit_after=2,
    turns=TurnLossConfig(late=3.3, late_after=2, activity=0.1, early=0.5, start_of_turn=True),
)


def conversations(draws: int = 60, seed: int = 0, high: int = 3) -> ConversationCorpus:
    config = ConversationConfig(high=high, seconds=6.0, rooms=0.0, draws=draws, seed=seed)
    return ConversationCorpus(ToneCorpus(), config)


def sts(**changes: Any):
    made = recipe(
        tokenizer=TokenizerConfig(kind="char", markers="turns"),
        loss=LOSS,
        data=dataclasses.replace(recipe().data, batch_seconds=40.0, max_seconds=6.0, buckets=1),
    )
    model = dataclasses.replace(made.model, encoder=changes.pop("encoder", ENCODER))
    return dataclasses.replace(made, model=model, **changes)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [u.text for u in ToneCorpus().items]
    return Tokenizer.train(texts, kind="char").with_markers(MARKERS["turns"])


@pytest.fixture(scope="module")
def batch(tokenizer: Tokenizer) -> dict[str, Any]:
    loader = make_loader(conversations(), tokenizer, sts().data, seed=0, channels=2)
    loaded = {k: v[:3] for k, v in loader.load(0).items()}
    loader.close()
    return loaded


@pytest.mark.slow
def test_the_loss_is_the_sum_of_the_channels(batch, tokenizer):
    """Against the loss from logits, the penalties and the activity put together by hand."""
    made = sts()
    model = dataclasses.replace(made.model, vocab_size=tokenizer.vocab_size)
    augment = dataclasses.replace(made.augment, freq_masks=0, time_masks=0)
    made = dataclasses.replace(made, model=model, augment=augment)
    built = build_model(made)
    key = jax.random.key(0)
    total, parts = jax.jit(lambda b: losses(built, b, key, made, 5))(batch)

    rows = batch["labels"].shape[0] * 2
    x, lengths = built.features(
        *append_tail(batch["samples"], batch["sample_lengths"], model.frontend)
    )
    found = built.encoder.separate(x, lengths)  # pyright: ignore[reportAttributeAccessIssue]
    labels = jnp.asarray(batch["labels"].reshape(rows, -1))
    units = jnp.asarray(batch["label_lengths"].reshape(rows))
    logits = built.joint(found.encoded[:, :, None], built.predict(labels)[:, None])
    times = jnp.asarray(batch["label_times"].reshape(rows, -1))
    late = marker_penalties(LOSS.turns, times, logits.shape[1], built.frame_s, 5)
    assert float(late.max()) > 1.0
    transducer = rnnt_loss(
        logits, labels, found.lengths, units, fastemit=0.01, label_penalties=late
    )
    spans = jnp.asarray(batch["turn_spans"].reshape(rows, -1, 2))
    frame_s = model.frontend.step / 16_000
    activity = activity_loss(found.activity, spans, jnp.repeat(lengths, 2), frame_s)
    ctc = ctc_loss(built.ctc_logits(found.encoded), labels, found.lengths, units)
    sums = [float(part.reshape(-1, 2).sum(1).mean()) for part in (transducer, activity, ctc)]
    np.testing.assert_allclose(parts["transducer"], sums[0], rtol=1e-4)
    np.testing.assert_allclose(parts["activity"], sums[1], rtol=1e-4)
    expected = sums[0] + LOSS.turns.activity * sums[1] + LOSS.ctc_weight * sums[2]
    np.testing.assert_allclose(total, expected, rtol=1e-4)


@pytest.mark.slow
def test_a_run_from_a_single_talkers_weights(tmp_path, tokenizer):
    """It begins with them in the first tokens and layers, trains, and ends with a model."""
    plain = dataclasses.replace(
        recipe().model,
        encoder=LSTMEncoderConfig(width=16, layers=3, output=16, norm=True),
        vocab_size=tokenizer.vocab_size - 2,
    )
    single = recipe(model=plain)
    texts = [u.text for u in ToneCorpus().items]
    start = Start(*split_model(build_model(single))[1:], Tokenizer.train(texts, kind="char"))
    made = sts(steps=4, eval_every=2, checkpoint_every=4)
    sized = dataclasses.replace(
        made, model=dataclasses.replace(made.model, vocab_size=tokenizer.vocab_size)
    )
    _, state, _ = initial_state(
        sized, make_mesh(made.mesh), optax.sgd(1e-2), conversations(), start
    )
    kernel = np.asarray(state.params["joiner"]["output"]["kernel"])
    np.testing.assert_array_equal(kernel[:, :-2], start.params["joiner"]["output"]["kernel"])
    assert np.abs(kernel[:, -2:]).max() > 0
    layers = state.params["encoder"]["layers"]
    for i in layers:
        np.testing.assert_array_equal(
            layers[i]["kernel"], start.params["encoder"]["layers"][i]["kernel"]
        )
    result = train(
        made, tmp_path / "run", corpus=conversations(), dev=conversations(8, 1), start=start
    )
    assert result.tokenizer.markers == tokenizer.markers
    assert result.wer is not None
    records = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("activity" in record for record in records)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": TokenizerConfig(kind="char")}, "--tokenizer.markers turns"),
        ({"encoder": dataclasses.replace(ENCODER, channels=1)}, "--loss.turns.activity"),
        ({"loss": dataclasses.replace(LOSS, pruned_range=4)}, "--loss.pruned-range"),
    ],
)
def test_losses_that_do_not_fit_the_model_are_refused(tmp_path, changes, message):
    made = sts(**changes)
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, simple=True))
    with pytest.raises(InputError, match=message):
        train(made, tmp_path / "run", corpus=conversations(), dev=conversations(8, 1))


def test_a_model_for_turns_wants_conversations(tokenizer):
    with pytest.raises(InputError, match=r"has no turns.*turns=1-4"):
        make_loader(ToneCorpus(), tokenizer, sts().data, seed=0, channels=2)


class Silent(Validation):
    """The judgement alone, without a model."""

    def __init__(self, silent: bool):
        self.silent, self._best = silent, 1.0


def test_a_collapse_stops_the_run():
    spoken = Silent(False)
    spoken.require_speech(0.3, 500, 10_000)
    spoken.silent = True
    with pytest.raises(InputError, match=r"step 600: .*says nothing.*30 % word errors"):
        spoken.require_speech(1.0, 600, 10_000)
    with pytest.raises(InputError, match="never said anything"):
        Silent(True).require_speech(1.0, 5_000, 10_000)
    # Silence is how most models begin.
    Silent(True).require_speech(1.0, 900, 10_000)
    Silent(True).require_speech(1.0, 900, 1_000)


def test_conversations_are_scored_under_the_better_order_of_channels():
    from parley.train.validation import _fewest

    assert _fewest(["a b", "c"], ["c", "a b"]).total == 0
    errors = _fewest(["a b", "c"], ["c d", "a"])
    assert (errors.deletions, errors.insertions, errors.words) == (1, 1, 3)


def test_conditions_of_the_experiment_are_what_they_say():
    from parley.configs.experiments import experiments

    for part in experiments()["sts"].parts:
        assert [c.name for c in part.conditions][:2] == ["0 % overlap", "10 % overlap"]
        for condition in part.conditions:
            assert f"overlap={condition.name.split()[0]}&" in condition.data
        assert all(isinstance(c, Condition) for c in part.conditions)
