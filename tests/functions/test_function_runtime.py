"""Running a function: time limits, threads, cancellation, and a concurrency limit."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from streamkit.errors import FunctionError
from streamkit.functions import runtime, threads
from streamkit.functions.function import Function, Invoker, each
from streamkit.functions.invocation import Invocation
from streamkit.functions.lambda_handler import lambda_handler
from streamkit.functions.runtime import Slots
from streamkit.functions.threads import run_in_thread
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import batch_of, messages_of


class Gate:
    """Where a function in a thread waits until the test lets it go on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()
        self._entered = 0
        self._left = 0
        self._moved = asyncio.Event()

    def __call__(self) -> None:
        self._note(1, 0)
        assert self._open.wait(10)
        self._note(0, 1)

    def _note(self, entered: int, left: int) -> None:
        def note() -> None:
            self._entered += entered
            self._left += left
            self._moved.set()

        self._loop.call_soon_threadsafe(note)

    def open(self) -> None:
        self._open.set()

    async def entered(self, count: int = 1) -> None:
        await self._until(lambda: self._entered >= count)

    async def left(self, count: int = 1) -> None:
        await self._until(lambda: self._left >= count)

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._moved.clear()
            await asyncio.wait_for(self._moved.wait(), 10)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@asynccontextmanager
async def invoking(invoker: Invoker, *values: Any) -> AsyncIterator[asyncio.Task[Invocation]]:
    task = asyncio.create_task(invoker.invoke(batch_of(*values)))
    yield task
    if not task.done():
        task.cancel()
        await asyncio.wait([task])


def is_timeout(invocation: Invocation, seconds: str) -> bool:
    error = invocation.error
    assert isinstance(error, FunctionError)
    return (str(error), error.error_type) == (f"Task timed out after {seconds} seconds", "Sandbox.Timedout")


# ---- time limits


