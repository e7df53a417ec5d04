"""Calls of many tasks as few changes: those that come in one turn of the loop are staged together, before its commit.

Alone, one of them costs what it costs; 32 of them together cost less than a third each, since most of what a call does
is done once. HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from streamkit.engines.embedded.changes import MessagesReceived
from streamkit.engines.embedded.log import Answer, Log, give
from streamkit.errors import StreamKitError
from streamkit.queues.visibility import QueueState

Entry = TypeVar("Entry")
Result = TypeVar("Result")

Waiter = tuple[asyncio.Future[list[Result]], int]
"""Who waits for results, and for how many."""

Stage = Callable[[QueueState, list[Entry]], tuple[list[Result], int]]
"""Does what all entries ask for: a result for each, and the group with which they are durable."""


class Gathering(Generic[Entry, Result]):
    """Calls of one kind that came in this turn.

    Ordering: of one queue, entries are staged in the order in which they came, and before whatever calls
    ``Log.prepare`` first.
    Cancellation: of a call whose task is cancelled nothing is staged, or all of it.
    """

    def __init__(self, log: Log, stage: Stage[Entry, Result], *, none_at_once: bool = False) -> None:
        self.after: Sequence[Gathering[Any, Any]] = ()
        """What calls of other kinds gathered is staged before."""
        self._log = log
        self._stage = stage
        self._none_at_once = none_at_once
        """Whether nothing was changed for whose only result is None: then it does not wait for what others changed."""
        self._calls: dict[QueueState, tuple[list[Entry], list[Waiter[Result]]]] = {}

    async def call(self, queue: QueueState, entries: Sequence[Entry]) -> list[Result]:
        """Stage these with what else comes, and return their results once they are durable.

        Whoever calls has asked ``Log.check_owner``.
        """
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
        for other in self.after:
            other._stage_all()
        gathered, self._calls = self._calls, {}
        for queue, (entries, waiters) in gathered.items():
            self._stage_some(queue, entries, waiters)

    def _stage_some(self, queue: QueueState, entries: list[Entry], waiters: list[Waiter[Result]]) -> None:
        try:
            results, group = self._stage(queue, entries)
        except StreamKitError as error:
            if len(waiters) > 1:
                # Nothing has changed: each hears of it by itself, with an error of its own.
                for waiter, part in zip(waiters, _parts(entries, waiters), strict=True):
                    self._stage_some(queue, part, [waiter])
            else:
                _refuse(waiters, error)
        except Exception as error:
            _refuse(waiters, error)
        else:
            answers: list[Answer] = [
                (waiter, part) for (waiter, _), part in zip(waiters, _parts(results, waiters), strict=True)
            ]
            if self._none_at_once and None in results:
                # INVARIANT: test_a_receive_that_finds_nothing_does_not_wait_for_the_commit_of_others
                give([answer for answer in answers if answer[1] == [None]])
            self._log.answer(group, answers)


class ReceivedTogether:
    """Receives of one turn as few changes: those of one timeout are one, unless they moved dead letters."""

    def __init__(self, log: Callable[[MessagesReceived], int]) -> None:
        self._log = log
        self._change: MessagesReceived | None = None
        self._is_joint = False
        self.group = 0
        """With which all of it is durable, once it has ended; 0: there was nothing."""

    def add(self, change: MessagesReceived) -> None:
        """One more, already applied. It stays as it is."""
        held = self._change
        if held is not None and held.timeout_ms == change.timeout_ms and not (held.moved or change.moved):
            if not self._is_joint:
                held = self._change = msgspec.structs.replace(held, numbers=[*held.numbers])
                self._is_joint = True
            held.numbers.extend(change.numbers)
        else:
            self.end()
            self._change, self._is_joint = change, False

    def end(self) -> None:
        """Log what is not logged yet."""
        if self._change is not None:
            self.group = self._log(self._change)
            self._change = None


def _parts(whole: list[Any], waiters: list[Waiter[Any]]) -> Iterator[list[Any]]:
    """What of it is each waiter's."""
    at = 0
    for _, count in waiters:
        yield whole[at : at + count]
        at += count


def _refuse(waiters: list[Waiter[Any]], error: Exception) -> None:
    for waiter, _ in waiters:
        if not waiter.done():
            waiter.set_exception(error)
