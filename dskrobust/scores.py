"""The scores of a data set: lazy arrays over the pair graph, or over results in a store."""

from __future__ import annotations

import hashlib
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.typing import NDArray

from .clients import in_place
from .collection import ArraysMixin
from .dask_arrays import is_dask_array
from .datasets.labelled import LabelledArrays
from .declared_types import checked_arguments
from .definitions import robustness_of
from .display import no_group
from .engine import lazy
from .engine.graph import PairGraph
from .engine.plan import Plan
from .engine.spec import PairSpec
from .engine.waves import Waves
from .errors import ContradictionWarning, Hint, InvalidOptionError
from .export import score_frames
from .labelled_rows import LabelledRows
from .memory import check_memory
from .records import as_records
from .show.overview import scores_card
from .show.shown_runs import run_shown, show_run
from .store import ResultTables, Store, TileMemo, covering, made_once
from .stored_rows import chunk_sizes, result_tables, result_writes, store_rows
from .user_warnings import warn

if TYPE_CHECKING:
    import pandas as pd

RESULT_ROWS = 65_536  # rows of a chunk of results
PAIR_BYTES = 64  # of a contradiction: its record in chunks, whole, and the pair
TABLE_BYTES = 200  # of a sample in a table, at most while it is made; ids come on top
_INSTEAD = Hint(
    "write them block by block with export_scores(scores, 'scores.parquet'), or take what you need "
    "of their Dask arrays, such as scores.robustness",
    "write them block by block with `dskrobust export STORE --out scores.parquet`",
)


def checked_scores(scores: Any) -> Scores:
    """Return scores; refuse what is none, such as the address of a store.

    Raises
    ------
    InvalidOptionError
    """
    if isinstance(scores, Scores):
        return scores
    raise InvalidOptionError(
        f"scores of samples are needed, as sample_robustness(data) gives, not a "
        f"{type(scores).__name__}"
    )


def known_spec(scores: Scores) -> PairSpec:
    """Return what scores were computed with.

    Raises
    ------
    InvalidOptionError
        Where they do not say it.
    """
    if scores.spec is None:
        raise InvalidOptionError(
            "these scores do not say what they were computed with; use those of "
            "dr.sample_robustness(store)"
        )
    return scores.spec


