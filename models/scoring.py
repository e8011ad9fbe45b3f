"""What may judge labels beside the model in beam search: n-gram language models and phrases.

A scorer is a pytree of arrays that goes into jit as an argument. It keeps a state for each
hypothesis, and what it adds to a label's log-probability depends on that state and the label alone;
blank is never touched. `models.beam_state` states the contract.

N-grams are kept as sparse arcs over a dense row of unigrams, so that memory is in proportion to
them; phrases, of which there are few, as a dense table.

Sources: back-off, Katz 1987, "Estimation of probabilities from sparse data"; matching, Aho and
Corasick 1975, "Efficient string matching".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .transducer import BLANK

MOST_CELLS = 1 << 26
"""Of the table of phrases: 512 MB."""
_LEAST_STATES = 256
SPACE = "▁"
"""What SentencePiece writes where a word begins."""


class _Arcs(NamedTuple):
    """Arcs by state: those of state s are `first[s]` to `first[s + 1] - 1`, tokens ascending."""

    first: jax.Array  # [S + 1] int32
    token: jax.Array  # [A] int32

    def window(self, state: jax.Array, degree: int) -> tuple[jax.Array, jax.Array]:
        """Positions [rows, degree] from each state's first arc on, and which are its arcs."""
        start = self.first[state][:, None]
        at = start + jnp.arange(degree, dtype=jnp.int32)[None, :]
        return at, at < self.first[state + 1][:, None]

    def find(self, state: jax.Array, token: jax.Array, degree: int) -> tuple[jax.Array, jax.Array]:
        """Position [rows] of each state's arc of its token, and whether it has one.

        `degree` bounds the arcs of a state, not 0.
        """
        low, end = self.first[state], self.first[state + 1]
        high = end
        for _ in range(degree.bit_length()):
            middle = (low + high) // 2
            less = self.token[middle] < token
            within = low < high
            low, high = (
                jnp.where(within & less, middle + 1, low),
                jnp.where(within & ~less, middle, high),
            )
        return low, (low < end) & (self.token[low] == token)


