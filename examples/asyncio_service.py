"""A service in plain asyncio: jobs come over a Unix socket, a worker does them, SIGTERM drains.

    python examples/asyncio_service.py                             shows all of it, and ends
    python examples/asyncio_service.py ./jobs ./jobs.sock 9000     serves; probes and metrics are at port 9000

One process owns the directory. Others, as many as you like, send through its socket: a line of JSON for each job, which
is answered by a line when it is durable. docs/services.md says more.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from urllib.request import urlopen

import msgspec

import streamkit
from streamkit import Message, Queue, Stop
from streamkit.errors import DirectoryInUseError
from streamkit.logs import json_logs

log = logging.getLogger("jobs")


class Job(msgspec.Struct):
    name: str
    seconds: float


class Door:
    """Takes jobs over a Unix socket. A ``Service``: a stop ends its waits, and nothing that it has begun."""

    name = "door"

    def __init__(self, path: str, jobs: Queue[Job]) -> None:
        self.path = path
        self.jobs = jobs
        self.stop = Stop()
        self.connections: set[asyncio.Task[None]] = set()

    async def open(self) -> "Door":
        """Listen; apart from ``run``, so that a socket that cannot be had is raised at the start."""
        self.server = await asyncio.start_unix_server(self.connected, self.path)
        return self

    async def run(self, stop: Stop) -> None:
        """See ``streamkit.Service``."""
        with stop.interruptible():
            await asyncio.Event().wait()
        self.server.close()
        self.stop.request()
        if self.connections:
            await asyncio.wait(self.connections)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody connected."""
        task = asyncio.create_task(self.answer(reader, writer))
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer line by line, each when its job is durable. Who gets no answer sends it again."""
        # Somebody who hangs up, or whose line has no end, is gone.
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, ValueError):
            while True:
                line = b""
                with self.stop.interruptible():
                    line = await reader.readline()
                if not line:
                    return
                try:
                    job = msgspec.json.decode(line, type=Job)
                except msgspec.DecodeError:
                    writer.write(b'{"error":"send one line of JSON, with a name and seconds"}\n')
                else:
                    message_id = await self.jobs.send(job)
                    log.info("taken", extra={"queue": self.jobs.name, "message_id": message_id})
                    writer.write(msgspec.json.encode({"message_id": message_id}) + b"\n")
                await writer.drain()


async def serve(directory: str, path: str, port: int, started: Callable[[str], object]) -> None:
    """Serve until SIGTERM or Ctrl-C, and return when all is drained; ``started`` is told where the probes are."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with streamkit.open(directory) as kit:
        jobs = await kit.create_queue("jobs", type=Job, exist_ok=True)
        done = await kit.create_table("done", partition_key="job", exist_ok=True)

        async def work(message: Message[Job]) -> None:
            log.info("begun")
            await asyncio.sleep(message.value.seconds)
            # Named by the message: a job that comes again, after a crash or an end that came too soon, is done once.
            await done.put({"job": message.message_id})
            log.info("done")

        kit.start(jobs.worker(work, concurrency=8, grace=2.0))
        kit.start(await Door(path, jobs).open())
        probes = await kit.metrics.start_http(port)
        started(probes.url.removesuffix("/metrics"))
        await stopping.wait()
        log.info("stopping")
        # Leaving the block: the door closes, what is in hand is finished within 2 s or comes again, all is durable.
    log.info("drained")


# ---- shown


async def show(directory: str) -> None:
    path = f"{directory}/jobs.sock"
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(f"{directory}/data", path, 0, started.set_result))
    probes = await started
    reader, writer = await asyncio.open_unix_connection(path)
    for job in (b'{"name": "resize", "seconds": 0.2}\n', b'{"name": "rotate", "seconds": 0.2}\n', b"nonsense\n"):
        writer.write(job)
        print("answered:", msgspec.json.decode(await reader.readline()))
    print("ready:", msgspec.json.decode(await asyncio.to_thread(get, f"{probes}/ready")))
    metrics = (await asyncio.to_thread(get, f"{probes}/metrics")).decode().splitlines()
    print("metrics:", next(line for line in metrics if line.startswith("aws_sqs_number_of_messages_sent_total")))
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    writer.close()
    async with streamkit.open(f"{directory}/data?mode=ro") as kit:
        done = [item async for item in kit.table("done").scan()]
    print(f"drained: {len(done)} jobs are done")


def get(url: str) -> bytes:
    with urlopen(url) as answer:
        body: bytes = answer.read()
    return body


if __name__ == "__main__":
    json_logs()
    if len(sys.argv) == 1:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(show(directory))
    else:
        try:
            asyncio.run(
                serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), lambda url: log.info("started", extra={"url": url}))
            )
        except DirectoryInUseError as error:
            sys.exit(str(error))