@dataclass(frozen=True)
class Scores(ArraysMixin, LabelledRows):
    """Robustness of every sample, lazy: Dask arrays until `compute` is called.

    Until then they are a Dask collection: `dask.compute` (which warns of nothing), `dask.persist`,
    `dask.visualize` and `client.compute` take them.

    Attributes
    ----------
    robustness : array (n,) float64
        R = ‖y‖∞ / (Q + ‖y‖∞) in the sample's own group (paper, 3.4).
    lipschitz : array (n,) float64
        Q, the point-wise Lipschitz constant in the own group (3.3); infinite for a contradiction.
    reach : array (n,) float64
        Distance to the nearest differently labelled sample of the own group (3.2).
    witness : array (n,) int64
        Row number of the sample that attains Q; the lowest one where several do.
    nearest : array (n,) int64
        Row number of the sample that attains the reach (for categories the witness).
    lipschitz_by_group, reach_by_group : array (n, groups) float64
    witness_by_group, nearest_by_group : array (n, groups) int64
        The same against every reference group; -1 where a group has no differently labelled
        sample (then Q is 0 and the reach infinite).
    split : array (n,) int16
        Position of every sample's group in `groups`.
    groups : tuple of str
    references : tuple of str
        Further reference sets that were asked for; their columns follow those of the groups.
    label_norm : float or 0-d array
        ‖y‖∞.
    categorical : bool
        Whether labels are classes, so that Q is one over the reach.
    store : Store, optional
        Where the data and, after `write`, the results lie.
    plan : Plan, optional
        How the computation runs; None for results read from a store.
    result : ResultTables, optional
        The stored result these scores are read from.
    spec : PairSpec, optional
        Metric, label map and groups.
    base : ResultTables, optional
        Stored results of the first rows, which are not computed again.
    scratch : str, optional
        Store that arrays are written to first; removed by `compute` and when Python exits.
    arrays : LabelledArrays, optional
        The arrays that were scored, where they are in no store.
    run : str, optional
        What events of this computation's tiles are named by.
    waves : Waves, optional
        Graphs that `compute` and `write` run first, where one would not hold all tiles.
    reference_rows : mapping, optional
        The rows of every reference set (`row_sets.RowSet`), where they were named for these scores.
    sizes : tuple of int, optional
        Samples of every group, where the groups are not those of the store (see `folds`).
    searched : PairSpec, optional
        What the tiles find, where that is more than these scores (`robustness.score_both`).
    """

    robustness: Any
    lipschitz: Any
    reach: Any
    witness: Any
    nearest: Any
    lipschitz_by_group: Any
    reach_by_group: Any
    witness_by_group: Any
    nearest_by_group: Any
    split: Any
    groups: tuple[str, ...]
    label_norm: Any
    categorical: bool
    store: Store | None = None
    plan: Plan | None = None
    result: ResultTables | None = None
    spec: PairSpec | None = None
    base: ResultTables | None = None
    scratch: str | None = None
    arrays: LabelledArrays | None = None
    references: tuple[str, ...] = ()
    run: str | None = None
    waves: Waves | None = field(default=None, repr=False, compare=False)
    reference_rows: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    sizes: tuple[int, ...] | None = None
    searched: PairSpec | None = None

    @property
    def rows(self) -> int:
        """Number of samples."""
        return int(self.robustness.shape[0])

    @property
    def title(self) -> str:
        """What is computed, in words."""
        metric = self.spec.metric.name.capitalize() if self.spec else ""
        return f"{metric} robustness of {self.name}".lstrip()

    def lipschitz_within(self, *groups: str) -> Any:
        """Q against the union of groups, shape (n,): the row maximum (paper, 3.5)."""
        columns = [self.group_code(group) for group in groups or self.groups]
        return self.lipschitz_by_group[:, columns].max(axis=1)

    def robustness_within(self, *groups: str) -> Any:
        """R against the union of groups (all without arguments), shape (n,)."""
        return robustness_of(self.lipschitz_within(*groups), self.label_norm)

    def lipschitz_against(self, name: str) -> Any:
        """Q against a group or reference set, shape (n,) float64."""
        return self.lipschitz_by_group[:, self.group_code(name)]

    def robustness_against(self, name: str) -> Any:
        """R against a group or reference set, shape (n,) float64."""
        return robustness_of(self.lipschitz_against(name), self.label_norm)

    def reach_against(self, name: str) -> Any:
        """Distance to the nearest differently labelled row of a group or reference set, (n,)."""
        return self.reach_by_group[:, self.group_code(name)]

    def witness_against(self, name: str) -> Any:
        """Row number that attains Q against a group or reference set, (n,) int64; -1 for none."""
        return self.witness_by_group[:, self.group_code(name)]

    @checked_arguments()
    def group_code(self, name: str) -> int:
        """Return the column of a group or reference set.

        Raises
        ------
        InvalidOptionError
            Where there is none of that name.
        """
        known = (*self.groups, *self.references)
        if name not in known:
            sets = " and reference sets" if self.references else ""
            raise InvalidOptionError(no_group(name, known, f"groups{sets}"))
        return known.index(name)

    def compute(self, **kwargs: Any) -> Scores:
        """Compute everything in one go; the same scores with NumPy arrays.

        Raises
        ------
        MemoryPlanError
            Where they do not fit into this process.

        Warns
        -----
        ContradictionWarning
            Where samples at distance 0 have different labels.
        """
        check_memory("a NumPy copy of all scores", self.rows, self._row_bytes, _INSTEAD)
        if self.spec is not None and self.result is None:
            self.spec.warm_up(self.rows)
        arrays = self.lazy_arrays
        try:
            with self._shown(**kwargs):
                if self.waves is not None:
                    self.waves.run(**kwargs)
                with _placed(self.plan):
                    values = compute(*arrays.values(), **kwargs)
        finally:
            if self.scratch is not None:  # the graph writes it again if it is asked again
                shutil.rmtree(self.scratch, ignore_errors=True)
        done = replace(self, **dict(zip(arrays, values, strict=True)))._finished()
        warn_contradictions(done)
        return done

    def _finished(self) -> Scores:
        return replace(self, run=None, waves=None)

    def contradictions(self) -> NDArray[np.int64]:
        """Pairs of samples of one group at distance 0 with different labels, shape (k, 2).

        One row per sample that has such a partner: the sample and its lowest-numbered partner.
        Only these come into this process.

        Raises
        ------
        MemoryPlanError
            Where they do not fit into it.
        """
        columns = {"reach": self.reach, "nearest": self.nearest}
        records = as_records(columns, stored=self.result is not None)
        found = records[records["reach"] == 0]
        if self.result is None:  # else they would be searched once more
            found = found.persist()
        count = int(found.map_blocks(_length, chunks=(1,), dtype=np.int64).sum().compute())
        check_memory("the list of contradictions", count, PAIR_BYTES, _INSTEAD)
        pairs: NDArray[np.void] = found.compute()
        return np.stack([pairs["row"], pairs["nearest"]], axis=1).astype(np.int64)

    def to_frame(self, *, by_group: bool = False) -> pd.DataFrame:
        """Return all scores as a table, one row per sample; what is lazy is computed.

        Columns are row, split, label (named), robustness, lipschitz, reach and witness (missing
        where there is none), also against every group with `by_group`. Where rows have ids they
        are the index, so that ``frame.join(scores.to_frame())`` puts the scores beside the data,
        and every witness has its id in a column too (witness_id). For files see `export_scores`.

        Raises
        ------
        MemoryPlanError
            Where they do not fit into this process.
        """
        columns = TABLE_BYTES + (2 * self._row_bytes if by_group else 0)
        check_memory("a table of all scores", self.rows, columns, _INSTEAD)
        return next(score_frames(self, by_group, rows=self.rows))

    def _shown(self, **kwargs: Any) -> AbstractContextManager[None]:
        """Have the scheduler show the run, unless kwargs of Dask's compute name another one."""
        return nullcontext() if kwargs.get("scheduler") else run_shown(*self._run)

    @property
    def _run(self) -> tuple[Plan | None, str | None, str]:
        return self.plan, self.run if self.result is None else None, self.title

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        show_run(*self._run)  # by dask.compute or client.compute
        return super().__dask_postcompute__()

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        show_run(*self._run)
        return super().__dask_postpersist__()

    def write(
        self, facts: Callable[[], Mapping[str, Any]] | None = None, *, wait: bool = True
    ) -> Scores:
        """Compute and write the results into the store; return them as read from there.

        Where another process computes the same, it is waited for, and its results are read; if it
        is gone before, what it has finished is taken over.

        Parameters
        ----------
        facts : callable, optional
            Called once all is computed; what it returns is kept with the results.
        wait : bool
            Whether to wait for another process.

        Raises
        ------
        InvalidOptionError
            Where the scores are not of a store.
        BusyStoreError
            Where another process computes the same, and `wait` is false.
        StaleResultsError
            Where the store was replaced meanwhile.

        Warns
        -----
        BusyStoreWarning
            Where another process is waited for.
        """
        if self.store is None or self.spec is None:
            raise InvalidOptionError("only the scores of a store can be written; use create_store")
        if self.result is not None:
            return self
        with made_once(self.store, self.spec.parameters(), wait=wait):
            for result in covering(self.store, self.spec.parameters()):
                if result.groups == self.groups:
                    done = read_scores(self.store, result, self.spec)  # written in the meantime
                    break
            else:
                done = self._write(self.store, self.spec, facts)
        return replace(done, reference_rows=self.reference_rows)

    def _write(
        self, store: Store, spec: PairSpec, facts: Callable[[], Mapping[str, Any]] | None
    ) -> Scores:
        (done,) = write_together([(self, spec)], store, facts)
        run_memo(store, self.searched or spec).clear()
        return done

    @property
    def _row_bytes(self) -> int:
        """Bytes of all that is known of a sample."""
        arrays = (getattr(self, f.name) for f in fields(self))
        return sum(a.nbytes // max(1, self.rows) for a in arrays if hasattr(a, "nbytes"))

    def _tables(self) -> dict[str, da.Array]:
        names = {*lazy.OWN, *lazy.BY_GROUP} - {"witness_by_group" if self.categorical else ""}
        names -= {"nearest"} if self.categorical else set()
        return {name: getattr(self, name) for name in (*lazy.OWN, *lazy.BY_GROUP) if name in names}

    def _repr_html_(self) -> str:
        return scores_card(self)

    def __repr__(self) -> str:
        lazy = "lazy" if self.result is None else "stored"
        state = lazy if isinstance(self.robustness, da.Array) else "computed"
        return f"<Scores of {self.rows:,} samples, groups {', '.join(self.groups)}, {state}>"


def write_together(
    several: Sequence[tuple[Scores, PairSpec]],
    store: Store,
    facts: Callable[[], Mapping[str, Any]] | None = None,
    title: str = "",
) -> list[Scores]:
    """Compute scores of one graph and write each as a result; return them as read from there.

    Whoever calls it takes its turn before, and clears finished tiles after. facts: see
    `Scores.write`. title: what they are together, where they are several.
    """
    first, plan = several[0][0], several[0][0].plan
    for _, spec in several:
        spec.warm_up(store.rows)
    started = time.perf_counter()  # compiling is no part of what a run takes
    made = [
        result_writes(store, spec.parameters(), one._tables(), RESULT_ROWS, one.run)
        for one, spec in several
    ]
    writers, writes = zip(*made, strict=True)
    norms = (_delayed(one.label_norm) for one, _ in several)
    with run_shown(plan, first.run, title or first.title):
        if first.waves is not None:
            first.waves.run()
        with _placed(plan):
            done = compute(*norms, *writes)
    norms, checksums = done[: len(several)], done[len(several) :]
    known = {"seconds": time.perf_counter() - started, **_versions(), **(facts() if facts else {})}
    found = []
    for (one, spec), writer, own, norm in zip(several, writers, checksums, norms, strict=True):
        references = {"references": list(one.references)} if one.references else {}
        told = {"label_norm": float(norm), **references, **known}
        found.append(read_scores(store, writer.commit(own, told), spec))
    return found


def _delayed(number: Any) -> Any:
    """Return a number as it is, or, of a Dask array without dimensions, delayed."""
    return number.to_delayed(optimize_graph=False).item() if is_dask_array(number) else number


def _placed(plan: Plan | None) -> AbstractContextManager[None]:
    """Where a plan's tasks run."""
    return nullcontext() if plan is None else in_place(len(plan.tiles) == 1)


def _length(rows: NDArray[Any]) -> NDArray[np.int64]:
    return np.array([len(rows)])


def run_memo(store: Store, spec: PairSpec) -> TileMemo:
    """Return where the finished tiles of a run are kept."""
    parameters = {k: v for k, v in spec.parameters().items() if k != "bound"}
    identity = repr((sorted(parameters.items(), key=str), spec.groups))
    return TileMemo(store.address, hashlib.sha256(identity.encode()).hexdigest()[:16])


# -- lazy arrays -----------------------------------------------------------------------------


def lazy_scores(graph: PairGraph, spec: PairSpec, plan: Plan) -> Scores:
    """Return the scores of a graph; they share it."""
    arrays: dict[str, Any] = {**lazy.lazy_scores(graph, spec, RESULT_ROWS)}
    return Scores(
        **arrays,
        groups=spec.groups,
        references=spec.set_names[len(spec.groups) :],
        categorical=spec.labels.is_categorical,
        plan=plan,
        spec=spec,
        run=graph.token,
    )


# -- results in a store ----------------------------------------------------------------------


def read_scores(store: Store, result: ResultTables, spec: PairSpec | None = None) -> Scores:
    """Return stored results as scores; blocks are read when asked for."""
    names, known = (*lazy.OWN, *lazy.BY_GROUP), result.record().arrays
    # of categories the nearest one is the witness, which is kept once
    kept = {"nearest": "witness", "witness_by_group": "nearest_by_group"}
    of = {name: name if name in known else kept[name] for name in names}
    split = store_rows(store, "split", chunk_sizes(result.rows, RESULT_ROWS))
    tables: dict[str, Any] = {**result_tables(result, RESULT_ROWS, of)}
    return Scores(
        **tables,
        split=split,
        groups=result.groups,
        references=tuple(result.facts.get("references", ())),
        label_norm=float(result.facts["label_norm"]),
        categorical="witness_by_group" not in known,
        store=store,
        result=result,
        spec=spec,
    )


def _versions() -> dict[str, Any]:
    names = ("dskrobust", "numpy", "dask", "zarr", "numba")
    return {"versions": {"python": platform.python_version(), **{n: version(n) for n in names}}}


def warn_contradictions(scores: Scores) -> int:
    """Warn once where samples at distance 0 have different labels; return their number."""
    reach = np.asarray(scores.reach)
    count = int((reach == 0).sum())
    if count:
        rows = np.flatnonzero(reach == 0)[:5]
        pairs = ", ".join(f"{r} and {int(np.asarray(scores.nearest)[r])}" for r in rows)
        warn(
            f"{count} samples have a differently labelled twin at distance 0, so their Q is "
            f"infinite and R is 0 (rows {pairs}{', …' if count > 5 else ''}); "
            "scores.contradictions() lists them",
            ContradictionWarning,
        )
    return count
