"""Labels that a reviewer may give: their names, and what a store keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets import label_ends, restore_labels
from ..display import meant
from ..errors import InvalidOptionError
from ..labels import label_names
from ..records import value_counts
from ..store import Store, lossless
from ..stored_rows import store_labels

MOST = 1e150  # of a number: its square must be one


@dataclass(frozen=True)
class LabelNames:
    """The labels of a store by name.

    Attributes
    ----------
    store : Store
        With categories or numbers as labels.
    """

    store: Store

    @property
    def real(self) -> bool:
        """Whether labels are numbers, any of which may be given."""
        return self.store.spec.label_kind == "real"

    @cached_property
    def known(self) -> dict[str, int | float]:
        """The name of every class, and what the store keeps of it; none of numbers."""
        spec = self.store.spec
        if self.real:
            return {}
        if spec.classes is not None:
            return {name: code for code, name in enumerate(spec.classes)}
        values = value_counts(store_labels(self.store)).compute()["value"]
        return dict(zip(self.names(values), values.tolist(), strict=True))

    def names(self, labels: ArrayLike) -> list[str]:
        """Return stored labels (k,) as text, numbers in their own units."""
        labels = np.asarray(labels)
        labels = labels.reshape(len(labels))
        if self.real:
            return [f"{value:.6g}" for value in restore_labels(self.store.spec, labels).tolist()]
        return [str(name) for name in label_names(labels, self.store.spec.classes)]

    def of_rows(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the labels of rows as text; each row is read by itself."""
        return self.names(self.store.labels[rows]) if len(rows) else []

    def stored(self, text: str) -> int | float:
        """Return what the store keeps of a label that is given by its name.

        Raises
        ------
        InvalidOptionError
            Where there is no such class, or the text is no number that the store holds.
        """
        dtype = self.store.row_shape("labels")[1]
        if not self.real:
            if text not in self.known:
                raise InvalidOptionError(f"there is no class {text!r}{meant(text, self.known)}")
            return self.known[text]
        try:
            value = float(text)
        except ValueError as error:
            raise InvalidOptionError(f"{text!r} is no number") from error
        if not abs(value) <= MOST:
            raise InvalidOptionError(f"{text!r} is no finite number below 1e150")
        ends = label_ends(self.store.spec)
        if ends is not None:
            low, high = (float(end) for end in ends)
            value = (value - low) / (high - low) if high > low else 0.0
        kept: Any = np.array([value])
        kept = kept.astype(dtype) if dtype.kind == "f" else lossless(kept, dtype)
        if kept is None or not np.isfinite(kept).all():
            raise InvalidOptionError(f"{text!r} does not fit the store's labels of {dtype}")
        return int(kept[0]) if dtype.kind in "iu" else float(kept[0])
