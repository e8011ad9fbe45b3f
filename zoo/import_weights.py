"""Weights of FastConformer transducers, from the names that transformers gives them to ours.

What differs, and is the same function still:

* the blank is our class 0 and their last one: the two change places, and with the blank whatever
  was their class 0 (the unknown token);
* a key's bias adds the same to every score, so it goes; a query's is a part of our u and v, a
  value's of the output's bias;
* a batch norm with its running statistics is a part of the depthwise convolution before it;
* the scale of the blocks' input is a part of the linear layer that gives it;
* an LSTM has one bias where they have two that are added;
* sines and cosines of relative positions lie in halves here and alternate there.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..data.errors import InputError
from ..models.encoders.fastconformer import FastConformerConfig
from ..models.transducer import TransducerConfig
from ..train.weights import flatten

Tree = dict[Any, Any]
_BATCH_EPSILON = 1e-5


class Tensors:
    """Arrays by their names, each taken once: what is left over at the end was not understood.

    Args:
      names: name -> shape.
      read: gives the array of a name, in any float type.
    """

    def __init__(self, names: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray]):
        self._left = dict(names)
        self._read = read

    def take(self, name: str) -> np.ndarray:
        """Raises InputError where there is none of this name, or it is not finite."""
        if name not in self._left:
            raise InputError(
                f"the checkpoint has no weight {name}: it is no FastConformer transducer of a kind "
                "that parley import knows."
            )
        del self._left[name]
        array = np.asarray(self._read(name), np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"weight {name} holds NaN or infinity: get the checkpoint again.")
        return array

    def maybe(self, name: str) -> np.ndarray | None:
        """None where there is none of this name."""
        return self.take(name) if name in self._left else None

    def leave(self, *parts: str) -> list[str]:
        """Gives up what begins with one of these, or ends with it; returns the names."""
        found = [n for n in self._left if n.startswith(parts) or n.endswith(parts)]
        for name in found:
            del self._left[name]
        return found

    @property
    def left(self) -> list[str]:
        """Names that nobody took."""
        return sorted(self._left)


def convert(tensors: Tensors, config: TransducerConfig, *, scale: float) -> Tree:
    """Our tree of parameters.

    Args:
      tensors: of transformers' names.
      config: of the model that they are for.
      scale: of the blocks' input.

    Raises:
      InputError: weights are missing, left over or not finite.
    """
    encoder = config.encoder
    assert isinstance(encoder, FastConformerConfig)
    params: Tree = {
        "encoder": {
            "subsampling": _subsampling(tensors, scale),
            "blocks": {i: _block(tensors, f"encoder.layers.{i}.") for i in range(encoder.blocks)},
            "output": _linear(tensors, "encoder_projector."),
        },
        "prediction": _prediction(tensors, config),
        "joiner": {"output": _head(tensors, config)},
    }
    # Counters of batch norm, and tables that are computed here.
    tensors.leave("num_batches_tracked", "inv_freq", "encoder.encode_positions.", "preprocessor.")
    tensors.leave("ctc_head.", "ctc_decoder.")
    if tensors.left:
        raise InputError(
            f"the checkpoint has {len(tensors.left)} weights that parley import does not know, "
            f"{tensors.left[0]} for one: it is of another kind."
        )
    return params


def check_shapes(params: Tree, template: Mapping[Any, Any]) -> None:
    """Raises InputError where a weight has not the shape that the configuration asks for."""
    have, need = flatten(params), flatten(template)
    for name in sorted(have.keys() | need.keys()):
        found = have[name].shape if name in have else "absent"
        wanted = tuple(need[name].shape) if name in need else "absent"
        if found != wanted:
            raise InputError(
                f"the checkpoint does not fit its own configuration: {name} is {found} there and "
                f"{wanted} by the configuration."
            )


def _linear(tensors: Tensors, prefix: str, bias: np.ndarray | None = None) -> Tree:
    """[out, in, ...] -> kernel [in, out] and a bias, of zeros where there is none."""
    weight = tensors.take(f"{prefix}weight")
    kernel = np.ascontiguousarray(weight.reshape(len(weight), -1).T)
    found = tensors.maybe(f"{prefix}bias")
    if found is None:
        found = np.zeros(len(weight), np.float32)
    return {"kernel": kernel, "bias": found if bias is None else found + bias}


def _norm(tensors: Tensors, prefix: str) -> Tree:
    return {"scale": tensors.take(f"{prefix}weight"), "bias": tensors.take(f"{prefix}bias")}


def _subsampling(tensors: Tensors, scale: float) -> Tree:
    prefix = "encoder.subsampling.layers."
    kernels, biases = {}, {}
    for layer, place in enumerate((0, 2, 5)):
        kernels[layer] = tensors.take(f"{prefix}{place}.weight")[:, 0].transpose(1, 2, 0)
        biases[layer] = tensors.take(f"{prefix}{place}.bias")
    points = {i: _linear(tensors, f"{prefix}{place}.") for i, place in enumerate((3, 6))}
    output = _linear(tensors, "encoder.subsampling.linear.")
    output = {name: value * np.float32(scale) for name, value in output.items()}
    return {"kernels": kernels, "biases": biases, "points": points, "output": output}


def _block(tensors: Tensors, prefix: str) -> Tree:
    def feed_forward(number: int) -> Tree:
        name = f"{prefix}feed_forward{number}."
        return {
            "norm": _norm(tensors, f"{prefix}norm_feed_forward{number}."),
            "widen": _linear(tensors, f"{name}linear1."),
            "narrow": _linear(tensors, f"{name}linear2."),
        }

    return {
        "first": feed_forward(1),
        "attention": {
            "norm": _norm(tensors, f"{prefix}norm_self_att."),
            "attention": _attention(tensors, f"{prefix}self_attn."),
        },
        "convolution": _convolution(tensors, prefix),
        "second": feed_forward(2),
        "norm": _norm(tensors, f"{prefix}norm_out."),
    }


def _attention(tensors: Tensors, prefix: str) -> Tree:
    query, key, value = (_linear(tensors, f"{prefix}{name}_proj.") for name in "qkv")
    output = _linear(tensors, f"{prefix}o_proj.")
    output["bias"] = output["bias"] + value["bias"] @ output["kernel"]
    position = tensors.take(f"{prefix}relative_k_proj.weight").T
    return {
        "query": {"kernel": query["kernel"]},
        "key": {"kernel": key["kernel"]},
        "value": {"kernel": value["kernel"]},
        "output": output,
        "content_bias": tensors.take(f"{prefix}bias_u").reshape(-1) + query["bias"],
        "position_bias": tensors.take(f"{prefix}bias_v").reshape(-1) + query["bias"],
        "position": np.concatenate([position[0::2], position[1::2]]),
    }


def _convolution(tensors: Tensors, prefix: str) -> Tree:
    name = f"{prefix}conv."
    kernel = tensors.take(f"{name}depthwise_conv.weight")[:, 0].T  # [taps, D]
    bias = tensors.maybe(f"{name}depthwise_conv.bias")
    bias = np.zeros(kernel.shape[1], np.float32) if bias is None else bias
    converted = {
        "norm": _norm(tensors, f"{prefix}norm_conv."),
        "widen": _linear(tensors, f"{name}pointwise_conv1."),
        "narrow": _linear(tensors, f"{name}pointwise_conv2."),
    }
    inner = _norm(tensors, f"{name}norm.")
    mean = tensors.maybe(f"{name}norm.running_mean")
    if mean is None:
        converted["depthwise_norm"] = inner
    else:
        variance = tensors.take(f"{name}norm.running_var")
        gain = inner["scale"] / np.sqrt(variance + np.float32(_BATCH_EPSILON))
        kernel, bias = kernel * gain[None, :], (bias - mean) * gain + inner["bias"]
    return {**converted, "depthwise": {"kernel": kernel, "bias": bias}}


def _prediction(tensors: Tensors, config: TransducerConfig) -> Tree:
    layers: Tree = {}
    for i in range(config.prediction.layers):
        name = "decoder.lstm."
        layers[i] = {
            "kernel": tensors.take(f"{name}weight_ih_l{i}").T,
            "recurrent": tensors.take(f"{name}weight_hh_l{i}").T,
            "bias": tensors.take(f"{name}bias_ih_l{i}") + tensors.take(f"{name}bias_hh_l{i}"),
        }
    return {
        "embedding": _blank_first(tensors.take("decoder.embedding.weight"), config.vocab_size),
        "layers": layers,
        "output": _linear(tensors, "decoder.decoder_projector."),
    }


def _head(tensors: Tensors, config: TransducerConfig) -> Tree:
    head = _linear(tensors, "joint.head.")
    kernel, bias = head["kernel"].T, head["bias"]
    kernel, bias = (_blank_first(x, config.vocab_size) for x in (kernel, bias))
    return {"kernel": np.ascontiguousarray(kernel.T), "bias": bias}


def _blank_first(x: np.ndarray, size: int) -> np.ndarray:
    """Rows of classes with the last and the first in each other's place; durations stay behind."""
    order = np.arange(len(x))
    order[[0, size - 1]] = [size - 1, 0]
    return x[order]
