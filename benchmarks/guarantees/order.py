"""The order of a stream's records: within a shard, within a key, and from a shard to its children. Pure.

A record is known by its key and its place among the records of that key: 0, 1, 2, ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.guarantees.findings import Findings
from streamkit.streams.store import ShardDescription


class ShardOrder:
    """One reader's numbers of each shard: every one, none twice, in order; they have no gaps (docs/adr/0013)."""

    def __init__(self, findings: Findings, reader: str) -> None:
        self._findings = findings
        self._reader = reader
        self._latest: dict[str, int] = {}
        self._firsts: dict[str, int] = {}

    def see(self, shard_id: str, number: int) -> None:
        """The next record of the shard has this number."""
        self._findings.events += 1
        latest = self._latest.get(shard_id)
        if latest is None:
            self._firsts[shard_id] = number
        elif number != latest + 1:
            self._findings.wrong(
                f"{self._reader} was handed number {number} of {shard_id}, and {latest + 1} was to come next"
            )
        self._latest[shard_id] = number

    def end(self, shards: Sequence[ShardDescription]) -> None:
        """That was all, and this is what the stream has."""
        for shard in shards:
            start, end = shard.starting_sequence_number, shard.latest_sequence_number
            first = self._firsts.get(shard.shard_id, start + 1)
            latest = self._latest.get(shard.shard_id, start)
            if first != start + 1:
                self._findings.wrong(
                    f"{self._reader} was first handed number {first} of {shard.shard_id}, which begins with {start + 1}"
                )
            if latest != end:
                self._findings.wrong(
                    f"{self._reader} was handed {shard.shard_id} up to number {latest}, and it has records up to {end}",
                    max(1, end - latest),
                )


class KeyOrder:
    """One reader's places of each key: 0, 1, 2, ..., each once."""

    def __init__(self, findings: Findings, reader: str) -> None:
        self.seen = 0
        self._findings = findings
        self._reader = reader
        self._following: dict[str, int] = {}

    def see(self, key: str, place: int) -> None:
        """The next record of the key has this place."""
        self.seen += 1
        self._findings.events += 1
        following = self._following.get(key, 0)
        if place == following:
            self._following[key] = place + 1
            return
        self._findings.wrong(f"{self._reader} was handed record {place} of {key}, and {following} was to come next")
        # After one that is missing go on behind it; one that comes again, or late, is wrong by itself.
        self._following[key] = max(following, place + 1)

    def end(self, counts: Mapping[str, int]) -> None:
        """That was all; so many of each key were acknowledged."""
        for key in counts.keys() | self._following.keys():
            there, count = self._following.get(key, 0), counts.get(key, 0)
            if there != count:
                self._findings.wrong(
                    f"{self._reader} was handed {there} records of {key}, of which {count} were acknowledged",
                    abs(count - there),
                )


class ProducerOrder:
    """One reader's records of each producer: within a shard in the order of its puts, and all of them, each once."""

    def __init__(self, findings: Findings, reader: str, counts: Mapping[str, int]) -> None:
        self.seen = 0
        self._findings = findings
        self._reader = reader
        self._missing = {producer: bytearray(b"\1") * count for producer, count in counts.items()}
        self._latest: dict[tuple[str, str], int] = {}

    def see(self, shard_id: str, producer: str, place: int) -> None:
        """The next record of the shard is this one of that producer."""
        self.seen += 1
        self._findings.events += 1
        missing = self._missing.get(producer, bytearray())
        latest = self._latest.get((shard_id, producer), -1)
        if place >= len(missing):
            self._findings.wrong(f"{self._reader} was handed record {place} of {producer}, which nobody put")
            return
        if not missing[place]:
            self._findings.wrong(f"{self._reader} was handed record {place} of {producer} again, and each comes once")
        elif place <= latest:
            self._findings.wrong(
                f"{self._reader} was handed record {place} of {producer} behind {latest} in {shard_id}, "
                "and it was put before that"
            )
        missing[place] = 0
        self._latest[shard_id, producer] = max(latest, place)

    def end(self) -> None:
        """That was all."""
        for producer, missing in self._missing.items():
            if count := sum(missing):
                self._findings.wrong(
                    f"{self._reader} was never handed record {missing.index(1)} of {producer}, which was acknowledged",
                    count,
                )


