"""Spans that were exported, and how they hang together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer


class Seen:
    """A provider whose spans stay in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = self.provider.get_tracer("the application")

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def names(self) -> list[str]:
        return [span.name for span in self.all()]

    def clear(self) -> None:
        self._exporter.clear()

    def tree(self) -> list[str]:
        """Names, each below its parent and further in; roots and children in the order in which they began."""
        children: defaultdict[int | None, list[ReadableSpan]] = defaultdict(list)
        ids = {id_of(span) for span in self.all()}
        for span in sorted(self.all(), key=lambda span: span.start_time or 0):
            parent = None if span.parent is None or span.parent.span_id not in ids else span.parent.span_id
            children[parent].append(span)

        def below(parent: int | None, depth: int) -> Iterable[str]:
            for span in children[parent]:
                yield "  " * depth + span.name
                yield from below(id_of(span), depth + 1)

        return list(below(None, 0))


def id_of(span: ReadableSpan) -> int:
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> int:
    return int(span.context.trace_id)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def links_of(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def parent_text(span: ReadableSpan) -> str:
    """As W3C writes it."""
    context = span.context
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


class Alive(SpanProcessor):
    """Counts spans that have begun and not ended."""

    def __init__(self) -> None:
        self.spans = 0

    def on_start(self, span: object, parent_context: object = None) -> None:
        self.spans += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.spans -= 1
