"""One path of an event pattern, and what is asked of the values there. Pure and hot: `benchmarks --only pattern`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from streamkit.errors import InvalidPatternError
from streamkit.functions.matchers import Predicate, compile_matcher

Elements = tuple[tuple[int, int], ...]
"""Which element of which array a value was reached through."""

Verdict = bool | None
"""Whether a leaf holds; None: that depends on arrays, or on keys with dots, and ``holds`` must look."""

ANYWHERE: list[Elements] = [()]
"""It holds whatever the others do."""

_MISSING: Any = object()


class Leaf:
    """One path of a pattern, with its matchers, of which one must hold."""

    __slots__ = ("absent_matches", "parts", "predicates", "test", "text", "values", "verdict")

    def __init__(self, parts: tuple[str, ...], matchers: Any) -> None:
        """Compile the matchers.

        Raises:
            InvalidPatternError: with the path to the fault.
        """
        self.parts = parts
        self.text = ".".join(parts)
        if not isinstance(matchers, list):
            raise InvalidPatternError(self.text, f"{matchers!r:.60} must be an object or an array")
        if not matchers:
            raise InvalidPatternError(self.text, "an empty array matches nothing")
        self.predicates: list[Predicate] = []
        self.absent_matches = False
        for matcher in matchers:
            predicate, absent = compile_matcher(self.text, matcher)
            if absent:
                self.absent_matches = True
            else:
                self.predicates.append(predicate)
        self.values = _exact_values(matchers)
        """What the value may be, if each matcher is a plain string; None otherwise."""
        self.test = _any_of(self.predicates, self.values)
        self.verdict = _verdict(self) if len(parts) > 1 else _verdict_of_one(parts[0], self.test, self.absent_matches)

    def holds(self, event: Any) -> list[Elements] | None:
        """Through which array elements it holds; None: it does not hold."""
        found: list[Elements] = []
        present = False
        for value, elements in values_at(event, self.parts):
            present = True
            if self.test(value):
                if not elements:
                    return ANYWHERE
                found.append(elements)
        if not present and self.absent_matches:
            return ANYWHERE
        return found or None


def values_at(value: Any, parts: tuple[str, ...], elements: Elements = ()) -> Iterator[tuple[Any, Elements]]:
    """The scalars at a path, through arrays at any depth; a key may itself hold dots."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from values_at(element, parts, (*elements, (id(value), index)) if parts else elements)
    elif not parts:
        if not isinstance(value, dict):
            yield value, elements
    elif isinstance(value, dict):
        first = parts[0]
        if first in value:
            yield from values_at(value[first], parts[1:], elements)
        for length in range(2, len(parts) + 1):
            joined = ".".join(parts[:length])
            if joined in value:
                yield from values_at(value[joined], parts[length:], elements)


class Conjunction:
    """Leaves that must all hold at once: what passes through the same array does so through the same element."""

    __slots__ = ("_late", "_plainly", "leaves")

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self.leaves = tuple(leaves)
        # That something is not there is known last of all, since it may be there under a key with dots.
        self._late = tuple(leaf for leaf in leaves if leaf.absent_matches)
        self._plainly = _node([leaf for leaf in leaves if not leaf.absent_matches], 0)

    def holds(self, event: dict[str, Any]) -> bool:
        """Whether it holds for a decoded JSON object. HOT."""
        leaf = self._plainly(event)
        if leaf is None:
            if not self._late:
                return True
        elif leaf.verdict(event) is False:
            return False
        return self._all(event)

    def _all(self, event: dict[str, Any]) -> bool:
        unclear: list[Leaf] = []
        for leaf in self.leaves:
            verdict = leaf.verdict(event)
            if verdict is False:
                return False
            if verdict is None:
                unclear.append(leaf)
        return not unclear or _hold_together(unclear, event)


def _hold_together(leaves: Sequence[Leaf], event: dict[str, Any]) -> bool:
    through_arrays: list[list[Elements]] = []
    for leaf in leaves:
        found = leaf.holds(event)
        if found is None:
            return False
        if found is not ANYWHERE:
            through_arrays.append(found)
    return len(through_arrays) < 2 or _consistent(through_arrays)


