"""Recognition as an Apache Beam transform (extra `beam`).

    from parley.zoo.dataflow import Transcribe

    results = pipeline | beam.Create(paths) | beam.Reshuffle() | Transcribe("rnnt-tiny")
    results.transcribed | beam.Map(lambda pair: json.dumps(pair[1])) | beam.io.WriteToText("out")
    results.rejected | ...

Elements are paths that the workers can open, or pairs of an id and an encoded file's bytes (what
`beam.io.fileio` reads from a bucket). Workers need this package, and the model where `zoo.load`
finds it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.errors import Rejected
from .decoding import GREEDY, Decoding
from .formats import record
from .inputs import Item

try:
    import apache_beam as beam  # pyright: ignore[reportMissingImports]
    from apache_beam.metrics import Metrics  # pyright: ignore[reportMissingImports]
    from apache_beam.utils.shared import Shared  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError(
        "parley.zoo.dataflow needs Apache Beam: pip install 'parley-asr[beam]'"
    ) from error

if TYPE_CHECKING:
    from .transcriber import Transcriber

TRANSCRIBED, REJECTED = "transcribed", "rejected"
_BATCH = 64
"""Elements that are packed into batches together."""


class Transcribe(beam.PTransform):
    """Recordings (a path, or (id, bytes)) -> `transcribed` and `rejected`.

    Both hold pairs of the id (the path) and a dict: of `transcribed` what a line of
    `parley transcribe --out results.jsonl --words` holds, of `rejected` id and reason. What cannot
    be used fails neither its batch nor the pipeline.

    Elements that one step makes are fused with it: `beam.Reshuffle()` before this one spreads them
    over workers.
    """

    def __init__(self, model: str | Path, *, decoding: Decoding = GREEDY):
        """`model`: as for `zoo.load`; looked for on the workers."""
        super().__init__()
        self._model, self._decoding = str(model), decoding

    def expand(self, input_or_inputs: Any) -> Any:
        return (
            input_or_inputs
            | beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | beam.ParDo(_Transcribe(self._model, self._decoding)).with_outputs(
                REJECTED, main=TRANSCRIBED
            )
        )


class _Transcribe(beam.DoFn):
    """Loads the model once a process, however many threads it has."""

    def __init__(self, model: str, decoding: Decoding):
        self._name, self._decoding = model, decoding
        self._shared = Shared()

    def setup(self) -> None:
        from . import load

        self._model: Transcriber = self._shared.acquire(
            lambda: load(self._name, decoding=self._decoding)
        )

    def process(self, element: Sequence[Any]) -> Iterator[Any]:
        items: list[Item] = []
        audio: list[str | bytes] = []
        for given in element:
            match given:
                case str():
                    items.append(Item(given, given, given))
                    audio.append(given)
                case (str() as id, bytes() as encoded):
                    items.append(Item(id, ""))
                    audio.append(encoded)
                case _:
                    kind = type(given).__name__
                    yield _reject(repr(given)[:80], f"a {kind} is neither a path nor (id, bytes).")
        for position, result in self._model.transcribe_each(audio):
            item = items[position]
            if isinstance(result, Rejected):
                yield _reject(item.id, result.reason)
            else:
                Metrics.counter("parley", "audio_ms").inc(round(1000 * result.duration))
                yield item.id, record(item, result)


def _reject(id: str, reason: str) -> beam.pvalue.TaggedOutput:
    Metrics.counter("parley", "rejected").inc()
    return beam.pvalue.TaggedOutput(REJECTED, (id, {"id": id, "reason": reason}))
