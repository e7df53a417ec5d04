"""Many patterns on one source: which of them match an event, without trying each. Pure and hot."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from streamkit.functions.pattern import Pattern
from streamkit.functions.pattern_leaf import Leaf, exact_key, walk

FEWEST = 8
"""A path that fewer patterns could be found by is not worth a look-up."""

Path = tuple[str, ...]


class PatternSet:
    """Patterns found by one exact leaf each: the event's values at that path say which ones are worth trying.

    Of a pattern's leaves that ask for exact values only (and not for an address or a number beyond 2**53), the one is
    taken at whose path the patterns ask for the most different values, since it tells them apart best. A pattern is
    tried on every event if one of its alternatives has no such leaf.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        """Build the index."""
        self.patterns = list(patterns)
        asked: dict[Path, set[Any]] = defaultdict(set)
        shared: Counter[Path] = Counter()
        for pattern in self.patterns:
            exact = {leaf for leaves in pattern.alternatives for leaf in leaves if leaf.exact is not None}
            shared.update({leaf.parts for leaf in exact})
            for leaf in exact:
                asked[leaf.parts].update(leaf.exact or ())
        told_apart = {parts: len(keys) for parts, keys in asked.items() if shared[parts] >= FEWEST}
        self._always: list[int] = []
        index: dict[Path, dict[Any, dict[int, None]]] = {}
        for number, pattern in enumerate(self.patterns):
            chosen = [best for leaves in pattern.alternatives if (best := _best(leaves, told_apart)) is not None]
            if len(chosen) < len(pattern.alternatives):
                self._always.append(number)
                continue
            for leaf in chosen:
                for key in leaf.exact or ():
                    index.setdefault(leaf.parts, {}).setdefault(key, {})[number] = None
        self._index = [
            (parts, {key: list(numbers) for key, numbers in by_value.items()}) for parts, by_value in index.items()
        ]
        self._tried = [self.patterns[number] for number in self._always]

    def matching(self, event: Any) -> list[int]:
        """The positions of the patterns that match a decoded JSON value, ascending. HOT."""
        patterns = self.patterns
        candidates: Collection[int] = self._always
        if self._index:
            candidates = sorted({*candidates, *self._found(event)})
        return [number for number in candidates if patterns[number].matches(event)]

    def any(self, event: Any) -> bool:
        """Whether one of the patterns matches a decoded JSON value. HOT."""
        for pattern in self._tried:
            if pattern.matches(event):
                return True
        if not self._index:
            return False
        patterns = self.patterns
        for number in self._found(event):  # noqa: SIM110 - without a generator per event
            if patterns[number].matches(event):
                return True
        return False

    def _found(self, event: Any) -> set[int]:
        found: set[int] = set()
        for parts, by_value in self._index:
            for value, _ in walk(event, parts):
                numbers = by_value.get(exact_key(value))
                if numbers is not None:
                    found.update(numbers)
        return found


def _best(leaves: Sequence[Leaf], told_apart: Mapping[Path, int]) -> Leaf | None:
    usable = [leaf for leaf in leaves if leaf.exact is not None and leaf.parts in told_apart]
    return max(usable, key=lambda leaf: told_apart[leaf.parts], default=None)
