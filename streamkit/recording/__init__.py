"""A stream's records in a file of JSON lines, and back: to move, to keep, to look at, and to test with."""

from streamkit.recording.player import replay
from streamkit.recording.recorder import record

__all__ = ["record", "replay"]
