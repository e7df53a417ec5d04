"""A queue with a backlog, and what tests ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamkit.engines.file.engine import FileEngine
from streamkit.queues.message import QueueAttributes, ReceivedMessage
from streamkit.queues.store import SendEntry

MANY = [b"%04d" % number for number in range(40)]


async def send(engine: FileEngine, bodies: list[bytes], name: str = "jobs", **more: Any) -> None:
    for body in bodies:
        await engine.queues.send_messages(name, [SendEntry(body, **more)])


async def backlog(engine: FileEngine, attributes: QueueAttributes | None = None) -> None:
    """MANY messages wait, most of them on disk alone."""
    await engine.queues.create_queue("jobs", attributes or QueueAttributes())
    await send(engine, MANY)
    await engine.settle()


def in_memory(engine: FileEngine, name: str = "jobs") -> int:
    return len(engine._stores.queues.changes.by_name[name].messages)


def files_of(path: Path, suffix: str = ".pages") -> list[Path]:
    return sorted((path / "queues").glob(f"*{suffix}"))


async def drain(engine: FileEngine, name: str = "jobs", at_once: int = 10) -> list[ReceivedMessage]:
    found: list[ReceivedMessage] = []
    while messages := await engine.queues.receive_messages(name, at_once):
        found += messages
        errors = await engine.queues.delete_messages(name, [message.receipt_handle for message in messages])
        assert errors == [None] * len(messages)
    return found


def bodies(messages: list[ReceivedMessage]) -> list[bytes]:
    return [message.body for message in messages]
