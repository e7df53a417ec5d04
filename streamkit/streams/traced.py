"""A stream's puts and hand-outs as spans, and the trace context in its records' attributes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace

from streamkit.errors import ValidationError
from streamkit.spans import Contexts, Processing, Spans
from streamkit.streams.aggregation import is_aggregated, user_records
from streamkit.streams.record import Batch, Record, StoredRecord
from streamkit.streams.record_attributes import Attributes, check
from streamkit.streams.store import PutColumns, PutEntry, PutResult, PutResults
from streamkit.trace_context import Carried, carried_in

Put = Callable[[Sequence[PutEntry]], Awaitable[Sequence[PutResult]]]


async def put_one(
    spans: Spans, stream: str, given: Attributes | None, put: Callable[[Attributes | None], Awaitable[PutResult]]
) -> PutResult:
    """Put a record that has these attributes, and the context of its span unless they hold one."""
    with spans.send(stream, (carried_in(given),), alone=True) as sending:
        result = await put(joined(given, sending.context))
        sending.stored(str(result.sequence_number), result.shard_id)
    return result


async def put_columns(spans: Spans, stream: str, entries: PutColumns, put: Put) -> Sequence[PutResult]:
    """Put records that have no attributes: one span, whose context all of them carry."""
    with spans.send(stream, [None] * len(entries), alone=False) as sending:
        context = joined(None, sending.context)
        given = {} if context is None else dict.fromkeys(range(len(entries)), context)
        results = await put(PutColumns(entries.keys, entries.data, given))
        _tell(sending.failed, results)
    return results


async def put_entries(spans: Spans, stream: str, entries: Sequence[PutEntry], put: Put) -> Sequence[PutResult]:
    """Put what a producer gathered: one span, which links to the contexts that its records got when they came."""
    with spans.send(stream, [context for entry in entries for context in _within(entry)], alone=False) as sending:
        results = await put(entries)
        _tell(sending.failed, results)
    return results


def carrying(entry: PutEntry, context: Carried) -> PutEntry:
    """The entry with the context, unless it has one or no room."""
    return replace(entry, attributes=joined(entry.attributes, context))


def joined(given: Attributes | None, context: Carried) -> Attributes | None:
    """Attributes and the context, unless they hold one, or have no room for it: no record is refused for a trace."""
    if not given:
        return context or given
    if not isinstance(given, Mapping) or carried_in(given) is not None:
        return given
    added = {**context, **given}
    try:
        check(added, "the record")
    except ValidationError:
        return given
    return added


def contexts_of(records: Iterable[Record[Any]]) -> Contexts:
    """What each record carries."""
    # Neighbours that were put together have one and the same mapping.
    known: dict[int, Carried | None] = {}
    contexts: list[Carried | None] = []
    for record in records:
        attributes = record.stored.attributes
        if id(attributes) not in known:
            known[id(attributes)] = carried_in(attributes)
        contexts.append(known[id(attributes)])
    return contexts


def processing(spans: Spans, batch: Batch[Any], stream: str, group: str) -> AbstractContextManager[Processing]:
    """Around what a handler or function does with a batch."""
    return spans.process(stream, contexts_of(batch), message_id=_only_id(batch), partition=batch.shard_id, group=group)


def handed_out(spans: Spans, batch: Batch[Any], stream: str, group: str) -> None:
    """A batch is handed to whoever asked for it."""
    with spans.receive(stream, group=group) as receiving:
        receiving.got(contexts_of(batch), _only_id(batch), batch.shard_id)


def _only_id(batch: Batch[Any]) -> str | None:
    return str(batch.last_sequence_number) if len(batch) == 1 else None


def _within(entry: PutEntry) -> Contexts:
    if is_aggregated(entry.data):
        found = user_records(StoredRecord(0, 0, entry.partition_key, entry.data))
        if found is not None:
            return [carried_in(record.attributes) for record in found]
    return (carried_in(entry.attributes),)


def _tell(failed: Callable[[BaseException], None], results: Sequence[PutResult]) -> None:
    if not isinstance(results, PutResults):  # Those have no errors.
        error = next((result.error for result in results if result.error is not None), None)
        if error is not None:
            failed(error)
