"""Peers as lanes of a workload."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from benchmarks.measure import Figures, Lane, Setting
from benchmarks.peers.peer import Peer

T = TypeVar("T")


def lanes(run: Callable[[Peer[T], Setting], Coroutine[Any, Any, Figures]], peers: Sequence[Peer[T]]) -> list[Lane]:
    """A lane for each peer."""

    def lane(peer: Peer[T]) -> Lane:
        return Lane(lambda setting: run(peer, setting), peer.durability, peer.name)

    return [lane(peer) for peer in peers]
