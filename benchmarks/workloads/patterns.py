"""What matching an event costs: one pattern of ten leaves; and one, a hundred, a thousand patterns on one source."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks.measure import Figure, Figures, Lane, Setting, Target, Workload, verify
from streamkit import Pattern
from streamkit.functions.pattern_set import PatternSet

Event = dict[str, Any]

TEN_LEAVES = {
    "source": ["shop"],
    "account": ["123", "456"],
    "region": [{"prefix": "eu-"}],
    "detail": {
        "state": ["running", "stopped"],
        "kind": ["paid"],
        "total": [{"numeric": [">=", 1000]}],
        "who": {"name": ["Anna"], "id": [7]},
        "where": {"zone": [{"anything-but": ["us-1"]}], "ip": [{"exists": True}]},
    },
}


def event(kind: str) -> Event:
    """A decoded event of 1 KiB."""
    text = msgspec.json.encode(
        {
            "source": "shop",
            "account": "123",
            "region": "eu-central-1",
            "detail": {
                "id": "0b1c",
                "state": "running",
                "kind": kind,
                "total": 1234.5,
                "who": {"name": "Anna", "id": 7, "mail": "anna@example.org"},
                "where": {"ip": "10.0.0.77", "zone": "eu-1"},
                "note": "x" * 760,
            },
        }
    )
    decoded: Event = msgspec.json.decode(text)
    return decoded


def _microseconds(call: Callable[[Event], object], events: list[Event], rounds: int) -> Figure:
    started = time.perf_counter()
    for _ in range(rounds):
        for one in events:
            call(one)
    return Figure((time.perf_counter() - started) / (rounds * len(events)) * 1e6, "us")


async def _ten_leaves(setting: Setting) -> Figures:
    pattern = Pattern(TEN_LEAVES)
    matching, other = event("paid"), event("viewed")
    verify(pattern.matches(matching) and not pattern.matches(other), "the pattern does not tell the events apart")
    rounds = setting.sized(200_000, 100)
    return {
        "that matches": _microseconds(pattern.matches, [matching], rounds),
        "that does not": _microseconds(pattern.matches, [other], rounds),
    }


def _many(count: int) -> Lane:
    """As many patterns as kinds, of which an event matches one or none."""

    async def run(setting: Setting) -> Figures:
        patterns = [Pattern({"detail": {"kind": [f"kind-{at}"]}, "source": ["shop"]}) for at in range(count)]
        together = PatternSet(patterns)
        events = [event(f"kind-{at}") for at in range(0, 2 * count, max(1, count // 5))]
        for one in events:
            each = [at for at, pattern in enumerate(patterns) if pattern.matches(one)]
            verify(together.matching(one) == each, f"{count} patterns together match others than one by one")
        rounds = setting.sized(20_000, 10)

        def one_by_one(one: Event) -> bool:
            return sum(pattern.matches(one) for pattern in patterns) > 0

        return {
            f"{count:,} together": _microseconds(together.matching, events, rounds // len(events) + 1),
            f"{count:,} one by one": _microseconds(one_by_one, events, rounds // len(events) // count + 1),
        }

    return Lane(run, "")


PATTERNS = (
    Workload(
        "pattern",
        "one pattern of ten leaves on a decoded event of 1 KiB",
        [Lane(_ten_leaves, "")],
        (Target("that matches", at_most=3, ratio=False),),
    ),
    Workload("pattern", "many patterns on one source, per event", [_many(count) for count in (1, 100, 1000)]),
)
