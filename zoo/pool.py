"""Many streams in one compiled step.

    pool = zoo.load("rnnt-tiny").pool(256)
    session = pool.open()
    session.feed(samples)
    pool.run()                     # all sessions that have a step of audio waiting
    print(session.text)
    print(session.finish())

Sessions join and leave without anything being compiled: a slot that nobody uses stays as it is, and
one that a session takes over begins anew. The text is that of a stream alone. With `EndpointRules`
a session is cut into utterances, those that a `Listener` finds:

    session = pool.open(rules=EndpointRules())
    ...
    for segment in session.ended(): print(segment.transcript.text)
"""

import math

import numpy as np

from ..data.audio import SAMPLE_RATE, as_samples
from ..data.errors import InputError
from .assembly import Assembly
from .endpoint import REHEARD_S, Cut, EndpointRules, Segment, segment
from .programs import Heard, Programs
from .transcript import HeardTurn, Token, Transcript


class SessionPool:
    """Slots for sessions that are heard together.

    Attributes:
      slots: how many sessions may be open.
      step_s: seconds of audio that a step takes from each session that has them.
    """

    def __init__(self, recognizer: Programs, slots: int, *, waiting_s: float = 30.0):
        """`waiting_s`: audio that a session may have waiting; a feed beyond it is refused."""
        if slots < 1:
            raise InputError(f"a pool of {slots} slots holds nothing: give at least 1.")
        self.slots = slots
        self._recognizer = recognizer
        self._step = recognizer.samples_per_step
        self.step_s = self._step / SAMPLE_RATE
        # A ring a slot of whole steps, which are copied as blocks; behind what waits it keeps what
        # an utterance may hear again.
        again = math.ceil(REHEARD_S / self.step_s)
        self._room = (int(waiting_s / self.step_s) + 1) * self._step
        self._audio = np.zeros((slots, self._room + again * self._step), np.int16)
        self._head = np.zeros(slots, np.int64)
        self._waiting = np.zeros(slots, np.int64)
        self._silent = np.zeros(slots, np.int64)  # steps of silence before more of its audio
        self._fresh = np.zeros(slots, bool)
        self._state = recognizer.start_streams(slots)
        self._sessions: list[Session | None] = [None] * slots

    @property
    def open_sessions(self) -> int:
        return sum(session is not None for session in self._sessions)

    def open(self, *, source: str = "", rules: EndpointRules | None = None) -> "Session":
        """Takes a slot for a new session, one utterance where there are no rules.

        Raises InputError where none is free.
        """
        try:
            slot = self._sessions.index(None)
        except ValueError:
            raise InputError(
                f"all {self.slots} slots are taken: finish a session, or make a larger pool."
            ) from None
        self._fresh[slot] = True
        self._sessions[slot] = session = Session(self, slot, source, rules)
        return session

    def run(self) -> int:
        """Advances every session that has a step of audio waiting, by one step.

        Returns how many there were; 0 means that all audio is heard.
        """
        silent = self._silent > 0
        speaks = ~silent & (self._waiting >= self._step)
        active = silent | speaks
        if not active.any():
            return 0
        samples = self._next()
        samples[silent] = 0
        heard, self._state = self._recognizer.step(
            samples, self._state, active=active, fresh=self._fresh & active
        )
        self._fresh &= ~active
        self._silent[silent] -= 1
        self._waiting[speaks] -= self._step
        self._head[speaks] = (self._head[speaks] + self._step) % self._audio.shape[1]
        for slot in np.flatnonzero(active):
            session = self._sessions[slot]
            if session is not None:
                channels = self._recognizer.channels
                session._hear(heard[slot * channels : (slot + 1) * channels])
        return int(active.sum())

    def _next(self) -> np.ndarray:
        """The next step of every slot, [slots, samples]; of those that have none, anything."""
        slots = np.arange(self.slots)
        blocks, amid = np.divmod(self._head, self._step)
        if not amid.any():  # until an utterance has begun anew within a step
            return self._audio.reshape(self.slots, -1, self._step)[slots, blocks]
        at = self._head[:, None] + np.arange(self._step)[None, :]
        return self._audio[slots[:, None], at % self._audio.shape[1]]

    def _push(self, slot: int, samples: np.ndarray) -> None:
        ring = self._audio[slot]
        if self._waiting[slot] + len(samples) > self._room:
            raise InputError(
                f"{self._waiting[slot] / SAMPLE_RATE:.0f} s of audio are waiting in this session: "
                "run the pool before feeding more."
            )
        start = (self._head[slot] + self._waiting[slot]) % ring.size
        first = samples[: ring.size - start]
        ring[start : start + len(first)] = first
        ring[: len(samples) - len(first)] = samples[len(first) :]
        self._waiting[slot] += len(samples)

    def _leave(self, slot: int) -> None:
        self._sessions[slot] = None
        self._head[slot] = self._waiting[slot] = self._silent[slot] = 0

    def _again(self, slot: int, samples: int) -> None:
        """The slot begins anew, so many samples back."""
        self._head[slot] = (self._head[slot] - samples) % self._audio.shape[1]
        self._waiting[slot] += samples
        self._fresh[slot] = True

    def _rest(self, slot: int) -> list[list[Token]]:
        """Of each channel."""
        channels = self._recognizer.channels
        if self._fresh[slot]:  # it still holds what the session before left
            return [[] for _ in range(channels)]
        return self._recognizer.rest(self._state)[slot * channels : (slot + 1) * channels]


