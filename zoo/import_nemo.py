"""FastConformer transducers in a `.nemo` archive of NVIDIA NeMo.

A tar file with model_config.yaml, model_weights.ckpt and the SentencePiece model that the
configuration names. Members are read where they lie, nothing is unpacked by its name; YAML is read
as plain values and the checkpoint as arrays alone, by PyTorch (the extra `import`).

Known are RNN-T and token-and-duration models with wordpieces, `EncDecRNNTBPEModel` and its hybrid
with CTC, whose CTC part is left out.
"""

import re
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import yaml

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
from .import_tokenizer import tokenizer_of_sentencepiece
from .import_weights import Tensors

CONFIG, CHECKPOINT = "model_config.yaml", "model_weights.ckpt"
_MOST_CONFIG, _MOST_TOKENIZER, _MOST_WEIGHTS = 4 << 20, 64 << 20, 32 << 30
_MOST_MEMBERS = 1000
# From NeMo's names to transformers', in this order.
_NAMES = (
    (r"^encoder\.pre_encode\.conv\.", "encoder.subsampling.layers."),
    (r"^encoder\.pre_encode\.out\.", "encoder.subsampling.linear."),
    (r"\.conv\.batch_norm\.", ".conv.norm."),
    (r"\.linear_([qkv])\.", r".\1_proj."),
    (r"\.linear_out\.", ".o_proj."),
    (r"\.linear_pos\.", ".relative_k_proj."),
    (r"\.pos_bias_([uv])$", r".bias_\1"),
    (r"^decoder\.prediction\.embed\.", "decoder.embedding."),
    (r"^decoder\.prediction\.dec_rnn\.lstm\.", "decoder.lstm."),
    (r"^joint\.enc\.", "encoder_projector."),
    (r"^joint\.pred\.", "decoder.decoder_projector."),
    (r"^joint\.joint_net\.2\.", "joint.head."),
)


def read_nemo(path: Path, lookahead: Lookahead = None) -> Foreign:
    """Reads an archive.

    Raises:
      InputError: it is damaged, holds more than a model (links, paths out of it, code), or a model
        of another kind; or PyTorch is not installed.
    """
    try:
        with tarfile.open(path, "r:*") as tar:
            archive = _Archive(path, tar)
            config = _config(archive.read(CONFIG, _MOST_CONFIG), path)
            model, scale = _model(config, lookahead, f"{path} ({CONFIG})")
            tokenizer = fields(config, "tokenizer", str(path)).get("model_path")
            name = str(tokenizer).removeprefix("nemo:")
            if not isinstance(tokenizer, str) or not name.endswith(".model"):
                raise InputError(
                    f"{path} has no SentencePiece model (its tokenizer is {tokenizer!r}): parley "
                    "import knows models with wordpieces."
                )
            pieces = archive.read(name, _MOST_TOKENIZER)
            state = _checkpoint(archive)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: name a .nemo archive.") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path} is damaged or no .nemo archive ({reason}); get it again."
        ) from None
    names = {_renamed(name): name for name in state}
    return Foreign(
        kind=f"NeMo {str(config.get('target', 'model')).rpartition('.')[2]}",
        model=model,
        scale=scale,
        tokenizer=tokenizer_of_sentencepiece(pieces, model.vocab_size, f"{path} ({name})"),
        tensors=Tensors(
            {name: tuple(state[old].shape) for name, old in names.items()},
            lambda name: state[names[name]],
        ),
    )


class _Archive:
    """The regular files of a tar, by their names without folders."""

    def __init__(self, path: Path, tar: tarfile.TarFile):
        """Raises InputError for anything that a model has no need of."""
        self.path, self._tar = path, tar
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise InputError(f"{path} holds {member.name!r}, a path out of it: it is refused.")
            if member.isdir():
                continue
            if not member.isreg():
                raise InputError(f"{path} holds {member.name!r}, a link or device: it is refused.")
            self._members[name.name] = member
            if len(self._members) > _MOST_MEMBERS:
                raise InputError(f"{path} holds more than {_MOST_MEMBERS} files: it is refused.")

    def open(self, name: str, most: int) -> IO[bytes]:
        """Raises InputError where there is none of this name, or it has more than `most` bytes."""
        member = self._members.get(name)
        if member is None:
            raise InputError(f"{self.path} has no {name}: it is no .nemo archive of this kind.")
        if member.size > most:
            raise InputError(
                f"{self.path}: {name} has {member.size:,} bytes, more than such a file can have."
            )
        file = self._tar.extractfile(member)
        assert file is not None  # it is a regular file
        return file

    def read(self, name: str, most: int) -> bytes:
        """The content; raises InputError as `open` does."""
        with self.open(name, most) as file:
            return file.read()


def _config(content: bytes, path: Path) -> Mapping[str, Any]:
    try:
        values = yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError):
        raise InputError(
            f"{path}: {CONFIG} is broken, or holds more than plain values: it is refused."
        ) from None
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: {CONFIG} is no table of fields.")
    return values


