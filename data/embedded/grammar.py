"""A small context-free grammar that draws sentences and counts them.

A grammar is a table of rules. A rule is a list of alternatives, all equally likely unless one ends
in ` @3`, which makes it three times as likely. In an alternative `{name}` stands for a rule, and
`[...]` is left out half of the time; anything else is spoken as it stands, punctuation too:

    Grammar({"greet": ["hello {name}[, good {time}] @2"], "name": ["ada", "bob"], ...})
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_PIECE = re.compile(r"\{(\w+)\}|\[([^\]]*)\]|([^{}\[\]]+)")
_WEIGHT = re.compile(r" @(\d+(?:\.\d+)?)$")


@dataclass(frozen=True)
class _Rule:
    alternatives: tuple[str, ...]
    edges: np.ndarray  # cumulative probabilities


class Grammar:
    """A compiled table of rules.

    Args:
      rules: rule name to alternatives.

    Raises:
      ValueError: an alternative names a rule that is not there.
    """

    def __init__(self, rules: Mapping[str, Sequence[str]]):
        self._rules = {name: _compile(lines) for name, lines in rules.items()}
        for name, rule in self._rules.items():
            for line in rule.alternatives:
                for used in re.findall(r"\{(\w+)\}", line):
                    if used not in self._rules:
                        raise ValueError(f"rule {name!r} uses {used!r}, which is not there")

    def draw(self, rng: np.random.Generator, rule: str = "sentence") -> str:
        """Draw one sentence, with its punctuation."""
        return "".join(self._expand(rng, f"{{{rule}}}"))

    def count(self, rule: str = "sentence") -> int:
        """How many derivations a rule has: the number of sentences, if none has two."""
        return sum(self._count(line) for line in self._rules[rule].alternatives)

    def alternatives(self, rule: str) -> tuple[str, ...]:
        """What a rule chooses from."""
        return self._rules[rule].alternatives

    def words(self) -> set[str]:
        """Every word that any rule can say."""
        text = " ".join(line for rule in self._rules.values() for line in rule.alternatives)
        return set(re.findall(r"[a-z']+", re.sub(r"\{\w+\}", " ", text)))

    def _expand(self, rng: np.random.Generator, text: str) -> Iterator[str]:
        for name, optional, literal in _PIECE.findall(text):
            if literal:
                yield literal
            elif optional:
                if rng.random() < 0.5:
                    yield from self._expand(rng, optional)
            else:
                rule = self._rules[name]
                pick = int(np.searchsorted(rule.edges, rng.random(), side="right"))
                yield from self._expand(rng, rule.alternatives[pick])

    def _count(self, text: str) -> int:
        return math.prod(
            1 if literal else 1 + self._count(optional) if optional else self.count(name)
            for name, optional, literal in _PIECE.findall(text)
        )


def _compile(lines: Sequence[str]) -> _Rule:
    weights = [float(m.group(1)) if (m := _WEIGHT.search(line)) else 1.0 for line in lines]
    edges = np.cumsum(weights) / sum(weights)
    edges[-1] = 1.0
    return _Rule(tuple(_WEIGHT.sub("", line) for line in lines), edges)


_NUMERALS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
"""
_BELOW_TWENTY, _TENS = _NUMERALS.split()[:20], _NUMERALS.split()[20:]


def spell(number: int) -> str:
    """A whole number in words: `spell(342) == "three hundred and forty two"`.

    Raises:
      ValueError: the number is not in 0..999.
    """
    if not 0 <= number < 1000:
        raise ValueError(f"only 0 to 999 are spelled, not {number}")
    hundreds, rest = divmod(number, 100)
    words = [_BELOW_TWENTY[hundreds] + " hundred"] if hundreds else []
    if rest or not hundreds:
        tail = _BELOW_TWENTY[rest] if rest < 20 else _TENS[rest // 10 - 2]
        if rest >= 20 and rest % 10:
            tail += " " + _BELOW_TWENTY[rest % 10]
        words.append(tail)
    return " and ".join(words)