async def test_an_async_function_is_cancelled_at_its_time_limit(clock: ManualClock) -> None:
    ended: list[str] = []

    async def slow(batch: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    async with invoking(Invoker(Function(slow, timeout=30), clock=clock), 1, 2) as task:
        await clock.advance(29.999)
        assert not task.done()
        await clock.advance(0.001)
        invocation = await task
    assert is_timeout(invocation, "30.00")
    assert (invocation.done, invocation.failed, invocation.reported, invocation.throttled) == (0, 2, False, False)
    assert ended == ["cleaned up"]


async def test_a_function_in_time_has_no_time_limit_left_behind(clock: ManualClock) -> None:
    async def quick(batch: Any) -> list[Any]:
        return [1]

    invoker = Invoker(Function(quick, timeout=0.5), clock=clock)
    assert (await invoker.invoke(batch_of(0))).results == [(0, [1])]
    await clock.advance(10)
    assert (await invoker.invoke(batch_of(0))).results == [(0, [1])]


async def test_an_answer_after_the_time_limit_is_ignored(clock: ManualClock) -> None:
    async def stubborn(batch: Any) -> list[Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return ["late"]
        return []

    async with invoking(Invoker(Function(stubborn, timeout=1), clock=clock), 1) as task:
        await clock.advance(1)
        invocation = await task
    assert is_timeout(invocation, "1.00")
    assert invocation.results == []


async def test_a_function_that_swallows_its_cancellation_is_cancelled_again(clock: ManualClock) -> None:
    cancelled: list[int] = []

    async def swallowing(batch: Any) -> None:
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(clock.now_ms())

    start = clock.now_ms()
    async with invoking(Invoker(Function(swallowing, timeout=5), clock=clock), 1) as task:
        await clock.advance(6.5)
        assert not task.done()
        await clock.advance(1)
        assert is_timeout(await task, "5.00")
    assert [at - start for at in cancelled] == [5000, 6000, 7000]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_each_keeps_what_was_done_before_the_time_limit(kind: str, clock: ManualClock, gate: Gate) -> None:
    called: list[int] = []

    async def async_handle(record: Any) -> Any:
        called.append(record.value)
        if record.value == 3:
            await asyncio.Event().wait()
        return record.value * 10

    def handle(record: Any) -> Any:
        called.append(record.value)
        if record.value == 3:
            gate()
        return record.value * 10

    function = each(async_handle) if kind == "async" else each(handle)
    async with invoking(Invoker(Function(function, timeout=2), clock=clock), 1, 2, 3, 4) as task:
        if kind == "thread":
            await gate.entered()
        await clock.advance(2)
        invocation = await task
    assert invocation.results == [(0, [10]), (1, [20])]
    assert (invocation.done, invocation.failed) == (2, 1)
    assert is_timeout(invocation, "2.00")
    gate.open()
    if kind == "thread":
        await gate.left()
    assert called == [1, 2, 3]  # What was left behind begins nothing new.


async def test_a_thread_is_left_behind_at_its_time_limit(
    clock: ManualClock, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(batch: Any) -> list[Any]:
        gate()
        return ["late"]

    async with invoking(Invoker(Function(slow, timeout=3), clock=clock), 1) as task:
        await gate.entered()
        await clock.advance(3)
        invocation = await task
    assert is_timeout(invocation, "3.00")
    assert invocation.results == []
    assert "function slow is still running in its thread after its time limit" in caplog.text
    gate.open()
    await gate.left()


async def test_the_slot_of_a_thread_left_behind_is_free_when_it_ends(clock: ManualClock, gate: Gate) -> None:
    def slow(batch: Any) -> list[Any]:
        if batch[0].value == "slow":
            gate()
        return [batch[0].value]

    invoker = Invoker(Function(slow, timeout=3, concurrency=1), clock=clock)
    async with invoking(invoker, "slow") as task:
        await gate.entered()
        await clock.advance(3)
        assert is_timeout(await task, "3.00")
    async with invoking(invoker, "second") as second:
        await clock.advance(1)
        assert (await second).throttled
    async with invoking(invoker, "third") as third:
        gate.open()
        assert (await third).results == [(0, ["third"])]


def test_a_thread_that_never_ends_does_not_keep_the_process() -> None:
    source = """
import asyncio, threading
from streamkit.functions.function import Function, Invoker
from tests.functions.invoking import batch_of

def hang(batch):
    threading.Event().wait()

async def main():
    invocation = await Invoker(Function(hang, timeout=0.01)).invoke(batch_of(1))
    print(invocation.error)

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "Task timed out after 0.01 seconds\n"


# ---- threads


async def test_a_plain_def_never_runs_on_the_event_loop(clock: ManualClock) -> None:
    threads: set[int] = set()

    def batch_function(batch: Any) -> None:
        threads.add(threading.get_ident())

    @each
    def one_by_one(record: Any) -> None:
        threads.add(threading.get_ident())

    def handler(event: Any, context: Any) -> None:
        threads.add(threading.get_ident())

    for function in (batch_function, one_by_one, lambda_handler(handler), Function(batch_function, timeout=5)):
        assert (await Invoker(function, clock=clock).invoke(batch_of(1, 2, 3))).error is None
    assert threads
    assert threading.get_ident() not in threads


async def test_the_loop_goes_on_while_a_plain_def_works(clock: ManualClock, gate: Gate) -> None:
    def slow(batch: Any) -> None:
        gate()

    async with invoking(Invoker(slow, clock=clock), 1) as task:
        await gate.entered()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        gate.open()
        assert (await task).error is None


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every call that goes to a thread."""
    hops: list[Any] = []

    def noted(call: Any, context: Any) -> Any:
        hops.append(call)
        return run_in_thread(call, context)

    monkeypatch.setattr(runtime, "run_in_thread", noted)
    return hops


async def test_each_of_a_plain_def_is_one_hop_for_the_whole_batch(clock: ManualClock, hops: list[Any]) -> None:
    @each
    def double(record: Any) -> Any:
        return record.value * 2

    invocation = await Invoker(double, clock=clock).invoke(batch_of(*range(100)))
    assert invocation.results == [(at, [at * 2]) for at in range(100)]
    assert len(hops) == 1


async def test_threads_are_used_again(clock: ManualClock) -> None:
    seen: set[int] = set()

    def note(batch: Any) -> None:
        seen.add(threading.get_ident())

    invoker = Invoker(note, clock=clock)
    for _ in range(50):
        await invoker.invoke(batch_of(1))
    assert len(seen) <= 2  # The thread is idle a moment before, or after, the loop hears of its end.


async def test_a_plain_def_may_answer_with_something_to_await(clock: ManualClock) -> None:
    main = threading.get_ident()
    awaited_in: list[int] = []

    async def later(value: int) -> int:
        await asyncio.sleep(0)
        awaited_in.append(threading.get_ident())
        if value == 2:
            raise ValueError("two")
        return value * 2

    function: Any
    for function, expected in (
        (each(lambda record: later(record.value)), [(0, [0]), (1, [2])]),
        (each(lambda record: later(record.value) if record.value % 2 == 0 else record.value), [(0, [0]), (1, [1])]),
    ):
        invocation = await Invoker(function, clock=clock).invoke(batch_of(0, 1, 2, 3))
        assert invocation.results == expected
        assert (invocation.done, invocation.failed, str(invocation.error)) == (2, 1, "two")
    assert set(awaited_in) == {main}


async def test_what_a_thread_answers_after_its_time_limit_is_not_awaited(clock: ManualClock, gate: Gate) -> None:
    """A coroutine that nobody awaits warns, which fails the test."""
    ran: list[int] = []

    async def later() -> None:
        ran.append(1)

    def slow(batch: Any) -> Any:
        answer = later()
        gate()
        return answer

    async with invoking(Invoker(Function(slow, timeout=1), clock=clock), 1) as task:
        await gate.entered()
        await clock.advance(1)
        assert is_timeout(await task, "1.00")
    gate.open()
    await gate.left()
    assert ran == []


# ---- cancellation


async def test_cancelled_from_outside_it_is_over_when_the_cancellation_is(clock: ManualClock) -> None:
    entered = asyncio.Event()
    ended: list[str] = []

    async def slow(batch: Any) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append("cleaned up")

    task = asyncio.create_task(Invoker(Function(slow, timeout=30), clock=clock).invoke(batch_of(1)))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cleaned up"]


async def test_cancelled_from_outside_it_is_cancelled_again_should_it_swallow_that(clock: ManualClock) -> None:
    swallowed: list[int] = []

    async def swallowing(batch: Any) -> None:
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append(clock.now_ms())

    task = asyncio.create_task(Invoker(swallowing, clock=clock).invoke(batch_of(1)))
    await clock.advance(0)
    start = clock.now_ms()
    task.cancel()
    await clock.advance(0.5)
    task.cancel()  # Once is enough, and more does no harm.
    await clock.advance(1)
    assert not task.done()
    await clock.advance(1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [at - start for at in swallowed] == [0, 1000, 2000]


async def test_cancelled_by_a_scope_it_is_over_when_the_scope_is(clock: ManualClock) -> None:
    ended: list[str] = []

    async def slow(batch: Any) -> None:
        try:
            scope.cancel()
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append("cleaned up")

    with anyio.CancelScope() as scope:
        await Invoker(slow, clock=clock).invoke(batch_of(1))
    assert scope.cancelled_caught
    assert ended == ["cleaned up"]


async def test_a_cancellation_waits_for_a_thread(clock: ManualClock, gate: Gate) -> None:
    def slow(batch: Any) -> None:
        gate()

    task = asyncio.create_task(Invoker(slow, clock=clock).invoke(batch_of(1)))
    await gate.entered()
    for _ in range(3):
        task.cancel()
        await clock.advance(1000)
        assert not task.done()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gate.left()


async def test_a_cancellation_waits_for_a_thread_no_longer_than_its_time_limit(clock: ManualClock, gate: Gate) -> None:
    ended: list[str] = []

    def slow(batch: Any) -> None:
        try:
            gate()
        finally:
            ended.append("at last")

    task = asyncio.create_task(Invoker(Function(slow, timeout=9), clock=clock).invoke(batch_of(1)))
    await gate.entered()
    task.cancel()
    await clock.advance(8)
    assert not task.done()
    await clock.advance(1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == []


async def test_cancelled_before_it_awaits_what_a_thread_answered(clock: ManualClock, gate: Gate) -> None:
    """A coroutine that nobody awaits warns, which fails the test."""
    ran: list[int] = []

    async def later() -> None:
        ran.append(1)

    def slow(batch: Any) -> Any:
        gate()
        return later()

    task = asyncio.create_task(Invoker(slow, clock=clock).invoke(batch_of(1)))
    await gate.entered()
    task.cancel()
    await clock.advance(0)
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()
    assert ran == []


async def test_a_cancelled_function_gives_its_slot_back(clock: ManualClock) -> None:
    async def slow(batch: Any) -> list[Any]:
        if batch[0].value == "slow":
            await asyncio.Event().wait()
        return ["done"]

    invoker = Invoker(Function(slow, concurrency=1), clock=clock)
    async with invoking(invoker, "slow"):
        await clock.advance(0)
    assert (await invoker.invoke(batch_of("quick"))).results == [(0, ["done"])]


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_at_any_moment_nothing_is_left_taken(turns: int, clock: ManualClock) -> None:
    """Two invocations of which one waits for the other; that one is cancelled a turn of the loop later each time."""

    async def slow(batch: Any) -> list[Any]:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return ["done"]

    invoker = Invoker(Function(slow, concurrency=1), clock=clock)
    first = asyncio.create_task(invoker.invoke(batch_of(1)))
    second = asyncio.create_task(invoker.invoke(batch_of(2)))
    for _ in range(turns):
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([first, second])
    assert (await first).results == [(0, ["done"])]
    assert (await invoker.invoke(batch_of(3))).results == [(0, ["done"])]


# ---- concurrency


async def test_a_concurrency_limit_holds_across_all_who_call_the_function(clock: ManualClock) -> None:
    running = most = 0
    release = asyncio.Event()

    async def slow(batch: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    function = Function(slow, concurrency=3)
    lanes = [Invoker(function, clock=clock) for _ in range(10)]
    tasks = [asyncio.create_task(lane.invoke(batch_of(1))) for lane in lanes]
    await clock.advance(0)
    assert running == 3
    release.set()
    invocations = await asyncio.gather(*tasks)
    assert [one.throttled for one in invocations] == [False] * 10
    assert most == 3


async def test_a_concurrency_limit_is_of_its_function_value_alone(clock: ManualClock) -> None:
    together = asyncio.Barrier(3)

    async def meet(batch: Any) -> None:
        await together.wait()

    one, two = Function(meet, concurrency=1), Function(meet, concurrency=2)
    invocations = asyncio.gather(*(Invoker(each, clock=clock).invoke(batch_of(1)) for each in (one, two, two)))
    assert [invocation.throttled for invocation in await invocations] == [False] * 3


async def test_who_waits_a_second_in_vain_is_throttled(clock: ManualClock) -> None:
    release = asyncio.Event()

    async def slow(batch: Any) -> None:
        await release.wait()

    invoker = Invoker(Function(slow, concurrency=1), clock=clock)
    async with invoking(invoker, 1) as first, invoking(invoker, 2, 3) as second:
        await clock.advance(0.999)
        assert not second.done()
        await clock.advance(0.001)
        throttled = await second
        assert throttled.throttled
        assert (throttled.done, throttled.failed, throttled.request_id) == (0, 2, "")
        assert "concurrency limit" in str(throttled.error)
        release.set()
        assert not (await first).throttled


async def test_first_come_first_served(clock: ManualClock) -> None:
    order: list[int] = []

    async def note(batch: Any) -> None:
        await asyncio.sleep(0)
        order.append(batch[0].value)

    invoker = Invoker(Function(note, concurrency=1), clock=clock)
    await asyncio.gather(*(invoker.invoke(batch_of(n)) for n in range(10)))
    assert order == list(range(10))


async def test_a_lambda_handler_gets_one_invocation_at_a_time_in_all_mappings(
    clock: ManualClock, gate: Gate, hops: list[Any]
) -> None:
    def handler(event: Any, context: Any) -> None:
        gate()

    async with (
        invoking(Invoker(lambda_handler(handler), clock=clock), 1) as first,
        invoking(Invoker(Function(lambda_handler(handler), timeout=60), clock=clock), 1) as second,
    ):
        await gate.entered()
        await clock.advance(0.9)
        assert len(hops) == 1
        gate.open()
        assert (await first).error is None
        assert (await second).error is None
    assert len(hops) == 2


async def test_a_lambda_handler_gets_more_if_it_is_said_to_bear_them(clock: ManualClock) -> None:
    together = threading.Barrier(3, timeout=10)

    def handler(event: Any, context: Any) -> None:
        together.wait()

    function = Function(lambda_handler(handler), concurrency=3)
    invokers = [Invoker(function, clock=clock) for _ in range(3)]
    assert all(one.error is None for one in await asyncio.gather(*(each.invoke(batch_of(1)) for each in invokers)))


async def test_an_async_function_has_no_limit_and_a_plain_def_forty_threads(clock: ManualClock, gate: Gate) -> None:
    together = asyncio.Barrier(100)

    async def meet(batch: Any) -> None:
        await together.wait()

    def wait(batch: Any) -> None:
        gate()

    await asyncio.gather(*(Invoker(meet, clock=clock).invoke(batch_of(1)) for _ in range(100)))
    tasks = [asyncio.create_task(Invoker(wait, clock=clock).invoke(batch_of(1))) for _ in range(41)]
    await gate.entered(40)
    await clock.advance(1)
    gate.open()
    throttled = [one.throttled for one in await asyncio.gather(*tasks)]
    assert throttled == [False] * 40 + [True]


class Bare:
    """A callable that no weak reference can be made to."""

    __slots__ = ("results",)

    def __init__(self) -> None:
        self.results = ["slotted"]

    def __call__(self, batch: Any) -> list[str]:
        return self.results


async def test_a_callable_of_any_kind_has_slots(clock: ManualClock) -> None:
    assert (await Invoker(Bare(), clock=clock).invoke(batch_of(1))).results == [(0, ["slotted"])]


async def test_slots_go_to_who_still_waits(clock: ManualClock) -> None:
    slots = Slots(1)
    assert await slots.acquire(clock)
    waiting = [asyncio.create_task(slots.acquire(clock)) for _ in range(3)]
    await clock.advance(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    slots.release()
    await clock.advance(1)
    assert [task.result() for task in waiting[1:]] == [True, False]
    slots.release()
    assert slots.active == 0


async def test_messages_too(clock: ManualClock) -> None:
    async def slow(messages: Any) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(
        Invoker(Function(slow, timeout=1), clock=clock).invoke_messages(messages_of(1, 2), queue="q", fifo=False)
    )
    await clock.advance(1)
    invocation = await task
    assert is_timeout(invocation, "1.00")
    assert (invocation.done, invocation.failures) == (0, (0, 1))


# ---- threads, and what is around them


def test_a_thread_left_behind_outlives_its_loop_and_is_used_again() -> None:
    release = threading.Event()
    ran_in: list[threading.Thread] = []

    def hang(batch: Any) -> list[Any]:
        ran_in.append(threading.current_thread())
        assert release.wait(10)
        return ["done"]

    async def left_behind() -> Invocation:
        return await Invoker(Function(hang, timeout=0.01)).invoke(batch_of(1))

    async def again() -> Invocation:
        return await Invoker(hang).invoke(batch_of(1))

    assert is_timeout(asyncio.run(left_behind()), "0.01")
    release.set()
    # Had the thread died of its closed loop, pytest would fail this test.
    assert asyncio.run(again()).results == [(0, ["done"])]
    assert all(thread.is_alive() for thread in ran_in)


async def test_an_idle_thread_ends(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.01)
    monkeypatch.setattr(threads, "_idle", deque())
    ran_in: list[threading.Thread] = []

    def note(batch: Any) -> None:
        ran_in.append(threading.current_thread())

    invoker = Invoker(note, clock=clock)
    await invoker.invoke(batch_of(1))
    await asyncio.to_thread(ran_in[0].join, 10)
    assert not ran_in[0].is_alive()
    assert not threads._idle
    assert (await invoker.invoke(batch_of(1))).error is None
    await asyncio.to_thread(ran_in[1].join, 10)


def test_a_forked_child_has_threads_of_its_own() -> None:
    source = """
import asyncio, os
from streamkit.functions.function import Invoker
from tests.functions.invoking import batch_of

def note(batch):
    return [os.getpid()]

async def main():
    return (await Invoker(note).invoke(batch_of(1))).results

first = asyncio.run(main())  # Leaves an idle thread, which the child does not have.
child = os.fork()
if child == 0:
    found = asyncio.run(asyncio.wait_for(main(), 30))
    os._exit(0 if found == [(0, [os.getpid()])] else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), first == [(0, [os.getpid()])])
"""
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "0 True\n"


async def test_many_threads_and_many_tasks_at_once(clock: ManualClock) -> None:
    def threaded(record: Any) -> Any:
        return record.value

    async def asynchronous(record: Any) -> Any:
        await asyncio.sleep(0)
        return record.value

    batches = [batch_of(*range(at, at + 20)) for at in range(200)]
    invokers = [Invoker(each(threaded), clock=clock), Invoker(each(asynchronous), clock=clock)]
    answers = asyncio.gather(*(invokers[at % 2].invoke(batch) for at, batch in enumerate(batches)))
    for invocation, batch in zip(await answers, batches, strict=True):
        assert invocation.results == [(at, [record.value]) for at, record in enumerate(batch)]
