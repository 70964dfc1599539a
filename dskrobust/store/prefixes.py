"""Prefixes beside the features: a basis, and for every segment an array of its rows' prefixes.

A prefix only says what may be skipped, but a wrong one would skip too much: units have checksums,
and everything lies under the digest of its basis, so that no two bases are ever mixed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedStoreError
from . import arrays
from .blobs import Blobs, pack, unpack
from .dataset import SourceAddress, Store
from .objects import Objects
from .seals import damaged_object, read_record, write_record
from .state import Record

PREFIXES = "prefixes"
PREFIX_ROWS = 2_048  # rows of a chunk
CHECKED_ROWS = 16 * PREFIX_ROWS  # read at once to be checked
KIND, BASIS = "prefixes", "basis"  # kinds of records
BASIS_RECORD = "record.basis"


class PrefixRecord(Record, frozen=True):
    """Finished prefixes of a segment: Zarr metadata, and the checksum of every chunk."""

    array: dict[str, Any]
    checksums: tuple[int, ...]


class BasisRecord(Record, frozen=True):
    """The basis that a kind of rows is projected by: its name, and its plain facts."""

    name: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class PrefixArrays:
    """Prefixes of a store's rows in one basis.

    Attributes
    ----------
    address : SourceAddress
    kind : str
        Digest of what the rows are turned into before they are projected (metric and scale).
    name : str
        Digest of the basis.
    width : int
        Columns of a prefix.
    """

    address: SourceAddress
    kind: str
    name: str
    width: int

    def _array(self, digest: str, rows: int) -> arrays.Array:
        """Return the array of a segment's prefixes, made where it is not there.

        Chunks that were written earlier by the same basis may stay.
        """
        path = f"{PREFIXES}/{self.kind}/{self.name}/{digest}"
        shape, chunks = (rows, self.width), (min(PREFIX_ROWS, rows), self.width)
        dtype = np.dtype(np.float32)
        return arrays.create_array(
            Objects(self.address), path, shape, chunks, dtype, compress=False
        )

    def _key(self, digest: str) -> str:
        return f"{PREFIXES}/{self.kind}/{self.name}/{digest}.{KIND}"

    def missing(self) -> list[int]:
        """Return which segments have no finished prefixes yet."""
        have = Objects(self.address).names(f"{PREFIXES}/{self.kind}/{self.name}")
        segments = self.address.open().segments
        return [k for k, (_, digest) in enumerate(segments) if f"{digest}.{KIND}" not in have]

    def create(self, segment: int) -> None:
        """Create the array of a segment."""
        rows, digest = self.address.open().segments[segment]
        self._array(digest, rows)

    def write(self, segment: int, start: int, values: NDArray[np.float32]) -> list[int]:
        """Write whole chunks of a segment from row `start` (of the segment); their checksums."""
        rows, digest = self.address.open().segments[segment]
        array = self._array(digest, rows)
        array[start : start + len(values)] = values
        step = array.chunks[0]
        return [arrays.checksum(values[a : a + step]) for a in range(0, len(values), step)]

    def commit(self, segment: int, checksums: list[int]) -> None:
        """Make a segment's prefixes readable."""
        rows, digest = self.address.open().segments[segment]
        metadata = arrays.metadata_of(self._array(digest, rows))
        record = PrefixRecord(array=metadata, checksums=tuple(checksums))
        write_record(Objects(self.address), KIND, self._key(digest), record)

    def read(self, lo: int, hi: int) -> NDArray[np.float32]:
        """Read the prefixes of rows lo:hi, (hi - lo, width) float32, checked.

        Raises
        ------
        DamagedStoreError
        """
        out = np.empty((hi - lo, self.width), np.float32)
        start = 0
        for rows, digest in self.address.open().segments:
            a, b = max(lo - start, 0), min(hi - start, rows)
            if a < b:
                part = out[start + a - lo : start + b - lo]
                self._read_segment(digest, (a, b, rows), part)
            start += rows
        return out

    def _read_segment(
        self, digest: str, rows: tuple[int, int, int], out: NDArray[np.float32]
    ) -> None:
        """Read rows a:b of a segment of `total` rows."""
        a, b, total = rows
        key = self._key(digest)
        record = _record_of(self.address, key)
        path = key.removesuffix(f".{KIND}")
        array = arrays.open_known(Objects(self.address), path, record.array, total)
        step, sums = array.chunks[0], record.checksums
        units = [
            (u, min(u + step, total), int(sums[u // step])) for u in range(a - a % step, b, step)
        ]
        arrays.read_checked(array, a, b, units, out)


@lru_cache(maxsize=64)
def _record_of(address: SourceAddress, key: str) -> PrefixRecord:
    """Return the record of a segment's prefixes, read once a process: it never changes."""
    record = read_record(Objects(address), KIND, key, PrefixRecord)
    if record is None:
        raise damaged_object(address.url, key, "is missing")
    return record


def check_prefixes(store: Store, kind: str) -> None:
    """Read the basis of a kind of rows and all finished prefixes.

    Raises
    ------
    DamagedStoreError
    """
    objects, folder = store.objects, f"{PREFIXES}/{kind}"
    basis = read_record(objects, BASIS, f"{folder}/{BASIS_RECORD}", BasisRecord)
    if basis is None:  # a run is just making it, or was killed then
        return
    if Blobs(store.address, folder).read(f"{basis.name}/{BASIS}") is None:
        raise damaged_object(store.url, f"{folder}/{basis.name}/{BASIS}", "is missing")
    depths = basis.facts.get("depths", {})
    width = int(depths.get("long", 0)) + 2
    _record_of.cache_clear()  # what lies there now is what is checked
    made = PrefixArrays(store.address, kind, basis.name, width)
    missing, start = made.missing(), 0
    for k, (rows, _) in enumerate(store.segments):
        for lo in range(start, start + rows, CHECKED_ROWS) if k not in missing else ():
            made.read(lo, min(lo + CHECKED_ROWS, start + rows))
        start += rows


def save_basis(
    address: SourceAddress,
    kind: str,
    values: Mapping[str, NDArray[Any]],
    facts: Mapping[str, Any],
) -> str:
    """Keep a basis (arrays by name) for a kind of rows and return its name."""
    packed = pack(values)
    name = arrays.digest([json.dumps(dict(facts), sort_keys=True).encode(), packed.tobytes()])[:16]
    folder = Blobs(address, f"{PREFIXES}/{kind}")
    folder.write_once(f"{name}/{BASIS}", packed)
    record = BasisRecord(name=name, facts=dict(facts))  # last: from here on it is found
    write_record(folder.objects, BASIS, f"{folder.path}/{BASIS_RECORD}", record)
    return name


def load_basis(
    store: Store, kind: str
) -> tuple[str, dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Return name, arrays and facts of the basis kept for a kind of rows, None without one.

    One that is damaged is made again.
    """
    folder = Blobs(store.address, f"{PREFIXES}/{kind}")
    with suppress(DamagedStoreError):
        key = f"{folder.path}/{BASIS_RECORD}"
        record = read_record(folder.objects, BASIS, key, BasisRecord)
        if record is not None and (packed := folder.read(f"{record.name}/{BASIS}")) is not None:
            return record.name, unpack(packed), record.facts
    return None
