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
from numpy.typing import NDArray

from ..errors import StoreError
from . import writing
from .blobs import Blobs, open_root
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

    def names(self) -> list[str]:
        """Return the names (number-writer) of all checkpoints, whole or not, rising."""
        try:
            names = Blobs(self.address, self.path).group().group_keys()
            return sorted(filter(_is_name, names), key=_number)
        except (KeyError, ValueError, TypeError):
            return []

    def save(self, facts: Mapping[str, Any], values: Mapping[str, NDArray[Any]]) -> None:
        """Write a checkpoint (plain facts, and arrays by any name), then drop the older ones."""
        old = self.names()
        number = _number(old[-1]) + 1 if old else 0
        blobs = self._blobs(f"{number}-{uuid4().hex[:8]}")
        for k, array in enumerate(values.values()):
            flat = np.ascontiguousarray(array).reshape(-1)  # one that is scalar has one value
            blobs.write(str(k), flat, chunk_bytes=CHUNK_BYTES)
        shapes = {name: list(array.shape) for name, array in values.items()}
        group = open_root(self.address, "r+").require_group(blobs.path)
        group.attrs[KEY] = {"facts": dict(facts), "shapes": shapes}
        for older in old:
            self._blobs(older).drop()

    def load(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """Return facts and arrays of the newest checkpoint that is whole; None without one."""
        for name in reversed(self.names()):
            with suppress(KeyError, ValueError, TypeError, StoreError):
                if (checkpoint := self._read(name)) is not None:
                    return checkpoint
        return None

    def _read(self, name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        blobs = self._blobs(name)
        meta: Any = blobs.group().attrs[KEY]
        values = {}
        for k, (key, shape) in enumerate(meta["shapes"].items()):
            flat = blobs.read(str(k))
            if flat is None:
                return None
            values[key] = flat.reshape(shape)
        return dict(meta["facts"]), values

    def clear(self) -> None:
        """Drop all checkpoints."""
        Blobs(self.address, self.path).drop()

    def _blobs(self, name: str) -> Blobs:
        return Blobs(self.address, f"{self.path}/{name}")


def _number(name: str) -> int:
    return int(name.partition("-")[0])


def _is_name(name: str) -> bool:
    return name.partition("-")[0].isdigit()
