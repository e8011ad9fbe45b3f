"""The embedded corpus: a voice assistant's requests, spoken by synthetic speakers.

Nothing is downloaded: espeak-ng (extra `synth`) speaks what a grammar draws, in seven accents and
as many voices as wanted, and the result is a TFDS dataset on disk.

- `words` and `assistant` draw the texts, `speakers` the people, `session` the circumstances;
- `synth` speaks, `worker` in a process of its own, `pool` in several; `builder` writes the dataset;
- `corpus` is what one opens.
"""

from .corpus import EmbeddedCorpus

__all__ = ["EmbeddedCorpus"]
