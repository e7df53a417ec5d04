"""W3C trace context, as text that travels with records and messages, and its form in AWSTraceHeader. Pure.

Follows "Trace Context" (W3C Recommendation, level 1), and "Tracing header" (AWS X-Ray Developer Guide)::

    traceparent     00-<trace id, 32 hex>-<span id, 16 hex>-<flags, 2 hex>
    AWSTraceHeader  Root=1-<trace id: 8 hex>-<24 hex>;Parent=<span id, 16 hex>;Sampled=<0 or 1>
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeGuard

Carried = Mapping[str, str]
"""``traceparent``, and ``tracestate`` if there is one."""

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
_MOST = 512
"""Characters of each. W3C: a longer state may be dropped; no version's parent has a tenth of that."""
_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NAME = r"[_0-9a-z\-*/]"
_MEMBER = rf"(?:[a-z]{_NAME}{{0,255}}|[a-z0-9]{_NAME}{{0,240}}@[a-z]{_NAME}{{0,13}})=[ -+\--<>-~]{{0,255}}[!-+\--<>-~]"
_STATE_MEMBER = re.compile(rf"[ \t]*(?:{_MEMBER})?[ \t]*")
_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")


def carried_in(names: Mapping[str, str] | None) -> Carried | None:
    """The trace context among attributes; None: there is none, or none that can be read. Of a state the same.

    Anybody may have sent them, and whoever parses them next may be slow about what is long, or log what is malformed.
    """
    if not names or not isinstance(names, Mapping):
        return None
    parent, state = names.get(TRACEPARENT), names.get(TRACESTATE)
    if not isinstance(parent, str) or len(parent) > _MOST or not _PARENT.fullmatch(parent):
        return None
    return {TRACEPARENT: parent, TRACESTATE: state} if _is_state(state) else {TRACEPARENT: parent}


def _is_state(state: object) -> TypeGuard[str]:
    # INVARIANT: test_a_state_that_is_none_is_left_behind
    return isinstance(state, str) and 0 < len(state) <= _MOST and all(map(_STATE_MEMBER.fullmatch, state.split(",")))


def short(carried: Carried) -> Carried:
    """The same without a state that is longer than a carrier need take."""
    state = carried.get(TRACESTATE, "")
    return carried if len(state) <= _MOST else {TRACEPARENT: carried[TRACEPARENT]}


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
