"""What every queue store does with FIFO queues: order per message group, deduplication, receive attempts."""

from __future__ import annotations

from streamkit.engines.base import Engine
from streamkit.errors import MessageNotInflightError, ValidationError
from streamkit.queues.message import QueueAttributes, ReceivedMessage, RedrivePolicy
from streamkit.queues.store import QueueStore, SendEntry, SendResult, VisibilityEntry
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.terms import Contract, raises, soon, waiting

FIVE_MINUTES = 300.0
FIFO = QueueAttributes(fifo=True)


async def send(queues: QueueStore, *messages: str, name: str = "q.fifo") -> list[SendResult]:
    """Send ``group:id`` messages, each with itself as body and deduplication id."""
    entries = [SendEntry(m.encode(), group_id=m.partition(":")[0], deduplication_id=m) for m in messages]
    results = await queues.send_messages(name, entries)
    assert [result.error for result in results] == [None] * len(messages)
    return results


async def receive(queues: QueueStore, limit: int = 10, name: str = "q.fifo") -> list[ReceivedMessage]:
    """Receive without waiting."""
    return await soon(queues.receive_messages(name, limit, None, 0))


def bodies(messages: list[ReceivedMessage]) -> list[str]:
    """What was received."""
    return [message.body.decode() for message in messages]


async def delete(queues: QueueStore, *messages: ReceivedMessage, name: str = "q.fifo") -> None:
    """Delete them, which must succeed."""
    assert await queues.delete_messages(name, [m.receipt_handle for m in messages]) == [None] * len(messages)


