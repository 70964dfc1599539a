"""What the searches for suspicious labels tell besides: findings of several kinds, the worst first.

The nearest samples of the same and of another label are known of every sample. So are equal and
nearly equal ones, samples that are far from all, classes that lie in each other, and samples that
are the witness of many. Only what lies in another group takes one more search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute, persist
from numpy.typing import ArrayLike, NDArray

from . import display
from .declared_types import checked_arguments
from .errors import Hint
from .export import with_ids
from .extras import check_libraries
from .ids import held_ids
from .label_fit import LabelQuality, label_quality
from .labels import label_names
from .memory import check_memory
from .metrics import Metric
from .neighbours import compute_neighbours, nearest_neighbours
from .records import as_records, in_order, sample, value_counts
from .runs import RunOptions
from .whole_numbers import check_whole
from .witnesses import at_witness

if TYPE_CHECKING:
    import pandas as pd

NEAR = 0.1  # of the median distance to the nearest sample: nearer ones are nearly equal
PLANE = 4  # columns; in fewer, as many samples would be that near by chance as in so many: 1e-4
FENCE = 3.0  # interquartile ranges of the logarithm of distances, above the upper quartile
OFTEN = 20  # times as often a witness as samples are on average
SHARED_BYTES = 48  # of a sample, while those of other groups are searched
DRAWN = 1_000_000  # samples of which medians and quartiles are taken
_INSTEAD = Hint("leave across=True out, or search a store of fewer samples",
                "leave --across out")  # fmt: skip
KINDS = {
    "contradiction": "equal, or nearly, but differently labelled: one label is wrong, or the "
    "features do not tell them apart",
    "duplicate": "equal, or nearly, and of the same label: count them once, and in one group only",
    "shared": "equal, or nearly, to a sample of another group: a test with it is no test",
    "isolated": "far from all others: an error of measurement, or something rare",
    "witness": "the nearest of another label to many samples: suspicious itself, or a hub",
}


@dataclass(frozen=True)
class DataIssues:
    """Findings beside suspicious labels.

    Attributes
    ----------
    counts : dict
        Kind → how many samples, of `KINDS`. "shared" is only there where it was asked for.
    table : DataFrame
        The worst samples of every kind: ``kind``, ``row``, ``split``, ``label``, ``other`` and
        ``other_label`` (the sample that it is near to), ``distance`` to it, and ``witness_of``.
        With ids as `find_label_issues` has them.
    overlaps : DataFrame
        Pairs of classes, the ones that overlap most first: ``label``, ``other_label``, how many
        ``rows`` of the first have their nearest sample in the other, and the ``share`` of it.
    rows : int
        Number of samples.
    """

    counts: dict[str, int]
    table: pd.DataFrame
    overlaps: pd.DataFrame
    rows: int

    @staticmethod
    def kind(name: str) -> str:
        """Return a kind that was asked for in the plural."""
        return name if name in KINDS else {"witnesses": "witness"}.get(name, name.removesuffix("s"))

    def of_kind(self, name: str) -> pd.DataFrame:
        """Return the part of the table that is of one kind."""
        return self.table[self.table["kind"] == self.kind(name)]

    def lines(self) -> Iterator[tuple[str, int, str]]:
        """Yield every kind with its number of samples and what it means."""
        for kind, count in self.counts.items():
            yield kind, count, KINDS[kind]

    def __repr__(self) -> str:
        found = ", ".join(f"{kind}: {count:,}" for kind, count in self.counts.items())
        return f"<DataIssues of {self.rows:,} samples; {found}>"

    def _repr_html_(self) -> str:
        lines = [(kind, f"{count:,}", means) for kind, count, means in self.lines()]
        pairs = [
            (str(a), str(b), f"{rows:,}", f"{share:.1%}")
            for a, b, rows, share in self.overlaps.head(5).itertuples(index=False)
        ]
        parts = [display.table(("kind", "samples", "what it means"), lines, text=(0, 2))]
        if pairs:
            head = ("class", "nearest to", "samples", "of the class")
            parts += [display.caption("Classes that overlap most"),
                      display.table(head, pairs, text=(0, 1))]  # fmt: skip
        return display.card("What else was found", f"{self.rows:,} samples", *parts)


@checked_arguments()
def find_data_issues(
    data: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    top: int = 20,
    across: bool = False,
    options: RunOptions | None = None,
) -> DataIssues:
    """Find duplicates, contradictions, isolated samples, hubs and overlapping classes.

    All of it comes from the two searches of `find_label_issues`, which a store keeps. Nearly equal
    are samples at most a tenth as far as nearest samples are in the median; with less than four
    columns, where so near ones are ordinary, 10^(-4 / columns) of it.

    Parameters
    ----------
    data : Scores, LabelQuality, Store, str or array_like
        What `find_label_issues` takes (with `y` and `split`).
    y : array_like, shape (n,), or str, optional
        Labels, or the name of their column; not with scores or a store.
    split : array_like, shape (n,), or str, optional
        Reference group of every row, or the name of its column; not with scores or a store.
    metric : str, Metric or callable
        As for `sample_robustness`; scores have their own.
    scale : float
        Features are multiplied by it; only with arrays.
    top : int
        Samples of every kind in the table, at most; and pairs of classes.
    across : bool
        Whether to search for samples of one group in the largest one (the training set), too.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    DataIssues

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    check_libraries("pandas")
    quality = data
    if not isinstance(data, LabelQuality):
        quality = label_quality(data, y, split, metric=metric, scale=scale, options=options)
    check_whole("top", top, of="samples")
    quality.warm_up()
    columns = _columns(quality)
    if not quality.stored:  # searched only once
        columns = dict(zip(columns, persist(*columns.values()), strict=True))
    quartiles = _quartiles(columns, len(quality.scores.groups))
    near = _near(quality) * np.nan_to_num(quartiles[:, 1])
    kinds = _kinds(columns, quartiles, near)
    found = as_records({**columns, **{f"is {kind}": part for kind, part in kinds.items()}})
    worst, counts = compute(_worst(found, int(top)), _counts(found))
    pairs, every = compute(_overlapping(quality, columns), value_counts(quality.labels))
    tables = [_frame(quality, k, worst[worst["kind"] == code]) for code, k in enumerate(_ORDER)]
    counts = dict(zip(_ORDER, counts.tolist(), strict=True))
    if across and len(quality.scores.groups) > 1:
        shared = _shared(quality, columns["split"], near, options or RunOptions())
        counts["shared"] = len(shared)
        tables.append(_frame(quality, "shared", shared[: int(top)]))
    table = with_ids(_joined(tables), held_ids(quality.scores.ids))
    return DataIssues(counts, table, _overlaps(quality, pairs, every, int(top)), quality.rows)


