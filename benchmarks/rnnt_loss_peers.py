"""The process that measures another project's transducer loss on one shape, where it is installed.

Runs as a file in whatever interpreter has the project, which need not have parley: so it imports
nothing of it. `PYTHON rnnt_loss_peers.py --list` prints what can be imported; otherwise a request
comes as JSON on stdin and the answer goes as JSON to stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

# Implementation -> module to import.
MODULES = {
    "torchaudio": "torchaudio.functional",
    "fast_rnnt": "fast_rnnt",
    "warp_rnnt": "warp_rnnt",
    "warprnnt_pytorch": "warprnnt_pytorch",
}
NEEDS_CUDA = ("warp_rnnt",)
PATIENCE_S = 60.0


class Targets:
    """Labels [B, U] and lengths [B], as int32 on a device."""

    def __init__(self, torch: Any, labels: Any, frames: Any, n_labels: Any, device: str):
        def tensor(values: Any) -> Any:
            return torch.as_tensor(values).to(device=device, dtype=torch.int32)

        self.torch = torch
        self.labels, self.frames, self.n_labels = map(tensor, (labels, frames, n_labels))


Loss = Callable[[Any, Targets], Any]


def losses_of(name: str) -> Loss:
    """The peer's losses [B] from logits [B, T, U+1, V], blank being 0."""
    module = importlib.import_module(MODULES[name])

    def torchaudio(logits: Any, y: Targets) -> Any:
        return module.rnnt_loss(
            logits, y.labels, y.frames, y.n_labels, blank=0, clamp=-1.0, reduction="none"
        )

    def fast_rnnt(logits: Any, y: Targets) -> Any:
        nothing = y.torch.zeros_like(y.frames)
        boundary = y.torch.stack([nothing, nothing, y.n_labels, y.frames], dim=1)
        return module.rnnt_loss(logits, y.labels.long(), 0, boundary.long(), reduction="none")

    def warp_rnnt(logits: Any, y: Targets) -> Any:
        log_probs = logits.log_softmax(dim=-1)
        return module.rnnt_loss(
            log_probs, y.labels, y.frames, y.n_labels, blank=0, reduction="none", gather=True
        )

    def warprnnt_pytorch(logits: Any, y: Targets) -> Any:
        loss = module.RNNTLoss(blank=0, reduction="none")
        return loss(logits, y.labels, y.frames, y.n_labels)

    by_name = {
        "torchaudio": torchaudio,
        "fast_rnnt": fast_rnnt,
        "warp_rnnt": warp_rnnt,
        "warprnnt_pytorch": warprnnt_pytorch,
    }
    return by_name[name]


def importable() -> dict[str, str]:
    """Version of each peer that can be imported; "" where it tells none."""
    found = {}
    for name, module in MODULES.items():
        try:
            importlib.import_module(module)
        except (ImportError, OSError):  # OSError: a library that the module loads is not there
            continue
        found[name] = str(getattr(sys.modules[module.split(".")[0]], "__version__", ""))
    return found


def check(name: str, path: str, torch: Any, device: str) -> dict[str, Any]:
    """Largest differences of losses (relative) and gradient to those stored in a file."""
    import numpy as np

    with np.load(path) as stored:
        known = dict(stored)
    targets = Targets(
        torch, known["labels"], known["frame_lengths"], known["label_lengths"], device
    )
    logits = torch.tensor(known["logits"], device=device, requires_grad=True)
    losses = losses_of(name)(logits, targets)
    losses.sum().backward()
    losses, gradient = losses.detach().cpu().numpy(), logits.grad.cpu().numpy()
    # Some leave numbers where there is only padding: this is about the cells that count.
    t, u = np.arange(gradient.shape[1])[:, None], np.arange(gradient.shape[2])[None, :]
    frames, labels = known["frame_lengths"], known["label_lengths"]
    inside = (t < frames[:, None, None]) & (u <= labels[:, None, None])
    return {
        "loss": float(np.abs(losses / known["losses"] - 1).max()),
        "gradient": float(np.abs(gradient - known["gradient"])[inside].max()),
    }


def measure(request: dict[str, Any], torch: Any, device: str) -> dict[str, Any]:
    """Milliseconds of loss and gradient; at the joint level torch computes the joint."""
    case, form = request["case"], request["form"]
    n_batch, n_frames, n_labels = len(case["frames"]), max(case["frames"]), max(case["labels"])
    n_classes, width = case["classes"], case["width"]
    labels = torch.randint(1, n_classes, (n_batch, n_labels))
    targets = Targets(torch, labels, case["frames"], case["labels"], device)
    loss = losses_of(form)

    def leaf(*shape: int) -> Any:
        return torch.randn(*shape, device=device, requires_grad=True)

    if width:
        inputs = [leaf(n_batch, n_frames, 1, width), leaf(n_batch, 1, n_labels + 1, width)]
        inputs.append(torch.nn.Parameter(torch.randn(width, n_classes, device=device)))
        inputs[2].data /= width**0.5
    else:
        inputs = [leaf(n_batch, n_frames, n_labels + 1, n_classes)]

    def evaluate() -> None:
        for x in inputs:
            x.grad = None
        logits = torch.tanh(inputs[0] + inputs[1]) @ inputs[2] if width else inputs[0]
        loss(logits, targets).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    times = []
    began = time.perf_counter()
    for repeat in range(request["repeats"] + 1):
        start = time.perf_counter()
        evaluate()
        if repeat:  # the first warms up
            times.append(1e3 * (time.perf_counter() - start))
        if repeat >= 2 and time.perf_counter() - began > PATIENCE_S:
            break
    return {"ms": {form: times}}


def too_large(request: dict[str, Any], torch: Any, device: str) -> str | None:
    """Why a shape is skipped, or None. Peers hold about five tensors of the logits' size."""
    case = request["case"]
    rows = len(case["frames"]) * max(case["frames"]) * (max(case["labels"]) + 1)
    needed = 4 * rows * (5.3 * case["classes"] + 3 * case["width"])
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else request.get("host_bytes")
    if free is None or needed <= 0.9 * free:
        return None
    return f"needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"


def answer(request: dict[str, Any]) -> dict[str, Any]:
    torch: Any = importlib.import_module("torch")
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = "cuda" if request["platform"] == "gpu" and torch.cuda.is_available() else "cpu"
    if request["form"] in NEEDS_CUDA and device == "cpu":
        return {"skipped": "computes on CUDA only"}
    if "path" in request:
        return check(request["form"], request["path"], torch, device)
    reason = too_large(request, torch, device)
    return {"skipped": reason} if reason else measure(request, torch, device)


if __name__ == "__main__":
    # This folder's files are parley's and must not stand in for anything that a peer imports.
    sys.path.pop(0)
    print(json.dumps(importable() if "--list" in sys.argv else answer(json.load(sys.stdin))))
