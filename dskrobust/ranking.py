"""Numbers and their row numbers in order, sorted in chunks: no task holds all of them.

A key is a number and its row; no two keys are equal, so there is one order. *Runs* are chunks of
keys, each in order. A run's keys at even steps are sampled; the order of all samples gives *cuts*,
keys near the ranks at which chunks of the result begin. Pieces of all runs between two cuts are
merged into a *part*. Where parts begin is counted, so a chunk of the result, whose ranks are known
beforehand, is taken from the parts beside it.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import compute, tokenize
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from .clients import shares_process
from .errors import InvalidOptionError

KEY = np.dtype([("value", np.float64), ("row", np.int64)])
RUN_ROWS = 2**20  # at least: 16 MiB of keys, a second's work
RUNS = 128  # at most: every chunk of the result takes a piece of every run
SAMPLES = 8 * RUNS  # of a run: a cut is then an eighth of a chunk from its rank at most
ENDS = "ends-"  # what the keys at the ends of intervals are called in a graph
RUN_BYTES = 64  # of a row: its number, group and place in order, and its key
AT_ONCE = 4  # chunks that one process makes together

Keys = NDArray[np.void]  # of dtype KEY


def chunk_rows(count: int) -> int:
    """Return the rows of a chunk where `count` numbers are sorted."""
    return max(RUN_ROWS, -(-count // RUNS))


def in_chunks(values: Any) -> da.Array:
    """Return numbers, shape (n,), as a Dask array in the chunks of runs."""
    size = chunk_rows(len(values))
    if isinstance(values, da.Array):
        return values.rechunk(size, method="tasks")  # also where it is computed without the client
    return da.from_array(values, chunks=size)


def row_numbers(values: da.Array) -> da.Array:
    """Return the row number of every value, in the same chunks."""
    return da.arange(len(values), chunks=values.chunks, dtype=np.int64)


def sorted_keys(values: Any, times: Any, size: int) -> Any:
    """Return keys in order: by their values, of equal ones by their rows.

    Parameters
    ----------
    values : array (n,)
        Real numbers; a Dask array in the chunks of runs, or a NumPy array.
    times : array (n,) of bool or int, optional
        How often every row counts; once without it.
    size : int
        The number of keys.

    Returns
    -------
    array (size,) of KEY
        A Dask array in chunks of known sizes where `values` is one.

    Raises
    ------
    InvalidOptionError
        When it is computed, where there are more or fewer keys than `size`.
    """
    if not isinstance(values, da.Array):
        return checked_size(sorted_run(values, np.arange(len(values)), times), size)
    inputs = [values, row_numbers(values), *([] if times is None else [times])]
    unknown = (tuple(np.nan for _ in values.chunks[0]),)
    runs = da.map_blocks(sorted_run, *inputs, chunks=unknown, dtype=KEY, meta=np.empty(0, KEY))
    return _merged_runs(runs, size)


def _merged_runs(runs: da.Array, size: int) -> da.Array:
    name = f"ranked-{tokenize(runs.name, size)}"
    keys = list(runs.__dask_keys__())
    step = chunk_rows(size)
    starts = list(range(0, max(size, 1), step))
    chunks = tuple(min(step, size - lo) for lo in starts)
    layer: dict[Any, Any] = {}
    if len(starts) == 1:
        layer[name, 0] = (whole_part, keys, size)
    else:
        _add_parts(layer, name, keys, starts, size)
        for k, (lo, rows) in enumerate(zip(starts, chunks, strict=True)):
            beside = range(max(0, k - 1), min(k + 2, len(starts)))
            parts = [(f"part-{name}", j) for j in beside]
            layer[name, k] = (ranks_of, parts, (f"begins-{name}",), beside[0], (lo, lo + rows))
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[runs])  # type: ignore[list-item]
    return da.Array(graph, name, (chunks,), dtype=KEY, meta=np.empty(0, KEY))


def _add_parts(
    layer: dict[Any, Any], name: str, keys: Sequence[Any], starts: Sequence[int], size: int
) -> None:
    """Add samples, cuts, pieces and parts to a graph's layer."""
    cuts, begins = (f"cuts-{name}",), (f"begins-{name}",)
    samples = [(f"sample-{name}", i) for i in range(len(keys))]
    places = [(f"places-{name}", i) for i in range(len(keys))]
    layer[cuts] = (cut_keys, samples, starts[1:])
    layer[begins] = (begins_of, places, size)
    for i, run in enumerate(keys):
        layer[samples[i]] = (sample_of, run, SAMPLES)
        layer[places[i]] = (places_of, run, cuts)
    for j in range(len(starts)):
        pieces = [(f"piece-{name}", i, j) for i in range(len(keys))]
        for piece, run, place in zip(pieces, keys, places, strict=True):
            layer[piece] = (piece_of, run, place, j)
        layer[f"part-{name}", j] = (merged, pieces)


# -- chunk after chunk ------------------------------------------------------------------------


def blocks_of(values: Any) -> Iterator[NDArray[Any]]:
    """Yield an array in pieces, of which few are in this process at once.

    With a client it is computed on its workers, which keep it meanwhile; else here, and runs lie
    in temporary files.
    """
    if not isinstance(values, da.Array):
        yield from (values[lo : lo + RUN_ROWS] for lo in range(0, len(values), RUN_ROWS))
    elif not shares_process():
        values = values.persist()
        yield from (values.blocks[k].compute() for k in range(values.npartitions))
    else:
        place = dask.config.get("temporary-directory", None)
        if place is not None:  # Dask makes it with its first cluster
            Path(place).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="dskrobust-runs-", dir=place) as folder:
            values = _with_runs_in_files(values, Path(folder))
            for lo in range(0, values.npartitions, AT_ONCE):
                several = range(lo, min(lo + AT_ONCE, values.npartitions))
                yield from compute(*(values.blocks[k] for k in several))


