"""OpenTelemetry: spans that link a producer to a consumer to a sink, across time (the extra ``otel``).

``instrument(kit)`` switches it on for one kit, as OpenTelemetry's instrumentors do for one application. Nothing of
OpenTelemetry is imported before. The trace context (W3C) is stored with each record and message, so a trace goes on
after a restart. See docs/tracing.md for the spans and their attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from streamkit.errors import StreamKitError, ValidationError
from streamkit.kit import Kit
from streamkit.queues.carried import carried_by
from streamkit.queues.message import Message
from streamkit.streams.record import Record
from streamkit.trace_context import Carried, carried_in

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, TracerProvider

__all__ = ["context_of", "instrument", "links_of", "uninstrument"]


def instrument(kit: Kit, *, tracer_provider: TracerProvider | None = None) -> None:
    """Make spans of what goes through a kit, and have its records and messages carry their trace on.

    It counts for everything of this kit from now on: handles that were made before, and services that run. Calling it
    again replaces the provider.

    Args:
        kit: What ``streamkit.open`` gave.
        tracer_provider: Where spans go; None: OpenTelemetry's global one, which drops them until it is set.

    Raises:
        StreamKitError: OpenTelemetry is not installed.
        ValidationError: this is no kit.
    """
    if not isinstance(kit, Kit):
        raise ValidationError(f"instrument() takes the kit that streamkit.open gives, not a {type(kit).__name__}")
    _check_installed()
    from streamkit.tracing.otel import OtelSpans

    kit.tracing.spans = OtelSpans(tracer_provider)


def uninstrument(kit: Kit) -> None:
    """Make no more spans. What records and messages carry already stays with them."""
    kit.tracing.spans = None


def context_of(item: Record[Any] | Message[Any]) -> Context:
    """The OpenTelemetry context of what sent a record or message, as the parent of a span of one's own.

    An empty context if it carries none: a span in it begins a trace.

    Raises:
        StreamKitError: OpenTelemetry is not installed.
    """
    _check_installed()
    from streamkit.tracing.otel import context_from

    return context_from(_carried(item))


def links_of(items: Iterable[Record[Any] | Message[Any]]) -> list[Link]:
    """Links to what sent these, each once, for a span of one's own about several.

    Raises:
        StreamKitError: OpenTelemetry is not installed.
    """
    _check_installed()
    from streamkit.tracing.otel import links_to

    return links_to([_carried(item) for item in items])


def _carried(item: Record[Any] | Message[Any]) -> Carried | None:
    if isinstance(item, Record):
        return carried_in(item.stored.attributes)
    if isinstance(item, Message):
        return carried_by(item)
    raise ValidationError(f"only a Record or a Message carries a trace, not a {type(item).__name__}")


def _check_installed() -> None:
    # Asked without importing it; `opentelemetry` alone may be a namespace that something else left.
    try:
        found = find_spec("opentelemetry.trace")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise StreamKitError("tracing needs OpenTelemetry: pip install 'streamkit[otel]'")
