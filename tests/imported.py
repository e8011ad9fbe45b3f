"""Small models as transformers and NeMo save them, of the numbers in tests/golden/imported.npz."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

CARD = """---
language: en
license: cc-by-4.0
model-index:
- name: parakeet
  results:
  - task: {type: automatic-speech-recognition}
    dataset: {name: LibriSpeech (clean), config: other, split: test}
    metrics: [{type: wer, value: 1.69, name: Test WER}]
  - dataset: nonsense
---
# Parakeet
"""
"""What a source says of itself."""
GOLDEN = Path(__file__).parent / "golden" / "imported.npz"
# NeMo's names, from transformers'.
NAMES = (
    # The streaming class.
    ("subsampling.conv_in.", "pre_encode.conv.0."),
    ("subsampling.layers.0.depthwise_conv.", "pre_encode.conv.2."),
    ("subsampling.layers.0.pointwise_conv.", "pre_encode.conv.3."),
    ("subsampling.layers.1.depthwise_conv.", "pre_encode.conv.5."),
    ("subsampling.layers.1.pointwise_conv.", "pre_encode.conv.6."),
    # All of them.
    ("encoder.subsampling.layers.", "encoder.pre_encode.conv."),
    ("encoder.subsampling.linear.", "encoder.pre_encode.out."),
    ("conv.norm.", "conv.batch_norm."),
    ("q_proj", "linear_q"),
    ("relative_k_proj", "linear_pos"),
    ("k_proj", "linear_k"),
    ("v_proj", "linear_v"),
    ("o_proj", "linear_out"),
    ("bias_u", "pos_bias_u"),
    ("bias_v", "pos_bias_v"),
    ("decoder.embedding.", "decoder.prediction.embed."),
    ("decoder.lstm.", "decoder.prediction.dec_rnn.lstm."),
    ("encoder_projector.", "joint.enc."),
    ("decoder.decoder_projector.", "joint.pred."),
    ("joint.head.", "joint.joint_net.2."),
)


def load_golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def relative(found: Any, wanted: Any) -> float:
    """Largest difference over the largest value."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def weights_of(golden: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """By transformers' names, float32."""
    prefix = f"{kind}/weights/"
    found = {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
    return {name: value.astype(np.float32) for name, value in found.items()}


def nemo_weights(golden: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """The same by NeMo's names, with what else its checkpoints hold."""
    named = {}
    for name, value in weights_of(golden, kind).items():
        for theirs, nemo in NAMES:
            name = name.replace(theirs, nemo)
        named[name] = value
    return {**named, "preprocessor.featurizer.window": np.zeros(4, np.float32)}


def nemo_config(golden: Mapping[str, np.ndarray], kind: str) -> dict:
    """model_config.yaml of the same model."""
    given = json.loads(str(golden[f"{kind}/config"]))
    encoder, streaming = given["encoder_config"], kind == "streaming"
    durations = given.get("durations", []) if kind == "tdt" else []
    return {
        "target": "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel",
        "preprocessor": {
            "sample_rate": 16000,
            "normalize": "NA" if streaming else "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": 80,
            "n_fft": 512,
        },
        "encoder": {
            "feat_in": 80,
            "n_layers": encoder["num_hidden_layers"],
            "d_model": encoder["hidden_size"],
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": encoder["subsampling_conv_channels"],
            "causal_downsampling": streaming,
            "ff_expansion_factor": 2,
            "self_attention_model": "rel_pos",
            "n_heads": encoder["num_attention_heads"],
            "att_context_size": [[6, 2], [6, 0]] if streaming else [-1, -1],
            "att_context_style": "chunked_limited" if streaming else "regular",
            "conv_kernel_size": 9,
            "conv_norm_type": "layer_norm" if streaming else "batch_norm",
            "conv_context_size": "causal" if streaming else None,
        },
        "decoder": {"blank_as_pad": True, "prednet": {"pred_hidden": 16, "pred_rnn_layers": 2}},
        "joint": {
            "num_classes": 32,
            "num_extra_outputs": len(durations),
            "jointnet": {"joint_hidden": 16, "activation": "relu"},
        },
        "decoding": {"durations": durations},
        "tokenizer": {"type": "bpe", "model_path": "nemo:0123_tokenizer.model"},
    }


def sentencepiece_model() -> bytes:
    """32 pieces of a byte-pair model, the unknown one first, as NeMo trains them."""
    import sentencepiece

    texts = ["turn the light on in the kitchen", "set a timer for ten minutes", "play that song"]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=out,
        model_type="bpe",
        vocab_size=32,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    return out.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_source(golden: Mapping[str, np.ndarray], kind: str, folder: Path) -> Path:
    """The model as transformers saves it, with a tokeniser of letters."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(str(golden[f"{kind}/config"]))
    save_file(weights_of(golden, kind), folder / "model.safetensors")
    pieces = ["<unk>", *"▁eariotnslcudpmhgbfywkvxzjq", "er", "▁th", "on", "<s>"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    model = {"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": ["e r", "o n"]}
    added = [{"id": 31, "content": "<s>", "special": True}, {"id": 32, "content": "<blank>"}]
    tokenizer = {"model": model, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder
