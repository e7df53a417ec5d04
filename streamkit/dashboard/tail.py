"""The newest records of a stream, and what comes, as server-sent events.

Follows "Server-sent events" (WHATWG HTML Standard). A look must cost what is looked on little: of a stream that takes
more than somebody can read it follows what it can, says how many it did not look at, and goes on with the newest.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from streamkit.clock import Clock
from streamkit.dashboard.payload import Payload, payload_of
from streamkit.errors import StreamKitError
from streamkit.service import Stop
from streamkit.streams.follow import Follow
from streamkit.streams.record import Record
from streamkit.streams.stream import Stream

NEWEST = 50
"""Records to begin with."""
TICK_MS = 200
"""Events come at most that often."""
MOST_READ = 2000
"""Records that are looked at for one event."""
MOST_SHOWN = 100
"""Records of one event, the newest of those that were looked at."""
STILL_MS = 10_000
"""Without a record something is sent that often, so that whoever is between does not give up."""
LIFE_MS = 600_000
"""After that an answer ends, and the browser asks again from where it was."""
MOUNTED_LIFE_MS = 15_000
"""The same in somebody's application, whose server may wait for answers to end before it tells anybody that it does."""
_SHARD = "shardId-"
_MOST_SHARDS = 1000
_MOST_KEY = 256


class Shown(msgspec.Struct, frozen=True):
    """One record."""

    shard: str
    number: str
    """Its sequence number. As text: it may be too long for a number of JavaScript."""
    sub: int | None
    """Of a record in an aggregate."""
    key: str
    arrival_ms: int
    data: Payload


class Tail:
    """One look at a stream's end. ``contains``: only records with that text in their key or their data."""

    def __init__(
        self,
        stream: Stream[Any],
        clock: Clock,
        stop: Stop,
        *,
        contains: str = "",
        after: Mapping[str, int] | None = None,
        life_ms: int = LIFE_MS,
    ) -> None:
        """``after``: the last number of each shard that was seen before."""
        self._stream = stream
        self._clock = clock
        self._stop = stop
        self._life_ms = life_ms
        self._contains = contains, contains.encode()
        self._after = dict(after or {})
        self._before = dict(self._after)
        """The same as of when reading began: what is up to there was seen."""

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Events, until its time is over, a stop is requested, or the stream ends."""
        yield b"retry: 500\n\n"
        end_ms = self._clock.now_ms() + self._life_ms
        follow = self._stream.tail(NEWEST, follow=True)
        due_ms = 0
        try:
            while not self._stop.requested and (now_ms := self._clock.now_ms()) < end_ms:
                records = await self._next(follow, min(end_ms, now_ms + STILL_MS), most=1)
                if records is None:
                    return
                if not records:
                    yield b": still here\n\n"
                    continue
                records += await self._next(follow, max(due_ms, self._clock.now_ms()), MOST_READ - 1) or []
                event = self._event(records)
                if len(records) == MOST_READ:
                    # More comes than is looked at: go on with the newest there are when the time has come.
                    await follow.aclose()
                    follow = self._stream.tail(NEWEST, follow=True)
                    self._before = dict(self._after)
                    with self._stop.interruptible():
                        await self._clock.sleep_until(due_ms)
                due_ms = self._clock.now_ms() + TICK_MS
                if event is not None:
                    yield event
        except StreamKitError as error:
            # The stream or its kit is gone, or cannot be read.
            yield _event("failed", {"error": str(error)})
        finally:
            await follow.aclose()

    async def _next(self, follow: Follow[Any], until_ms: int, most: int) -> list[Record[Any]] | None:
        """What comes until then, at most so many; None: nothing does, and nothing will."""
        records: list[Record[Any]] = []
        with self._stop.interruptible(), anyio.CancelScope() as scope:
            timer = self._clock.call_at(until_ms, scope.cancel)
            try:
                async for record in follow:
                    records.append(record)
                    if len(records) == most:
                        return records
            finally:
                timer.cancel()
            return records or None
        return records

    def _event(self, records: list[Record[Any]]) -> bytes | None:
        """What is told of records that were read; None: nothing, since all were seen before."""
        skipped = 0
        text, data = self._contains
        found: list[Record[Any]] = []
        for record in records:
            number = record.sequence_number
            if number <= self._before.get(record.shard_id, -1):
                continue
            skipped += max(0, number - self._after.get(record.shard_id, number) - 1)
            self._after[record.shard_id] = number
            if data in record.data or text in record.partition_key:
                found.append(record)
        shown = found[-MOST_SHOWN:]
        if not shown and not skipped:
            return None
        content = {
            "records": [_shown(record) for record in shown],
            "not_looked_at": skipped,
            "not_shown": len(found) - len(shown),
        }
        return _event("records", content, position(self._after))


class TailAnswer(Response):
    """A tail as an answer, which ends with whoever asked. ``opened`` is told 1 when it begins and -1 when it ends."""

    media_type = "text/event-stream"

    def __init__(self, tail: Tail, opened: Callable[[int], None]) -> None:
        self._tail = tail
        self._opened = opened
        self.status_code = 200
        self.background = None
        # What stands between must not keep the events until there are more.
        self.init_headers({"x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        self._opened(1)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_gone, receive, tasks.cancel_scope)
                await self._send(send)
                tasks.cancel_scope.cancel()
        finally:
            self._opened(-1)

    async def _send(self, send: Send) -> None:
        headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with aclosing(self._tail.events()) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def position(after: Mapping[str, int]) -> str:
    """The last number of each shard, as the id of an event: ``0:17,1:4``."""
    found = [f"{_short(shard)}:{number}" for shard, number in sorted(after.items())[-_MOST_SHARDS:]]
    return ",".join(found)


def position_of(text: str) -> dict[str, int]:
    """What ``position`` said; of anything else what there is of it."""
    found: dict[str, int] = {}
    for part in text.split(",")[:_MOST_SHARDS]:
        shard, _, number = part.partition(":")
        if all(each.isascii() and each.isdigit() and len(each) < 40 for each in (shard, number)):
            found[f"{_SHARD}{shard:0>12}"] = int(number)
    return found


def _short(shard: str) -> str:
    return shard.removeprefix(_SHARD).lstrip("0") or "0"


def _shown(record: Record[Any]) -> Shown:
    key = record.partition_key[:_MOST_KEY]
    data = payload_of(record.data, 2000)
    number = str(record.sequence_number)
    return Shown(record.shard_id, number, record.subsequence_number, key, record.arrival_ms, data)


def _event(kind: str, content: object, id: str | None = None) -> bytes:
    # JSON has no line break, so it is one line of data.
    named = b"" if id is None else f"id: {id}\n".encode()
    return b"event: %s\n%sdata: %s\n\n" % (kind.encode(), named, msgspec.json.encode(content))
