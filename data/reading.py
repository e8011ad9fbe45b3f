"""Recordings read from storage that may stutter: again before giving up, and never for ever."""

import queue
import threading
import time

import numpy as np

from .corpus import Corpus
from .errors import InputError

ATTEMPTS = 3
"""A file that is damaged is damaged again; one that a network lost for a moment is not."""
PATIENCE_S = 60.0
"""Seconds that one attempt may take."""
_PAUSE_S = 0.2


class Reader:
    """Reads a corpus's recordings, several times where it has to; safe from several threads.

    Args:
      corpus: what is read.
      attempts: at most so many of a recording.
      patience_s: seconds after which an attempt is given up. The thread that waits for storage
        stays behind, since nothing can call it back.
    """

    def __init__(self, corpus: Corpus, *, attempts: int = ATTEMPTS, patience_s: float = PATIENCE_S):
        self.corpus, self.attempts, self.patience_s = corpus, attempts, patience_s

    def samples(self, index: int) -> np.ndarray:
        """As `Corpus.samples`. Raises InputError when no attempt succeeds; it says of the last."""
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(_PAUSE_S * 4 ** (attempt - 1))
            found: queue.Queue[np.ndarray | Exception] = queue.Queue()
            threading.Thread(target=self._read, args=(index, found), daemon=True).start()
            try:
                result = found.get(timeout=self.patience_s)
            except queue.Empty:
                reason = f"took more than {self.patience_s:g} s to be read"
                continue
            if isinstance(result, np.ndarray):
                return result
            if not isinstance(result, InputError | OSError):
                raise result
            reason = str(result)
        raise InputError(f"{reason.rstrip('.')} (after {self.attempts} attempts).")

    def _read(self, index: int, found: "queue.Queue[np.ndarray | Exception]") -> None:
        try:
            found.put(self.corpus.samples(index))
        except Exception as error:  # raised again by who waits
            found.put(error)
