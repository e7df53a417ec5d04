"""Counters against what they count. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.guarantees.findings import Findings


@dataclass(frozen=True)
class Count:
    """Of the records of one key; the sums tell which record was counted twice if another was not at all."""

    seen: int = 0
    places: int = 0
    squares: int = 0


def count_of(places: Iterable[int]) -> Count:
    """What a counter of records at these places of a key is to say."""
    every = list(places)
    return Count(len(every), sum(every), sum(place * place for place in every))


def compare(findings: Findings, counters: Mapping[str, Count], records: Mapping[str, list[int]]) -> None:
    """Each record of the stream took effect once: so many of each key are there, at these places."""
    for key in sorted(counters.keys() | records.keys()):
        found, wanted = counters.get(key, Count()), count_of(records.get(key, []))
        findings.events += wanted.seen
        if found.seen != wanted.seen:
            findings.wrong(
                f"the counter of {key} says {found.seen}, and {wanted.seen} records of it are in the stream",
                abs(found.seen - wanted.seen),
            )
        elif found != wanted:
            findings.wrong(
                f"the counter of {key} says {found.seen}, as it should, but of other records: their places sum up to "
                f"{found.places}, and to {wanted.places} in the stream"
            )
