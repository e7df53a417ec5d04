"""The live tail: what is told of a stream as it happens, and what of one that is too fast to read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import msgspec
import pytest

import streamkit
from streamkit import Kit, Stop, Stream
from streamkit.dashboard import dashboard
from streamkit.dashboard.app import MAX_TAILS
from streamkit.dashboard.tail import (
    LIFE_MS,
    MOST_READ,
    MOST_SHOWN,
    MOUNTED_LIFE_MS,
    NEWEST,
    STILL_MS,
    TICK_MS,
    Tail,
    position,
    position_of,
)
from streamkit.testing.clock import ManualClock
from tests.dashboard.asking import NASTY, client


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


class Heard:
    """Takes a tail's events as they come."""

    def __init__(self, tail: Tail) -> None:
        self.raw: list[bytes] = []
        self._task = asyncio.create_task(self._take(tail))

    async def _take(self, tail: Tail) -> None:
        async for event in tail.events():
            self.raw.append(event)

    @property
    def events(self) -> list[dict[str, Any]]:
        found = [raw.decode().split("data: ", 1)[1] for raw in self.raw if b"data: " in raw]
        return [msgspec.json.decode(text) for text in found]

    @property
    def values(self) -> list[str]:
        return [record["data"]["text"] for event in self.events for record in event.get("records", ())]

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def numbered(stream: Stream[Any], *numbers: int) -> None:
    await stream.put_batch([("k", number) for number in numbers])


