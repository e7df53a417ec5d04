"""What every queue store makes of receipt handles: deleting messages and changing their visibility."""

from __future__ import annotations

from streamkit.engines.base import Engine
from streamkit.errors import MessageNotInflightError, ReceiptHandleInvalidError, StreamKitError, ValidationError
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import QueueStore, VisibilityEntry
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.queues import TWELVE_HOURS_MS, counts, receive, send
from streamkit.testing.contract.terms import Contract, raises, soon, waiting


async def delete(queues: QueueStore, name: str, *handles: str) -> list[type[StreamKitError] | None]:
    """Delete by receipt handle; the kind of error of each."""
    return [None if error is None else type(error) for error in await queues.delete_messages(name, handles)]


async def change(queues: QueueStore, name: str, *entries: tuple[str, int]) -> list[type[StreamKitError] | None]:
    """Change visibility by receipt handle; the kind of error of each."""
    wanted = [VisibilityEntry(handle, timeout_ms) for handle, timeout_ms in entries]
    return [None if error is None else type(error) for error in await queues.change_visibility(name, wanted)]


class ReceiptContract(Contract):
    """Deleting messages, changing their visibility, and who may do so."""

    async def test_a_receipt_handle_deletes_its_message(self, engine: Engine, clock: ManualClock) -> None:
        """For good: it does not come back when its timeout ends."""
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=1_000))
        await send(engine.queues, "q", b"a", b"b")
        a, b = await receive(engine.queues, "q")
        assert await delete(engine.queues, "q", a.receipt_handle) == [None]
        assert await counts(engine.queues, "q") == (0, 1, 0)
        await clock.advance(1)
        (again,) = await receive(engine.queues, "q")
        assert again.message_id == b.message_id

    async def test_deleting_twice_succeeds(self, engine: Engine, clock: ManualClock) -> None:
        """Also within one call, and also long after."""
        await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", b"a", b"b")
        a, _ = await receive(engine.queues, "q")
        assert await delete(engine.queues, "q", a.receipt_handle, a.receipt_handle) == [None, None]
        await clock.advance(3600)
        assert await delete(engine.queues, "q", a.receipt_handle) == [None]
        assert await counts(engine.queues, "q") == (1, 0, 0)

    async def test_the_newest_handle_deletes_also_after_its_timeout(self, engine: Engine, clock: ManualClock) -> None:
        """As long as nobody else received the message."""
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=1_000))
        await send(engine.queues, "q", b"a")
        (message,) = await receive(engine.queues, "q")
        await clock.advance(3600)
        assert await counts(engine.queues, "q") == (1, 0, 0)
        assert await delete(engine.queues, "q", message.receipt_handle) == [None]
        assert await counts(engine.queues, "q") == (0, 0, 0)

    async def test_an_older_handle_is_of_no_use(self, engine: Engine, clock: ManualClock) -> None:
        """It fails with MessageNotInflightError and leaves the message with its newer receiver."""
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=1_000))
        await send(engine.queues, "q", b"a")
        (old,) = await receive(engine.queues, "q")
        await clock.advance(1)
        (new,) = await receive(engine.queues, "q")
        for _ in range(2):
            assert await delete(engine.queues, "q", old.receipt_handle) == [MessageNotInflightError]
            assert await change(engine.queues, "q", (old.receipt_handle, 0)) == [MessageNotInflightError]
            assert await counts(engine.queues, "q") == (0, 1, 0)
        assert await delete(engine.queues, "q", old.receipt_handle, new.receipt_handle) == [
            MessageNotInflightError,
            None,
        ]
        assert await counts(engine.queues, "q") == (0, 0, 0)

    async def test_a_handle_that_is_none_is_refused_alone(self, engine: Engine, clock: ManualClock) -> None:
        """Malformed, or of another queue: ReceiptHandleInvalidError for that entry, and the others happen."""
        for name in ("q", "other"):
            await engine.queues.create_queue(name, QueueAttributes())
            await send(engine.queues, name, b"a", b"b")
        theirs, _ = await receive(engine.queues, "other")
        mine, _ = await receive(engine.queues, "q")
        wrong = [theirs.receipt_handle, "garbage", "", "1.2", "-1.-1.-1", "é", "\ud800", "x" * 2000]
        results = await engine.queues.delete_messages("q", [*wrong, mine.receipt_handle])
        for handle, error in zip(wrong, results, strict=False):
            assert isinstance(error, ReceiptHandleInvalidError), f"{handle!r:.60} got {error!r}"
            assert (error.receipt_handle, error.queue) == (handle, "q")
        assert results[-1] is None
        assert await change(engine.queues, "q", *[(handle, 0) for handle in wrong]) == [
            ReceiptHandleInvalidError for _ in wrong
        ]
        assert await counts(engine.queues, "q") == (0, 1, 0)
        assert await counts(engine.queues, "other") == (0, 2, 0)

    async def test_a_changed_timeout_counts_from_now(self, engine: Engine, clock: ManualClock) -> None:
        """It makes the rest longer or shorter, for this delivery only, and 0 shows the message at once."""
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=10_000))
        await send(engine.queues, "q", b"a")
        for after, timeout_ms in ((8, 10_000), (0, 500), (9.999, 60_000), (3, 0)):
            (message,) = await receive(engine.queues, "q")
            await clock.advance(after)
            assert await change(engine.queues, "q", (message.receipt_handle, timeout_ms)) == [None]
            if timeout_ms:
                await clock.advance(timeout_ms / 1000 - 0.001)
                assert await counts(engine.queues, "q") == (0, 1, 0)
                await clock.advance(0.001)
            assert await counts(engine.queues, "q") == (1, 0, 0)
        (message,) = await receive(engine.queues, "q")
        assert message.receive_count == 5

    async def test_showing_a_message_wakes_a_waiting_receive(self, engine: Engine, clock: ManualClock) -> None:
        """At once, without any time passing."""
        await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", b"a")
        (message,) = await receive(engine.queues, "q")
        receiver = await waiting(clock, engine.queues.receive_messages("q", 10, None, 20_000))
        before_ms = clock.now_ms()
        assert await change(engine.queues, "q", (message.receipt_handle, 0)) == [None]
        assert [each.receive_count for each in await soon(receiver)] == [2]
        assert clock.now_ms() == before_ms

    async def test_a_shortened_timeout_wakes_a_waiting_receive(self, engine: Engine, clock: ManualClock) -> None:
        """When the new one ends, not the old one; and a longer one keeps it waiting."""
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=10_000))
        await send(engine.queues, "q", b"a")
        (message,) = await receive(engine.queues, "q")
        receiver = await waiting(clock, engine.queues.receive_messages("q", 10, 5_000, 20_000))
        assert await change(engine.queues, "q", (message.receipt_handle, 2_000)) == [None]
        await clock.advance(1.999)
        assert not receiver.done()
        await clock.advance(0.001)
        (message,) = await soon(receiver)
        receiver = await waiting(clock, engine.queues.receive_messages("q", 10, None, 20_000))
        assert await change(engine.queues, "q", (message.receipt_handle, 15_000)) == [None]
        await clock.advance(14.999)
        assert not receiver.done()
        await clock.advance(0.001)
        assert [each.receive_count for each in await soon(receiver)] == [3]

    async def test_a_deleted_message_cannot_be_shown(self, engine: Engine, clock: ManualClock) -> None:
        """MessageNotInflightError, and it stays deleted."""
        await engine.queues.create_queue("q", QueueAttributes())
        await send(engine.queues, "q", b"a")
        (message,) = await receive(engine.queues, "q")
        await delete(engine.queues, "q", message.receipt_handle)
        assert await change(engine.queues, "q", (message.receipt_handle, 0)) == [MessageNotInflightError]
        assert await counts(engine.queues, "q") == (0, 0, 0)

    async def test_a_changed_timeout_has_a_range(self, engine: Engine, clock: ManualClock) -> None:
        """0 to 12 hours, and 12 hours in all since the receive; an entry out of range fails alone."""
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=TWELVE_HOURS_MS))
        await send(engine.queues, "q", b"a", b"b")
        a, b = await receive(engine.queues, "q")
        results = await change(
            engine.queues,
            "q",
            (a.receipt_handle, -1),
            (a.receipt_handle, TWELVE_HOURS_MS + 1),
            (b.receipt_handle, TWELVE_HOURS_MS),
        )
        assert results == [ValidationError, ValidationError, None]
        await clock.advance(3600)
        hour_ms = 3_600_000
        assert await change(engine.queues, "q", (a.receipt_handle, 11 * hour_ms + 1)) == [ValidationError]
        assert await change(engine.queues, "q", (a.receipt_handle, 11 * hour_ms)) == [None]
        assert await counts(engine.queues, "q") == (0, 2, 0)

    async def test_batches_of_receipts_have_limits(self, engine: Engine, clock: ManualClock) -> None:
        """At least one entry, and at most the engine's limit."""
        await engine.queues.create_queue("q", QueueAttributes())
        for count in (0, self.limits.send_messages + 1):
            with raises(ValidationError):
                await engine.queues.delete_messages("q", ["x"] * count)
            with raises(ValidationError):
                await engine.queues.change_visibility("q", [VisibilityEntry("x", 0)] * count)