_ORDER = {"contradiction": "reach", "duplicate": "same_distance", "isolated": "closeness",
          "witness": "seldom"}  # fmt: skip


def _worst(records: da.Array, count: int) -> da.Array:
    """Return the first records of every kind, lazy, with its place in _ORDER as ``kind``."""
    coded = np.dtype([*records.dtype.descr, ("kind", np.int8)])
    first, again = partial(_of_kinds, count=count, coded=coded), partial(_of_codes, count=count)
    return da.reduction(records, first, again, combine=again, axis=0, keepdims=True, dtype=coded,
                        meta=np.empty(0, coded))  # fmt: skip


def _of_kinds(
    records: NDArray[np.void], axis: Any, keepdims: bool, count: int, coded: np.dtype[Any]
) -> NDArray[np.void]:
    parts = []
    for code, (kind, by) in enumerate(_ORDER.items()):
        own = in_order(records[records[f"is {kind}"]], by)[:count]
        made = np.empty(len(own), coded)
        made[list(records.dtype.names or ())] = own
        made["kind"] = code
        parts.append(made)
    return np.concatenate(parts)


def _of_codes(records: NDArray[np.void], axis: Any, keepdims: bool, count: int) -> NDArray[np.void]:
    own = (records[records["kind"] == code] for code in range(len(_ORDER)))
    return np.concatenate(
        [in_order(part, by)[:count] for part, by in zip(own, _ORDER.values(), strict=True)]
    )