class Session:
    """One recording in the making, in a slot of a pool. Made by `SessionPool.open`."""

    def __init__(
        self, pool: SessionPool, slot: int, source: str, rules: EndpointRules | None = None
    ):
        self._pool = pool
        self._slot = slot
        self._source = source
        self._rules = rules
        self._heard = Assembly(pool._recognizer)
        self._tentative: list[list[Token]] = []
        self._received = 0
        self._start = 0  # of the utterance, in samples of the session
        self._length = 0  # of the utterance so far
        self._cut: Cut | None = None  # its end, where silence is heard first
        self._ended: list[Segment] = []
        self._open = True

    @property
    def text(self) -> str:
        """What has been recognised so far, of the utterance that is not over; the last word may be
        unfinished or change."""
        return self._heard.preview(self._tentative)

    @property
    def turns(self) -> tuple[HeardTurn, ...]:
        """Of a model that hears turns: those that have ended, times from the utterance's start."""
        return self._heard.turns

    @property
    def seconds(self) -> float:
        """Audio received."""
        return self._received / SAMPLE_RATE

    def ended(self) -> list[Segment]:
        """The utterances that are over, each handed out once. Without rules there are none."""
        ended, self._ended = self._ended, []
        return ended

    def feed(self, samples: np.ndarray) -> None:
        """Takes the next samples (16 kHz mono, int16 or floats in [-1, 1]); `run` hears them.

        Raises InputError as `as_samples` does and where too much is waiting (the session goes on
        as if nothing had been given), and ValueError after `finish`.
        """
        self._check()
        samples = as_samples(samples)
        self._pool._push(self._slot, samples)
        self._received += len(samples)

    def finish(self) -> Transcript:
        """The result; runs the pool until all of this session's audio is heard, frees the slot.

        Of a session with rules, the last utterance, perhaps empty; times from the session's start.
        """
        self._check()
        pool, slot = self._pool, self._slot
        while pool._silent[slot] or pool._waiting[slot] >= pool._step:
            pool.run()
        self._length = self._received - self._start
        self._rules = None
        left = pool._recognizer.tail if self._length else 0
        while left or pool._waiting[slot] >= pool._step:
            # There may be little room: the silence goes in as there is some.
            more = min(left, pool._room - int(pool._waiting[slot]))
            pool._push(slot, np.zeros(more, np.int16))
            left -= more
            pool.run()
        self.leave()
        last = self._finish()
        return segment(last, self._start / SAMPLE_RATE, self.seconds).transcript

    def leave(self) -> None:
        """Frees the slot without a result; more than once does no harm."""
        if self._open:
            self._open = False
            self._pool._leave(self._slot)

    def _hear(self, channels: list[Heard]) -> None:
        pool = self._pool
        self._heard.push([heard.tokens for heard in channels])
        self._tentative = [heard.tentative for heard in channels]
        if self._rules is None:
            return
        if self._cut is None:
            self._length += pool._step
            seconds, tail = self._length / SAMPLE_RATE, pool._recognizer.tail
            self._cut = self._rules.cut(seconds, self._heard.spoke_at(self._tentative), tail)
            if self._cut is None:
                return
            if not self._cut.heard_out:
                pool._silent[self._slot] = tail // pool._step
        if not pool._silent[self._slot]:
            self._end(self._cut)

    def _end(self, cut: Cut) -> None:
        """The utterance is over; the next one begins."""
        found = self._finish()
        end = self._start + self._length
        if found.text:
            self._ended.append(segment(found, self._start / SAMPLE_RATE, end / SAMPLE_RATE))
        self._pool._again(self._slot, cut.again)
        self._heard = Assembly(self._pool._recognizer)
        self._tentative = []
        self._start, self._length, self._cut = end - cut.again, 0, None

    def _finish(self) -> Transcript:
        """Of the utterance as far as it is heard, times its own."""
        self._heard.push(self._pool._rest(self._slot))
        return self._heard.finish(self._length / SAMPLE_RATE, self._source)

    def _check(self) -> None:
        if not self._open:
            raise ValueError("this session is finished: open another one")
