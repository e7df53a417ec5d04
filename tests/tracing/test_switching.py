"""Tracing that is not switched on, cannot be, or is switched off."""

from __future__ import annotations

import subprocess
import sys

import pytest

import streamkit
from streamkit import tracing
from streamkit.errors import StreamKitError, ValidationError
from streamkit.testing.clock import ManualClock
from tests.tracing.seen import Seen

_EVERYTHING = """
import asyncio, sys
import streamkit
import streamkit.tracing
from streamkit.functions.mapping import EventSourceMapping

async def main():
    async with streamkit.open("memory:") as kit:
        orders, jobs = await kit.create_stream("orders"), await kit.create_queue("jobs")
        done = await kit.create_table("done", partition_key="id")
        await orders.put({"id": "1"}, partition_key="k")
        await kit.start(EventSourceMapping("pick", source=orders, sink=jobs)).wait_caught_up()
        await kit.start(jobs.worker(done.put)).wait_drained()
        assert await done.get("1")
        {more}

asyncio.run(main())
print(*sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry"))
"""


def run(more: str, *, hide: bool = False) -> str:
    source = _EVERYTHING.replace("{more}", more)
    if hide:
        # As where it is not installed.
        source = f"import sys; sys.modules['opentelemetry'] = None\n{source}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_imported_before_it_is_switched_on() -> None:
    """Also by importing ``streamkit.tracing``."""
    assert run("pass") == "\n"
    assert "opentelemetry.trace" in run("streamkit.tracing.instrument(kit)")


def test_without_the_extra_it_says_what_to_install() -> None:
    asked = ("instrument(kit)", "links_of([])", "context_of(None)")
    calls = "".join(
        f"""
        try:
            streamkit.tracing.{each}
        except streamkit.StreamKitError as error:
            print(error)"""
        for each in asked
    )
    found = run(calls, hide=True)
    assert found.splitlines()[:3] == ["tracing needs OpenTelemetry: pip install 'streamkit[otel]'"] * 3


async def test_only_a_kit_is_instrumented(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        with pytest.raises(ValidationError, match=r"takes the kit that streamkit\.open gives, not a MemoryEngine"):
            tracing.instrument(kit.engine)  # type: ignore[arg-type]
    assert issubclass(ValidationError, StreamKitError)


async def test_a_second_call_replaces_the_first(seen: Seen, clock: ManualClock) -> None:
    """And counts for handles and services that are there already."""
    other = Seen()
    async with streamkit.open("memory:", clock=clock) as kit:
        jobs = await kit.create_queue("jobs")
        worker = kit.start(jobs.worker(print))
        tracing.instrument(kit, tracer_provider=other.provider)
        tracing.instrument(kit, tracer_provider=seen.provider)
        await jobs.send("")
        await worker.wait_drained()
        tracing.uninstrument(kit)
        await jobs.send("")
        await worker.wait_drained()
    assert other.names() == []
    assert sorted(seen.names()) == ["delete jobs", "process jobs", "receive jobs", "send jobs"]


def test_the_global_provider_counts_from_when_it_is_set() -> None:
    """Also where that is after the kit was instrumented."""
    found = run(
        """
        from opentelemetry import trace
        from tests.tracing.seen import Seen
        streamkit.tracing.instrument(kit)
        await orders.put(1, partition_key="k")
        seen = Seen()
        trace.set_tracer_provider(seen.provider)
        await orders.put(2, partition_key="k")
        print(len(seen.named("send orders")), [record.attributes.keys() for record in await orders.tail(2)])"""
    )
    assert found.splitlines()[0] == "1 [dict_keys([]), dict_keys(['traceparent'])]"