def _counts(records: da.Array) -> da.Array:
    """Return how many records are of every kind, in the order of _ORDER; lazy."""
    parts = da.map_blocks(
        lambda block: np.array([[block[f"is {kind}"].sum() for kind in _ORDER]], np.int64),
        records, new_axis=1, chunks=((1,) * len(records.chunks[0]), (len(_ORDER),)),
        dtype=np.int64, meta=np.empty((0, 0), np.int64),
    )  # fmt: skip
    return parts.sum(axis=0)


def _columns(quality: LabelQuality) -> dict[str, da.Array]:
    """Return what is known of every sample, in the chunks of one of the searches."""
    chunks = quality.same_scores.reach.chunks
    named = {
        "split": quality.scores.split, "reach": quality.scores.reach,
        "witness": quality.scores.nearest, "same": quality.same,
        "same_distance": quality.same_distance, "witness_of": quality.witness_of,
    }  # fmt: skip
    columns = {name: da.asarray(values).rechunk(chunks) for name, values in named.items()}
    nearest = da.minimum(columns["reach"], columns["same_distance"])
    return {**columns, "closeness": -nearest, "seldom": -columns["witness_of"]}


def _quartiles(columns: Mapping[str, da.Array], groups: int) -> NDArray[np.float64]:
    """Return the quartiles of the distance to the nearest sample of every group, (groups, 3)."""
    drawn = sample(as_records({name: columns[name] for name in ("split", "closeness")}), DRAWN)
    records = drawn.compute()
    made = np.full((groups, 3), np.nan)
    for group in range(groups):
        own = -records["closeness"][records["split"] == group]
        own = own[np.isfinite(own)]
        if len(own):
            made[group] = np.quantile(own, (0.25, 0.5, 0.75))
    return made


def _near(quality: LabelQuality) -> float:
    """Return what part of the median distance to the nearest sample is nearly equal.

    In d columns about log(2) f^d of ordinary samples are nearer than the part f of that median.
    """
    assert quality.scores.spec is not None
    return float(NEAR ** max(1.0, PLANE / quality.scores.spec.columns))


