"""Tools for testing programs that use streamkit, and the contract every engine passes. See docs/testing.md.

::

    async with streamkit.testing.open() as kit:  # a kit on a manual clock, in a directory of its own
        ...
        await kit.drain()                        # all that was put and sent is consumed
        await kit.clock.advance(30)              # half a minute, at once
        kit = await kit.crash()                  # as after kill -9, and opened again
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamkit.testing.clock import ManualClock
    from streamkit.testing.draining import NotDrainedError
    from streamkit.testing.failing import Faults
    from streamkit.testing.trial import TrialKit, open  # noqa: A004

# Lazily: pytest imports this package to find the plugin, also where no test uses it.
_HOME = {
    "Faults": "failing",
    "ManualClock": "clock",
    "NotDrainedError": "draining",
    "TrialKit": "trial",
    "open": "trial",
}

__all__ = ["Faults", "ManualClock", "NotDrainedError", "TrialKit", "open"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'streamkit.testing' has no attribute {name!r}")
    value = getattr(import_module(f"streamkit.testing.{home}"), name)
    globals()[name] = value
    return value
