"""Every example runs as a program of its own, with warnings as errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

EXPECTED = {
    "big_orders.py": "40 big orders of 101 records; 1 could not be handled",
    "dead_letter_alarm.py": "emails-are-dying is in ALARM",
    "fastapi_service.py": "ada: {'orders': 2, 'total': 200}",
    "fifo_accounts.py": "4 went back: {'ada': 50, 'bob': 50, 'carol': 50}",
    "asyncio_service.py": "drained: 2 jobs are done",
    "emails_queue.py": "dead letter from emails: 'nobody' after 3 tries",
    "lambda_handler.py": "{'ada': 570, 'bob': 590, 'eve': 610}, and 2 batches were done in two parts",
    "log_errors_alarm.py": "errors-in-the-log: ALARM: Threshold Crossed: 1 out of the last 1 datapoints [1.0",
    "orders_table.py": "open, the dearest first: order-0 12.50 order-2 7.10",
    "orders_stream.py": "shipping saw 1001 orders",
    "redrive_letters.py": "20 of 30 went back; 20 are handled, 10 letters are left",
    "shared_consumer.py": "2,000 clicks of 20 visitors, each in order, through 6 shards",
    "traced_pipeline.py": "7 spans of the request's trace, 1 that links to it",
    "transfer.py": "[('ada', 30), ('bob', 70)]",
}


def test_every_example_is_expected() -> None:
    assert {path.name for path in EXAMPLES} == set(EXPECTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        # Of this tree, whatever else is installed.
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert EXPECTED[path.name] in done.stdout
