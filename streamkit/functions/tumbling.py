"""Tumbling windows of one shard: which is open, and its state. Pure.

Follows the AWS Lambda Developer Guide ("Using Lambda to process ... tumbling windows"): windows are aligned to their
length, and a record belongs to the one in which it arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streamkit.errors import FunctionError
from streamkit.functions.invocation import Window

ATTRIBUTE = "window"
"""Where the open window is kept, in the shard's lease."""
STATE_BYTES = 1_048_576
"""AWS: a larger state ends its window early."""


class Tumbling:
    """The windows of one shard, one after the other."""

    def __init__(self, length_ms: int, stored: Mapping[str, Any] | None = None) -> None:
        """``stored`` is what the last commit kept; None: no window is open."""
        self._length_ms = length_ms
        self._start_ms: int | None = None
        self.end_ms: int | None = None
        """Of the open window, not included; None: none is open."""
        self.early = False
        """The open window ends with its next invocation, because its state is too large."""
        self._state: dict[str, Any] = {}
        if stored is not None:
            self._start_ms, self.end_ms = stored["start"], stored["end"]
            self._state = msgspec.json.decode(stored["state"])
            self.early = stored["early"]

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

    def kept(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """Attributes to store with what an invocation did that returned this state.

        Raises:
            FunctionError: it cannot be written as JSON.
        """
        try:
            data = msgspec.json.encode(state).decode()
        except (TypeError, ValueError) as error:
            raise FunctionError(f"the state of a window is no JSON: {error}") from error
        early = len(data.encode()) > STATE_BYTES
        return {ATTRIBUTE: {"start": self._start_ms, "end": self.end_ms, "state": data, "early": early}}

    def keep(self, kept: Mapping[str, Any]) -> None:
        """That was committed."""
        self._state = msgspec.json.decode(kept[ATTRIBUTE]["state"])
        self.early = kept[ATTRIBUTE]["early"]

    def close(self) -> None:
        """The last invocation of the window is done; its state is dropped."""
        self._start_ms = self.end_ms = None
        self._state = {}
        self.early = False