def _checkpoint(archive: _Archive) -> dict[str, np.ndarray]:
    """Arrays of the checkpoint by NeMo's names."""
    import pickle
    import zipfile

    path = archive.path
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"{path} holds a checkpoint of PyTorch, which reads it: pip install "
            "'parley-asr[import]', or give the folder of the same model that transformers reads."
        ) from None
    with (
        archive.open(CHECKPOINT, _MOST_WEIGHTS) as file,
        tempfile.TemporaryFile() as copy,
    ):
        # PyTorch seeks, which a compressed archive does slowly.
        while block := file.read(1 << 24):
            copy.write(block)
        copy.seek(0)
        try:
            state = torch.load(copy, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise InputError(
                f"{path}: {CHECKPOINT} holds more than arrays, code perhaps: it is refused."
            ) from None
        except (RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
            raise InputError(f"{path}: {CHECKPOINT} is damaged ({reason}).") from None
    if not isinstance(state, Mapping) or not all(torch.is_tensor(v) for v in state.values()):
        raise InputError(f"{path}: {CHECKPOINT} is no table of arrays.")
    return {
        str(name): value.to(torch.float32).numpy()
        for name, value in state.items()
        if not value.is_complex()
    }


def _renamed(name: str) -> str:
    for pattern, other in _NAMES:
        name = re.sub(pattern, other, name)
    return name


def _model(
    config: Mapping[str, Any], lookahead: Lookahead, where: str
) -> tuple[TransducerConfig, float]:
    """(configuration in our terms, scale of the blocks' input)."""
    encoder, decoder = fields(config, "encoder", where), fields(config, "decoder", where)
    joint, sound = fields(config, "joint", where), fields(config, "preprocessor", where)
    prediction, net = fields(decoder, "prednet", where), fields(joint, "jointnet", where)
    chunk, left = _context(encoder, lookahead, where)
    streaming = chunk is not None
    width = number(encoder, "d_model", None, where)
    bins = number(sound, "features", 80, where)
    normalize = sound.get("normalize") if sound.get("normalize") != "NA" else None
    norm = encoder.get("conv_norm_type", "batch_norm")
    expected = {
        "encoder.subsampling": (encoder.get("subsampling"), ("dw_striding",)),
        "encoder.subsampling_factor": (encoder.get("subsampling_factor"), (8,)),
        "encoder.self_attention_model": (
            encoder.get("self_attention_model", "rel_pos"),
            ("rel_pos",),
        ),
        "encoder.untie_biases": (encoder.get("untie_biases", True), (True,)),
        "encoder.conv_norm_type": (norm, ("batch_norm", "layer_norm")),
        "encoder.causal_downsampling": (
            bool(encoder.get("causal_downsampling", False)),
            (streaming,),
        ),
        "encoder.conv_context_size": (
            encoder.get("conv_context_size") or None,
            ("causal",) if streaming else (None,),
        ),
        "encoder.feat_in": (encoder.get("feat_in", bins), (bins,)),
        "encoder.reduction": (encoder.get("reduction"), (None,)),
        "preprocessor.normalize": (normalize, (None,) if streaming else ("per_feature",)),
        "preprocessor.sample_rate": (sound.get("sample_rate", 16000), (16000,)),
        "preprocessor.window": (sound.get("window", "hann"), ("hann",)),
        "preprocessor.frame_splicing": (sound.get("frame_splicing", 1), (1,)),
        "decoder.blank_as_pad": (decoder.get("blank_as_pad", True), (True,)),
    }
    check_known(expected, where)
    rate, window = 16000, float(sound.get("window_size", 0.025))
    hidden = number(net, "joint_hidden", None, where)
    inner = number(prediction, "pred_hidden", None, where)
    durations = _durations(config, joint, where)
    model = transducer_of(
        vocab_size=number(joint, "num_classes", None, where) + 1,
        encoder=FastConformerConfig(
            width=width,
            heads=number(encoder, "n_heads", None, where),
            blocks=number(encoder, "n_layers", None, where),
            output=hidden,
            chunk=chunk,
            left=left,
            kernel=number(encoder, "conv_kernel_size", 9, where),
            expansion=number(encoder, "ff_expansion_factor", 4, where),
            channels=number(encoder, "subsampling_conv_channels", 256, where),
            norm="layer" if norm == "layer_norm" else "batch",
        ),
        frontend=frontend_of(
            bins=bins,
            window_s=window,
            hop_s=float(sound.get("window_stride", 0.01)),
            n_fft=sound.get("n_fft") or 1 << (round(window * rate) - 1).bit_length(),
            preemphasis=float(sound.get("preemph", 0.97) or 0.0),
            chunk=chunk,
        ),
        inner=inner,
        layers=number(prediction, "pred_rnn_layers", 1, where),
        activation=str(net.get("activation", "relu")),
        durations=durations,
    )
    return model, float(width**0.5) if encoder.get("xscaling", True) else 1.0


def _context(
    encoder: Mapping[str, Any], lookahead: Lookahead, where: str
) -> tuple[int | None, int]:
    """(frames of a chunk or None for whole recordings, frames before it)."""
    given = encoder.get("att_context_size") or [-1, -1]
    sizes = given if isinstance(given, list) and given and isinstance(given[0], list) else [given]
    if any(not isinstance(s, list) or len(s) != 2 for s in sizes):
        raise InputError(f"{where}: encoder.att_context_size is {given!r}, no left and right.")
    if sizes == [[-1, -1]]:
        refuse_lookahead(lookahead)
        return None, 0
    if encoder.get("att_context_style") != "chunked_limited":
        raise InputError(
            f"{where}: attention to {given!r} by a sliding window is none that parley import knows."
        )
    pairs = [numbers(s, "encoder.att_context_size", where) for s in sizes]
    chunk = check_chunk(lookahead, pairs[0][1], [right for _, right in pairs])
    return chunk, next(left for left, right in pairs if right == chunk - 1)


def _durations(config: Mapping[str, Any], joint: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """Of a token-and-duration model; none of others."""
    extra = joint.get("num_extra_outputs") or 0
    if not extra:
        return ()
    tables = [(config.get("decoding") or {}, "durations")]
    tables += [(config.get("model_defaults") or {}, "tdt_durations")]
    for table, name in tables:
        if isinstance(table, Mapping) and table.get(name):
            found = numbers(table[name], name, where)
            if len(found) == extra:
                return found
    raise InputError(f"{where}: the joint has {extra} further outputs, and no durations are named.")
