"""What a store says of its data besides the arrays, and the summary kept of every block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..declared_types import check_types
from ..display import meant
from ..errors import InvalidDataError, InvalidOptionError
from ..labels import LABEL_KINDS, LABEL_NORMS

EMBEDDING = "embedding"  # the reader of stores whose features a model made
LARGEST_FEATURE = 1e150  # squares of differences must stay finite in float64
LARGEST_EXACT_INTEGER = 2**53


@dataclass(frozen=True)
class StoreSpec:
    """Everything a store knows of its data that is not in an array.

    Attributes
    ----------
    name : str
        What the data set is called in titles and subset names.
    label_kind : {"categorical", "real", "vector"}
        How labels map into a normed space (paper, 3.1 and 4.2).
    groups : tuple of str
        Names of the reference groups; the split array holds positions in this tuple.
    scale : float
        Features are multiplied by this before any distance (1/255 for images in [0, 1]).
    classes : tuple of str, optional
        Names of the integer labels 0, 1, ...; None where labels speak for themselves.
    label_norm : {"l1", "l2", "linf"}
        Norm of the label space for vector labels.
    image_shape : tuple of int, optional
        How a feature row is seen as a picture: (height, width) or (channels, height, width).
    feature_names : tuple of str, optional
    scaling : mapping, optional
        How to restore units: ``{"features": {"min": [...], "max": [...]}, "labels": {...}}``.
    preparation : mapping, optional
        What became of the columns of a table, as `datasets.Preparation` keeps it.
    decisions : tuple of str
        What was done with the columns, a line each.
    provenance : mapping
        Where the data came from, as the reader tells it.
    """

    name: str
    label_kind: str
    groups: tuple[str, ...] = ("all",)
    scale: float = 1.0
    classes: tuple[str, ...] | None = None
    label_norm: str = "l2"
    image_shape: tuple[int, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    scaling: Mapping[str, Any] | None = None
    preparation: Mapping[str, Any] | None = None
    decisions: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label_map(self) -> tuple[str, str]:
        """Kind and norm, as `labels.resolve_labels` takes them."""
        return self.label_kind, self.label_norm

    @property
    def embedding(self) -> str:
        """Which rows and which model the features come from, in words; "" where from none."""
        source = self.provenance
        if source.get("reader") != EMBEDDING:
            return ""
        more = (source.get("layer"), source.get("weights"))
        return ", ".join([f"of {source['source']} by {source['model']}", *filter(None, more)])

    def column_names(self, count: int) -> tuple[str, ...]:
        """Return what so many columns are called: by their numbers where they have no names."""
        return self.feature_names or tuple(f"column {k}" for k in range(count))

    def __post_init__(self) -> None:
        check_types(self)
        if self.label_kind not in LABEL_KINDS:
            raise InvalidOptionError(
                f"label kind {self.label_kind!r} is unknown{meant(self.label_kind, LABEL_KINDS)}; "
                f"choose one of {', '.join(LABEL_KINDS)}"
            )
        if self.label_norm not in LABEL_NORMS:
            raise InvalidOptionError(
                f"label norm {self.label_norm!r} is unknown{meant(self.label_norm, LABEL_NORMS)}; "
                f"choose one of {', '.join(LABEL_NORMS)}"
            )
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise InvalidOptionError(f"scale must be a positive number, not {self.scale!r}")
        if len(set(self.groups)) != len(self.groups) or not self.groups:
            raise InvalidDataError(f"group names must be distinct and not empty: {self.groups}")


class Block(NamedTuple):
    """Consecutive rows: features (b, d), labels (b,) or (b, m), split codes (b,) int16.

    Where rows have ids, also those, shape (b,): text or whole numbers.
    """

    features: NDArray[Any]
    labels: NDArray[Any]
    split: NDArray[np.int16]
    ids: NDArray[Any] | None = None

    @classmethod
    def joined(cls, blocks: Sequence[Block]) -> Block:
        """Return blocks that follow each other as one; ids have all of them, or none."""
        features, labels, split = (np.concatenate([block[k] for block in blocks]) for k in range(3))
        ids = [block.ids for block in blocks if block.ids is not None]
        return cls(features, labels, split, np.concatenate(ids) if ids else None)


PICKED = 65_536  # rows


class LazyRows:
    """An array (n, ...) whose rows are read when they are sliced: from a file, or out of a frame.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        if not isinstance(rows, slice):
            return self._pick(np.asarray(rows))[(slice(None), *rest)]
        lo, hi, step = rows.indices(len(self))
        return self.read(lo, max(lo, hi))[(slice(None, None, step), *rest)]

    def _pick(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return single rows; of every PICKED that hold some, what lies between is read too."""
        order = np.argsort(rows, kind="stable")
        rising, parts = rows[order], [self.read(0, 0)]
        for some in np.split(rising, np.flatnonzero(np.diff(rising // PICKED)) + 1):
            if len(some):
                lo = int(some[0])
                parts.append(self.read(lo, int(some[-1]) + 1)[some - lo])
        picked = np.concatenate(parts)
        out = np.empty_like(picked)
        out[order] = picked
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


class TaskRows(LazyRows):
    """An array (n, ...) whose rows exist only after tasks of a cluster computed them."""

    def task(self, lo: int, hi: int) -> Any:
        """Return rows lo:hi as a delayed value."""
        raise NotImplementedError

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi, computed."""
        return np.asarray(self.task(lo, hi).compute())


@dataclass(frozen=True)
class GroupSummary:
    """Rows of a group and its first label; `varied` once a second label was seen."""

    rows: int
    label: tuple[float, ...]
    varied: bool

    def merge(self, other: GroupSummary) -> GroupSummary:
        varied = self.varied or other.varied or self.label != other.label
        return GroupSummary(self.rows + other.rows, self.label, varied)


@dataclass(frozen=True)
class Summary:
    """What one pass over rows keeps: enough to centre, scale and check them.

    ``column_sum`` (d,) float64 depends on the order of summation in its last bits; it only
    ever serves to centre features before a certified screen, so results do not.
    """

    rows: int
    column_sum: NDArray[np.float64]
    largest_feature: float
    label_bounds: Mapping[str, float]
    groups: Mapping[int, GroupSummary]

    @property
    def center(self) -> NDArray[np.float64]:
        """Column means (d,), float64."""
        return self.column_sum / max(self.rows, 1)

    def merge(self, other: Summary) -> Summary:
        groups = dict(self.groups)
        for code, group in other.groups.items():
            groups[code] = groups[code].merge(group) if code in groups else group
        return Summary(
            self.rows + other.rows,
            self.column_sum + other.column_sum,
            max(self.largest_feature, other.largest_feature),
            {k: max(v, other.label_bounds[k]) for k, v in self.label_bounds.items()},
            groups,
        )


def feature_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which features of `dtype` are kept.

    Raises
    ------
    InvalidDataError
        Where `dtype` is not a real number type.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind in "iuf" and dtype.itemsize <= 8:
        return dtype.newbyteorder("=")
    raise InvalidDataError(
        f"features of dtype {dtype} are not real numbers; convert them to an integer or float dtype"
    )


def lossless(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Return numbers in another dtype; None where a value would change, or is no number."""
    dtype = np.dtype(dtype)
    if values.dtype == dtype:
        return values
    if values.dtype.kind not in "biuf" or dtype.kind not in "biuf":
        return None
    if np.can_cast(values.dtype, dtype, "safe") and values.dtype.kind == dtype.kind:
        return values.astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(dtype)
        back = cast.astype(values.dtype)  # beyond 2**53 integers equal floats that they are not
    nan = values.dtype.kind == "f"
    same = np.array_equal(cast, values, equal_nan=nan) and np.array_equal(back, values, nan)
    return cast if same else None


def summarise(block: Block, first_row: int = 0) -> Summary:
    """Check a block and sum it up.

    Parameters
    ----------
    block : Block
    first_row : int
        Row number of the block's first row, for messages.

    Raises
    ------
    InvalidDataError
        For NaN or infinite values, and for values too large for exact float64 arithmetic; the
        message names row and column.
    """
    features, labels, split, _ = block
    if not len(features) == len(labels) == len(split):
        raise InvalidDataError(
            f"features, labels and split have {len(features)}, {len(labels)} and {len(split)} "
            "rows; they must be equally long"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        column_sum = features.sum(axis=0, dtype=np.float64)
    largest = _largest(features)
    limit = LARGEST_FEATURE if features.dtype.kind == "f" else LARGEST_EXACT_INTEGER
    if not largest <= limit:
        raise _offender("features", features, first_row, limit)
    labels = labels.reshape(len(labels), -1)
    if labels.dtype.kind in "iu" and _largest(labels) > LARGEST_EXACT_INTEGER:
        raise _offender("labels", labels, first_row, LARGEST_EXACT_INTEGER)
    labels = labels.astype(np.float64)
    if not _largest(labels) <= LARGEST_FEATURE:
        raise _offender("labels", labels, first_row, LARGEST_FEATURE)
    groups = {}
    for code in np.unique(split):
        rows = labels[split == code]
        first = tuple(float(v) for v in rows[0])
        groups[int(code)] = GroupSummary(len(rows), first, bool((rows != rows[0]).any()))
    return Summary(len(features), column_sum, float(largest), _label_bounds(labels), groups)


def _largest(values: NDArray[Any]) -> Any:
    """Return the largest absolute value; NaN where one is in."""
    if not values.size:
        return 0.0
    low, high = values.min().item(), values.max().item()  # integers stay exact
    return max(abs(low), abs(high))


def _label_bounds(labels: NDArray[np.float64]) -> dict[str, float]:
    if not labels.size:
        return dict.fromkeys(LABEL_NORMS, 0.0)
    size = np.abs(labels)
    top = size.max(axis=1)
    unit = np.where((top > 0) & (top < 1e-140), top, 1.0)  # or squares would underflow
    part = size / unit[:, None]
    return {
        "l1": float(size.sum(axis=1).max()),
        "l2": float((unit * np.sqrt((part * part).sum(axis=1))).max()),
        "linf": float(size.max()),
    }


def _offender(what: str, values: NDArray[Any], first_row: int, limit: float) -> InvalidDataError:
    if values.dtype.kind == "f":
        values = values.astype(np.float64)  # float32 cannot hold the limit
    row, column = (int(k) for k in np.argwhere(~((values <= limit) & (values >= -limit)))[0])
    value = values[row, column]
    if what == "labels" and np.isfinite(value) and limit == LARGEST_EXACT_INTEGER:
        return InvalidDataError(
            f"labels row {first_row + row}, column {column} is {value}, beyond 2**53, which no "
            "float64 holds exactly; if labels are identifiers, give them as text: y.astype(str)"
        )
    where = f"{what} row {first_row + row}, column {column}"
    if np.isfinite(value):
        return InvalidDataError(
            f"{where} is {value}, beyond {limit:g}; rescale the column before it is stored"
        )
    return InvalidDataError(f"{where} is {value}; drop the row or fill the value in first")
