"""MiniStack: Kinesis and SQS over HTTP, in memory, by one asyncio server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.peers import aws
from benchmarks.peers.peer import BatchQueue, Log, Peer
from benchmarks.peers.servers import HOST, free_port, listens, server


@asynccontextmanager
async def _serving(directory: Path) -> AsyncIterator[int]:
    port = free_port()
    # No line in its log for each call; what it leaves in the temporary directory goes with ours.
    asked = {"BIND_HOST": HOST, "GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING", "TMPDIR": str(directory)}
    options = {"SERVICES": "kinesis,sqs", **asked}
    async with server(
        "ministack", directory=directory, ready=partial(listens, port), environment={**os.environ, **options}
    ):
        yield port


def _open_log(directory: Path) -> AbstractAsyncContextManager[Log]:
    return aws.kinesis(_serving(directory))


def _open_queue(directory: Path) -> AbstractAsyncContextManager[BatchQueue]:
    return aws.sqs(_serving(directory))


_PROMISES = f"in the server's memory, and gone with it (it can save its state, when it ends). {aws.USE}"

LOG = Peer(
    "ministack",
    "log",
    "in memory: gone with the server",
    _PROMISES,
    aws.PACKAGES,
    _open_log,
    ["aiohttp", "ministack"],
    ["ministack"],
    share=0.015,
    keeps=False,
    read_quickly=False,
)
QUEUE = Peer(
    "ministack",
    "batch queue",
    "in memory: gone with the server",
    _PROMISES,
    aws.PACKAGES,
    _open_queue,
    ["aiohttp", "ministack"],
    ["ministack"],
    share=0.04,
    keeps=False,
)
