"""The processes that are killed: ``python -m benchmarks.guarantees.child SCENE DIRECTORY DIARY DURABILITY``.

Each waits for its ``Place`` on standard input, as a line of JSON, then opens the store as the one before left it, goes
on until somebody kills it, and says in its diary what it does. It prints ``opening`` and, when it has done something,
``working``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import cast

import msgspec

import streamkit
from benchmarks.guarantees.counters import TABLE, mapping
from benchmarks.guarantees.diary import Diary
from benchmarks.guarantees.jobs import quiet, receive, send_groups, send_numbers, start_workers
from benchmarks.guarantees.scenes import crew, everything, put_batches, put_singly, reshard, together
from benchmarks.stream import NAME, SHARDS
from streamkit import Kit
from streamkit.engines.base import Durability

_LINES = 100
"""Of its diary, after which it says that it works."""
_ENDLESS = 10**9
TIMEOUT = 1.5
"""Seconds after which a message comes back whose receiver was killed."""


class Place(msgspec.Struct):
    """Where a life begins."""

    life: int
    seed: int
    groups: dict[str, int] = {}
    """By group, the first message that was not acknowledged."""
    number: int = 0
    """The first message that nobody sent."""


async def streams(kit: Kit, diary: Diary, place: Place) -> None:
    """Puts, a crew of workers, splits and merges, and a mapping that counts."""
    stream = await kit.create_stream(NAME, shards=SHARDS, type=bytes, exist_ok=True)
    table = await kit.create_table(TABLE, partition_key="key", exist_ok=True)
    tell = partial(diary.tell, "stream")
    following: dict[str, int] = {}
    for _, _, key, at in (await everything(stream))[1]:
        following[key] = max(following.get(key, 0), at + 1)
    kit.start(mapping(stream, table))
    rngs = (Random(f"{place.seed}-{place.life}-{at}") for at in count())
    gate = asyncio.Event()
    gate.set()
    await together(
        *(put_singly(stream, tell, key, range(following.get(key, 0), _ENDLESS)) for key in map(str, range(8))),
        *(
            put_batches(stream, tell, [f"{task}/{at}" for at in range(8)], rng, following, _ENDLESS, gate)
            for task, rng in enumerate(islice(rngs, 4))
        ),
        crew(stream, tell, next(rngs), place.life),
        reshard(stream, next(rngs), 0.1, gate),
    )


async def queues(kit: Kit, diary: Diary, place: Place) -> None:
    """A FIFO queue and a standard one, each with those who send, and those who handle and delete."""
    fifo = await kit.create_queue("jobs.fifo", type=int, fifo=True, visibility_timeout=TIMEOUT, exist_ok=True)
    queue = await kit.create_queue("jobs", type=int, exist_ok=True)
    rngs = (Random(f"{place.seed}-{place.life}-{at}") for at in count())
    numbers = count(place.number)
    names = [f"group-{at}" for at in range(100)]
    with quiet():
        start_workers(kit, fifo, partial(diary.tell, "fifo"), next(rngs), 0.02, batches=False)
        tell = partial(diary.tell, "queue")
        await together(
            *(send_groups(fifo, partial(diary.tell, "fifo"), names[at::2], place.groups, None) for at in range(2)),
            *(send_numbers(queue, tell, numbers, None) for _ in range(2)),
            *(receive(queue, tell, rng, 0.05, timeout=TIMEOUT, done=lambda: False) for rng in islice(rngs, 8)),
        )


class _Announcing(Diary):
    def tell(self, *words: object) -> None:
        super().tell(*words)
        if self.lines == _LINES:
            os.write(1, b"working\n")


async def live(scene: str, directory: str, diary: Path, durability: Durability, place: Place) -> None:
    """Until it is killed."""
    os.write(1, b"opening\n")
    async with streamkit.open(directory, durability=durability) as kit:
        await {"streams": streams, "queues": queues}[scene](kit, _Announcing(diary), place)


def main(scene: str, directory: str, diary: str, durability: str) -> None:
    """Run it; nothing happens if whoever started it never says where to begin."""
    if line := sys.stdin.readline():
        place = msgspec.json.decode(line, type=Place)
        asyncio.run(live(scene, directory, Path(diary), cast(Durability, durability), place))


if __name__ == "__main__":
    main(*sys.argv[1:])
