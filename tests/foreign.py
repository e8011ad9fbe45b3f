"""Models of transformers with random weights, and what they compute: needs PyTorch.

    python tests/foreign.py tests/golden/imported.npz

writes what the tests without PyTorch compare with: weights, features, encoder outputs, prediction
network, joint and greedy search of a small model of every class.
"""

import json
import sys
from typing import Any

import numpy as np

KINDS = ("rnnt", "tdt", "streaming")
RATE = 16_000
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "subsampling_conv_channels": 6,
    "num_mel_bins": 80,
}
SMALL_CONTEXT = {"sliding_window": 7, "default_num_lookahead_tokens": 2}
VOCAB = 33
SILENT = {"rnnt": 0.8, "tdt": 0.3, "streaming": 0.6}


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of noise and harmonics between pauses, int16 [N]: nothing recorded."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = 120 + 40 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tones = sum(np.sin(k * phase) / k for k in range(1, 30))
    hum = np.maximum(0.0, np.sin(2 * np.pi * 2.3 * t)) ** 0.5
    hiss = np.maximum(0.0, np.sin(2 * np.pi * 1.7 * t + 1.0)) ** 2
    x = 0.2 * hum * tones + 0.1 * hiss * random.normal(size=len(t))
    x += 0.003 * random.normal(size=len(t))
    return np.round(np.clip(x, -1, 1) * 20_000).astype(np.int16)


def build(
    kind: str, encoder: dict[str, Any] | None = None, *, silent: float | None = None, **more: Any
) -> Any:
    """A model whose text depends on the sound; the same numbers for the same arguments.

    `silent`: share of frames for which blank is the likeliest at first.
    """
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    torch.manual_seed(7)
    sizes = {"vocab_size": VOCAB, "decoder_hidden_size": 16, "num_decoder_layers": 2, **more}
    sizes["blank_token_id"] = sizes["vocab_size"] - 1
    context = SMALL_CONTEXT if kind == "streaming" and encoder is None else {}
    names = {
        "rnnt": (transformers.ParakeetRNNTConfig, transformers.ParakeetForRNNT),
        "tdt": (transformers.ParakeetTDTConfig, transformers.ParakeetForTDT),
        "streaming": (
            transformers.NemotronAsrStreamingConfig,
            transformers.NemotronAsrStreamingForRNNT,
        ),
    }
    config_class, model_class = names[kind]
    config = config_class(**sizes, encoder_config={**(encoder or SMALL), **context})
    model = model_class(config).eval()
    model.generation_config.decoder_start_token_id = sizes["blank_token_id"]
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("num_batches_tracked", "inv_freq")):
                continue
            noise = torch.randn(tensor.shape)
            if name.endswith("running_var"):
                value = 0.5 + torch.rand(tensor.shape)
            elif "norm" in name and name.endswith("weight"):
                value = 1.0 + 0.1 * noise
            elif tensor.ndim > 1 and not name.endswith(("bias_u", "bias_v")):
                value = noise * (tensor[0].numel() ** -0.5)
            else:
                value = 0.1 * noise
            # The labels before count for as much as the sound.
            tensor.copy_(3.0 * value if name.startswith("decoder.") else value)
        model.joint.head.weight[: sizes["vocab_size"]] *= 4.0
        _quieten(kind, model, SILENT[kind] if silent is None else silent)
        for tensor in model.state_dict().values():
            if tensor.dtype.is_floating_point:
                # What half precision can say, so that it can be kept in few bytes.
                tensor.copy_(tensor.half().float())
    return model


def _features(kind: str, model: Any, samples: np.ndarray) -> tuple[Any, Any]:
    import transformers  # pyright: ignore[reportMissingImports]

    extractor_class = (
        transformers.NemotronAsrStreamingFeatureExtractor
        if kind == "streaming"
        else transformers.ParakeetFeatureExtractor
    )
    extractor = extractor_class(feature_size=model.config.encoder_config.num_mel_bins)
    heard = extractor(samples.astype(np.float32) / 32768, sampling_rate=RATE, return_tensors="pt")
    return heard["input_features"], heard["attention_mask"]


def _quieten(kind: str, model: Any, silent: float) -> None:
    """Raises the blank's logit until it is the largest in this share of frames."""
    import torch  # pyright: ignore[reportMissingImports]

    blank = model.config.blank_token_id
    encoded = model.get_audio_features(*_features(kind, model, sound(3.0, seed=1)))
    start = model.decoder(torch.full((1, 1), blank))
    logits = model.joint(start[:, None], encoded.pooler_output[:, :, None])[0, :, 0]
    labels = logits[:, :blank].max(dim=-1).values
    model.joint.head.bias[blank] += torch.quantile(labels - logits[:, blank], silent)


def reference(kind: str, model: Any, samples: np.ndarray) -> dict[str, np.ndarray]:
    """What a model makes of one recording, in float32 on the CPU."""
    import torch  # pyright: ignore[reportMissingImports]

    features, mask = _features(kind, model, samples)
    labels = torch.arange(3, 3 + 4)[None]
    blank = torch.full((1, 1), model.config.blank_token_id)
    with torch.no_grad():
        encoded = model.get_audio_features(features, mask)
        predicted = model.decoder(torch.cat([blank, labels], dim=1))
        logits = model.joint(predicted[:, None], encoded.pooler_output[:, :, None])
        said = model.generate(input_features=features, attention_mask=mask)
    tokens, steps = said.sequences[0].numpy(), said.durations[0].numpy()
    frames = np.cumsum(steps) - steps
    spoken = tokens != model.config.blank_token_id
    return {
        "features": features[0, : int(mask.sum())].numpy(),
        "encoded": encoded.last_hidden_state[0].numpy(),
        "projected": encoded.pooler_output[0].numpy(),
        "predicted": predicted[0].numpy(),
        "logits": logits[0, ::6].numpy(),
        "tokens": tokens[spoken],
        "frames": frames[spoken],
    }


def weights(model: Any) -> dict[str, np.ndarray]:
    return {
        name: tensor.numpy()
        for name, tensor in model.state_dict().items()
        if not name.endswith(("num_batches_tracked", "inv_freq"))
    }


def main(path: str) -> None:
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    arrays: dict[str, np.ndarray] = {}
    # For the streaming model a number of frames that is whole chunks and one more.
    samples = sound(1.44)
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    arrays["origin"] = np.array(f"{versions}; python tests/foreign.py")
    arrays["samples"] = samples
    for kind in KINDS:
        model = build(kind)
        arrays[f"{kind}/config"] = np.array(json.dumps(model.config.to_dict()))
        for name, value in weights(model).items():
            arrays[f"{kind}/weights/{name}"] = value.astype(np.float16)
        for name, value in reference(kind, model, samples).items():
            arrays[f"{kind}/{name}"] = value
        print(kind, arrays[f"{kind}/tokens"], arrays[f"{kind}/frames"])
    np.savez_compressed(path, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
