"""streamkit: an event-streaming stack inside your async Python process, durable on its own disk.

::

    async with streamkit.open("./data") as kit:                       # "memory:" for tests and notebooks
        orders = await kit.create_stream("orders", shards=4, exist_ok=True)
        await orders.put({"total": 120}, partition_key="ada")         # durable when it returns

        big = await kit.create_table("big_orders", partition_key="customer", exist_ok=True)

        @each
        async def keep(record: Record) -> Item:
            return {"customer": record.partition_key, **record.value}

        kit.start(EventSourceMapping("big-orders", source=orders, function=keep, sink=big,
                                     filters=[{"data": {"total": [{"numeric": [">=", 100]}]}}]))

A map of the house: ``streams`` (Kinesis), ``queues`` (SQS), ``tables`` (DynamoDB), ``functions`` (Lambda event source
mappings), ``metrics`` and ``alarms`` (CloudWatch), ``engines`` (where bytes are kept), ``testing`` (a manual clock,
faults, the engine contract). A service's ``store`` is read by whoever writes an engine; its handle is what users hold.

Names load when they are first used, so importing streamkit costs next to nothing (docs/adr/0008).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamkit import errors
    from streamkit.alarms.alarm import Alarm
    from streamkit.backoff import Retry
    from streamkit.errors import (
        AlreadyExistsError,
        ConditionFailedError,
        LeaseLostError,
        NotFoundError,
        StorageError,
        StreamKitError,
        TransactionCanceledError,
        ValidationError,
    )
    from streamkit.functions.function import each
    from streamkit.functions.mapping import EventSourceMapping
    from streamkit.functions.pattern import Pattern
    from streamkit.kit import Kit
    from streamkit.limits import Limits
    from streamkit.metrics.metric import Metric
    from streamkit.opening import open  # noqa: A004 - `streamkit.open` reads as the built-in does
    from streamkit.queues.message import Message, RedrivePolicy
    from streamkit.queues.queue import Queue, Send
    from streamkit.queues.worker import Worker
    from streamkit.service import Service, Stop
    from streamkit.streams.balance import Leasing
    from streamkit.streams.buffer import Batching
    from streamkit.streams.consumer import Consumer
    from streamkit.streams.producer import Producer
    from streamkit.streams.record import Batch, Record
    from streamkit.streams.stream import Stream
    from streamkit.tables.condition import attribute
    from streamkit.tables.item import Item
    from streamkit.tables.store import SortKeyRange
    from streamkit.tables.table import Table
    from streamkit.tables.write import Check, Delete, Put, Update

_HOME = {
    "open": "opening",
    "Kit": "kit",
    "Stream": "streams.stream",
    "Record": "streams.record",
    "Batch": "streams.record",
    "Producer": "streams.producer",
    "Batching": "streams.buffer",
    "Leasing": "streams.balance",
    "Consumer": "streams.consumer",
    "Queue": "queues.queue",
    "Message": "queues.message",
    "RedrivePolicy": "queues.message",
    "Send": "queues.queue",
    "Worker": "queues.worker",
    "Table": "tables.table",
    "Item": "tables.item",
    "SortKeyRange": "tables.store",
    "Put": "tables.write",
    "Update": "tables.write",
    "Delete": "tables.write",
    "Check": "tables.write",
    "attribute": "tables.condition",
    "EventSourceMapping": "functions.mapping",
    "each": "functions.function",
    "Pattern": "functions.pattern",
    "Alarm": "alarms.alarm",
    "Metric": "metrics.metric",
    "Service": "service",
    "Stop": "service",
    "Retry": "backoff",
    "Limits": "limits",
    "StreamKitError": "errors",
    "ValidationError": "errors",
    "NotFoundError": "errors",
    "AlreadyExistsError": "errors",
    "ConditionFailedError": "errors",
    "TransactionCanceledError": "errors",
    "LeaseLostError": "errors",
    "StorageError": "errors",
}

__all__ = [
    "Alarm",
    "AlreadyExistsError",
    "Batch",
    "Batching",
    "Check",
    "ConditionFailedError",
    "Consumer",
    "Delete",
    "EventSourceMapping",
    "Item",
    "Kit",
    "LeaseLostError",
    "Leasing",
    "Limits",
    "Message",
    "Metric",
    "NotFoundError",
    "Pattern",
    "Producer",
    "Put",
    "Queue",
    "Record",
    "RedrivePolicy",
    "Retry",
    "Send",
    "Service",
    "SortKeyRange",
    "Stop",
    "StorageError",
    "Stream",
    "StreamKitError",
    "Table",
    "TransactionCanceledError",
    "Update",
    "ValidationError",
    "Worker",
    "attribute",
    "each",
    "errors",
    "open",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("streamkit.errors")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'streamkit' has no attribute {name!r}")
    value = getattr(import_module(f"streamkit.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
