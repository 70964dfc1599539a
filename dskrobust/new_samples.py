"""Robustness of new samples in a data set that is there: any x with any label (paper, 3.2 to 3.4).

New samples are the queries of a one-sided search: rows behind those of the data set, whose pairs
with it are proven like any others, and which make no pairs among themselves. So their scores are
those of a data set that held them too, to the last bit, in blocks and on workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import compute
from dask.tokenize import tokenize
from numpy.typing import NDArray

from .clients import shares_process
from .cluster.workers import found_resources
from .collection import ArraysMixin
from .datasets.labelled import LabelledArrays
from .datasets.new_rows import as_stored
from .declared_types import checked_arguments
from .definitions import norms_of, robustness_of
from .display import card, table, warning
from .engine.graph import Choices, Graph, Key, PairGraph, build, start_graph
from .engine.lazy import LazyArrays
from .engine.plan import Blocks, Plan
from .engine.scratch import scratch_graph, scratch_spec
from .engine.search_plan import make_search_plan
from .engine.sources import Source, StackedSource, array_source, open_source, read_block
from .engine.spec import Context, PairSpec, TileSpec, merged_context
from .errors import Hint, InvalidDataError, InvalidOptionError
from .ids import ids_of
from .kernels import NOBODY, QuotientState, label_norms
from .labels import LabelMap
from .memory import check_memory
from .metrics import Metric
from .paths import absolute
from .references import row_set
from .row_sets import Parts, RowSet, cut_sets
from .runs import PairData, RunOptions, check_shared, data_spec, make_workload, open_data
from .searches import bounded
from .store import SourceAddress, Store, Summary, summarise

if TYPE_CHECKING:
    import pandas as pd

SMALL = 4 * 2**20  # bytes of new rows that travel in the graph; more are written down first
ROUNDING = 1e-14  # relative, of ‖y‖
ROW_BYTES = 120  # of a new sample in a table, while it is made
_INSTEAD = Hint("take what you need of its Dask arrays", "score them with `dskrobust score`")
TABLES = {
    "robustness": np.float64, "lipschitz": np.float64, "reach": np.float64, "witness": np.int64,
}  # fmt: skip


@dataclass(frozen=True)
class SampleScores(ArraysMixin):
    """Robustness of new samples in a set of rows; lazy until `compute` is called.

    Until then they are a Dask collection: `dask.compute`, `dask.persist` and `client.compute`
    take them, and every array has a chunk a block of new samples.

    Attributes
    ----------
    robustness : array (k,) float64
        R of every new sample in the reference rows (paper, 3.4).
    lipschitz, reach : array (k,) float64
        Q and reach; 0 and infinite where all reference rows have the sample's label.
    witness : array (k,) int64
        The row of the data set that attains Q, the lowest one where several do; -1 for none.
    label_norm : float or 0-d array
        ‖y‖∞ of the data set.
    reference : str
        What the reference rows are called.
    store : Store, optional
    plan : Plan, optional
    """

    robustness: Any
    lipschitz: Any
    reach: Any
    witness: Any
    label_norm: Any
    reference: str
    store: Store | None = field(default=None, repr=False, compare=False)
    plan: Plan | None = field(default=None, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """How many new samples there are."""
        return int(self.robustness.shape[0])

    def compute(self, **kwargs: Any) -> SampleScores:
        """Return the same with NumPy arrays.

        Raises
        ------
        InvalidDataError
            For a value that is missing or infinite, or a label whose norm exceeds ‖y‖∞ (3.4); row
            and column are named.
        """
        arrays = self.lazy_arrays
        values = compute(*arrays.values(), **kwargs)
        return replace(self, **dict(zip(arrays, values, strict=True)))

    def to_frame(self) -> pd.DataFrame:
        """Return a table, a row a new sample; what is lazy is computed.

        Columns are row, robustness, lipschitz, reach and witness (missing where there is none);
        where the store has ids also witness_id.

        Raises
        ------
        MemoryPlanError
            Where it does not fit into this process.
        """
        import pandas as pd

        check_memory("a table of new samples", self.rows, ROW_BYTES, _INSTEAD)
        done = self.compute()
        columns = {name: getattr(done, name) for name in TABLES}
        found = pd.DataFrame({"row": np.arange(self.rows), **columns})
        found["witness"] = found["witness"].astype("Int64").mask(found["witness"] < 0)
        if self.store is None or not self.store.has_ids:
            return found
        ids = ids_of(self.store.ids, found["witness"].fillna(-1))
        kind = "Int64" if self.store.ids.dtype.kind == "i" else "string"
        return found.assign(witness_id=pd.array(ids, dtype=kind))

    def __repr__(self) -> str:
        state = "lazy" if self.lazy_arrays else "computed"
        return f"<SampleScores of {self.rows:,} new samples in {self.reference}, {state}>"

    def _repr_html_(self) -> str:
        subtitle = f"{self.rows:,} in {self.reference}"
        if self.lazy_arrays:
            return card("New samples", subtitle, "Lazy: compute() scores them.")
        low, middle, high = np.quantile(self.robustness, (0.0, 0.5, 1.0))
        named = (("least R", low), ("median R", middle), ("largest R", high))
        rows = [(name, f"{value:.4f}") for name, value in named]
        zero = int((self.reach == 0).sum())
        more = [warning(f"{zero:,} equal a row of another label, so their R is 0")] if zero else []
        return card("New samples", subtitle, table(("", ""), rows), *more)


@checked_arguments()
def score_samples(
    data: Any,
    X: Any,
    y: Any,
    *,
    reference: Any = None,
    metric: str | Metric | Callable[..., float] = "euclidean",
    labels: str | LabelMap | None = None,
    options: RunOptions | None = None,
) -> SampleScores:
    """Score new samples, with labels, in the rows of a store; nothing runs yet.

    The scores are those that the samples would have in the reference rows if the store held them
    too, in a group of their own: to the last bit, and whatever their chunks and the workers.

    Parameters
    ----------
    data : Store or str
        An opened store, or its address.
    X : array_like, shape (k, d), or a frame
        New samples: a NumPy, Dask or Zarr array with the columns as the store has them; or a
        pandas, Polars, Arrow or Dask frame with the columns that the store's rows came from, in
        their own units, which is prepared as those were (`prepare`).
    y : array_like, shape (k,) or (k, m), or str
        Their labels: classes by their names or codes, real labels in the units of X; or the name
        of a frame's column.
    reference : str, Subset or array_like of int, optional
        A group, a subset or row numbers that the samples are scored in; the group train, or the
        only one, by default.
    metric : str, Metric or callable, optional
    labels : str or LabelMap, optional
        As for `sample_robustness`.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    SampleScores

    Raises
    ------
    InvalidDataError
        For columns that are not those of the store, and a class that it does not have. What values
        and labels only show when they are read is refused by `compute`.
    InvalidOptionError
        For a reference that does not exist, or none where there are several groups.
    MemoryPlanError
        Where not even the smallest pieces fit the workers.
    """
    opened = open_data(data, None)
    assert opened.store is not None
    name = reference if isinstance(reference, str) else "the given rows"
    if reference is None:
        reference = name = default_group(opened.store)
    spec = data_spec(opened, metric, labels)
    new = as_stored(opened.store, X, y)
    return score_outside(opened, new, spec, (name, row_set(opened, reference, name)), options)


def default_group(store: Store) -> str:
    """Return the group that new samples are scored in where nothing is said.

    Raises
    ------
    InvalidOptionError
    """
    if len(store.groups) == 1 or "train" in store.groups:
        return store.groups[0] if len(store.groups) == 1 else "train"
    raise InvalidOptionError(
        f"the groups of {store.url} are {', '.join(store.groups)}: say in which of them",
        Hint("give reference=GROUP", "give --reference GROUP"),
    )


def score_outside(
    data: PairData,
    new: LabelledArrays,
    spec: PairSpec,
    reference: tuple[str, RowSet],
    options: RunOptions | None = None,
    first: int = 0,
) -> SampleScores:
    """Score new samples, which are as the data set has its own rows; nothing runs yet.

    Parameters
    ----------
    data : PairData
    new : LabelledArrays
    spec : PairSpec
        Of the data set.
    reference : (str, RowSet)
        The rows of the data set that they are scored in, and their name.
    options : RunOptions, optional
    first : int
        Number of the first new sample, for messages.
    """
    options, (name, rows) = options or RunOptions(), reference
    dtype = np.result_type(new.X.dtype, data.dtype)
    spec = replace(spec, groups=(name,), require_labels=(), sets=None, dtype=dtype, prefixes=False)
    parts = cut_sets(data.rows, (rows,)).references
    spec = replace(spec, plain=make_workload(spec, (data.rows + new.shape[0],), dtype).plain)
    plan = _plan(data, new.shape[0], spec, parts, options)
    graph = _start(data, (new, first), spec, plan, options)
    tiles = TileSpec(spec, plan.panel_rows, None, plan.panel_bytes, one_sided=True)
    build(graph, tiles, plan, Choices(codes=(_AllQueries(), parts)))
    arrays = LazyArrays(graph)
    sizes = tuple(hi - lo for lo, hi in graph.blocks if lo >= data.rows)

    def array(which: str, dtype: Any) -> da.Array:
        def task(state: Key, block: tuple[int, int]) -> tuple[Any, ...]:
            return (take_scores, state, graph.context, which)

        return arrays.by_block(f"new-{which}", task, sizes, (), dtype)

    found = {which: array(which, dtype) for which, dtype in TABLES.items()}
    norm = arrays.single("label-norm", (_label_norm, graph.context))
    return SampleScores(**found, label_norm=norm, reference=name, store=data.store, plan=plan)


@dataclass(frozen=True)
class _AllQueries:
    """All rows of a block take part, in one part."""

    def task(self, lo: int, hi: int) -> tuple[Any, ...]:
        return np.zeros, hi - lo, np.int16


def _plan(
    data: PairData, count: int, spec: PairSpec, references: Parts, options: RunOptions
) -> Plan:
    """Plan blocks of new samples, which stand behind all rows, against blocks of references."""
    unit = 1 if data.store is None else data.store.unit_rows
    work = make_workload(spec, (data.rows + count,), spec.dtype, unit)

    def cuts(most: int, most_references: int) -> tuple[Blocks, Blocks]:
        step = ceil(count / ceil(count / most))
        blocks = [(data.rows + a, data.rows + min(a + step, count)) for a in range(0, count, step)]
        return tuple(blocks), tuple(references.pieces(most_references)[0])

    return make_search_plan(
        replace(work, leaves=False, stored=data.written),
        options.resources or bounded(found_resources()),
        (count, references.total),
        cuts,
        block_rows=options.block_rows,
        panel_rows=options.panel_rows,
    )


def _start(
    data: PairData,
    rows: tuple[LabelledArrays, int],
    spec: PairSpec,
    plan: Plan,
    options: RunOptions,
) -> PairGraph:
    """Start a graph over the rows of a data set with new ones, and their first number, behind."""
    new, first = rows
    fitted: Any = data.store.address if data.store is not None else array_source(data.arrays)  # type: ignore[arg-type]
    step = max(hi - lo for lo, hi in plan.blocks)
    every = tuple((lo, min(lo + step, data.rows)) for lo in range(0, data.rows, step))
    known = start_graph(fitted, spec, every, salt=(plan.blocks, plan.panel_rows))
    graph, source, depends = known.graph, *_new_source(data, new, spec, options)
    token = tokenize(known.token, source)  # of other new rows tiles are others too
    if not isinstance(source, str):
        graph[f"new-{token}"], source = source, f"new-{token}"
    graph.update(depends.graph)
    unit = 1 if data.store is None else data.store.unit_rows
    shape = data.rows, data.rows + new.shape[0], unit, spec.dtype
    stacked, checked = f"stacked-{token}", []
    graph[stacked] = (StackedSource, known.source, source, *shape)
    for k, (lo, hi) in enumerate(block for block in plan.blocks if block[0] >= data.rows):
        checked.append((f"checked-{token}", k))
        graph[checked[-1]] = (
            check_new, source, known.context, spec, (lo - data.rows, hi - data.rows), first,
        )  # fmt: skip
    context = f"both-{token}"
    graph[context] = (merged_context, known.context, spec, checked)
    return PairGraph(graph, token, plan.blocks, stacked, context, dependencies=depends.collections)


class _Needed(NamedTuple):
    """Tasks that make a source, and the collections that these depend on."""

    graph: Graph
    collections: list[Any]


def _new_source(
    data: PairData, new: LabelledArrays, spec: PairSpec, options: RunOptions
) -> tuple[Any, _Needed]:
    """Return where tiles read new rows: their arrays, or the key of a scratch store of them."""
    small = isinstance(new.X, np.ndarray) and new.X.nbytes <= SMALL
    if not new.lazy and (small or data.store is None or shares_process()):
        return array_source(new), _Needed({}, [])
    folder = None if options.scratch is None else absolute(options.scratch)
    check_shared(folder)
    described = scratch_spec(new.groups, data.scale, spec.labels.kind)
    made, key, collections, _ = scratch_graph(new, described, folder)
    return key, _Needed(made, collections)


# -- what tasks do ----------------------------------------------------------------------------


def check_new(
    source: Source | SourceAddress,
    context: Context,
    spec: PairSpec,
    rows: tuple[int, int],
    first: int,
) -> Summary:
    """Check some new rows and sum them up; first: the number of all new rows' first one.

    Raises
    ------
    InvalidDataError
        For a value that is no finite number, or a label whose norm exceeds ‖y‖∞.
    """
    block, number = read_block(open_source(source), *rows), first + rows[0]
    found = summarise(block, number)
    check_label_norms(spec.labels, spec.labels.encode(block.labels), context.label_norm, number)
    return found


def check_label_norms(
    labels: LabelMap, values: NDArray[np.float64], most: float, first: int = 0
) -> None:
    """Refuse labels (k, m) whose norm exceeds ‖y‖∞ (paper, 3.4); first: number of the first one.

    Raises
    ------
    InvalidDataError
    """
    if labels.is_categorical or not len(values):
        return
    own = labels.own_norm is not None
    norms = label_norms(labels, values) if own else norms_of(values, labels.norm_name)
    row = int(norms.argmax())
    if norms[row] * (1 - ROUNDING) > most:
        raise InvalidDataError(
            f"label row {first + row} has the norm {norms[row]:g}, beyond ‖y‖∞ = {most:g} of the "
            "fitted set; score it with labels=LabelMap(…, bound=…)"
        )


def take_scores(state: QuotientState, context: Context, which: str) -> NDArray[Any]:
    """Return one of the scores of a block of new samples."""
    lipschitz = state.lipschitz[:, 0]
    if which == "robustness":
        return np.asarray(robustness_of(lipschitz, context.label_norm))
    if which == "lipschitz":
        return lipschitz
    if which == "reach":
        return state.reach[:, 0]
    witness = (state.witness if state.quotient.size else state.nearest)[:, 0]
    return np.where(witness == NOBODY, -1, witness)


def _label_norm(context: Context) -> NDArray[np.float64]:
    return np.asarray(context.label_norm)
