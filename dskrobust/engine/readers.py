"""What a tile reads: features, labels, parts and prefixes of its two sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import ANY, Depths, Panel, Rows
from ..store import PREFIX_ROWS
from .cache import BlockCache
from .prefixes import RunPrefixes
from .sources import Source
from .spec import TileSpec, TileTask

Codes = tuple[NDArray[np.int16] | None, NDArray[np.int16] | None]


class TileReader:
    """The rows of a tile's sides (`kernels.TileRows`); of whole blocks what its worker has kept.

    Parameters
    ----------
    task : TileTask
    spec : TileSpec
    source : Source
    prefixes : RunPrefixes, optional
    cache : BlockCache, optional
        Keeps features, labels and panels of whole blocks for other tiles.
    codes : (ndarray, ndarray)
        The part of every row of either side, −1 where it takes no part; None for all rows, by
        their groups.
    """

    def __init__(
        self,
        task: TileTask,
        spec: TileSpec,
        source: Source,
        prefixes: RunPrefixes | None,
        cache: BlockCache | None,
        codes: Codes,
    ) -> None:
        self._spec, self._source, self._prefixes, self._cache = spec, source, prefixes, cache
        self._sides = tuple(
            _Side(source, spec, block, part, cache or BlockCache(0))
            for block, part in zip(task.sides, codes, strict=True)
        )
        self._buffers: dict[int, NDArray[Any]] = {}
        self.bytes_read = 0

    @property
    def depths(self) -> Depths | None:
        return None if self._prefixes is None else self._prefixes.depths

    def count(self, side: int) -> int:
        """Rows of a side that take part."""
        return len(self._sides[side].numbers)

    def split(self, side: int) -> NDArray[np.int16]:
        """The groups of a side's rows."""
        return self._sides[side].split

    def rows(self, side: int, lo: int, hi: int) -> Rows:
        """Row numbers, labels and parts of some positions of a side."""
        one = self._sides[side]
        return Rows(one.numbers[lo:hi], one.labels[lo:hi], one.parts[lo:hi])

    def features(self, side: int, lo: int, hi: int) -> NDArray[Any]:
        """Features; those that nobody keeps go to one buffer a side."""
        one = self._sides[side]
        if self._cache is not None and one.is_whole(lo, hi):
            read = (lambda: self._read(one.block, None),)
            return self._cache.get(("features", *one.block), *read)
        out = self._buffer(side)[: hi - lo]
        pieces = list(_pieces(one.numbers[lo:hi], self._source.unit_rows))
        if len(pieces) == 1 and pieces[0][2] - pieces[0][1] == hi - lo:
            return self._read(pieces[0][1:], out)
        for part, first, last in pieces:
            whole = last - first == part.stop - part.start
            values = self._read((first, last), out[part] if whole else None)
            if not (whole and np.shares_memory(values, out)):
                out[part] = values[one.numbers[lo:hi][part] - first]
        return out

    def prefixes(self, side: int, lo: int, hi: int) -> NDArray[np.float32]:
        """Prefixes of some positions of a side."""
        assert self._prefixes is not None
        numbers = self._sides[side].numbers[lo:hi]
        pieces = list(_pieces(numbers, PREFIX_ROWS))
        self.bytes_read += sum(b - a for _, a, b in pieces) * 4 * self._prefixes.depths.width
        if len(pieces) == 1 and pieces[0][2] - pieces[0][1] == len(numbers):
            return self._prefixes.read(*pieces[0][1:])
        out = np.empty((len(numbers), self._prefixes.depths.width), np.float32)
        for part, first, last in pieces:
            out[part] = self._prefixes.read(first, last)[numbers[part] - first]
        return out

    def cached(self, side: int, lo: int, hi: int, make: Callable[[], Panel]) -> Panel | None:
        """A whole block's panel, which other tiles use too; None where none is kept."""
        one = self._sides[side]
        if self._cache is None or not one.is_whole(lo, hi):
            return None
        as_column = side if self._spec.one_sided else 0  # where the same rows have other parts
        return self._cache.get(("panel", as_column, *one.block), make)

    def _read(self, rows: tuple[int, int], out: NDArray[Any] | None) -> NDArray[Any]:
        values = self._source.read("features", *rows, out)
        self.bytes_read += values.nbytes
        return values

    def _buffer(self, side: int) -> NDArray[Any]:
        """Return a side's buffer: fresh pages cost more than reading."""
        if side not in self._buffers:
            shape = self._spec.panel_rows[side], self._spec.pairs.columns
            self._buffers[side] = np.empty(shape, self._spec.pairs.dtype)
        return self._buffers[side]


class _Side:
    """Who the rows of one side are; read once, as small reads cost most."""

    def __init__(
        self,
        source: Source,
        spec: TileSpec,
        block: tuple[int, int],
        codes: NDArray[np.int16] | None,
        cache: BlockCache,
    ) -> None:
        self._source, self._pairs, self._cache, self._codes = source, spec.pairs, cache, codes
        self.block = block
        self._inside = slice(None) if codes is None else np.flatnonzero(codes >= 0)
        self.numbers = np.arange(*block)[self._inside]

    def is_whole(self, lo: int, hi: int) -> bool:
        """Whether some positions are all rows of the block."""
        return hi - lo == self.block[1] - self.block[0]

    @cached_property
    def split(self) -> NDArray[np.int16]:
        return self._cache.get(("split", *self.block), lambda: self._read("split"))

    @cached_property
    def parts(self) -> NDArray[np.int16]:
        return (self.split if self._codes is None else self._codes)[self._inside]

    @cached_property
    def labels(self) -> NDArray[np.float64]:
        if self._pairs.label_code == ANY:
            return np.zeros((len(self.numbers), 1))
        encode = self._pairs.labels.encode
        whole = self._cache.get(("labels", *self.block), lambda: encode(self._read("labels")))
        return np.ascontiguousarray(whole[self._inside])

    def _read(self, name: str) -> NDArray[Any]:
        return self._source.read(name, *self.block)


def _pieces(numbers: NDArray[np.int64], unit: int) -> Iterator[tuple[slice, int, int]]:
    """Ranges of rows that hold ascending numbers: (positions, first row, last row + 1).

    Numbers without gaps are one range; else those of one unit, of which the rest is read in vain.
    """
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first + 1 == len(numbers) or unit == 1:
        yield slice(0, len(numbers)), first, last + 1
        return
    cuts = np.flatnonzero(np.diff(numbers // unit)) + 1
    for lo, hi in pairwise([0, *cuts.tolist(), len(numbers)]):
        yield slice(lo, hi), int(numbers[lo]), int(numbers[hi - 1]) + 1
