"""Whether training and test set have the same classes: the paper's 3.1 asks for #y(x) = #y(t).

Its framework has one label map for both sets, as many labels in either, and at least two. For
classes it is meant so that x and t are samples of one task: a class that only t has is learnt from
nothing, one that only x has is never tested, and of neither are R in x and R in t alike. So what is
checked is stricter than the number: the same classes. For real labels and vectors the number of
different values only says how finely they were measured, and the paper's own data, Online News,
does not keep to it, so nothing is asked of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from .errors import MissingClassesWarning
from .labels import label_name
from .store import SourceAddress, Store, keep_small, read_small
from .user_warnings import warn

SPAN = 2**21  # rows whose labels one task reads
AT_ONCE = 16  # tables that one task joins
MOST = 100_000  # different labels, beyond which they are no classes but identifiers
MOST_NAMED = 5  # classes that a message lists
PARAMETERS = {"what": "classes of groups"}

Pairs = NDArray[np.float64]  # (k, 2): group and label, each pair once


class MissingClasses(NamedTuple):
    """Classes that one of two groups has and the other lacks, by name."""

    of_x: tuple[str, ...]  # that x lacks
    of_t: tuple[str, ...]


def missing_classes(store: Store, x: str = "train", t: str = "test") -> MissingClasses:
    """Return which classes of two groups are not in both.

    The labels are read once, in blocks, on workers where a client is connected; the store keeps
    what was found. Nothing is missing where labels are real numbers, vectors, or too many to be
    classes.

    Parameters
    ----------
    store : Store
    x, t : str
        Groups.
    """
    if store.spec.label_kind != "categorical" or not {x, t} <= set(store.groups):
        return MissingClasses((), ())
    pairs = _classes_of(store)
    of = [set(pairs[pairs[:, 0] == store.groups.index(group), 1].tolist()) for group in (x, t)]
    if not all(of):
        return MissingClasses((), ())
    named = (sorted(one - other) for one, other in ((of[1], of[0]), (of[0], of[1])))
    whole = store.labels.dtype.kind in "iub"
    return MissingClasses(
        *(
            tuple(label_name(int(v) if whole else v, store.spec.classes) for v in labels)
            for labels in named
        )
    )


def warn_missing_classes(store: Store, x: str = "train", t: str = "test") -> MissingClasses:
    """Warn once where two groups do not have the same classes; return those that are missing.

    Warns
    -----
    MissingClassesWarning
    """
    found = missing_classes(store, x, t)
    lacks = [
        f"group {group!r} has no sample of {_listed(names)}"
        for group, names in ((x, found.of_x), (t, found.of_t))
        if names
    ]
    if lacks:
        warn(
            f"{' and '.join(lacks)}: what {x} lacks is learnt from nothing, what {t} lacks is "
            "never tested, and the paper's 3.1 asks for the same labels in both. Split by class "
            "(stratify), or leave these classes out",
            MissingClassesWarning,
        )
    return found


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more:,} more classes" if more > 0 else "")


def _classes_of(store: Store) -> Pairs:
    """Return groups and their labels, from the store where it knows them."""
    kept: Mapping[str, Any] | None = read_small(store, PARAMETERS)
    if kept is not None:
        return np.asarray(kept["pairs"])
    cuts = range(0, store.rows, SPAN)
    find = delayed(classes_within, pure=True)
    parts: list[Any] = [find(store.address, lo, min(lo + SPAN, store.rows)) for lo in cuts]
    while len(parts) > 1:
        groups = (parts[k : k + AT_ONCE] for k in range(0, len(parts), AT_ONCE))
        parts = [delayed(joined, pure=True)(several) for several in groups]
    found: Pairs = compute(*parts)[0]
    keep_small(store, PARAMETERS, {"pairs": found})
    return found


# -- what tasks do ----------------------------------------------------------------------------


def classes_within(address: SourceAddress, lo: int, hi: int) -> Pairs:
    """Return groups and labels of rows lo:hi, each pair once."""
    store = address.open()
    labels = store.read("labels", lo, hi).reshape(hi - lo, -1)[:, 0]
    split = store.read("split", lo, hi)
    found = [np.empty((0, 2))]
    for code in np.unique(split).tolist():
        known = np.unique(labels[split == code]).astype(np.float64)
        found.append(np.stack([np.full(len(known), code), known], axis=1))
    return _bounded(np.concatenate(found))


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Return the pairs of several blocks, each once."""
    if not all(len(part) for part in parts):  # too many in one of them
        return np.empty((0, 2))
    return _bounded(np.unique(np.concatenate(parts), axis=0))


def _bounded(pairs: Pairs) -> Pairs:
    """Return no pairs where these are too many for classes."""
    return pairs if len(pairs) <= MOST else pairs[:0]
