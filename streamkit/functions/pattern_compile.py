"""From a pattern's object to its alternatives, each a conjunction of leaves. Pure.

Follows Event Ruler as the Amazon EventBridge User Guide documents it ("Event patterns").
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from streamkit.errors import InvalidPatternError
from streamkit.functions.pattern_leaf import Leaf

MAX_ALTERNATIVES = 1000
MAX_DEPTH = 100
_RESERVED = frozenset(
    {
        "exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr",
        "=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case", "in-date-range",
        "ip-address-in-range", "ip-address-not-in-range",
    }
)  # fmt: skip

Alternative = dict[str, Leaf]
"""Leaves by their paths; of two with one path the later one counts."""


def compile_alternatives(
    pattern: Mapping[str, Any], prefix: tuple[str, ...] = (), where: str = "", depth: int = 0
) -> list[Alternative]:
    """The alternatives of a pattern: ``$or`` multiplies them. ``where`` is the object's place in the pattern.

    Raises:
        InvalidPatternError: with the path to the fault.
    """
    if not pattern:
        raise InvalidPatternError(where, "an empty object matches nothing")
    if depth > MAX_DEPTH:
        raise InvalidPatternError(where, f"nested deeper than {MAX_DEPTH} levels")
    alternatives: list[Alternative] = [{}]
    for key, value in pattern.items():
        if not isinstance(key, str):
            raise InvalidPatternError(where, f"{key!r:.60} is no field name: names are strings")
        at = f"{where}.{key}" if where else key
        if key == "$or" and is_or(value):
            branches = [
                leaves
                for index, branch in enumerate(value)
                for leaves in compile_alternatives(branch, prefix, f"{at}[{index}]", depth + 1)
            ]
        elif isinstance(value, Mapping):
            branches = compile_alternatives(value, (*prefix, key), at, depth + 1)
        else:
            parts = tuple(part for name in (*prefix, key) for part in name.split("."))
            leaf = Leaf(parts, value, at)
            branches = [{leaf.text: leaf}]
        if len(alternatives) * len(branches) > MAX_ALTERNATIVES:
            raise InvalidPatternError(at, f"$or multiplies out to more than {MAX_ALTERNATIVES:,} combinations")
        alternatives = [{**left, **right} for left, right in product(alternatives, branches)]
    return alternatives


def is_or(value: Any) -> bool:
    """Whether a field called "$or" is an alternative; if it does not qualify it is an ordinary field (AWS)."""
    return (
        isinstance(value, list)
        and len(value) >= 2
        and all(isinstance(one, Mapping) and one and not any(map(_is_reserved, one)) for one in value)
    )


def _is_reserved(name: Any) -> bool:
    return name in _RESERVED or (isinstance(name, str) and name.startswith("date-"))