def _with_runs_in_files(values: da.Array, folder: Path) -> da.Array:
    """Return the same with the runs that it is ranked from computed and written down.

    The ends of intervals are computed before, as all rows would wait for them.
    """
    layers, needs = dict(values.dask.layers), dict(values.dask.dependencies)
    known = [name for name in layers if str(name).startswith(("ranked-", ENDS))]
    for name in sorted(known, key=lambda name: len(_ancestors(name, needs))):
        graph, files = HighLevelGraph(layers, needs), {}
        if name.startswith(ENDS):
            layers[name], needs[name] = {name: Delayed(name, graph).compute()}, set()
            continue
        (runs,) = needs[name]
        for key in {key for key in layers[runs] if key[0] == runs}:
            files[key] = str(folder / f"{runs}-{key[1]}.npy")
        written = [(file, Delayed(key, graph, layer=runs)) for key, file in files.items()]
        compute(*(delayed(np.save)(file, run) for file, run in written))
        layers[runs] = {key: (np.load, file, "r") for key, file in files.items()}
        needs[runs] = set()
    graph = HighLevelGraph(layers, needs)
    return da.Array(graph, values.name, values.chunks, dtype=values.dtype)


def _ancestors(name: str, needs: Mapping[str, Set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = needs[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def sorting_memory(count: int, tasks: int) -> int:
    """Return how many bytes sorting `count` numbers holds at most, with so many tasks at once."""
    rows = min(count, chunk_rows(count))
    runs = min(tasks, -(-count // rows)) * rows * RUN_BYTES
    return runs + 2 * KEY.itemsize * count  # runs until they are merged, and parts


# -- what tasks do ----------------------------------------------------------------------------


def sorted_run(values: NDArray[Any], rows: NDArray[np.int64], times: Any = None) -> Keys:
    """Return the keys of some rows, which rise, in order."""
    if times is not None:
        picked = np.repeat(np.arange(len(values)), times)
        values, rows = values[picked], rows[picked]
    order = np.argsort(values, kind="stable")
    keys = np.empty(len(order), KEY)
    keys["value"], keys["row"] = values[order], rows[order]
    return keys


def sample_of(run: Keys, count: int) -> tuple[Keys, NDArray[np.int64]]:
    """Return keys at even steps of a run from its first on, and how many each stands for."""
    places = np.unique(np.linspace(0, len(run), min(count, len(run)), endpoint=False, dtype=int))
    return run[places], np.diff(np.append(places, len(run)))


def cut_keys(samples: Sequence[tuple[Keys, NDArray[np.int64]]], ranks: Sequence[int]) -> Keys:
    """Return sampled keys near the asked ranks among all keys."""
    keys, weights = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    order = np.lexsort((keys["row"], keys["value"]))
    before = np.cumsum(weights[order]) - weights[order]
    near = np.minimum(np.searchsorted(before, ranks), len(keys) - 1)
    return keys[order][near]


def places_of(run: Keys, cuts: Keys) -> NDArray[np.int64]:
    """Return where a run is cut, its two ends included; of one in a file little is read."""
    inside = [bisect_left(run, cut, key=np.void.item) for cut in cuts.tolist()]
    return np.array([0, *inside, len(run)], np.int64)


def begins_of(places: Sequence[NDArray[np.int64]], size: int) -> NDArray[np.int64]:
    """Return the rank at which every part begins, and the number of all keys."""
    begins = np.sum(places, axis=0)
    check_size(int(begins[-1]), size)
    return begins


def piece_of(run: Keys, places: NDArray[np.int64], part: int) -> Keys:
    """Return the keys of a run that lie in a part."""
    return np.array(run[places[part] : places[part + 1]])  # a view would keep the whole run


def merged(pieces: Sequence[Keys]) -> Keys:
    """Return pieces of all runs as one; as rows rise from run to run, equal values keep theirs."""
    keys = np.concatenate(pieces)
    return keys[np.argsort(keys["value"], kind="stable")]


def whole_part(runs: Sequence[Keys], size: int) -> Keys:
    """Return all keys where they are one chunk."""
    return checked_size(runs[0] if len(runs) == 1 else merged(runs), size)


def ranks_of(
    parts: Sequence[Keys], begins: NDArray[np.int64], first: int, ranks: tuple[int, int]
) -> Keys:
    """Return the keys of the given ranks out of the parts from `first` on."""
    lo, hi = (rank - int(begins[first]) for rank in ranks)
    return np.concatenate(parts)[lo:hi]


def checked_size(keys: Keys, size: int) -> Keys:
    """Return keys of which there are `size`."""
    check_size(len(keys), size)
    return keys


def check_size(count: int, size: int) -> None:
    """Refuse a subset whose rows are not as many as it says.

    Raises
    ------
    InvalidOptionError
    """
    if count != size:
        raise InvalidOptionError(
            f"a subset of {size:,} samples has {count:,} rows in the data; give it the right size "
            "and rows that exist"
        )
