"""The rows that results are of: a store's, or those of arrays, with ids, labels and features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from .stored_rows import store_labels

if TYPE_CHECKING:
    from .datasets.labelled import LabelledArrays
    from .store import Store


class LabelledRows:
    """What results of samples have of the data behind them, which a store or arrays hold."""

    if TYPE_CHECKING:

        @property
        def store(self) -> Store | None: ...

        @property
        def arrays(self) -> LabelledArrays | None: ...

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.store.spec.name if self.store else "data"

    @property
    def ids(self) -> Any:
        """What the rows are called, shape (n,), read when sliced; None where rows have no ids."""
        if self.store is not None:
            return self.store.ids if self.store.has_ids else None
        return None if self.arrays is None else self.arrays.ids

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, where labels are codes."""
        described = self.arrays if self.store is None else self.store.spec
        return None if described is None else described.classes

    def label_blocks(self, sizes: tuple[int, ...] = ()) -> da.Array:
        """Return the labels as stored or given, (n,), lazy; sizes: rows of the chunks."""
        if self.store is not None:
            return store_labels(self.store, sizes)
        assert self.arrays is not None
        labels: da.Array = da.asarray(self.arrays.y).reshape(self.arrays.shape[0])
        return labels.rechunk((sizes,)) if sizes else labels

    def labels_at(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the labels (k,) of rows, which are read chunk by chunk, each row once."""
        source: Any = self.store.labels if self.store else self.arrays and self.arrays.y
        return _picked(source, rows).reshape(len(rows))

    def features_at(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the features (k, d) of rows as stored or given, each row read once."""
        return _picked(self.store.features if self.store else self.arrays and self.arrays.X, rows)


def _picked(source: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    known, place = np.unique(rows, return_inverse=True)
    values: NDArray[Any] = np.asarray(source[known])[place]
    return values
