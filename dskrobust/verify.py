"""Check a store: re-read every checksum, and prove a sample of results again by brute force.

What was computed and is damaged can be removed, so that it is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .declared_types import checked_arguments
from .definitions import lipschitz_of, robustness_of
from .engine.spec import RULES, Context
from .errors import VerificationError
from .kernels import NOBODY, reduce_rows
from .labels import LabelMap
from .memory import KERNELS
from .metrics import Mahalanobis, Metric, resolve_metric
from .own_code import described
from .runs import fitted_mahalanobis, pair_spec
from .store import Block, Look, ResultTables, Store, find_results, inspect, open_store
from .whole_numbers import check_whole

SLICE_BYTES = 32 * 2**20  # of features that are read at once
SLICE_ROWS = 2**20  # and at most: of few columns labels weigh as much; a chunk of them has as many
PIECE_ROWS = 65_536  # that are compared with a row at once
TABLE_ROWS = 65_536  # of a result, read at once
ID_BYTES = 100  # of an id that is checked


@dataclass(frozen=True)
class VerifyReport:
    """What was checked.

    Attributes
    ----------
    rows, bytes_read : int
        Rows whose features, labels and split agree with their checksums.
    results : tuple of str
        Results whose checksums agree and whose sampled rows were proven again.
    sampled : ndarray (k,) int64
        The rows that were proven again.
    unproven : tuple of str
        Results whose checksums agree but of which no row could be proven again: lists of
        neighbours, and those whose metric (a function, another Mahalanobis matrix) or label norm (a
        function) was not given.
    objects : int
        Sealed records that are what was written: states, results, evaluations, checkpoints, tiles,
        prefixes, notes.
    mended : tuple of str
        Keys of what was damaged, and was removed or written again.
    """

    rows: int
    bytes_read: int
    results: tuple[str, ...]
    sampled: NDArray[np.int64]
    unproven: tuple[str, ...] = ()
    objects: int = 0
    mended: tuple[str, ...] = ()


@checked_arguments()
def verify_store(
    store: Store | str | Path,
    *,
    sample: int = 100,
    seed: int = 0,
    metric: Any = None,
    label_norm: Any = None,
    progress: Callable[[int, int], None] | None = None,
    repair: bool = False,
) -> VerifyReport:
    """Re-read all data, results and records, and prove a random sample of rows by brute force.

    Parameters
    ----------
    store : Store or str
        An opened store, or its address.
    sample : int
        Rows to prove again, against every other row of the store.
    seed : int
    metric : Metric, optional
        For results of a metric that cannot be rebuilt from its name (a function,
        another Mahalanobis matrix than that of the data).
    label_norm : callable, optional
        For results of a norm of the label space that is a function.
    progress : callable, optional
        Called with rows done and rows to do.
    repair : bool
        Whether to remove what is damaged and can be made again (results, records of evaluations,
        checkpoints, tiles, prefixes, notes), and to write Zarr metadata again that the store's
        records know.

    Raises
    ------
    DamagedStoreError
        For a chunk or record that is missing or differs from what was written; it is named.
    VerificationError
        For a stored value that the brute force contradicts; row, group and both values are named.
    InvalidOptionError
        For a sample or seed that is no whole number from 0 on.
    """
    sample, seed = check_whole("sample", sample, 0, of="rows"), check_whole("seed", seed, 0)
    store, rng = open_store(store), np.random.default_rng(seed)
    rows = np.sort(rng.choice(store.rows, min(sample, store.rows), replace=False))
    proven = Sample.of(store, rows)
    objects, mended = _inspected(store, proven.look, repair=repair)
    read = 0
    results = [r for r in find_results(store, everything=True) if r.covers(store)]
    checks = list(_checks(proven, results, _Metrics(store, metric), label_norm))
    known = {check.result.name for check in checks}
    skipped = tuple(r.name for r in results if r.name not in known)
    for lo, hi in slices(store):
        block = store.read_block(lo, hi)
        read += sum(part.nbytes for part in block[:3])
        if store.has_ids:
            store.read("ids", lo, hi)
        for check in checks:
            check.add(lo, block)
        if progress:
            progress(hi, store.rows)
    for check in checks:
        check.compare()
    names = tuple(r.name for r in results)
    return VerifyReport(store.rows, read, names, rows, skipped, objects, mended)


def verifying_memory(store: Store, sample: int) -> int:
    """Return how many bytes `verify_store` holds at most."""
    results = [r for r in find_results(store, everything=True) if r.covers(store)]
    dtype = store.row_shape("features")[1]
    rows = max(hi - lo for lo, hi in slices(store))
    label = 8 * prod(store.row_shape("labels")[0])
    # as stored, decoded, and a piece as the kernel takes it
    held = rows * (2 * store.columns * dtype.itemsize + 3 * label + 4)
    held += min(rows, PIECE_ROWS) * store.columns * 8 + (rows * ID_BYTES if store.has_ids else 0)
    columns = len(store.groups) + max(
        (len(r.facts.get("references", ())) for r in results), default=0
    )
    columns *= bool(results)
    table = 3 * min(store.rows, TABLE_ROWS) * 8 * columns  # as stored, decoded, read
    # features as read and as the kernel takes them; four tables, stored and proven, of a result
    proven = sample * (3 * 8 * store.columns + 8 * 8 * columns * len(results))
    fitted = any(str(r.parameters["metric"]).startswith("mahalanobis") for r in results)
    return held + table + proven + KERNELS + fitted * 4 * 8 * store.columns**2


def _inspected(store: Store, look: Look, *, repair: bool) -> tuple[int, tuple[str, ...]]:
    """Check all that lies beside the rows; return how many records, and what was mended."""
    seen: list[str] = []
    mended = []
    for damage in inspect(store, seen.append, look):
        if damage.mend is None or not repair:
            raise damage.error
        damage.mend()
        mended.append(damage.key)
    return len(seen), tuple(dict.fromkeys(mended))


def slices(store: Store) -> Iterator[tuple[int, int]]:
    """Yield (first row, last row + 1) of whole chunks after another, about SLICE_BYTES each."""
    most = SLICE_BYTES // (store.columns * store.row_shape("features")[1].itemsize)
    most = min(most, SLICE_ROWS)
    first = 0
    for lo, hi in store.chunks("features"):
        if hi - first > most and lo > first:
            yield first, lo
            first = lo
    yield first, store.rows


class Sample(NamedTuple):
    """The rows (k,) that are proven again, ascending, and what the store says of them.

    Attributes
    ----------
    store : Store
    rows : ndarray (k,) int64
    features, labels, split : ndarray (k, ...)
    tables : dict
        (Result, table) → its values (k, ...), taken while the table is read as a whole.
    """

    store: Store
    rows: NDArray[np.int64]
    features: NDArray[Any]
    labels: NDArray[Any]
    split: NDArray[np.int16]
    tables: dict[tuple[str, str], NDArray[Any]]

    @classmethod
    def of(cls, store: Store, rows: NDArray[np.int64]) -> Sample:
        """Read the data of some rows."""
        return cls(
            store, rows, store.features[rows], store.labels[rows], store.split_codes[rows], {}
        )

    def look(self, result: ResultTables, table: str, lo: int, values: NDArray[Any]) -> None:
        """Take what a piece of a table, from row `lo` on, has of the rows."""
        shape = len(self.rows), *values.shape[1:]
        taken = self.tables.setdefault((result.name, table), np.zeros(shape, values.dtype))
        a, b = np.searchsorted(self.rows, (lo, lo + len(values)))
        taken[a:b] = values[self.rows[a:b] - lo]


class _Metrics:
    """The metrics that results can be proven with: by name, as given, or fitted to the data."""

    def __init__(self, store: Store, given: Any) -> None:
        self.store = store
        self.given = None if given is None else resolve_metric(given)

    @cached_property
    def fitted(self) -> Mahalanobis:
        """Mahalanobis' metric of the data, which all of it is read for."""
        return fitted_mahalanobis(self.store.address)

    def of(self, result: ResultTables) -> Metric | None:
        """Return the metric of scores, None for lists of neighbours or where it is not at hand."""
        name = str(result.parameters["metric"])
        if "k" in result.parameters:
            return None
        if self.given is not None and str(self.given) == name:
            return self.given
        if name.startswith("mahalanobis"):
            return self.fitted if str(self.fitted) == name else None
        return None if name.startswith("function") else resolve_metric(name)


