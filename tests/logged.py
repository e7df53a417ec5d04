"""What tests of log lines share: what was logged, and a secret to look for in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamkit.logs import json_logs

SECRET = "4111-1111-1111-1111"
Written = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def written() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What has been logged since it was last asked, each line read as JSON."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    json_logs(logging.DEBUG, stream=stream)
    logging.getLogger("asyncio").setLevel(logging.INFO)

    def lines() -> list[dict[str, Any]]:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return [json.loads(line) for line in text.splitlines()]

    yield lines
    logging.getLogger("asyncio").setLevel(logging.NOTSET)
    root.handlers[:] = handlers
    root.setLevel(level)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of what tells nobody
        await asyncio.sleep(0)
