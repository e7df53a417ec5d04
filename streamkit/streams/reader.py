"""A position in one shard that moves forward as it is read."""

from __future__ import annotations

from streamkit.errors import ExpiredIteratorError
from streamkit.streams.store import RecordBatch, StartingPosition, StreamStore


class ShardReader:
    """Reads one shard in order. Remembers the last record it returned, so an expired iterator costs nothing."""

    def __init__(
        self, store: StreamStore, stream: str, shard_id: str, position: StartingPosition, *, sequence_number: int = 0
    ) -> None:
        self.shard_id = shard_id
        self._store = store
        self._stream = stream
        self._position: StartingPosition = position
        self._sequence_number = sequence_number
        self._iterator: str | None = None
        self.at_end = False
        """The shard is closed and fully read; ``read`` returns nothing any more."""

    async def read(self, limit: int, wait_ms: int = 0) -> RecordBatch:
        """The next records, waiting up to ``wait_ms`` for the first. Cancellation: the position has not moved."""
        if self.at_end:
            return RecordBatch([], None, 0)
        while True:
            if self._iterator is None:
                self._iterator = await self._store.get_shard_iterator(
                    self._stream, self.shard_id, self._position, sequence_number=self._sequence_number
                )
            try:
                batch = await self._store.get_records(self._iterator, limit, wait_ms)
            except ExpiredIteratorError:
                self._iterator = None
                continue
            self._iterator = batch.next_iterator
            self.at_end = batch.next_iterator is None
            if batch.records:
                self._position = "AFTER_SEQUENCE_NUMBER"
                self._sequence_number = batch.records[-1].sequence_number
            return batch

    def rewind(self, sequence_number: int) -> None:
        """Read on after this record, which was returned before."""
        self._position = "AFTER_SEQUENCE_NUMBER"
        self._sequence_number = sequence_number
        self._iterator = None
        self.at_end = False
