"""The hot paths: what each runs, and the rooms that it runs through.

They are lanes of the workloads, with their verification. All are bound by the processor, so that is what is measured of
them. They use the file engine, as users do, but nothing is synced, and the files are in memory where the system has a
place for such (``/dev/shm``): the journal, its frames and checksums are on the path, and the disk is not. It would add
the same to both sides, and its noise, and so hide a difference.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmarks.measure import Figures, Lane, Setting, Workload, rate, verify


@dataclass(frozen=True)
class Place:
    """Where a lane is among the workloads, and which of its rows count."""

    module: str
    workloads: str
    """The module's tuple of them."""
    title: str
    """Part of the workload's title."""
    lane: int
    rows: Sequence[str]
    share: float
    """Of the full counts: what takes about a tenth of a second."""

    def find(self) -> Lane:
        """The lane.

        Raises:
            LookupError: the workloads are others now.
        """
        several: Sequence[Workload] = getattr(importlib.import_module(self.module), self.workloads)
        found = [each for each in several if self.title in each.title]
        if len(found) != 1 or self.lane >= len(found[0].lanes):
            raise LookupError(f"no lane {self.lane} in one workload with {self.title!r} in {self.module}")
        return found[0].lanes[self.lane]


@dataclass(frozen=True)
class HotPath:
    """What must not become slower."""

    does: str
    lanes: Sequence[Place]
    """An operation of the path is one of each row of each."""
    rooms: Sequence[str]
    """Patterns of the files that it runs through; ``*`` stands for slashes too."""

    def touched_by(self, files: Iterable[str]) -> list[str]:
        """Those of the files that it runs through."""
        return [file for file in files if any(fnmatchcase(file, room) for room in self.rooms)]


def _rooms(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"streamkit/{folder}{name}.py" for name in names)


_COMMIT = (
    *_rooms("", "codecs", "clock"),
    *_rooms("metrics/", "metric", "rows", "window", "buckets"),
    *_rooms("engines/embedded/", "log", "turns", "changes", "stores"),
    *_rooms(
        "engines/file/", "engine", "journal", "frame", "segment", "commit_group", "files", "lock", "offload", "settle"
    ),
)
_STREAMS = (*_COMMIT, *_rooms("", "streams/*"), *_rooms("engines/embedded/", "stream*", "retention"))
_READING = (*_STREAMS, *_rooms("engines/file/", "block", "cold"))
_QUEUES = (*_COMMIT, *_rooms("", "queues/*"), *_rooms("engines/embedded/", "queue*"))
_TABLES = (
    *(*_COMMIT, *_rooms("", "tables/*")),
    *_rooms("engines/embedded/", "table*", "items", "layer", "recent", "write_tokens"),
)
_PATTERNS = _rooms("functions/", "pattern*", "matchers")

_SAMPLES = 20
"""Of each series in the lane of metrics, before the next second."""


async def _metric_puts(setting: Setting) -> Figures:
    """Samples of 1,000 series, one by one as an application puts them and in rows as streams do, over 20 seconds."""
    # Not above, since whatever is imported there is needed by every path.
    from streamkit.metrics.metric import Metric
    from streamkit.metrics.rows import Column
    from streamkit.metrics.window import Metrics

    start_ms, seconds = 1_700_000_000_000, setting.sized(200, 2)
    metrics = Metrics()
    single = [Metric.of("bench", "Depth", Queue=f"queue-{at}") for at in range(50)]
    streams = [f"stream-{at}" for at in range(50)]
    kinds = ("Bytes", "Records")
    rows = [
        metrics.rows(*[Column(Metric.of("bench", kind, Stream=stream), "Count") for kind in kinds])
        for stream in streams
    ]
    started = time.perf_counter()
    for second in range(seconds):
        now_ms = start_ms + second * 1000
        for _ in range(_SAMPLES):
            for metric in single:
                metrics.put(metric, 2.0, now_ms)
            for each in rows:
                each.add((100.0, 3.0), now_ms)
    took = time.perf_counter() - started
    metrics.spread()
    puts = seconds * _SAMPLES
    for metric, value in ((single[7], 2.0), (Metric.of("bench", "Records", Stream=streams[7]), 3.0)):
        total = metrics.total(metric)
        verify(total is not None and (total.sample_count, total.sum) == (puts, puts * value), f"{metric}: {total}")
    return {"put": rate(puts * (len(single) + len(rows)), took, "puts/s")}


METRIC_PUTS = (Workload("metric_puts", "metrics put", [Lane(_metric_puts, "")]),)

_HERE = "benchmarks.workloads."
HOT_PATHS: Mapping[str, HotPath] = {
    "append": HotPath(
        "put_batch of 500 records, of 1024 B and of 100 B",
        [
            Place(_HERE + "append", "APPEND", f"x {size} B", 1, ["streamkit, a new store"], share)
            for size, share in ((1024, 0.04), (100, 0.08))
        ],
        _STREAMS,
    ),
    "puts": HotPath(
        "256 tasks that put one record after another",
        [Place(_HERE + "append", "APPEND", "tasks, each awaiting one put", 0, ["streamkit"], 0.15)],
        _STREAMS,
    ),
    "read": HotPath(
        "reading back records that were just put, with records() and by a consumer, and once more after a reopening",
        [
            Place(
                *(_HERE + "read", "READ", "Record objects, 100 B", 0),
                ["streamkit, just put", "by a consumer, just put", "reopened, page cache warm"],
                0.02,
            )
        ],
        _READING,
    ),
    "queue": HotPath(
        "32 clients that send, receive and delete one message after another",
        [Place(_HERE + "queues", "QUEUES", "clients, 1024 B, one message a call", 0, ["streamkit"], 0.05)],
        _QUEUES,
    ),
    "queue_batches": HotPath(
        "a client that sends, receives and deletes ten messages a call",
        [Place(_HERE + "queues", "QUEUES", "one client, 10 messages", 0, ["streamkit"], 0.15)],
        _QUEUES,
    ),
    "table_put": HotPath(
        "put_batch of 500 items",
        [Place(_HERE + "tables", "TABLES", "put_batch of 500 items", 2, ["streamkit, a new store"], 0.07)],
        _TABLES,
    ),
    "table_get": HotPath(
        "single gets of items that were read before",
        [Place(_HERE + "tables", "TABLES", "single gets, once more", 0, ["streamkit"], 0.06)],
        (*_TABLES, *_rooms("engines/file/", "sqlite_items")),
    ),
    "end_to_end": HotPath(
        "stream, filter, function, table, each record exactly once, put and mapped side by side",
        [Place(_HERE + "end_to_end", "END_TO_END", "stream, filter, transform, table", 0, ["put and mapped"], 0.05)],
        (*_STREAMS, *_TABLES, *_rooms("", "functions/*", "service")),
    ),
    "pattern": HotPath(
        "an event pattern of ten leaves: all hold, the first fails, the fifth fails",
        [
            Place(
                *(_HERE + "patterns", "PATTERNS", "ten leaves", 0),
                ["ten leaves, all hold", "ten leaves, the first fails", "ten leaves, the fifth fails"],
                0.12,
            )
        ],
        _PATTERNS,
    ),
    "metrics_put": HotPath(
        "samples of metrics, one by one and in rows",
        [Place("benchmarks.gate.paths", "METRIC_PUTS", "metrics put", 0, ["put"], 0.2)],
        _rooms("", "metrics/*"),
    ),
}
"""By the name that ``--only`` takes."""
