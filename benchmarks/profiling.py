"""Where a lane spends its time."""

from __future__ import annotations

import asyncio
import cProfile
import io
import pstats
import re
from pathlib import Path

from benchmarks.measure import Figures, Lane, Play, Setting

_LINES = 15


def profiled(directory: Path, titles: dict[int, str]) -> Play:
    """A way to run a lane under cProfile: its event loop's thread, what the others do is theirs.

    Args:
        directory: gets a ``.prof`` file of each lane, which ``snakeviz`` and ``pstats`` open.
        titles: by the lane's ``id``, what it is called.
    """
    directory.mkdir(parents=True, exist_ok=True)

    def play(lane: Lane, setting: Setting) -> Figures:
        profile = cProfile.Profile()
        profile.enable()
        try:
            return asyncio.run(lane.run(setting))
        finally:
            profile.disable()
            name = titles[id(lane)]
            file = directory / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.prof"
            profile.dump_stats(file)
            print(f"\n{name}: {file}")
            print(_hottest(profile))

    return play


def _hottest(profile: cProfile.Profile) -> str:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(_LINES)
    lines = text.getvalue().splitlines()
    start = next((at for at, line in enumerate(lines) if line.lstrip().startswith("ncalls")), 0)
    return "\n".join(line for line in lines[start:] if line)
