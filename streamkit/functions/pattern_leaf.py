"""One path of an event pattern and what is asked of the values there. Pure and hot.

A leaf is first looked up directly, key by key. Arrays on the way, and event keys that themselves hold dots, are left to
a general walk, which also says through which array elements it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from streamkit.errors import InvalidPatternError
from streamkit.functions.matchers import Predicate, compile_matcher, is_address

Place = tuple[str | int, ...]
Elements = tuple[tuple[Place, int], ...]
"""Through which element of which array a leaf was reached; an array is told by the way to it."""

ANYWHERE: list[Elements] = [()]
"""It holds, and asks nothing of other leaves."""

_EXACT_NUMBER = 2**53
_TRUE, _FALSE = object(), object()


class Leaf:
    """A path and its matchers, of which one must match."""

    __slots__ = ("absent_matches", "check", "exact", "matchers", "parts", "settle", "test", "text")

    def __init__(self, parts: tuple[str, ...], matchers: Any, where: str) -> None:
        """Compile the matchers; ``where`` is their place in the pattern.

        Raises:
            InvalidPatternError: with the path to the fault.
        """
        if not isinstance(matchers, list):
            raise InvalidPatternError(where, f"{matchers!r:.60} must be an object or an array")
        if not matchers:
            raise InvalidPatternError(where, "an empty array matches nothing")
        self.parts = parts
        self.text = ".".join(parts)
        self.matchers: list[tuple[Any, Predicate]] = []
        self.absent_matches = False
        for matcher in matchers:
            predicate, absent = compile_matcher(where, matcher)
            self.absent_matches = self.absent_matches or absent
            if not absent:
                self.matchers.append((matcher, predicate))
        self.test = _one_of(self.matchers)
        """Whether a value at the path matches; one that cannot be hashed may raise TypeError."""
        self.exact = None if self.absent_matches else _exact_keys(matchers)
        """The keys (``exact_key``) of which a value must have one, if only exact values are asked for."""
        self.settle: Callable[[Any], bool | None] = _settle(self)
        """The same as ``check``, slower where the leaf holds."""
        self.check: Callable[[Any], bool | None] = (
            _direct(parts, self.test, self.settle) if self.matchers else self.settle
        )
        """Of an event: whether the leaf holds, or None where the general walk must tell. HOT."""

    def holds(self, event: Any) -> list[Elements] | None:
        """Through which array elements it holds; None: it does not hold."""
        found: dict[Elements, None] = {}
        present = False
        for value, elements in walk(event, self.parts):
            present = True
            if self.test(value):
                if not elements:
                    return ANYWHERE
                found[elements] = None
        if not present and self.absent_matches:
            return ANYWHERE
        return list(found) or None

    def asked(self) -> str:
        """The matchers as JSON, shortened."""
        wanted = [matcher for matcher, _ in self.matchers]
        text = msgspec.json.encode([*wanted, {"exists": False}] if self.absent_matches else wanted).decode()
        return text if len(text) <= 100 else f"{text[:97]}..."


def exact_key(value: Any) -> Any:
    """What tells equal scalars: True is not 1, but 1.0 is."""
    if value is True:
        return _TRUE
    return _FALSE if value is False else value


def walk(event: Any, parts: tuple[str, ...]) -> Iterator[tuple[Any, Elements]]:
    """The scalars at a path, through arrays at any depth; a key may itself hold dots.

    Elements of an array that the path ends in are values of one field: they bind no other leaf.
    """
    todo: list[tuple[Any, int, Place, Elements]] = [(event, 0, (), ())]
    while todo:
        value, depth, at, elements = todo.pop()
        if isinstance(value, list):
            for index in range(len(value) - 1, -1, -1):
                if depth == len(parts):
                    todo.append((value[index], depth, at, elements))
                else:
                    todo.append((value[index], depth, (*at, index), (*elements, (at, index))))
        elif depth == len(parts):
            if not isinstance(value, dict):
                yield value, elements
        elif isinstance(value, dict):
            for end in range(len(parts), depth, -1):
                key = ".".join(parts[depth:end])
                if key in value:
                    todo.append((value[key], end, (*at, key), elements))


def _one_of(matchers: list[tuple[Any, Predicate]]) -> Predicate:
    strings = frozenset(matcher for matcher, _ in matchers if isinstance(matcher, str) and not is_address(matcher))
    others = [predicate for matcher, predicate in matchers if not isinstance(matcher, str) or matcher not in strings]
    if not others:
        return strings.__contains__
    if len(others) == 1 and not strings:
        return others[0]

    def test(value: Any) -> bool:
        if isinstance(value, str) and value in strings:
            return True
        for predicate in others:  # noqa: SIM110 - a generator costs three times as much
            if predicate(value):
                return True
        return False

    return test


def _exact_keys(matchers: list[Any]) -> frozenset[Any] | None:
    for matcher in matchers:
        if isinstance(matcher, dict) or (isinstance(matcher, str) and is_address(matcher)):
            return None
        # Beyond it equal numbers may differ in Python: 2.0**53 and 2**53 + 1 are one double.
        if isinstance(matcher, (int, float)) and abs(matcher) >= _EXACT_NUMBER:
            return None
    return frozenset(map(exact_key, matchers))


def _direct(
    parts: tuple[str, ...], test: Predicate, settle: Callable[[Any], bool | None]
) -> Callable[[Any], bool | None]:
    """Looks a leaf up key by key. That it holds there is certain; all else is for ``settle``."""
    if len(parts) == 1:
        (only,) = parts

        def check_one(event: Any) -> bool | None:
            try:
                if test(event[only]):
                    return True
            except (KeyError, TypeError):
                pass
            return settle(event)

        return check_one
    if len(parts) == 2:
        outer, inner = parts

        def check_two(event: Any) -> bool | None:
            try:
                if test(event[outer][inner]):
                    return True
            except (KeyError, TypeError):
                pass
            return settle(event)

        return check_two

    def check(event: Any) -> bool | None:
        value = event
        try:
            for part in parts:
                value = value[part]
            if test(value):
                return True
        except (KeyError, TypeError):
            pass
        return settle(event)

    return check


def _settle(leaf: Leaf) -> Callable[[Any], bool | None]:
    """Decides where no array and no dotted key is met; else None."""
    parts, test, absent = leaf.parts, leaf.test, leaf.absent_matches
    if len(parts) == 1:
        (only,) = parts

        def settle_one(event: Any) -> bool | None:
            if only not in event:
                return absent
            value = event[only]
            if isinstance(value, list):
                return None
            return absent if isinstance(value, dict) else test(value)

        return settle_one
    steps = [
        (part, [".".join(parts[at:end]) for end in range(at + 2, len(parts) + 1)]) for at, part in enumerate(parts)
    ]

    def settle(event: Any) -> bool | None:
        value = event
        for part, dotted in steps:
            if not isinstance(value, dict):
                return None if isinstance(value, list) else absent
            for key in dotted:
                if key in value:
                    return None
            if part not in value:
                return absent
            value = value[part]
        if isinstance(value, list):
            return None
        return absent if isinstance(value, dict) else test(value)

    return settle
