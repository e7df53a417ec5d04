"""Event patterns: ten leaves on an event of 1 KiB, and many patterns on one source."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks.measure import Figure, Figures, Lane, Setting, Target, Workload, rate, verify
from streamkit import Pattern
from streamkit.functions.pattern_index import PatternSet

TEN_LEAVES = {
    "kind": ["order", "refund"],
    "detail": {
        "state": [{"prefix": "run"}],
        "region": ["eu"],
        "user": {"name": ["anna"], "age": [{"numeric": [">", 18, "<", 65]}]},
    },
    "price": [{"numeric": [">=", 100]}],
    "vip": [True],
    "gone": [{"exists": False}],
    "path": [{"wildcard": "/a/*.png"}],
    "note": [{"anything-but": "x"}],
}
"""Of every kind of operator that is used much."""
_OURS = "ten leaves, all hold"


def event(at: int, kind: str = "order", age: int = 33) -> dict[str, Any]:
    """1 KiB of JSON that the pattern matches, decoded."""
    made = {
        "id": at,
        "kind": kind,
        "detail": {"state": "running", "region": "eu", "user": {"name": "anna", "age": age}},
        "price": 120.5,
        "vip": True,
        "note": None,
        "path": "/a/b/c.png",
        "tags": ["a", "b"],
        "filler": "",
    }
    made["filler"] = "x" * (1024 - len(json.dumps(made, separators=(",", ":"))))
    decoded: dict[str, Any] = msgspec.json.decode(json.dumps(made, separators=(",", ":")))
    return decoded


def _timed(pattern: Pattern, events: list[dict[str, Any]], rounds: int, expected: int) -> float:
    """Seconds per match, without the loop's own."""
    matches = pattern.matches
    verify(sum(map(matches, events)) == expected, "a pattern matched what it should not, or not what it should")
    started = time.perf_counter()
    for _ in range(rounds):
        for each in events:
            matches(each)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(rounds):
        for _each in events:
            pass
    return (seconds - (time.perf_counter() - started)) / (rounds * len(events))


async def _ten(setting: Setting) -> Figures:
    pattern, rounds = Pattern(TEN_LEAVES), setting.sized(1000, 1)
    held = _timed(pattern, [event(at) for at in range(100)], rounds, 100)
    first = _timed(pattern, [event(at, kind="viewed") for at in range(100)], rounds, 0)
    middle = _timed(pattern, [event(at, age=70) for at in range(100)], rounds, 0)
    return {
        _OURS: Figure(held * 1e6, "us"),
        "ten leaves, matches": rate(1, held, "matches/s"),
        "ten leaves, the first fails": Figure(first * 1e6, "us"),
        "ten leaves, the fifth fails": Figure(middle * 1e6, "us"),
    }


def _of_many(count: int) -> Lane:
    async def run(setting: Setting) -> Figures:
        patterns = [
            Pattern({"kind": [f"kind-{at}"], "price": [{"numeric": [">=", 100]}], "detail": {"region": ["eu"]}})
            for at in range(count)
        ]
        index = PatternSet(patterns)
        events = [event(at, kind=f"kind-{at % (2 * count)}") for at in range(100)]

        def each(value: Any) -> list[int]:
            return [at for at, pattern in enumerate(patterns) if pattern.matches(value)]

        found = [index.matching(value) for value in events]
        verify(found == [each(value) for value in events], "the index and trying each pattern differ")
        verify([bool(one) for one in found] == list(map(index.any, events)), "one matches, and the index finds none")
        verify(
            found == [[at % (2 * count)] if at % (2 * count) < count else [] for at in range(100)],
            "the patterns that match are others than those made to match",
        )
        figures = {}
        lanes: tuple[tuple[str, Callable[[Any], object], int], ...] = (
            ("by index", index.matching, setting.sized(200, 1)),
            ("by index, any", index.any, setting.sized(200, 1)),
            ("trying each", each, setting.sized(max(1, 2000 // (10 * count)), 1)),
        )
        for name, match, rounds in lanes:
            started = time.perf_counter()
            for _ in range(rounds):
                for value in events:
                    match(value)
            seconds = (time.perf_counter() - started) / (rounds * len(events))
            figures[f"{count:,} patterns, {name}"] = Figure(seconds * 1e6, "us")
        return figures

    return Lane(run, "")


PATTERNS = (
    Workload(
        "pattern",
        "an event pattern of ten leaves on a decoded event of 1 KiB",
        [Lane(_ten, "")],
        (Target(_OURS, at_most=3.0, ratio=False),),
    ),
    Workload(
        "pattern",
        "many patterns on one source: which of them match an event, per event",
        [_of_many(count) for count in (1, 100, 1000)],
    ),
)
