"""A producer's batch in flight: which calls it takes, and what its answers mean. Pure.

HOT: `python -m benchmarks --only puts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamkit.errors import StreamKitError, ValidationError
from streamkit.streams.aggregation import Accepted, Outgoing, pack
from streamkit.streams.store import ProducerSequences, PutEntry, PutResult, PutResults, StreamDescription

Failed = list[tuple[Outgoing, Exception]]
"""What a call did not store, in order, and why."""


class InFlight:
    """What is not settled (stored or refused for good), in order, as the calls that are to be made one by one."""

    def __init__(self, producer_id: str | None, *, aggregate: bool, aggregation_max_bytes: int) -> None:
        self.calls: list[list[Outgoing]] = []
        self._producer_id = producer_id
        self._aggregate = aggregate
        self._max_bytes = aggregation_max_bytes

    def begin(self, accepted: Iterable[Accepted]) -> None:
        """Take a batch: each record by itself, all in one call."""
        self.calls = [[Outgoing(entry, sequence) for entry, _, sequence in accepted]]

    def pack(self, description: StreamDescription, stored_to: int = -1) -> None:
        """Pack what is not settled for the shards that there are; see ``aggregation.pack``."""
        shards, in_order = description.open_shards, self._producer_id is not None
        self.calls = [pack(self.records(), shards, self._max_bytes, in_order=in_order, stored_to=stored_to)]

    def records(self) -> list[Accepted]:
        """What is not settled, in order."""
        return [record for call in self.calls for each in call for record in each.records]

    def next_call(self) -> tuple[list[PutEntry], ProducerSequences | None]:
        """The entries of the next call, and their sequences if the producer has an id."""
        call = self.calls[0]
        entries = [each.entry for each in call]
        if self._producer_id is None:
            return entries, None
        firsts = [each.records[0][2] for each in call] if self._aggregate else None
        return entries, ProducerSequences(self._producer_id, [each.sequence for each in call], firsts)

    def narrow(self) -> bool:
        """The call is refused as a whole because of one entry: make several calls of it. False: it is that entry.

        One half after the other keeps the order. A single aggregate may only be too large, so its records go by
        themselves.
        """
        call = self.calls[0]
        if len(call) > 1:
            half = len(call) // 2
            self.calls[:1] = [call[:half], call[half:]]
        elif call[0].packed is not None:
            self.calls[0] = [Outgoing(entry, sequence) for entry, _, sequence in call[0].packed]
        else:
            return False
        return True

    def answered(self, results: Sequence[PutResult]) -> tuple[Failed, int]:
        """What the call did not store, and how many records it found stored before."""
        failed: Failed = []
        duplicates = 0
        if not isinstance(results, PutResults) or len(results) != len(self.calls[0]):
            for each, result in zip(self.calls[0], results, strict=True):
                if result.error is not None:
                    failed.append((each, result.error))
                elif result.duplicate:
                    duplicates += len(each.records)
        return failed, duplicates

    def settle(self, failed: Failed, *, may_retry: bool) -> tuple[list[tuple[PutEntry, Exception]], Exception | None]:
        """Of the next call nothing but ``failed`` is left, and of that what is to be tried again.

        Returns:
            The records that are refused for good; and the error that refuses all that is left as well, if one does:
            with an id no later sequence may be stored before an earlier one, which then never could be.
        """
        again: list[Outgoing] = []
        refused: list[tuple[PutEntry, Exception]] = []
        for place, (each, error) in enumerate(failed):
            is_retryable = may_retry and isinstance(error, StreamKitError) and error.retryable
            if is_retryable or (again and self._producer_id is not None):
                again.append(each)
            elif self._producer_id is None or isinstance(error, ValidationError):
                refused += [(entry, error) for entry, _, _ in each.records]
            else:
                # INVARIANT: test_what_is_refused_is_not_overtaken_by_a_later_sequence
                self.calls[0] = [each for each, _ in failed[place:]]
                return refused, error
        self.calls[:1] = [again] if again else []
        return refused, None
