"""``streamkit run``: a pipeline file, and anew when it changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from streamkit.cli.printing import FOUND, add_output, cannot_run, describe, say

if TYPE_CHECKING:
    import argparse

CODES = {
    0: "it was asked to end and was drained, or all it started has ended",
    1: "a service failed, after the others were drained, or the pipeline's own code did",
    2: "there is no such pipeline, or its directory cannot be used",
}


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "APP is called with an open kit: an async function that creates and starts things and returns, or goes on; or "
        "one made with contextlib.asynccontextmanager, whose part behind the yield runs at the end. Then the "
        "pipeline runs until SIGTERM or Ctrl-C, upon which services finish what is in hand; until one of them fails, "
        "which drains the others; or until all it started has ended. A second signal does not wait.\n\n"
        "With --reload each change of a .py file ends it so and starts it in a process of its own; code that fails "
        "waits for the next change.",
        "streamkit run pipeline.py --dir ./data --reload",
        "streamkit run shop.pipeline:app --dir /var/lib/shop",
        codes=CODES,
    )
    parser.add_argument("target", metavar="APP", help="module:app, or path/to/file.py:app; :app may be left out")
    parser.add_argument("--dir", default="./data", metavar="DIR", help="the data, or memory: (default: ./data)")
    parser.add_argument(
        "--durability",
        choices=["fsync", "interval", "memory"],
        default="fsync",
        help="when a record is on disk: before it is acknowledged, 20 times a second, or when the system likes",
    )
    parser.add_argument("--reload", action="store_true", help="run it anew when a .py file changes (extra: cli)")
    parser.add_argument(
        "--reload-dir",
        action="append",
        type=Path,
        metavar="DIR",
        help="watch here (default: the working directory and the file's); may be repeated",
    )
    parser.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        default="info",
        help="of what is logged to the error stream, unless the pipeline sets logging up itself",
    )
    parser.add_argument("--supervised", action="store_true", help="==SUPPRESS==")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Run it."""
    import asyncio

    if options.reload:
        from streamkit.cli.reloading import run_and_reload

        return run_and_reload(options)
    if options.reload_dir:
        return cannot_run("--reload-dir is where --reload watches: add --reload")

    from streamkit.cli.loading import PipelineError, load, users_traceback
    from streamkit.cli.running import run_pipeline, set_up_logging

    try:
        app = load(options.target)
        set_up_logging(options.log_level)
        return asyncio.run(run_pipeline(app, options))
    except PipelineError as error:
        if isinstance(error.__cause__, SystemExit):
            raise error.__cause__ from None
        say(users_traceback(error.__cause__ or error))
        return FOUND
