"""Whose the records are: distributions of partition keys, drawn once and the same in every run. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.order import Records

ZIPF = 0.99
"""The exponent of YCSB's ``ZipfianGenerator`` (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", 2010)."""
_SEED = 7


@dataclass(frozen=True)
class Distribution:
    """How probable each key is."""

    name: str
    weights: Sequence[float]
    """By key, in relation to each other; the first key is the most frequent one."""

    @property
    def hottest(self) -> float:
        """Per cent of all records that are to have the most frequent key."""
        return 100 * self.weights[0] / sum(self.weights)

    def turns(self, count: int) -> list[int]:
        """Drawn from it, as ``Records`` takes them."""
        return random.Random(_SEED).choices(range(len(self.weights)), self.weights, k=count)

    def records(self, size: int, count: int) -> Records:
        """So many records of which each key's are as probable as it is, and then the same keys once more."""
        return Records(size, len(self.weights), self.turns(count))


def uniform(keys: int) -> Distribution:
    """Each is as probable as another."""
    return Distribution("uniform keys", [1.0] * keys)


def zipf(keys: int, exponent: float = ZIPF) -> Distribution:
    """The n-th most frequent key has n ** -exponent of the first one's records, as words, cities and customers do."""
    return Distribution("Zipf keys", [at**-exponent for at in range(1, keys + 1)])


def hot(keys: int, share: float) -> Distribution:
    """One key gets that share of all records, and the others have the rest evenly."""
    named = "one key has all" if share == 1 else f"one key has {share * 100:g} %"
    return Distribution(named, [share, *[(1 - share) / max(1, keys - 1)] * (keys - 1)])
