"""The tracing port with OpenTelemetry's API, by its semantic conventions for messaging and for databases.

Names are those of the conventions 1.44.0 (opentelemetry-semantic-conventions 0.66b2). Kinds: PRODUCER for what gives a
message its context (``create``, ``send``), CONSUMER for ``process``, CLIENT for all else. A ``process`` of one message
is a child of what sent it, and of several a root; it links to each context either way. Values, partition keys, keys of
items and the texts of errors are nobody's attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streamkit.spans import Contexts
from streamkit.trace_context import Carried, short

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
_SYSTEM = "streamkit"
_PROPAGATOR = TraceContextTextMapPropagator()
_Attributes = dict[str, str | int]


class OtelSpans:
    """Implements ``Spans``."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer: Tracer = trace.get_tracer("streamkit", None, provider, SCHEMA_URL)

    @contextmanager
    def send(self, destination: str, contexts: Contexts, *, alone: bool) -> Iterator[_Sending]:
        """See Spans."""
        # What has a context keeps it, and the span only links there: then it gives none, and is no producer.
        gives = not contexts or None in contexts
        span = self._tracer.start_span(
            f"send {destination}",
            _parent(),
            kind=SpanKind.PRODUCER if gives else SpanKind.CLIENT,
            attributes=_messaging("send", destination, None if alone else len(contexts)),
            links=links_to(contexts),
        )
        with _ended(span):
            yield _Sending(span)

    def create(self, destination: str) -> Carried:
        """See Spans."""
        attributes = _messaging("create", destination)
        span = self._tracer.start_span(
            f"create {destination}", _parent(), kind=SpanKind.PRODUCER, attributes=attributes
        )
        span.end()
        return carried_of(span)

    @contextmanager
    def receive(self, destination: str, *, group: str | None = None) -> Iterator[_Receiving]:
        """See Spans."""
        attributes = _messaging("receive", destination)
        if group is not None:
            attributes["messaging.consumer.group.name"] = group
        span = self._tracer.start_span(f"receive {destination}", _parent(), kind=SpanKind.CLIENT, attributes=attributes)
        receiving = _Receiving(span)
        try:
            yield receiving
        except Exception as error:
            _failed(span, error)
            span.end()
            raise
        if receiving.any:
            span.end()
        # One that is never ended is never exported: most receives of an idle service give nothing, or are cancelled.

    @contextmanager
    def process(
        self,
        destination: str,
        contexts: Contexts,
        *,
        message_id: str | None = None,
        partition: str | None = None,
        group: str | None = None,
    ) -> Iterator[_Processing]:
        """See Spans."""
        attributes = _messaging("process", destination, None if message_id is not None else len(contexts))
        _identify(attributes, message_id, partition)
        if group is not None:
            attributes["messaging.consumer.group.name"] = group
        parent = context_from(contexts[0]) if len(contexts) == 1 else Context()
        span = self._tracer.start_span(
            f"process {destination}", parent, kind=SpanKind.CONSUMER, attributes=attributes, links=links_to(contexts)
        )
        with _ended(span), _attached(trace.set_span_in_context(span)):
            yield _Processing(span)

    @contextmanager
    def settle(self, destination: str, contexts: Contexts, *, message_id: str | None = None) -> Iterator[None]:
        """See Spans."""
        attributes = _messaging("settle", destination, None if message_id is not None else len(contexts), "delete")
        _identify(attributes, message_id, None)
        parent = _parent()
        if len(contexts) == 1 and not trace.get_current_span(parent).get_span_context().is_valid:
            parent = context_from(contexts[0])  # It is not within what handled the message any more, but of its trace.
        span = self._tracer.start_span(
            f"delete {destination}", parent, kind=SpanKind.CLIENT, attributes=attributes, links=links_to(contexts)
        )
        with _ended(span):
            yield

    @contextmanager
    def write(self, operation: str, table: str, count: int) -> Iterator[None]:
        """See Spans."""
        attributes: _Attributes = {
            "db.system.name": _SYSTEM,
            "db.operation.name": operation,
            "db.collection.name": table,
        }
        if count > 1:
            attributes["db.operation.batch.size"] = count
        span = self._tracer.start_span(f"{operation} {table}", _parent(), kind=SpanKind.CLIENT, attributes=attributes)
        with _ended(span):
            yield

    @contextmanager
    def within(self, here: object) -> Iterator[None]:
        """See Spans."""
        assert isinstance(here, _Processed)
        with _attached(trace.set_span_in_context(here)):
            yield


