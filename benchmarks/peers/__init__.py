"""What a user would pick instead, each as the shortest honest log, queue or table on it.

A peer is given every advantage that its documentation offers; what is measured of it is verified with the same code as
streamkit. What it has done when it acknowledges, it says in its ``durability`` and its ``promises``.

Each is a module of this package that has a ``Peer`` for each thing it can be: that is all there is to adding one.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from benchmarks.peers.peer import BatchQueue, Delivery, Log, Peer, Table, WorkQueue

__all__ = [
    "BatchQueue",
    "Delivery",
    "Log",
    "Peer",
    "Table",
    "WorkQueue",
    "batch_queues",
    "known",
    "logs",
    "promises",
    "queues",
    "tables",
]


@cache
def known() -> tuple[Peer[Any], ...]:
    """Those of all modules here, installed or not, by the names of their modules.

    Raises:
        ValueError: two of them would have the same row.
    """
    modules = sorted(found.name for found in pkgutil.iter_modules(__path__))
    declared = [
        value
        for module in modules
        for value in vars(importlib.import_module(f"{__name__}.{module}")).values()
        if isinstance(value, Peer)
    ]
    found: dict[tuple[str, str], Peer[Any]] = {}
    for peer in declared:
        if found.setdefault((peer.name, peer.kind), peer) is not peer:
            raise ValueError(f"two peers are a {peer.kind} named {peer.name}; give one of them another name")
    return tuple(found.values())


def logs(*, read_quickly: bool = False) -> list[Peer[Log]]:
    """Those that are a log; of them, those that are no trouble to read, if that is asked for."""
    return [peer for peer in known() if peer.kind == "log" and (peer.read_quickly or not read_quickly)]


def queues() -> list[Peer[WorkQueue]]:
    """Those that are a queue, with batches or without."""
    return [peer for peer in known() if peer.kind in ("queue", "batch queue")]


def batch_queues() -> list[Peer[BatchQueue]]:
    """Those that are a queue whose calls can be about several messages."""
    return [peer for peer in known() if peer.kind == "batch queue"]


def tables() -> list[Peer[Table]]:
    """Those that are a table."""
    return [peer for peer in known() if peer.kind == "table"]


def promises() -> dict[str, str]:
    """By the name of a peer, what each of the things that it can be promises."""
    found: dict[str, list[str]] = {}
    for peer in known():
        found.setdefault(peer.name, []).append(f"As a {peer.kind}: {peer.promises}")
    return {name: " ".join(sentences) for name, sentences in found.items()}
