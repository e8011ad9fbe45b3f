"""What a model is made of, in a few words a part: out of its recipe's plain values.

Cards and the gallery draw it; nothing is built or imported for that.
"""

from collections.abc import Mapping
from typing import Any

_KINDS = {
    "lstm": "LSTM",
    "conv-rnnt": "ConvRNN-T",
    "conformer": "causal Conformer",
    "contextnet": "causal ContextNet",
    "transformer": "Transformer",
    "amortized": "Transformer with gates",
    "sts": "LSTM that separates talkers",
    "fastconformer": "FastConformer",
    "ecapa": "ECAPA-TDNN",
    "resnet": "ResNet",
}
PREDICTION = "prediction network"
"""The part that the text so far goes through; models without it write none."""


def parts(recipe: Mapping[str, Any]) -> dict[str, str]:
    """part -> what it is, from the sound to the answer, of a recipe as `recipe.json` holds it."""
    model = recipe["model"]
    front = model["frontend"]
    more = f", {front['stack']} stacked" if "stack" in front else ", about the centres of frames"
    found = {
        "front end": f"{front['bins']} log-mels every {1000 * front['hop_s']:g} ms{more}",
        "encoder": _encoder(model["encoder"]),
    }
    if "prediction" in model:
        prediction = model["prediction"]
        layers = prediction["layers"]
        found[PREDICTION] = (
            f"{layers} LSTM layer{'' if layers == 1 else 's'} of {prediction['width']}"
        )
        joint = model.get("joint", {})
        hat = ", HAT" if joint.get("hat") else ""
        if joint.get("durations"):
            hat = f", {len(joint['durations'])} durations"
        tokens = f"{model['vocab_size']:,} tokens"
        found["joint"] = (
            f"{joint.get('activation', 'tanh')} of {prediction['output']}{hat}, {tokens}"
        )
    else:
        found["embedding"] = f"{model['encoder']['output']} numbers a recording"
    return found


def turns_marked(recipe: Mapping[str, Any]) -> bool:
    """Whether the model's text comes in turns, of a recipe as `recipe.json` holds it."""
    return recipe.get("tokenizer", {}).get("markers", "none") != "none"


def _encoder(values: Mapping[str, Any]) -> str:
    # Recipes from before there were several kinds do not name theirs.
    kind = values.get("kind", "lstm")
    return f"{_KINDS.get(kind, kind)}: {_words(values)}"


def _words(values: Mapping[str, Any]) -> str:
    """`width 192, layers 3, output 128`: the fields that say something."""
    said = []
    for name, value in values.items():
        label = name.replace("_", " ")
        if name in ("kind", "dropout") or value in (None, False, 0, [], ()):
            continue
        if isinstance(value, Mapping):
            said.append(f"{label} ({_words(value)})")
        elif value is True:
            said.append(label)
        elif isinstance(value, list | tuple):
            said.append(f"{label} {'-'.join(str(v) for v in value)}")
        else:
            said.append(f"{label} {value:g}" if isinstance(value, float) else f"{label} {value}")
    return ", ".join(said)
