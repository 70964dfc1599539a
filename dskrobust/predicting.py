"""What a scikit-learn estimator predicts of every row, block by block, lazily."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import dask.array as da
import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray

from .engine.sources import Source, array_source, open_source
from .errors import Hint, InvalidDataError, InvalidOptionError
from .memory import check_memory
from .model_rows import LabelSpace
from .own_code import no_exit
from .references import row_set
from .runs import PairData
from .store import SourceAddress

BLOCK_BYTES = 2**26  # of features that are predicted at once


class Members(Protocol):
    """What says which rows of a range are meant, rising."""

    def within(self, lo: int, hi: int) -> NDArray[np.int64]: ...


def is_estimator(value: Any) -> bool:
    """Whether a value predicts, and so is no array of predictions."""
    return hasattr(value, "predict") and hasattr(value, "fit")


def predicted(estimator: Any, data: PairData, x: Any, space: LabelSpace) -> da.Array:
    """Return what an estimator predicts of all rows, lazily.

    Parameters
    ----------
    estimator : estimator
        One that is not fitted is fitted on x here.
    data : PairData
    x : str, Subset or array_like of int
    space : LabelSpace
        Of categories an estimator with ``predict_proba`` gives probabilities.

    Returns
    -------
    dask array (n,) or (n, c) float64

    Raises
    ------
    InvalidOptionError
        For features that only exist after Dask computed them.
    MemoryPlanError
        Where x does not fit into this process.
    """
    if data.arrays is not None and data.arrays.lazy:
        raise InvalidOptionError(
            "an estimator predicts from rows that can be read, but these are Dask arrays; "
            "use create_store, or give what it predicts as a Dask array"
        )
    source: Any = array_source(data.arrays) if data.arrays is not None else data.store.address  # type: ignore[union-attr]
    if not _is_fitted(estimator):
        estimator = fitted_on(estimator, source, row_set(data, x, "x"), data)
    columns = data.store.columns if data.store else data.arrays.shape[1]  # type: ignore[union-attr]
    step = max(1, min(data.rows, BLOCK_BYTES // (8 * columns)))
    likely = bool(space.classes) and hasattr(estimator, "predict_proba")
    row = (space.columns,) if likely or (not space.classes and space.columns > 1) else ()
    shared, read = (delayed(one) for one in (source, estimator)), delayed(_answers)
    where, model = shared
    blocks = []
    for lo in range(0, data.rows, step):
        hi = min(lo + step, data.rows)
        made = read(where, model, (lo, hi), data.scale, (space, likely))
        blocks.append(da.from_delayed(made, (hi - lo, *row), np.float64))
    return da.concatenate(blocks)


def _is_fitted(estimator: Any) -> bool:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    except TypeError:  # no estimator of scikit-learn's: it has to know itself
        return True
    return True


def fitted_on(estimator: Any, source: Source | SourceAddress, x: Members, data: PairData) -> Any:
    """Return a copy of an estimator, fitted on the rows of x."""
    from sklearn.base import clone

    opened, rows = open_source(source), x.within(0, data.rows)
    columns = data.store.columns if data.store else data.arrays.shape[1]  # type: ignore[union-attr]
    instead = Hint("fit it yourself on a part of them", "give --predictions of a model of yours")
    check_memory("what the estimator is fitted on", len(rows), 8 * columns, instead)
    features, labels = [], []
    step = max(1, BLOCK_BYTES // (8 * columns))
    for lo in range(0, data.rows, step):
        some = rows[slice(*np.searchsorted(rows, (lo, lo + step)))]
        if len(some):
            ends = int(some[0]), int(some[-1]) + 1
            features.append(features_of(opened, *ends, data.scale)[some - ends[0]])
            labels.append(opened.read("labels", *ends)[some - ends[0]])
    y = np.concatenate(labels)
    with _named(estimator, "fitted"):
        return clone(estimator).fit(
            np.concatenate(features), y.reshape(len(y)) if y.size == len(y) else y
        )


@contextmanager
def _named(estimator: Any, what: str) -> Iterator[None]:
    """Name the estimator in whatever it raises.

    Raises
    ------
    InvalidOptionError
    """
    try:
        with no_exit():
            yield
    except MemoryError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InvalidOptionError(f"{type(estimator).__name__} cannot be {what}: {said}") from error


def features_of(source: Source, lo: int, hi: int, scale: float) -> NDArray[np.float64]:
    """Return rows lo:hi of the features, (n, d), as estimators take them."""
    values = np.asarray(source.read("features", lo, hi), np.float64)
    return values if scale == 1.0 else values * scale


def _answers(
    source: Source | SourceAddress,
    estimator: Any,
    rows: tuple[int, int],
    scale: float,
    answer: tuple[LabelSpace, bool],
) -> NDArray[np.float64]:
    """Return what an estimator says of a block of rows."""
    return answers_of(estimator, features_of(open_source(source), *rows, scale), answer)


def answers_of(
    estimator: Any, X: NDArray[np.float64], answer: tuple[LabelSpace, bool]
) -> NDArray[np.float64]:
    """Return predictions in a space, or probabilities in the order of its classes."""
    space, likely = answer
    with _named(estimator, "asked for predictions"):
        values = np.asarray(estimator.predict_proba(X) if likely else estimator.predict(X))
        values = values.astype(np.float64) if likely else values
    if not likely:
        return space.codes(values).astype(np.float64)
    known, wanted = space.codes(np.asarray(estimator.classes_)), np.array(space.classes)
    places = np.minimum(np.searchsorted(wanted, known), len(wanted) - 1)
    if (wanted[places] != known).any():
        raise InvalidDataError(
            f"the estimator knows the classes {', '.join(map(str, known[:5]))}, the data "
            f"{', '.join(f'{value:g}' for value in wanted[:5])}; fit it on the labels of the store"
        )
    found = np.zeros((len(X), len(wanted)))
    found[:, places] = values
    return found
