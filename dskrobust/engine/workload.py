"""What is to be computed, in numbers: what a plan is made for."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

SCRATCH_BYTES = 8 * 2**20  # product, survivors and label differences of one sweep
READ_BYTES = 8 * 2**20  # decoded at once while a panel is read
SPLIT_EVERY = 8  # partial results merged by one task
LABEL_BYTES = 32  # of a tile's row: its label as stored and as compared, its group
BOXED_BLOCK = {8: 500_000, 16: 65_000}  # columns → rows of a block, as boxes rule most pairs out
WHOLE_UNITS = 32  # a block of so many units is made of whole ones
PLAIN_VALUES = 2**30  # a third of a second
PLAIN_COLUMNS = 64  # that a pair costs beside its own
SMALL_ROWS = 5_000
SMALL_VALUES = 2**36  # one to five seconds


@dataclass(frozen=True)
class Workload:
    """What is to be computed.

    Attributes
    ----------
    segments : tuple of int
        Rows written at once; blocks never cross from one into the next.
    columns : int
    stored_bytes : int
        Bytes of a stored value.
    kernel_bytes : int
        Bytes of a value as distances are computed from it.
    screened : bool
        Whether a float32 copy of a panel is kept for matrix products.
    state_bytes : int
        Bytes of a row's partial results, of all parts together.
    unit_rows : int
        Rows that are read together at least (a chunk).
    done_segments : int
        Leading segments whose pairs among themselves are known already.
    copied : bool
        Whether rows are converted or transformed, so that they are held twice.
    matrix : bool
        Whether rows are multiplied by a (columns, columns) float64 matrix.
    prefixed : bool
        Whether pairs may be screened by prefixes of their rows.
    coarse_bytes : int
        Bytes of a row's bounds, for metrics that no product bounds; 0 without.
    leaves : bool
        Whether rows of few columns are searched by leaves, which rule most pairs out.
    stored : bool
        Whether rows are read from a store, so that a worker had better keep what it has read.
    resumable : bool
        Whether finished tiles are kept in a store, so that one graph can go on from another.
    own_code : bool
        Whether a function of the user's is called for pairs, which takes nobody knows how long.
    """

    segments: tuple[int, ...]
    columns: int
    stored_bytes: int
    kernel_bytes: int
    screened: bool
    state_bytes: int
    unit_rows: int = 1
    done_segments: int = 0
    copied: bool = False
    matrix: bool = False
    prefixed: bool = False
    coarse_bytes: int = 0
    leaves: bool = True
    stored: bool = False
    resumable: bool = False
    own_code: bool = False

    @property
    def rows(self) -> int:
        return sum(self.segments)

    @property
    def plain(self) -> bool:
        """Whether all pairs are computed before bounds would have been made, or compiled."""
        values = self.rows * (self.rows - 1) // 2 * (PLAIN_COLUMNS + self.columns)
        return not self.own_code and values <= PLAIN_VALUES

    @property
    def small(self) -> bool:
        """Whether it is done before the processes of a cluster would have started."""
        values = self.rows**2 * self.columns
        return not self.own_code and self.rows <= SMALL_ROWS and values <= SMALL_VALUES

    @property
    def panel_row_bytes(self) -> int:
        """Bytes of a row in a panel."""
        copy = self.stored_bytes if self.copied else 0
        screen = 4 if self.screened else 0
        leaves = 24 * self.columns + 64 if self.boxed_rows else 0
        return self.columns * (self.kernel_bytes + copy + screen) + self.coarse_bytes + leaves

    @property
    def kept_row_bytes(self) -> int:
        """Bytes of a row that a worker keeps: as it is stored, prefix, label, group, results."""
        prefix = 4 * self.columns if self.prefixed else 0  # no longer than the row
        return self.columns * self.stored_bytes + prefix + LABEL_BYTES + self.state_bytes

    @property
    def boxed_rows(self) -> int:
        """Rows of a block where leaves rule most pairs out, 0 where they don't."""
        fits = (rows for columns, rows in BOXED_BLOCK.items() if self.columns <= columns)
        return next(fits, 0) if self.leaves else 0


def cut_blocks(
    segments: tuple[int, ...], size: int, unit_rows: int = 1
) -> tuple[tuple[int, int], ...]:
    """Cut every segment into blocks of equal size, at most about `size` rows.

    Equal blocks keep all workers busy to the end. Where a block is many units long, it is made of
    whole ones; else reading the units at its ends twice costs less than a smaller last block.
    """
    blocks, start = [], 0
    for rows in segments:
        step = ceil(rows / ceil(rows / size))
        if step >= WHOLE_UNITS * unit_rows:
            step = ceil(step / unit_rows) * unit_rows
        blocks += [(a, min(a + step, start + rows)) for a in range(start, start + rows, step)]
        start += rows
    return tuple(blocks)


def panel_bytes(work: Workload, rows: int, columns: int) -> int:
    """Bytes of the two panels of a tile, reading and preparing included."""
    return (rows + columns) * (work.panel_row_bytes + 64)


def tile_bytes(work: Workload, block_rows: int) -> int:
    """Bytes of a tile beside its panels: buffers, chunks being decoded, partial results."""
    unit = work.unit_rows * work.columns * work.stored_bytes
    reading = 2 * max(READ_BYTES, unit) + 2 * unit
    tables = (4 + SPLIT_EVERY) * block_rows * work.state_bytes
    matrix = 4 * 8 * work.columns**2 if work.matrix else 0
    return SCRATCH_BYTES + reading + tables + matrix + 2 * LABEL_BYTES * block_rows


def waiting_bytes(states: int, parts: int, workers: int) -> int:
    """Bytes of partial results that wait in a worker until they can be merged.

    states: bytes of all rows' results; parts: how many partial ones a row has.
    """
    return min(parts, SPLIT_EVERY) * states // workers
