"""Conversations mixed from a corpus's recordings on the fly, with the times of every turn.

What a separator-transducer-segmenter (Sklyar et al., Interspeech 2022, arXiv 2205.05199) is
trained and tested on: one to four talkers, of whom at most two speak at once. An item is a function
of (seed, index) alone, so that any process can make it. Which output channel a turn goes to is not
decided here (`turns.assign_channels`); no rule runs out of channels on what is made here.

| what | distribution |
|---|---|
| turns | 20 % single where `low` is 1, else U{max(low, 2)..high}; fewer where `seconds` are full |
| talkers | U{1..4}, then no more than turns; speakers alike; most turns change hands |
| gaps and overlaps | see `turntaking`, or by `overlap` |
| silence | U(0.2, 1.0) s before, U(0.5, 3.0) s after, cut to `seconds` |
| level | U(-33, -23) dB below full scale over a turn's speech, and U(-5, 5) dB a talker |
| rooms | a share `rooms`: one of 16 rooms, a place in it for each talker, and noise 10 to 30 dB |
| | below the mean power while somebody talks |
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .activity import GRAIN, GRAIN_SECONDS, SpeechBounds
from .audio import SAMPLE_RATE, to_int16
from .corpus import Corpus, Utterance, quarantined
from .errors import InputError, Rejected
from .noise import add_noise, cut_noise, noise_pool
from .rooms import RoomPool
from .turns import Turn, overlap_share
from .turntaking import (
    SECOND,
    START_DISTANCE,
    draw_gaps,
    draw_talkers,
    natural_overlap,
    place,
    place_with_share,
)
from .views import CachedCorpus

TALKERS = 4
_SINGLE = 0.2
_LEAD_S, _TRAIL_S = (0.2, 1.0), (0.5, 3.0)
_LEVEL_DB, _GAIN_DB, _SNR_DB = (-33.0, -23.0), (-5.0, 5.0), (10.0, 30.0)
_FULL_SCALE = 32767.0
# Around a turn's speech, where a detector of energy may be late or early.
_BEFORE, _AFTER, _FADE = SAMPLE_RATE // 10, SAMPLE_RATE // 5, SAMPLE_RATE // 50
_TOLERANCE = 0.015  # of the share of overlap; 0.02 is promised
_ATTEMPTS = 60
_CACHE_BYTES = 500_000_000


@dataclass(frozen=True)
class ConversationConfig:
    """What conversations are like. Raises `ValueError` where that makes no sense."""

    low: int = 1  # turns
    high: int = 4
    overlap: float | None = None  # percent of the talking time, +-2 points; None: as people do
    seconds: float = 20.0  # no conversation is longer
    rooms: float = 0.5  # the share that is recorded in a room, with noise
    ramp: int = 0  # conversations until all turns come: i has at most 1 + (high - 1) i / ramp
    draws: int | None = None  # conversations in an epoch; None: as many as there are recordings
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError("turns must be a count or a range such as 1-4")
        if self.overlap is not None and not 0 <= self.overlap <= 50:
            raise ValueError("overlap must be from 0 to 50 percent")
        if self.overlap is not None and self.low < 2:
            raise ValueError("overlap needs two turns or more, for example turns=2-4")
        if self.overlap is not None and self.ramp:
            raise ValueError("ramp is for training, overlap for tests: give one of them")
        if not 0 <= self.rooms <= 1:
            raise ValueError("rooms must be a share from 0 to 1")
        if self.ramp < 0:
            raise ValueError("ramp must be a count of conversations")
        least = self.low * START_DISTANCE / SECOND + _LEAD_S[1] + _TRAIL_S[0]
        if not least <= self.seconds <= 3600:
            raise ValueError(f"seconds must be from {least:g} to 3600 for {self.low} turns")


@dataclass(frozen=True)
class _Part:
    """A turn: which recording, when (grains), and how loud (dB below full scale)."""

    source: int
    talker: int
    start: int
    length: int
    level_db: float


@dataclass(frozen=True)
class _Conversation:
    parts: tuple[_Part, ...]
    grains: int
    room: int | None
    snr_db: float  # used in a room
    noise_seed: int


class ConversationCorpus:
    """Conversations of recordings of `base`, whose speakers must be known.

    Endless: `utterance(i)` is another draw for every i; an epoch takes the next `draws` of them.
    `utterance(i).metadata` has `turns` (`Turn`s in start order, on a grid of 10 ms), `overlap` (the
    share), `turn_count`, `speakers` (how many), `rt60` (s, 0 without a room) and `snr_db` (None
    without a room); its `text` is the turns' texts in start order, and its `speaker` all speakers
    joined, a block of its own for resampling. A recording is read when a conversation first needs
    it; what is known of its speech then is kept (`SpeechBounds`).

    Args:
      base: recordings of one talker each.
      config: see there.
      bounds: file to keep what was found about the recordings.

    Attributes:
      late_epoch: the first epoch that has all lengths, which a plan of batches must look at.

    Raises:
      InputError: fewer than two speakers, recordings too long for `seconds`, or an overlap that
        turns so short cannot have.
    """

    endless = True

    def __init__(self, base: Corpus, config: ConversationConfig, *, bounds: Path | None = None):
        self.base = CachedCorpus(base, _CACHE_BYTES)
        self.config = config
        self.draws = config.draws or len(base)
        counts = f"{config.low} to {config.high}" if config.high > config.low else f"{config.high}"
        overlap = "" if config.overlap is None else f", {config.overlap:g} % overlapped"
        self.name = f"{base.name} (conversations of {counts} turns{overlap})"
        self.late_epoch = -(-config.ramp // self.draws)
        self.bounds = SpeechBounds(self.base, bounds)
        self.rooms = RoomPool(config.seed)
        self._limit = math.floor((config.seconds - _TRAIL_S[0]) * SECOND)
        # Each of the needed turns fits, whatever is drawn for the others.
        self._reserve = math.floor((self._limit - _LEAD_S[1] * SECOND) / config.low)
        self._takes = self._usable()
        self._bad: dict[int, Rejected] = {}
        if config.overlap is not None:
            self._draw(0)  # says at once if turns are too short for it

    def _usable(self) -> list[np.ndarray]:
        """For each speaker, the recordings that are short enough."""
        groups: dict[str, list[int]] = defaultdict(list)
        for i in range(len(self.base)):
            utterance = self.base.utterance(i)
            if 0.0 < utterance.duration <= self._reserve * GRAIN_SECONDS:
                groups[utterance.speaker].append(i)
        if "" in groups:
            example = self.base.utterance(groups[""][0]).id
            raise InputError(
                f"{self.base.name}: conversations need speakers, and {example} has none; "
                "add them to the manifest."
            )
        if len(groups) < 2:
            raise InputError(
                f"{self.base.name}: conversations need recordings of two speakers or more that "
                f"last at most {self._reserve * GRAIN_SECONDS:.1f} s ({self.config.low} turns in "
                f"{self.config.seconds:g} s), and there are those of {len(groups)}; "
                "give seconds, or other recordings."
            )
        return [np.asarray(takes) for takes in groups.values()]

    @property
    def quarantine(self) -> list[Rejected]:
        """What the corpus beneath left out, and recordings that could not be read."""
        return [*quarantined(self.base), *self._bad.values()]

    def __len__(self) -> int:
        return self.draws

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`; reads the recordings that no conversation has needed yet."""
        drawn = self._draw(i)
        sources = [self.base.utterance(part.source) for part in drawn.parts]
        turns = tuple(
            Turn(_seconds(part.start), _seconds(part.start + part.length), said.text, said.speaker)
            for part, said in zip(drawn.parts, sources, strict=True)
        )
        speakers = list(dict.fromkeys(turn.speaker for turn in turns))
        return Utterance(
            id=f"{i:06d}:" + "+".join(said.id for said in sources),
            text=" ".join(turn.text for turn in turns),
            duration=_seconds(drawn.grains),
            speaker="+".join(sorted(speakers)),
            metadata={
                "turns": turns,
                "overlap": round(overlap_share(turns), 4),
                "turn_count": len(turns),
                "speakers": len(speakers),
                "rt60": 0.0 if drawn.room is None else round(self.rooms[drawn.room].rt60, 3),
                "snr_db": None if drawn.room is None else round(drawn.snr_db, 1),
            },
        )

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        return self._render(self._draw(i))

    def _draw(self, i: int) -> _Conversation:
        for attempt in range(_ATTEMPTS):
            drawn = self._attempt(np.random.default_rng((self.config.seed, i, attempt)), i)
            if drawn is not None:
                return drawn
        if self._bad:
            raise InputError(f"{self.base.name}: {next(iter(self._bad.values()))}")
        raise InputError(
            f"{self.name}: no overlap of {self.config.overlap:g} % can be had of recordings so "
            "short, since turns start half a second apart; give longer ones, or join them first "
            "(join=3-6)."
        )

    def _attempt(self, rng: np.random.Generator, i: int) -> _Conversation | None:
        """Conversation i, unless it cannot have its overlap or be read."""
        config = self.config
        count = self._turns(rng, i)
        overlaps = config.overlap is not None and config.overlap > 0
        most = min(TALKERS, len(self._takes))
        talkers = draw_talkers(rng, count, most, least=2 if overlaps else 1)
        sources = self._sources(rng, talkers)
        spans = self._spans(sources)
        if spans is None:
            return None
        lengths = [max((last - first) // GRAIN, 1) for first, last in spans]
        lead = int(rng.uniform(*_LEAD_S) * SECOND)
        gaps = draw_gaps(rng, count)
        fit = {"limit": self._limit, "needed": config.low, "reserve": self._reserve}
        if config.overlap is None:
            overlap = natural_overlap(rng, count)
            starts = place(lengths, talkers, lead, gaps, overlap, **fit)
        else:
            target = config.overlap / 100.0
            starts = place_with_share(target, _TOLERANCE, rng, lengths, talkers, lead, gaps, **fit)
            if starts is None:
                return None
        ends = [start + length for start, length in zip(starts, lengths, strict=False)]
        trail = rng.uniform(*_TRAIL_S) * SECOND
        level, gains = rng.uniform(*_LEVEL_DB), rng.uniform(*_GAIN_DB, TALKERS)
        in_room = rng.random() < config.rooms
        room = int(rng.integers(len(self.rooms)))
        return _Conversation(
            parts=tuple(
                _Part(sources[k], talkers[k], start, lengths[k], level + float(gains[talkers[k]]))
                for k, start in enumerate(starts)
            ),
            grains=int(min(max(ends) + trail, config.seconds * SECOND)),
            room=room if in_room else None,
            snr_db=float(rng.uniform(*_SNR_DB)),
            noise_seed=int(rng.integers(2**63)),
        )

    def _spans(self, sources: list[int]) -> list[tuple[int, int]] | None:
        """Where the speech of each recording lies; None where one cannot be read."""
        spans = []
        for source in sources:
            try:
                spans.append(self.bounds[source])
            except (InputError, OSError) as error:
                where = self.base.utterance(source).id
                self._bad.setdefault(source, Rejected(where, str(error)))
                return None
        return spans

    def _turns(self, rng: np.random.Generator, i: int) -> int:
        low, high = self.config.low, self.config.high
        if i < self.config.ramp:
            high = max(low, round(1 + (high - 1) * i / self.config.ramp))
        single, many = rng.random() < _SINGLE, int(rng.integers(max(low, 2), max(high, 2) + 1))
        return 1 if high == 1 or (low == 1 and single) else many

    def _sources(self, rng: np.random.Generator, talkers: list[int]) -> list[int]:
        """A recording for each turn; none twice while the speaker has others."""
        speakers = rng.choice(len(self._takes), size=max(talkers) + 1, replace=False)
        said: dict[int, list[int]] = {}
        for talker, speaker in enumerate(speakers):
            takes, needed = self._takes[speaker], talkers.count(talker)
            chosen = rng.choice(len(takes), size=min(needed, len(takes)), replace=False)
            said[talker] = np.resize(takes[chosen], needed).tolist()
        return [said[talker].pop() for talker in talkers]

    def _render(self, drawn: _Conversation) -> np.ndarray:
        from scipy.signal import oaconvolve

        mixed = np.zeros(drawn.grains * GRAIN, np.float32)
        talking = np.zeros(drawn.grains, bool)
        room = None if drawn.room is None else self.rooms[drawn.room]
        for part in drawn.parts:
            speech, before = self._speech(part)
            if room is not None:
                speech = oaconvolve(speech, room.responses[part.talker])
            start = part.start * GRAIN - before
            speech = speech[max(-start, 0) :]
            start = max(start, 0)
            mixed[start : start + len(speech)] += speech[: len(mixed) - start]
            talking[part.start : part.start + part.length] = True
        if room is not None:
            rng = np.random.default_rng(drawn.noise_seed)
            # The ratio is to speech, so silence does not make the noise any weaker.
            share = float(talking.mean())
            noise = cut_noise(self._noises, len(mixed), rng)
            add_noise(mixed, noise, drawn.snr_db + 10.0 * math.log10(share))
        peak = float(np.abs(mixed).max())
        if peak > 0.97 * _FULL_SCALE:
            mixed *= np.float32(0.97 * _FULL_SCALE / peak)
        return to_int16(mixed)

    def _speech(self, part: _Part) -> tuple[np.ndarray, int]:
        """A turn's samples at its level, and how many of them come before its start."""
        samples = self.base.samples(part.source)
        first, last = self.bounds[part.source]
        begin, end = max(first - _BEFORE, 0), min(last + _AFTER, len(samples))
        speech = samples[begin:end].astype(np.float32)
        spoken = samples[first:last].astype(np.float32)
        power = float(np.dot(spoken, spoken)) / max(len(spoken), 1)
        fade = np.linspace(0.0, 1.0, min(_FADE, len(speech)), dtype=np.float32)
        speech[: len(fade)] *= fade
        speech[len(speech) - len(fade) :] *= fade[::-1]
        if power > 0.0:
            speech *= np.float32(_FULL_SCALE * 10.0 ** (part.level_db / 20.0) / math.sqrt(power))
        return speech, first - begin

    @cached_property
    def _noises(self) -> list[np.ndarray]:
        return noise_pool(self.config.seed)


def _seconds(grains: int) -> float:
    return round(grains * GRAIN_SECONDS, 2)
