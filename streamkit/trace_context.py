"""W3C trace context, as text that travels with records and messages, and its form in AWSTraceHeader. Pure.

Follows "Trace Context" (W3C Recommendation, level 1), and "Tracing header" (AWS X-Ray Developer Guide)::

    traceparent     00-<trace id, 32 hex>-<span id, 16 hex>-<flags, 2 hex>
    AWSTraceHeader  Root=1-<trace id: 8 hex>-<24 hex>;Parent=<span id, 16 hex>;Sampled=<0 or 1>
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Carried = Mapping[str, str]
"""``traceparent``, and ``tracestate`` if there is one."""

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
_MOST_STATE = 512
"""W3C: what is longer may be dropped."""
_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")


def carried_in(names: Mapping[str, str] | None) -> Carried | None:
    """The trace context among attributes; None: there is none, or none that can be read."""
    if not names or not isinstance(names, Mapping):
        return None
    parent, state = names.get(TRACEPARENT), names.get(TRACESTATE)
    if not isinstance(parent, str) or not _PARENT.fullmatch(parent):
        return None
    return {TRACEPARENT: parent, TRACESTATE: state} if isinstance(state, str) and state else {TRACEPARENT: parent}


def short(carried: Carried) -> Carried:
    """The same without a state that is longer than a carrier need take."""
    state = carried.get(TRACESTATE, "")
    return carried if len(state) <= _MOST_STATE else {TRACEPARENT: carried[TRACEPARENT]}


def as_header(carried: Carried) -> str:
    """As AWSTraceHeader, in which a state has no place."""
    found = _PARENT.fullmatch(carried[TRACEPARENT])
    assert found is not None
    trace_id, span_id, flags, _ = found.groups()
    return f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={span_id};Sampled={int(flags, 16) & 1}"


def of_header(header: str | None) -> Carried | None:
    """The trace context of an AWSTraceHeader; None: it has none, or no span."""
    if not header:
        return None
    parts = dict(part.strip().split("=", 1) for part in header.split(";") if "=" in part)
    root, span_id = _ROOT.fullmatch(parts.get("Root", "")), parts.get("Parent", "")
    if root is None or not re.fullmatch(r"[0-9a-f]{16}", span_id):
        return None
    sampled = "01" if parts.get("Sampled") == "1" else "00"
    return {TRACEPARENT: f"00-{root[1]}{root[2]}-{span_id}-{sampled}"}