class FifoContract(Contract):
    """FIFO queues."""

    async def test_a_call_drains_a_group_and_then_goes_on(self, engine: Engine, clock: ManualClock) -> None:
        """In order within each group."""
        await engine.queues.create_queue("q.fifo", FIFO)
        await send(engine.queues, "a:1", "b:1", "a:2", "b:2", "a:3")
        assert bodies(await receive(engine.queues, 4)) == ["a:1", "a:2", "a:3", "b:1"]

    async def test_a_group_waits_for_what_is_in_flight(self, engine: Engine, clock: ManualClock) -> None:
        """New messages do not unblock it; the last delete does."""
        await engine.queues.create_queue("q.fifo", FIFO)
        await send(engine.queues, "a:1", "a:2", "a:3", "b:1")
        one, two = await receive(engine.queues, 2)
        assert bodies([one, two]) == ["a:1", "a:2"]
        await send(engine.queues, "a:4")
        assert bodies(await receive(engine.queues)) == ["b:1"]
        assert await receive(engine.queues) == []
        await delete(engine.queues, one)
        assert await receive(engine.queues) == []
        await delete(engine.queues, two)
        assert bodies(await receive(engine.queues)) == ["a:3", "a:4"]

    async def test_a_waiting_receive_hears_of_the_delete(self, engine: Engine, clock: ManualClock) -> None:
        """That unblocks the group."""
        await engine.queues.create_queue("q.fifo", FIFO)
        await send(engine.queues, "a:1", "a:2")
        (one,) = await receive(engine.queues, 1)
        task = await waiting(clock, engine.queues.receive_messages("q.fifo", 10, None, 20_000))
        await delete(engine.queues, one)
        assert bodies(await soon(task)) == ["a:2"]

    async def test_redelivery_begins_with_the_oldest(self, engine: Engine, clock: ManualClock) -> None:
        """After a timeout."""
        await engine.queues.create_queue("q.fifo", FIFO)
        await send(engine.queues, "a:1", "a:2", "a:3")
        assert bodies(await receive(engine.queues, 2)) == ["a:1", "a:2"]
        await clock.advance(30)
        assert bodies(await receive(engine.queues)) == ["a:1", "a:2", "a:3"]

    async def test_an_earlier_message_that_is_shown_comes_and_what_follows_waits(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """A message that is still hidden hides itself and everything after it."""
        await engine.queues.create_queue("q.fifo", FIFO)
        await send(engine.queues, "a:1", "a:2", "a:3")
        one, two = await receive(engine.queues, 2)
        shown = [VisibilityEntry(one.receipt_handle, 0)]
        assert await engine.queues.change_visibility("q.fifo", shown) == [None]
        assert bodies(await receive(engine.queues)) == ["a:1"]
        assert two.receive_count == 1

    async def test_a_stale_handle_is_refused(self, engine: Engine, clock: ManualClock) -> None:
        """Also of the latest receive, once its timeout has ended; one that was extended in time is not stale."""
        await engine.queues.create_queue("q.fifo", FIFO)
        await send(engine.queues, "a:1")
        (one,) = await receive(engine.queues)
        entry = VisibilityEntry(one.receipt_handle, 40_000)
        assert await engine.queues.change_visibility("q.fifo", [entry]) == [None]
        await clock.advance(39)
        extended = VisibilityEntry(one.receipt_handle, 5_000)
        assert await engine.queues.change_visibility("q.fifo", [extended]) == [None]
        await clock.advance(5)
        (error,) = await engine.queues.delete_messages("q.fifo", [one.receipt_handle])
        assert isinstance(error, MessageNotInflightError)
        assert bodies(await receive(engine.queues)) == ["a:1"]

    async def test_sequence_numbers_rise(self, engine: Engine, clock: ManualClock) -> None:
        """And are the same at the receive."""
        await engine.queues.create_queue("q.fifo", FIFO)
        sent = [result.sequence_number for result in await send(engine.queues, "a:1", "b:1", "a:2")]
        assert all(number is not None for number in sent)
        assert sorted(sent) == sent  # type: ignore[type-var]
        received = {m.body: m.sequence_number for m in await receive(engine.queues)}
        assert [received[body] for body in (b"a:1", b"b:1", b"a:2")] == sent

    # ---- deduplication

    async def test_a_repeat_within_five_minutes_is_the_original(self, engine: Engine, clock: ManualClock) -> None:
        """Also when it was received and deleted; and a repeat does not lengthen the window."""
        await engine.queues.create_queue("q.fifo", FIFO)
        (first,) = await send(engine.queues, "a:1")
        await delete(engine.queues, *await receive(engine.queues))
        await clock.advance(FIVE_MINUTES - 1)
        (again,) = await send(engine.queues, "a:1")
        assert (again.message_id, again.sequence_number) == (first.message_id, first.sequence_number)
        assert again.duplicate
        assert not first.duplicate
        assert await receive(engine.queues) == []
        await clock.advance(1)
        (new,) = await send(engine.queues, "a:1")
        assert not new.duplicate
        assert new.message_id != first.message_id

    async def test_duplicates_within_a_call(self, engine: Engine, clock: ManualClock) -> None:
        """Are found as well."""
        await engine.queues.create_queue("q.fifo", FIFO)
        one, two, three = await send(engine.queues, "a:1", "a:1", "a:2")
        assert (two.duplicate, two.message_id, three.duplicate) == (True, one.message_id, False)
        assert bodies(await receive(engine.queues)) == ["a:1", "a:2"]

    async def test_the_scope_of_an_id(self, engine: Engine, clock: ManualClock) -> None:
        """The queue, or the message group."""
        await engine.queues.create_queue("q.fifo", FIFO)
        each = QueueAttributes(fifo=True, deduplication_scope="messageGroup")
        await engine.queues.create_queue("each.fifo", each)
        entries = [SendEntry(b"x", group_id=group, deduplication_id="same") for group in ("a", "b", "a")]
        results = await engine.queues.send_messages("q.fifo", entries)
        assert [result.duplicate for result in results] == [False, True, True]
        results = await engine.queues.send_messages("each.fifo", entries)
        assert [result.duplicate for result in results] == [False, False, True]

    async def test_by_content(self, engine: Engine, clock: ManualClock) -> None:
        """The SHA-256 of the body, in one space with explicit ids; attributes do not count."""
        await engine.queues.create_queue("q.fifo", QueueAttributes(fifo=True, content_based_deduplication=True))
        sha = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        entries = [
            SendEntry(b"x", group_id="a"),
            SendEntry(b"x", group_id="b"),
            SendEntry(b"y", group_id="a", deduplication_id=sha),
            SendEntry(b"x", group_id="a", deduplication_id="another"),
        ]
        results = await engine.queues.send_messages("q.fifo", entries)
        assert [result.duplicate for result in results] == [False, True, True, False]
        assert (await receive(engine.queues))[0].deduplication_id == sha

    async def test_a_purge_clears_what_is_remembered(self, engine: Engine, clock: ManualClock) -> None:
        """So the same may be sent again."""
        await engine.queues.create_queue("q.fifo", FIFO)
        await send(engine.queues, "a:1", "b:1")
        await receive(engine.queues, 1)
        assert await engine.queues.purge_queue("q.fifo") == 2
        (again,) = await send(engine.queues, "a:1")
        assert not again.duplicate
        assert bodies(await receive(engine.queues)) == ["a:1"]

    # ---- receive attempts

    async def test_a_repeated_attempt_gets_the_same_deliveries(self, engine: Engine, clock: ManualClock) -> None:
        """With the same handles, hidden anew, and not counted again."""
        await engine.queues.create_queue("q.fifo", FIFO)
        await send(engine.queues, "a:1", "a:2", "b:1")
        first = await engine.queues.receive_messages("q.fifo", 2, None, 0, "attempt")
        await clock.advance(20)
        again = await engine.queues.receive_messages("q.fifo", 2, None, 0, "attempt")
        assert [m.receipt_handle for m in again] == [m.receipt_handle for m in first]
        assert [m.receive_count for m in again] == [1, 1]
        await clock.advance(20)
        await delete(engine.queues, *first)
        assert bodies(await engine.queues.receive_messages("q.fifo", 10, None, 0, "attempt")) == ["b:1"]

    async def test_an_attempt_ends_after_five_minutes(self, engine: Engine, clock: ManualClock) -> None:
        """Then the id is a new one."""
        await engine.queues.create_queue("q.fifo", QueueAttributes(fifo=True, visibility_timeout_ms=3_600_000))
        await send(engine.queues, "a:1", "b:1")
        (one,) = await engine.queues.receive_messages("q.fifo", 1, None, 0, "attempt")
        await clock.advance(FIVE_MINUTES + 1)
        assert bodies(await engine.queues.receive_messages("q.fifo", 10, None, 0, "attempt")) == ["b:1"]
        await delete(engine.queues, one)

    # ---- what is refused, and dead letters

    async def test_what_a_fifo_queue_needs(self, engine: Engine, clock: ManualClock) -> None:
        """A name that says so, a group, an id; and none of it on a standard queue, but for the group."""
        for name, attributes in (("q", FIFO), ("q.fifo", QueueAttributes())):
            with raises(ValidationError):
                await engine.queues.create_queue(name, attributes)
        await engine.queues.create_queue("q.fifo", FIFO)
        await engine.queues.create_queue("q", QueueAttributes())
        entries = [
            SendEntry(b"1", deduplication_id="1"),
            SendEntry(b"2", group_id="a"),
            SendEntry(b"3", group_id="a", deduplication_id="3", delay_ms=1_000),
            SendEntry(b"4", group_id="with space", deduplication_id="4"),
            SendEntry(b"5", group_id="a", deduplication_id="5", delay_ms=0),
        ]
        results = await engine.queues.send_messages("q.fifo", entries)
        assert [isinstance(result.error, ValidationError) for result in results] == [True, True, True, True, False]
        assert bodies(await receive(engine.queues)) == ["5"]
        entries = [SendEntry(b"1", group_id="tenant"), SendEntry(b"2", deduplication_id="2")]
        results = await engine.queues.send_messages("q", entries)
        assert [isinstance(result.error, ValidationError) for result in results] == [False, True]
        with raises(ValidationError):
            await engine.queues.receive_messages("q", 1, None, 0, "attempt")

    async def test_a_dead_letter_releases_its_group(self, engine: Engine, clock: ManualClock) -> None:
        """Within the same receive; group and ids are kept, and its time begins again."""
        await engine.queues.create_queue("dead.fifo", FIFO)
        policy = RedrivePolicy(dead_letter_queue="dead.fifo", max_receive_count=1)
        await engine.queues.create_queue("q.fifo", QueueAttributes(fifo=True, redrive_policy=policy))
        await send(engine.queues, "a:1", "a:2")
        await receive(engine.queues, 1)
        await clock.advance(30)
        assert bodies(await receive(engine.queues)) == ["a:2"]
        (dead,) = await receive(engine.queues, name="dead.fifo")
        assert (dead.group_id, dead.deduplication_id, dead.receive_count) == ("a", "a:1", 2)
        assert (dead.dead_letter_source, dead.sent_ms) == ("q.fifo", clock.now_ms())

    async def test_a_new_delay_counts_for_those_that_wait(self, engine: Engine, clock: ManualClock) -> None:
        """On a FIFO queue."""
        await engine.queues.create_queue("q.fifo", QueueAttributes(fifo=True, delay_ms=60_000))
        await send(engine.queues, "a:1")
        assert await receive(engine.queues) == []
        await engine.queues.update_queue("q.fifo", QueueAttributes(fifo=True, delay_ms=10_000))
        await clock.advance(10)
        assert bodies(await receive(engine.queues)) == ["a:1"]
