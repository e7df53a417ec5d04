"""What may happen to a queue while somebody waits for a page of it: it goes, it is emptied, or the store closes."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from streamkit.engines.file.engine import FileEngine
from streamkit.errors import ClosedError, NotFoundError
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.store import SendEntry
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.terms import soon
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.terms import START_MS, Held, open_file, opened

MANY = [b"%04d" % number for number in range(12)]
RETENTION_MS = 100_000
Use = Callable[[FileEngine], Coroutine[Any, Any, object]]

USES: dict[str, Use] = {
    "receive": lambda engine: engine.queues.receive_messages("jobs", 5),
    "wait": lambda engine: engine.queues.receive_messages("jobs", 5, None, 20_000),
    "peek": lambda engine: engine.queues.peek_messages("jobs", 100),
    "describe": lambda engine: engine.queues.describe_queues(["jobs"]),
    "move": lambda engine: engine.queues.move_messages("jobs", ["none such"], "other"),
    "describe all": lambda engine: engine.queues.describe_queues(),
    "update": lambda engine: engine.queues.update_queue("jobs", QueueAttributes(retention_ms=RETENTION_MS - 1)),
}
KINDS = [(name, ages) for name in USES for ages in (True, False) if ages or name != "update"]
"""An update reads only what is too old."""


async def filled(path: Path) -> None:
    """A queue of which all but the second half of each page is too old, and another one."""
    clock = ManualClock(START_MS)
    async with opened(path, clock) as engine:
        await engine.queues.create_queue("dead", QueueAttributes())
        await engine.queues.create_queue("other", QueueAttributes())
        policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1, eager=True)
        await engine.queues.create_queue("jobs", QueueAttributes(retention_ms=RETENTION_MS, redrive_policy=policy))
        for body in MANY:
            await engine.queues.send_messages("jobs", [SendEntry(body)])
            await clock.advance(1)
        await engine.settle()


async def at_any_moment(
    use: Use,
    act: Callable[[FileEngine], Awaitable[object]],
    path: Path,
    *,
    check: Callable[[FileEngine], Awaitable[None]] | None = None,
    calls: int = 7,
    ages: bool = False,
    closes: bool = False,
) -> None:
    """Begin to use a queue, and act while so many calls of its reads are done, so many turns of the loop later.

    If the use does not come to its end then, the queue is not there any more, or the store is closed.
    """
    await filled(path / "filled")
    # Half of the messages are too old, or none.
    now_ms = START_MS + RETENTION_MS + (6_500 if ages else -60_000)
    met = 0
    for done, waits in itertools.product(range(calls), range(3)):
        held = Held("streamkit-read")
        shutil.copytree(path / "filled", path / f"{done}-{waits}")
        engine = await open_file(path / f"{done}-{waits}", ManualClock(now_ms), files=FaultyFiles(before=held))
        try:
            held.holding = True
            using = asyncio.create_task(use(engine))
            for _ in range(done):
                if await held.reached(using):
                    held.let_through()
            for _ in range(waits):
                await asyncio.sleep(0)
            met += not using.done()
            acting = asyncio.ensure_future(act(engine))
            # Who closes waits for reads; everybody else acts to the end before one goes on.
            await asyncio.wait([acting], timeout=0.01 if closes else 10)
            held.let_all_through()
            await soon(acting)
            with suppress(NotFoundError, *([ClosedError] if closes else [])):
                await soon(using)
            if check is not None:
                await check(engine)
        finally:
            held.let_all_through()
            await engine.aclose()
    assert met > 5


@pytest.mark.parametrize(("name", "ages"), KINDS)
async def test_a_queue_that_is_deleted_while_a_page_is_read(name: str, ages: bool, tmp_path: Path) -> None:
    """Also if its files are gone when they are to be read."""

    async def delete(engine: FileEngine) -> None:
        await engine.queues.delete_queue("jobs")
        await engine.settle()

    await at_any_moment(USES[name], delete, tmp_path, ages=ages)


@pytest.mark.parametrize(("name", "ages"), KINDS)
async def test_a_queue_that_is_purged_while_a_page_is_read(name: str, ages: bool, tmp_path: Path) -> None:
    """What is sent behind it is there, once."""

    async def purge(engine: FileEngine) -> None:
        await engine.queues.purge_queue("jobs")
        if name == "wait":
            await engine.queues.send_messages("jobs", [SendEntry(b"new")])

    async def check(engine: FileEngine) -> None:
        (jobs,) = await engine.queues.describe_queues(["jobs"])
        assert jobs.visible + jobs.not_visible == (name == "wait")

    await at_any_moment(USES[name], purge, tmp_path, check=check, ages=ages)


@pytest.mark.parametrize("name", USES)
async def test_a_store_that_is_closed_while_a_page_is_read(name: str, tmp_path: Path) -> None:
    """Whoever waited hears that it is closed, and is not taken for cancelled."""
    await at_any_moment(USES[name], lambda engine: engine.aclose(), tmp_path, ages=name == "update", closes=True)


@pytest.mark.parametrize("gone", ["jobs", "other"])
async def test_a_move_whose_queue_is_deleted_while_it_looks_for_messages(gone: str, tmp_path: Path) -> None:
    """Either side: what was not moved before is where it was."""

    async def move(engine: FileEngine) -> None:
        letters = await engine.queues.peek_messages("jobs", 100)
        moved = await engine.queues.move_messages("jobs", [letter.message_id for letter in letters], "other")
        assert moved == len(MANY)

    async def delete(engine: FileEngine) -> None:
        await engine.queues.delete_queue(gone)

    async def check(engine: FileEngine) -> None:
        for queue in await engine.queues.describe_queues():
            assert queue.visible in ((0,) if queue.name == "dead" else (0, len(MANY)))
        if gone == "other":
            found = await engine.queues.peek_messages("jobs", 100)
            assert [message.body for message in found] in ([], MANY)

    await at_any_moment(move, delete, tmp_path, check=check, calls=36)
