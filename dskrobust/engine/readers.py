"""What a tile reads: features, labels, groups and prefixes of its two sides."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import (
    Depths,
)
from ..store import (
    PREFIX_ROWS,
    Block,
    SourceAddress,
    Store,
)
from .cache import BlockCache
from .prefixes import RunPrefixes
from .sources import Source, open_source, split_of
from .spec import TileSpec, TileTask


class _TileReader:
    """What a tile reads: rows, labels and prefixes; of whole blocks what its worker has kept.

    Rows in pieces go to one buffer a side.
    """

    def __init__(
        self,
        task: TileTask,
        spec: TileSpec,
        source: Source | SourceAddress,
        prefixes: RunPrefixes | None,
        kept: BlockCache | None,
    ) -> None:
        self._task, self._spec, self._prefixes = task, spec, prefixes
        self._source, self._kept = open_source(source), kept
        self._buffers: dict[int, NDArray[Any]] = {}
        self._targets: dict[tuple[int, int], tuple[NDArray[np.float64], NDArray[np.int16]]] = {}
        self._splits: dict[tuple[int, int], NDArray[np.int16]] = {}
        self.bytes_read = 0

    @property
    def depths(self) -> Depths:
        assert self._prefixes is not None
        return self._prefixes.depths

    def rows(
        self, lo: int, hi: int, side: int
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int16]]:
        """Features, labels and split of rows lo:hi."""
        source = self._source
        if not isinstance(source, Store):
            block = self._read_block(source, lo, hi)
            self.bytes_read += block.features.nbytes
            return block.features, self._spec.pairs.labels.encode(block.labels), block.split

        def read(out: NDArray[Any] | None = None) -> NDArray[Any]:
            return self._counted(source.read("features", lo, hi, out))

        if self._kept is not None and (lo, hi) in (self._task.rows, self._task.columns):
            features = self._kept.get(("features", lo, hi), read)
        else:
            features = read(self._buffer(side)[: hi - lo])
        return features, *self._targets_of(source, lo, hi)

    def read(
        self, lo: int, hi: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int16]]:
        """Prefixes, labels and split of rows lo:hi."""
        assert self._prefixes is not None
        prefix, source = self._counted(self._prefixes.read(lo, hi)), self._source
        if isinstance(source, Store):
            return prefix, *self._targets_of(source, lo, hi)
        block = self._read_block(source, lo, hi)
        return prefix, self._spec.pairs.labels.encode(block.labels), block.split

    def split(self, lo: int, hi: int) -> NDArray[np.int16]:
        """Return the groups of a whole side, lo:hi, once it was read."""
        if isinstance(self._source, Store):
            return self._targets_of(self._source, lo, hi)[1]
        found = self._splits.get((lo, hi))  # none where all of the side was kept
        return split_of(self._source, lo, hi) if found is None else found

    def _counted(self, values: NDArray[Any]) -> NDArray[Any]:
        self.bytes_read += values.nbytes
        return values

    def _buffer(self, side: int) -> NDArray[Any]:
        """Return a side's buffer: fresh pages cost more than reading."""
        if side not in self._buffers:
            shape = self._spec.panel_rows[side], self._spec.pairs.columns
            self._buffers[side] = np.empty(shape, self._spec.pairs.dtype)
        return self._buffers[side]

    def _read_block(self, source: Source, lo: int, hi: int) -> Block:
        block, side = source.read_block(lo, hi), self._side(lo)
        kept = self._splits.setdefault(side, np.zeros(side[1] - side[0], np.int16))
        kept[lo - side[0] : hi - side[0]] = block.split
        return block

    def _side(self, lo: int) -> tuple[int, int]:
        rows, columns = self._task.rows, self._task.columns
        return rows if rows[0] <= lo < rows[1] else columns

    def _targets_of(
        self, source: Store, lo: int, hi: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
        """Labels and split of rows lo:hi; a side's are read once, as small reads cost most."""
        side, encode = self._side(lo), self._spec.pairs.labels.encode
        if side not in self._targets:
            cache = self._kept or BlockCache(0)
            self._targets[side] = (
                cache.get(("labels", *side), lambda: encode(source.read("labels", *side))),
                cache.get(("split", *side), lambda: source.read("split", *side)),
            )
        labels, split = self._targets[side]
        part = slice(lo - side[0], hi - side[0])
        return labels[part], split[part]


class _RowReader:
    """Reads rows by their numbers, piece by piece, into one buffer a side."""

    def __init__(
        self, spec: TileSpec, source: Source | SourceAddress, prefixes: RunPrefixes | None
    ) -> None:
        self._source, self._spec, self._prefixes = open_source(source), spec, prefixes
        self._buffers: dict[int, NDArray[Any]] = {}
        self.bytes_read = 0

    @property
    def depths(self) -> Depths | None:
        return None if self._prefixes is None else self._prefixes.depths

    def features(self, numbers: NDArray[np.int64], side: int) -> NDArray[Any]:
        if side not in self._buffers:
            shape = self._spec.panel_rows[side], self._spec.pairs.columns
            self._buffers[side] = np.empty(shape, self._spec.pairs.dtype)
        out, source = self._buffers[side][: len(numbers)], self._source
        unit = source.unit_rows if isinstance(source, Store) else len(numbers)
        for part, lo, hi in _pieces(numbers, unit):
            self.bytes_read += (hi - lo) * out.itemsize * out.shape[1]
            whole = hi - lo == part.stop - part.start
            if isinstance(source, Store):
                read = source.read("features", lo, hi, out[part] if whole else None)
            else:
                read = source.read_block(lo, hi).features
            if not whole or not isinstance(source, Store):
                out[part] = read[numbers[part] - lo]
        return out

    def prefixes(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        assert self._prefixes is not None
        width, pieces = self._prefixes.depths.width, list(_pieces(numbers, PREFIX_ROWS))
        self.bytes_read += sum(hi - lo for _, lo, hi in pieces) * 4 * width
        if len(pieces) == 1 and pieces[0][2] - pieces[0][1] == len(numbers):
            return self._prefixes.read(*pieces[0][1:])
        out = np.empty((len(numbers), width), np.float32)
        for part, lo, hi in pieces:
            out[part] = self._prefixes.read(lo, hi)[numbers[part] - lo]
        return out


def _pieces(numbers: NDArray[np.int64], unit: int) -> Iterator[tuple[slice, int, int]]:
    """Ranges of rows that hold ascending numbers: (positions, first row, last row + 1).

    Numbers without gaps are one range; else those of one unit, of which the rest is read in vain.
    """
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first + 1 == len(numbers):
        yield slice(0, len(numbers)), first, last + 1
        return
    cuts = np.flatnonzero(np.diff(numbers // unit)) + 1
    for lo, hi in pairwise([0, *cuts.tolist(), len(numbers)]):
        yield slice(lo, hi), int(numbers[lo]), int(numbers[hi - 1]) + 1
