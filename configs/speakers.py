"""Speaker models: who speaks, from a second or two of it.

    parley train speaker-tiny            # 980 synthetic speakers; two CPU cores
    parley train speaker-tiny-pw         # the same, adversarially reweighted
    parley train ecapa-512 --data.train voxceleb:VoxCeleb2 ...    # accelerators

`speaker-tiny` is an ECAPA-TDNN of a million parameters at 40 ms a frame: on a CPU, its matrices
are then large enough to be fast. The named sizes are their papers', for VoxCeleb.

Results: docs/results/speakers.md, and the models' cards.
"""

import dataclasses

from ..data.augment import AugmentConfig
from ..data.speaker_batches import SpeakerDataConfig
from ..models.frontend import FrontendConfig
from ..models.speakers.ecapa import EcapaConfig
from ..models.speakers.network import SpeakerConfig
from ..models.speakers.resnet import ResNetConfig
from ..train.recipe import OptimizerConfig
from ..train.speakers.recipe import AdversaryConfig, SpeakerLossConfig, SpeakerRecipe


def _front(bins: int, stack: int = 1) -> FrontendConfig:
    # Neither a running mean nor a tail: the recording is whole.
    return FrontendConfig(bins=bins, stack=stack, mean_tau_s=0.0, tail_s=0.0)


TINY = SpeakerConfig(
    EcapaConfig(width=192, scale=4, squeeze=64, aggregated=384, attention=64, output=128),
    _front(64, stack=4),
)

SPEAKER_TINY = SpeakerRecipe(
    name="speaker-tiny",
    description="ECAPA-TDNN of a million parameters that tells synthetic speakers apart.",
    model=TINY,
    data=SpeakerDataConfig(
        train="assistant?speakers=980&utterances=20",
        dev="assistant",
        speakers=32,
        crop_s=1.5,
    ),
    augment=AugmentConfig(
        speed=(1.0,),
        noise_probability=0.5,
        noise_snr_db=(5.0, 25.0),
        freq_masks=1,
        freq_width=6,
        time_masks=0,
    ),
    loss=SpeakerLossConfig(kind="both"),
    optimizer=OptimizerConfig(peak_lr=4e-3, warmup_steps=100, ema=0.995),
    steps=1_000,
    eval_every=250,
    checkpoint_every=250,
    checkpoints_kept=1,
)

_VOXCELEB = SpeakerRecipe(
    name="ecapa-512",
    description="ECAPA-TDNN with 512 channels, the paper's size, for VoxCeleb.",
    model=SpeakerConfig(EcapaConfig(width=512), _front(80)),
    data=SpeakerDataConfig(
        train="voxceleb:VoxCeleb2",
        train_split="dev",
        dev="voxceleb:VoxCeleb1",
        dev_split="test",
        speakers=200,
        workers=16,
        prefetch=16,
        cache_gb=0.0,
    ),
    augment=AugmentConfig(
        speed=(1.0,), noise_probability=0.6, noise_snr_db=(0.0, 20.0), freq_masks=1, time_masks=1
    ),
    loss=SpeakerLossConfig(kind="both"),
    optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=2_000, weight_decay=2e-5),
    precision="bfloat16",
    steps=150_000,
    eval_every=5_000,
    eval_utterances=2_000,
    checkpoint_every=2_000,
)

PRESETS = {
    recipe.name: recipe
    for recipe in (
        SPEAKER_TINY,
        dataclasses.replace(
            SPEAKER_TINY,
            name="speaker-tiny-pw",
            description="speaker-tiny, its pairs reweighted by an adversary (PW).",
            adversary=AdversaryConfig(kind="pairs"),
        ),
        dataclasses.replace(
            _VOXCELEB,
            name="speaker-resnet34",
            description="ResNet34 with squeeze-excitation and attentive pooling, for VoxCeleb.",
            model=SpeakerConfig(ResNetConfig(), _front(64)),
        ),
        _VOXCELEB,
        dataclasses.replace(
            _VOXCELEB,
            name="ecapa-1024",
            description="ECAPA-TDNN with 1024 channels, the paper's larger size, for VoxCeleb.",
            model=SpeakerConfig(EcapaConfig(width=1024), _front(80)),
        ),
    )
}
