"""Sets of rows, and the parts that overlapping sets cut a data set into: found block by block.

A set is an address: a group of a store's split, or the row lists among an evaluation's records. Of
row numbers that a caller has given, a task gets those of its block. So this process only learns
the parts' names and how many rows there are in every span.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from .errors import InvalidOptionError
from .store import SPAN, EvaluationRecords, SourceAddress

RUN = 16  # spans that one task counts
AT_ONCE = 8  # tallies that one task merges
MOST_PARTS = int(np.iinfo(np.int16).max)

Rows = NDArray[np.int64]
Names = NDArray[np.bytes_]  # of parts: a bit for every set, the first one the highest
Range = tuple[int, int]


class RowSet(Protocol):
    """Which rows of a data set are meant."""

    @property
    def token(self) -> str:
        """What tells these rows from others of the same data."""

    @property
    def address(self) -> SourceAddress | None:
        """The store that says which rows they are; None where nothing has to be read."""

    def within(self, lo: int, hi: int) -> Rows:
        """Return the rows from lo to hi, rising."""

    def at(self, lo: int, hi: int) -> RowSet:
        """Return what a task must be given that asks for rows from lo to hi."""


@dataclass(frozen=True)
class AllRows:
    """All rows."""

    token = "all"
    address = None

    def within(self, lo: int, hi: int) -> Rows:
        return np.arange(lo, hi)

    def at(self, lo: int, hi: int) -> AllRows:
        return self


@dataclass(frozen=True)
class GroupRows:
    """The rows of a group of a store.

    Attributes
    ----------
    address : SourceAddress
    code : int
        Position of the group.
    """

    address: SourceAddress
    code: int

    @property
    def token(self) -> str:
        return f"group {self.code}"

    def within(self, lo: int, hi: int) -> Rows:
        return lo + np.flatnonzero(self.address.open().read("split", lo, hi) == self.code)

    def at(self, lo: int, hi: int) -> GroupRows:
        return self


@dataclass(frozen=True)
class RecordedRows:
    """The rows of an evaluation's subset, or of several together.

    Attributes
    ----------
    records : EvaluationRecords
        That hold the lists.
    keys : tuple of str
    """

    records: EvaluationRecords
    keys: tuple[str, ...]

    @property
    def address(self) -> SourceAddress:
        return self.records.address

    @property
    def token(self) -> str:
        return " ".join(("rows", self.records.name, *self.keys))

    def within(self, lo: int, hi: int) -> Rows:
        spans = lo // SPAN, -(-hi // SPAN)
        lists = [self.records.spans_rows(key, *spans) for key in self.keys]
        rows = lists[0] if len(lists) == 1 else np.unique(np.concatenate(lists))
        return _between(rows, lo, hi)

    def at(self, lo: int, hi: int) -> RecordedRows:
        return self


@dataclass(frozen=True, eq=False)
class ListedRows:
    """Row numbers that a caller has given.

    Attributes
    ----------
    given : ndarray (k,) int64
        In any order, perhaps several times.
    """

    given: Rows
    rows: Rows = field(init=False, repr=False)
    address = None

    def __post_init__(self) -> None:
        rising = bool((self.given[1:] > self.given[:-1]).all())
        object.__setattr__(self, "rows", self.given if rising else np.unique(self.given))

    @property
    def token(self) -> str:
        return hashlib.sha256(self.given.tobytes()).hexdigest()

    def within(self, lo: int, hi: int) -> Rows:
        return _between(self.rows, lo, hi)

    def at(self, lo: int, hi: int) -> ListedRows:
        return ListedRows(self.within(lo, hi))


@dataclass(frozen=True, eq=False)
class Parts:
    """Rows in any of some sets, cut into parts: rows that lie in the same sets.

    Attributes
    ----------
    sets : tuple of RowSet
    names : ndarray (parts,) of bytes
        Which sets each part lies in, in order.
    counts : ndarray (spans,) int64
        How many of the rows lie in every span of the data.
    rows : int
        Of the data.
    """

    sets: tuple[RowSet, ...]
    names: Names
    counts: NDArray[np.int64]
    rows: int

    @property
    def total(self) -> int:
        """How many rows there are in the sets."""
        return int(self.counts.sum())

    @property
    def members(self) -> list[list[int]]:
        """The parts of every set."""
        width = self.names.dtype.itemsize
        bits = np.unpackbits(self.names.view(np.uint8).reshape(-1, width), axis=1)
        return [np.flatnonzero(bits[:, k]).tolist() for k in range(len(self.sets))]

    @property
    def identity(self) -> tuple[Any, ...]:
        """What codes depend on beside the data."""
        return tuple(one.token for one in self.sets), self.names.tobytes()

    def task(self, lo: int, hi: int) -> tuple[Any, ...]:
        """Return the task that finds the part of every row of a block."""
        return part_codes, _Sets(self.sets).at(lo, hi), self.names, lo, hi

    def count(self, blocks: Sequence[Range]) -> list[int]:
        """Return how many of the rows lie in every block."""
        if self.total == self.rows:
            return [hi - lo for lo, hi in blocks]
        sets = _Sets(self.sets)
        return sets.compute([(_count, sets.at(*block), *block) for block in blocks])

    def pieces(self, size: int) -> tuple[list[Range], list[int]]:
        """Cut the rows into pieces of at most `size`: the ranges that hold them, and their sizes.

        Where rows lie is looked up in the spans where pieces begin and end.
        """
        total = self.total
        step = -(-total // -(-total // size))
        starts = np.arange(0, total, step)
        stops = np.minimum(starts + step, total)
        numbers = self._numbers(np.ravel([starts, stops - 1], "F"))
        ranges = [(int(a), int(b) + 1) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
        return ranges, (stops - starts).tolist()

    def _numbers(self, ranks: Rows) -> Rows:
        """Return the row numbers of rising ranks."""
        if self.total == self.rows:
            return ranks
        ends = np.cumsum(self.counts)
        spans = np.searchsorted(ends, ranks, "right")
        places = ranks - (ends - self.counts)[spans]
        sets, jobs = _Sets(self.sets), []
        for span in np.unique(spans).tolist():
            lo, hi = span * SPAN, min((span + 1) * SPAN, self.rows)
            jobs.append((_numbers_at, sets.at(lo, hi), lo, hi, places[spans == span]))
        return np.concatenate(sets.compute(jobs))


class Cut(NamedTuple):
    """Queries, and the reference sets that they search in.

    Attributes
    ----------
    queries, references : Parts
        Queries are one part.
    sizes : list of int
        Rows of every reference set; what a caller has listed twice is counted twice.
    alike : bool
        Whether the queries are the rows in the reference sets.
    """

    queries: Parts
    references: Parts
    sizes: list[int]
    alike: bool


class _Tally(NamedTuple):
    """What is counted of sets in some spans."""

    names: Names
    sizes: NDArray[np.int64]  # (sets,)
    counts: NDArray[np.int64]  # (2, spans): queries, and rows in any of the sets
    alike: bool


@dataclass(frozen=True)
class _Sets:
    """Sets of rows, as one argument of a task."""

    sets: tuple[RowSet, ...]

    @property
    def here(self) -> bool:
        """Whether nothing has to be read."""
        return all(one.address is None for one in self.sets)

    def at(self, lo: int, hi: int) -> _Sets:
        return _Sets(tuple(one.at(lo, hi) for one in self.sets))

    def digest(self, function: Callable[..., str], *given: Any) -> str:
        """Return what a function makes of all rows in order: in one task, or with listed rows here.

        Listed rows are here, and too long for a task.
        """
        listed = any(isinstance(one, ListedRows) for one in self.sets)
        return function(self, *given) if listed else self.compute([(function, self, *given)])[0]

    def compute(self, jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return what jobs return: by tasks, unless all rows are in this process anyway."""
        if self.here:
            return [function(*given) for function, *given in jobs]
        name = uuid.uuid4().hex
        keys = [(f"sets-{name}", k) for k in range(len(jobs))]
        found: list[Any] = Delayed(
            f"all-{name}", {**dict(zip(keys, jobs, strict=True)), f"all-{name}": (list, keys)}
        ).compute()
        return found

    def reduce(self, jobs: Sequence[tuple[Any, ...]], merge: Callable[[Any], Any]) -> Any:
        """Return what jobs return, merged in a tree."""
        if self.here:
            return merge([function(*given) for function, *given in jobs])
        name, level = uuid.uuid4().hex, 0
        keys = [(f"sets-{name}", level, k) for k in range(len(jobs))]
        graph: dict[Any, Any] = dict(zip(keys, jobs, strict=True))
        while len(keys) > 1 or not level:
            level += 1
            groups = [keys[k : k + AT_ONCE] for k in range(0, len(keys), AT_ONCE)]
            keys = [(f"sets-{name}", level, k) for k in range(len(groups))]
            graph.update(zip(keys, ((merge, group) for group in groups), strict=True))
        return Delayed(f"all-{name}", {**graph, f"all-{name}": keys[0]}).compute()


