"""Event patterns: which events match, and why. Pure and hot: `benchmarks --only pattern`.

Follows Event Ruler as the Amazon EventBridge User Guide documents it ("Event patterns").
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import msgspec

from streamkit.codecs import plain
from streamkit.errors import DecodeError, InvalidPatternError
from streamkit.functions.leaf import Conjunction, Leaf, values_at

_MAX_ALTERNATIVES = 1000
_RESERVED = frozenset(
    {
        "exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr",
        "=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case", "in-date-range",
        "ip-address-in-range", "ip-address-not-in-range",
    }
)  # fmt: skip


class LeafExplanation(msgspec.Struct, frozen=True):
    """What one leaf of a pattern said of an event."""

    path: str
    matched: bool
    found: list[Any]
    """The values at its path; empty: the event has no such field."""


class Explanation(msgspec.Struct, frozen=True):
    """Why an event matches a pattern or does not."""

    matched: bool
    path: str
    """Of the leaf that decided: the first that does not match, of the `$or` alternative that comes closest; of an event
    that matches, the last that had to. Empty: the event is no object."""
    reason: str
    leaves: list[LeafExplanation]
    """Of that alternative."""


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
        self.alternatives: list[Conjunction] = [
            Conjunction(list(leaves.values())) for leaves in _compile(dict(pattern), ())
        ]
        self._only = self.alternatives[0] if len(self.alternatives) == 1 else None

    def matches(self, event: Any) -> bool:
        """Whether a decoded JSON value matches; anything but an object never does. HOT."""
        if event.__class__ is not dict and not isinstance(event, dict):
            return False
        if self._only is not None:
            return self._only.holds(event)
        return any(leaves.holds(event) for leaves in self.alternatives)

    def explain(self, event: Any) -> Explanation:
        """Which leaf decided, in a sentence, and what each leaf says."""
        if not isinstance(event, dict):
            return Explanation(False, "", "the event is not an object", [])
        best: tuple[int, list[LeafExplanation]] = (-1, [])
        for leaves in self.alternatives:
            said = [_explain(leaf, event) for leaf in leaves.leaves]
            if leaves.holds(event):
                where = f" by alternative {self.alternatives.index(leaves) + 1}" if self._only is None else ""
                return Explanation(True, said[-1].path, f"every field of the pattern matches{where}", said)
            closest = sum(leaf.matched for leaf in said)
            if closest > best[0]:
                best = closest, said
        said = best[1]
        for leaf in said:
            if not leaf.matched:
                reason = f"none of {leaf.found!r:.100} matches" if leaf.found else "the event has no such field"
                return Explanation(False, leaf.path, reason, said)
        reason = "every field matches somewhere, but not within one element of the same array"
        return Explanation(False, said[-1].path, reason, said)


def _explain(leaf: Leaf, event: dict[str, Any]) -> LeafExplanation:
    found = [value for value, _ in values_at(event, leaf.parts)]
    return LeafExplanation(leaf.text, leaf.holds(event) is not None, found)


def _compile(pattern: dict[str, Any], prefix: tuple[str, ...]) -> list[dict[str, Leaf]]:
    if not pattern:
        raise InvalidPatternError(".".join(prefix), "an empty object matches nothing")
    alternatives: list[dict[str, Leaf]] = [{}]
    for key, value in pattern.items():
        if key == "$or" and _is_or(value):
            branches = [leaves for branch in value for leaves in _compile(branch, prefix)]
        elif isinstance(value, Mapping):
            branches = _compile(dict(value), (*prefix, key))
        else:
            parts = tuple(part for name in (*prefix, key) for part in name.split("."))
            leaf = Leaf(parts, value)
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
