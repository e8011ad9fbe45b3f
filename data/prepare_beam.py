"""Shards of a corpus written by Apache Beam (extra `beam`), each by whichever worker is free."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .corpus import Corpus, open_corpus
from .errors import InputError
from .sharded import Shard, finish, read_reports, shard_count, write_report, write_shard

try:
    import apache_beam as beam  # pyright: ignore[reportMissingImports]
    from apache_beam.options.pipeline_options import (  # pyright: ignore[reportMissingImports]
        PipelineOptions,
    )
except ImportError as error:
    raise InputError(
        "preparing a corpus takes Apache Beam: pip install 'parley-asr[beam]', in an environment "
        "of its own."
    ) from error


def prepare(
    spec: str,
    split: str,
    folder: Path,
    name: str,
    *,
    workers: int = 1,
    shards: int = 0,
    options: list[str] | None = None,
) -> list[Shard]:
    """Writes `spec` to `folder` and returns its shards.

    Args:
      spec: as `open_corpus` takes it; workers open it too, so its files lie where they see them.
      split: of the corpus, and what the split is called in the folder.
      workers: processes of Beam's direct runner; `options` name another runner.
      shards: 0 takes shards of about two hours.

    Raises InputError for a corpus that cannot be used.
    """
    corpus = open_corpus(spec, split)
    number = shards or shard_count(corpus)
    if number > len(corpus):
        raise InputError(f"--shards {number}: {corpus.name} has {len(corpus)} recordings.")
    folder.mkdir(parents=True, exist_ok=True)
    runner = options or [
        "--runner=DirectRunner",
        f"--direct_num_workers={workers}",
        f"--direct_running_mode={'multi_processing' if workers > 1 else 'in_memory'}",
        # Otherwise each worker tells a page about its channels. What fails is raised here.
        "--default_sdk_harness_log_level=ERROR",
    ]
    report = folder / "shards"
    report.mkdir(exist_ok=True)
    with beam.Pipeline(options=PipelineOptions(runner)) as pipeline:
        numbers = pipeline | beam.Create(range(number)) | beam.Reshuffle()
        _ = numbers | beam.ParDo(_Write(spec, split, folder, name, number))
    found = read_reports(report, number)
    finish(folder, name, split, found)
    for path in report.iterdir():
        path.unlink()
    report.rmdir()
    return found


class _Write(beam.DoFn):
    """Writes a shard, and beside it what it holds: a worker that dies leaves neither or both."""

    def __init__(self, spec: str, split: str, folder: Path, name: str, shards: int):
        self.spec, self.split, self.folder, self.name = spec, split, folder, name
        self.shards = shards

    def setup(self) -> None:
        self.corpus: Corpus = open_corpus(self.spec, self.split)

    def process(self, element: int) -> Iterator[Any]:
        shard = write_shard(self.corpus, self.folder, self.name, self.split, element, self.shards)
        write_report(self.folder / "shards", shard)
        yield element
