"""Checkpoints of a step that takes long: the newest one that is whole, whatever was killed when.

Every checkpoint is a group of its own, by number and writer: two that write at once, one of them
perhaps a worker that was given up, never mix. Its arrays are written first, then what they are, in
one piece of metadata: without that it does not count. Older ones go last.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import StoreError
from . import arrays, writing
from .dataset import SourceAddress

CHUNK_BYTES = 16 * 2**20
KEY = writing.KEY


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one step.

    Attributes
    ----------
    address : SourceAddress
    path : str
        Their group in the store.
    """

    address: SourceAddress
    path: str

    def _group(self, mode: str) -> zarr.Group:
        return writing.open_group(self.address.url, self.address.storage_options, mode)

    def names(self) -> list[str]:
        """Return the names (number-writer) of all checkpoints, whole or not, rising."""
        try:
            group = self._group("r")[self.path]
            assert isinstance(group, zarr.Group)
            return sorted(filter(_is_name, group.group_keys()), key=_number)
        except (KeyError, ValueError, TypeError):
            return []

    def save(self, facts: Mapping[str, Any], values: Mapping[str, NDArray[Any]]) -> None:
        """Write a checkpoint (plain facts, and arrays by any name), then drop the older ones."""
        old = self.names()
        number = _number(old[-1]) + 1 if old else 0
        parent = self._group("r+").require_group(self.path)
        group = parent.create_group(f"{number}-{uuid4().hex[:8]}")
        for k, array in enumerate(values.values()):
            flat = np.ascontiguousarray(array).reshape(-1)  # one that is scalar has one value
            chunk = max(1, CHUNK_BYTES // flat.itemsize)
            made = arrays.create_array(
                group, str(k), flat.shape, (chunk,), flat.dtype, compress=False
            )
            made[:] = flat
        shapes = {name: list(array.shape) for name, array in values.items()}
        group.attrs[KEY] = {"facts": dict(facts), "shapes": shapes}
        for older in old:
            self._drop(f"{self.path}/{older}")

    def load(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """Return facts and arrays of the newest checkpoint that is whole; None without one."""
        for name in reversed(self.names()):
            with suppress(KeyError, ValueError, TypeError, StoreError):
                return self._read(name)
        return None

    def _read(self, name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        group = self._group("r")[f"{self.path}/{name}"]
        meta: Any = group.attrs[KEY]
        found = {}
        for k, (key, shape) in enumerate(meta["shapes"].items()):
            array = group[str(k)]  # type: ignore[index]
            assert isinstance(array, zarr.Array)
            found[key] = arrays.read_plain(array).reshape(shape)
        return dict(meta["facts"]), found

    def clear(self) -> None:
        """Drop all checkpoints."""
        self._drop(self.path)

    def _drop(self, name: str) -> None:
        with suppress(KeyError, FileNotFoundError):  # another run may be dropping it too
            group = self._group("r+")
            if name in group:
                del group[name]


def _number(name: str) -> int:
    return int(name.partition("-")[0])


def _is_name(name: str) -> bool:
    return name.partition("-")[0].isdigit()
