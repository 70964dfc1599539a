"""Finished tiles of a run, kept until its results are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from .blobs import Blobs, pack, unpack
from .dataset import SourceAddress

TILES = "tiles"


@dataclass(frozen=True)
class TileMemo:
    """Finished tiles of a run, one blob each, found again after any crash, by any run.

    Attributes
    ----------
    address : SourceAddress
    run : str
        Digest of the parameters that all tiles of the run share.
    """

    address: SourceAddress
    run: str

    @property
    def _blobs(self) -> Blobs:
        return Blobs(self.address, f"{TILES}/{self.run}")

    def load(self, tile: str) -> dict[str, NDArray[Any]] | None:
        """Return a finished tile's arrays, or None where there are none (or damaged ones)."""
        packed = self._blobs.whole(tile)
        return None if packed is None else unpack(packed)

    def save(self, tile: str, values: Mapping[str, NDArray[Any]]) -> None:
        """Write a tile's arrays in one piece."""
        self._blobs.write(tile, pack(values))

    def count(self) -> int:
        """Return how many tiles are stored."""
        return len(self._blobs.names())

    def clear(self) -> None:
        """Drop all tiles of the run."""
        self._blobs.drop()
