from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

import streamkit
from streamkit import Kit
from streamkit.alarms.actions import Attempts, PutToStream, SendToQueue, Trying, attempts_of
from streamkit.alarms.notification import lambda_event, sns_message
from streamkit.alarms.transition import AlarmTransition, label_of
from streamkit.errors import ValidationError


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    async with streamkit.open("memory:") as kit:
        yield kit


def change(alarm: str = "errors", at_ms: int = 1_700_000_000_000, **changes: Any) -> AlarmTransition:
    fields: dict[str, Any] = {"previous": "OK", "state": "ALARM", "reason": "it is"}
    return AlarmTransition(alarm=alarm, at_ms=at_ms, **{**fields, **changes})


async def test_a_queue_gets_the_message_of_sns(kit: Kit) -> None:
    queue = await kit.create_queue("pages")
    action = SendToQueue(queue)
    await action(change())
    (message,) = await queue.receive()
    assert message.value == sns_message(change())
    assert message.value["AlarmName"] == "errors"
    assert label_of(action) == "queue pages"
    assert repr(action) == "SendToQueue(Queue('pages', Codec(typing.Any)))"


async def test_a_queue_of_text_gets_what_its_document_makes(kit: Kit) -> None:
    queue = await kit.create_queue("pages", type=str)
    await SendToQueue(queue, document=lambda change: f"{change.alarm} is in {change.state}")(change())
    (message,) = await queue.receive()
    assert message.value == "errors is in ALARM"
    with pytest.raises(ValidationError, match="type=str"):
        await SendToQueue(queue)(change())


async def test_a_fifo_queue_has_a_group_for_each_alarm_and_each_change_once(kit: Kit) -> None:
    queue = await kit.create_queue("pages.fifo", fifo=True)
    action = SendToQueue(queue)
    for _ in range(2):
        await action(change())
    await action(change(at_ms=1_700_000_000_001))
    await action(change(state="INSUFFICIENT_DATA"))
    await action(change("other"))
    odd = "wörks, with spaces"
    await action(change(odd))
    await action(change("x" * 255))
    found = await queue.receive(10)
    assert [message.value["AlarmName"] for message in found if message.group_id == "errors"] == ["errors"] * 3
    assert len(found) == 6
    groups = {message.value["AlarmName"]: message.group_id for message in found}
    assert groups["other"] == "other"
    assert len({*groups.values()}) == 4
    assert all(len(group or "") == 64 for name, group in groups.items() if name in (odd, "x" * 255))


async def test_a_stream_gets_each_change_under_the_alarms_name(kit: Kit) -> None:
    stream = await kit.create_stream("changes")
    action = PutToStream(stream, document=lambda_event)
    await action(change())
    await PutToStream(stream, partition_key="all")(change("other"))
    first, second = [record async for record in stream.records()]
    assert (first.partition_key, first.value) == ("errors", json.loads(json.dumps(lambda_event(change()))))
    assert (second.partition_key, second.value) == ("all", sns_message(change("other")))
    assert label_of(action) == "stream changes"


async def test_a_handle_of_the_other_kind_is_refused(kit: Kit) -> None:
    stream = await kit.create_stream("changes")
    queue = await kit.create_queue("pages")
    with pytest.raises(ValidationError, match="is no queue"):
        SendToQueue(stream)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="is no stream"):
        PutToStream(queue)  # type: ignore[arg-type]
    table = await kit.create_table("items", partition_key="id")
    with pytest.raises(ValidationError, match="is no stream"):
        PutToStream(table)  # type: ignore[arg-type]


async def test_how_often_an_action_is_tried(kit: Kit) -> None:
    queue = await kit.create_queue("pages")
    assert attempts_of(print) == Attempts(most=5, timeout=30)
    assert attempts_of(SendToQueue(queue)) == Attempts()
    assert attempts_of(SendToQueue(queue, attempts=Attempts(most=2))).most == 2
    assert attempts_of(Trying(print, Attempts(most=1))).most == 1


class Caller:
    """An object that can be called, and has a secret."""

    secret = "hunter2"

    def __call__(self, transition: AlarmTransition) -> None: ...

    def method(self, transition: AlarmTransition) -> None: ...

    def __repr__(self) -> str:
        return self.secret


def test_labels_are_names_and_tell_no_arguments() -> None:
    assert label_of(Caller()) == f"{__name__}.Caller"
    assert label_of(Caller().method) == f"{__name__}.Caller.method"
    assert label_of(partial(partial(print, "hunter2"), "x")) == "builtins.print"
    assert label_of(Trying(partial(print, "hunter2"), Attempts())) == "builtins.print"
