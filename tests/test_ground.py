"""Clock, back-off, limits, errors and services."""

from __future__ import annotations

import asyncio
import inspect
import time

import msgspec
import pytest

from streamkit import errors, logs
from streamkit.backoff import Retry
from streamkit.clock import SystemClock, to_datetime, wait_until, wake
from streamkit.limits import Limits
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock

# ---- clock


def test_a_wall_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before = clock.now_ms()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert 0 <= clock.now_ms() - before < 60_000


async def test_the_system_clock_calls_and_sleeps() -> None:
    clock = SystemClock()
    called = asyncio.Event()
    clock.call_at(clock.now_ms() + 2, called.set)
    cancelled = clock.call_at(clock.now_ms() + 3, lambda: pytest.fail("was cancelled"))
    cancelled.cancel()
    await called.wait()
    when_ms = clock.now_ms() + 2
    await clock.sleep_until(when_ms)
    assert clock.now_ms() >= when_ms


async def test_a_wait_ends_by_what_it_waits_for_or_by_its_deadline(clock: ManualClock) -> None:
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[bool] = loop.create_future()
    late: asyncio.Future[bool] = loop.create_future()
    waits = [asyncio.create_task(wait_until(clock, waiter, clock.now_ms() + 1000)) for waiter in (woken, late)]
    await clock.advance(0.5)
    assert wake(woken)
    assert not wake(woken)
    await clock.advance(1)
    assert [await wait for wait in waits] == [True, False]
    assert not wake(late)


def test_instants_are_aware() -> None:
    assert to_datetime(0).isoformat() == "1970-01-01T00:00:00+00:00"


# ---- back-off


def test_delays_double_up_to_the_longest() -> None:
    retry = Retry(first=1, factor=2, longest=10, jitter=False)
    assert [retry.delay(failures) for failures in (1, 2, 3, 4, 5, 10_000)] == [1, 2, 4, 8, 10, 10]


def test_jitter_is_drawn_between_nothing_and_the_bound() -> None:
    retry = Retry(first=4)
    assert retry.delay(1, draw=lambda: 0.0) == 0
    assert retry.delay(2, draw=lambda: 0.5) == 4


# ---- limits


def test_relaxed_is_never_stricter_than_aws() -> None:
    aws, relaxed = msgspec.structs.asdict(Limits.aws()), msgspec.structs.asdict(Limits.relaxed())
    for name in ("retention_seconds", "message_retention_seconds"):
        shortest, longest = relaxed.pop(name)
        assert shortest <= aws[name][0] < aws.pop(name)[1] <= longest
    # None: there is no such limit.
    assert all(relaxed[name] is None or relaxed[name] >= aws[name] for name in aws)


# ---- errors

EVERY_ERROR = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.StreamKitError)
]


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_every_error_ends_in_error_and_is_in_the_tree_of_the_docstring(error: type[Exception]) -> None:
    assert error.__name__.endswith("Error")
    assert error.__name__ in (errors.__doc__ or "")
    assert error.__doc__


# ---- services


async def test_a_stop_ends_idle_waits_and_nothing_else() -> None:
    stop = Stop()
    reached: list[str] = []

    async def service() -> None:
        with stop.interruptible():
            await asyncio.Event().wait()
            reached.append("never")
        reached.append("after the wait")
        await asyncio.sleep(0)
        reached.append("work goes on")
        with stop.interruptible():
            await asyncio.sleep(0)
            reached.append("never")

    task = asyncio.create_task(service())
    await asyncio.sleep(0)
    stop.request()
    stop.request()
    await task
    assert reached == ["after the wait", "work goes on"]


def test_what_is_logged_of_an_error_has_its_place_and_not_its_text() -> None:
    with pytest.raises(ArithmeticError) as raised:
        raise ArithmeticError("a secret")
    seen = logs.without_text(raised.value)
    assert seen.__traceback__ is raised.value.__traceback__
    assert "ArithmeticError" in str(seen)
    assert "secret" not in str(seen)
    assert (seen.__cause__, seen.__context__) == (None, None)