def _consistent(places: Sequence[Sequence[Elements]]) -> bool:
    """Whether one place can be chosen per leaf so that places in the same array are the same element.

    Goes leaf by leaf with all choices that are still open, as far as later leaves pass through the same arrays: so
    many as there are elements, and not as there are ways to combine them.
    """
    later: list[set[int]] = [set()]
    for leaf in reversed(places[1:]):
        later.append(later[-1] | {array for elements in leaf for array, _ in elements})
    later.reverse()
    choices: set[frozenset[tuple[int, int]]] = {frozenset()}
    for leaf, matter in zip(places, later, strict=True):
        following: set[frozenset[tuple[int, int]]] = set()
        for chosen in choices:
            taken = dict(chosen)
            for elements in leaf:
                if all(taken.get(array, index) == index for array, index in elements):
                    both = {**taken, **dict(elements)}
                    following.add(frozenset(pair for pair in both.items() if pair[0] in matter))
        if not following:
            return False
        choices = following
    return True


# ---- compiling


def _node(leaves: Sequence[Leaf], depth: int) -> Callable[[dict[str, Any]], Leaf | None]:
    """Walks objects only: None if every leaf holds that way, else one of those that do not, or not that way."""
    here = [leaf for leaf in leaves if len(leaf.parts) == depth + 1]
    exact = tuple((leaf.parts[-1], leaf.values, leaf) for leaf in here if leaf.values is not None)
    others = tuple((leaf.parts[-1], leaf.test, leaf) for leaf in here if leaf.values is None)
    deeper: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        if len(leaf.parts) > depth + 1:
            deeper.setdefault(leaf.parts[depth], []).append(leaf)
    children = tuple((name, _node(below, depth + 1), below[0]) for name, below in deeper.items())

    def failing(place: dict[str, Any]) -> Leaf | None:
        get = place.get
        for name, values, leaf in exact:
            value = get(name)
            if value.__class__ is not str or value not in values:
                return leaf
        for name, test, leaf in others:
            value = get(name, _MISSING)
            kind = value.__class__
            if kind is dict or kind is list or value is _MISSING or not test(value):
                return leaf
        for name, child, leaf in children:
            value = get(name)
            if value.__class__ is not dict:
                return leaf
            found = child(value)
            if found is not None:
                return found
        return None

    return failing


def _exact_values(matchers: list[Any]) -> frozenset[str] | None:
    if not all(isinstance(matcher, str) for matcher in matchers):
        return None
    # What looks like an IPv6 address has other spellings.
    return None if any(":" in matcher for matcher in matchers) else frozenset(matchers)


def _any_of(predicates: list[Predicate], values: frozenset[Hashable] | None) -> Predicate:
    if values is not None:
        # A scalar is always hashable, and no other scalar equals a string.
        return values.__contains__
    if len(predicates) == 1:
        return predicates[0]
    tests = tuple(predicates)

    def test(value: Any) -> bool:
        for predicate in tests:  # noqa: SIM110  (a generator would double what this costs)
            if predicate(value):
                return True
        return False

    return test


def _verdict_of_one(name: str, test: Predicate, absent_matches: bool) -> Callable[[dict[str, Any]], Verdict]:
    def verdict(event: dict[str, Any]) -> Verdict:
        value = event.get(name, _MISSING)
        kind = value.__class__
        if kind is list:
            return None
        if kind is dict or value is _MISSING:
            return absent_matches
        return test(value)

    return verdict


def _verdict(leaf: Leaf) -> Callable[[dict[str, Any]], Verdict]:
    parts, test, absent_matches = leaf.parts, leaf.test, leaf.absent_matches
    *parents, last = parts
    # Where a key with dots could stand: after so many of the parts, any of these.
    joined = tuple(
        tuple(".".join(parts[start:end]) for end in range(start + 2, len(parts) + 1)) for start in range(len(parts) - 1)
    )

    def verdict(event: dict[str, Any]) -> Verdict:
        value: Any = event
        present = False
        for name in parents:
            value = value.get(name, _MISSING)
            if value.__class__ is not dict:
                break
        else:
            value = value.get(last, _MISSING)
            kind = value.__class__
            if kind is not dict and kind is not list and value is not _MISSING:
                if test(value):
                    return True
                present = True
        if value.__class__ is list:
            return None
        # It does not hold this way. Another way there leads through keys with dots.
        place: Any = event
        for name, keys in zip(parents, joined, strict=True):
            for key in keys:
                if key in place:
                    return None
            place = place.get(name)
            if place.__class__ is not dict:
                break
        return absent_matches and not present

    return verdict
