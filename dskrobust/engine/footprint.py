"""What a worker takes that computes tiles, and whether one has it."""

from __future__ import annotations

from dataclasses import dataclass

USABLE = 0.7  # of the memory limit: from there on Dask spills and pauses


@dataclass(frozen=True)
class Footprint:
    """What a worker takes that computes tiles.

    Attributes
    ----------
    peak_bytes : int
    threads : int
        Tiles at a time, for which that is the peak.
    """

    peak_bytes: int
    threads: int

    def fits(self, memory_limit: int | None, threads: int) -> bool:
        """Whether a worker may compute tiles; one without a limit has what it takes."""
        enough = not memory_limit or self.peak_bytes <= memory_limit * USABLE
        return enough and threads <= self.threads
