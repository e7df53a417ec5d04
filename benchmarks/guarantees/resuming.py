"""Consumers that die, or lose their shards to others: where each of them is to begin, and what may come again. Pure.

A checkpoint is asked for, and then kept (the answer came), refused, or never answered, because the process died.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.guarantees.findings import Findings
from streamkit.streams.store import ShardDescription


@dataclass
class _Tenure:
    """One holder's time with one shard."""

    done: int
    """What it began behind, or has checkpointed since."""
    latest: int
    """What it was handed last."""
    over: bool = False
    """It was told that it had lost the shard."""


@dataclass
class _Shard:
    first: int
    """The first number that anybody was handed."""
    kept: int
    """Checkpointed to here."""
    read: int
    """Somebody was handed everything to here."""


class Resuming:
    """Records of each shard, whoever has it: in order, without gaps, and again only what is behind its checkpoint.

    - A holder's records of a shard follow each other without a gap.
    - It begins behind the checkpoint that was kept last, or behind one that was asked for and not answered.
    - Its checkpoint holds only if nobody else has moved the shard's since: then no two count the same record as done.
    """

    def __init__(self, findings: Findings) -> None:
        self.repeats = 0
        """Records that came again because nobody had checkpointed them."""
        self._findings = findings
        self._shards: dict[str, _Shard] = {}
        self._tenures: dict[tuple[str, str], _Tenure] = {}
        self._open: dict[tuple[str, str], int] = {}

    def read(self, holder: str, shard_id: str, first: int, last: int) -> None:
        """The holder was handed these numbers of the shard, one by one and without a gap."""
        self._findings.events += last - first + 1
        shard = self._shards.setdefault(shard_id, _Shard(first, first - 1, first - 1))
        tenure = self._tenures.get((holder, shard_id))
        # Who follows its own records may have lost the shard and have it again: then it begins behind the checkpoint.
        again = tenure is not None and first == shard.kept + 1
        if tenure is None or tenure.over or again or first != tenure.latest + 1:
            self._begin(holder, shard_id, first)
            tenure = self._tenures[holder, shard_id] = _Tenure(first - 1, last)
        tenure.latest = last
        self.repeats += max(0, min(last, shard.read) - first + 1)
        shard.read = max(shard.read, last)

    def _begin(self, holder: str, shard_id: str, first: int) -> None:
        shard = self._shards[shard_id]
        if first == shard.kept + 1:
            return
        for (other, of_shard), asked in self._open.items():
            if of_shard == shard_id and first == asked + 1 > shard.kept:
                # It was kept, though nobody was told: whoever asked may yet be.
                shard.kept = asked
                if (its := self._tenures.get((other, shard_id))) is not None:
                    its.done = asked
                return
        self._findings.wrong(
            f"{holder} began {shard_id} with number {first}, "
            f"and was to begin with {shard.kept + 1}, behind its checkpoint"
        )

    def asked(self, holder: str, shard_id: str, number: int) -> None:
        """The holder is about to write a checkpoint."""
        self._open[holder, shard_id] = number

    def kept(self, holder: str, shard_id: str, number: int) -> None:
        """It was written."""
        self._findings.events += 1
        self._open.pop((holder, shard_id), None)
        shard, tenure = self._shards[shard_id], self._tenures[holder, shard_id]
        if tenure.done != number:
            if shard.kept != tenure.done:
                self._findings.wrong(
                    f"{holder} could checkpoint {shard_id} at {number}, having begun behind {tenure.done}, though "
                    f"another had checkpointed {shard.kept} since; it was to be refused"
                )
            shard.kept = tenure.done = number

    def refused(self, holder: str, shard_id: str, number: int) -> None:
        """It was not, because the holder had lost the shard; what it is handed later of it begins anew."""
        self._findings.events += 1
        self._open.pop((holder, shard_id), None)
        tenure = self._tenures[holder, shard_id]
        # One from before it lost the shard is refused as well when it has it again, and was handed less until now.
        tenure.over = tenure.over or number <= tenure.latest

    def end(self, shards: Sequence[ShardDescription]) -> None:
        """That was all, and this is what the stream has: all of it was to be read, and checkpointed."""
        for described in shards:
            start, end = described.starting_sequence_number, described.latest_sequence_number
            shard = self._shards.get(described.shard_id, _Shard(start + 1, start, start))
            if shard.first != start + 1:
                self._findings.wrong(
                    f"the first number of {described.shard_id} that came was {shard.first}, and {start + 1} was to come"
                )
            # One that was asked for, and of which nobody heard, may be the last.
            asked = [number for (_, shard_id), number in self._open.items() if shard_id == described.shard_id]
            reached = min(shard.read, max([shard.kept, *asked]))
            if reached != end:
                self._findings.wrong(
                    f"{described.shard_id} was done up to number {reached}, and has records up to {end}",
                    abs(end - reached),
                )
