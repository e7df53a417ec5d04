"""docs/services.md: its programs run as the page says, and what it quotes is what is said."""

from __future__ import annotations

import asyncio
import configparser
import json
import re
import signal
import threading
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import pytest
import yaml

import streamkit
from streamkit import Message
from streamkit.errors import DirectoryInUseError
from streamkit.kit import GRACE_SECONDS
from streamkit.testing.clock import ManualClock
from tests.serving import ROOT, Running, until

PAGE = (ROOT / "docs" / "services.md").read_text()
PROGRAMS = {
    match[1]: match[0]
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    if (match := re.match(r"# (\w+\.py).*", block, re.DOTALL))
}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with the page's programs in it."""
    for name, source in PROGRAMS.items():
        (tmp_path / name).write_text(source)
    return tmp_path


def uvicorn(directory: Path, *arguments: str) -> Running:
    return Running(["-m", "uvicorn", *arguments], cwd=directory)


def address(service: Running) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", service.until("Uvicorn running on"))
    assert found
    return found[0]


def test_every_program_is_tried() -> None:
    assert set(PROGRAMS) == {"shop.py", "owner.py", "daemon.py", "front.py", "threads.py"}
    assert len(PROGRAMS) == PAGE.count("```python")


def test_the_shop_serves_in_fastapi(programs: Path) -> None:
    with uvicorn(programs, "shop:app", "--port", "0") as shop, httpx.Client(base_url=address(shop)) as client:
        taken = client.post("/emails", json={"to": "ada"})
        assert (taken.status_code, set(taken.json())) == (202, {"message_id"})
        assert client.get("/health").status_code == 200
        assert client.get("/ready").json()["services"]["worker:emails"] == "running"
        assert "aws_sqs_number_of_messages_sent_total" in client.get("/metrics", follow_redirects=True).text
        shop.terminate()
        assert shop.end() == -signal.SIGTERM


def test_the_daemon_ends_when_its_job_is_done(programs: Path) -> None:
    source = PROGRAMS["daemon.py"]
    assert "start_http(9000)" in source
    (programs / "daemon.py").write_text(source.replace("start_http(9000)", "start_http(0)"))
    before = asyncio.run(one_job(programs / "jobs"))
    with Running(["-W", "error", "daemon.py"], cwd=programs) as daemon:
        url = re.findall(r"http://127[^ \"]+", daemon.until("metrics are at"))[0]
        with urlopen(url.replace("/metrics", "/ready")) as ready:
            assert json.load(ready)["services"]["worker:jobs"] == "running"
        until(lambda: b"aws_sqs_number_of_messages_received_total" in read(url))
        daemon.terminate()
        assert daemon.end() == 0
    assert before == 1
    assert asyncio.run(left(programs / "jobs")) == 0


def read(url: str) -> bytes:
    with urlopen(url) as answer:
        return bytes(answer.read())


async def one_job(directory: Path) -> int:
    async with streamkit.open(directory) as kit:
        await (await kit.create_queue("jobs")).send({"seconds": 0.5})
    return await left(directory)


async def left(directory: Path) -> int:
    async with streamkit.open(directory) as kit:
        found = await kit.queue("jobs").describe()
        return found.visible + found.not_visible


