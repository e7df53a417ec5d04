"""Where a message's trace context is. What happens at a message's own limits is in the contract of engines."""

from __future__ import annotations

from streamkit.engines.memory import MemoryEngine
from streamkit.functions.effects import Effects
from streamkit.limits import Limits
from streamkit.queues.carried import carried_by, carrying
from streamkit.queues.message import MessageAttribute, QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.testing.clock import ManualClock
from tests.test_trace_context import HEADER, PARENT

CONTEXT = {"traceparent": PARENT}
TEXT = MessageAttribute("String", PARENT)


def test_an_attribute_goes_before_a_header() -> None:
    other = HEADER.replace("Parent=b", "Parent=c")
    assert carried_by(SendEntry(b"x", attributes={"traceparent": TEXT}, trace_header=other)) == CONTEXT
    assert carried_by(SendEntry(b"x", trace_header=HEADER)) == CONTEXT
    assert carried_by(SendEntry(b"x")) is None
    state = MessageAttribute("String", "a=1")
    assert carried_by(SendEntry(b"x", attributes={"traceparent": TEXT, "tracestate": state})) == {
        **CONTEXT,
        "tracestate": "a=1",
    }


def test_an_attribute_that_is_no_context_is_none() -> None:
    binary = MessageAttribute("Binary", None, PARENT.encode())
    for attribute in (binary, MessageAttribute("String", "hello")):
        entry = SendEntry(b"x", attributes={"traceparent": attribute})
        assert carried_by(entry) is None
        # And it is not replaced.
        placed = carrying(entry, CONTEXT, most=10, room=1000)
        assert (placed.attributes, placed.trace_header) == (entry.attributes, HEADER)


async def test_a_context_makes_no_batch_too_large() -> None:
    """A batch that is full of bodies carries contexts in trace headers; so does a commit."""
    engine = MemoryEngine(ManualClock(), Limits.aws())
    await engine.queues.create_queue("q", QueueAttributes())
    half = engine.limits.send_bytes // 2
    # There is room for two of three.
    size = len("traceparent") + len("String") + len(PARENT)
    bodies = [b"a" * half, b"b" * (half - 2 * size - 10), b"c" * 10]
    entries = tuple(SendEntry(body, context=CONTEXT) for body in bodies)
    assert [result.error for result in await engine.queues.send_messages("q", entries)] == [None] * 3
    await engine.commit(Effects(sends=(("q", entries),)))
    peeked = await engine.queues.peek_messages("q", 10)
    found = [(message.body[:1], bool(message.attributes), message.trace_header) for message in peeked]
    assert found == [(b"a", True, None), (b"b", True, None), (b"c", False, HEADER)] * 2
    assert [carried_by(message) for message in peeked] == [CONTEXT] * 6
    await engine.aclose()
