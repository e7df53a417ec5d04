"""Kinds of functions, what may be one, and how a failure of one stays its own."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

import streamkit
from streamkit import EventSourceMapping, Kit
from streamkit.errors import DecodeError, FunctionError, ValidationError
from streamkit.functions.context import LambdaContext, current_context
from streamkit.functions.function import Function, Invoker, check_function, each
from streamkit.functions.invocation import Invocation, Window
from streamkit.functions.lambda_handler import lambda_handler
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import batch_of, messages_of

WINDOW = Window(start_ms=0, end_ms=60_000, state={"sum": 1, "seen": [1]})


async def invoke(function: Any, *values: Any, **options: Any) -> Invocation:
    return await Invoker(function, clock=ManualClock()).invoke(batch_of(*values), **options)


async def invoke_messages(function: Any, *values: Any, groups: Any = ()) -> Invocation:
    messages = messages_of(*values, groups=groups)
    return await Invoker(function, clock=ManualClock()).invoke_messages(messages, queue="q", fifo=bool(groups))


# ---- kinds


class Doubling:
    """An object with a coroutine function as its ``__call__``."""

    async def __call__(self, batch: Any) -> list[Any]:
        assert current_context().function_name == "Doubling"
        return [value * 2 for value in batch.values]


async def doubled(batch: Any) -> list[Any]:
    return [value * 2 for value in batch.values]


def doubled_in_a_thread(batch: Any) -> list[Any]:
    return [value * 2 for value in batch.values]


async def times(factor: int, batch: Any) -> list[Any]:
    return [value * factor for value in batch.values]


@pytest.mark.parametrize(
    "function",
    [
        doubled,
        doubled_in_a_thread,
        Doubling(),
        functools.partial(times, 2),
        Function(doubled, timeout=5),
        each(lambda record: record.value * 2),
        Function(each(lambda record: record.value * 2)),
    ],
)
async def test_functions_of_every_kind(function: Any) -> None:
    assert (await invoke(function, 1, 2)).results == [(0, [2]), (1, [4])]


async def test_without_a_function_the_values_are_the_results() -> None:
    assert await invoke(None, 1, None, [2, 3]) == Invocation([(0, [1]), (2, [[2, 3]])], 3)
    assert await invoke_messages(None, "a", "b") == Invocation([(0, ["a"]), (1, ["b"])], 2)


async def test_what_does_not_decode_fails_alone() -> None:
    batch = batch_of(b"1", b"no json", b"3", type_=bytes)
    typed = batch_of(1)
    for record in batch:
        record.codec = typed[0].codec
    function: Any
    for function in (None, each(lambda record: record.value)):
        invocation = await Invoker(function, clock=ManualClock()).invoke(batch)
        assert (invocation.results, invocation.done, invocation.failed) == ([(0, [1])], 1, 1)
        assert isinstance(invocation.error, DecodeError)


async def test_each_of_a_queue_goes_on_after_a_failure() -> None:
    @each
    async def picky(message: Any) -> Any:
        if message.value < 0:
            raise ValueError(message.value)
        return message.value

    invocation = await invoke_messages(picky, 1, -2, 3, -4)
    assert (invocation.results, invocation.done, invocation.failures) == ([(0, [1]), (2, [3])], 2, (1, 3))
    assert str(invocation.error) == "-2"


@pytest.mark.parametrize("threaded", [False, True])
async def test_each_of_a_fifo_queue_leaves_what_is_behind_a_failure_in_its_group(threaded: bool) -> None:
    called: list[Any] = []

    def handle(message: Any) -> Any:
        called.append(message.value)
        if message.value == "bad":
            raise ValueError("bad")
        return message.value

    async def async_handle(message: Any) -> Any:
        return handle(message)

    function = each(handle) if threaded else each(async_handle)
    invocation = await invoke_messages(function, "a1", "bad", "b1", "a2", "b2", groups=["a", "a", "b", "a", "b"])
    assert called == ["a1", "bad", "b1", "b2"]
    assert invocation.results == [(0, ["a1"]), (2, ["b1"]), (4, ["b2"])]
    assert (invocation.done, invocation.failed, invocation.failures) == (3, 2, (1, 3))


async def test_a_batch_function_of_messages() -> None:
    async def some(messages: Any) -> Any:
        return {
            "results": [m.value for m in messages],
            "batchItemFailures": [{"itemIdentifier": messages[1].message_id}],
        }

    invocation = await invoke_messages(some, "a", "b", "c")
    assert (invocation.results, invocation.failures) == ([(0, ["a"]), (2, ["c"])], (1,))
    assert invocation.reported


async def test_a_useless_answer_is_reported_and_not_raised() -> None:
    async def junk(batch: Any) -> Any:
        return 42

    invocation = await invoke(junk, 1, 2)
    assert (invocation.done, invocation.failed, invocation.reported) == (0, 2, True)
    assert "the function returned a value of type int: return None, a list" in str(invocation.error)


# ---- windows


async def test_a_batch_function_has_the_window_in_its_context() -> None:
    async def summing(batch: Any) -> Any:
        window = current_context().window
        assert window is not None
        window.state["sum"] += sum(batch.values)
        window.state["seen"].append(2)
        return {"state": window.state, "results": ["total"] if window.final else []}

    invocation = await invoke(summing, 2, 3, window=WINDOW)
    assert invocation.state == {"sum": 6, "seen": [1, 2]}
    # What a failing invocation does to its state must not reach the next attempt.
    assert WINDOW.state == {"sum": 1, "seen": [1]}
    final = Window(start_ms=0, end_ms=60_000, state={"sum": 6, "seen": []}, final=True)
    assert (await invoke(summing, window=final)).results == [(0, ["total"])]


async def test_a_lambda_handler_has_the_window_in_its_event() -> None:
    def handler(event: Any, context: Any) -> Any:
        assert event["window"] == {"start": "1970-01-01T00:00:00Z", "end": "1970-01-01T00:01:00Z"}
        event["state"]["sum"] += len(event["Records"])
        return {"state": event["state"]}

    invocation = await invoke(lambda_handler(handler), 2, 3, window=WINDOW)
    assert invocation.state == {"sum": 3, "seen": [1]}
    assert WINDOW.state["sum"] == 1


async def test_no_state_in_a_window_is_a_failure() -> None:
    for function in (doubled, lambda_handler(lambda event, context: None)):
        invocation = await invoke(function, 1, window=WINDOW)
        assert (invocation.failed, invocation.state) == (1, None)
        assert 'return {"state"' in str(invocation.error) or "no response" in str(invocation.error)


# ---- isolation


class Unheard(BaseException):
    """Nothing that ``except Exception`` sees."""


def exits() -> None:
    raise SystemExit(3)


def unheard() -> None:
    raise Unheard("of")


def stops() -> None:
    raise StopIteration("early")


def fails() -> None:
    raise ValueError("boom")


def is_cancelled() -> None:
    raise asyncio.CancelledError


FAULTS: list[tuple[Callable[[], None], type[Exception], str]] = [
    (fails, ValueError, "boom"),
    (exits, FunctionError, "Runtime exited with error: exit status 3"),
    (unheard, FunctionError, "Unheard: of"),
    (stops, Exception, "StopIteration|early"),
    (is_cancelled, FunctionError, "cancelled|CancelledError"),
]


@pytest.mark.parametrize("kind", ["batch", "each", "lambda"])
@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize(("fault", "error_type", "text"), FAULTS)
async def test_whatever_a_function_raises_fails_its_invocation(
    fault: Callable[[], None], error_type: type[Exception], text: str, threaded: bool, kind: str
) -> None:
    def plain(*arguments: Any) -> None:
        fault()

    async def asynchronous(*arguments: Any) -> None:
        fault()

    handler: Any = plain if threaded else asynchronous
    function = {"batch": handler, "each": each(handler), "lambda": lambda_handler(handler)}[kind]
    invocation = await invoke(function, 1, 2)
    assert isinstance(invocation.error, error_type)
    assert re.search(text, str(invocation.error))
    assert (invocation.done, invocation.failed, invocation.reported) == (0, 1 if kind == "each" else 2, False)
    assert invocation.request_id


async def test_an_exit_has_lambdas_error_type() -> None:
    invocation = await invoke(each(lambda record: exits()), 1)
    assert isinstance(invocation.error, FunctionError)
    assert invocation.error.error_type == "Runtime.ExitError"
    assert isinstance(invocation.error.__cause__, SystemExit)


async def test_a_function_that_cancels_its_own_task_fails_alone() -> None:
    async def suicidal(batch: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    for function in (suicidal, each(suicidal)):
        invocation = await invoke(function, 1)
        assert "cancelled" in str(invocation.error)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_function_that_awaits_something_cancelled_fails_alone() -> None:
    async def waiting(record: Any) -> Any:
        if record.value == 2:
            other = asyncio.ensure_future(asyncio.Event().wait())
            other.cancel()
            await other
        return record.value

    invocation = await invoke(each(waiting), 1, 2, 3)
    assert (invocation.results, invocation.done, invocation.failed) == ([(0, [1])], 1, 1)
    assert "awaited something that was cancelled" in str(invocation.error)


async def test_what_a_function_sets_in_its_context_variables_stays_its_own() -> None:
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    def setting(batch: Any) -> None:
        seen.append(variable.get())
        variable.set(variable.get() + 1)

    async def also(batch: Any) -> None:
        setting(batch)

    for function in (setting, also, setting, also):
        assert (await invoke(function, 1)).error is None
    assert seen == [0, 0, 0, 0]
    assert variable.get() == 0


async def test_a_lambda_answer_that_is_no_json_is_a_marshal_error() -> None:
    invocation = await invoke(lambda_handler(lambda event, context: {"set": {1}}), 1)
    assert isinstance(invocation.error, FunctionError)
    assert (invocation.error.error_type, invocation.reported) == ("Runtime.MarshalError", False)


async def test_a_message_that_no_event_can_hold_fails_without_a_call() -> None:
    called: list[Any] = []
    invoker = Invoker(lambda_handler(lambda event, context: called.append(event)), clock=ManualClock())
    (message,) = messages_of(1)
    from streamkit.queues.message import Message, ReceivedMessage

    binary = Message(ReceivedMessage("m", b"\xff", "h", 1, 0, 0), message._codec)
    for _ in range(3):  # The slot is given back.
        invocation = await invoker.invoke_messages([message, binary], queue="q", fifo=False)
        assert (invocation.done, invocation.failures) == (0, (0, 1))
        assert "is no text" in str(invocation.error)
    assert called == []


# ---- the context


async def test_the_context_of_a_lambda_handler(clock: ManualClock) -> None:
    contexts: list[Any] = []

    def failing(event: Any, context: Any) -> None:
        contexts.append(context)
        raise ValueError("no")

    handler = lambda_handler(failing, function_name="orders", function_version="7", memory_limit_in_mb=512)
    invoker = Invoker(Function(handler, timeout=20), clock=clock)
    first, second = [await invoker.invoke(batch_of(1)) for _ in range(2)]
    context: LambdaContext = contexts[0]
    assert context.function_name == "orders"
    assert context.function_version == "7"
    assert context.invoked_function_arn == "arn:aws:lambda:us-east-1:000000000000:function:orders"
    assert context.memory_limit_in_mb == "512"
    assert context.log_group_name == "/aws/lambda/orders"
    assert re.fullmatch(r"2023/11/14/\[7\][0-9a-f]{32}", context.log_stream_name)
    assert (context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id) == (None, None)
    assert context.client_context is None
    assert context.tenant_id is None
    assert context.window is None
    assert [first.request_id, second.request_id] == [each.aws_request_id for each in contexts]
    assert first.request_id != second.request_id
    assert contexts[1].log_stream_name == context.log_stream_name
    assert "orders" in repr(context)


async def test_the_remaining_time(clock: ManualClock) -> None:
    left: list[int] = []

    async def waiting(batch: Any) -> None:
        context = current_context()
        left.append(context.get_remaining_time_in_millis())
        await clock.sleep_until(clock.now_ms() + 1500)
        left.append(context.get_remaining_time_in_millis())
        try:
            await asyncio.Event().wait()
        finally:
            left.append(context.get_remaining_time_in_millis())
            await clock.sleep_until(clock.now_ms() + 500)
            left.append(context.get_remaining_time_in_millis())

    task = asyncio.create_task(Invoker(Function(waiting, timeout=4), clock=clock).invoke(batch_of(1)))
    await clock.advance(5)
    assert "Task timed out after 4.00 seconds" in str((await task).error)
    assert left == [4000, 2500, 0, 0]


async def test_without_a_time_limit_the_remaining_time_is_lambdas_longest(clock: ManualClock) -> None:
    left: list[int] = []
    await Invoker(each(lambda _: left.append(current_context().get_remaining_time_in_millis())), clock=clock).invoke(
        batch_of(1, 2)
    )
    assert left == [900_000, 900_000]


async def test_every_function_has_a_context_and_nothing_else_has() -> None:
    names: list[str] = []

    def named(item: Any) -> None:
        names.append(current_context().function_name)

    async def also_named(item: Any) -> None:
        await asyncio.gather(asyncio.to_thread(named, item))

    for function in (named, also_named, each(named), Function(each(also_named), name="mine")):
        assert (await invoke(function, 1)).error is None
        assert (await invoke_messages(function, 1)).error is None
    assert names == ["named", "named", "also_named", "also_named", "named", "named", "mine", "mine"]
    with pytest.raises(ValidationError, match="there is no function context here"):
        current_context()


# ---- metrics


async def test_what_is_published(clock: ManualClock) -> None:
    metrics = Metrics()

    async def some(batch: Any) -> Any:
        what = batch[0].value
        if what == "wait":
            await clock.sleep_until(clock.now_ms() + 2500)
        if what == "fail":
            raise ValueError("failed")
        return {"batchItemFailures": [{"itemIdentifier": "1"}]} if what == "report" else None

    invoker = Invoker(Function(some, timeout=9, concurrency=2, name="some"), clock=clock, metrics=metrics)
    for what in ("fail", "report", "go"):
        await invoker.invoke(batch_of(what))
    tasks = [asyncio.create_task(invoker.invoke(batch_of("wait"))) for _ in range(3)]
    await clock.advance(3)
    await asyncio.gather(*tasks)

    def published(name: str) -> tuple[int, float, float]:
        total = metrics.total(Metric.of("AWS/Lambda", name, FunctionName="some"))
        assert total is not None
        return total.sample_count, total.sum, total.maximum

    assert published("Invocations") == (5, 5, 1)
    assert published("Errors") == (5, 1, 1)  # What is reported is no error of the function.
    assert published("Throttles") == (1, 1, 1)
    assert published("Duration") == (5, 5000, 2500)
    assert published("ConcurrentExecutions") == (5, 6, 2)


async def test_a_mapping_publishes_them(kit_of_numbers: Kit) -> None:
    async def nothing_much(batch: Any) -> None:
        await asyncio.sleep(0)

    function = Function(nothing_much, name="größe")  # The names of dimensions are ASCII.
    mapping = kit_of_numbers.start(
        EventSourceMapping("m", source=kit_of_numbers.stream("numbers"), function=function, batch_size=5)
    )
    await mapping.wait_caught_up()
    total = kit_of_numbers.metrics.total(Metric.of("AWS/Lambda", "Invocations", FunctionName="gr\\xf6\\xdfe"))
    assert total is not None
    assert total.sum == 2


# ---- what may be a function


def two(event: Any, context: Any) -> None: ...
def optional(batch: Any, option: int = 0) -> None: ...
def nothing() -> None: ...
def three(first: Any, second: Any, third: Any) -> None: ...
def keyword(*, batch: Any) -> None: ...
async def async_two(event: Any, context: Any) -> None: ...


TWO: Any = two
NUMBER: Any = 42
NOTHING: Any = nothing


@pytest.mark.parametrize("function", [two, async_two, each(TWO), functools.partial(three, 1)])
def test_a_lambda_handler_given_bare_is_refused_with_advice(function: Any) -> None:
    with pytest.raises(ValidationError, match=r"takes two arguments: if it is a Lambda handler.*lambda_handler\("):
        check_function(function)


@pytest.mark.parametrize("function", [nothing, three, keyword, each(NOTHING)])
def test_what_does_not_take_one_argument_is_refused(function: Any) -> None:
    with pytest.raises(ValidationError, match="does not take one argument"):
        check_function(function)


@pytest.mark.parametrize("function", [optional, print, each(optional), Function(optional), lambda_handler(two), None])
def test_what_can_be_called_is_taken(function: Any) -> None:
    check_function(function)


@pytest.mark.parametrize("handler", [nothing, three, lambda event: None, lambda_handler])
def test_what_is_no_lambda_handler_is_refused(handler: Any) -> None:
    with pytest.raises(ValidationError, match="does not take"):
        check_function(lambda_handler(handler))


def test_what_cannot_be_called_is_refused() -> None:
    for function in ("text", each(NUMBER)):
        with pytest.raises(ValidationError, match="a function that can be called"):
            check_function(function)
    with pytest.raises(ValidationError, match="lambda_handler needs a function"):
        lambda_handler("text")  # type: ignore[arg-type]


@pytest.mark.parametrize("types", ["ReportBatchItemFailures", ("Other",)])
def test_unknown_response_types_are_refused(types: Any) -> None:
    with pytest.raises(ValidationError, match="function_response_types is"):
        lambda_handler(two, function_response_types=types)


@pytest.mark.parametrize("function", [None, each(optional), Function(each(optional))])
def test_a_window_needs_a_function_that_returns_state(function: Any) -> None:
    with pytest.raises(ValidationError, match="a tumbling window needs a batch function or a Lambda handler"):
        check_function(function, windowed=True)


@pytest.mark.parametrize("timeout", [0, -1, 900.5, True, "3", float("nan")])
def test_time_limits_out_of_range_are_refused(timeout: Any) -> None:
    with pytest.raises(ValidationError, match="timeout is a number of seconds over 0, at most 900"):
        Function(optional, timeout=timeout)


@pytest.mark.parametrize("concurrency", [0, -1, 1001, True, 1.5])
def test_concurrency_out_of_range_is_refused(concurrency: Any) -> None:
    with pytest.raises(ValidationError, match="concurrency is 1 to 1,000"):
        Function(optional, concurrency=concurrency)


def test_a_function_is_not_limited_twice() -> None:
    with pytest.raises(ValidationError, match="has its limits already"):
        Function(Function(optional))


async def test_the_mapping_refuses_what_its_invoker_would(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("numbers")
        with pytest.raises(ValidationError, match=r"say lambda_handler\(two\)"):
            EventSourceMapping("m", source=stream, function=TWO)
        with pytest.raises(ValidationError, match="a tumbling window needs"):
            EventSourceMapping("m", source=stream, function=each(optional), tumbling_window=60)


def test_functions_are_called_as_they_are_in_a_test_of_them() -> None:
    def double(number: int) -> int:
        return number * 2

    assert each(double)(4) == 8
    assert Function(each(double), timeout=1)(4) == 8
    assert lambda_handler(lambda event, context: (event, context))({"a": 1}, "context") == ({"a": 1}, "context")


def test_reprs_and_names() -> None:
    def documented(batch: Any) -> None:
        """Does something."""

    assert repr(Function(each(documented), timeout=3)) == "Function(each(documented), timeout=3, concurrency=None)"
    assert repr(lambda_handler(two, function_name="orders")) == "lambda_handler(orders)"
    for function in (each(documented), Function(documented), Function(each(documented))):
        assert (function.__name__, function.__doc__) == ("documented", "Does something.")
    # Metrics have these names: no address of an object may be in them.
    assert each(functools.partial(documented)).__name__ == "documented"
    assert Function(Doubling()).__name__ == "Doubling"
    assert Invoker(lambda batch: None, metrics=Metrics()).name == "<lambda>"


# ---- through a mapping


async def test_a_throttled_mapping_loses_nothing(kit_of_numbers: Kit, clock: ManualClock) -> None:
    """Two mappings share a function of one invocation at a time, which takes longer than they wait for it."""
    seen: list[int] = []

    async def slow(batch: Any) -> None:
        seen.append(len(batch))
        await clock.sleep_until(clock.now_ms() + 5000)

    function = Function(slow, concurrency=1)
    mappings = [
        kit_of_numbers.start(
            EventSourceMapping(name, source=kit_of_numbers.stream("numbers"), function=function, batch_size=5)
        )
        for name in ("one", "two")
    ]
    caught_up = asyncio.gather(*(mapping.wait_caught_up() for mapping in mappings))
    while not caught_up.done():
        await clock.advance(1)
    assert sum(seen) == 20


@pytest.fixture
async def kit_of_numbers(clock: ManualClock) -> Any:
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("numbers")
        await stream.put_batch([("k", n) for n in range(10)])
        yield kit


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_function_that_exits_harms_no_other_mapping(
    threaded: bool, kit_of_numbers: Kit, clock: ManualClock
) -> None:
    async def asynchronous(record: Any) -> None:
        if record.value == 5:
            exits()

    def plain(record: Any) -> None:
        if record.value == 5:
            exits()

    source = kit_of_numbers.stream("numbers")
    failed = await kit_of_numbers.create_queue("failed")
    function: Any = each(plain) if threaded else each(asynchronous)
    exiting = EventSourceMapping("exits", source=source, function=function, maximum_retry_attempts=1, on_failure=failed)
    mappings = [
        kit_of_numbers.start(exiting),
        kit_of_numbers.start(EventSourceMapping("ok", source=source, sink=failed)),
    ]
    caught_up = asyncio.gather(*(mapping.wait_caught_up() for mapping in mappings))
    while not caught_up.done():
        await clock.advance(1)
    assert mappings[0].counts.dropped == 1
    assert mappings[1].counts.written == 10
    assert kit_of_numbers.health().healthy