def _spread(row: jax.Array, token: jax.Array, value: jax.Array, counts: jax.Array) -> jax.Array:
    """Puts values [rows, degree] that count in place of their tokens' in `row` [rows, V]."""
    # A place outside drops the value.
    place = jnp.where(counts, token, row.shape[1])
    return row.at[jnp.arange(len(row))[:, None], place].set(value, mode="drop")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weight", "token_reward", "arcs", "logp", "suffix", "backoff"],
    meta_fields=["offsets", "degrees"],
)
@dataclass(frozen=True)
class NGram:
    """A back-off language model over the model's tokens: shallow fusion. Made by `NGram.build`.

    Adds `weight * log p(token | tokens before) + token_reward` to each label, and at the end
    `weight * log p(end | tokens before)`. A negative weight takes the model off.

    N-grams are the nodes of a trie, numbered by order and, within one, by context and token: node 0
    is the empty one, node `1 + t` the unigram of token t, and the children of a node are those
    n-grams that it is the context of. A state is the node of the longest context that is known.
    Tokens V and V + 1 are the end and the beginning of a sentence.
    """

    weight: jax.Array | float
    token_reward: jax.Array | float
    arcs: _Arcs  # from a context to the n-grams that follow it; arc a is node a
    logp: jax.Array  # [M] float32, nats, of a node's last token after the others
    suffix: jax.Array  # [M] int32, the longest proper suffix that is a node below the top order
    backoff: jax.Array  # [S] float32, nats, what a context's other followers pay
    offsets: tuple[int, ...]  # the first node of order 0, 1 ... N, and M
    degrees: tuple[int, ...]  # most children of a node of order 0 ... N - 1

    @classmethod
    def build(
        cls,
        orders: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
        *,
        weight: float = 0.3,
        token_reward: float = 0.0,
    ) -> "NGram":
        """From n-grams order by order, as `parley.data.arpa` reads or estimates them.

        Args:
          orders: for each order `(parent, token, logp, backoff)`, each [n]: the row of the context
            in the order before, the last token, nats, nats; sorted by (parent, token). The first
            order has a row for every token 0 ... V + 1.
          weight: of the language model against the recogniser.
          token_reward: nats for every token, against the shorter texts that a language model
            prefers.
        """
        symbols = len(orders[0][1])
        sizes = [1, *(len(order[1]) for order in orders)]
        offsets = tuple(int(x) for x in np.cumsum([0, *sizes]))
        states = offsets[-2] if len(orders) > 1 else 1
        parent = np.concatenate(
            [[-1], *(order[0] + offsets[k] for k, order in enumerate(orders))]
        ).astype(np.int64)
        token = np.concatenate([[0], *(order[1] for order in orders)]).astype(np.int64)
        logp = np.concatenate([[0.0], *(order[2] for order in orders)])
        backoff = np.concatenate([[0.0], *(order[3] for order in orders)])[:states]
        key = parent * symbols + token
        key[0] = -1
        if (np.diff(key) <= 0).any():
            raise ValueError("n-grams must be sorted by context and token, none of them twice")
        suffix = np.zeros(len(key), np.int64)
        for begin, end in pairwise(offsets[2:]):
            suffix[begin:end] = _suffixes(parent[begin:end], token[begin:end], suffix, key, symbols)
        first = np.searchsorted(parent, np.arange(states + 1))
        children = np.diff(first)
        degrees = tuple(
            int(children[begin:end].max()) for begin, end in pairwise(offsets[: len(orders) + 1])
        )
        return cls(
            weight=weight,
            token_reward=token_reward,
            arcs=_Arcs(jnp.asarray(first, jnp.int32), jnp.asarray(token, jnp.int32)),
            logp=jnp.asarray(logp, jnp.float32),
            suffix=jnp.asarray(suffix, jnp.int32),
            backoff=jnp.asarray(backoff, jnp.float32),
            offsets=offsets,
            degrees=degrees,
        )

    @property
    def vocab_size(self) -> int:
        """V, blank included."""
        return self.offsets[2] - 3

    def init(self, rows: int) -> jax.Array:
        """The state [rows] at the beginning of a sentence."""
        begin = 2 + self.vocab_size if len(self.degrees) > 1 else 0
        return jnp.full((rows,), begin, jnp.int32)

    def score(self, state: jax.Array, logp: jax.Array) -> jax.Array:
        """Log-probabilities [rows, V] with the language model's added, blank's as it was."""
        contexts, paid = self._contexts(state)
        row = paid[:, None] + self.logp[None, 1 : self.vocab_size + 2]
        for order, node, known, before in contexts:
            if degree := self.degrees[order]:
                at, counts = self.arcs.window(node, degree)
                value = before[:, None] + self.logp[at]
                row = _spread(row, self.arcs.token[at], value, counts & known[:, None])
        extra = self.weight * row[:, : self.vocab_size] + self.token_reward
        return logp + extra.at[:, BLANK].set(0.0)

    def advance(self, state: jax.Array, tokens: jax.Array) -> jax.Array:
        """The state after each row's token [rows]."""
        return self.follow(state, tokens)[1]

    def final(self, state: jax.Array) -> jax.Array:
        """What the end of the sentence adds: [rows]."""
        end = jnp.full_like(state, self.vocab_size)
        return self.weight * self.follow(state, end)[0]

    def follow(self, state: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`(log p of each row's token [rows], the state after it)`, without weight and reward."""
        contexts, logp = self._contexts(state)
        found = 1 + tokens
        logp = logp + self.logp[found]
        for order, node, known, before in contexts:
            if degree := self.degrees[order]:
                at, hit = self.arcs.find(node, tokens, degree)
                hit &= known
                logp = jnp.where(hit, before + self.logp[at], logp)
                found = jnp.where(hit, at, found)
        top = found >= len(self.backoff)
        return logp, jnp.where(top, self.suffix[found], found).astype(jnp.int32)

    def sentences(self, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        """log p of whole sentences [B, U], of which `lengths` [B] tokens count, ends included: [B].

        Without weight and reward: `exp(-sum / (tokens + sentences))` is the perplexity.
        """
        end = self.vocab_size
        padded = jnp.pad(tokens.astype(jnp.int32), ((0, 0), (0, 1)))
        position = jnp.arange(padded.shape[1])
        padded = jnp.where(position[None, :] == lengths[:, None], end, padded)

        def step(state, inputs):
            at, token = inputs
            logp, state = self.follow(state, token)
            return state, jnp.where(at <= lengths, logp, 0.0)

        _, logp = jax.lax.scan(step, self.init(len(tokens)), (position, padded.T))
        return logp.sum(axis=0)

    def _contexts(
        self, state: jax.Array
    ) -> tuple[list[tuple[int, jax.Array, jax.Array, jax.Array]], jax.Array]:
        """The contexts that a state stands for, shortest first, and what backing off all costs.

        Each is `(order, node [rows], whether there is one of that order, what is paid until it)`.
        """
        contexts = []
        paid = jnp.zeros(state.shape, jnp.float32)
        for order in range(len(self.degrees) - 1, 0, -1):
            known = state >= self.offsets[order]
            contexts.append((order, state, known, paid))
            paid = paid + jnp.where(known, self.backoff[state], 0.0)
            state = jnp.where(known, self.suffix[state], state)
        return contexts[::-1], paid


def _suffixes(
    parent: np.ndarray, token: np.ndarray, suffix: np.ndarray, key: np.ndarray, symbols: int
) -> np.ndarray:
    """The longest proper suffix of each n-gram that is a node: its context's, with its token."""
    found = np.zeros(len(parent), np.int64)
    open_ = np.arange(len(parent))
    context = parent
    # A pruned model may lack a suffix; then a shorter one will do. Unigrams are all there.
    while len(open_):
        context = suffix[context]
        wanted = context * symbols + token[open_]
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        hit = key[at] == wanted
        found[open_[hit]] = at[hit]
        open_, context = open_[~hit], context[~hit]
    return found


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weight", "next", "gain", "ending"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Phrases:
    """Words and phrases that are expected: contextual biasing. Made by `Phrases.build`.

    Phrases are matched letter by letter: a model may cut a rare name into other pieces than its
    tokenizer would. Each letter is given its bonus at once, since a beam would have lost the name
    by its end; when the match breaks off, what no complete phrase covers is taken back. A phrase is
    complete where its last word ends (`light` is not in `lights`). So in the end a letter has been
    paid once, by the heaviest of the complete phrases that cover it.

    A state is the longest beginning of a phrase that the labels end in, and what each of its
    letters has been paid for good.
    """

    weight: jax.Array | float
    next: jax.Array  # [S, V] int32
    gain: jax.Array  # [S, V] float32, in units of weight
    ending: jax.Array  # [S] float32, what the end of the utterance adds

    @classmethod
    def build(
        cls,
        phrases: Sequence[str],
        pieces: Sequence[str],
        weights: Sequence[float] | None = None,
        *,
        weight: float = 1.0,
    ) -> "Phrases":
        """From texts; no phrases change nothing.

        Args:
          phrases: normalised, words separated by spaces.
          pieces: [V], what each token spells, with a U+2581 where a word begins.
          weights: of each phrase, positive; 1 where not given.
          weight: nats for a letter of a phrase of weight 1.

        Raises:
          ValueError: an empty phrase, a weight that is not positive, or phrases too many for the
            table.
        """
        trie = _Trie([_letters(phrase) for phrase in phrases], weights or [1.0] * len(phrases))
        letters = sorted({SPACE, *"".join(pieces[1:])})
        most = MOST_CELLS // len(pieces)
        following, gain, ending = _automaton(trie, letters, 1 << (most.bit_length() - 1))
        states = len(ending)
        # Lists of about one size, one a user perhaps, are one compiled program.
        room = max(_LEAST_STATES, 1 << (states - 1).bit_length())
        after = np.zeros((room, len(pieces)), np.int32)
        gained = np.zeros((room, len(pieces)), np.float32)
        for token, piece in enumerate(pieces):
            state = np.arange(states)
            for letter in piece if token != BLANK else "":
                gained[:states, token] += gain[letter][state]
                state = following[letter][state]
            after[:states, token] = state
        ending = np.pad(ending, (0, room - states))
        return cls(weight, jnp.asarray(after), jnp.asarray(gained), jnp.asarray(ending))

    def init(self, rows: int) -> jax.Array:
        """The state [rows] in which nothing matches."""
        return jnp.zeros((rows,), jnp.int32)

    def score(self, state: jax.Array, logp: jax.Array) -> jax.Array:
        """Log-probabilities [rows, V] with what each token gains or loses, blank's as it was."""
        return logp + self.weight * self.gain[state]

    def advance(self, state: jax.Array, tokens: jax.Array) -> jax.Array:
        """The state after each row's token [rows]."""
        return self.next[state, tokens]

    def final(self, state: jax.Array) -> jax.Array:
        """What the end adds: an incomplete phrase gives back: [rows]."""
        return self.weight * self.ending[state]


def _letters(phrase: str) -> str:
    return "".join(f"{SPACE}{word}" for word in phrase.split())


class _Trie:
    """Beginnings of phrases, letter by letter. Node 0 is the empty one."""

    def __init__(self, phrases: Sequence[str], weights: Sequence[float]):
        self.children: list[dict[str, int]] = [{}]
        self.depth = [0]
        self.worth = [0.0]
        """What a letter is given here: the best weight of the phrases that go through the node."""
        self.complete = [0.0]
        """The best weight of the phrases that end at the node; 0 where none does."""
        for phrase, weight in zip(phrases, weights, strict=True):
            if not phrase:
                raise ValueError("a phrase is empty")
            if not 0.0 < weight < float("inf"):
                raise ValueError(f"a phrase's weight must be positive, not {weight}")
            node = 0
            for letter in phrase:
                if letter not in self.children[node]:
                    self.children[node][letter] = len(self.children)
                    self.children.append({})
                    self.depth.append(self.depth[node] + 1)
                    self.worth.append(0.0)
                    self.complete.append(0.0)
                node = self.children[node][letter]
                self.worth[node] = max(self.worth[node], weight)
            self.complete[node] = max(self.complete[node], weight)
        self.fail = [0] * len(self.children)
        """The longest proper suffix of a node that is one too."""
        # By depth: where a match falls back to is known before.
        for node in sorted(range(len(self.depth)), key=self.depth.__getitem__):
            for letter, child in self.children[node].items():
                shorter = (self.children[x].get(letter) for x in self.suffixes(self.fail[node]))
                back = next((x for x in shorter if x), self.children[0].get(letter, 0))
                self.fail[child] = back if node else 0

    def suffixes(self, node: int) -> Iterator[int]:
        """The node and its suffixes that are nodes, the empty one left out."""
        while node:
            yield node
            node = self.fail[node]

    def follow(self, node: int) -> dict[str, int]:
        """Where letters lead, but for those that lead where they lead from the empty node."""
        found: dict[str, int] = {}
        for suffix in self.suffixes(node):
            found = self.children[suffix] | found
        return found

    def paid(self, node: int, before: tuple[float, ...]) -> tuple[float, ...]:
        """What a node's letters have been paid for good once the word ends there."""
        after = list(before)
        for suffix in self.suffixes(node):
            if weight := self.complete[suffix]:
                start = len(after) - self.depth[suffix]
                after[start:] = [max(x, weight) for x in after[start:]]
        return tuple(after)

    def pending(self, node: int, paid: tuple[float, ...]) -> float:
        """What its letters have been given beyond that."""
        return sum(max(self.worth[node] - x, 0.0) for x in paid)


def _automaton(
    trie: _Trie, letters: Sequence[str], most: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """`(next state [S] of each letter, its gain [S], what the end adds [S])`.

    A state is a node and what each of its letters has been paid: the same node is reached with
    letters that a complete phrase before it covers and without.
    """
    states: list[tuple[int, tuple[float, ...]]] = [(0, ())]
    numbers = {states[0]: 0}
    arcs: dict[str, list[tuple[int, int, float]]] = {letter: [] for letter in letters}
    kept: list[float] = []
    pending: list[float] = []
    for number, (node, paid) in enumerate(states):  # which grows
        if len(states) > most:
            raise ValueError(f"the phrases need more than {most:,} states")
        whole = trie.paid(node, paid)
        kept.append(sum(whole) - sum(paid))
        pending.append(trie.pending(node, paid))
        for letter, child in (trie.follow(node) if node else trie.children[0]).items():
            before = whole if letter == SPACE else paid
            state = (child, (*before, 0.0)[-trie.depth[child] :])
            if numbers.setdefault(state, len(states)) == len(states):
                states.append(state)
            gain = trie.pending(*state) - pending[-1] + kept[-1] * (letter == SPACE)
            if letter in arcs:  # else no token spells it
                arcs[letter].append((number, numbers[state], gain))
    following = {letter: np.zeros(len(states), np.int64) for letter in letters}
    gains = {letter: -np.array(pending, np.float32) for letter in letters}
    begun = trie.children[0].get(SPACE, 0)
    following[SPACE][:] = numbers[(begun, (0.0,))] if begun else 0
    gains[SPACE] += np.array(kept, np.float32) + trie.worth[begun]
    for letter, found in arcs.items():
        for state, after, gain in found:
            following[letter][state] = after
            gains[letter][state] = gain
    return following, gains, np.array(kept, np.float32) - np.array(pending, np.float32)


@partial(jax.tree_util.register_dataclass, data_fields=["scorers"], meta_fields=[])
@dataclass(frozen=True)
class Chain:
    """Several scorers, whose scores add up."""

    scorers: tuple[NGram | Phrases, ...]

    def init(self, rows: int) -> tuple[jax.Array, ...]:
        return tuple(scorer.init(rows) for scorer in self.scorers)

    def score(self, state: tuple[jax.Array, ...], logp: jax.Array) -> jax.Array:
        for scorer, its in zip(self.scorers, state, strict=True):
            logp = scorer.score(its, logp)
        return logp

    def advance(self, state: tuple[jax.Array, ...], tokens: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(
            scorer.advance(its, tokens) for scorer, its in zip(self.scorers, state, strict=True)
        )

    def final(self, state: tuple[jax.Array, ...]) -> jax.Array:
        total = self.scorers[0].final(state[0])
        for scorer, its in zip(self.scorers[1:], state[1:], strict=True):
            total = total + scorer.final(its)
        return total
