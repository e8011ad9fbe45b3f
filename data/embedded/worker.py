"""Speakers at work, in a process of their own: `python -m parley.data.embedded.worker`.

A worker reads jobs (JSON lines) from its standard input and answers each on standard output with
the pickled examples of one session, or with the exception that stopped it. `pool` asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import sys
from collections.abc import Iterable
from typing import Any

from ..text import normalize
from .draw import Draw
from .session import draw_manner, record
from .speakers import speaker
from .synth import SYNTH_RATE, Synthesiser


def speak(draw: Draw, index: int, numbers: Iterable[int]) -> list[dict[str, Any]]:
    """One session of one speaker: the utterances of these numbers, in this order.

    Returns:
      Examples as `builder` writes them: `audio` is [N] int16 at 16 kHz, `text` is normalised.

    Raises:
      InputError: the extra `synth` is not installed.
    """
    who = speaker(draw.split, index, draw.seed)
    accent, variant = who.voice.split("+")
    examples = []
    with Synthesiser({variant: who.variant}) as synthesiser:
        synthesiser.voice(accent, variant)
        for number in numbers:
            rng = draw.rng(index, number)
            text, manner = draw.spoken(rng), draw_manner(rng)
            synthesiser.seed(int(rng.integers(2**32)))
            speech = synthesiser.say(
                text,
                rate=round(who.pace * manner.pace),
                pitch=50 + manner.pitch_steps,
                span=who.span,
            )
            audio, circumstances = record(speech, SYNTH_RATE, rng, noisy=draw.noisy)
            examples.append(
                {
                    "id": f"{draw.config}-{who.name}-{number:04d}",
                    "text": normalize(text),
                    "speaker": who.name,
                    "audio": audio,
                    **who.metadata(),
                    **circumstances,
                }
            )
    return examples


def main() -> None:
    """Answer jobs until standard input ends."""
    # An interrupt from the keyboard reaches all processes; the asking one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The reply must not mix with what a C library may print.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        job = json.loads(line)
        try:
            reply: Any = speak(Draw(**job["draw"]), job["index"], job["numbers"])
        except Exception as error:  # the asking process raises it
            reply = error
        pickle.dump(reply, replies, protocol=pickle.HIGHEST_PROTOCOL)
        replies.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
