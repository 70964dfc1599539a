"""Rows as pictures, and pictures as PNG. Knows neither stores nor figures."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

LARGEST = 96  # pixels of a picture's longer side in a page


def as_picture(row: NDArray[np.generic], shape: tuple[int, ...], scale: float) -> NDArray[np.uint8]:
    """Return a row of features as a picture.

    Values times `scale` are meant to lie in 0 … 1; where they do not, the row's own range is
    black to white.

    Parameters
    ----------
    row : ndarray (d,)
    shape : (height, width) or (channels, height, width)
    scale : float

    Returns
    -------
    ndarray (height, width) or (height, width, 3) uint8
        Colour where there are three or four channels; else their mean.
    """
    values = np.asarray(row, np.float64).reshape(shape) * scale
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1 + 1e-9:
        values = (values - low) / (high - low) if high > low else np.zeros_like(values)
    if values.ndim == 3:
        values = np.moveaxis(values[:3], 0, -1) if len(values) in (3, 4) else values.mean(axis=0)
    return np.clip(np.round(values * 255), 0, 255).astype(np.uint8)


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture as PNG, reduced to LARGEST pixels a side."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
