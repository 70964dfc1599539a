"""The k nearest rows of every row, or of some rows among others: exact, lazy, in chunks.

Every query keeps a list of its k nearest in every part of the references (`row_sets.cut_sets`),
so one pass over the pairs serves any number of overlapping reference sets. All rows among
themselves are taken pair by pair, each for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.typing import NDArray

from .declared_types import checked_arguments
from .display import counted
from .engine.lazy import LazyArrays
from .engine.plan import Plan
from .engine.sources import Source, open_source
from .errors import Hint, InvalidOptionError
from .kernels import NOBODY, KNearest, NearestState
from .labels import LabelMap
from .memory import check_memory
from .metrics import Metric
from .references import row_set
from .row_sets import AllRows, ListedRows, RowSet, cut_sets, rows_digest, rows_within
from .runs import PairData, RunOptions, data_spec, open_data
from .searches import Search, forget, one_sided_search, searching, symmetric_search
from .show.shown_runs import run_shown
from .store import ResultTables, SourceAddress, Store, covering, made_once
from .stored_rows import result_tables, result_writes
from .whole_numbers import check_whole

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

RULES = ("any", "same", "different")
LIST_BYTES = 32  # of a neighbour: distance and row number, in blocks and joined
GRAPH_BYTES = 56  # of a neighbour in a sparse matrix too, at most while that is made
_INSTEAD = Hint(
    "take blocks of the Dask arrays, such as lists.distance[:65_536], ask for fewer neighbours, or "
    "write() them into the store",
    "ask for fewer with --k, or leave --out out: the lists are in the store",
)


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of some queries in one reference set, lazy until `compute` is called.

    Attributes
    ----------
    distance : array (q, k) float64
        Ascending; infinite where there are fewer than k rows.
    index : array (q, k) int64
        Row numbers, the lower one first at equal distances; -1 where there is none.
    queries : array (q,) int64, optional
        Row numbers of the queries; None for all rows in order. Lazy for a group of a store.
    rows : int
        Rows of the data set.
    search : Search, optional
        The search that is to be done; None for lists read from a store.
    store : Store, optional
    parameters : mapping
        What the lists depend on beside the data.
    """

    distance: Any
    index: Any
    queries: Any
    rows: int
    search: Search | None = field(default=None, repr=False)
    store: Store | None = field(default=None, repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def plan(self) -> Plan | None:
        """How the search runs; None for lists that are there."""
        return None if self.search is None else self.search.plan

    @property
    def run(self) -> str | None:
        """What events of the search's tiles are named by."""
        return None if self.search is None else self.search.graph.token

    def compute(self, **kwargs: Any) -> Neighbours:
        """Search; the same with NumPy arrays. In a store, an interrupted search goes on.

        Raises
        ------
        MemoryPlanError
            Where the lists do not fit into this process.
        """
        return compute_neighbours({"": self}, **kwargs)[""]

    def write(
        self, facts: Callable[[], Mapping[str, Any]] | None = None, *, wait: bool = True
    ) -> Neighbours:
        """Search and write the lists into the store; return them as read from there.

        Where another process searches the same, it is waited for; see `Scores.write`.

        Parameters
        ----------
        facts : callable, optional
            Called once all is computed; what it returns is kept with the lists.
        wait : bool
            Whether to wait for another process.

        Raises
        ------
        InvalidOptionError
            Where the data is in no store, or the queries are not all of its rows.
        BusyStoreError
            Where another process searches the same, and `wait` is false.
        """
        if self.store is None or self.queries is not None:
            raise InvalidOptionError(
                "only the neighbours of all rows of a store can be written; "
                "use compute() and keep the arrays"
            )
        if self.search is None:
            return self
        with made_once(self.store, self.parameters, wait=wait):
            if made := covering(self.store, self.parameters):  # in the meantime
                return _stored(self.store, made[0], self.parameters)
            return self._write(self.store, self.search, facts)

    def _write(
        self, store: Store, search: Search, facts: Callable[[], Mapping[str, Any]] | None
    ) -> Neighbours:
        search.spec.warm_up(store.rows)
        started = time.perf_counter()  # compiling is no part of what a run takes
        tables = {"distance": self.distance, "index": self.index}
        chunk = _chunk_rows(self.rows, self.index.shape[1])
        writer, written = result_writes(store, self.parameters, tables, chunk, self.run)
        with run_shown(search.plan, self.run, f"Neighbours in {store.spec.name}"):
            if search.waves is not None:
                search.waves.run()
            (checksums,) = compute(written)
        seconds = {"seconds": time.perf_counter() - started}
        result = writer.commit(checksums, {**seconds, **(facts() if facts else {})})
        forget(search)
        return _stored(store, result, self.parameters)

    def graph(self, mode: str = "distance") -> csr_matrix:
        """Return the neighbour graph as a sparse matrix (q, n); what is lazy is computed.

        Parameters
        ----------
        mode : {"distance", "connectivity"}
            Whether entries are distances or ones. Rows are stored nearest first, as
            scikit-learn's `kneighbors_graph` has them.

        Raises
        ------
        InvalidOptionError
            For another mode.
        MemoryPlanError
            Where the graph does not fit into this process.
        """
        from scipy.sparse import csr_matrix

        if mode not in ("distance", "connectivity"):
            raise InvalidOptionError(f"mode must be distance or connectivity, not {mode!r}")
        size, k = self.index.shape
        check_memory("a graph of neighbours", size, graph_memory(1, k), _INSTEAD)
        done = self.compute()
        there = done.index >= 0
        ends = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
        values = done.distance[there] if mode == "distance" else np.ones(int(ends[-1]))
        return csr_matrix((values, done.index[there], ends), shape=(len(done.index), self.rows))


@checked_arguments()
def nearest_neighbours(
    data: Any,
    k: int = 15,
    *,
    y: Any = None,
    queries: Any = None,
    references: Any = None,
    labels: str = "any",
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    options: RunOptions | None = None,
) -> Any:
    """Search the k nearest rows of every row, or of some rows among others; nothing runs yet.

    Distances are float64 and exact, whatever the bounds; at equal distances the lower row number
    comes first. Where queries and references are the same rows, a row is never its own neighbour;
    else a query that is a reference too finds itself, as with scikit-learn's `kneighbors(X)`.

    Parameters
    ----------
    data : Store, str or array_like of shape (n, d)
        What `sample_robustness` takes.
    k : int
        At most the rows that there are to be found.
    y : array_like (n,), optional
        Labels of arrays; only needed for the rules "same" and "different".
    queries : str, Subset or array_like (q,) of int, optional
        A group, a subset or row numbers, whose order the lists keep; all rows without it.
    references : str, Subset, array_like of int, or mapping of names to such, optional
        Where to search; all rows without it. With a mapping, one pass searches all of its sets.
    labels : {"any", "same", "different"}
        Labels of the rows that are found.
    metric : str, Metric or callable
        As for `sample_robustness`.
    scale : float
        Features are multiplied by it; only with arrays.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    Neighbours, or dict of str to Neighbours
        Lazy lists, (q, k) float64 and int64; a dict where references are a mapping. Lists of all
        rows that the store holds are read.

    Raises
    ------
    InvalidOptionError
        For row numbers that do not exist, a k larger than a reference set, or an unknown rule.
    InvalidDataError, MemoryPlanError, StoreError
    """
    if labels not in RULES:
        raise InvalidOptionError(f"labels must be one of {', '.join(RULES)}, not {labels!r}")
    k = check_whole("k", k, of="neighbours")
    opened = open_data(data, y, None, scale, labelled=labels != "any")
    if isinstance(references, Mapping) and not references:
        raise InvalidOptionError("there is no reference set to search in")
    asked = _row_set(opened, queries, "queries")
    named = references if isinstance(references, Mapping) else {"references": references}
    sets = {name: _row_set(opened, rows, name) for name, rows in named.items()}
    spec = data_spec(opened, metric, LabelMap("categorical"), labels)
    spec = replace(spec, require_labels=(), reduction=KNearest(k))
    parameters = {name: _parameters(opened, spec, asked, rows) for name, rows in sets.items()}
    made = _all_stored(opened, parameters) if isinstance(asked, AllRows) else {}
    if len(made) < len(sets):
        parts, search = _set_up(opened, spec, asked, sets, options or RunOptions())
        made = {
            name: replace(
                _lists(search, asked, members, opened.rows),
                store=opened.store,
                parameters=parameters[name],
            )
            for name, members in parts.items()
        }
    return made if isinstance(references, Mapping) else made["references"]


def graph_memory(rows: int, k: int) -> int:
    """Return how many bytes lists of so many rows, and a sparse matrix of them, take at most."""
    return rows * k * GRAPH_BYTES


def group_neighbours(
    data: PairData, metric: Any, k: int, options: RunOptions | None = None
) -> Neighbours:
    """Search the k nearest rows of every row in its own group; nothing runs yet.

    Lists are shorter where a group has no more rows. Those that the store holds are read.
    """
    spec = data_spec(data, metric, LabelMap("categorical"), "any")
    spec = replace(spec, require_labels=(), reduction=KNearest(k))
    parameters = _parameters(data, spec, AllRows(), AllRows())
    if len(spec.groups) > 1:
        parameters["rows"] = "own group"
    stored = _all_stored(data, {"": parameters})
    if stored:
        return stored[""]
    search = symmetric_search(data, spec, None, options or RunOptions())
    arrays, source = LazyArrays(search.graph), search.graph.source

    def array(which: str, dtype: Any) -> da.Array:
        def task(state: Any, block: tuple[int, int]) -> tuple[Any, ...]:
            return (take_own_lists, state, source, block, which)

        most = _chunk_rows(data.rows, k)
        return arrays.by_block(f"{which}-in-own-group", task, search.rows, (k,), dtype, most)

    found = array("distance", np.float64), array("index", np.int64)
    return Neighbours(*found, None, data.rows, search, data.store, parameters)


def compute_neighbours(lists: Mapping[str, Neighbours], **kwargs: Any) -> dict[str, Neighbours]:
    """Compute several reference sets' lists of one search in one go.

    Raises
    ------
    MemoryPlanError
        Where they do not fit into this process.
    """
    waiting = {name: one for name, one in lists.items() if isinstance(one.index, da.Array)}
    for one in waiting.values():
        rows, k = one.index.shape
        check_memory("NumPy lists of neighbours", rows, LIST_BYTES * k * len(waiting), _INSTEAD)
    with searching((one.search for one in waiting.values()), **kwargs):
        wanted = ((one.distance, one.index, one.queries) for one in waiting.values())
        arrays = compute(*wanted, **kwargs)
    done = dict(lists)
    for (name, one), (distance, index, queries) in zip(waiting.items(), arrays, strict=True):
        done[name] = replace(one, distance=distance, index=index, queries=queries, search=None)
    return done


def _set_up(
    data: PairData,
    spec: Any,
    asked: RowSet,
    sets: Mapping[str, RowSet],
    options: RunOptions,
) -> tuple[dict[str, list[int]], Search]:
    """Cut the references into parts and set the search up, symmetric where both are the same."""
    cut, k = cut_sets(data.rows, tuple(sets.values()), asked), spec.reduction.k
    symmetric = len(sets) == 1 and cut.alike
    for name, size in zip(sets, cut.sizes, strict=True):
        most = size - symmetric
        if not 1 <= k <= most:
            some = f"k may be {'1 to ' * (most > 1)}{most:,}"
            raise InvalidOptionError(
                f"cannot find {k} neighbours in {name}, which has {counted(size, 'row')}; "
                + (some if most else "a row is no neighbour of its own")
            )
    references = cut.references
    parts = dict(zip(sets, references.members, strict=True))
    spec = replace(spec, groups=tuple(map(str, range(len(references.names)))))
    if symmetric:
        return parts, symmetric_search(data, spec, references, options)
    return parts, one_sided_search(data, spec, cut.queries, references, options)


def _row_set(data: PairData, rows: Any, name: str) -> RowSet:
    return AllRows() if rows is None else row_set(data, rows, name)


def _parameters(data: PairData, spec: Any, asked: RowSet, references: RowSet) -> dict[str, Any]:
    """What lists depend on, as plain values; only those of all rows are looked up by them."""
    parameters = {k: v for k, v in spec.parameters().items() if k != "bound"}
    rows = (
        rows_digest(data.rows, (asked, references))
        if isinstance(asked, AllRows)
        else f"{asked.token} {references.token}"
    )
    return {**parameters, "labels": spec.rule, "k": spec.reduction.k, "rows": rows}


def _all_stored(data: PairData, parameters: Mapping[str, Any]) -> dict[str, Neighbours]:
    """The lists that a store holds, by reference set."""
    store, made = data.store, {}
    for name, wanted in parameters.items() if store is not None else ():
        assert store is not None
        if known := covering(store, wanted):
            made[name] = _stored(store, known[-1], wanted)
    return made


def _lists(search: Search, asked: RowSet, parts: list[int], rows: int) -> Neighbours:
    """Lazy lists of one reference set."""
    arrays, k = LazyArrays(search.graph), search.spec.reduction.k  # type: ignore[attr-defined]
    name = "-".join(map(str, parts))

    def array(which: str, dtype: Any) -> da.Array:
        def task(state: Any, block: tuple[int, int]) -> tuple[Any, ...]:
            return (take_lists, state, list(parts), which)

        most = _chunk_rows(rows, k) if isinstance(asked, AllRows) else None
        made = arrays.by_block(f"{which}-in-{name}", task, search.rows, (k,), dtype, most)
        if not isinstance(asked, ListedRows) or asked.rows is asked.given:
            return made
        return made[np.searchsorted(asked.rows, asked.given)]

    queries = _queries(search, asked, arrays)
    found = array("distance", np.float64), array("index", np.int64)
    return Neighbours(*found, queries, rows, search)


def _queries(search: Search, asked: RowSet, arrays: LazyArrays) -> Any:
    """Row numbers of the queries, as they were given; None for all rows."""
    if isinstance(asked, AllRows):
        return None
    if isinstance(asked, ListedRows):
        return asked.given

    def task(_: Any, block: tuple[int, int]) -> tuple[Any, ...]:
        return (rows_within, asked, *block)

    return arrays.by_block("queries", task, search.rows, (), np.int64)


def take_lists(state: NearestState, parts: list[int], which: str) -> NDArray[Any]:
    """Distances or row numbers of the nearest in some parts together."""
    distance, index = state.union(parts)
    return distance if which == "distance" else np.where(index == NOBODY, -1, index)


def take_own_lists(
    state: NearestState, source: Source | SourceAddress, rows: tuple[int, int], which: str
) -> NDArray[Any]:
    """Distances or row numbers of the nearest in the own groups of a block's rows."""
    split = open_source(source).read("split", *rows)
    found: NDArray[Any] = state._asdict()[which][np.arange(len(split)), split]
    return found if which == "distance" else np.where(found == NOBODY, -1, found)


def _stored(store: Store, result: ResultTables, parameters: Mapping[str, Any]) -> Neighbours:
    """Lists as they are kept in a store."""
    found = result_tables(result, _chunk_rows(result.rows, parameters["k"]))
    return Neighbours(found["distance"], found["index"], None, result.rows, None, store, parameters)


def _chunk_rows(rows: int, k: int) -> int:
    """Return rows of a chunk of lists."""
    return max(1, min(rows, 2**19 // k))
