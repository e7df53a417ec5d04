"""A position in one shard that moves forward as it is read."""

from __future__ import annotations

from streamkit.errors import ExpiredIteratorError, NotFoundError
from streamkit.streams.store import RecordBatch, StartingPosition, StreamStore
from streamkit.streams.stream_metrics import GetMetrics


class ShardReader:
    """Reads one shard in order. Remembers the last record it returned, so an expired iterator costs nothing.

    With ``stream_id`` it reads that very stream and not a later one of the same name; with ``metrics`` it says what it
    reads.
    """

    def __init__(
        self,
        store: StreamStore,
        stream: str,
        shard_id: str,
        position: StartingPosition,
        *,
        sequence_number: int = 0,
        timestamp_ms: int = 0,
        stream_id: int | None = None,
        metrics: GetMetrics | None = None,
    ) -> None:
        self.shard_id = shard_id
        self.sequence_number = sequence_number
        """Of the last record returned; before the first, what the reader was made with."""
        self.at_end = False
        """The shard is closed and fully read; ``read`` returns nothing any more."""
        self._store = store
        self._stream = stream
        self._position: StartingPosition = position
        self._timestamp_ms = timestamp_ms
        self._stream_id = stream_id
        self._metrics = metrics
        self._iterator: str | None = None

    async def read(self, limit: int, wait_ms: int = 0) -> RecordBatch:
        """The next records, waiting up to ``wait_ms`` for the first. Cancellation: the position has not moved.

        Raises:
            NotFoundError: the stream or the shard is not there (any more).
            ValidationError: ``limit`` is out of range, or the position is not one of this shard.
        """
        if self.at_end:
            return RecordBatch([], None, 0)
        while True:
            if self._iterator is None:
                self._iterator = await self._open()
            began_ms = 0 if self._metrics is None else self._metrics.began_ms()
            try:
                batch = await self._store.get_records(self._iterator, limit, wait_ms)
            except ExpiredIteratorError:
                self._iterator = None
                continue
            except Exception as error:
                if self._metrics is not None:
                    self._metrics.failed(error)
                raise
            if self._metrics is not None:
                self._metrics.got(batch, began_ms, waited=wait_ms > 0)
            self._iterator = batch.next_iterator
            self.at_end = batch.next_iterator is None
            if batch.records:
                self._position = "AFTER_SEQUENCE_NUMBER"
                self.sequence_number = batch.records[-1].sequence_number
            return batch

    def rewind(self, sequence_number: int) -> None:
        """Read on after this record, which was returned before."""
        self._position = "AFTER_SEQUENCE_NUMBER"
        self.sequence_number = sequence_number
        self._iterator = None
        self.at_end = False

    async def _open(self) -> str:
        if self._stream_id is not None or self._position == "LATEST":
            description = await self._store.describe_stream(self._stream)
            if self._stream_id not in (None, description.stream_id):
                raise NotFoundError("stream", self._stream, "it was deleted, and a new one has its name")
            if self._position == "LATEST":
                # As a number: LATEST asked for again after an iterator's expiry would skip what came in between.
                latest = {shard.shard_id: shard.latest_sequence_number for shard in description.shards}
                if self.shard_id not in latest:
                    raise NotFoundError("shard", self.shard_id, f"stream {self._stream!r} has {len(latest)} shards")
                self._position = "AFTER_SEQUENCE_NUMBER"
                self.sequence_number = latest[self.shard_id]
        return await self._store.get_shard_iterator(
            self._stream,
            self.shard_id,
            self._position,
            sequence_number=self.sequence_number,
            timestamp_ms=self._timestamp_ms,
        )
