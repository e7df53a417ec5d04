from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import streamkit
from streamkit import Kit
from streamkit.testing.clock import ManualClock
from tests.alarms.sites import START


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit
