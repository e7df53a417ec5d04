"""What was found: how many events, how many of them wrong, and the first of these in a sentence. Pure."""

from __future__ import annotations

from benchmarks.figures import Checked


class Findings:
    """Of one guarantee, or of several that are checked together."""

    def __init__(self) -> None:
        self.events = 0
        self.violations = 0
        self.first = ""
        """The first violation: what came, and what should have."""

    def wrong(self, sentence: str, count: int = 1) -> None:
        """Something, or so many things of a kind, did not hold."""
        self.violations += count
        self.first = self.first or sentence

    def checked(self, guarantee: str, under: str, seed: int) -> Checked:
        """As a lane returns it; a violation says how its round is made again."""
        first = f"{self.first} (ORDERING_SEED={seed} makes this round again)" if self.violations else ""
        return Checked(guarantee, under, self.events, self.violations, first)
