"""What the workloads ask of a peer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from benchmarks.order import Pair
from benchmarks.peers.servers import find_program

SHARDS = 4
PACKAGES = "pip install 'streamkit[bench]'"
T_co = TypeVar("T_co", covariant=True)
Kind = Literal["log", "queue", "batch queue", "table"]
Delivery = tuple[Any, bytes]
"""A received message: what ``delete`` takes, and its body."""
Item = dict[str, Any]
"""Of a table, with its keys ``pk`` and ``sk``."""


class Log(Protocol):
    """A log of four shards on some peer, open.

    What is called is durable when it returns, as far as the peer's ``durability`` says.
    """

    async def append(self, batch: Sequence[Pair]) -> None:
        """Store a batch."""

    async def put(self, key: str, data: bytes) -> None:
        """Store one record."""

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


class Table(Protocol):
    """Items by ``pk`` and ``sk`` on some peer, open, and called inline."""

    def put_batch(self, items: Sequence[Item]) -> None:
        """Store items, all of them or none."""

    def get(self, partition: str, sort: int) -> Item | None:
        """The item of a key."""

    def query(self, partition: str, first: int, last: int) -> list[Item]:
        """A range of a partition, in order."""

    def scan(self) -> list[Item]:
        """Everything, in order."""


@dataclass(frozen=True)
class Peer(Generic[T_co]):
    """One thing that a peer can be, whether it is installed or not, and how to open it."""

    name: str
    """The row that it gets, and what is said of all that it can be."""
    kind: Kind
    durability: str
    """What its acknowledgements mean, in the few words that fit into a column."""
    promises: str
    """A sentence: what it has done when it acknowledges, and how it is used here."""
    install: str
    """How to get it."""
    open: Callable[[Path], AbstractAsyncContextManager[T_co]]
    """In a directory of its own: a new one, or what was left there."""
    modules: Sequence[str] = ()
    """What is imported, in ``open`` and not before: whoever has not got them is to have the other peers."""
    programs: Sequence[str] = ()
    """The server that it needs, and what that needs."""
    share: float = 1.0
    """Of streamkit's records, how many it is given: one that takes minutes for all of them gets fewer."""
    keeps: bool = True
    """Whether what it was given is there when it is opened again."""
    read_quickly: bool = True
    """Of a log: whether it is measured how fast it is read."""

    def lacks(self) -> str:
        """What is missing here, or ""."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"the module {module} is not installed"
        for program in self.programs:
            if find_program(program) is None:
                return f"the program {program} is not there"
        return ""


def pack(key: str, data: bytes) -> bytes:
    """A record as one value, for peers that keep only bytes."""
    encoded = key.encode()
    return bytes((len(encoded),)) + encoded + data


def unpack(value: bytes) -> Pair:
    """What ``pack`` made one of."""
    end = 1 + value[0]
    return value[1:end].decode(), value[end:]
