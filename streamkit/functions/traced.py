"""What a mapping calls and commits, as spans: its function's work, and what the commit writes, sends and puts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from msgspec.structs import replace

from streamkit.functions.effects import Effects, EffectStore
from streamkit.functions.function import Invoker
from streamkit.functions.invocation import Invocation, Window
from streamkit.limits import Limits
from streamkit.queues import traced as queues
from streamkit.queues.message import Message
from streamkit.spans import Processing, Spans, Tracing
from streamkit.streams import traced as streams
from streamkit.streams.record import Batch
from streamkit.trace_context import carried_in


class TracedInvoker:
    """An ``Invoker`` whose calls are spans; what becomes of their results is told to belong to them."""

    def __init__(self, invoker: Invoker, tracing: Tracing, mapping: str, source: str) -> None:
        self._invoker = invoker
        self._tracing = tracing
        self._mapping = mapping
        self._source = source
        self.aged = invoker.aged

    async def invoke(self, batch: Batch[Any], *, window: Window | None = None) -> Invocation:
        """See Invoker."""
        spans = self._tracing.spans
        if spans is None or not len(batch):
            return await self._invoker.invoke(batch, window=window)
        with streams.processing(spans, batch, self._source, self._mapping) as process:
            return _told(await self._invoker.invoke(batch, window=window), process)

    async def invoke_messages(self, messages: Sequence[Message[Any]], *, queue: str, fifo: bool) -> Invocation:
        """See Invoker."""
        spans = self._tracing.spans
        if spans is None:
            return await self._invoker.invoke_messages(messages, queue=queue, fifo=fifo)
        only = messages[0].message_id if len(messages) == 1 else None
        contexts = queues.contexts_of(messages)
        with spans.process(queue, contexts, message_id=only, group=self._mapping) as process:
            return _told(await self._invoker.invoke_messages(messages, queue=queue, fifo=fifo), process)


def _told(invocation: Invocation, process: Processing) -> Invocation:
    if invocation.error is not None:
        process.failed(invocation.error)
    return replace(invocation, trace=process.here)


class TracedEffects:
    """An ``EffectStore`` whose commits are spans, each of a queue, a stream or a table."""

    def __init__(self, effects: EffectStore, tracing: Tracing) -> None:
        self._effects = effects
        self._tracing = tracing

    @property
    def limits(self) -> Limits:
        """See EffectStore."""
        return self._effects.limits

    async def commit(self, effects: Effects) -> None:
        """See EffectStore."""
        spans = self._tracing.spans
        if spans is None:
            await self._effects.commit(effects)
            return
        with ExitStack() as stack:
            await self._effects.commit(_traced(effects, spans, stack))


def _traced(effects: Effects, spans: Spans, stack: ExitStack) -> Effects:
    """The effects with what they carry on; the spans end with the stack."""
    sends, puts = [], []
    for queue, messages in effects.sends:
        sending = stack.enter_context(spans.send(queue, queues.contexts_of(messages), alone=False))
        sends.append((queue, tuple(queues.carrying(message, sending.context) for message in messages)))
    for stream, records in effects.puts:
        contexts = [carried_in(record.attributes) for record in records]
        sending = stack.enter_context(spans.send(stream, contexts, alone=False))
        puts.append((stream, tuple(streams.carrying(record, sending.context) for record in records)))
    for table, count in Counter(write.table for write in effects.writes).items():
        stack.enter_context(spans.write("TransactWriteItems", table, count))
    for queue, handles in effects.deletes:
        stack.enter_context(spans.settle(queue, [None] * len(handles)))
    return replace(effects, sends=tuple(sends), puts=tuple(puts))
