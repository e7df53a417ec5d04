"""docs/dashboard.md: its code runs, and what it says of limits holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from streamkit.dashboard.serving import PORT
from streamkit.dashboard.tail import MOST_READ, MOST_SHOWN, MOUNTED_LIFE_MS, TICK_MS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "dashboard.md").read_text()


def test_its_code_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    uses = """
import sys
import httpx

shown = []

async def the_work_of(kit):
    await kit.create_stream("orders")
    services = [name for name in kit.health().services if name.startswith("dashboard:")]
    assert services == ["dashboard:0"], services

async def use_the_rest(directory):
    global print
    await in_a_service(directory)
    opened = asyncio.get_running_loop().create_future()
    print = opened.set_result
    task = asyncio.create_task(beside_its_owner(directory))
    async with httpx.AsyncClient(base_url=await opened) as asking:
        overview = (await asking.get("/api/overview")).json()["overview"]
        assert (overview["owner"], [each["name"] for each in overview["streams"]]) == ("looking on", ["orders"])
    task.cancel()
    await asyncio.wait([task])
    async with streamkit.open(directory) as kit:
        transport = httpx.ASGITransport(app=within(kit))
        async with httpx.AsyncClient(transport=transport, base_url="https://shop.example.com") as asking:
            assert (await asking.get("/streamkit/api/overview")).status_code == 200

asyncio.run(use_the_rest(sys.argv[1]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join([*blocks, uses]), str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", done.stdout)


def test_what_it_says_holds() -> None:
    assert f"# {PORT} unless you say so" in PAGE
    assert MOUNTED_LIFE_MS == 15_000
    assert "every\n15 seconds" in PAGE
    assert (MOST_READ * 1000 // TICK_MS, MOST_SHOWN * 1000 // TICK_MS) == (10_000, 500)
    assert "10,000 records a second" in PAGE


def test_its_pictures_are_there_and_small() -> None:
    named = re.findall(r'"(images/[^"]+)"', PAGE)
    assert sorted(named) == ["images/dashboard-dark.png", "images/dashboard-light.png"]
    for name in named:
        picture = (DOCS / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 150_000
