"""The scores of a data set: lazy arrays over the pair graph, or over results in a store."""

from __future__ import annotations

import hashlib
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from .definitions import robustness_of
from .engine.graph import PairGraph
from .engine.lazy import _below, _label_norm, _take
from .engine.plan import Plan
from .engine.scratch import GivenArrays
from .engine.spec import PairSpec
from .errors import ContradictionWarning, InvalidOptionError
from .export import score_frames
from .show.overview import scores_card
from .store import ResultTables, ResultWriter, SourceAddress, Store, TileMemo, matching

if TYPE_CHECKING:
    import pandas as pd

RESULT_ROWS = 65_536  # rows of a chunk of results
_INTEGERS = ("witness", "nearest", "witness_by_group", "nearest_by_group")


@dataclass(frozen=True)
class Scores:
    """Robustness of every sample, lazy: Dask arrays until `compute` is called.

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
    label_norm : float or 0-d array
        ‖y‖∞.
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
    given : GivenArrays, optional
        The arrays that were scored, where they are in no store.
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
    given: GivenArrays | None = None

    @property
    def rows(self) -> int:
        """Number of samples."""
        return int(self.robustness.shape[0])

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.store.spec.name if self.store else "data"

    @property
    def run(self) -> str | None:
        """What events of this computation's tiles are named by; None once nothing is to be done."""
        lazy = self.result is None and isinstance(self.robustness, da.Array)
        return str(self.robustness.name).partition("-")[2] if lazy else None

    def lipschitz_within(self, *groups: str) -> Any:
        """Q against the union of groups, shape (n,): the row maximum (paper, 3.5)."""
        columns = [self.group_code(group) for group in groups or self.groups]
        return self.lipschitz_by_group[:, columns].max(axis=1)

    def robustness_within(self, *groups: str) -> Any:
        """R against the union of groups (all without arguments), shape (n,)."""
        return robustness_of(self.lipschitz_within(*groups), self.label_norm)

    def group_code(self, group: str) -> int:
        """Return the position of a group.

        Raises
        ------
        InvalidOptionError
            Where there is no group of that name.
        """
        if group not in self.groups:
            raise InvalidOptionError(
                f"there is no group {group!r}; the groups are {', '.join(self.groups)}"
            )
        return self.groups.index(group)

    def compute(self, **kwargs: Any) -> Scores:
        """Compute everything in one go; the same scores with NumPy arrays.

        Warns
        -----
        ContradictionWarning
            Where samples at distance 0 have different labels.
        """
        if self.spec is not None and self.result is None:
            self.spec.warm_up()
        names = [f.name for f in fields(self) if isinstance(getattr(self, f.name), da.Array)]
        try:
            values = compute(*(getattr(self, name) for name in names), **kwargs)
        finally:
            if self.scratch is not None:  # the graph writes it again if it is asked again
                shutil.rmtree(self.scratch, ignore_errors=True)
        done = replace(self, **dict(zip(names, values, strict=True)))
        warn_contradictions(done)
        return done

    def contradictions(self) -> NDArray[np.int64]:
        """Pairs of samples of one group at distance 0 with different labels, shape (k, 2).

        One row per sample that has such a partner: the sample and its lowest-numbered partner.
        """
        reach, nearest = compute(self.reach, self.nearest)
        rows = np.flatnonzero(np.asarray(reach) == 0)
        return np.stack([rows, np.asarray(nearest)[rows]], axis=1).astype(np.int64)

    def to_frame(self, *, by_group: bool = False) -> pd.DataFrame:
        """Return all scores as a table, one row per sample; what is lazy is computed.

        Columns are row, split, label (named), robustness, lipschitz, reach and witness (missing
        where there is none), also against every group with `by_group`. For files see
        `export_scores`.
        """
        return next(score_frames(self, by_group, rows=self.rows))

    def write(self, facts: Callable[[], Mapping[str, Any]] | None = None) -> Scores:
        """Compute and write the results into the store; return them as read from there.

        Parameters
        ----------
        facts : callable, optional
            Called once all is computed; what it returns is kept with the results.

        Raises
        ------
        InvalidOptionError
            Where the scores are not of a store.
        """
        if self.store is None or self.spec is None:
            raise InvalidOptionError("only the scores of a store can be written; use create_store")
        if self.result is not None:
            return self
        for result in matching(self.store, self.spec.parameters()):
            if result.covers(self.store) and result.groups == self.groups:
                return read_scores(self.store, result, self.spec)  # written in the meantime
        started = time.perf_counter()
        self.spec.warm_up()
        writer = ResultWriter(
            self.store.address,
            self.spec.parameters(),
            tuple(digest for _, digest in self.store.segments),
            self.groups,
            min(RESULT_ROWS, self.rows),
        )
        tables = self._tables()
        writer.create({name: (a.shape[1:], a.dtype) for name, a in tables.items()})
        parts = {
            name: a.rechunk((writer.chunk_rows, *a.shape[1:])).to_delayed().ravel()
            for name, a in tables.items()
        }
        writes = [
            delayed(_write_result)(
                writer, k * writer.chunk_rows, {name: blocks[k] for name, blocks in parts.items()}
            )
            for k in range(-(-self.rows // writer.chunk_rows))
        ]
        *checksums, label_norm = compute(*writes, self.label_norm)
        seconds = time.perf_counter() - started
        result = writer.commit(
            checksums,
            {
                "seconds": seconds,
                "label_norm": float(label_norm),
                **_versions(),
                **(facts() if facts else {}),
            },
        )
        run_memo(self.store, self.spec).clear()
        return read_scores(self.store, result, self.spec)

    def _tables(self) -> dict[str, da.Array]:
        names = ["robustness", "lipschitz", "reach", "witness", "lipschitz_by_group"]
        names += ["reach_by_group", "witness_by_group", "nearest_by_group"]
        if self.categorical:
            names.remove("witness_by_group")
        else:
            names.append("nearest")
        return {name: getattr(self, name) for name in names}

    def _repr_html_(self) -> str:
        return scores_card(self)

    def __repr__(self) -> str:
        lazy = "lazy" if self.result is None else "stored"
        state = lazy if isinstance(self.robustness, da.Array) else "computed"
        return f"<Scores of {self.rows:,} samples, groups {', '.join(self.groups)}, {state}>"


def run_memo(store: Store, spec: PairSpec) -> TileMemo:
    """Return where the finished tiles of a run are kept."""
    parameters = {k: v for k, v in spec.parameters().items() if k != "bound"}
    identity = repr((sorted(parameters.items(), key=str), spec.groups))
    return TileMemo(store.address, hashlib.sha256(identity.encode()).hexdigest()[:16])


# -- lazy arrays -----------------------------------------------------------------------------


def lazy_scores(graph: PairGraph, spec: PairSpec, plan: Plan) -> Scores:
    """Wrap the finished tables of every block as Dask arrays that share one graph."""
    layers: dict[str, Any] = {f"pairs-{graph.token}": graph.graph}
    needs: dict[str, set[str]] = {f"pairs-{graph.token}": set()}
    for collection in graph.dependencies:
        layers.update(collection.dask.layers)
        needs.update(collection.dask.dependencies)
        needs[f"pairs-{graph.token}"].add(collection.__dask_layers__()[0])
    rows = tuple(hi - lo for lo, hi in graph.blocks)

    def array(name: str) -> da.Array:
        wide = name.endswith("_by_group")
        layer = f"{name.replace('_', '-')}-{graph.token}"
        layers[layer] = {
            (layer, k, 0)[: 3 if wide else 2]: (
                _take,
                table,
                graph.context,
                graph.source,
                (lo, hi),
                name,
            )
            for k, (table, (lo, hi)) in enumerate(zip(graph.tables, graph.blocks, strict=True))
        }
        needs[layer] = {f"pairs-{graph.token}"}
        mine = {k: layers[k] for k in (*_below(needs, layer), layer)}
        chunks = (rows, (len(spec.groups),)) if wide else (rows,)
        dtype = np.int64 if name in _INTEGERS else np.int16 if name == "split" else np.float64
        hlg = HighLevelGraph(mine, {k: needs[k] for k in mine})
        return da.Array(hlg, layer, chunks, dtype=dtype)

    def norm() -> da.Array:
        layer = f"label-norm-{graph.token}"
        layers[layer] = {(layer,): (_label_norm, graph.context)}
        needs[layer] = {f"pairs-{graph.token}"}
        mine = {k: layers[k] for k in (*_below(needs, layer), layer)}
        hlg = HighLevelGraph(mine, {k: needs[k] for k in mine})
        return da.Array(hlg, layer, (), dtype=np.float64)

    arrays: dict[str, Any] = {f.name: array(f.name) for f in fields(Scores)[:10]}
    return Scores(
        **arrays,
        groups=spec.groups,
        label_norm=norm(),
        categorical=spec.labels.is_categorical,
        plan=plan,
        spec=spec,
    )


# -- results in a store ----------------------------------------------------------------------


def read_scores(store: Store, result: ResultTables, spec: PairSpec | None = None) -> Scores:
    """Return stored results as scores; blocks are read when asked for."""
    tables = result.tables()
    categorical = "witness_by_group" not in tables
    step = min(RESULT_ROWS, result.rows)
    cuts = [(a, min(a + step, result.rows)) for a in range(0, result.rows, step)]
    rows = tuple(hi - lo for lo, hi in cuts)

    def array(name: str, read: Callable[[int, int], Any], row: tuple[int, ...], dtype: Any) -> Any:
        layer = f"stored-{name}-{result.name}"
        keys = [(layer, k, *(0 for _ in row)) for k in range(len(cuts))]
        tasks = {key: (read, *cut) for key, cut in zip(keys, cuts, strict=True)}
        return da.Array(tasks, layer, (rows, *((size,) for size in row)), dtype=dtype)

    values = {}
    for name in [f.name for f in fields(Scores)][:9]:
        table = name
        if table not in tables:  # categories: the nearest one is the witness
            table = {"nearest": "witness", "witness_by_group": "nearest_by_group"}[name]
        shape, dtype = tables[table]
        values[name] = array(name, partial(result.read, table), shape[1:], dtype)
    split = array("split", partial(_stored_split, store.address), (), np.int16)
    return Scores(
        **values,
        split=split,
        groups=result.groups,
        label_norm=float(result.facts["label_norm"]),
        categorical=categorical,
        store=store,
        result=result,
        spec=spec,
    )


def _stored_split(address: SourceAddress, lo: int, hi: int) -> NDArray[np.int16]:
    return address.open().read("split", lo, hi)


def _write_result(writer: ResultWriter, start: int, rows: Mapping[str, Any]) -> dict[str, int]:
    return writer.write(start, rows)


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
        warnings.warn(
            f"{count} samples have a differently labelled twin at distance 0, so their Q is "
            f"infinite and R is 0 (rows {pairs}{', …' if count > 5 else ''}); "
            "scores.contradictions() lists them",
            ContradictionWarning,
            stacklevel=3,
        )
    return count
