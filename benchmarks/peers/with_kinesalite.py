"""kinesalite: Kinesis over HTTP, by Node, kept in LevelDB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.peers import aws
from benchmarks.peers.peer import PACKAGES, Log, Peer
from benchmarks.peers.servers import HOST, find_program, free_port, listens, server

# Its own program listens on all addresses.
_SERVE = """
const [kinesalite, path, port, host] = process.argv.slice(1)
require(kinesalite)({path, createStreamMs: 0}).listen(Number(port), host)
"""


def _package() -> str:
    """Where the package is whose program that is."""
    return str(Path(find_program("kinesalite") or "kinesalite").resolve().parent)


@asynccontextmanager
async def _serving(directory: Path) -> AsyncIterator[int]:
    port = free_port()
    options = ("-e", _SERVE, _package(), str(directory / "leveldb"), str(port), HOST)
    async with server("node", *options, directory=directory, ready=partial(listens, port)):
        yield port


def _open(directory: Path) -> AbstractAsyncContextManager[Log]:
    return aws.kinesis(_serving(directory))


KINESALITE = Peer(
    "kinesalite",
    "log",
    "LevelDB, not synced",
    "in the page cache: LevelDB has written it to its log and does not sync, so it survives the process, and a power "
    f"loss takes what the system had not written yet. {aws.USE}",
    f"{PACKAGES} and npm install --prefix ~/.cache/streamkit-bench kinesalite (or -g), with Node",
    _open,
    ["aiohttp"],
    ["node", "kinesalite"],
    share=0.02,
    read_quickly=False,
)
