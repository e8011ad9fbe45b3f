"""`parley inspect`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..data.errors import InputError
from .arguments import parse
from .console import audio_progress, remark, stdout, table
from .evaluation_plot import check_plot_path
from .registry import folder_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ..data.turns import Turn
    from .package import ModelPackage
    from .usage import Usage


@dataclass(frozen=True)
class InspectArguments:
    """A picture of what a model does with a recording: its spectrogram, the words where they are
    emitted and, of an amortized model, which parts of the encoder ran for which frames. Or, with
    --data, how often each part runs over a corpus, on speech and between.

    Of a model that hears turns: the sound, the turns on each channel and, of a corpus's
    conversation, those of the reference and how late ends were told.

    * parley inspect rnnt-tiny recording.wav --out words.png
    * parley inspect runs/amortized-tt-tiny recording.wav --out gates.png
    * parley inspect runs/amortized-tt-tiny --data assistant --out usage.png
    * parley inspect runs/amortized-tt-tiny --data assistant --theta 0.7 --json
    * parley inspect sts-tiny meeting.wav --out meeting.png
    * parley inspect sts-tiny --data "assistant?turns=4&overlap=20" --item 3 --out turns.png
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    file: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[FILE]")] = None
    """A recording of at most half a minute."""
    data: Annotated[str | None, tyro.conf.arg(metavar="CORPUS")] = None
    """A corpus as `parley evaluate` takes it: usage of an amortized model, or a conversation."""
    item: int = 0
    """Which conversation of the corpus to draw."""
    split: str = "test"
    """Of an embedded corpus or LibriSpeech."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The picture: .png, .svg or .pdf."""
    theta: float | None = None
    """Probability above which gates open; by default as the model was trained."""
    json: bool = False
    """Print JSON instead of tables."""


def inspect_command(argv: list[str]) -> int:
    given = parse(InspectArguments, argv, "parley inspect")
    if (given.file is None) == (given.data is None):
        raise InputError("name a recording, or a corpus with --data; not both.")
    if given.out is not None:
        check_plot_path(given.out)
    elif given.file is not None:
        raise InputError("say where to draw the recording, for example --out gates.png.")
    from ..models.transducer import channels_of
    from .package import read_model

    package = read_model(folder_of(given.model))
    if given.theta is not None:
        package = package.with_theta(given.theta)
    if given.file is not None:
        _recording(given, package, given.file)
    elif package.tokenizer.markers or channels_of(package.recipe.model) > 1:
        _conversation_of(given, package)
    else:
        _corpus(given, package)
    if given.out is not None:
        remark(f"the picture is in {given.out}")
    return 0


def _recording(given: InspectArguments, package: "ModelPackage", file: Path) -> None:
    import jax.numpy as jnp
    import numpy as np

    from ..data.audio import SAMPLE_RATE, read_audio
    from ..models.centred_frontend import spectrogram
    from .inspect_plot import write_gates
    from .packing import BUCKET_SECONDS
    from .recognizer import Recognizer
    from .transcriber import Transcriber
    from .usage import gates_of, has_gates

    samples = read_audio(file)
    if package.tokenizer.markers:
        _conversation(given, package, samples, (), f"{package.recipe.name}: {file.name}")
        return
    if len(samples) > BUCKET_SECONDS[-1] * SAMPLE_RATE:
        raise InputError(f"{file} is longer than half a minute: cut out what is to be seen.")
    model = Transcriber(package.recipe.name, package.folder, Recognizer(package))
    transcript = model.transcribe(samples)
    gates = gates_of(package, samples) if has_gates(package.recipe) else None
    frontend = package.recipe.model.frontend
    title, shown = f"{package.recipe.name}: {file.name}", {"text": transcript.text}
    if gates is not None:
        from ..models.cost import gated_cost

        ratio = float(gated_cost(package.recipe.model).ratio(gates.open.mean(axis=0)))
        title += f", {100 * ratio:.0f} % of the dense encoder's computation"
        shown |= {
            "ratio": round(ratio, 4),
            "frame_s": gates.frame_s,
            "gates": gates.open.astype(int).tolist(),
        }
    assert given.out is not None
    mels = np.asarray(spectrogram(jnp.asarray(samples[None]), frontend)[0])
    write_gates(mels, frontend.hop_s, transcript, gates, title, given.out)
    print(json.dumps(shown) if given.json else title + f"\n{transcript.text}")


def _conversation_of(given: InspectArguments, package: "ModelPackage") -> None:
    from ..data.corpus import open_corpus
    from ..data.turns import turns_of

    corpus = open_corpus(given.data or "", given.split, require_text=False)
    if given.out is None:
        raise InputError("say where to draw the conversation, for example --out turns.png.")
    if not 0 <= given.item < len(corpus):
        raise InputError(f"{corpus.name} has items 0 to {len(corpus) - 1}, not {given.item}.")
    utterance = corpus.utterance(given.item)
    title = f"{package.recipe.name}: {utterance.id}"
    _conversation(given, package, corpus.samples(given.item), turns_of(utterance), title)


def _conversation(
    given: InspectArguments,
    package: "ModelPackage",
    samples: "np.ndarray",
    reference: "Sequence[Turn]",
    title: str,
) -> None:
    from .conversation_plot import write_conversation
    from .recognizer import Recognizer
    from .transcriber import Transcriber

    recognizer = Recognizer(package)
    transcript = Transcriber(package.recipe.name, package.folder, recognizer).transcribe(samples)
    assert given.out is not None
    write_conversation(
        samples, transcript.turns, recognizer.channels, title, given.out, reference=reference
    )
    if given.json:
        print(json.dumps({"turns": [turn.as_dict() for turn in transcript.turns]}))
        return
    print(title)
    for turn in transcript.turns:
        print(f"{turn.start:7.2f} {turn.end:7.2f}  channel {turn.channel + 1}  {turn.text}")


def _corpus(given: InspectArguments, package: "ModelPackage") -> None:
    from ..data.corpus import open_corpus
    from .inspect_plot import write_usage
    from .usage import measure_usage, require_gates

    require_gates(package)
    corpus = open_corpus(given.data or "", given.split, require_text=False)
    total = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    with audio_progress("inspecting", total) as advance:
        usage = measure_usage(package, corpus, on_audio=advance)
    if given.json:
        print(json.dumps({"model": given.model, "data": given.data, **usage.as_dict()}, indent=1))
    else:
        _print(f"{given.model} on {corpus.name}", usage)
    if given.out is not None:
        title = f"{given.model} on {corpus.name}: {100 * usage.ratio:.1f} % of the dense encoder"
        write_usage(usage, title, given.out)


def _print(title: str, usage: "Usage") -> None:
    console = stdout()
    console.print(f"{title}\n")
    numbers = ("attention", "on speech", "between", "feed-forward", "on speech ", "between ")
    rows = table("block", *numbers, right=numbers)
    parts = (usage.rates, usage.speech_rates, usage.between_rates)
    for block in range(len(usage.rates)):
        values = [part[block, i] for i in (0, 1) for part in parts]
        rows.add_row(str(block), *(f"{100 * value:.1f} %" for value in values))
    console.print(rows)
    cost = usage.cost
    console.print(
        f"\n{usage.frames:,} frames, {100 * usage.speech_frames / usage.frames:.0f} % with speech."
        "\nComputed of what the dense encoder does: "
        f"{usage.ratio:.3f}, on speech {usage.speech_ratio:.3f}; whole model "
        f"{usage.model_ratio:.3f}.\nOf that the arbitrators: {cost.arbitrator / cost.dense:.4f}."
    )
