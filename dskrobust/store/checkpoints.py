"""Checkpoints of a step that takes long: the newest one that is whole, whatever was killed when.

Every checkpoint is a folder of its own, by number and writer: two that write at once, one of them
perhaps a worker that was given up, never mix. Its arrays are written first, then a record of what
they are: without that it does not count. Older ones go last.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedStoreError
from .blobs import Blobs
from .dataset import SourceAddress
from .objects import Objects
from .seals import read_record, write_record
from .state import Record

PART_BYTES = 16 * 2**20
KIND = "checkpoint"
RECORD = "record.checkpoint"


class CheckpointRecord(Record, frozen=True):
    """Plain facts, and name → shape of every array, in the order of their numbers."""

    facts: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one step.

    Attributes
    ----------
    address : SourceAddress
    path : str
        Their folder in the store.
    """

    address: SourceAddress
    path: str

    def names(self) -> list[str]:
        """Return the names (number-writer) of all checkpoints, whole or not, rising."""
        return sorted(filter(_is_name, Objects(self.address).names(self.path)), key=_number)

    def save(self, facts: Mapping[str, Any], values: Mapping[str, NDArray[Any]]) -> None:
        """Write a checkpoint (plain facts, and arrays by any name), then drop the older ones."""
        old = self.names()
        number = _number(old[-1]) + 1 if old else 0
        blobs = self._blobs(f"{number}-{uuid4().hex[:8]}")
        for k, array in enumerate(values.values()):
            flat = np.ascontiguousarray(array).reshape(-1)  # one that is scalar has one value
            step = max(1, PART_BYTES // flat.itemsize)
            for part, a in enumerate(range(0, len(flat), step)):
                blobs.write(f"{k}-{part}", flat[a : a + step])
            if not len(flat):
                blobs.write(f"{k}-0", flat)
        shapes = {name: tuple(array.shape) for name, array in values.items()}
        record = CheckpointRecord(facts=dict(facts), shapes=shapes)
        write_record(blobs.objects, KIND, f"{blobs.path}/{RECORD}", record)
        for older in old:
            self._blobs(older).drop()

    def load(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """Return facts and arrays of the newest checkpoint that is whole; None without one."""
        for name in reversed(self.names()):
            with suppress(DamagedStoreError):
                if (checkpoint := self._read(name)) is not None:
                    return checkpoint
        return None

    def _read(self, name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        blobs = self._blobs(name)
        record = read_record(blobs.objects, KIND, f"{blobs.path}/{RECORD}", CheckpointRecord)
        if record is None:
            return None
        values = {}
        for k, (key, shape) in enumerate(record.shapes.items()):
            parts: list[NDArray[Any]] = []
            while not parts or sum(map(len, parts)) < int(np.prod(shape)):
                part = blobs.read(f"{k}-{len(parts)}")
                if part is None:
                    return None
                parts.append(part)
            values[key] = np.concatenate(parts).reshape(shape)
        return dict(record.facts), values

    def clear(self) -> None:
        """Drop all checkpoints."""
        Blobs(self.address, self.path).drop()

    def _blobs(self, name: str) -> Blobs:
        return Blobs(self.address, f"{self.path}/{name}")


def _number(name: str) -> int:
    return int(name.partition("-")[0])


def _is_name(name: str) -> bool:
    return name.partition("-")[0].isdigit()