def test_several_processes_put_through_one_owner(programs: Path) -> None:
    answers: list[httpx.Response] = []

    def put(url: str, customer: int) -> None:
        # A new connection each time, so that both workers have some.
        orders = ({"customer": f"c{customer}", "number": number} for number in range(10))
        answers.extend(httpx.post(f"{url}/orders", json=order) for order in orders)

    with uvicorn(programs, "owner:app", "--uds", "owner.sock") as owner:
        owner.until("Application startup complete")
        with uvicorn(programs, "front:app", "--workers", "2", "--port", "0") as front:
            url = address(front)
            front.until("Application startup complete", times=2)
            clients = [threading.Thread(target=put, args=(url, customer)) for customer in range(4)]
            for each in clients:
                each.start()
            for each in clients:
                each.join()
            assert {answer.status_code for answer in answers} == {201}
            assert len(httpx.get(f"{url}/orders/latest").json()) == 10
            owner.terminate()
            owner.end()
            refused = httpx.post(f"{url}/orders", json={"customer": "c0", "number": 10})
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.json()["detail"] == "the owner is away: send it again"
            assert len(httpx.get(f"{url}/orders/latest").json()) == 10
            with uvicorn(programs, "owner:app", "--uds", "owner.sock") as owner:
                owner.until("Application startup complete")
                answers.append(httpx.post(f"{url}/orders", json={"customer": "c0", "number": 10}))
                assert answers[-1].status_code == 201
                with httpx.Client(transport=httpx.HTTPTransport(uds=str(programs / "owner.sock"))) as client:
                    assert client.get("http://owner/ready").json()["ready"] is True
                owner.terminate()
                owner.end()
            front.terminate()
            front.end()
    stored = asyncio.run(stored_in(programs / "data"))
    of = {customer: [each["number"] for each in stored if each["customer"] == customer] for customer in ("c0", "c1")}
    assert of == {"c0": [*range(11)], "c1": [*range(10)]}
    assert len(stored) == len(answers) == 41


async def stored_in(directory: Path) -> list[Any]:
    async with streamkit.open(directory) as kit:
        return [record.value async for record in kit.stream("orders").records()]


async def test_a_thread_hands_its_calls_over() -> None:
    names: dict[str, Any] = {}
    exec(compile(PROGRAMS["threads.py"], "threads.py", "exec", dont_inherit=True), names)
    async with streamkit.open("memory:") as kit:
        orders = await kit.create_stream("orders")
        assert await asyncio.to_thread(names["in_a_thread"], asyncio.get_running_loop(), orders) == 1


async def test_a_worker_that_is_stopped_before_the_kit_has_its_grace(clock: ManualClock) -> None:
    """More than the 5 s that the kit gives: ``await kit.stop(worker)``."""
    begun, finish, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(message: Message[Any]) -> None:
        begun.set()
        await finish.wait()
        done.set()

    assert "without this line, up to 5 s" in PAGE
    assert GRACE_SECONDS == 5.0
    async with streamkit.open("memory:", clock=clock) as kit:
        jobs = await kit.create_queue("jobs")
        worker = kit.start(jobs.worker(work, grace=20.0))
        await jobs.send("job")
        await begun.wait()
        stopping = asyncio.create_task(kit.stop(worker))
        await clock.advance(19.0)
        assert not stopping.done()
        finish.set()
        await stopping
        assert done.is_set()
        assert (await jobs.describe()).not_visible == 0


def test_the_page_quotes_the_error_as_it_is() -> None:
    assert f"> {DirectoryInUseError('./data', 'process 4711 on host')}\n" in PAGE


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_what_a_supervisor_is_told_leaves_the_kit_its_time() -> None:
    """uvicorn's grace and the kit's, before anybody kills; and the probes ask for paths that there are."""
    (unit,) = blocks("ini")
    service = configparser.ConfigParser(interpolation=None)
    service.optionxform = str  # type: ignore[assignment,method-assign]
    service.read_string(unit)
    command = service["Service"]["ExecStart"].split()
    uvicorn_seconds = int(command[command.index("--timeout-graceful-shutdown") + 1])
    least = uvicorn_seconds + GRACE_SECONDS
    assert int(service["Service"]["TimeoutStopSec"]) > least
    (manifest,) = blocks("yaml")
    spec = yaml.safe_load(manifest)["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > least + waits
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate"), "one process owns the directory"
    probed = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness")}
    served = set(re.findall(r'@router\.get\("(/\w+)"\)', (ROOT / "examples" / "fastapi_service.py").read_text()))
    assert probed <= served


def test_the_line_of_json_is_one_with_the_fields_of_a_worker() -> None:
    (line,) = blocks("json")
    found = json.loads(line)
    assert {"time", "level", "logger", "message", "service", "worker", "queue", "message_id", "receive_count"} == {
        *found
    }
