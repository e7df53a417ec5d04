"""What a report says at a glance: a handful of figures that tell the story, beside their peers. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report.words import amount

_WEAKER = {
    "a limit": "limit",
    "in memory": "in memory",
    "not synced": "not synced",
    "synced every": "not synced",
    "synced within": "not synced",
    "synced when": "not synced",
}
"""What to call those in whose durability there are such words."""


@dataclass(frozen=True)
class Headline:
    """A figure that stands for many."""

    what: str
    title: str
    """The workload's."""
    row: str | None = None
    """None: the first."""


HEADLINES = (
    Headline("append, 500 x 1 KiB a batch", "put_batch of 500 x 1024 B, 4 shards, one after another; a store in use"),
    Headline(
        "single puts of 1 KiB, 256 tasks", "256 tasks, each awaiting one put of 1024 B after another; a store in use"
    ),
    Headline("read back as records, 1 KiB", "read back as Record objects, 1024 B, 4 shards, warm (peers: raw rows)"),
    Headline("from put to consumer, p50", "from put to consumer, 1,000 records of 1024 B a second"),
    Headline(
        "queue: 32 clients send, receive, delete",
        "send, receive, delete: 32 clients, 1024 B, one message a call; a store in use",
    ),
    Headline(
        "stream, filter, table: each record once",
        "stream, filter, transform, table: 1 KiB JSON, 10 % kept, exactly once, 4 shards",
    ),
    Headline(
        "reopened, per 100 MB of journal",
        "opening after kill -9, by the size of the journal's tail",
        "48 MiB of tail, per 100 MB",
    ),
)


@dataclass(frozen=True)
class Neighbour:
    """What ran in the same rounds."""

    name: str
    median: float
    ratio: float
    """Of streamkit's figure to this."""
    weaker: str
    """What it does instead of a sync before it answers, or "": see ``weaker``."""


@dataclass(frozen=True)
class Told:
    """A headline with its figures."""

    what: str
    title: str
    unit: str
    median: float
    higher_is_better: bool
    durability: str
    neighbours: Sequence[Neighbour]

    @property
    def figure(self) -> tuple[str, str]:
        """The number, and its unit: ("571 k", "records/s")."""
        number, _, unit = amount(self.median, self.unit).rpartition(" ")
        return number, unit


def story(document: Mapping[str, Any]) -> list[Told]:
    """Those headlines that the run has."""
    by_title = {each["title"]: each for each in document["workloads"] if each["rows"]}
    return [
        told
        for headline in HEADLINES
        if headline.title in by_title and (told := _told(headline, by_title[headline.title])) is not None
    ]


def _told(headline: Headline, workload: Mapping[str, Any]) -> Told | None:
    rows = workload["rows"]
    ours = next((row for row in rows if headline.row in (None, row["row"])), None)
    if ours is None:
        return None
    asked = [row for row in rows if row is not ours and row["ratio"] is not None and row["unit"] == ours["unit"]]
    beside = asked if ours is rows[0] else []
    return Told(
        headline.what,
        headline.title,
        ours["unit"],
        ours["median"],
        ours["higher_is_better"],
        ours["durability"],
        [Neighbour(row["row"], row["median"], _ratio(ours, row), weaker(row["durability"])) for row in beside],
    )


def _ratio(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    pairs: Iterable[tuple[float, float]] = zip(ours["rounds"], theirs["rounds"], strict=True)
    return statistics.median(each / max(other, 1e-12) for each, other in pairs)


def judged(document: Mapping[str, Any]) -> bool:
    """Whether targets are held against a run: not with less durability, in memory or with a handful of records."""
    options = document["options"]
    small, durability, engine = (options.get(name) for name in ("small", "durability", "engine"))
    return not small and durability in (None, "fsync") and engine in (None, "file")


def weaker(durability: str) -> str:
    """What is to be said beside a figure, as its acknowledgements mean less than a sync; "" where they mean that."""
    return next((name for words, name in _WEAKER.items() if words in durability), "")


def is_ours(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it is streamkit's: neither a peer's, nor a bare disk's or loop's, which promise another thing."""
    return not row["peer"] and row["durability"] == rows[0]["durability"]
