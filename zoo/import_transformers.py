"""FastConformer transducers as transformers saves them: a folder, or a repository of the hub.

    config.json, model.safetensors (or an index and its parts), tokenizer.json,
    processor_config.json or preprocessor_config.json

Known are `ParakeetForRNNT`, `ParakeetForTDT` and `NemotronAsrStreamingForRNNT`. Nothing of
transformers is imported, and nothing but these files is read.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.errors import InputError
from ..models.encoders.fastconformer import FastConformerConfig
from ..models.transducer import TransducerConfig
from .import_source import (
    Foreign,
    Lookahead,
    check_chunk,
    check_known,
    fields,
    frontend_of,
    number,
    numbers,
    refuse_lookahead,
    transducer_of,
)
from .import_tokenizer import tokenizer_of_json
from .import_weights import Tensors

CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
FILES = (
    *(CONFIG, INDEX, "*.safetensors", "tokenizer.json", "README.md"),
    *("processor_config.json", "preprocessor_config.json"),
)
"""What is read of a repository."""
KINDS = {
    "parakeet_rnnt": "ParakeetForRNNT",
    "parakeet_tdt": "ParakeetForTDT",
    "nemotron_asr_streaming": "NemotronAsrStreamingForRNNT",
}
_STREAMING = "nemotron_asr_streaming"
_MOST_JSON = 64 << 20
_MOST_HEADER = 32 << 20
_LOOKAHEADS = (13, 6, 1, 0)
"""Of streaming models whose processor names none."""
# The streaming class names its subsampling otherwise.
_RENAMED = (
    (r"^encoder\.subsampling\.conv_in\.", "encoder.subsampling.layers.0."),
    (r"^encoder\.subsampling\.layers\.0\.depthwise_conv\.", "encoder.subsampling.layers.2."),
    (r"^encoder\.subsampling\.layers\.0\.pointwise_conv\.", "encoder.subsampling.layers.3."),
    (r"^encoder\.subsampling\.layers\.1\.depthwise_conv\.", "encoder.subsampling.layers.5."),
    (r"^encoder\.subsampling\.layers\.1\.pointwise_conv\.", "encoder.subsampling.layers.6."),
)
_TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


def read_transformers(folder: Path, lookahead: Lookahead = None) -> Foreign:
    """Reads a folder's configuration and tokeniser; weights are read when they are taken.

    Args:
      lookahead: frames of a streaming model's look-ahead; None: the folder's own default.

    Raises:
      InputError: it is damaged, or of a kind that is not known.
    """
    config = _json(folder / CONFIG)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise InputError(
            f"{folder / CONFIG} is of a model {kind!r}: parley import knows "
            f"{', '.join(KINDS.values())}."
        )
    processor = _processor(folder)
    extractor = processor.get("feature_extractor", processor)
    where = str(folder / CONFIG)
    encoder = fields(config, "encoder_config", where)
    chunk, left = None, 0
    if kind == _STREAMING:
        allowed = numbers(
            processor.get("supported_num_lookahead_tokens", _LOOKAHEADS), "lookaheads", where
        )
        default = number(encoder, "default_num_lookahead_tokens", 13, where)
        left = number(encoder, "sliding_window", 71, where) - 1
        chunk = check_chunk(lookahead, default, allowed)
    else:
        refuse_lookahead(lookahead)
    model = _model(kind, config, encoder, extractor, chunk, left, where)
    tokenizer = folder / "tokenizer.json"
    names, read = _open_weights(folder)
    width = model.encoder.width if isinstance(model.encoder, FastConformerConfig) else 1
    return Foreign(
        kind=KINDS[kind],
        model=model,
        scale=float(width**0.5) if encoder.get("scale_input", True) else 1.0,
        tokenizer=tokenizer_of_json(_bytes(tokenizer), model.vocab_size, str(tokenizer)),
        tensors=Tensors(names, read),
        readme=folder / "README.md",
    )


def _model(
    kind: str,
    config: Mapping[str, Any],
    encoder: Mapping[str, Any],
    extractor: Mapping[str, Any],
    chunk: int | None,
    left: int,
    where: str,
) -> TransducerConfig:
    """The configuration in our terms. Raises InputError for what cannot be said in them."""
    vocab = number(config, "vocab_size", 8193, where)
    width = number(encoder, "hidden_size", 1024, where)
    inner = number(encoder, "intermediate_size", 4096, where)
    decoder = number(config, "decoder_hidden_size", 640, where)
    bins = number(encoder, "num_mel_bins", 80, where)
    rate = number(extractor, "sampling_rate", 16000, where)
    expected = {
        "blank_token_id": (config.get("blank_token_id", vocab - 1), [vocab - 1]),
        "subsampling_factor": (encoder.get("subsampling_factor", 8), [8]),
        "subsampling_conv_kernel_size": (encoder.get("subsampling_conv_kernel_size", 3), [3]),
        "subsampling_conv_stride": (encoder.get("subsampling_conv_stride", 2), [2]),
        "hidden_act of the encoder": (encoder.get("hidden_act", "silu"), ["silu"]),
        "intermediate_size": (inner % width, [0]),
        "feature_size": (extractor.get("feature_size", 80), [bins]),
        "mel_filters_dtype": (extractor.get("mel_filters_dtype", "float32"), ["float32"]),
        "sampling_rate": (rate, [16000]),
    }
    check_known(expected, where)
    streaming = chunk is not None
    durations = config.get("durations", (0, 1, 2, 3, 4)) if kind == "parakeet_tdt" else ()
    return transducer_of(
        vocab_size=vocab,
        encoder=FastConformerConfig(
            width=width,
            heads=number(encoder, "num_attention_heads", 8, where),
            blocks=number(encoder, "num_hidden_layers", 24, where),
            output=decoder,
            chunk=chunk,
            left=left,
            kernel=number(encoder, "conv_kernel_size", 9, where),
            expansion=inner // width,
            channels=number(encoder, "subsampling_conv_channels", 256, where),
            norm="layer" if streaming else "batch",
        ),
        frontend=frontend_of(
            bins=bins,
            window_s=number(extractor, "win_length", 400, where) / rate,
            hop_s=number(extractor, "hop_length", 160, where) / rate,
            n_fft=number(extractor, "n_fft", 512, where),
            preemphasis=float(extractor.get("preemphasis", 0.97) or 0.0),
            chunk=chunk,
        ),
        inner=decoder,
        layers=number(config, "num_decoder_layers", 2, where),
        activation=str(config.get("hidden_act", "relu")),
        durations=numbers(durations, "durations", where),
    )


def _processor(folder: Path) -> Mapping[str, Any]:
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            return _json(folder / name)
    return {}


def _bytes(path: Path, most: int = _MOST_JSON) -> bytes:
    try:
        if path.stat().st_size > most:
            raise InputError(f"{path} is larger than such a file can be: get it again.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); get the whole model."
        ) from None


def _json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(_bytes(path))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is broken JSON: get it again.") from None
    if not isinstance(values, Mapping):
        raise InputError(f"{path} is not a JSON object: get it again.")
    return values


def _open_weights(folder: Path):
    """(name -> shape, function that reads a name) of one file or of several with an index."""
    paths = [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        parts = fields(_json(folder / INDEX), "weight_map", str(folder / INDEX)).values()
        names = sorted({str(part) for part in parts})
        for name in names:
            if Path(name).name != name:
                raise InputError(f"{folder / INDEX} points out of its folder, to {name!r}.")
        paths = [folder / name for name in names]
    places: dict[str, tuple[Path, str, tuple[int, ...], int, int]] = {}
    for path in paths:
        for name, (dtype, shape, start, size) in _header(path).items():
            places[_renamed(name)] = path, dtype, shape, start, size

    def read(name: str) -> np.ndarray:
        path, dtype, shape, start, size = places[name]
        with open(path, "rb") as file:
            file.seek(start)
            array = np.frombuffer(file.read(size), _TYPES[dtype])
        if dtype == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float32).reshape(shape)

    return {name: place[2] for name, place in places.items()}, read


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """name -> (type, shape, first byte, bytes) of a safetensors file; every place is checked.

    Read by hand and not by the library, whose arrays know no bfloat16.
    """
    damaged = InputError(f"{path} is damaged or no safetensors file: get it again.")
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MOST_HEADER, size - 8):
                raise damaged
            entries = json.loads(file.read(length))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); get the whole model."
        ) from None
    except (ValueError, RecursionError) as error:
        raise damaged from error
    found = {}
    try:
        for name, entry in entries.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            shape = tuple(int(n) for n in entry["shape"])
            if entry["dtype"] not in _TYPES:  # counters
                continue
            count = int(np.prod(shape, dtype=np.int64)) * int(_TYPES[entry["dtype"]][-1])
            if not 0 <= first <= last <= size - 8 - length or last - first != count:
                raise damaged
            found[name] = entry["dtype"], shape, 8 + length + first, count
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged from error
    return found


def _renamed(name: str) -> str:
    for pattern, other in _RENAMED:
        name, changed = re.subn(pattern, other, name)
        if changed:
            break
    return name
