"""What is told of a mapping that runs: its state, and what it has done. Pure, and light to load."""

from __future__ import annotations

from typing import Literal

import msgspec

MappingState = Literal["Creating", "Enabling", "Enabled", "Disabling", "Disabled", "Updating"]


class Counts(msgspec.Struct):
    """What a mapping has done since it was started, in records unless it says otherwise."""

    polled: int = 0
    filtered_out: int = 0
    invocations: int = 0
    """Calls of the function (for ``each``, of batches)."""
    errors: int = 0
    """Invocations that failed in whole or in part."""
    written: int = 0
    """Records whose effects were committed."""
    dropped: int = 0
    """Records that were given up, and went to the on-failure destination if there is one."""