def cut_sets(rows: int, sets: Sequence[RowSet], queries: RowSet | None = None) -> Cut:
    """Cut the rows in some sets into parts.

    Parameters
    ----------
    rows : int
        Of the data.
    sets : sequence of RowSet
    queries : RowSet, optional
        All rows without them.

    Raises
    ------
    InvalidOptionError
        Where sets overlap in more than 32,767 ways.
    """
    queries = AllRows() if queries is None else queries
    every = _Sets((queries, *sets))
    starts = [*range(0, rows, RUN * SPAN), rows]
    jobs = [(_tally, every.at(lo, hi), lo, hi) for lo, hi in pairwise(starts)]
    found: _Tally = every.reduce(jobs, partial(_merged, len(sets)))
    sizes = [
        len(one.given) if isinstance(one, ListedRows) else int(size)
        for one, size in zip(sets, found.sizes, strict=True)
    ]
    asked = np.array([b"\x80"])
    return Cut(
        Parts((queries,), asked, found.counts[0], rows),
        Parts(tuple(sets), found.names, found.counts[1], rows),
        sizes,
        found.alike,
    )


def rows_digest(rows: int, sets: Sequence[RowSet]) -> str:
    """Return the digest of the row numbers of sets, one set after the other."""
    return _Sets(tuple(sets)).digest(_digest_of_rows, rows)


