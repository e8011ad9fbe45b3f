"""Running an exported folder: compiled programs from a file, without the model's Python code.

    model = load_exported("rnnt-tiny.export")
    print(model.transcribe("recording.wav"))

`zoo/export.py` writes what this reads: StableHLO that takes the weights as its first argument, the
weights once as safetensors, the tokenizer, the card, and the manifest `export.json` that says what
there is. Inputs and outputs are plain lists of arrays, so nothing of Parley's own types is stored.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from ..data.errors import InputError
from ..data.tokenizer import Tokenizer
from ..train.weights import load_weights
from .calibration import read_calibrator
from .programs import Heard, Hypothesis, tokens_of
from .runtime import set_up
from .transcript import Token

if TYPE_CHECKING:
    from .transcriber import Transcriber

FORMAT = 1
"""Of the folder; another one is refused."""
MANIFEST, WEIGHTS, TOKENIZER = "export.json", "weights.safetensors", "tokenizer.model"

State: TypeAlias = list[jax.Array]
"""All that streams carry from one step to the next; every leaf has a row for each."""


@dataclass(frozen=True)
class Program:
    """One file of StableHLO.

    All take the weights, a list in the manifest's order, as their first argument.

    * recognize(weights, samples int16 [B, N], lengths int32 [B]) -> hypotheses
    * start(weights) -> state of one stream, a list
    * step(weights, state, samples int16 [B, N], active bool [B], fresh bool [B])
      -> (hypotheses, state)

    Hypotheses are a tuple of tokens, frames, log-probabilities [B, M] and counts [B]: of each row
    the first `counts` entries count.

    Attributes:
      samples: N; 0 for `start`.
      rows: fewest and most B; None: no bound.
    """

    kind: Literal["recognize", "start", "step"]
    file: str
    samples: int
    rows: tuple[int, int | None]


@dataclass(frozen=True)
class Manifest:
    """What `export.json` says.

    Attributes:
      platforms: that the programs were lowered for, as `jax.export` calls them.
      samples_per_step, frame_s, tail, channels: as of a `Recognizer`.
      weights: shape of every weight, float32, in the programs' order.
      sha256: of every file beside the manifest.
    """

    name: str
    parley: str
    jax: str
    platforms: tuple[str, ...]
    sample_rate: int
    samples_per_step: int
    frame_s: float
    tail: int
    weights: Mapping[str, tuple[int, ...]]
    programs: tuple[Program, ...]
    sha256: Mapping[str, str]
    channels: int = 1

    def to_json(self) -> str:
        """With the format's version, and a checksum of the text itself."""
        text = json.dumps({"format": FORMAT, **asdict(self), "checksum": ""}, indent=1) + "\n"
        return text.replace('"checksum": ""', f'"checksum": "{_sha256(text.encode())}"')


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks `export.json`, not the files that it names.

    Raises:
      InputError: it is missing, damaged or of another version, or names files elsewhere.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes().decode()
        record = json.loads(text)
        version, own = record.pop("format"), record.pop("checksum")
    except FileNotFoundError:
        raise InputError(
            f"{folder} is no exported model: it has no {MANIFEST}; make one with parley export."
        ) from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise _changed(path) from None
    if version != FORMAT:
        raise InputError(
            f"{path} is of format {version}, and this version of parley reads format {FORMAT}: "
            "export the model again."
        )
    # The checksum is that of the text in which its own place is empty.
    if not isinstance(own, str) or _sha256(text.replace(own, "").encode()) != own:
        raise _changed(path)
    try:
        programs = tuple(
            Program(**{**program, "rows": tuple(program["rows"])})
            for program in record.pop("programs")
        )
        manifest = Manifest(programs=programs, **record)
        names = [*manifest.sha256, *(program.file for program in programs)]
        for name in names:
            # Separators of every system: a folder may be made on one and read on another.
            if name in ("", ".", "..") or any(c in name for c in "/\\:\0"):
                raise InputError(f"{path} names {name!r}, which lies outside its folder: refused.")
        if missing := sorted({WEIGHTS, TOKENIZER, *names} - manifest.sha256.keys()):
            raise InputError(f"{path} has no checksum of {missing[0]}: export it again.")
    except (TypeError, KeyError, AttributeError):
        raise InputError(f"{path} lacks entries or has unknown ones: export it again.") from None
    return manifest


def _read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """The files' contents; raises InputError for one that is missing or was changed."""
    files = {}
    for name, digest in manifest.sha256.items():
        path = folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise InputError(f"{path} is missing: copy the folder again, whole.") from None
        if _sha256(content) != digest:
            raise _changed(path)
        files[name] = content
    return files


