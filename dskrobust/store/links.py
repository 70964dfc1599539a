"""Arrays that a store only refers to: opened, and read as what the store would hold itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError, StoreError
from ..ids import plain_ids
from ..labels import decoded
from ..paths import local_path
from . import arrays
from .state import Link

Decoder = Callable[[NDArray[Any]], NDArray[Any]]


def open_linked(url: str, name: str, address: str) -> arrays.Array:
    """Open an array that a store refers to."""
    import zarr

    try:
        return zarr.open_array(local_path(address) or address, mode="r")
    except FileNotFoundError as error:
        raise StoreError(
            f"{url} refers to {name} at {address}, which is not there; move the array back or "
            "create the store again"
        ) from error
    except Exception as error:  # metadata that are not what they were; codecs raise what they like
        said = f"{url} refers to {name} at {address}, which is no array: {error}"
        raise StoreError(said) from error


def decoders(links: Mapping[str, Link], classes: tuple[Any, ...] | None) -> dict[str, Decoder]:
    """Return what makes linked labels, splits and ids those that the store would hold.

    classes: the names of classes where labels are text, else None.
    """
    made: dict[str, Decoder] = {}
    if classes is not None:
        made["labels"] = partial(encode, known=classes, name="labels")
    if "split" in links and links["split"].values is not None:
        made["split"] = partial(encode, known=links["split"].values, name="split")
    return {**made, **({"ids": plain_ids} if "ids" in links else {})}


def read_decoded(
    array: arrays.Array,
    rows: tuple[int, int],
    units: Sequence[tuple[int, int, int]],
    decode: Decoder,
) -> NDArray[Any]:
    """Read rows of a linked array and make them those that the store would hold."""
    first, last = units[0][0], units[-1][1]
    coded = decode(np.asarray(array[first:last]))
    for a, b, expected in units:
        if arrays.checksum(coded[a - first : b - first]) != expected:
            raise arrays.damaged(array, a, "was changed after it was linked")
    return coded[rows[0] - first : rows[1] - first]


def encode(values: NDArray[Any], known: tuple[Any, ...] | None, name: str) -> NDArray[Any]:
    """Replace values by their positions among the sorted known ones."""
    table = np.array(known)
    values = np.asarray(values)
    values = (decoded(values, name) if values.dtype.kind == "S" else values).astype(table.dtype)
    codes = np.minimum(np.searchsorted(table, values), len(table) - 1)
    if not (table[codes] == values).all():
        raise InvalidDataError(f"{name} has values that were not there before: expected {known}")
    return codes.astype(np.int16 if name == "split" else np.int64)
