"""One trace from a put to a table, through a mapping, a queue and a worker, and over a restart in the middle.

Needs ``pip install 'streamkit[otel]' opentelemetry-sdk``. In a service the spans go to a collector instead:
``BatchSpanProcessor(OTLPSpanExporter())``.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import streamkit
from streamkit import EventSourceMapping, each, tracing


class Tree(SpanExporter):
    """Keeps spans, and prints them as they hang together."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: D102
        self.spans += spans
        return SpanExportResult.SUCCESS

    def show(self, parent: int | None = None, depth: int = 0) -> None:  # noqa: D102
        for span in sorted(self.spans, key=lambda span: span.start_time or 0):
            if (span.parent and span.parent.span_id) == parent:
                links = f"  <- {len(span.links)} link" if span.links else ""
                print(f"{'  ' * depth}{span.name:{34 - 2 * depth}}{span.kind.name:10}{links}")
                self.show(span.context.span_id, depth + 1)


tree = Tree()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(tree))


async def take_orders(data: str) -> None:
    async with streamkit.open(data) as kit:
        tracing.instrument(kit, tracer_provider=provider)
        orders = await kit.create_stream("orders")
        await kit.create_queue("parcels")
        await kit.create_table("packed", partition_key="id")
        with provider.get_tracer("shop").start_as_current_span("POST /orders"):
            await orders.put({"id": "o-1", "total": 120}, partition_key="ada")


async def pack_orders(data: str) -> None:
    async with streamkit.open(data) as kit:
        tracing.instrument(kit, tracer_provider=provider)
        packed = kit.table("packed")

        async def pack(order: dict[str, Any]) -> None:
            await packed.put({"id": order["id"], "boxes": 1})

        mapping = EventSourceMapping(
            "to-pack",
            source=kit.stream("orders"),
            function=each(lambda record: record.value),
            sink=kit.queue("parcels"),
        )
        await kit.start(mapping).wait_caught_up()
        await kit.start(kit.queue("parcels").worker(pack)).wait_drained()


async def main() -> None:
    with tempfile.TemporaryDirectory() as data:
        await take_orders(data)
        await pack_orders(data)  # Another process, another day: the trace is stored with the order.
    tree.show()
    request = next(span for span in tree.spans if span.name == "POST /orders")
    together = [span for span in tree.spans if span.context.trace_id == request.context.trace_id]
    print(f"{len(together)} spans of the request's trace, {len(tree.spans) - len(together)} that links to it")


if __name__ == "__main__":
    asyncio.run(main())
    provider.shutdown()
