"""``streamkit inspect``: how everything in a directory is, at a glance, live, or in a browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streamkit.cli.printing import FINE, add_output, cannot_run, describe, print_json, say, wants_json

if TYPE_CHECKING:
    import argparse

    from streamkit.overview.overview import Overview

CODES = {0: "shown, or ended with q", 2: "it cannot be looked at"}
_PORT = 8787


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Streams with their shards and how far each consumer is behind, queues with what is visible, in flight and "
        "dead, alarms and tables; beside the service that owns the directory. JSON is one line for each look. "
        "--watch looks again and again until q or Ctrl-C; --web serves the dashboard (extra: dashboard).",
        "streamkit inspect ./data",
        "streamkit inspect ./data --watch",
        "streamkit inspect ./data --json | jq '.queues[] | {name, visible}'",
        codes=CODES,
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--watch", action="store_true", help="a live view")
    which.add_argument("--web", action="store_true", help="serve the dashboard, and open it in a browser")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="of --watch, in seconds (default: 1)")
    parser.add_argument("--host", default="127.0.0.1", help="of --web (default: this machine alone)")
    parser.add_argument("--port", type=int, default=_PORT, help=f"of --web (default: {_PORT}; 0: one that is free)")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Show it."""
    import asyncio

    if not 0.1 <= options.interval <= 3600:
        return cannot_run("--interval is 0.1 to 3,600 seconds")
    return asyncio.run(_serve(options) if options.web else _look(options))


async def _look(options: argparse.Namespace) -> int:
    from streamkit.cli.opened import looking
    from streamkit.overview.looking import looked_on

    async with looking(options.directory) as (engine, clock):
        if options.watch:
            from streamkit.cli.watching import watch

            return await watch(lambda: looked_on(engine, clock), clock, options.interval, as_json=wants_json(options))
        _show_once(await looked_on(engine, clock), options)
    return FINE


def _show_once(overview: Overview, options: argparse.Namespace) -> None:
    if wants_json(options):
        import msgspec

        print_json(msgspec.to_builtins(overview))
    else:
        print(repr(overview))


async def _serve(options: argparse.Namespace) -> int:
    from streamkit.cli.ending import asked_to_end, until_asked
    from streamkit.dashboard import serve

    def opened(url: str) -> None:
        if wants_json(options):
            print_json({"event": "serving", "url": url})
        else:
            say(f"streamkit: {url} shows {options.directory}; Ctrl-C ends it")
        if sys.stdout.isatty():
            import webbrowser

            webbrowser.open(url)

    with asked_to_end() as asked:
        await until_asked(serve(options.directory, host=options.host, port=options.port, opened=opened), asked, grace=0)
    return asked.code