class Lineage:
    """A shard that was made by a split or a merge is read when its parents are read and checkpointed to their end."""

    def __init__(self, findings: Findings, reader: str) -> None:
        self._findings = findings
        self._reader = reader
        self._done: dict[str, int] = {}
        self._done_before: dict[str, dict[str, int]] = {}

    def read(self, shard_id: str) -> None:
        """Something of the shard was handed out."""
        if shard_id not in self._done_before:
            self._done_before[shard_id] = dict(self._done)

    def done(self, shard_id: str, number: int) -> None:
        """A checkpoint of the shard is about to be written: everything up to that number is done."""
        self._done[shard_id] = max(number, self._done.get(shard_id, 0))

    def end(self, shards: Sequence[ShardDescription]) -> None:
        """That was all, and this is what the stream has."""
        by_id = {shard.shard_id: shard for shard in shards}
        for shard_id, before in self._done_before.items():
            for parent in _nearest(by_id, shard_id):
                self._findings.events += 1
                end, done = parent.latest_sequence_number, before.get(parent.shard_id, parent.starting_sequence_number)
                if done != end:
                    self._findings.wrong(
                        f"{self._reader} was handed {shard_id} when {parent.shard_id} above it was done up to number "
                        f"{done}, and was to finish that first, up to {end}"
                    )


def _nearest(shards: Mapping[str, ShardDescription], shard_id: str) -> Iterator[ShardDescription]:
    """The shards above this one that have records, with none between that has."""
    for parent_id in shards[shard_id].parent_shard_ids:
        parent = shards[parent_id]
        if parent.latest_sequence_number > parent.starting_sequence_number:
            yield parent
        else:
            yield from _nearest(shards, parent_id)


class OneAtATime:
    """Calls of a handler that run at once have no key in common."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._running: set[str] = set()

    def begin(self, keys: set[str]) -> None:
        """A call with records of these keys begins."""
        self._findings.events += 1
        if both := keys & self._running:
            self._findings.wrong(
                f"two calls of the handler had records of {min(both)} at once, and the second was to wait for the first"
            )
        self._running |= keys

    def end(self, keys: set[str]) -> None:
        """It has returned."""
        self._running -= keys


class Acknowledged:
    """Where puts went, against what is found in the stream: every acknowledged one once, and in its place.

    A record that was put and not acknowledged, because the process died, is there once or not at all.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._asked: dict[str, int] = {}
        self._acked: dict[tuple[str, int], tuple[str, int]] = {}
        self._found: dict[tuple[str, int], tuple[str, int]] = {}
        self._latest: dict[str, int] = {}

    def asked(self, key: str, place: int) -> None:
        """A put is about to begin."""
        self._asked[key] = max(self._asked.get(key, -1), place)

    def acked(self, key: str, place: int, shard_id: str, number: int) -> None:
        """It was answered."""
        self._acked[key, place] = shard_id, number

    @property
    def following(self) -> dict[str, int]:
        """By key, the place of the next put."""
        return {key: place + 1 for key, place in self._asked.items()}

    def see(self, shard_id: str, number: int, key: str, place: int) -> None:
        """A record of the stream; those of a key as they follow each other."""
        self._findings.events += 1
        if not 0 <= place <= self._asked.get(key, -1):
            self._findings.wrong(f"number {number} of {shard_id} is record {place} of {key}, which nobody put")
        elif (before := self._found.get((key, place))) is not None:
            self._findings.wrong(
                f"record {place} of {key} is number {number} of {shard_id} and also {before[1]} of {before[0]}, "
                "and was to be there once"
            )
        elif place < (latest := self._latest.get(key, -1)):
            self._findings.wrong(f"record {place} of {key} is behind {latest}, and was put before that")
        elif (told := self._acked.get((key, place), (shard_id, number))) != (shard_id, number):
            self._findings.wrong(
                f"record {place} of {key} is number {number} of {shard_id}, "
                f"and was acknowledged as {told[1]} of {told[0]}"
            )
        self._found[key, place] = shard_id, number
        self._latest[key] = max(self._latest.get(key, -1), place)

    def end(self) -> None:
        """That was all."""
        lost = [one for one in self._acked if one not in self._found]
        if lost:
            key, place = lost[0]
            shard_id, number = self._acked[key, place]
            self._findings.wrong(
                f"record {place} of {key} is lost: it was acknowledged as number {number} of {shard_id}", len(lost)
            )
