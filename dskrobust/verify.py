"""Check a store: re-read every checksum, and prove a sample of results again by brute force.

What was computed and is damaged can be removed, so that it is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .definitions import lipschitz_of, robustness_of
from .engine.spec import RULES, Context
from .errors import VerificationError
from .kernels import NOBODY, reduce_rows
from .metrics import Mahalanobis, resolve_metric
from .runs import pair_spec
from .store import ResultTables, Store, find_results, inspect

SLICE_BYTES = 32 * 2**20


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
        neighbours, and those whose metric (a function, another Mahalanobis matrix) was not given.
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


def verify_store(
    store: Store,
    *,
    sample: int = 100,
    seed: int = 0,
    metric: Any = None,
    progress: Callable[[int, int], None] | None = None,
    repair: bool = False,
) -> VerifyReport:
    """Re-read all data, results and records, and prove a random sample of rows by brute force.

    Parameters
    ----------
    store : Store
    sample : int
        Rows to prove again, against every other row of the store.
    seed : int
    metric : Metric, optional
        For results of a metric that cannot be rebuilt from its name (a function,
        another Mahalanobis matrix than that of the data).
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
    """
    objects, mended = _inspected(store, repair=repair)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(store.rows, min(sample, store.rows), replace=False))
    step = slice_rows(store)
    read = 0
    results = [r for r in find_results(store, everything=True) if r.covers(store)]
    skipped = tuple(r.name for r in results if not _can_prove(store, r, metric))
    checks = [_Check(store, r, rows, metric) for r in results if r.name not in skipped]
    for lo in range(0, store.rows, step):
        hi = min(lo + step, store.rows)
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


def _inspected(store: Store, *, repair: bool) -> tuple[int, tuple[str, ...]]:
    """Check all that lies beside the rows; return how many records, and what was mended."""
    seen: list[str] = []
    mended = []
    for damage in inspect(store, seen.append):
        if damage.mend is None or not repair:
            raise damage.error
        damage.mend()
        mended.append(damage.key)
    return len(seen), tuple(dict.fromkeys(mended))


def slice_rows(store: Store) -> int:
    """Rows that make about SLICE_BYTES."""
    row = store.columns * store.row_shape("features")[1].itemsize
    units = max(1, SLICE_BYTES // (row * store.unit_rows))
    return units * store.unit_rows


def _can_prove(store: Store, result: ResultTables, metric: Any) -> bool:
    """Whether these are scores whose metric is at hand: by name, as given, or from the data."""
    if "k" in result.parameters:
        return False
    name = str(result.parameters["metric"])
    if metric is not None and str(resolve_metric(metric)) == name:
        return True
    if name.startswith("mahalanobis"):
        return str(Mahalanobis.fit(store.features, store.spec.scale)) == name
    return not name.startswith("function")


class _Check:
    """Brute force of some rows against all, for one result."""

    def __init__(
        self, store: Store, result: ResultTables, rows: NDArray[np.int64], metric: Any
    ) -> None:
        parameters = result.parameters
        kind, rule = parameters["labels"], "different"
        if kind in RULES:
            kind, rule = "categorical", kind
        labels = f"{kind}-{parameters['norm']}" if "norm" in parameters else kind
        name = str(parameters["metric"])
        if metric is None or str(resolve_metric(metric)) != name:
            metric = "mahalanobis" if name.startswith("mahalanobis") else name
        self.store, self.result, self.rows = store, result, rows
        self.spec = pair_spec(store, metric, labels, rule)
        summary = store.summary
        self.job = Context(summary.center, summary.largest_feature, 1.0).job(self.spec)
        self.state = self.spec.reduction.empty(len(rows), self.spec.parts)
        self.features = store.features[rows]
        self.labels = self.spec.labels.encode(store.labels[rows])

    def add(self, lo: int, block: Any) -> None:
        labels = self.spec.labels.encode(block.labels)
        reduce_rows(
            (self.rows, self.features, self.labels),
            (lo, block.features, labels, block.split),
            self.job,
            self.state,
        )

    def compare(self) -> None:
        """Compare with what is stored, to the last bit."""
        tables = {"reach_by_group": self.state.reach, "nearest_by_group": self.state.nearest}
        if self.spec.quotients:
            tables["lipschitz_by_group"] = self.state.quotient
            tables["witness_by_group"] = self.state.witness
        for name, proven in tables.items():
            stored = np.concatenate([self.result.read(name, r, r + 1) for r in self.rows])
            stored = stored[:, : proven.shape[1]]  # groups come before further reference sets
            if proven.dtype.kind == "i":
                proven = np.where(proven == NOBODY, -1, proven)
            wrong = np.argwhere(stored != proven)
            if len(wrong):
                k, group = wrong[0]
                raise VerificationError(
                    f"result {self.result.name}, table {name}: row {self.rows[k]}, group "
                    f"{self.store.groups[group]} is stored as {stored[k, group]} but brute force "
                    f"gives {proven[k, group]}; remove the result and compute it again"
                )
        self._compare_own()

    def _contradiction(self, row: int, what: str) -> VerificationError:
        return VerificationError(
            f"result {self.result.name}, row {row}: {what}; remove the result and compute it again"
        )

    def _compare_own(self) -> None:
        """The derived arrays must follow from the tables by the definitions."""
        norm = float(self.result.facts["label_norm"])
        split = self.store.split_codes[self.rows]
        for row, code in zip(self.rows, split, strict=True):
            at = row, row + 1
            by_group = {
                name: self.result.read(f"{name}_by_group", *at)[0, code] for name in self._tables()
            }
            if not self.spec.quotients:
                by_group["witness"] = by_group.pop("nearest")
            reach, q = by_group["reach"], by_group["lipschitz"]
            if not self.spec.quotients and q != lipschitz_of(reach):
                raise self._contradiction(row, f"Q is {q} for a reach of {reach}")
            for name, value in (*by_group.items(), ("robustness", robustness_of(q, norm))):
                stored = self.result.read(name, *at)[0]
                if stored != value:
                    what = f"{name} is stored as {stored} but follows as {value} from the tables"
                    raise self._contradiction(row, what)

    def _tables(self) -> tuple[str, ...]:
        names = ("reach", "lipschitz", "nearest")
        return (*names, "witness") if self.spec.quotients else names
