"""A dashboard that is asked in process, and kits with something to show."""

from __future__ import annotations

from typing import Any

import httpx

from streamkit import Kit, RedrivePolicy
from streamkit.dashboard.guard import Application

MARK = {"X-Streamkit": "1"}
NASTY = "<img src=x onerror=\"document.title='hacked'\">"


def client(app: Application, base: str = "http://localhost:8787", **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base, **options)


async def dead_letters(kit: Kit, count: int, *, error: str | None = "it broke", source: str = "jobs") -> None:
    """A queue and its dead-letter queue, which has that many messages of it, with what went wrong."""
    await kit.create_queue("dead", exist_ok=True)
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
    jobs = await kit.create_queue(source, redrive_policy=policy, exist_ok=True)
    await jobs.send_batch([{"n": number, "what": NASTY} for number in range(count)])
    for message in await jobs.receive(count):
        await jobs.change_visibility(message, 0, last_error=error)
    assert await jobs.receive(count) == []
