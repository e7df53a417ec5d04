"""What a log line is about, lines of JSON, and what is said of errors."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import math
import threading
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Message, Record, Retry, each
from streamkit.errors import DecodeError, DiskFullError, FunctionError, ValidationError
from streamkit.functions.context import current_context
from streamkit.logs import ContextFilter, JsonFormatter, about, bind, context, json_logs, of_messages, of_records, said
from tests.logged import SECRET, Written, written

__all__ = ["written"]
log = logging.getLogger("shop")


# ---- the context


def test_blocks_add_to_each_other_and_end() -> None:
    assert context() == {}
    with bind(request_id="r-1", step=1):
        with bind(step=2):
            assert context() == {"request_id": "r-1", "step": 2}
        assert context() == {"request_id": "r-1", "step": 1}
    assert context() == {}


async def test_tasks_and_threads_within_inherit_it() -> None:
    async def seen() -> dict[str, object]:
        return context()

    with bind(step=1):
        assert await asyncio.create_task(seen()) == {"step": 1}
        assert await asyncio.to_thread(context) == {"step": 1}


async def test_what_a_task_logs_after_the_block_is_not_about_it() -> None:
    go_on = asyncio.Event()

    async def seen() -> dict[str, object]:
        await go_on.wait()
        return context()

    with bind(service="s"):
        with bind(step=1):
            left_behind = asyncio.create_task(seen())
            await asyncio.sleep(0)
        go_on.set()
        assert await left_behind == {"service": "s"}


async def test_tasks_that_start_each_other_keep_no_blocks_of_those_before() -> None:
    kept = []
    over = asyncio.Event()
    latest: list[asyncio.Task[None]] = []

    async def go_on(left: int) -> None:
        with bind(left=left):
            if left:
                latest[:] = [asyncio.create_task(go_on(left - 1))]
                return
        gc.collect()
        kept.append(sum(isinstance(each, about) for each in gc.get_objects()))
        over.set()

    latest.append(asyncio.create_task(go_on(100)))
    await over.wait()
    assert kept[0] < 20


def test_what_is_in_hand_is_told_by_names_and_numbers() -> None:
    records = [Numbered(3), Numbered(7)]
    assert of_records(records[:1]) == {"sequence_number": 3}
    assert of_records(records) == {"first_sequence_number": 3, "last_sequence_number": 7, "records": 2}
    assert of_records([]) == {"records": 0}
    messages = [Received(f"m{number}") for number in range(12)]
    assert of_messages(messages[:1]) == {"message_id": "m0", "receive_count": 1}
    assert of_messages(messages) == {"message_ids": [f"m{number}" for number in range(10)], "messages": 12}


class Numbered:
    def __init__(self, sequence_number: int) -> None:
        self.sequence_number = sequence_number


class Received:
    receive_count = 1

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id


# ---- lines


def test_a_line_is_one_object_with_context_and_extras(written: Written) -> None:
    with bind(stream="orders"):
        log.info("charged\n%s", "ada", extra={"cents": 120})
    (line,) = written()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO", "logger": "shop", "message": "charged\nada", "stream": "orders", "cents": 120,
    }  # fmt: skip


def test_an_extra_goes_before_the_context_and_never_before_the_line_itself(written: Written) -> None:
    with bind(stream="orders", level="nonsense"):
        log.info("charged", extra={"stream": "mine", "time": "never"})
    (line,) = written()
    assert (line["stream"], line["level"]) == ("mine", "INFO")
    assert line["time"] != "never"


def test_an_exception_has_its_type_and_traceback(written: Written) -> None:
    try:
        raise KeyError("x")
    except KeyError:
        log.exception("failed", stack_info=True)
    (line,) = written()
    assert line["exception"] == "KeyError"
    assert line["traceback"].startswith("Traceback (most recent call last)")
    assert line["traceback"].endswith("KeyError: 'x'")
    assert "Stack (most recent call last)" in line["stack"]


@pytest.mark.parametrize("strange", [math.nan, {1, 2}, {(1, 2): 3}, b"\xff", "\ud800", object()])
def test_no_value_loses_a_line(written: Written, strange: object) -> None:
    log.info("charged", extra={"strange": strange, "total": 5})
    (line,) = written()
    assert (line["message"], line["total"]) == ("charged", 5)
    assert "strange" in line


def test_what_has_no_json_form_leaves_the_others_theirs(written: Written) -> None:
    log.info("charged", extra={"strange": object(), "items": [1, 2]})
    assert written()[0]["items"] == [1, 2]


def test_a_list_within_itself_loses_no_line(written: Written) -> None:
    endless: list[object] = []
    endless.append(endless)
    log.info("charged", extra={"endless": endless})
    assert written()[0]["endless"] == "[[...]]"


def test_other_formatters_show_the_context_with_the_filter() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(ContextFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s [%(context)s]"))
    logger = logging.Logger("apart")
    logger.addHandler(handler)
    with bind(stream="orders", sequence_number=7):
        logger.info("charged")
    logger.info("idle")
    assert stream.getvalue() == "INFO charged [stream=orders sequence_number=7]\nINFO idle []\n"


def test_lines_that_another_thread_writes_keep_their_context() -> None:
    waiting: SimpleQueue[Any] = SimpleQueue()
    stream = io.StringIO()
    target = logging.StreamHandler(stream)
    target.setFormatter(JsonFormatter())
    handler = QueueHandler(waiting)
    handler.addFilter(ContextFilter())
    logger = logging.Logger("apart")
    logger.addHandler(handler)
    with bind(stream="orders"):
        logger.info("charged")
    listener = QueueListener(waiting, target)
    listener.start()
    listener.stop()
    line = json.loads(stream.getvalue())
    assert line["stream"] == "orders"
    assert "context" not in line  # Which is the same again.


def test_loggers_that_are_adopted_log_like_all_others(written: Written) -> None:
    server = logging.getLogger("test.server")
    server.propagate = False
    server.addHandler(logging.StreamHandler(io.StringIO()))
    stream = io.StringIO()
    json_logs(stream=stream, adopt=["test.server"])
    server.warning("started")
    assert json.loads(stream.getvalue())["message"] == "started"


def test_a_level_that_is_none_is_refused(written: Written) -> None:
    for wrong in ("LOUD", 1.5):
        with pytest.raises(ValidationError, match="is no level: use one of logging's"):
            json_logs(wrong)  # type: ignore[arg-type]


# ---- what is said of errors


def test_an_error_says_its_text_only_if_that_quotes_no_data() -> None:
    assert said(DiskFullError("/data")).startswith("DiskFullError: no space left for /data")
    assert said(FunctionError("Task timed out after 3.00 seconds")).endswith("timed out after 3.00 seconds")
    passed_on = FunctionError(f"the sink failed: {SECRET}")
    passed_on.__cause__ = ValueError(SECRET)
    for error in (ValueError(SECRET), ValidationError(SECRET), DecodeError(SECRET), passed_on):
        assert said(error) == type(error).__qualname__


# ---- what is handled


async def test_a_consumers_handler_logs_what_it_has_in_hand(written: Written) -> None:
    done = asyncio.Event()

    async def handle(batch: Batch[Any]) -> None:
        log.info("handling")
        if not done.is_set():
            done.set()
            raise ValueError(SECRET)

    def in_a_thread(batch: Batch[Any]) -> None:
        log.info("in a thread")

    async with streamkit.open("memory:") as kit:
        orders = await kit.create_stream("orders")
        await orders.put_batch([("k", SECRET), ("k", SECRET)])
        for name, handler in (("billing", handle), ("shipping", in_a_thread)):
            async with orders.consumer(name) as consumer:
                task = asyncio.create_task(consumer.run(handler, retry=Retry(first=0.0)))
                await until_caught_up(orders, name)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    lines = [line for line in written() if "shard" in line]
    shared = {"stream": "orders", "shard": "shardId-000000000000"}
    numbers = {"first_sequence_number": 1, "last_sequence_number": 2, "records": 2}
    expected = [
        ("handling", "billing", 1),
        ("attempt 1 at", "billing", 1),
        ("handling", "billing", 2),
        ("in a thread", "shipping", 1),
    ]
    for line, (message, who, attempt) in zip(lines, expected, strict=True):
        assert line["message"].startswith(message)
        assert line.items() >= {"consumer": who, "attempt": attempt, **shared, **numbers}.items()


async def test_a_call_that_begins_where_another_ends_logs_its_own_records(tmp_path: Path) -> None:
    seen = {}
    all_taken, done = asyncio.Event(), asyncio.Event()

    async def handle(batch: Batch[int]) -> None:
        if batch.values == [1, 2]:
            await all_taken.wait()
        seen[tuple(batch.values)] = context()
        (all_taken if batch.values == [4] else done if batch.values == [3] else asyncio.Event()).set()

    async with streamkit.open(tmp_path / "data") as kit:  # Where a checkpoint takes some time.
        orders = await kit.create_stream("orders", type=int)
        await orders.put_batch([("k", 1), ("k", 2), ("k", 3), ("l", 4)])
        async with orders.consumer("billing") as consumer, asyncio.timeout(20):
            task = asyncio.create_task(consumer.run(handle, concurrency=2, max_records=2))
            await done.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    shared = {"consumer": "billing", "stream": "orders", "shard": "shardId-000000000000", "attempt": 1}
    assert seen == {
        (1, 2): {**shared, "first_sequence_number": 1, "last_sequence_number": 2, "records": 2},
        (3,): {**shared, "sequence_number": 3},
        (4,): {**shared, "sequence_number": 4},
    }


async def test_a_workers_handler_logs_what_it_has_in_hand(written: Written) -> None:
    async def handle(message: Message[str]) -> None:
        log.info("handling")
        if message.receive_count == 1:
            raise ValueError(message.value)

    async def handle_all(values: list[str]) -> None:
        log.info("handling all")

    async with streamkit.open("memory:") as kit:
        queue = await kit.create_queue("emails", type=str)
        sent = await queue.send(SECRET)
        worker = kit.start(queue.worker(handle, retry=Retry(first=0.0), name="mailer"))
        await worker.wait_drained()
        await kit.stop(worker)
        first, failed, second = (line for line in written() if "message_id" in line)
        await queue.send_batch([SECRET, SECRET])
        await kit.start(queue.batch_worker(handle_all, max_messages=2)).wait_drained()
        (several,) = written()
    shared = {"service": "mailer", "worker": "mailer", "queue": "emails", "message_id": sent}
    assert first.items() >= {**shared, "message": "handling", "receive_count": 1}.items()
    assert failed.items() >= {**shared, "logger": "streamkit.queues", "receive_count": 1}.items()
    assert second.items() >= {**shared, "message": "handling", "receive_count": 2}.items()
    assert several["messages"] == len(several["message_ids"]) == 2


async def test_a_mappings_function_logs_what_it_has_in_hand(written: Written) -> None:
    requests: list[str] = []

    def count(batch: Batch[Any]) -> None:
        requests.append(current_context().aws_request_id)
        log.info("counting")
        if len(requests) == 1:
            raise ValueError(SECRET)

    async with streamkit.open("memory:") as kit:
        orders = await kit.create_stream("orders")
        await orders.put_batch([("k", SECRET), ("k", SECRET)])
        await kit.start(
            EventSourceMapping("count", source=orders, function=count, retry=Retry(first=0.0))
        ).wait_caught_up()
    first, failed, second = (line for line in written() if line.get("mapping") == "count")
    shared = {"service": "count", "stream": "orders", "shard": "shardId-000000000000", "records": 2}
    assert first.items() >= {**shared, "attempt": 1, "function": "count", "request_id": requests[0]}.items()
    assert failed.items() >= {**shared, "attempt": 1, "logger": "streamkit.functions"}.items()
    assert "function" not in failed
    assert second.items() >= {**shared, "attempt": 2, "request_id": requests[1]}.items()


async def test_a_function_of_single_items_logs_which_one_it_has(written: Written) -> None:
    async def one(item: Record[str] | Message[str]) -> None:
        log.info("handling %s", item.value)

    async with streamkit.open("memory:") as kit:
        orders = await kit.create_stream("orders", type=str)
        emails = await kit.create_queue("emails", type=str)
        await orders.put_batch([("k", "a"), ("k", "b")])
        sent = [await emails.send(text) for text in ("c", "d")]
        await kit.start(EventSourceMapping("records", source=orders, function=each(one))).wait_caught_up()
        await kit.start(EventSourceMapping("messages", source=emails, function=each(one))).wait_caught_up()
    lines = [line for line in written() if "mapping" in line]
    assert [(line["message"], line.get("sequence_number")) for line in lines[:2]] == [
        ("handling a", 1),
        ("handling b", 2),
    ]
    assert {(line["message"], line["message_id"], line["queue"]) for line in lines[2:]} == {
        ("handling c", sent[0], "emails"),
        ("handling d", sent[1], "emails"),
    }


async def until_caught_up(stream: streamkit.Stream[Any], consumer: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if (await stream.lag(consumer)).records == 0:
                    return
            except streamkit.NotFoundError:
                pass
            await asyncio.sleep(0)


def test_the_context_of_another_thread_is_its_own() -> None:
    seen: list[dict[str, object]] = []
    with bind(step=1):
        thread = threading.Thread(target=lambda: seen.append(context()))
        thread.start()
        thread.join()
    assert seen == [{}]
