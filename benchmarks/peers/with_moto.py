"""moto's server: Kinesis and SQS over HTTP, in memory, by Flask's development server and a thread per connection."""

from __future__ import annotations

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
    options = ("-H", HOST, "-p", str(port))
    async with server("moto_server", *options, directory=directory, ready=partial(listens, port)):
        yield port


def _open_log(directory: Path) -> AbstractAsyncContextManager[Log]:
    return aws.kinesis(_serving(directory), connections=1)


def _open_queue(directory: Path) -> AbstractAsyncContextManager[BatchQueue]:
    return aws.sqs(_serving(directory), connections=1)


_PROMISES = (
    f"in the server's memory, and gone with it. {aws.USE} One connection: it is not safe for concurrency "
    "(its source says so of puts), and with several it loses records, and deleted messages come back."
)

LOG = Peer(
    "moto",
    "log",
    "in memory: gone with the server",
    _PROMISES,
    aws.PACKAGES,
    _open_log,
    ["aiohttp", "moto", "flask"],
    ["moto_server"],
    share=0.01,
    keeps=False,
    read_quickly=False,
)
QUEUE = Peer(
    "moto",
    "batch queue",
    "in memory: gone with the server",
    _PROMISES,
    aws.PACKAGES,
    _open_queue,
    ["aiohttp", "moto", "flask"],
    ["moto_server"],
    share=0.01,
    keeps=False,
)
