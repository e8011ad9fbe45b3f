"""Many streams in one compiled step.

    pool = zoo.load("rnnt-tiny").pool(256)
    session = pool.open()
    session.feed(samples)
    pool.run()                     # all sessions that have a step of audio waiting
    print(session.text)
    print(session.finish())

Sessions join and leave without anything being compiled: a slot that nobody uses stays as it is, and
one that a session takes over begins anew. The text is that of a stream alone.
"""

import numpy as np

from ..data.audio import SAMPLE_RATE, as_samples
from ..data.errors import InputError
from .assembly import Assembly
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
        blocks = int(waiting_s / self.step_s) + 1
        # A ring of whole steps a slot: a step copies one block of each, and shifts nothing.
        self._audio = np.zeros((slots, blocks, self._step), np.int16)
        self._head = np.zeros(slots, np.int64)
        self._waiting = np.zeros(slots, np.int64)
        self._fresh = np.zeros(slots, bool)
        self._state = recognizer.start_streams(slots)
        self._sessions: list[Session | None] = [None] * slots

    @property
    def open_sessions(self) -> int:
        return sum(session is not None for session in self._sessions)

    def open(self, *, source: str = "") -> "Session":
        """Takes a slot for a new session. Raises InputError where none is free."""
        try:
            slot = self._sessions.index(None)
        except ValueError:
            raise InputError(
                f"all {self.slots} slots are taken: finish a session, or make a larger pool."
            ) from None
        self._head[slot] = self._waiting[slot] = 0
        self._fresh[slot] = True
        self._sessions[slot] = session = Session(self, slot, source)
        return session

    def run(self) -> int:
        """Advances every session that has a step of audio waiting, by one step.

        Returns how many there were; 0 means that all audio is heard.
        """
        active = self._waiting >= self._step
        if not active.any():
            return 0
        slots = np.arange(self.slots)
        samples = self._audio[slots, self._head]
        heard, self._state = self._recognizer.step(
            samples, self._state, active=active, fresh=self._fresh & active
        )
        self._fresh &= ~active
        self._waiting[active] -= self._step
        self._head[active] = (self._head[active] + 1) % self._audio.shape[1]
        for slot in np.flatnonzero(active):
            session = self._sessions[slot]
            if session is not None:
                channels = self._recognizer.channels
                session._hear(heard[slot * channels : (slot + 1) * channels])
        return int(active.sum())

    def _push(self, slot: int, samples: np.ndarray) -> None:
        ring = self._audio[slot].reshape(-1)
        if self._waiting[slot] + len(samples) > ring.size:
            raise InputError(
                f"{self._waiting[slot] / SAMPLE_RATE:.0f} s of audio are waiting in this session: "
                "run the pool before feeding more."
            )
        start = (self._head[slot] * self._step + self._waiting[slot]) % ring.size
        first = samples[: ring.size - start]
        ring[start : start + len(first)] = first
        ring[: len(samples) - len(first)] = samples[len(first) :]
        self._waiting[slot] += len(samples)

    def _rest(self, slot: int) -> list[list[Token]]:
        """Of each channel."""
        channels = self._recognizer.channels
        if self._fresh[slot]:  # it still holds what the session before left
            return [[] for _ in range(channels)]
        return self._recognizer.rest(self._state)[slot * channels : (slot + 1) * channels]


class Session:
    """One recording in the making, in a slot of a pool. Made by `SessionPool.open`."""

    def __init__(self, pool: SessionPool, slot: int, source: str):
        self._pool = pool
        self._slot = slot
        self._source = source
        self._heard = Assembly(pool._recognizer)
        self._tentative: list[list[Token]] = []
        self._received = 0
        self._open = True

    @property
    def text(self) -> str:
        """What has been recognised so far; the last word may be unfinished or change."""
        return self._heard.preview(self._tentative)

    @property
    def turns(self) -> tuple[HeardTurn, ...]:
        """Of a model that hears turns: those that have ended."""
        return self._heard.turns

    @property
    def seconds(self) -> float:
        """Audio received."""
        return self._received / SAMPLE_RATE

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
        """The result; runs the pool until all of this session's audio is heard, frees the slot."""
        self._check()
        pool, slot = self._pool, self._slot
        left = pool._recognizer.tail if self._received else 0
        while left or pool._waiting[slot] >= pool._step:
            # The ring may be full: the silence goes in as there is room.
            room = pool._audio[slot].size - int(pool._waiting[slot])
            pool._push(slot, np.zeros(min(left, room), np.int16))
            left -= min(left, room)
            pool.run()
        self._heard.push(pool._rest(slot))
        self.leave()
        return self._heard.finish(self.seconds, self._source)

    def leave(self) -> None:
        """Frees the slot without a result; more than once does no harm."""
        if self._open:
            self._open = False
            self._pool._sessions[self._slot] = None
            self._pool._waiting[self._slot] = 0

    def _hear(self, channels: list[Heard]) -> None:
        self._heard.push([heard.tokens for heard in channels])
        self._tentative = [heard.tentative for heard in channels]

    def _check(self) -> None:
        if not self._open:
            raise ValueError("this session is finished: open another one")
