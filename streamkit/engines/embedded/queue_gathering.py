"""Sends and deletes of many tasks as few changes: those that come before a commit are staged together, with it.

Alone, one of them costs what it costs; 32 of them together cost less than a third each, since most of what a call does
is done once. HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from streamkit.engines.embedded.log import Answer, Log
from streamkit.queues.visibility import QueueState

Entry = TypeVar("Entry")
Result = TypeVar("Result")

Stage = Callable[[QueueState, list[Entry]], tuple[list[Result], int]]
"""Does what all entries ask for: a result for each, and the group with which they are durable."""


class Gathering(Generic[Entry, Result]):
    """Calls of one kind that wait for the next commit.

    Ordering: of one queue, entries are staged in the order in which they came.
    Cancellation: of a call whose task is cancelled nothing is staged, or all of it.
    """

    def __init__(self, log: Log, stage: Stage[Entry, Result]) -> None:
        self._log = log
        self._stage = stage
        self._calls: dict[QueueState, tuple[list[Entry], list[tuple[asyncio.Future[list[Result]], int]]]] = {}

    async def call(self, queue: QueueState, entries: Sequence[Entry]) -> list[Result]:
        """Stage these with what else comes, and return their results once they are durable."""
        if not self._log.gathers:
            results, group = self._stage(queue, list(entries))
            await self._log.durable(group)
            return results
        waiter: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        is_first = not self._calls
        calls = self._calls.get(queue)
        if calls is None:
            calls = self._calls[queue] = ([], [])
        calls[0].extend(entries)
        calls[1].append((waiter, len(entries)))
        if is_first:
            self._log.soon(self._stage_all)
        results = await waiter
        room = self._log.room
        if room is not None and not room.is_set():
            await room.wait()
        return results

    def _stage_all(self) -> None:
        gathered, self._calls = self._calls, {}
        for queue, (entries, waiters) in gathered.items():
            try:
                results, group = self._stage(queue, entries)
            except Exception as error:
                for waiter, _ in waiters:
                    if not waiter.done():
                        waiter.set_exception(error)
                continue
            answers: list[Answer] = []
            at = 0
            for waiter, count in waiters:
                answers.append((waiter, results[at : at + count]))
                at += count
            self._log.answer(group, answers)