def codes_digest(parts: Parts, more: str) -> str:
    """Return the digest of the part of every row, and of a text."""
    return _Sets(parts.sets).digest(_digest_of_codes, parts.names, parts.rows, more)


# -- what tasks do -----------------------------------------------------------------------------


def part_codes(sets: _Sets, names: Names, lo: int, hi: int) -> NDArray[np.int16]:
    """Return the part (hi - lo,) of every row of a block, −1 for those in no set."""
    found = _names(sets, lo, hi)
    codes = np.searchsorted(names, found).astype(np.int16)
    codes[found == b""] = -1
    return codes


def rows_within(rows: RowSet, lo: int, hi: int) -> Rows:
    """Return the rows of a set from lo to hi, rising."""
    return rows.within(lo, hi)


def _names(sets: _Sets, lo: int, hi: int) -> Names:
    """Return in which sets every row lies, (hi - lo,); no bytes for those in none."""
    addresses = [one.address for one in sets.sets]
    if addresses[0] is None or None in addresses:
        return _names_of(sets, lo, hi)
    pieces = []
    for first in range(lo // SPAN * SPAN, hi, SPAN):
        last = min(first + SPAN, addresses[0].rows)
        pieces.append(_kept_names(sets, first, last)[max(lo - first, 0) : hi - first])
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@lru_cache(maxsize=4)
def _kept_names(sets: _Sets, lo: int, hi: int) -> Names:
    """Return the names in a span, which several tasks ask for."""
    return _names_of(sets, lo, hi)


def _names_of(sets: _Sets, lo: int, hi: int) -> Names:
    width = -(-len(sets.sets) // 8)
    bits = np.zeros((hi - lo, width), np.uint8)
    for k, one in enumerate(sets.sets):
        bits[one.within(lo, hi) - lo, k // 8] |= 128 >> k % 8
    return bits.view(f"S{width}").ravel()


def _tally(sets: _Sets, lo: int, hi: int) -> _Tally:
    """Count the rows of some spans; the first set are the queries."""
    starts = [*range(lo, hi, SPAN), hi]
    return _merged(len(sets.sets) - 1, [_tally_span(sets, a, b) for a, b in pairwise(starts)])


def _tally_span(sets: _Sets, lo: int, hi: int) -> _Tally:
    queries = sets.sets[0].within(lo, hi)
    names = _names(_Sets(sets.sets[1:]), lo, hi)
    asked, inside = np.zeros(hi - lo, np.bool_), names != b""
    asked[queries - lo] = True
    known, numbers = np.unique(names, return_counts=True)
    bits = np.unpackbits(known.view(np.uint8).reshape(len(known), -1), axis=1)
    sizes = (numbers[:, None] * bits[:, : len(sets.sets) - 1]).sum(axis=0)
    counts = np.array([[len(queries)], [np.count_nonzero(inside)]])
    return _Tally(known[known != b""], sizes, counts, bool((asked == inside).all()))


def _merged(sets: int, tallies: Sequence[_Tally]) -> _Tally:
    """Merge what was counted of spans that follow each other.

    Raises
    ------
    InvalidOptionError
        For more parts than there can be.
    """
    names = np.unique(np.concatenate([one.names for one in tallies]))
    if len(names) > MOST_PARTS:
        raise InvalidOptionError(
            f"the {sets} subsets overlap in more than {MOST_PARTS:,} ways; evaluate fewer at once"
        )
    sizes = np.sum([one.sizes for one in tallies], axis=0)
    counts = np.concatenate([one.counts for one in tallies], axis=1)
    return _Tally(names, sizes, counts, all(one.alike for one in tallies))


def _count(sets: _Sets, lo: int, hi: int) -> int:
    return int(np.count_nonzero(_names(sets, lo, hi) != b""))


def _numbers_at(sets: _Sets, lo: int, hi: int, places: Rows) -> Rows:
    return lo + np.flatnonzero(_names(sets, lo, hi) != b"")[places]


def _digest_of_rows(sets: _Sets, rows: int) -> str:
    digest = hashlib.sha256()
    for one in sets.sets:
        if isinstance(one, (AllRows, ListedRows)):
            digest.update(b"all" if isinstance(one, AllRows) else one.given.tobytes())
            continue
        for lo in range(0, rows, SPAN):
            digest.update(one.within(lo, min(lo + SPAN, rows)).tobytes())
    return digest.hexdigest()[:16]


def _digest_of_codes(sets: _Sets, names: Names, rows: int, more: str) -> str:
    digest = hashlib.sha256()
    for lo in range(0, rows, SPAN):
        digest.update(part_codes(sets, names, lo, min(lo + SPAN, rows)).tobytes())
    digest.update(more.encode())
    return digest.hexdigest()[:16]


def _between(rows: Rows, lo: int, hi: int) -> Rows:
    a, b = np.searchsorted(rows, [lo, hi])
    return rows[a:b]
