"""The rows of a data set with labels that a model's predictions make: F − y, or (y, F).

The engine computes the largest ‖Δg‖/d of any label map g. With g = F − y that is the Lipschitz
constant of the model's error (paper, 3.5), and with the labels (y, F), of which y only says which
pairs count, the largest quotient of F over Γ(z), the samples of another label than z (A.4).
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from dask.tokenize import tokenize
from numpy.typing import NDArray

from .clients import shares_process
from .datasets.class_values import class_values
from .datasets.containers import NAME_KINDS, ravelled
from .datasets.mapped import MappedRows, mapped
from .datasets.new_rows import is_number
from .engine.graph import PairGraph
from .engine.plan import Plan
from .engine.sources import Source, open_source
from .engine.spec import PairSpec
from .errors import InvalidDataError
from .labels import LabelMap, number_name
from .records import BLOCK_ROWS
from .runs import PairData, RunOptions
from .store import SourceAddress


@dataclass(frozen=True)
class LabelSpace:
    """The normed space that labels and predictions lie in.

    Attributes
    ----------
    classes : tuple of float
        Of categories the labels, rising: class k is the k-th unit vector, and the norm is the
        largest component, so that ‖y − y′‖ is 1 for different labels and L is the largest of the
        one-vs-rest maps yᵏ (paper, 4.2). Empty for real labels and vectors.
    columns : int
        Of a point.
    norm : str
        l1, l2 or linf.
    names : tuple of str
        What classes are called, where they have names.
    ends : tuple of tuple of float
        Of predictions in the labels' own units: what the store's labels 0 and 1 are in these, in
        every column. Empty where predictions are in the units of the store.
    """

    classes: tuple[float, ...]
    columns: int
    norm: str
    names: tuple[str, ...] = ()
    ends: tuple[tuple[float, ...], ...] = ()

    @property
    def errors(self) -> LabelMap:
        """The label map of F − y."""
        return LabelMap("vector", self.norm)

    @property
    def paired(self) -> LabelMap:
        """The label map of (y, F)."""
        return LabelMap("vector", self.norm, leading=1 if self.classes else self.columns)

    def given(self, predictions: Any) -> Any:
        """Return predictions that a caller gives as an array, names of classes as codes.

        Raises
        ------
        InvalidDataError
            For what is masked, missing, sparse or no class, for columns that are called otherwise
            than the classes, and for numbers where these are the names of other classes.
        """
        names = self.names or list(map(number_name, self.classes))
        values: Any = class_values(predictions, names, "predictions")
        values = ravelled(values) if self.classes else values
        numbers = values.dtype.kind not in NAME_KINDS
        own = [str(code) for code in range(len(self.names))]
        if numbers and values.ndim == 1 and list(self.names) != own and self.numbered:
            raise InvalidDataError(
                f"the classes are called {', '.join(self.names[:5])}, so numbers may be their "
                "names or their codes; give predictions as text"
            )
        if isinstance(values, da.Array):
            return values if numbers else da.map_blocks(self.codes, values, dtype=np.float64)
        return self.codes(values)

    @property
    def numbered(self) -> bool:
        """Whether all classes have names, and these are numbers."""
        return bool(self.names) and all(map(is_number, self.names))

    def codes(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return classes by their names as codes (n,); numbers as they are.

        Raises
        ------
        InvalidDataError
            For a name that no class has; the row is named.
        """
        if values.dtype.kind not in "OUST":
            return values
        known = {name: float(code) for code, name in enumerate(self.names)}
        said = [str(value) for value in values.ravel()]
        row = next((k for k, name in enumerate(said) if name not in known), None)
        if row is not None:
            few = f"; its classes are {', '.join(self.names[:10])}" if self.names else ""
            raise InvalidDataError(
                f"the prediction of row {row:,} is {said[row]!r}, no class of the data{few}"
            )
        return np.array([known[name] for name in said])

    def as_stored(
        self, model: NDArray[np.float64], labels: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return predictions in the units of the store; those that are right equal the labels.

        model, labels: points of the same rows, (n, columns) float64.
        """
        if not self.ends:
            return model
        zero, one = np.array(self.ends)
        span = np.where(one == zero, 1.0, one - zero)
        return np.where(model == zero + labels * (one - zero), labels, (model - zero) / span)

    def leading(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """Return true labels as leading columns, (n, 1) or (n, m)."""
        return labels.reshape(len(labels), -1).astype(np.float64)

    def points(self, values: NDArray[Any], first: int, what: str) -> NDArray[np.float64]:
        """Return labels or predictions as points of the space, (n, columns) float64.

        Parameters
        ----------
        values : ndarray (n,) or (n, c)
        first : int
            Row number of the first, for messages.
        what : str
            What they are called, for messages.

        Raises
        ------
        InvalidDataError
            For labels that are no class, and values that are not finite; the row is named.
        """
        values = np.asarray(values).reshape(len(values), -1).astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(wrong):
            raise InvalidDataError(
                f"{what} of row {first + wrong[0]:,} is not finite; every row needs a finite one"
            )
        if not self.classes or values.shape[1] == self.columns != 1:
            return values
        known = np.array(self.classes)
        codes = np.minimum(np.searchsorted(known, values[:, 0]), len(known) - 1)
        wrong = np.flatnonzero(known[codes] != values[:, 0])
        if len(wrong):
            raise InvalidDataError(
                f"{what} of row {first + wrong[0]:,} is {values[wrong[0], 0]:g}, which is no class "
                f"of the data; give classes (n,), or probabilities (n, {len(known)})"
            )
        return np.eye(len(known))[codes]


@dataclass(frozen=True)
class ModelRows:
    """Rows as tiles read them, with labels that predictions make.

    Attributes
    ----------
    source : Source or SourceAddress
        Of the features and the true labels.
    predictions : array (n,) or (n, c)
        Sliced when rows are read.
    space : LabelSpace
    paired : bool
        Whether labels are (y, F), not F − y.
    """

    source: Source | SourceAddress
    predictions: Any
    space: LabelSpace
    paired: bool

    @property
    def rows(self) -> int:
        """Number of rows."""
        return open_source(self.source).rows

    @property
    def unit_rows(self) -> int:
        """Rows that are decoded together."""
        return open_source(self.source).unit_rows

    def read(self, name: str, lo: int, hi: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return rows lo:hi of the features, labels or split."""
        source = open_source(self.source)
        if name != "labels":
            return source.read(name, lo, hi, out)
        labels, space = source.read("labels", lo, hi), self.space
        truth = space.points(labels, lo, "the label")
        model = space.points(np.asarray(self.predictions[lo:hi]), lo, "the prediction")
        model = space.as_stored(model, truth)
        return np.hstack([space.leading(labels), model]) if self.paired else model - truth


@dataclass(frozen=True)
class ModelData(PairData):
    """What a search runs on whose labels predictions make; without a space, labels as they are.

    Attributes
    ----------
    predictions : array or Delayed
        Of all rows; what is delayed becomes something that is sliced.
    space : LabelSpace, optional
    paired : bool
        See `ModelRows`.
    """

    predictions: Any = None
    space: LabelSpace | None = None
    paired: bool = False

    @property
    def memoised(self) -> bool:
        return False  # tiles of other predictions would have the same names, and nobody tidies up

    def start(
        self, spec: PairSpec, plan: Plan, options: RunOptions, salt: Any = None
    ) -> tuple[PairGraph, str | None]:
        """Start a graph whose source makes labels of the predictions."""
        if self.space is None:
            return super().start(spec, plan, options, salt)
        token = tokenize(self.predictions, self.space, self.paired)
        start, scratch = super().start(spec, plan, options, (salt, token))
        predictions = self.predictions
        if isinstance(predictions, Delayed):
            start.dependencies.append(predictions)
            predictions = predictions.key
        key = f"model-{start.token}"
        start.graph[key] = (ModelRows, start.source, predictions, self.space, self.paired)
        start.source = key
        return start, scratch


def as_rows(predictions: Any, options: RunOptions) -> Any:
    """Return predictions as tasks can slice them, lazily: as they are, or as a file of theirs.

    Parameters
    ----------
    predictions : array (n,) or (n, c)
        NumPy, Dask, or what NumPy has mapped from a file.
    options : RunOptions
        Whose scratch folder takes the file.
    """
    if isinstance(found := mapped(predictions), MappedRows):
        return found
    lazy = isinstance(predictions, da.Array)
    if not lazy and shares_process():
        return predictions
    blocks = predictions if lazy else da.from_array(predictions)
    blocks = blocks.rechunk((min(BLOCK_ROWS, len(blocks)), *blocks.shape[1:]))
    folder = Path(options.scratch or tempfile.gettempdir(), f"dskrobust-model-{uuid.uuid4().hex}")
    atexit.register(_remove, folder, os.getpid())
    begun = delayed(_begin)(folder, blocks.shape)
    starts = np.cumsum([0, *blocks.chunks[0][:-1]]).tolist()
    parts = blocks.to_delayed().ravel()
    write = delayed(_write)
    written = [write(begun, lo, part) for lo, part in zip(starts, parts, strict=True)]
    return delayed(_ended)(begun, written)


def _remove(folder: Path, process: int) -> None:
    """Remove a file of predictions, unless this is a child that was forked from its process."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _begin(folder: Path, shape: tuple[int, ...]) -> MappedRows:
    """Make the file, or find it: Dask runs a task again when its worker was lost."""
    folder.mkdir(mode=0o700, exist_ok=True)  # predictions are nobody else's
    path, kind = folder / "predictions", np.dtype(np.float64)
    with path.open("ab") as file:
        file.truncate(int(np.prod(shape)) * kind.itemsize)
    strides = (int(np.prod(shape[1:])) * kind.itemsize, *(kind.itemsize for _ in shape[1:]))
    return MappedRows(path, 0, kind, strides, shape, kind)


def _write(rows: MappedRows, start: int, values: Any) -> int:
    """Write predictions from a row on."""
    with rows.path.open("r+b") as file:
        file.seek(start * rows.strides[0])
        file.write(np.ascontiguousarray(values, rows.stored).tobytes())
    return start


def _ended(rows: MappedRows, written: list[int]) -> MappedRows:
    return rows