class _Processed(NonRecordingSpan):
    """A process that has ended, and that what becomes of its results still belongs to."""


class _Sending:
    """Implements ``Sending``."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.context = carried_of(span)

    def stored(self, message_id: str, partition: str | None = None) -> None:
        """See Sending."""
        attributes: _Attributes = {}
        _identify(attributes, message_id, partition)
        self._span.set_attributes(attributes)

    def failed(self, error: BaseException) -> None:
        """See Sending."""
        _failed(self._span, error)


class _Receiving:
    """Implements ``Receiving``."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.any = False

    def got(self, contexts: Contexts, message_id: str | None = None, partition: str | None = None) -> None:
        """See Receiving."""
        self.any = bool(contexts)
        attributes: _Attributes = {}
        _identify(attributes, message_id, partition)
        if message_id is None:
            attributes["messaging.batch.message_count"] = len(contexts)
        self._span.set_attributes(attributes)
        for link in links_to(contexts):
            self._span.add_link(link.context)


class _Processing:
    """Implements ``Processing``."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.here: object = _Processed(span.get_span_context())

    def failed(self, error: BaseException) -> None:
        """See Processing."""
        _failed(self._span, error)


def carried_of(span: Span) -> Carried:
    """What is sent within a span carries; nothing if nobody traces."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span, Context()))
    return short(carrier) if carrier else carrier


def context_from(carried: Carried | None) -> Context:
    """The context of what was carried; empty if nothing was."""
    return Context() if not carried else _PROPAGATOR.extract(carried, Context())


def links_to(contexts: Contexts) -> list[Link]:
    """A link to each that is there, and none twice."""
    distinct = {
        carried["traceparent"]: carried for carried in {id(each): each for each in contexts}.values() if carried
    }
    found = [trace.get_current_span(context_from(carried)).get_span_context() for carried in distinct.values()]
    return [Link(context) for context in found if context.is_valid]


def _parent() -> Context:
    """Where a span belongs that is made now: in what is current, unless that has ended.

    A service that was started within a span inherits it, and works on when that has long ended.
    """
    span = trace.get_current_span()
    context = span.get_span_context()
    if not span.is_recording() and context.trace_flags.sampled and not context.is_remote:
        return otel_context.get_current() if isinstance(span, _Processed) else Context()
    return otel_context.get_current()


def _messaging(kind: str, destination: str, count: int | None = None, name: str | None = None) -> _Attributes:
    attributes: _Attributes = {
        "messaging.system": _SYSTEM,
        "messaging.destination.name": destination,
        "messaging.operation.type": kind,
        "messaging.operation.name": name or kind,
    }
    if count is not None:
        attributes["messaging.batch.message_count"] = count
    return attributes


def _identify(attributes: _Attributes, message_id: str | None, partition: str | None) -> None:
    if message_id is not None:
        attributes["messaging.message.id"] = message_id
    if partition is not None:
        attributes["messaging.destination.partition.id"] = partition


@contextmanager
def _ended(span: Span) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        _failed(span, error)
        raise
    finally:
        span.end()


@contextmanager
def _attached(context: Context) -> Iterator[None]:
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


def _failed(span: Span, error: BaseException) -> None:
    """Its type alone: the text of an error often quotes what was sent."""
    kind = type(error).__qualname__
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, kind))
