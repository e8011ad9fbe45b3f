"""A corpus scored into a file of JSON lines, with which an interrupted run goes on.

The lines are those of `parley evaluate --out`, in the order in which they were done.
"""

import json
from collections.abc import Callable
from pathlib import Path

from ..data.corpus import Corpus, quarantined
from ..data.errors import InputError, Rejected
from ..data.views import SelectedCorpus
from .evaluation import score_each
from .results import LinesFile, Run, Syncing, hash_ids, hash_model, read_run, resumed, write_run
from .transcriber import Transcriber


def score_into(
    path: Path,
    model: Transcriber,
    corpus: Corpus,
    *,
    options: dict[str, str],
    command: str = "",
    on_audio: Callable[[float], None] | None = None,
) -> list[Rejected]:
    """Scores what `path` does not hold yet.

    Args:
      options: what names the corpus, and how the model is run; kept beside the file, with the hash
        of the model.
      on_audio: told of seconds that are done, those of an earlier run at once.

    Returns:
      What could not be used, and why.

    Raises:
      InputError: the file holds scores of another model or of other data, or is being written.
    """
    utterances = [corpus.utterance(i) for i in range(len(corpus))]
    names = [_name(u.speaker, u.id) for u in utterances]
    weights = hash_model(model.folder)
    run = Run(model.name, weights, options, hash_ids(names), len(names), command=command)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = LinesFile(path)
    try:
        done = _resume(file, run)
        write_run(path, run)
        left = [i for i, name in enumerate(names) if name not in done]
        if on_audio is not None and done:
            on_audio(
                sum(u.duration for u in utterances) - sum(utterances[i].duration for i in left)
            )
        quarantine = quarantined(corpus).copy()
        sync = Syncing(file)
        rest = SelectedCorpus(corpus, left, corpus.name)
        for _, scored in score_each(model, rest, quarantine, on_audio):
            file.append(json.dumps(scored.as_dict(), ensure_ascii=False) + "\n")
            sync()
        return quarantine
    finally:
        file.close()


def _resume(file: LinesFile, run: Run) -> set[str]:
    """The names of what is done; what is torn at the file's end is cut off."""
    if not file.size:
        return set()
    if conflict := run.conflict(read_run(file.path)):
        raise InputError(f"{file.path} {conflict}: give another --out.")
    return resumed(file, lambda line: _name(str(line.get("speaker", "")), line["id"]))


def _name(speaker: str, id: str) -> str:
    """Draws of two seeds call their utterances alike, and never their speakers."""
    return f"{speaker}\t{id}"
