"""What a function is told of its tumbling window, and what came of calling it. Pure values."""

from __future__ import annotations

from typing import Any

import msgspec


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A tumbling window of a shard, as an invocation sees it ("Using Lambda to process ... tumbling windows")."""

    start_ms: int
    end_ms: int
    """Not included."""
    state: dict[str, Any]
    """What the last invocation of this window returned; empty at first."""
    final: bool = False
    """The window closes with this invocation, which may have no records."""
    early: bool = False
    """It closes before its time, because its state grew too large."""


class Invocation(msgspec.Struct, frozen=True):
    """What came of calling a function with some records or messages."""

    results: list[tuple[int, list[Any]]]
    """For what is done, in order: its place in the batch, and its results. Place 0 if the batch has no records."""
    done: int
    """How many from the start on are done. Of a queue: how many in all; ``failures`` says which are not."""
    failed: int = 0
    """How many after those failed together; 0: none, all are done."""
    error: Exception | None = None
    failures: tuple[int, ...] = ()
    """Of a queue: the places of the messages that failed."""
    state: dict[str, Any] | None = None
    """What a function with a tumbling window returned to be kept."""
    reported: bool = False
    """The failure was in the answer (``batchItemFailures``, or nothing of use) and not raised."""
    throttled: bool = False
    """It was not called, because its concurrency limit was reached: this counts as no attempt."""
    request_id: str = ""
    """Of one that failed: ``aws_request_id`` of the context that the function saw; empty if it was not called."""
    together: bool = False
    """The results belong to the batch and to none of its messages alone: one that is refused fails all of them."""
    trace: object = None
    """Where what becomes of the results belongs, for ``Tracing.within``; None: nobody traced."""
