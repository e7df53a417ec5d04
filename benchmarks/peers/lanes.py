"""Peers as lanes of a workload."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.measure import Figures, Lane, Setting
from benchmarks.peers.peer import Peer

NOT_STORED = "a limit: nothing is stored"
"""Of a lane that no peer is, and that nobody can be faster than: the same calls, and nothing done about them."""
T = TypeVar("T")


def lanes(run: Callable[[Peer[T], Setting], Coroutine[Any, Any, Figures]], peers: Sequence[Peer[T]]) -> list[Lane]:
    """A lane for each peer."""

    def lane(peer: Peer[T]) -> Lane:
        return Lane(lambda setting: run(peer, setting), peer.durability, peer.name)

    return [lane(peer) for peer in peers]


class Opened(AsyncExitStack):
    """A peer that is open inside the block, and can be opened again to be verified."""

    async def first(self, peer: Peer[T], directory: Path) -> T:
        """The peer, open."""
        return await self.enter_async_context(peer.open(directory))

    async def again(self, peer: Peer[T], directory: Path, opened: T) -> T:
        """The same, closed and opened once more; one that keeps nothing is left open."""
        if not peer.keeps:
            return opened
        await self.aclose()
        return await self.first(peer, directory)
