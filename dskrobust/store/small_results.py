"""Small arrays that were computed of a store's data, kept under what they depend on.

They can be made again: a damaged one is as good as none, and those of other data go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from ..errors import StoreError
from . import arrays
from .blobs import Blobs, pack, unpack
from .dataset import Store

SMALL_RESULTS = "small-results"


def read_small(store: Store, parameters: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
    """Return named arrays that were kept of the store's data, None where there are none."""
    packed = Blobs(store.address, SMALL_RESULTS).whole(_name(store, parameters))
    return None if packed is None else unpack(packed)


def find_small(store: Store, name: str) -> list[dict[str, NDArray[Any]]]:
    """Return all that is kept of the store's data and has an array of some name."""
    blobs, beginning = Blobs(store.address, SMALL_RESULTS), f"{_fingerprint(store)}-"
    packed = (blobs.whole(one) for one in blobs.names() if one.startswith(beginning))
    found = (unpack(one) for one in packed if one is not None)
    return [values for values in found if name in values]


def keep_small(
    store: Store, parameters: Mapping[str, Any], values: Mapping[str, NDArray[Any]]
) -> None:
    """Keep named arrays, where the store may be written; those of earlier data go."""
    blobs = Blobs(store.address, SMALL_RESULTS)
    with suppress(StoreError, OSError, ValueError):
        blobs.write(_name(store, parameters), pack(values))
        for name in blobs.names():
            if not name.startswith(_fingerprint(store)):
                blobs.drop(name)


def _name(store: Store, parameters: Mapping[str, Any]) -> str:
    text = json.dumps(dict(parameters), sort_keys=True, default=str)
    return f"{_fingerprint(store)}-{arrays.digest([text.encode()])[:16]}"


def _fingerprint(store: Store) -> str:
    return arrays.digest([digest.encode() for _, digest in store.segments])[:16]
