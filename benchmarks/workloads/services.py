"""What an import costs."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys

from benchmarks.measure import Figure, Figures, Lane, Setting, Target, Workload


def _import_seconds(modules: str) -> float:
    code = f"import time; t = time.perf_counter(); import {modules}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _import(name: str, modules: str) -> Lane:
    async def run(setting: Setting) -> Figures:
        times = await asyncio.to_thread(lambda: [_import_seconds(modules) for _ in range(setting.sized(5, 1))])
        return {name: Figure(statistics.median(times) * 1000, "ms")}

    return Lane(run, "")


SERVICES = (
    Workload(
        "import",
        "what importing costs",
        [_import("import streamkit", "streamkit"), _import("import asyncio, msgspec", "asyncio, msgspec")],
        (Target("import asyncio, msgspec", at_most=1.5),),
    ),
)
