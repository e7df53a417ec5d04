"""Alarms of a kit over a directory: what the next process finds, and what keeps nothing from being evaluated."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamkit
from streamkit import Kit
from streamkit.alarms.actions import SendToQueue
from streamkit.alarms.alarm import Alarm, AlarmState
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.runner import ACTIONS_FAILED
from streamkit.alarms.started import StartedAlarm
from streamkit.alarms.transition import AlarmTransition
from streamkit.alarms.webhook import Webhook
from streamkit.backoff import Retry
from streamkit.metrics.metric import Metric
from streamkit.testing.clock import ManualClock

START = 1_700_000_040_000  # on a minute
ERRORS = Metric.of("app", "Errors")


def alarm(name: str = "errors", **changes: Any) -> Alarm:
    fields: dict[str, Any] = {
        "metric": ERRORS,
        "statistic": "Sum",
        "period": 60,
        "threshold": 0,
        "comparison": "GreaterThanThreshold",
        "treat_missing_data": "notBreaching",
    }
    return Alarm(name, **{**fields, **changes})


async def until(kit: Kit, holds: Callable[[], bool]) -> None:
    """The file engine has threads, which no clock of ours moves: look until it holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


async def summaries(kit: Kit, name: str | None = None) -> list[str]:
    return [item.summary for item in await kit.alarms.history(name)]


def state(watcher: StartedAlarm) -> AlarmState:
    return watcher.state


async def test_the_next_process_goes_on_where_the_last_one_was(tmp_path: Path, clock: ManualClock) -> None:
    lasting = alarm(treat_missing_data="ignore")
    calls: list[AlarmTransition] = []
    async with streamkit.open(tmp_path, clock=clock) as kit:
        queue = await kit.create_queue("pages")
        watcher = kit.start(lasting, on_ok=calls.append, on_alarm=[calls.append, SendToQueue(queue)])
        await until(kit, lambda: kit.alarms._stored is not None)
        for value, expected in ((0, "OK"), (3, "ALARM")):
            kit.metrics.put(ERRORS, value)
            await clock.advance(60)
            assert state(watcher) == expected
        before = (watcher.state, watcher.reason, watcher.reason_data, watcher.changed_ms)
    assert [each.state for each in calls] == ["OK", "ALARM"]
    await clock.advance(5)
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(lasting, on_ok=calls.append, on_alarm=calls.append)
        await until(kit, lambda: state(watcher) == "ALARM")
        await clock.advance(1)
        assert (watcher.state, watcher.reason, watcher.reason_data, watcher.changed_ms) == before
        assert len(calls) == 2  # It was in ALARM already.
        kit.metrics.put(ERRORS, 0)
        await clock.advance(60)
        assert [each.state for each in calls] == ["OK", "ALARM", "OK"]
        assert calls[-1].previous_reason == before[1]
        (message,) = await kit.queue("pages").receive()
        assert (message.value["AlarmName"], message.value["NewStateValue"]) == ("errors", "ALARM")
        assert message.value["AlarmActions"] == ["list.append", "queue pages"]
        assert message.value["Trigger"]["MetricName"] == "Errors"
        assert [each for each in await summaries(kit, "errors") if "executed" not in each] == [
            "Alarm updated from ALARM to OK",
            "Alarm updated from OK to ALARM",
            "Alarm updated from INSUFFICIENT_DATA to OK",
            'Alarm "errors" created',
        ]
        assert len([each for each in await summaries(kit, "errors") if each.startswith("Successfully executed")]) == 4
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(alarm(threshold=5))
        await until(kit, lambda: state(watcher) == "OK")
        assert (await summaries(kit))[0] == 'Alarm "errors" updated'
        await kit.alarms.delete("errors")
        assert (await summaries(kit, "errors"))[0] == 'Alarm "errors" deleted'
    async with streamkit.open(tmp_path, clock=clock) as kit:
        assert await kit.alarms._history.states() == {}
        assert len(await summaries(kit, "errors")) == 10