class ExportedRecognizer:
    """The programs of an exported folder, used as a `Recognizer` is.

    Attributes:
      manifest: what the folder holds.
      samples_per_step: samples that an encoder step takes.
      frame_s: the same in seconds.
      tail: samples of silence that end a stream, as `dispatch` appends them to every row.
      calibrator: as of a `Recognizer`.
      row_multiple: 1; the programs run on one device.
    """

    row_multiple = 1

    def __init__(self, folder: Path):
        """Raises InputError for a folder that is damaged, or not meant for this machine."""
        folder = Path(folder)
        self.manifest = read_manifest(folder)
        set_up()  # before the question for the platform, which starts XLA
        platform = jax_export.default_export_platform()
        if platform not in self.manifest.platforms:
            raise InputError(
                f"{folder} was exported for {', '.join(self.manifest.platforms)}, and JAX runs on "
                f"{platform} here: set JAX_PLATFORMS, or export it for {platform}."
            )
        files = _read_files(folder, self.manifest)
        self.tokenizer = Tokenizer.from_bytes(files[TOKENIZER], name=str(folder / TOKENIZER))
        self.calibrator = read_calibrator(folder)
        self.samples_per_step = self.manifest.samples_per_step
        self.frame_s = self.manifest.frame_s
        self.channels = self.manifest.channels
        self.streams = any(p.kind == "step" for p in self.manifest.programs)
        self.tail = self.manifest.tail
        shapes = {
            name: jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
            for name, shape in self.manifest.weights.items()
        }
        self._weights = jax.device_put(list(load_weights(folder / WEIGHTS, shapes).values()))

        @cache
        def compiled(program: Program) -> Any:
            try:
                return jax.jit(jax_export.deserialize(bytearray(files[program.file])).call)
            except ValueError as error:
                raise InputError(
                    f"{folder / program.file} was written by jax {self.manifest.jax}, and jax "
                    f"{jax.__version__} does not read it ({error}): export the model again."
                ) from None

        self._compiled = compiled

    def dispatch(self, samples: np.ndarray, lengths: np.ndarray) -> Any:
        """Begins the work on int16 samples [B, N], of which `lengths` [B] count, and comes back.

        Raises ValueError for an N beyond the longest program's.
        """
        rows, length = samples.shape
        fitting = [p for p in self._programs("recognize", rows) if p.samples >= length]
        if not fitting:
            raise ValueError(f"no exported program takes {rows} rows of {length} samples")
        program = min(fitting, key=lambda p: p.samples)
        samples = np.pad(samples, ((0, 0), (0, program.samples - length)))
        lengths = np.asarray(lengths, np.int32)
        return self._compiled(program)(self._weights, samples, lengths)

    def fetch(self, found: Any) -> list[list[Hypothesis]]:
        """Waits for what `dispatch` began: one hypothesis of each row, greedy search's."""
        found = jax.device_get(found)
        return [[Hypothesis(tokens_of(found, row))] for row in range(len(found[3]))]

    def start_streams(self, count: int) -> State:
        """The state of `count` streams before their first sample; it may have rows to spare.

        Raises ValueError for a model that cannot stream.
        """
        programs = self.manifest.programs
        many = [p.rows[0] for p in programs if p.kind == "step" and p.rows[1] is None]
        if not many:
            raise ValueError(f"{self.manifest.name} cannot stream: it needs whole recordings")
        [program] = self._programs("start", 1)
        state = self._compiled(program)(self._weights)
        # One stream, or at least as many as the programs for several take.
        rows = 1 if count == 1 else max(count, *many)
        return [jnp.tile(leaf, (rows,) + (1,) * (leaf.ndim - 1)) for leaf in state]

    def step(
        self,
        samples: np.ndarray,
        state: State,
        *,
        active: np.ndarray | None = None,
        fresh: np.ndarray | None = None,
    ) -> tuple[list[Heard], State]:
        """What the next samples int16 [S, n] give to each stream.

        As `Recognizer.step`. Raises ValueError for an n that no program takes.
        """
        count, length = samples.shape
        rows = len(state[0])
        fitting = [p for p in self._programs("step", rows) if p.samples == length]
        if not fitting:
            raise ValueError(f"no exported program takes {rows} streams' {length} samples")
        spare = (0, rows - count)
        active = np.pad(np.ones(count, bool) if active is None else active, spare)
        fresh = np.pad(np.zeros(count, bool) if fresh is None else fresh, spare)
        samples = np.pad(samples, (spare, (0, 0)))
        step = self._compiled(fitting[0])
        found, state = step(self._weights, state, samples, active, fresh)
        found = jax.device_get(found)
        rows = range(count * self.channels)
        return [Heard(tokens_of(found, row), []) for row in rows], state

    def rest(self, state: State) -> list[list[Token]]:
        """Nothing: greedy search commits all that it finds."""
        return [[] for _ in range(len(state[0]) * self.channels)]

    def _programs(self, kind: str, rows: int) -> list[Program]:
        """Those that take so many rows."""
        return [
            program
            for program in self.manifest.programs
            if program.kind == kind
            and program.rows[0] <= rows
            and (program.rows[1] is None or rows <= program.rows[1])
        ]


def load_exported(folder: str | Path) -> "Transcriber":
    """An exported model, ready to transcribe.

    Raises:
      InputError: the folder is no export, is damaged or of another version, or was exported for
        other platforms than this machine's.
    """
    from .transcriber import Transcriber

    folder = Path(folder).expanduser()
    recognizer = ExportedRecognizer(folder)
    return Transcriber(recognizer.manifest.name, folder, recognizer)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _changed(path: Path) -> InputError:
    return InputError(f"{path} does not match its checksum: export it again.")
