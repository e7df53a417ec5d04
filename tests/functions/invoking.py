"""Batches and messages to call functions with, and what a mapping works with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streamkit import Kit
from streamkit.codecs import Codec
from streamkit.functions.effects import EffectStore
from streamkit.functions.tally import Ports
from streamkit.queues.message import Message, ReceivedMessage
from streamkit.streams.record import Batch, Record, StoredRecord

NOW_MS = 1_700_000_000_000


def batch_of(*values: Any, type_: Any = None) -> Batch[Any]:
    """Records 1, 2, ... of one shard, with these values."""
    codec: Codec[Any] = Codec(type_)
    stored = [StoredRecord(at, NOW_MS + at, f"k{at}", codec.encode(value)) for at, value in enumerate(values, 1)]
    return Batch("shardId-000000000000", [Record(one, "shardId-000000000000", codec) for one in stored])


def messages_of(*values: Any, groups: Sequence[str] = ()) -> list[Message[Any]]:
    """Messages m0, m1, ... with these values, and in these message groups."""
    return [
        Message(
            ReceivedMessage(
                message_id=f"m{at}",
                body=msgspec.json.encode(value),
                receipt_handle=f"h{at}",
                receive_count=1,
                sent_ms=NOW_MS,
                first_received_ms=NOW_MS,
                group_id=groups[at] if groups else None,
                sequence_number=at if groups else None,
            ),
            Codec(),
        )
        for at, value in enumerate(values)
    ]


def ports(kit: Kit, effects: EffectStore | None = None) -> Ports:
    """A kit's, with its engine's own effects unless others are given."""
    engine = kit.engine
    return Ports(
        streams=engine.streams,
        tables=engine.tables,
        effects=engine if effects is None else effects,
        clock=kit.clock,
        metrics=kit.metrics.raw,
    )
