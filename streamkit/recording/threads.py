"""Work in a thread that is waited for: what it holds, such as a file, is nobody else's before it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread

from streamkit.service import end_of

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """What it answers.

    Cancellation: it goes on to its end first.
    """

    async def working() -> T:
        return await anyio.to_thread.run_sync(work, *arguments)

    # anyio waits for its threads when one of its own scopes is cancelled, and not when a task of asyncio's is.
    # INVARIANT: test_a_recording_that_is_cancelled_leaves_nothing_behind
    return await end_of(asyncio.create_task(working(), name="streamkit recording"))
