"""A conjunction of leaves as one function, for the events that have every field where its path says. Pure, hot.

Ten leaves asked one by one cost twenty calls of Python; in one function they cost those of their predicates alone. It
is made by writing its source, as ``dataclasses`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streamkit.functions.pattern_leaf import Leaf


def compile_direct(leaves: Sequence[Leaf]) -> Callable[[Any], int]:
    """Of an event that is a dict: how many leaves, from the first on, hold for certain without a look at arrays.

    That the next one does not hold is not said: it may have a dotted key or pass through an array.
    # INVARIANT: test_a_compiled_pattern_equals_a_naive_matcher

    HOT: `python -m benchmarks --only pattern`.
    """
    # Names in the source are numbers of ours; field names come as literals, and predicates as default arguments.
    tests: dict[str, Any] = {}
    objects: dict[tuple[str, ...], str] = {(): "event"}
    lines: list[str] = []
    for at, leaf in enumerate(leaves):
        if leaf.absent_matches and not leaf.matchers:
            if len(leaf.parts) > 1:
                return lambda event: 0
            lines += [f"if {leaf.parts[0]!r} in event:", f"    return {at}"]
            continue
        for depth in range(1, len(leaf.parts)):
            way = leaf.parts[:depth]
            if way not in objects:
                lines.append(f"o{len(objects)} = {objects[way[:-1]]}[{way[-1]!r}]")
                objects[way] = f"o{len(objects)}"
        tests[f"t{at}"] = leaf.test
        lines += [f"if not t{at}({objects[leaf.parts[:-1]]}[{leaf.parts[-1]!r}]):", f"    return {at}"]
    arguments = ", ".join(f"{name}={name}" for name in tests)
    source = [f"def direct(event, {arguments}):", "    try:", *(f"        {line}" for line in lines)]
    source += ["    except (KeyError, TypeError):", "        return 0", f"    return {len(leaves)}"]
    made: dict[str, Any] = {}
    exec("\n".join(source), tests, made)
    direct: Callable[[Any], int] = made["direct"]
    return direct
