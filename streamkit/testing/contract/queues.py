"""What every queue store does when queues are made and messages are sent and received."""

from __future__ import annotations

import asyncio
from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import AlreadyExistsError, NotFoundError, ReceiptHandleInvalidError, ValidationError
from streamkit.queues.message import QueueAttributes, ReceivedMessage, RedrivePolicy
from streamkit.queues.store import QueueStore, SendEntry, VisibilityEntry
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.terms import Contract, cancelled, raises, soon, waiting

TWELVE_HOURS_MS = 43_200_000


async def send(queues: QueueStore, name: str, *bodies: bytes, delay_ms: int | None = None) -> list[str]:
    """Send messages, in batches of ten; their ids."""
    ids: list[str] = []
    for start in range(0, len(bodies), 10):
        entries = [SendEntry(body, delay_ms) for body in bodies[start : start + 10]]
        results = await queues.send_messages(name, entries)
        assert [result.error for result in results] == [None] * len(entries)
        ids.extend(result.message_id for result in results)
    return ids


async def receive(queues: QueueStore, name: str, timeout_ms: int | None = None) -> list[ReceivedMessage]:
    """Receive up to ten messages, without waiting."""
    return await soon(queues.receive_messages(name, 10, timeout_ms, 0))


async def counts(queues: QueueStore, name: str) -> tuple[int, int, int]:
    """How many messages are visible, in flight and delayed."""
    (queue,) = await queues.describe_queues([name])
    return queue.visible, queue.not_visible, queue.delayed