async def test_the_newest_and_then_what_comes(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s")
    await numbered(stream, *range(NEWEST + 5))
    heard = Heard(Tail(stream, clock, Stop()))
    await clock.advance(0)
    assert heard.values == [str(n) for n in range(5, NEWEST + 5)]
    await stream.put({"html": NASTY}, partition_key=NASTY)
    await clock.advance(TICK_MS / 1000)
    (record,) = heard.events[-1]["records"]
    assert (record["key"], record["shard"], record["number"]) == (NASTY, "shardId-000000000000", str(NEWEST + 6))
    assert msgspec.json.decode(record["data"]["text"]) == {"html": NASTY}
    await heard.end()


async def test_one_record_is_told_at_once_and_many_of_them_together(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s")
    heard = Heard(Tail(stream, clock, Stop()))
    await clock.advance(1)
    await numbered(stream, 1)
    await clock.advance(0)
    assert heard.values == ["1"]
    for n in (2, 3, 4):
        await numbered(stream, n)
        await clock.advance(0)
    assert heard.values == ["1"]
    await clock.advance(TICK_MS / 1000)
    assert [len(event["records"]) for event in heard.events] == [1, 3]
    await heard.end()


async def test_an_event_is_one_line_of_json_whatever_a_record_holds(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s", type=bytes)
    await stream.put(b"a\nevent: records\ndata: {}\n\nb\r\xe2\x80\xa8", partition_key="k\n\nk")
    heard = Heard(Tail(stream, clock, Stop()))
    await clock.advance(0)
    (event,) = [raw for raw in heard.raw if b"data: " in raw]
    assert event.count(b"\n") == 4
    assert event.startswith(b"event: records\nid: 0:1\ndata: {")
    assert b"\r" not in event
    assert heard.values == ["a\nevent: records\ndata: {}\n\nb\r\u2028"]
    await heard.end()


async def test_only_what_has_the_text(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s")
    heard = Heard(Tail(stream, clock, Stop(), contains="ada"))
    await clock.advance(0)
    await stream.put_batch([("ada-1", {"n": 1}), ("bob", {"n": 2}), ("bob", {"name": "ada"}), ("bob", {"name": "a"})])
    await clock.advance(1)
    assert heard.values == ['{"n":1}', '{"name":"ada"}']
    await heard.end()


async def test_a_stream_that_is_too_fast_is_followed_as_far_as_it_can_be(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s")
    heard = Heard(Tail(stream, clock, Stop()))
    await clock.advance(0)
    for start in range(0, 20_000, 500):
        await numbered(stream, *range(start, start + 500))
    await clock.advance(1)
    first, second = heard.events
    assert (len(first["records"]), first["not_shown"], first["not_looked_at"]) == (
        MOST_SHOWN,
        MOST_READ - MOST_SHOWN,
        0,
    )
    assert (len(second["records"]), second["not_shown"]) == (NEWEST, 0)
    assert second["not_looked_at"] == 20_000 - MOST_READ - NEWEST
    assert heard.values[-1] == "19999"
    assert len(set(heard.values)) == len(heard.values)
    await heard.end()


async def test_what_was_looked_at_is_not_told_again_where_it_goes_on_with_the_newest(
    kit: Kit, clock: ManualClock
) -> None:
    stream = await kit.create_stream("s")
    heard = Heard(Tail(stream, clock, Stop()))
    await clock.advance(0)
    for start in range(0, MOST_READ, 500):
        await numbered(stream, *range(start, start + 500))
    await numbered(stream, MOST_READ)
    await clock.advance(1)
    assert len(heard.values) == len(set(heard.values)) == MOST_SHOWN + 1
    await heard.end()


async def test_so_much_is_looked_at_in_a_second_and_no_more(kit: Kit, clock: ManualClock) -> None:
    """However fast a stream is: who looks on costs the program a share that has a bound."""
    stream = await kit.create_stream("s")
    heard = Heard(Tail(stream, clock, Stop()))
    await clock.advance(0)
    for n in range(50):
        for _ in range(10):
            await numbered(stream, *range(500))
        await clock.advance(0.02 if n else 0)
    looked_at = sum(len(event["records"]) + event["not_shown"] for event in heard.events)
    assert looked_at <= (1000 // TICK_MS + 1) * MOST_READ
    assert sum(event["not_looked_at"] for event in heard.events) > 100_000
    await heard.end()


async def test_it_goes_on_where_an_answer_ended(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s", shards=2)
    await stream.put_batch([(f"k{n}", n) for n in range(20)])
    first = Heard(Tail(stream, clock, Stop(), life_ms=MOUNTED_LIFE_MS))
    await clock.advance(MOUNTED_LIFE_MS / 1000 + 1)
    assert first.ended
    (at,) = [raw.split(b"id: ")[1].split(b"\n")[0].decode() for raw in first.raw if b"id: " in raw]
    await stream.put_batch([(f"k{n}", n) for n in range(20, 30)])
    second = Heard(Tail(stream, clock, Stop(), after=position_of(at)))
    await clock.advance(1)
    assert sorted(map(int, second.values)) == list(range(20, 30))
    assert second.events[0]["not_looked_at"] == 0
    await second.end()


async def test_what_came_meanwhile_and_is_not_among_the_newest_is_counted(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s")
    await numbered(stream, *range(10))
    await numbered(stream, *range(NEWEST + 7))
    heard = Heard(Tail(stream, clock, Stop(), after={"shardId-000000000000": 10}))
    await clock.advance(0)
    assert (len(heard.values), heard.events[0]["not_looked_at"]) == (NEWEST, 7)
    await heard.end()


async def test_while_nothing_comes_it_says_that_it_is_there(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s")
    heard = Heard(Tail(stream, clock, Stop()))
    await clock.advance(3 * STILL_MS / 1000)
    assert heard.raw == [b"retry: 500\n\n", *[b": still here\n\n"] * 3]
    await clock.advance(LIFE_MS / 1000)
    assert heard.ended
    assert heard.events == []


async def test_a_stop_ends_it_at_once(kit: Kit, clock: ManualClock) -> None:
    stop = Stop()
    heard = Heard(Tail(await kit.create_stream("s"), clock, stop))
    await clock.advance(0)
    stop.request()
    await clock.advance(0)
    assert heard.ended


async def test_a_stream_that_is_deleted_ends_it_with_a_word(kit: Kit, clock: ManualClock) -> None:
    heard = Heard(Tail(await kit.create_stream("s"), clock, Stop()))
    await clock.advance(0)
    await kit.delete_stream("s")
    await clock.advance(1)
    assert heard.ended
    assert "'s'" in heard.events[-1]["error"]
    assert heard.raw[-1].startswith(b"event: failed\n")


def test_positions() -> None:
    seen = {"shardId-000000000000": 7, "shardId-000000000012": 3 * 10**14}
    assert position(seen) == "0:7,12:300000000000000"
    assert position_of(position(seen)) == seen
    for nonsense in ("", "x", "0", "0:", ":1", "0:-1", "0:²", "a:1,b:2", "0:1\n", "," * 5000, "0:" + "9" * 500):
        assert position_of(nonsense) == {}


# ---- as an answer


class Asked:
    """One request of an ASGI application, whose answer comes piece by piece."""

    def __init__(self, app: Any, path: str, query: str, **headers: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self._gone = asyncio.Event()
        self._asked = False
        pairs = {"host": "localhost", **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "method": "GET",
            "path": path,
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in pairs.items()],
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> MutableMapping[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]

    async def leave(self) -> None:
        self._gone.set()
        await self.task


async def test_an_answer_goes_on_until_who_asked_leaves(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s")
    asked = Asked(dashboard(kit), "/api/tail", "stream=s&contains=1")
    await clock.advance(0)
    assert asked.status == 200
    assert asked.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (asked.headers["cache-control"], asked.headers["x-accel-buffering"]) == ("no-store", "no")
    await numbered(stream, 10, 20)
    await clock.advance(0)
    assert b'"text":"10"' in asked.body
    assert b'"text":"20"' not in asked.body
    await asked.leave()


async def test_an_answer_goes_on_from_the_last_event_but_not_from_another_streams(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("s")
    await numbered(stream, 1, 2, 3)
    app = dashboard(kit)
    for last, expected in (("0:2", [b'"text":"3"']), ("0:99", [b'"text":"1"', b'"text":"2"', b'"text":"3"'])):
        asked = Asked(app, "/api/tail", "stream=s", last_event_id=last)
        await clock.advance(0)
        assert [text for text in (b'"text":"1"', b'"text":"2"', b'"text":"3"') if text in asked.body] == expected
        await asked.leave()


async def test_there_are_so_many_at_once_and_no_more(kit: Kit, clock: ManualClock) -> None:
    await kit.create_stream("s")
    app = dashboard(kit)
    open_tails = [Asked(app, "/api/tail", "stream=s") for _ in range(MAX_TAILS)]
    await clock.advance(0)
    async with client(app) as asking:
        refused = await asking.get("/api/tail?stream=s")
        assert (refused.status_code, "open already" in refused.json()["error"]) == (503, True)
        await open_tails.pop().leave()
        another = Asked(app, "/api/tail", "stream=s")
        await clock.advance(0)
        assert another.status == 200
    for asked in (*open_tails, another):
        await asked.leave()
