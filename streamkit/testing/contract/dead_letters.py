"""What every queue store does with messages that are received too often."""

from __future__ import annotations

from streamkit.engines.base import Engine
from streamkit.errors import ValidationError
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.store import QueueStore
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.queues import counts, receive, send
from streamkit.testing.contract.receipts import delete
from streamkit.testing.contract.terms import Contract, raises, soon, waiting

TIMEOUT_MS = 1_000


async def create(queues: QueueStore, max_receive_count: int, name: str = "q", dead: str = "dead") -> None:
    """A queue with a dead-letter queue."""
    await queues.create_queue(dead, QueueAttributes())
    policy = RedrivePolicy(dead_letter_queue=dead, max_receive_count=max_receive_count)
    await queues.create_queue(name, QueueAttributes(visibility_timeout_ms=TIMEOUT_MS, redrive_policy=policy))


async def fail(queues: QueueStore, clock: ManualClock, times: int, name: str = "q") -> None:
    """Receive what there is and let its timeout end, so often."""
    for _ in range(times):
        assert await receive(queues, name)
        await clock.advance(TIMEOUT_MS / 1000)


class DeadLetterContract(Contract):
    """Moves to a dead-letter queue, and back by hand."""

    async def test_a_message_is_delivered_max_receive_count_times(self, engine: Engine, clock: ManualClock) -> None:
        """The receive after that moves it instead of returning it."""
        for most in (1, 2, 5):
            name, dead = f"q{most}", f"dead{most}"
            await create(engine.queues, most, name, dead)
            await send(engine.queues, name, b"poison")
            for count in range(1, most + 1):
                (message,) = await receive(engine.queues, name)
                assert message.receive_count == count
                await clock.advance(TIMEOUT_MS / 1000)
                assert await counts(engine.queues, name) == (1, 0, 0)
                assert await counts(engine.queues, dead) == (0, 0, 0)
            assert await receive(engine.queues, name) == []
            assert await counts(engine.queues, name) == (0, 0, 0)
            assert await counts(engine.queues, dead) == (1, 0, 0)

    async def test_a_moved_message_keeps_what_it_is(self, engine: Engine, clock: ManualClock) -> None:
        """Id, body and the time it was sent; its source is named, and its receive count goes on."""
        await create(engine.queues, 1)
        sent_ms = clock.now_ms()
        (message_id,) = await send(engine.queues, "q", b"poison")
        await clock.advance(5)
        await fail(engine.queues, clock, 1)
        await clock.advance(60)
        assert await receive(engine.queues, "q") == []
        (peeked,) = await engine.queues.peek_messages("dead", 10)
        assert (peeked.message_id, peeked.receive_count, peeked.dead_letter_source) == (message_id, 1, "q")
        (dead,) = await receive(engine.queues, "dead")
        assert (dead.message_id, dead.body, dead.sent_ms) == (message_id, b"poison", sent_ms)
        assert (dead.dead_letter_source, dead.receive_count) == ("q", 2)
        assert await delete(engine.queues, "dead", dead.receipt_handle) == [None]
        assert await counts(engine.queues, "dead") == (0, 0, 0)

    async def test_a_receive_that_only_moved_returns_empty_at_once(self, engine: Engine, clock: ManualClock) -> None:
        """Although it would have waited; one that found others too returns those."""
        await create(engine.queues, 1)
        await send(engine.queues, "q", b"poison")
        await fail(engine.queues, clock, 1)
        before_ms = clock.now_ms()
        assert await soon(engine.queues.receive_messages("q", 10, None, 20_000)) == []
        assert clock.now_ms() == before_ms
        assert await counts(engine.queues, "dead") == (1, 0, 0)
        await send(engine.queues, "q", b"more poison")
        await fail(engine.queues, clock, 1)
        await send(engine.queues, "q", b"good", b"better")
        received = await soon(engine.queues.receive_messages("q", 10, None, 20_000))
        assert sorted(message.body for message in received) == [b"better", b"good"]
        assert await counts(engine.queues, "dead") == (2, 0, 0)

    async def test_nothing_moves_while_nobody_receives(self, engine: Engine, clock: ManualClock) -> None:
        """Received too often, a message is visible in its queue until somebody asks, and may still be deleted."""
        await create(engine.queues, 1)
        await send(engine.queues, "q", b"late")
        (message,) = await receive(engine.queues, "q")
        await clock.advance(3600)
        assert await counts(engine.queues, "q") == (1, 0, 0)
        assert await delete(engine.queues, "q", message.receipt_handle) == [None]
        assert await receive(engine.queues, "q") == []
        assert await counts(engine.queues, "dead") == (0, 0, 0)

    async def test_a_move_wakes_who_waits_at_the_dead_letter_queue(self, engine: Engine, clock: ManualClock) -> None:
        """And a receive that waits at the source moves when the timeout ends."""
        await create(engine.queues, 1)
        await send(engine.queues, "q", b"poison")
        await receive(engine.queues, "q")
        undertaker = await waiting(clock, engine.queues.receive_messages("dead", 10, None, 20_000))
        worker = await waiting(clock, engine.queues.receive_messages("q", 10, None, 20_000))
        await clock.advance(TIMEOUT_MS / 1000)
        assert await soon(worker) == []
        assert [message.body for message in await soon(undertaker)] == [b"poison"]

    async def test_receives_without_a_timeout_count_too(self, engine: Engine, clock: ManualClock) -> None:
        """A message that is shown again at once is received often, and moved."""
        await create(engine.queues, 3)
        await send(engine.queues, "q", b"poison")
        for count in (1, 2, 3):
            assert [message.receive_count for message in await receive(engine.queues, "q", 0)] == [count]
        assert await receive(engine.queues, "q", 0) == []
        assert await counts(engine.queues, "dead") == (1, 0, 0)

    async def test_without_its_dead_letter_queue_a_message_stays(self, engine: Engine, clock: ManualClock) -> None:
        """When that was deleted, messages are received on and on."""
        await create(engine.queues, 1)
        await send(engine.queues, "q", b"poison")
        await engine.queues.delete_queue("dead")
        for count in (1, 2, 3):
            assert [message.receive_count for message in await receive(engine.queues, "q")] == [count]
            await clock.advance(TIMEOUT_MS / 1000)
        assert await counts(engine.queues, "q") == (1, 0, 0)

    async def test_many_messages_move_each_once(self, engine: Engine, clock: ManualClock) -> None:
        """However many a receive finds, and all of them are in exactly one queue."""
        await create(engine.queues, 2)
        ids = await send(engine.queues, "q", *[b"%d" % i for i in range(25)])
        for _ in range(2):
            while await receive(engine.queues, "q"):
                pass
            await clock.advance(TIMEOUT_MS / 1000)
        while sum(await counts(engine.queues, "q")):
            assert await receive(engine.queues, "q") == []
            assert sum(await counts(engine.queues, "q")) + sum(await counts(engine.queues, "dead")) == 25
        moved: list[str] = []
        while page := await receive(engine.queues, "dead"):
            moved.extend(message.message_id for message in page)
        assert sorted(moved) == sorted(ids)

    async def test_dead_letter_queues_may_be_chained(self, engine: Engine, clock: ManualClock) -> None:
        """A dead-letter queue moves on what is received too often there."""
        await create(engine.queues, 1, "second", "third")
        policy = RedrivePolicy(dead_letter_queue="second", max_receive_count=1)
        await engine.queues.create_queue("first", QueueAttributes(visibility_timeout_ms=0, redrive_policy=policy))
        await send(engine.queues, "first", b"poison")
        for name in ("first", "second"):
            for _ in range(5):
                await receive(engine.queues, name)
                await clock.advance(TIMEOUT_MS / 1000)
        assert [await counts(engine.queues, name) for name in ("first", "second")] == [(0, 0, 0), (0, 0, 0)]
        (message,) = await receive(engine.queues, "third")
        assert (message.body, message.dead_letter_source) == (b"poison", "second")

    # ---- by hand

    async def test_moving_by_hand_starts_afresh(self, engine: Engine, clock: ManualClock) -> None:
        """A redriven message is received max_receive_count times again."""
        await create(engine.queues, 2)
        await send(engine.queues, "q", b"a", b"b", b"c")
        await fail(engine.queues, clock, 2)
        assert await receive(engine.queues, "q") == []
        dead = {message.body: message.message_id for message in await engine.queues.peek_messages("dead", 10)}
        assert await engine.queues.move_messages("dead", [dead[b"a"], dead[b"c"]], "q") == 2
        assert [message.body for message in await engine.queues.peek_messages("dead", 10)] == [b"b"]
        for count in (1, 2):
            received = await receive(engine.queues, "q")
            assert sorted((m.body, m.receive_count) for m in received) == [(b"a", count), (b"c", count)]
            await clock.advance(TIMEOUT_MS / 1000)
        assert await receive(engine.queues, "q") == []
        assert await counts(engine.queues, "dead") == (3, 0, 0)

    async def test_only_visible_messages_are_moved_by_hand(self, engine: Engine, clock: ManualClock) -> None:
        """Not those in flight or delayed, not unknown ones, and none twice; the answer says how many."""
        for name in ("q", "other"):
            await engine.queues.create_queue(name, QueueAttributes())
        (flying,) = await send(engine.queues, "q", b"flying")
        await receive(engine.queues, "q")
        (delayed,) = await send(engine.queues, "q", b"delayed", delay_ms=1_000)
        (visible,) = await send(engine.queues, "q", b"visible")
        wanted = [flying, delayed, visible, visible, "unknown", ""]
        assert await engine.queues.move_messages("q", wanted, "other") == 1
        assert await engine.queues.move_messages("q", wanted, "other") == 0
        assert await engine.queues.move_messages("q", [], "other") == 0
        assert [message.body for message in await engine.queues.peek_messages("other", 10)] == [b"visible"]
        assert await counts(engine.queues, "q") == (0, 1, 1)
        with raises(ValidationError):
            await engine.queues.move_messages("q", [flying], "q")

    async def test_a_move_by_hand_wakes_who_waits_there(self, engine: Engine, clock: ManualClock) -> None:
        """At once, as a send does."""
        for name in ("q", "other"):
            await engine.queues.create_queue(name, QueueAttributes())
        (message_id,) = await send(engine.queues, "q", b"a")
        receiver = await waiting(clock, engine.queues.receive_messages("other", 10, None, 20_000))
        assert await engine.queues.move_messages("q", [message_id], "other") == 1
        assert [(message.body, message.receive_count) for message in await soon(receiver)] == [(b"a", 1)]
