"""What every queue store does with a message's attributes and age, with a queue's attributes, and with tenants."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from streamkit.engines.base import Engine
from streamkit.errors import NotFoundError, ValidationError
from streamkit.queues.message import MessageAttribute, QueueAttributes, RedriveAllowPolicy, RedrivePolicy
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.queues import counts, receive, send
from streamkit.testing.contract.terms import Contract, raises


class MessageContract(Contract):
    """Attributes, retention, purge, changes, and the dead-letter queue's side."""

    async def test_attributes_come_back_as_they_were_sent(self, engine: Engine, clock: ManualClock) -> None:
        """Also from a dead-letter queue, and after a redrive."""
        await engine.queues.create_queue("dead", QueueAttributes())
        policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
        await engine.queues.create_queue("q", QueueAttributes(redrive_policy=policy, visibility_timeout_ms=0))
        attributes = {
            "kind": MessageAttribute("String", "invoice"),
            "total": MessageAttribute("Number.float", "12.50"),
            "raw": MessageAttribute("Binary", None, b"\x00\xff"),
        }
        entry = SendEntry(b"x", attributes=attributes, trace_header="Root=1-5759e988", group_id="tenant")
        (sent,) = await engine.queues.send_messages("q", [entry])
        (message,) = await receive(engine.queues, "q")
        assert (message.attributes, message.trace_header, message.group_id) == (attributes, "Root=1-5759e988", "tenant")
        assert await receive(engine.queues, "q") == []
        (dead,) = await engine.queues.peek_messages("dead", 10)
        assert (dead.message_id, dead.attributes, dead.trace_header) == (sent.message_id, attributes, "Root=1-5759e988")
        assert await engine.queues.move_messages("dead", [dead.message_id], "q") == 1
        (message,) = await receive(engine.queues, "q")
        assert (message.attributes, message.receive_count) == (attributes, 1)

    async def test_a_context_is_carried_where_there_is_room(self, engine: Engine, clock: ManualClock) -> None:
        """As attributes; else in the trace header, which counts for nothing; else nowhere. It refuses no message."""
        most = engine.limits.message_attributes
        await engine.queues.create_queue("q", QueueAttributes(maximum_message_bytes=1024))
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        context = {"traceparent": parent, "tracestate": "a=1"}
        header = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
        added = sum(len(name) + len("String") + len(text) for name, text in context.items())
        named = {f"n{n}": MessageAttribute("String", "v") for n in range(most - 1)}
        entries = {
            b"plain": SendEntry(b"plain", context=context),
            b"f" * (1024 - added): SendEntry(b"f" * (1024 - added), context=context),
            b"l" * (1025 - added): SendEntry(b"l" * (1025 - added), context=context),
            b"own": SendEntry(b"own", trace_header="Root=1-own", context=context),
            b"o" * 1024: SendEntry(b"o" * 1024, trace_header="Root=1-own", context=context),
            b"taken": SendEntry(b"taken", attributes={"tracestate": MessageAttribute("String", "b")}, context=context),
        }
        if most <= 10:
            entries[b"many"] = SendEntry(b"many", attributes=named, context=context)
        for entry in entries.values():
            assert [result.error for result in await engine.queues.send_messages("q", [entry])] == [None]
        carried = {name: MessageAttribute("String", text) for name, text in context.items()}
        peeked = await engine.queues.peek_messages("q", 10)
        found = {message.body: (message.attributes, message.trace_header) for message in peeked}
        expected = {
            b"plain": (carried, None),
            b"f" * (1024 - added): (carried, None),
            b"l" * (1025 - added): ({}, header),
            b"own": (carried, "Root=1-own"),
            b"o" * 1024: ({}, "Root=1-own"),
            b"taken": ({"tracestate": MessageAttribute("String", "b")}, header),
            b"many": (named, header),
        }
        assert found == {body: expected[body] for body in entries}

    async def test_an_entry_that_is_not_valid_is_refused_alone(self, engine: Engine, clock: ManualClock) -> None:
        """And the others are stored, in order."""
        await engine.queues.create_queue("q", QueueAttributes(maximum_message_bytes=1024))
        bad: list[Any] = [
            SendEntry(b""),
            SendEntry("text"),  # type: ignore[arg-type]
            SendEntry(b"x" * 1025),
            SendEntry(b"x" * 1020, attributes={"name": MessageAttribute("String", "v")}),
            SendEntry(b"x", attributes={"AWS.name": MessageAttribute("String", "v")}),
            SendEntry(b"x", attributes={"name": MessageAttribute("Number", "many")}),
            SendEntry(b"x", attributes={"name": MessageAttribute("String", "\ud800")}),
            SendEntry(b"x", trace_header="\ud800"),
            SendEntry(b"x", group_id=""),
            SendEntry(b"x", delay_ms=-1),
        ]
        good = [SendEntry(b"1"), SendEntry(b"x" * 1024), SendEntry(b"2")]
        for entry in bad:
            results = await engine.queues.send_messages("q", [good[0], entry, good[2]])
            assert [isinstance(result.error, ValidationError) for result in results] == [False, True, False], entry
        results = await engine.queues.send_messages("q", good)
        assert [result.error for result in results] == [None] * 3
        assert await counts(engine.queues, "q") == (2 * len(bad) + 3, 0, 0)

    # ---- age

    async def test_messages_that_are_too_old_are_gone(self, engine: Engine, clock: ManualClock) -> None:
        """Wherever they stand: visible, delayed or in flight."""
        await engine.queues.create_queue("q", QueueAttributes(retention_ms=60_000, visibility_timeout_ms=3_600_000))
        await send(engine.queues, "q", b"in flight")
        (held,) = await receive(engine.queues, "q")
        await send(engine.queues, "q", b"visible")
        await send(engine.queues, "q", b"delayed", delay_ms=900_000)
        await clock.advance(30)
        await send(engine.queues, "q", b"young")
        await clock.advance(30.001)
        assert await counts(engine.queues, "q") == (1, 0, 0)
        assert [m.body for m in await engine.queues.peek_messages("q", 10)] == [b"young"]
        assert await engine.queues.delete_messages("q", [held.receipt_handle]) == [None]
        assert [m.body for m in await receive(engine.queues, "q")] == [b"young"]

    async def test_a_shorter_retention_counts_at_once(self, engine: Engine, clock: ManualClock) -> None:
        """And a longer one brings nothing back."""
        await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", b"old")
        await clock.advance(61)
        await send(engine.queues, "q", b"new")
        await engine.queues.update_queue("q", QueueAttributes(retention_ms=60_000))
        await engine.queues.update_queue("q", QueueAttributes())
        assert [m.body for m in await receive(engine.queues, "q")] == [b"new"]

    async def test_a_dead_letter_goes_on_ageing(self, engine: Engine, clock: ManualClock) -> None:
        """From when it was sent; but the oldest of the queue is told from when it came."""
        await engine.queues.create_queue("dead", QueueAttributes(retention_ms=100_000))
        policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
        await engine.queues.create_queue("q", QueueAttributes(redrive_policy=policy, visibility_timeout_ms=0))
        await send(engine.queues, "q", b"x")
        await receive(engine.queues, "q")
        await clock.advance(60)
        await receive(engine.queues, "q")
        moved_ms = clock.now_ms()
        await send(engine.queues, "dead", b"sent here")
        (dead,) = await engine.queues.describe_queues(["dead"])
        assert dead.oldest_ms == moved_ms
        await clock.advance(40.001)
        assert [m.body for m in await engine.queues.peek_messages("dead", 10)] == [b"sent here"]

    async def test_the_oldest_message(self, engine: Engine, clock: ManualClock) -> None:
        """Is the one that nobody deleted yet."""
        await engine.queues.create_queue("q", QueueAttributes())
        (queue,) = await engine.queues.describe_queues(["q"])
        assert queue.oldest_ms is None
        sent_ms = clock.now_ms()
        await send(engine.queues, "q", b"1", b"2")
        await clock.advance(5)
        await send(engine.queues, "q", b"3")
        one, two, _ = await receive(engine.queues, "q")
        (queue,) = await engine.queues.describe_queues(["q"])
        assert queue.oldest_ms == sent_ms
        await engine.queues.delete_messages("q", [one.receipt_handle, two.receipt_handle])
        (queue,) = await engine.queues.describe_queues(["q"])
        assert queue.oldest_ms == sent_ms + 5_000

    # ---- the queue itself

    async def test_attributes_change_at_once(self, engine: Engine, clock: ManualClock) -> None:
        """For what is received from then on; a delay for what is sent from then on."""
        await engine.queues.create_queue("q", QueueAttributes(delay_ms=60_000))
        await send(engine.queues, "q", b"waits")
        await clock.advance(1)
        await engine.queues.update_queue("q", QueueAttributes(visibility_timeout_ms=5_000))
        await send(engine.queues, "q", b"at once")
        assert [m.body for m in await receive(engine.queues, "q")] == [b"at once"]
        await clock.advance(5)
        assert [m.body for m in await receive(engine.queues, "q")] == [b"at once"]
        (queue,) = await engine.queues.describe_queues(["q"])
        assert queue.attributes == QueueAttributes(visibility_timeout_ms=5_000)
        assert queue.modified_ms == queue.created_ms + 1_000

    async def test_attributes_that_cannot_be(self, engine: Engine, clock: ManualClock) -> None:
        """Are refused at creation and at a change, and nothing changes."""
        await engine.queues.create_queue("q", QueueAttributes())
        bad: list[dict[str, Any]] = [
            {"visibility_timeout_ms": 43_200_001},
            {"visibility_timeout_ms": 1.5},
            {"delay_ms": -1},
            {"receive_wait_ms": -1},
            {"retention_ms": 0},
            {"retention_ms": True},
            {"maximum_message_bytes": 1023},
            {"maximum_message_bytes": self.limits.message_bytes + 1},
            {"delay_ms": round(self.limits.delay_seconds * 1000) + 1},
            {"content_based_deduplication": True},
            {"deduplication_scope": "messageGroup"},
            {"fifo_throughput_limit": "perMessageGroupId"},
            {"fifo": True, "deduplication_scope": "everything"},
            {"fifo": True, "fifo_throughput_limit": "perMessageGroupId"},
        ]
        for changes in bad:
            attributes = replace(QueueAttributes(), **changes)
            with raises(ValidationError):
                await engine.queues.create_queue("new.fifo" if attributes.fifo else "new", attributes)
            with raises(ValidationError):
                await engine.queues.update_queue("q", attributes)
        itself = QueueAttributes(redrive_policy=RedrivePolicy(dead_letter_queue="q", max_receive_count=1))
        with raises(ValidationError):
            await engine.queues.update_queue("q", itself)
        missing = QueueAttributes(redrive_policy=RedrivePolicy(dead_letter_queue="missing", max_receive_count=1))
        with raises(NotFoundError):
            await engine.queues.update_queue("q", missing)
        (queue,) = await engine.queues.describe_queues()
        assert (queue.name, queue.attributes) == ("q", QueueAttributes())

    async def test_a_purge_takes_everything(self, engine: Engine, clock: ManualClock) -> None:
        """Visible, in flight and delayed; handles from before are of no use, and what is sent afterwards stays."""
        await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", b"1", b"2")
        (held, _) = await receive(engine.queues, "q")
        await send(engine.queues, "q", b"3")
        await send(engine.queues, "q", b"4", delay_ms=60_000)
        assert await engine.queues.purge_queue("q") == 4
        assert await counts(engine.queues, "q") == (0, 0, 0)
        await send(engine.queues, "q", b"5")
        assert await engine.queues.delete_messages("q", [held.receipt_handle]) == [None]
        await clock.advance(3_600)
        assert [m.body for m in await receive(engine.queues, "q")] == [b"5"]
        assert await engine.queues.purge_queue("q") == 1
        assert await engine.queues.purge_queue("q") == 0

    # ---- dead-letter queues

    async def test_who_may_be_a_dead_letter_queue(self, engine: Engine, clock: ManualClock) -> None:
        """One of the same kind, that allows it."""
        await engine.queues.create_queue("dead.fifo", QueueAttributes(fifo=True))
        only = RedriveAllowPolicy(redrive_permission="byQueue", source_queues=("friend",))
        await engine.queues.create_queue("only", QueueAttributes(redrive_allow_policy=only))
        none = RedriveAllowPolicy(redrive_permission="denyAll")
        await engine.queues.create_queue("none", QueueAttributes(redrive_allow_policy=none))
        for dead in ("dead.fifo", "only", "none"):
            policy = RedrivePolicy(dead_letter_queue=dead, max_receive_count=1)
            with raises(ValidationError):
                await engine.queues.create_queue("q", QueueAttributes(redrive_policy=policy))
        policy = RedrivePolicy(dead_letter_queue="only", max_receive_count=1)
        await engine.queues.create_queue("friend", QueueAttributes(redrive_policy=policy))

    async def test_an_eager_policy_moves_while_nobody_receives(self, engine: Engine, clock: ManualClock) -> None:
        """When the last timeout ends, or at once when the message is shown; with the last error."""
        await engine.queues.create_queue("dead", QueueAttributes())
        policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=2, eager=True)
        await engine.queues.create_queue("q", QueueAttributes(redrive_policy=policy))
        await send(engine.queues, "q", b"1", b"2")
        await receive(engine.queues, "q")
        await clock.advance(30)
        one, two = await receive(engine.queues, "q")
        failed = VisibilityEntry(one.receipt_handle, 0, "ValueError: \ud800" + "!" * 5_000)
        assert await engine.queues.change_visibility("q", [failed]) == [None]
        assert await counts(engine.queues, "dead") == (1, 0, 0)
        assert await counts(engine.queues, "q") == (0, 1, 0)
        await clock.advance(30)
        assert await counts(engine.queues, "dead") == (2, 0, 0)
        first, second = await engine.queues.peek_messages("dead", 10)
        assert (first.message_id, second.message_id) == (one.message_id, two.message_id)
        assert first.last_error is not None
        assert first.last_error.startswith("ValueError: ?!")
        assert len(first.last_error) <= 1_000
        assert second.last_error is None

    async def test_an_eager_policy_that_empties_a_queue_ends_its_receives(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """As a call that only moved messages: so whoever waits for the queue to be empty learns of it."""
        await engine.queues.create_queue("dead", QueueAttributes())
        policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1, eager=True)
        await engine.queues.create_queue("q", QueueAttributes(redrive_policy=policy))
        await send(engine.queues, "q", b"1", b"2")
        (one,) = await engine.queues.receive_messages("q", 1, 10_000)
        (two,) = await engine.queues.receive_messages("q", 1, 15_000)
        waiting = [asyncio.ensure_future(engine.queues.receive_messages("q", 1, None, 20_000)) for _ in range(2)]
        await clock.advance(10)
        assert await counts(engine.queues, "dead") == (1, 0, 0)
        assert not any(each.done() for each in waiting)
        await clock.advance(5)
        assert await asyncio.gather(*waiting) == [[], []]
        assert await counts(engine.queues, "dead") == (2, 0, 0)
        assert {each.message_id for each in await engine.queues.peek_messages("dead", 2)} == {
            one.message_id,
            two.message_id,
        }

    async def test_quiet_tenants_come_before_a_noisy_one(self, engine: Engine, clock: ManualClock) -> None:
        """On a standard queue: who holds most of what is in flight waits, unless nothing else does."""
        await engine.queues.create_queue("q", QueueAttributes())
        noisy = [SendEntry(b"noisy", group_id="noisy")] * 10
        for _ in range(20):
            await engine.queues.send_messages("q", noisy)
        for _ in range(10):
            await engine.queues.receive_messages("q", 10, None, 0)
        await engine.queues.send_messages("q", [SendEntry(b"quiet", group_id=f"t{n}") for n in range(5)])
        # Somebody is noisy among others: so it shows with the next of its own messages.
        assert [m.body for m in await engine.queues.receive_messages("q", 1, None, 0)] == [b"noisy"]
        found = await engine.queues.receive_messages("q", 10, None, 0)
        assert [m.body for m in found] == [b"quiet"] * 5 + [b"noisy"] * 5
        (queue,) = await engine.queues.describe_queues(["q"])
        assert queue.noisy_groups == 1
        assert (queue.visible_in_quiet_groups, queue.not_visible_in_quiet_groups) == (0, 5)

    async def test_the_age_and_the_delays_of_quiet_tenants_are_told_apart(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """The oldest message that no noisy tenant sent, and how many of the delayed ones; all of them in calm times."""
        await engine.queues.create_queue("q", QueueAttributes())
        sent_ms = clock.now_ms()
        await engine.queues.send_messages("q", [SendEntry(b"noisy", group_id="noisy")] * 10)
        await engine.queues.send_messages("q", [SendEntry(b"later", delay_ms=60_000, group_id="noisy")] * 3)
        await clock.advance(1)
        await engine.queues.send_messages("q", [SendEntry(b"quiet", group_id="quiet"), SendEntry(b"of nobody")])
        await engine.queues.send_messages("q", [SendEntry(b"later", delay_ms=60_000, group_id="quiet")])
        (queue,) = await engine.queues.describe_queues(["q"])
        assert (queue.delayed_in_quiet_groups, queue.oldest_in_quiet_groups_ms) == (4, sent_ms)
        held = await engine.queues.receive_messages("q", 10, 90_000, 0)
        assert {m.body for m in held} == {b"noisy"}
        (queue,) = await engine.queues.describe_queues(["q"])
        assert (queue.oldest_ms, queue.delayed) == (sent_ms, 4)
        assert (queue.delayed_in_quiet_groups, queue.oldest_in_quiet_groups_ms) == (1, sent_ms + 1_000)
        # AWS: a message received three times in vain does not stand for the others.
        for _ in range(3):
            one, other = await engine.queues.receive_messages("q", 2, 0, 0)
            assert {one.body, other.body} == {b"quiet", b"of nobody"}
        await clock.advance(60)
        (queue,) = await engine.queues.describe_queues(["q"])
        assert (queue.delayed_in_quiet_groups, queue.oldest_in_quiet_groups_ms) == (0, sent_ms + 1_000)
        await engine.queues.delete_messages("q", [m.receipt_handle for m in held])
        (queue,) = await engine.queues.describe_queues(["q"])
        assert (queue.noisy_groups, queue.oldest_in_quiet_groups_ms) == (0, queue.oldest_ms)