def _kinds(
    columns: Mapping[str, da.Array], quartiles: NDArray[np.float64], near: NDArray[np.float64]
) -> dict[str, da.Array]:
    """Return which samples are of which kind, (n,) bool each; near: distance in every group."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, _, high = np.log(quartiles).T
        fence = np.exp(high + FENCE * (high - low))
    fence = np.where(np.isfinite(fence), fence, np.inf)
    split = columns["split"]
    limit = da.map_blocks(_at_group, split, values=near, dtype=np.float64)
    farthest = da.map_blocks(_at_group, split, values=fence, dtype=np.float64)
    alone = -columns["closeness"]
    return {
        "contradiction": columns["reach"] <= limit,
        "duplicate": columns["same_distance"] <= limit,
        "isolated": (alone > farthest) & da.isfinite(alone),
        "witness": columns["witness_of"] >= OFTEN,
    }


def _at_group(split: NDArray[np.int16], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[split]


def _overlapping(quality: LabelQuality, columns: Mapping[str, da.Array]) -> da.Array:
    """Return how many samples of which label have their nearest sample in which other, lazy."""
    labels = quality.labels
    other = at_witness(labels.astype(np.float64), columns["witness"]).persist()
    inside = columns["reach"] < columns["same_distance"]
    found = as_records({"inside": inside, "label": labels, "other": other}, labels.chunks)
    pair = np.dtype([("label", labels.dtype), ("other", labels.dtype)])
    unknown = ((np.nan,) * len(labels.chunks[0]),)
    pairs = da.map_blocks(_paired, found, pair=pair, dtype=pair, meta=np.empty(0, pair),
                          chunks=unknown)  # fmt: skip
    return value_counts(pairs)


def _paired(found: NDArray[np.void], pair: np.dtype[Any]) -> NDArray[np.void]:
    found = found[found["inside"]]
    made = np.empty(len(found), pair)
    made["label"] = found["label"]
    made["other"] = np.where(np.isnan(found["other"]), found["label"], found["other"])
    return made


def _overlaps(
    quality: LabelQuality, pairs: NDArray[np.void], every: NDArray[np.void], top: int
) -> pd.DataFrame:
    """Return the pairs of classes of which the first lies most in the second."""
    import pandas as pd

    label, other = pairs["value"]["label"], pairs["value"]["other"]
    share = pairs["rows"] / every["rows"][np.searchsorted(every["value"], label)]
    first = np.lexsort((other, label, -share))[:top]
    names = (label_names(part[first], quality.classes) for part in (label, other))
    named = dict(zip(("label", "other_label"), names, strict=True))
    return pd.DataFrame({**named, "rows": pairs["rows"][first], "share": share[first]})


def _shared(
    quality: LabelQuality, split: da.Array, near: NDArray[np.float64], options: RunOptions
) -> NDArray[np.void]:
    """Return the samples that are nearly in the largest group, and lie in another; the worst first.

    One more search: of every other group in it. Only what is near is kept.
    """
    scores, spec = quality.scores, quality.scores.spec
    assert spec is not None
    check_memory("a list of the rows of groups", quality.rows, SHARED_BYTES, _INSTEAD)
    sizes = da.bincount(split, minlength=len(scores.groups)).compute()
    main = int(sizes.argmax())
    inside, outside = (np.flatnonzero(part.compute()) for part in (split == main, split != main))
    data = scores.store if scores.store is not None else scores.arrays.X  # type: ignore[union-attr]
    scale: dict[str, Any] = {} if scores.store is not None else {"scale": spec.scale}
    lists = nearest_neighbours(data, 1, queries=outside, references=inside, metric=spec.metric,
                               options=options, **scale)  # fmt: skip
    done = compute_neighbours({"": lists})[""]
    found = np.flatnonzero(done.distance[:, 0] <= near[main])
    kind = np.dtype([("row", np.int64), ("split", np.int16), ("other", np.int64),
                     ("distance", np.float64), ("witness_of", np.int64)])  # fmt: skip
    made = np.zeros(len(found), kind)
    made["row"], made["other"] = outside[found], done.index[found, 0]
    made["distance"] = done.distance[found, 0]
    made["split"] = split[made["row"]].compute()
    made["witness_of"] = da.asarray(quality.witness_of)[made["row"]].compute()
    return made[np.lexsort((made["row"], made["distance"]))]


def _frame(quality: LabelQuality, kind: str, records: NDArray[np.void]) -> pd.DataFrame:
    """Return records of one kind as a table."""
    import pandas as pd

    if kind == "shared":
        other, distance = records["other"], records["distance"]
    else:
        closer = records["same_distance"] < records["reach"]
        same = {"contradiction": np.zeros_like(closer), "duplicate": np.ones_like(closer)}
        by_same = same.get(kind, closer) if kind != "witness" else np.zeros_like(closer)
        other = np.where(by_same, records["same"], records["witness"])
        distance = np.where(by_same, records["same_distance"], records["reach"])
    there = other >= 0
    beside = np.full(len(records), None, dtype=object)
    beside[there] = label_names(quality.labels_at(other[there]), quality.classes)
    return pd.DataFrame(
        {
            "kind": kind,
            "row": records["row"],
            "split": np.array(quality.scores.groups, dtype=object)[records["split"]],
            "label": label_names(quality.labels_at(records["row"]), quality.classes),
            "other": pd.Series(other, dtype="Int64").mask(~there),
            "other_label": beside,
            "distance": np.where(there, distance, np.nan),
            "witness_of": records["witness_of"],
        }
    )


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    held = [table for table in tables if len(table)]
    return pd.concat(held, ignore_index=True) if held else tables[0]
