"""A conjunction of leaves as one function, for the events that have every field where its path says. Pure, hot.

Ten leaves asked one by one cost twenty calls of Python; in one function they cost those of their predicates alone. It
is made by writing its source, as ``dataclasses`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streamkit.functions.pattern_leaf import Leaf

FAILS = -1


def compile_direct(leaves: Sequence[Leaf]) -> Callable[[Any], int]:
    """Of an event that is a dict: how many leaves, from the first on, hold for certain; or ``FAILS``.

    ``FAILS``: the next one certainly does not hold. Otherwise nothing is said of it: it may have a dotted key or pass
    through an array.
    # INVARIANT: test_a_compiled_pattern_equals_a_naive_matcher

    HOT: `python -m benchmarks --only pattern`.
    """
    # Names in the source are numbers of ours; field names come as literals, and predicates as default arguments.
    given: dict[str, Any] = {}
    objects: dict[tuple[str, ...], str] = {(): "event"}
    lines: list[str] = []
    for at, leaf in enumerate(leaves):
        if leaf.absent_matches and not leaf.matchers:
            if len(leaf.parts) > 1:
                return lambda event: 0
            lines += [f"if {leaf.parts[0]!r} in event:", f"    return {at}"]
            continue
        given[f"t{at}"], given[f"s{at}"] = leaf.test, leaf.settle
        failed = f"    return {FAILS} if s{at}(event) is False else {at}"
        if not lines:
            # Events of other kinds often lack the first field, and an exception costs more than a look.
            lines += [f"if {leaf.parts[0]!r} not in event:", failed]
        for depth in range(1, len(leaf.parts)):
            way = leaf.parts[:depth]
            if way not in objects:
                lines.append(f"o{len(objects)} = {objects[way[:-1]]}[{way[-1]!r}]")
                objects[way] = f"o{len(objects)}"
        lines += [f"if not t{at}({objects[leaf.parts[:-1]]}[{leaf.parts[-1]!r}]):", failed]
    arguments = ", ".join(f"{name}={name}" for name in given)
    source = [f"def direct(event, {arguments}):", "    try:", *(f"        {line}" for line in lines)]
    source += ["    except (KeyError, TypeError):", "        return 0", f"    return {len(leaves)}"]
    made: dict[str, Any] = {}
    exec("\n".join(source), given, made)
    direct: Callable[[Any], int] = made["direct"]
    return direct
