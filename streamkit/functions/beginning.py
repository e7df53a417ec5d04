"""Where a mapping begins that was never there before."""

from __future__ import annotations

from datetime import datetime

from streamkit.errors import ThroughputExceededError
from streamkit.functions.tally import Ports
from streamkit.streams.lease import Start
from streamkit.streams.store import StreamDescription


async def beginning_of(position: Start | datetime, source: StreamDescription, ports: Ports) -> Start | dict[str, int]:
    """As a lease table takes it: of an instant, after which number each shard begins."""
    if not isinstance(position, datetime):
        return position
    timestamp_ms = round(position.timestamp() * 1000)
    numbers: dict[str, int] = {}
    for shard in source.shards:
        numbers[shard.shard_id] = shard.latest_sequence_number
        iterator: str | None = await ports.streams.get_shard_iterator(
            source.name, shard.shard_id, "AT_TIMESTAMP", timestamp_ms=timestamp_ms
        )
        while iterator is not None:
            try:
                answer = await ports.streams.get_records(iterator, 1)
            except ThroughputExceededError:
                # AWS: five reads of a shard in a second.
                await ports.clock.sleep_until(ports.clock.now_ms() + 200)
                continue
            if answer.records:
                # Numbers of a shard have no gap.
                numbers[shard.shard_id] = answer.records[0].sequence_number - 1
                break
            iterator = answer.next_iterator if answer.millis_behind_latest else None
    return numbers