def _checks(
    sample: Sample, results: Sequence[ResultTables], metrics: _Metrics, label_norm: Any
) -> Iterator[_Check]:
    """Yield the checks of those results whose metric and label norm are at hand."""
    for result in results:
        metric, labels = metrics.of(result), _label_map(result, label_norm)
        if metric is not None and labels is not None:
            yield _Check(sample, result, metric, labels)


def _label_map(result: ResultTables, given: Any) -> LabelMap | None:
    """Return the label map of a result; None where its norm is a function that was not given."""
    kind, norm = result.parameters["labels"], result.parameters.get("norm", "l2")
    if kind in RULES:
        return LabelMap("categorical")
    if not norm.startswith("function"):
        return LabelMap(kind, norm)
    return LabelMap(kind, given) if given is not None and described(given) == norm else None


class _Check:
    """Brute force of the sampled rows against all, for one result."""

    def __init__(
        self, sample: Sample, result: ResultTables, metric: Metric, labels: LabelMap
    ) -> None:
        kind = result.parameters["labels"]
        rule = kind if kind in RULES else "different"
        self.sample, self.result = sample, result
        self.spec = pair_spec(sample.store, metric, labels, rule)
        summary = sample.store.summary
        self.job = Context(summary.center, summary.largest_feature, 1.0).job(self.spec)
        self.state = self.spec.reduction.empty(len(sample.rows), self.spec.parts)
        self.labels = self.spec.labels.encode(sample.labels)

    def add(self, lo: int, block: Block) -> None:
        own = self.sample.rows, self.sample.features, self.labels
        for a in range(0, len(block.split), PIECE_ROWS):
            features, labels, split = (part[a : a + PIECE_ROWS] for part in block[:3])
            others = lo + a, features, self.spec.labels.encode(labels), split
            reduce_rows(own, others, self.job, self.state)

    def _stored(self, table: str) -> NDArray[Any]:
        """What a table of the result says of the rows, (k, ...)."""
        return self.sample.tables[self.result.name, table]

    def compare(self) -> None:
        """Compare with what is stored, to the last bit."""
        tables = {"reach_by_group": self.state.reach, "nearest_by_group": self.state.nearest}
        if self.spec.quotients:
            tables["lipschitz_by_group"] = self.state.quotient
            tables["witness_by_group"] = self.state.witness
        for name, proven in tables.items():
            stored = self._stored(name)[:, : proven.shape[1]]  # groups come before further sets
            if proven.dtype.kind == "i":
                proven = np.where(proven == NOBODY, -1, proven)
            wrong = np.argwhere(stored != proven)
            if len(wrong):
                k, group = wrong[0]
                raise VerificationError(
                    f"result {self.result.name}, table {name}: row {self.sample.rows[k]}, group "
                    f"{self.sample.store.groups[group]} is stored as {stored[k, group]} but brute "
                    f"force gives {proven[k, group]}; remove the result and compute it again"
                )
        self._compare_own()

    def _contradiction(self, row: int, what: str) -> VerificationError:
        return VerificationError(
            f"result {self.result.name}, row {row}: {what}; remove the result and compute it again"
        )

    def _compare_own(self) -> None:
        """The derived arrays must follow from the tables by the definitions."""
        norm = float(self.result.facts["label_norm"])
        for k, (row, code) in enumerate(zip(self.sample.rows, self.sample.split, strict=True)):
            by_group = {name: self._stored(f"{name}_by_group")[k, code] for name in self._tables()}
            if not self.spec.quotients:
                by_group["witness"] = by_group.pop("nearest")
            reach, q = by_group["reach"], by_group["lipschitz"]
            if not self.spec.quotients and q != lipschitz_of(reach):
                raise self._contradiction(row, f"Q is {q} for a reach of {reach}")
            for name, value in (*by_group.items(), ("robustness", robustness_of(q, norm))):
                stored = self._stored(name)[k]
                if stored != value:
                    what = f"{name} is stored as {stored} but follows as {value} from the tables"
                    raise self._contradiction(row, what)

    def _tables(self) -> tuple[str, ...]:
        names = ("reach", "lipschitz", "nearest")
        return (*names, "witness") if self.spec.quotients else names
