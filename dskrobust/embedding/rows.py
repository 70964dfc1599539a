"""Stored rows as models take them: float32 images (b, C, H, W), or rows (b, d)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..store import SourceAddress, Store
from ..store.spec import LazyRows

COLOURS = 3  # channels of an image in colour


@dataclass(frozen=True)
class RowForm:
    """How stored rows become what a model takes.

    Attributes
    ----------
    scale : float
        Stored values are multiplied by it, in float64: the store's own, 1/255 for images of bytes
        that have none.
    image_shape : tuple of int, optional
        Channels, height and width; None for rows that are no images.
    """

    scale: float
    image_shape: tuple[int, int, int] | None

    @classmethod
    def of(cls, store: Store) -> RowForm:
        """Return how the rows of a store are given to models."""
        spec, shape = store.spec, store.spec.image_shape
        if shape is None:
            return cls(spec.scale, None)
        channels, height, width = (1, *shape)[-3:]
        bytes_alone = spec.scale == 1 and store.row_shape("features")[1] == np.uint8
        return cls(1 / 255 if bytes_alone else spec.scale, (channels, height, width))

    def batch(self, values: NDArray[Any], channels: int | None = None) -> NDArray[np.float32]:
        """Return stored rows (b, d) as float32 images (b, C, H, W), or rows (b, d).

        Gray images are repeated where a model wants three channels.
        """
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite in the end
            scaled = values if self.scale == 1 else np.multiply(values, self.scale, dtype="f8")
            batch = np.ascontiguousarray(scaled, np.float32)
        if self.image_shape is None:
            return batch
        batch = batch.reshape(len(batch), *self.image_shape)
        if channels == COLOURS and self.image_shape[0] == 1:
            batch = np.repeat(batch, COLOURS, axis=1)
        return batch


class StoredRows(LazyRows):
    """Labels, split or ids of a store as they are read where tasks run.

    Parameters
    ----------
    store : Store
    name : {"labels", "split", "ids"}
    """

    def __init__(self, store: Store, name: str) -> None:
        row, self.dtype = store.row_shape(name)
        self.shape = (store.rows, *row)
        self.address: SourceAddress = store.address
        self.name = name

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi, checked."""
        return self.address.open().read(self.name, lo, hi)
