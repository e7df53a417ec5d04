"""Tumbling windows of one shard: which is open, and its state. Pure.

Follows the AWS Lambda Developer Guide ("Using Lambda to process ... tumbling windows"): windows are aligned to their
length, and a record belongs to the one in which it arrived.

The open window is kept in the shard's lease. What of its state is too much for one item is in items of a table of its
own, which are written in the same commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streamkit.errors import FunctionError
from streamkit.functions.invocation import Window
from streamkit.limits import KIB, MIB
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Delete, Put, Write

ATTRIBUTE = "window"
"""Where the open window is kept, in the shard's lease."""
STATE_BYTES = MIB
"""AWS: a larger state ends its window early."""
ANSWER_BYTES = 6 * MIB
"""AWS: a larger answer is a failed invocation, so no state is."""
PART_BYTES = 256 * KIB
"""What of a state is in one item; AWS: an item has 400 KB."""
WINDOWS = TableSchema(name="streamkit-windows", partition_key="lease", sort_key="part")


def part_keys(lease: Mapping[str, str], count: int, first: int = 0) -> list[dict[str, Any]]:
    """The keys of parts of a state, but for the one that is in the lease of this key."""
    return [{"lease": f"{lease['consumer']}#{lease['shard']}", "part": at} for at in range(first, count)]


class Kept(msgspec.Struct, frozen=True):
    """What a commit stores of the open window."""

    window: dict[str, Any] | None
    """In the lease, with the first part of the state; None: no window is open any more."""
    more: tuple[bytes, ...] = ()
    """The other parts."""
    stored: int = 0
    """How many other parts were stored before."""

    def writes(self, lease: Mapping[str, str]) -> list[Write]:
        """Of the parts that are not in the lease of this key."""
        keys = part_keys(lease, len(self.more))
        puts = [Put({**key, "state": part}, table=WINDOWS.name) for key, part in zip(keys, self.more, strict=True)]
        return [*puts, *(Delete(key, table=WINDOWS.name) for key in part_keys(lease, self.stored, len(self.more)))]


class Stored(msgspec.Struct, frozen=True):
    """The open window as the last commit kept it."""

    start_ms: int
    end_ms: int
    state: bytes
    early: bool = False
    more: int = 0
    """How many parts of the state are not in the lease."""


class Tumbling:
    """The windows of one shard, one after the other."""

    def __init__(self, length_ms: int, stored: Stored | None = None) -> None:
        """``stored`` is what the last commit kept; None: no window is open."""
        self._length_ms = length_ms
        self._start_ms: int | None = None
        self.end_ms: int | None = None
        """Of the open window, not included; None: none is open."""
        self.early = False
        """The open window ends with its next invocation, because its state is too large."""
        self._state: dict[str, Any] = {}
        self._more = 0
        if stored is not None:
            self._start_ms, self.end_ms = stored.start_ms, stored.end_ms
            self._state = msgspec.json.decode(stored.state)
            self.early = stored.early
            self._more = stored.more

    def open(self, arrival_ms: int) -> None:
        """A record that arrived then is handed over: its window opens, unless one is open."""
        if self._start_ms is None:
            self._start_ms = arrival_ms // self._length_ms * self._length_ms
            self.end_ms = self._start_ms + self._length_ms

    def admits(self, arrival_ms: int) -> bool:
        """A record that arrived then belongs to the open window, or opens one. One that is late belongs to it."""
        return self.end_ms is None or arrival_ms < self.end_ms

    def over(self, now_ms: int) -> bool:
        """No record will come that belongs to the open window."""
        return self.end_ms is not None and now_ms >= self.end_ms

    def window(self, *, final: bool = False) -> Window:
        """What the next invocation is told."""
        assert self._start_ms is not None
        assert self.end_ms is not None
        return Window(
            start_ms=self._start_ms,
            end_ms=self.end_ms,
            state=self._state,
            final=final,
            early=self.early and final,
        )

    def kept(self, state: dict[str, Any] | None) -> Kept:
        """What to store with what an invocation did that returned this state.

        Raises:
            FunctionError: it cannot be written as JSON, or no answer may be so large.
        """
        try:
            data = msgspec.json.encode(state)
        except (TypeError, ValueError) as error:
            raise FunctionError(f"the state of a window is no JSON: {error}") from error
        if len(data) > ANSWER_BYTES:
            raise FunctionError(
                f"the state of a window has {len(data):,} bytes, and an answer has {ANSWER_BYTES:,} at most; "
                f"over {STATE_BYTES:,} a window ends early"
            )
        first, *more = (data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES))
        early = len(data) > STATE_BYTES
        window = {"start": self._start_ms, "end": self.end_ms, "state": first, "early": early, "more": len(more)}
        return Kept(window, tuple(more), self._more)

    def keep(self, kept: Kept) -> None:
        """That was committed."""
        assert kept.window is not None
        self._state = msgspec.json.decode(kept.window["state"] + b"".join(kept.more))
        self.early = kept.window["early"]
        self._more = len(kept.more)

    def dropped(self) -> Kept:
        """What to store with what the last invocation of the window did."""
        return Kept(None, (), self._more)

    def close(self) -> None:
        """The last invocation of the window is done; its state is dropped."""
        self._start_ms = self.end_ms = None
        self._state = {}
        self._more = 0
        self.early = False
