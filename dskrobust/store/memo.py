"""Finished tiles of a run, kept until its results are written."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import DamagedStoreError
from . import arrays, writing
from .dataset import SourceAddress
from .results import TILES


@dataclass(frozen=True)
class TileMemo:
    """Finished tiles of a run, each one checksummed chunk, found again after any crash.

    Attributes
    ----------
    address : SourceAddress
    run : str
        Digest of the parameters that all tiles of the run share.
    """

    address: SourceAddress
    run: str

    def _name(self, tile: str) -> str:
        return f"{TILES}/{self.run}/{tile}"

    def load(self, tile: str) -> dict[str, NDArray[Any]] | None:
        """Return a finished tile's arrays, or None where there are none (or damaged ones)."""
        group = writing.open_group(self.address.url, self.address.storage_options, "r")
        try:
            array = group[self._name(tile)]
            assert isinstance(array, zarr.Array)
            packed = arrays.read_plain(array)
        except (KeyError, DamagedStoreError):
            return None
        with np.load(io.BytesIO(packed.tobytes()), allow_pickle=False) as found:
            return dict(found)

    def save(self, tile: str, values: Mapping[str, NDArray[Any]]) -> None:
        """Write a tile's arrays as one chunk, atomically."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **values)
        packed = np.frombuffer(buffer.getvalue(), np.uint8)
        group = writing.open_group(self.address.url, self.address.storage_options, "r+")
        array = arrays.create_array(
            group, self._name(tile), packed.shape, packed.shape, packed.dtype
        )
        array[:] = packed

    def count(self) -> int:
        """Return how many tiles are stored."""
        group = writing.open_group(self.address.url, self.address.storage_options, "r")
        try:
            return len(list(group[f"{TILES}/{self.run}"].array_keys()))  # type: ignore[union-attr]
        except KeyError:
            return 0

    def clear(self) -> None:
        """Drop all tiles of the run."""
        group = writing.open_group(self.address.url, self.address.storage_options, "r+")
        if f"{TILES}/{self.run}" in group:
            del group[f"{TILES}/{self.run}"]