class QueueContract(Contract):
    """Creating, describing and deleting queues; sending, receiving, waiting and peeking."""

    async def test_a_queue_is_described(self, engine: Engine, clock: ManualClock) -> None:
        """With its attributes as they were given, and exact counts."""
        await engine.queues.create_queue("dead", QueueAttributes())
        attributes = QueueAttributes(
            visibility_timeout_ms=0,
            delay_ms=1,
            receive_wait_ms=20_000,
            redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=1000),
        )
        queue = await engine.queues.create_queue("q", attributes)
        assert (queue.name, queue.created_ms, queue.attributes) == ("q", clock.now_ms(), attributes)
        assert (queue.visible, queue.not_visible, queue.delayed) == (0, 0, 0)
        assert await engine.queues.describe_queues(["q"]) == [queue]

    async def test_queues_are_described_by_name(self, engine: Engine, clock: ManualClock) -> None:
        """All of them sorted, or those asked for in the order asked for."""
        assert await engine.queues.describe_queues() == []
        for name in ("b", "C", "a"):
            await engine.queues.create_queue(name, QueueAttributes())
        assert [queue.name for queue in await engine.queues.describe_queues()] == ["C", "a", "b"]
        assert [queue.name for queue in await engine.queues.describe_queues(["b", "a", "b"])] == ["b", "a", "b"]
        assert await engine.queues.describe_queues([]) == []

    async def test_a_queue_name_is_taken_once(self, engine: Engine, clock: ManualClock) -> None:
        """Also with the same attributes, and what is there stays."""
        await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", b"kept")
        with raises(AlreadyExistsError) as taken:
            await engine.queues.create_queue("q", QueueAttributes())
        assert (taken.error.kind, taken.error.name) == ("queue", "q")
        assert await counts(engine.queues, "q") == (1, 0, 0)

    async def test_queue_names(self, engine: Engine, clock: ManualClock) -> None:
        """1 to 80 of a-z, A-Z, 0-9, '_' and '-'; case counts."""
        good = ["q", "Q", "0", "_", "-", "n" * 80]
        for name in good:
            await engine.queues.create_queue(name, QueueAttributes())
            await send(engine.queues, name, name.encode())
        for name in good:
            assert [message.body for message in await receive(engine.queues, name)] == [name.encode()]
        bad: list[Any] = ["", "n" * 81, "a b", "a.b", "a/b", "a\n", "é", "a\x00", "\ud800", None, b"q", 1]
        for name in bad:
            with raises(ValidationError):
                await engine.queues.create_queue(name, QueueAttributes())
        assert len(await engine.queues.describe_queues()) == len(good)

    async def test_queue_attributes_have_ranges(self, engine: Engine, clock: ManualClock) -> None:
        """A timeout to 12 hours, a delay to the engine's limit, no negative wait, a queue for dead letters."""
        longest_ms = round(self.limits.delay_seconds * 1000)
        for attributes in (
            QueueAttributes(visibility_timeout_ms=-1),
            QueueAttributes(visibility_timeout_ms=TWELVE_HOURS_MS + 1),
            QueueAttributes(delay_ms=-1),
            QueueAttributes(delay_ms=longest_ms + 1),
            QueueAttributes(receive_wait_ms=-1),
        ):
            with raises(ValidationError):
                await engine.queues.create_queue("q", attributes)
        with raises(NotFoundError) as missing:
            policy = RedrivePolicy(dead_letter_queue="nowhere", max_receive_count=1)
            await engine.queues.create_queue("q", QueueAttributes(redrive_policy=policy))
        assert (missing.error.kind, missing.error.name) == ("queue", "nowhere")
        assert await engine.queues.describe_queues() == []
        await engine.queues.create_queue(
            "q", QueueAttributes(visibility_timeout_ms=TWELVE_HOURS_MS, delay_ms=longest_ms)
        )

    async def test_an_unknown_queue_is_not_found(self, engine: Engine, clock: ManualClock) -> None:
        """By every method that names one."""
        queues = engine.queues
        await queues.create_queue("there", QueueAttributes())
        for call in (
            queues.delete_queue("q"),
            queues.describe_queues(["there", "q"]),
            queues.send_messages("q", [SendEntry(b"x")]),
            queues.receive_messages("q", 1),
            queues.delete_messages("q", ["x"]),
            queues.change_visibility("q", [VisibilityEntry("x", 0)]),
            queues.peek_messages("q", 1),
            queues.move_messages("q", ["x"], "there"),
            queues.move_messages("there", ["x"], "q"),
        ):
            with raises(NotFoundError) as missing:
                await call
            assert (missing.error.kind, missing.error.name) == ("queue", "q")

    async def test_a_deleted_queue_is_gone(self, engine: Engine, clock: ManualClock) -> None:
        """A later queue of its name has another id and none of its messages, and takes none of its receipt handles."""
        first = await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", b"a", b"b")
        (message, _) = await receive(engine.queues, "q")
        await engine.queues.delete_queue("q")
        with raises(NotFoundError):
            await engine.queues.describe_queues(["q"])
        second = await engine.queues.create_queue("q", QueueAttributes())
        assert second.queue_id != first.queue_id
        assert await counts(engine.queues, "q") == (0, 0, 0)
        await send(engine.queues, "q", b"new")
        (refused,) = await engine.queues.delete_messages("q", [message.receipt_handle])
        assert isinstance(refused, ReceiptHandleInvalidError)
        assert await counts(engine.queues, "q") == (1, 0, 0)

    async def test_a_message_comes_back_as_it_was_sent(self, engine: Engine, clock: ManualClock) -> None:
        """Body and id, when it was sent and first received, and how often."""
        await engine.queues.create_queue("q", QueueAttributes())
        sent_ms = clock.now_ms()
        body = bytes(range(256))
        (message_id,) = await send(engine.queues, "q", body)
        await clock.advance(7)
        (message,) = await receive(engine.queues, "q")
        assert (message.message_id, message.body) == (message_id, body)
        assert (message.sent_ms, message.first_received_ms, message.receive_count) == (sent_ms, clock.now_ms(), 1)
        assert message.dead_letter_source is None
        assert message.receipt_handle
        assert len(message.receipt_handle) <= 1024

    async def test_message_ids_are_unique(self, engine: Engine, clock: ManualClock) -> None:
        """Results are in the order of the entries; the same body twice is two messages."""
        await engine.queues.create_queue("q", QueueAttributes())
        ids = await send(engine.queues, "q", *[b"%d" % (i // 2) for i in range(30)])
        assert len(set(ids)) == 30
        found: dict[str, bytes] = {}
        while page := await receive(engine.queues, "q"):
            found.update((message.message_id, message.body) for message in page)
        assert [found[message_id] for message_id in ids] == [b"%d" % (i // 2) for i in range(30)]

    async def test_a_malformed_message_is_refused_alone(self, engine: Engine, clock: ManualClock) -> None:
        """The others of its batch are stored; the number of entries and the size of a body are bounded."""
        await engine.queues.create_queue("q", QueueAttributes())
        limits = self.limits
        wrong: list[Any] = [
            SendEntry(b""),
            SendEntry("text"),  # type: ignore[arg-type]
            SendEntry(None),  # type: ignore[arg-type]
            SendEntry(bytes(limits.message_bytes + 1)),
            SendEntry(b"x", -1),
            SendEntry(b"x", round(limits.delay_seconds * 1000) + 1),
        ]
        good = SendEntry(b"good")
        for entries in ([], [good] * (limits.send_messages + 1)):
            with raises(ValidationError):
                await engine.queues.send_messages("q", entries)
        assert await counts(engine.queues, "q") == (0, 0, 0)
        for entry in wrong:
            results = await engine.queues.send_messages("q", [good, entry, good])
            assert [isinstance(result.error, ValidationError) for result in results] == [False, True, False]
            assert [bool(result.message_id) for result in results] == [True, False, True]
        assert await counts(engine.queues, "q") == (2 * len(wrong), 0, 0)
        await engine.queues.send_messages("q", [SendEntry(bytes(limits.message_bytes))])
        assert await counts(engine.queues, "q") == (2 * len(wrong) + 1, 0, 0)

    async def test_a_received_message_is_hidden_for_its_timeout(self, engine: Engine, clock: ManualClock) -> None:
        """To the millisecond; each receive counts and gives a new receipt handle."""
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=30_000))
        await send(engine.queues, "q", b"a")
        first_ms = clock.now_ms()
        handles = set()
        for count in (1, 2, 3):
            (message,) = await receive(engine.queues, "q")
            assert (message.receive_count, message.first_received_ms) == (count, first_ms)
            handles.add(message.receipt_handle)
            await clock.advance(29.999)
            assert await receive(engine.queues, "q") == []
            assert await counts(engine.queues, "q") == (0, 1, 0)
            await clock.advance(0.001)
            assert await counts(engine.queues, "q") == (1, 0, 0)
        assert len(handles) == 3

    async def test_a_receive_may_have_a_timeout_of_its_own(self, engine: Engine, clock: ManualClock) -> None:
        """For the messages it returns only; 0 leaves them visible, and counts."""
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=30_000))
        await send(engine.queues, "q", b"a")
        assert [message.receive_count for message in await receive(engine.queues, "q", 0)] == [1]
        assert await counts(engine.queues, "q") == (1, 0, 0)
        assert [message.receive_count for message in await receive(engine.queues, "q", 5_000)] == [2]
        await clock.advance(4.999)
        assert await receive(engine.queues, "q") == []
        await clock.advance(0.001)
        assert [message.receive_count for message in await receive(engine.queues, "q", TWELVE_HOURS_MS)] == [3]
        await clock.advance(TWELVE_HOURS_MS / 1000)
        assert [message.receive_count for message in await receive(engine.queues, "q")] == [4]
        await clock.advance(29.999)
        assert await counts(engine.queues, "q") == (0, 1, 0)

    async def test_the_arguments_of_a_receive_have_ranges(self, engine: Engine, clock: ManualClock) -> None:
        """And a refused receive counts nothing."""
        await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", b"a")
        for max_messages, timeout_ms in (
            (0, None),
            (-1, None),
            (self.limits.receive_messages + 1, None),
            (1, -1),
            (1, TWELVE_HOURS_MS + 1),
        ):
            with raises(ValidationError):
                await engine.queues.receive_messages("q", max_messages, timeout_ms)
        (message,) = await engine.queues.receive_messages("q", self.limits.receive_messages)
        assert message.receive_count == 1

    async def test_messages_come_roughly_in_the_order_they_were_sent(self, engine: Engine, clock: ManualClock) -> None:
        """Ten by ten; a standard queue promises no more, and never more messages than asked for."""
        await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", *[b"%02d" % i for i in range(30)])
        for ten in range(3):
            bodies = [message.body for message in await receive(engine.queues, "q")]
            assert sorted(bodies) == [b"%02d" % i for i in range(10 * ten, 10 * ten + 10)]
        assert await receive(engine.queues, "q") == []
        await send(engine.queues, "q", b"a", b"b", b"c")
        assert len(await engine.queues.receive_messages("q", 2)) == 2

    async def test_delays(self, engine: Engine, clock: ManualClock) -> None:
        """A message's own delay replaces the queue's, also with 0; a delayed message is counted apart."""
        await engine.queues.create_queue("q", QueueAttributes(delay_ms=10_000))
        await send(engine.queues, "q", b"queue")
        await send(engine.queues, "q", b"own", delay_ms=5_000)
        await send(engine.queues, "q", b"none", delay_ms=0)
        assert await counts(engine.queues, "q") == (1, 0, 2)
        assert [message.body for message in await receive(engine.queues, "q")] == [b"none"]
        await clock.advance(4.999)
        assert await receive(engine.queues, "q") == []
        await clock.advance(0.001)
        assert [message.body for message in await receive(engine.queues, "q")] == [b"own"]
        await clock.advance(5)
        (message,) = await receive(engine.queues, "q")
        assert (message.body, message.sent_ms) == (b"queue", clock.now_ms() - 10_000)
        assert await counts(engine.queues, "q") == (0, 3, 0)

    async def test_peeking_neither_hides_nor_counts(self, engine: Engine, clock: ManualClock) -> None:
        """It shows the oldest visible messages, without a receipt handle."""
        await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", b"in flight")
        await receive(engine.queues, "q")
        ids = await send(engine.queues, "q", b"a", b"b", b"c")
        await send(engine.queues, "q", b"delayed", delay_ms=1_000)
        for _ in range(3):
            seen = await engine.queues.peek_messages("q", 2)
            assert [(m.message_id, m.body, m.receive_count, m.receipt_handle) for m in seen] == [
                (ids[0], b"a", 0, ""),
                (ids[1], b"b", 0, ""),
            ]
        assert [message.body for message in await engine.queues.peek_messages("q", 10)] == [b"a", b"b", b"c"]
        assert await counts(engine.queues, "q") == (3, 1, 1)
        assert [message.receive_count for message in await receive(engine.queues, "q")] == [1, 1, 1]
        assert await engine.queues.peek_messages("q", 10) == []

    # ---- waiting

    async def test_a_send_wakes_a_waiting_receive(self, engine: Engine, clock: ManualClock) -> None:
        """At once, with what there is: it never waits to fill the batch."""
        await engine.queues.create_queue("q", QueueAttributes())
        receiver = await waiting(clock, engine.queues.receive_messages("q", 10, None, 20_000))
        await clock.advance(1)
        before_ms = clock.now_ms()
        await send(engine.queues, "q", b"a")
        assert [message.body for message in await soon(receiver)] == [b"a"]
        assert clock.now_ms() == before_ms
        await send(engine.queues, "q", b"b")
        received = await soon(engine.queues.receive_messages("q", 10, None, 20_000))
        assert [message.body for message in received] == [b"b"]

    async def test_as_many_receives_wake_as_there_are_messages(self, engine: Engine, clock: ManualClock) -> None:
        """Each gets another message, and the others go on waiting."""
        await engine.queues.create_queue("q", QueueAttributes())
        receivers = [await waiting(clock, engine.queues.receive_messages("q", 1, None, 20_000)) for _ in range(4)]
        await send(engine.queues, "q", b"a", b"b", b"c")
        done, pending = await soon(_first(receivers, 3))
        assert sorted(task.result()[0].body for task in done) == [b"a", b"b", b"c"]
        await clock.advance(19.999)
        (last,) = pending
        assert not last.done()
        await clock.advance(0.001)
        assert await soon(last) == []

    async def test_the_end_of_a_visibility_timeout_wakes_a_waiting_receive(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """As a new message would."""
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=5_000))
        await send(engine.queues, "q", b"a")
        await receive(engine.queues, "q")
        receiver = await waiting(clock, engine.queues.receive_messages("q", 10, None, 20_000))
        await clock.advance(4.999)
        assert not receiver.done()
        await clock.advance(0.001)
        assert [message.receive_count for message in await soon(receiver)] == [2]

    async def test_the_end_of_a_delay_wakes_a_waiting_receive(self, engine: Engine, clock: ManualClock) -> None:
        """Also if the message was sent while it waited."""
        await engine.queues.create_queue("q", QueueAttributes())
        receiver = await waiting(clock, engine.queues.receive_messages("q", 10, None, 20_000))
        await send(engine.queues, "q", b"a", delay_ms=5_000)
        await clock.advance(4.999)
        assert not receiver.done()
        await clock.advance(0.001)
        assert [message.body for message in await soon(receiver)] == [b"a"]

    async def test_a_receive_waits_as_long_as_it_says_or_its_queue(self, engine: Engine, clock: ManualClock) -> None:
        """The call's own wait replaces the queue's, also with 0, and ends with an empty answer."""
        await engine.queues.create_queue("q", QueueAttributes(receive_wait_ms=10_000))
        for wait_ms, length in ((None, 10), (3_000, 3)):
            receiver = await waiting(clock, engine.queues.receive_messages("q", 10, None, wait_ms))
            await clock.advance(length - 0.001)
            assert not receiver.done()
            await clock.advance(0.001)
            assert await soon(receiver) == []
        assert await soon(engine.queues.receive_messages("q", 10, None, 0)) == []

    async def test_a_cancelled_wait_takes_no_message_from_the_others(self, engine: Engine, clock: ManualClock) -> None:
        """Also if it is cancelled just when a message came for it."""
        await engine.queues.create_queue("q", QueueAttributes())
        first, second, third = [
            await waiting(clock, engine.queues.receive_messages("q", 1, None, 20_000)) for _ in range(3)
        ]
        await cancelled(first)
        await send(engine.queues, "q", b"a")
        second.cancel()
        await asyncio.wait([second])
        if second.cancelled():
            assert [(m.body, m.receive_count) for m in await soon(third)] == [(b"a", 1)]
        else:
            assert [message.body for message in second.result()] == [b"a"]
            await cancelled(third)
        assert await counts(engine.queues, "q") == (0, 1, 0)

    async def test_deleting_a_queue_wakes_its_receives(self, engine: Engine, clock: ManualClock) -> None:
        """They get NotFoundError; those of another queue go on waiting."""
        await engine.queues.create_queue("q", QueueAttributes())
        await engine.queues.create_queue("other", QueueAttributes())
        here = [await waiting(clock, engine.queues.receive_messages("q", 1, None, 20_000)) for _ in range(2)]
        elsewhere = await waiting(clock, engine.queues.receive_messages("other", 1, None, 20_000))
        await engine.queues.delete_queue("q")
        for receiver in here:
            with raises(NotFoundError):
                await soon(receiver)
        assert not elsewhere.done()
        await cancelled(elsewhere)


async def _first(
    tasks: list[asyncio.Task[list[ReceivedMessage]]], count: int
) -> tuple[set[asyncio.Task[list[ReceivedMessage]]], set[asyncio.Task[list[ReceivedMessage]]]]:
    """Wait until ``count`` of the tasks are done; those that are, and those that are not."""
    pending = set(tasks)
    while len(tasks) - len(pending) < count:
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    return set(tasks) - pending, pending
