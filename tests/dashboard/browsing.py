"""A real browser, and a kit with a dashboard on an event loop of its own for it to look at."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

import streamkit
from streamkit import Alarm, EventSourceMapping, Kit, Metric, Record, each
from streamkit.dashboard import Dashboard
from streamkit.opening import OPENED
from tests.dashboard.asking import NASTY, dead_letters

T = TypeVar("T")

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_MS = 15_000


def chromium() -> str:
    """Where it is. Without one these tests are skipped, but never where they are what is to be proved."""
    for name in ("chromium", "chromium-browser", "google-chrome", "/usr/bin/chromium"):
        if (found := shutil.which(name)) is not None:
            return found
    reason = "there is no Chromium: apt-get install chromium"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{reason}; in CI these tests are not skipped")
    pytest.skip(reason)


class Served:
    """A kit that lives in a thread, and its dashboard."""

    def __init__(self, url: str = "memory:", token: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="served kit")
        self._thread.start()
        self.kit: Kit = self.do(self._open(url))
        self.board = Dashboard(self.kit, port=0, token=token)
        self.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the kit's event loop."""
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(30)

    def start(self) -> None:
        async def started() -> None:
            await self.board.bind()
            self.kit.start(self.board)

        self.do(started())

    def stop(self) -> None:
        """Take the dashboard away, and have another for the same port."""
        port = self.board.port
        self.do(self.kit.stop(self.board))
        self.board = Dashboard(self.kit, port=port)

    def close(self) -> None:
        try:
            self.do(self.kit.__aexit__(ValueError, ValueError(), None))  # A service of it has failed on purpose.
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(30)
            self._loop.close()

    async def _open(self, url: str) -> Kit:
        kit = await streamkit.open(url)
        # Tests share it, and a service of it fails on purpose, which is no failure of the one that is first.
        OPENED.discard(kit)
        return kit


class Broken:
    """A service that fails."""

    name = f"broken {NASTY}"

    async def run(self, stop: streamkit.Stop) -> None:
        raise ValueError(NASTY)


async def fill(kit: Kit) -> None:
    """Something of everything, and as much of it as can be hostile."""
    orders = await kit.create_stream("orders", shards=2)
    await kit.create_stream("clicks")
    await orders.put_batch([(f"customer-{n % 7}", {"id": n, "total": n * 10}) for n in range(40)])
    await orders.put({"html": NASTY}, partition_key=NASTY)
    totals = await kit.create_table("totals", partition_key="id", sort_key="day", ttl="until")

    @each
    def total(order: Record[Any]) -> dict[str, Any]:
        return {"id": str(order.value.get("id")), "day": "monday"}

    await kit.start(EventSourceMapping("order-totals", source=orders, function=total, sink=totals)).wait_caught_up()
    async with orders.consumer("billing") as consumer:
        async for batch in consumer.batches(max_records=3):
            await consumer.checkpoint(batch)
            break
    await dead_letters(kit, 3, error=f"ValueError: {NASTY}")
    await kit.queue("jobs").send_batch([{"n": 1}, {"n": 2}])
    await kit.queue("jobs").send({"n": 3}, delay=600)
    metric = Metric.of("n", "m")
    for name in ("too slow", f"alarm {NASTY}"):
        # A day is not over before the test is.
        alarm = Alarm(
            name,
            metric=metric,
            statistic="Sum",
            period=86_400,
            threshold=0,
            comparison="GreaterThanThreshold",
            treat_missing_data="notBreaching",
        )
        await kit.start(alarm).wait_for("OK")
    kit.alarms.set_state("too slow", "ALARM", f"because {NASTY}")
    kit.alarms.set_state("too slow", "OK", "it is fast again")
    kit.alarms.set_state("too slow", "ALARM", f"slow: {NASTY}")
    kit.start(Broken())


class Watched:
    """A page of the browser that notes whatever goes wrong in it."""

    def __init__(self, browser: Browser, url: str, *, expecting: tuple[str, ...] = (), **options: Any) -> None:
        self.url = url
        self.wrong: list[str] = []
        self._expecting = expecting
        self._context = browser.new_context(**options)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", self._asked)
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective))"
        )

    def __enter__(self) -> Page:
        self.page.goto(self.url)
        self.page.wait_for_selector(".connection.live")
        return self.page

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._context.close()
        if kind is None:
            assert self.wrong == []

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(each in message.text for each in self._expecting):
            self.wrong.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self.url.partition("?")[0]):
            self.wrong.append(f"asked for {request.url}")


def look_again(page: Page) -> None:
    """Have the page ask now and not in two seconds, as it does when somebody comes back to it."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
