"""Many patterns asked of one event, by an index. Pure and hot: `benchmarks --only pattern`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from streamkit.functions.leaf import Conjunction, Leaf, values_at
from streamkit.functions.pattern import Pattern

_PAYS_FROM = 8
"""As many alternatives as this at one path are worth looking at that path first."""

Numbered = tuple[int, Conjunction]
"""An alternative, and the place of its pattern."""


class PatternSet:
    """Patterns, of which an event may match any.

    An alternative that wants one of some strings at a path is only tried when the event has one of them there. Of
    several such paths the one with the most different strings is taken, since it tells the patterns apart best.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._count = len(patterns)
        self._always: list[Numbered] = []
        self._index: dict[tuple[str, ...], dict[str, list[Numbered]]] = {}
        wanted: dict[tuple[str, ...], set[str]] = defaultdict(set)
        alternatives = [(at, leaves) for at, pattern in enumerate(patterns) for leaves in pattern.alternatives]
        for _, leaves in alternatives:
            for leaf in leaves.leaves:
                wanted[leaf.parts] |= leaf.values or frozenset()
        by_path: dict[tuple[str, ...], list[tuple[Leaf, Numbered]]] = defaultdict(list)
        for at, leaves in alternatives:
            exact = [leaf for leaf in leaves.leaves if leaf.values is not None]
            if exact:
                best = max(exact, key=lambda leaf: len(wanted[leaf.parts]))
                by_path[best.parts].append((best, (at, leaves)))
            else:
                self._always.append((at, leaves))
        for path, entries in by_path.items():
            if len(entries) < _PAYS_FROM:
                self._always += [numbered for _, numbered in entries]
                continue
            values = self._index[path] = defaultdict(list)
            for leaf, numbered in entries:
                for value in leaf.values or ():
                    values[value].append(numbered)

    def __len__(self) -> int:
        return self._count

    def any(self, event: dict[str, Any]) -> bool:
        """Whether any of them matches a decoded JSON object."""
        for _, leaves in self._always:
            if leaves.holds(event):
                return True
        # Without an index there are no candidates, and most sources have a few patterns.
        return bool(self._index) and any(leaves.holds(event) for _, leaves in self._candidates(event))

    def matching(self, event: dict[str, Any]) -> list[int]:
        """The places of all that match, in order."""
        found = {at for at, leaves in self._always if leaves.holds(event)}
        found |= {at for at, leaves in self._candidates(event) if at not in found and leaves.holds(event)}
        return sorted(found)

    def _candidates(self, event: dict[str, Any]) -> Iterator[Numbered]:
        for path, values in self._index.items():
            for value, _ in values_at(event, path):
                if value.__class__ is str and value in values:
                    yield from values[value]
