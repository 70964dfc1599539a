"""Prefixes beside the features: a basis, and for every segment an array of its rows' prefixes.

A prefix only says what may be skipped, but a wrong one would skip too much: units have checksums,
and everything lies under the digest of its basis, so that no two bases are ever mixed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import DamagedStoreError
from . import arrays
from .blobs import Blobs, open_root, pack, unpack
from .dataset import SourceAddress, Store

PREFIXES = "prefixes"
PREFIX_ROWS = 2_048  # rows of a chunk


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

    def _group(self, mode: str) -> zarr.Group:
        return open_root(self.address, mode)

    def _path(self, digest: str) -> str:
        return f"{PREFIXES}/{self.kind}/{self.name}/{digest}"

    def missing(self) -> list[int]:
        """Return which segments have no finished prefixes yet."""
        group, segments = self._group("r"), self.address.open().segments
        return [
            k
            for k, (_, digest) in enumerate(segments)
            if f"{self._path(digest)}.checksums" not in group
        ]

    def create(self, segment: int) -> None:
        """Create the array of a segment; chunks written earlier by the same basis may stay."""
        rows, digest = self.address.open().segments[segment]
        group = self._group("r+")
        if self._path(digest) not in group:
            shape = (rows, self.width)
            chunks = (min(PREFIX_ROWS, rows), self.width)
            dtype = np.dtype(np.float32)
            arrays.create_array(group, self._path(digest), shape, chunks, dtype, compress=False)

    def write(self, segment: int, start: int, values: NDArray[np.float32]) -> list[int]:
        """Write whole chunks of a segment from row `start` (of the segment); their checksums."""
        digest = self.address.open().segments[segment][1]
        array = self._group("r+")[self._path(digest)]
        assert isinstance(array, zarr.Array)
        array[start : start + len(values)] = values
        step = array.chunks[0]
        return [arrays.checksum(values[a : a + step]) for a in range(0, len(values), step)]

    def commit(self, segment: int, checksums: list[int]) -> None:
        """Make a segment's prefixes readable."""
        digest = self.address.open().segments[segment][1]
        path = f"{PREFIXES}/{self.kind}/{self.name}"
        Blobs(self.address, path).write(f"{digest}.checksums", np.array(checksums, np.uint32))

    def read(self, lo: int, hi: int) -> NDArray[np.float32]:
        """Read the prefixes of rows lo:hi, (hi - lo, width) float32, checked.

        Raises
        ------
        DamagedStoreError
        """
        out = np.empty((hi - lo, self.width), np.float32)
        group, start = self._group("r"), 0
        for rows, digest in self.address.open().segments:
            a, b = max(lo - start, 0), min(hi - start, rows)
            if a < b:
                part = out[start + a - lo : start + b - lo]
                self._read_segment(group, digest, (a, b, rows), part)
            start += rows
        return out

    def _read_segment(
        self,
        group: zarr.Group,
        digest: str,
        rows: tuple[int, int, int],
        out: NDArray[np.float32],
    ) -> None:
        """Read rows a:b of a segment of `total` rows."""
        a, b, total = rows
        try:
            array, table = group[self._path(digest)], group[f"{self._path(digest)}.checksums"]
            assert isinstance(array, zarr.Array)
            assert isinstance(table, zarr.Array)
            sums, step = arrays.read_plain(table), array.chunks[0]
            units = [
                (u, min(u + step, total), int(sums[u // step]))
                for u in range(a - a % step, b, step)
            ]
            arrays.read_checked(array, a, b, units, out)
        except (KeyError, DamagedStoreError) as error:
            raise DamagedStoreError(
                f"the prefixes in {self.address.url} are damaged ({error}); remove its folder "
                f"{PREFIXES}, they are made again"
            ) from error


def save_basis(
    address: SourceAddress,
    kind: str,
    values: Mapping[str, NDArray[Any]],
    facts: Mapping[str, Any],
) -> str:
    """Keep a basis (arrays by name) for a kind of rows and return its name."""
    packed = pack(values)
    name = arrays.digest([json.dumps(dict(facts), sort_keys=True).encode(), packed.tobytes()])[:16]
    Blobs(address, f"{PREFIXES}/{kind}/{name}").write_once("basis", packed)
    parent = open_root(address, "r+")[f"{PREFIXES}/{kind}"]
    parent.attrs["basis"] = {"name": name, **facts}  # last: from here on it is found
    return name


def load_basis(
    store: Store, kind: str
) -> tuple[str, dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Return name, arrays and facts of the basis kept for a kind of rows, None without one."""
    folder = Blobs(store.address, f"{PREFIXES}/{kind}")
    try:
        facts: dict[str, Any] = dict(folder.group().attrs["basis"])  # type: ignore[arg-type]
        name = str(facts.pop("name"))
    except KeyError:
        return None
    packed = folder.read(f"{name}/basis")
    return None if packed is None else (name, unpack(packed), facts)
