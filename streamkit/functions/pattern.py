"""Event patterns: which events match. Pure and hot.

Follows Event Ruler as the Amazon EventBridge User Guide documents it ("Event patterns"), and for ``FilterCriteria`` the
AWS Lambda Developer Guide ("Event filtering").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import msgspec

from streamkit.codecs import plain
from streamkit.errors import DecodeError, InvalidPatternError
from streamkit.functions.matchers import Predicate, compile_matcher

MAX_FILTERS = 10
MAX_PATTERN_CHARACTERS = 4096
_MAX_ALTERNATIVES = 1000
_RESERVED = frozenset(
    {
        "exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr",
        "=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case", "in-date-range",
        "ip-address-in-range", "ip-address-not-in-range",
    }
)  # fmt: skip

Elements = tuple[tuple[int, int], ...]
"""Which element of which array a leaf was reached through."""


class Explanation(msgspec.Struct, frozen=True):
    """Why an event matches a pattern or does not."""

    matched: bool
    path: str
    """Of the first leaf that decided against it; empty if it matched."""
    reason: str


class _Leaf:
    """One path of a pattern and what is asked of the values there."""

    __slots__ = ("absent_matches", "parts", "predicates", "text")

    def __init__(self, parts: tuple[str, ...], matchers: Any) -> None:
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

    def holds(self, event: Any) -> list[Elements] | None:
        """Through which array elements it holds; None: it does not hold."""
        found: list[Elements] = []
        present = False
        for value, elements in _leaves(event, self.parts, ()):
            present = True
            for predicate in self.predicates:
                if predicate(value):
                    if not elements:
                        return _ANYWHERE
                    found.append(elements)
                    break
        if not present and self.absent_matches:
            return _ANYWHERE
        return found or None


_ANYWHERE: list[Elements] = [()]


class Pattern:
    """A compiled event pattern."""

    def __init__(self, pattern: Mapping[str, Any] | str) -> None:
        """Compile a pattern, given as a dict or as JSON text.

        Raises:
            InvalidPatternError: with the path to the fault.
        """
        if isinstance(pattern, str):
            try:
                pattern = plain(pattern.encode())
            except (DecodeError, UnicodeEncodeError) as error:
                raise InvalidPatternError("", str(error)) from None
        if not isinstance(pattern, Mapping):
            raise InvalidPatternError("", "a pattern is an object")
        # Each alternative is a conjunction of leaves; `$or` multiplies them.
        self._alternatives = [list(leaves.values()) for leaves in _compile(dict(pattern), ())]

    def matches(self, event: Any) -> bool:
        """Whether a decoded JSON value matches; anything but an object never does. HOT."""
        return isinstance(event, dict) and any(_holds(leaves, event) for leaves in self._alternatives)

    def explain(self, event: Any) -> Explanation:
        """Which leaf decided, in a sentence."""
        if self.matches(event):
            return Explanation(True, "", "every field of the pattern matches")
        if not isinstance(event, dict):
            return Explanation(False, "", "the event is not an object")
        leaves = self._alternatives[0]
        for leaf in leaves:
            if leaf.holds(event) is None:
                values = [value for value, _ in _leaves(event, leaf.parts, ())]
                reason = f"none of {values!r:.100} matches" if values else "the event has no such field"
                return Explanation(False, leaf.text, reason)
        reason = "every field matches somewhere, but not within one element of the same array"
        return Explanation(False, leaves[-1].text, reason)


class FilterCriteria:
    """The filters of a mapping from a stream: a record passes if one of the patterns matches.

    ``data`` is matched against the record's payload decoded as JSON; a payload that is no JSON fails every pattern that
    has it. Other keys are matched against the record's metadata, such as ``partitionKey``.
    """

    def __init__(self, patterns: Sequence[Mapping[str, Any]]) -> None:
        """Compile the patterns.

        Raises:
            InvalidPatternError: with the path to the fault.
        """
        if len(patterns) > MAX_FILTERS:
            raise InvalidPatternError("", f"a mapping has at most {MAX_FILTERS} filters, not {len(patterns)}")
        for pattern in patterns:
            if not isinstance(pattern, Mapping):
                raise InvalidPatternError("", f"{pattern!r:.60} is no pattern: use an object such as {{'data': ...}}")
            if len(msgspec.json.encode(pattern)) > MAX_PATTERN_CHARACTERS:
                raise InvalidPatternError("", f"a pattern has at most {MAX_PATTERN_CHARACTERS:,} characters")
            if "data" in pattern and not isinstance(pattern["data"], Mapping):
                raise InvalidPatternError("data", "the pattern of a stream's data is an object")
        self._patterns = [(Pattern(pattern), _mentions_data(pattern)) for pattern in patterns]
        self.needs_data = any(mentions for _, mentions in self._patterns)
        """Whether any pattern looks at the payload."""

    def matches(self, data: bytes, metadata: Mapping[str, Any]) -> bool:
        """Whether a record passes. The payload is decoded at most once, and only if a pattern looks at it."""
        event = dict(metadata)
        decoded = True
        if self.needs_data:
            try:
                event["data"] = plain(data)
            except DecodeError:
                decoded = False
        return any(pattern.matches(event) for pattern, mentions in self._patterns if decoded or not mentions)


def _mentions_data(pattern: Mapping[str, Any]) -> bool:
    if any(key == "data" or key.startswith("data.") for key in pattern):
        return True
    alternatives = pattern.get("$or")
    return isinstance(alternatives, list) and any(
        isinstance(one, Mapping) and _mentions_data(one) for one in alternatives
    )


def _compile(pattern: dict[str, Any], prefix: tuple[str, ...]) -> list[dict[str, _Leaf]]:
    if not pattern:
        raise InvalidPatternError(".".join(prefix), "an empty object matches nothing")
    alternatives: list[dict[str, _Leaf]] = [{}]
    for key, value in pattern.items():
        if key == "$or" and _is_or(value):
            branches = [leaves for branch in value for leaves in _compile(branch, prefix)]
        elif isinstance(value, Mapping):
            branches = _compile(dict(value), (*prefix, key))
        else:
            parts = tuple(part for name in (*prefix, key) for part in name.split("."))
            leaf = _Leaf(parts, value)
            branches = [{leaf.text: leaf}]
        if len(alternatives) * len(branches) > _MAX_ALTERNATIVES:
            raise InvalidPatternError(
                ".".join((*prefix, key)), f"$or multiplies out to more than {_MAX_ALTERNATIVES:,}"
            )
        alternatives = [{**left, **right} for left, right in product(alternatives, branches)]
    return alternatives


def _is_or(value: Any) -> bool:
    # AWS: what does not qualify as an alternative is an ordinary field that happens to be called "$or".
    return (
        isinstance(value, list)
        and len(value) >= 2
        and all(isinstance(one, Mapping) and one and _RESERVED.isdisjoint(one) for one in value)
    )


def _leaves(value: Any, parts: tuple[str, ...], elements: Elements) -> Iterator[tuple[Any, Elements]]:
    """The scalars at a path, through arrays at any depth; a key may itself hold dots."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from _leaves(element, parts, (*elements, (id(value), index)) if parts else elements)
    elif not parts:
        if not isinstance(value, dict):
            yield value, elements
    elif isinstance(value, dict):
        first = parts[0]
        if first in value:
            yield from _leaves(value[first], parts[1:], elements)
        for length in range(2, len(parts) + 1):
            joined = ".".join(parts[:length])
            if joined in value:
                yield from _leaves(value[joined], parts[length:], elements)


def _holds(leaves: Sequence[_Leaf], event: dict[str, Any]) -> bool:
    through_arrays: list[list[Elements]] = []
    for leaf in leaves:
        found = leaf.holds(event)
        if found is None:
            return False
        if found is not _ANYWHERE:
            through_arrays.append(found)
    return len(through_arrays) < 2 or _consistent(through_arrays, {})


def _consistent(found: list[list[Elements]], chosen: dict[int, int]) -> bool:
    """Whether one place can be chosen per leaf so that places in the same array are the same element."""
    if not found:
        return True
    for elements in found[0]:
        if all(chosen.get(array, index) == index for array, index in elements) and _consistent(
            found[1:], {**chosen, **dict(elements)}
        ):
            return True
    return False
