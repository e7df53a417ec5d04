"""The tracing port with OpenTelemetry's API, by its semantic conventions for messaging and for databases.

Names are those of the conventions 1.44.0 (opentelemetry-semantic-conventions 0.66b2). Kinds: PRODUCER for what gives a
message its context (``create``, ``send``), CONSUMER for ``process``, CLIENT for all else. A ``process`` of one message
is a child of what sent it, and of several a root; it links to each context either way. Values, partition keys, keys of
items and the texts of errors are nobody's attributes.

Samplers and span processors are the program's, and may raise where a span begins or ends: what is traced was stored, or
is in somebody's hand, whether or not they do. So that is logged, and goes no further.
"""

from __future__ import annotations

import logging
import time
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

logger = logging.getLogger("streamkit.tracing")


class OtelSpans:
    """Implements ``Spans``."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer: Tracer = trace.get_tracer("streamkit", None, provider, SCHEMA_URL)

    @contextmanager
    def send(self, destination: str, contexts: Contexts, *, alone: bool) -> Iterator[_Sending]:
        """See Spans."""
        # What has a context keeps it, and the span only links there: then it gives none, and is no producer.
        gives = not contexts or None in contexts
        span = self._begin(
            f"send {destination}",
            _parent(),
            SpanKind.PRODUCER if gives else SpanKind.CLIENT,
            _messaging("send", destination, None if alone else len(contexts)),
            links_to(contexts),
        )
        with _ended(span):
            yield _Sending(span)

    def create(self, destination: str) -> Carried:
        """See Spans."""
        span = self._begin(f"create {destination}", _parent(), SpanKind.PRODUCER, _messaging("create", destination))
        _end(span)
        return carried_of(span)

    @contextmanager
    def receive(self, destination: str, *, group: str | None = None) -> Iterator[_Receiving]:
        """See Spans."""
        attributes = _messaging("receive", destination)
        if group is not None:
            attributes["messaging.consumer.group.name"] = group
        # Most receives of an idle service give nothing, or are cancelled. So the span begins when there is something to
        # say, as of now: one that began and never ended would be alive for ever to whoever counts those.
        # INVARIANT: test_a_receive_that_gives_nothing_leaves_no_span
        receiving, parent, began_ns = _Receiving(), _parent(), time.time_ns()

        def begin() -> Span:
            attributes.update(receiving.attributes)
            return self._begin(
                f"receive {destination}", parent, SpanKind.CLIENT, attributes, links_to(receiving.contexts), began_ns
            )

        try:
            yield receiving
        except Exception as error:
            span = begin()
            _failed(span, error)
            _end(span)
            raise
        if receiving.contexts:
            _end(begin())

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
        span = self._begin(f"process {destination}", parent, SpanKind.CONSUMER, attributes, links_to(contexts))
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
        span = self._begin(f"delete {destination}", parent, SpanKind.CLIENT, attributes, links_to(contexts))
        with _ended(span):
            yield

    @contextmanager
    def write(self, operation: str, table: str, count: int) -> Iterator[_Writing]:
        """See Spans."""
        attributes: _Attributes = {
            "db.system.name": _SYSTEM,
            "db.operation.name": operation,
            "db.collection.name": table,
        }
        if count > 1:
            attributes["db.operation.batch.size"] = count
        span = self._begin(f"{operation} {table}", _parent(), SpanKind.CLIENT, attributes)
        with _ended(span):
            yield _Writing(span)

    @contextmanager
    def within(self, here: object) -> Iterator[None]:
        """See Spans."""
        assert isinstance(here, _Processed)
        with _attached(trace.set_span_in_context(here)):
            yield

    def _begin(
        self,
        name: str,
        parent: Context,
        kind: SpanKind,
        attributes: _Attributes,
        links: list[Link] | None = None,
        began_ns: int | None = None,
    ) -> Span:
        try:
            return self._tracer.start_span(
                name, parent, kind=kind, attributes=attributes, links=links, start_time=began_ns
            )
        except Exception as error:
            _log("begin", error)
            return trace.INVALID_SPAN


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

    def __init__(self) -> None:
        self.contexts: Contexts = ()
        self.attributes: _Attributes = {}

    def got(self, contexts: Contexts, message_id: str | None = None, partition: str | None = None) -> None:
        """See Receiving."""
        self.contexts = contexts
        _identify(self.attributes, message_id, partition)
        if message_id is None:
            self.attributes["messaging.batch.message_count"] = len(contexts)


class _Writing:
    """Implements ``Writing``."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def failed(self, error: BaseException) -> None:
        """See Writing."""
        _failed(self._span, error)


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
        _end(span)


def _end(span: Span) -> None:
    # INVARIANT: test_a_tracer_that_raises_refuses_nothing
    try:
        span.end()
    except Exception as error:
        _log("end", error)


def _log(what: str, error: Exception) -> None:
    # Its text may quote what the span is about.
    logger.warning("a span did not %s, because a sampler or span processor raised %s", what, type(error).__qualname__)


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