async def test_a_state_that_is_set_before_the_stored_one_is_known_stays(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(alarm())
        await until(kit, lambda: state(watcher) == "OK")
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(alarm(treat_missing_data="ignore"))
        watcher.set_state("ALARM", "a rehearsal")
        await until(kit, lambda: kit.alarms._stored is not None)
        await clock.advance(1)
        assert (watcher.state, watcher.reason) == ("ALARM", "a rehearsal")
    async with streamkit.open(tmp_path, clock=clock) as kit:
        assert (await kit.alarms._history.states())["errors"].state == "ALARM"


async def test_what_a_composite_alarm_held_is_let_go_by_the_next_process(tmp_path: Path, clock: ManualClock) -> None:
    site = CompositeAlarm(
        "site",
        "ALARM(errors)",
        actions_suppressor="maintenance",
        actions_suppressor_wait_period=60,
        actions_suppressor_extension_period=60,
    )
    calls: list[AlarmTransition] = []

    async def begin(kit: Kit) -> StartedAlarm:
        for name in ("errors", "maintenance"):
            kit.start(alarm(name, treat_missing_data="ignore"))
        watcher = kit.start(site, on_alarm=calls.append)
        await until(kit, lambda: kit.alarms._stored is not None)
        return watcher

    async with streamkit.open(tmp_path, clock=clock) as kit:
        await begin(kit)
        await clock.advance(1)
        kit.alarms.set_state("errors", "ALARM", "by hand")
        await clock.advance(1)
        assert calls == []
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = await begin(kit)
        await clock.advance(1)
        assert state(watcher) == "ALARM"
        await clock.advance(70)
        assert [each.state for each in calls] == ["ALARM"]
        items = await kit.alarms.history("site", item_type="Action")
        assert items[0].summary.startswith("Successfully executed")
        assert items[0].alarm_type == "CompositeAlarm"


async def test_a_webhook_that_fails_delays_no_evaluation(tmp_path: Path, clock: ManualClock) -> None:
    """Neither of its own alarm nor of another one; and what waits behind it is done in its order."""
    requests: list[dict[str, Any]] = []
    arrived = asyncio.Condition()

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        requests.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        async with arrived:
            arrived.notify_all()

    async def requested(count: int) -> None:
        async with asyncio.timeout(30), arrived:
            await arrived.wait_for(lambda: len(requests) >= count)

    server = await asyncio.start_server(fail, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    webhook = Webhook(
        f"http://127.0.0.1:{port}/t0ken", timeout=1e6, attempts=3, retry=Retry(first=60, factor=1, jitter=False)
    )
    async with server, streamkit.open(tmp_path, clock=clock) as kit:
        seen: list[str] = []
        watcher = kit.start(alarm(), on_ok=webhook, on_alarm=webhook)
        other = kit.start(alarm("other"), on_alarm=lambda change: seen.append(change.state))
        await until(kit, lambda: state(watcher) == state(other) == "OK")
        await requested(1)
        # The first change is tried for 120 s more; meanwhile the alarm changes at each edge where it should.
        for minute in range(3):
            kit.metrics.put(ERRORS, 1)
            await clock.advance(60)
            assert (state(watcher), state(other), len(seen)) == ("ALARM", "ALARM", minute + 1)
            kit.metrics.put(ERRORS, 0)
            await clock.advance(60)
            assert (state(watcher), state(other)) == ("OK", "OK")
        runner: Any = kit.alarms._runner
        while runner._lanes:
            # Until the answer to an attempt was read, there is no timer for the next one.
            await until(kit, lambda: bool(runner._sleeping) or not runner._lanes)
            await clock.advance(60)
        assert [each["NewStateValue"] for each in requests[::3]] == ["OK", *["ALARM", "OK"] * 3]
        assert all(requests[at] == requests[at + 1] == requests[at + 2] for at in range(0, 21, 3))
        failed = kit.metrics.total(ACTIONS_FAILED)
        assert failed is not None
        assert failed.sum == 7
        actions = [item for item in await kit.alarms.history("errors") if item.item_type == "Action"]
        assert len(actions) == 7
        assert actions[0].summary == (
            f'Failed to execute action http://127.0.0.1:{port}. Received error: "http://127.0.0.1:{port} answered 503 '
            'Service Unavailable"'
        )
        assert "t0ken" not in repr(await kit.alarms.history())


WRITER = """
import asyncio, sys, streamkit
from streamkit.alarms.alarm import Alarm
from streamkit.metrics.metric import Metric

async def main():
    async with streamkit.open(sys.argv[1]) as kit:
        watcher = kit.start(Alarm("errors", metric=Metric.of("app", "Errors"), statistic="Sum", period=86400,
            threshold=0, comparison="GreaterThanThreshold", treat_missing_data="ignore"))
        for number in range(1_000_000):
            watcher.set_state(("OK", "ALARM")[number % 2], str(number))
            await kit.alarms.history("errors", item_type="ConfigurationUpdate")
            print(number, flush=True)

asyncio.run(main())
"""


def killed(directory: Path, lines: int) -> int:
    """The number of the last change that a process had seen in its history when it was killed."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    return int([line for line in said if line.endswith("\n")][-1])


async def test_a_state_survives_kill_9(tmp_path: Path) -> None:
    last = killed(tmp_path / "data", 20)
    async with streamkit.open(tmp_path / "data") as kit:
        stored = (await kit.alarms._history.states())["errors"]
        assert int(stored.reason) in (last, last + 1)
        assert stored.state == ("OK", "ALARM")[int(stored.reason) % 2]
        watcher = kit.start(
            Alarm(
                "errors",
                metric=ERRORS,
                statistic="Sum",
                period=86_400,
                threshold=0,
                comparison="GreaterThanThreshold",
                treat_missing_data="ignore",
            )
        )
        await until(kit, lambda: watcher.reason == stored.reason)
        assert state(watcher) == stored.state
