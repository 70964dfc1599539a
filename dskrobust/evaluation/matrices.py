"""The paper's performance matrices: what they hold and what they show (Tables 2 to 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InvalidOptionError
from ..show.sheets import NOTHING, Cell, Sheet, Shown
from .experiment import BALANCED

EACH = "each"
DECIMALS = 4  # of LOSS and ACC, as the paper prints them
MEASURES = ("loss", "acc")
LOSSES = ("loss", BALANCED)
BY = {"acc": "ACC", "loss": "LOSS"}  # what may choose a hyper-parameter


@dataclass(frozen=True, eq=False, repr=False)
class PerformanceMatrix(Shown):
    """LOSS and ACC of a model, test subsets × training subsets.

    Attributes
    ----------
    train, test : tuple of str
        Names of columns and rows, in the order of the table.
    loss, acc : ndarray (test, train) float64
        Trimmed means; NaN where there is no trial (or the model has no LOSS).
    values : ndarray (test, train) object
        The hyper-parameter that was chosen for each cell; None without `sweep`.
    model : str
    sweep : str, optional
        Name of the hyper-parameter that is chosen.
    best : str
        Test subset on which it was chosen (Tables 2 to 4, 6 and 8), or "each" (7 and 9).
    loss_high : bool
        Whether a higher LOSS is better (R², of regression) or a lower one (cross-entropy).
    parameters : mapping
        The other hyper-parameters, the same in all cells.
    trials : tuple of int
        Fewest and most trials of a cell.
    measures : tuple of {"loss", "acc"}
        What is shown.
    by : {"acc", "loss"}
        What chose the hyper-parameter.
    balanced : bool
        Whether the LOSS is re-weighted by class (Table 3).
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    loss: NDArray[np.float64]
    acc: NDArray[np.float64]
    values: NDArray[np.object_]
    model: str
    sweep: str | None
    best: str
    loss_high: bool
    parameters: Mapping[str, Any] = field(default_factory=dict)
    trials: tuple[int, int] = (1, 1)
    measures: tuple[str, ...] = MEASURES
    by: str = "acc"
    balanced: bool = False

    @property
    def best_loss(self) -> NDArray[np.bool_]:
        """Which training subsets have the best LOSS of a row; those that print alike share it."""
        return _highest(self.loss if self.loss_high else -self.loss)

    @property
    def best_acc(self) -> NDArray[np.bool_]:
        """Which training subsets have the highest ACC of a row; those that print alike share it."""
        return _highest(self.acc)

    def showing(self, *measures: str) -> PerformanceMatrix:
        """Return a matrix that shows only LOSS or only ACC, as the paper's Table 5.

        Raises
        ------
        InvalidOptionError
            For a name that is neither "loss" nor "acc".
        """
        if not measures or not set(measures) <= set(MEASURES):
            raise InvalidOptionError(f"a matrix shows loss, acc or both, not {measures!r}")
        return replace(self, measures=tuple(m for m in MEASURES if m in measures))

    def to_frame(self) -> pd.DataFrame:
        """Return rows test and columns (train, measure): loss, acc and the hyper-parameter."""
        columns: dict[tuple[str, str], Any] = {}
        for j, train in enumerate(self.train):
            columns |= {(train, m): getattr(self, m)[:, j] for m in self.measures}
            if self.sweep is not None:
                columns[train, self.sweep] = self.values[:, j]
        frame = pd.DataFrame(columns, index=pd.Index(self.test, name="test"))
        frame.columns = frame.columns.set_names(["train", "measure"])
        return frame

    def sheet(self) -> Sheet:
        """Return what is shown, in words."""
        title = _words({"": self.model, **self.parameters})
        return Sheet(title, (("", len(self.train)),), self._heads(), self._rows(), self._foot())

    def _heads(self) -> tuple[tuple[str, ...], ...]:
        names = ("", *self.train)
        if self.sweep is None or self.best == EACH:
            return (names,)
        row = self.test.index(self.best)
        return names, (self.sweep, *(value_text(v) for v in self.values[row]))

    def _rows(self) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
        own = self.sweep is not None and self.best == EACH
        marks = {"loss": self.best_loss, "acc": self.best_acc}
        rows = []
        for i, test in enumerate(self.test):
            cells = []
            for j in range(len(self.train)):
                parts = tuple(
                    (number_text(getattr(self, m)[i, j]), bool(marks[m][i, j]))
                    for m in self.measures
                )
                missing = math.isnan(self.acc[i, j])
                cells.append(
                    Cell(parts, value_text(self.values[i, j]) if own and not missing else "")
                )
            rows.append((test, tuple(cells)))
        return tuple(rows)

    def _foot(self) -> str:
        said = [" \\ ".join(m.upper() for m in self.measures)]
        if "loss" in self.measures:
            weighted = ", re-weighted by class" if self.balanced else ""
            said.append("LOSS is R², high is good" if self.loss_high else
                        f"LOSS is cross-entropy{weighted}, low is good")  # fmt: skip
        if self.sweep is not None:
            where = "each test subset" if self.best == EACH else self.best
            order = "lowest" if self.by == "loss" and not self.loss_high else "highest"
            plain = " (not re-weighted)" if self.by == "loss" and self.balanced else ""
            said.append(f"{self.sweep} where {BY[self.by]}{plain} is {order} on {where}")
        few, many = self.trials
        if many > 1:
            said.append(f"trimmed mean of {few if few == many else f'{few} to {many}'} trials")
        return " · ".join(said)


@dataclass(frozen=True, eq=False, repr=False)
class SideBySide(Shown):
    """Matrices of the same test subsets beside each other, as in the paper's Tables 6 to 9."""

    matrices: tuple[PerformanceMatrix, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return the matrices' frames under their captions."""
        frames = dict(zip(self.captions, (m.to_frame() for m in self.matrices), strict=True))
        return pd.concat(frames, axis=1, names=["matrix"])

    @property
    def captions(self) -> tuple[str, ...]:
        """What each matrix has that not all of them have."""
        shared, own = self._shared(), self._own()
        if len(own) == 1:  # the title names it
            return tuple(value_text(_named(m).get(own[0])) for m in self.matrices)
        return tuple(
            _words({k: v for k, v in _named(m).items() if k not in shared}) or f"({n})"
            for n, m in enumerate(self.matrices, 1)
        )

    def _shared(self) -> dict[str, Any]:
        first, *others = map(_named, self.matrices)
        return {k: v for k, v in first.items() if all(k in o and o[k] == v for o in others)}

    def _own(self) -> list[str]:
        """Names, in any of the matrices, of what they do not share."""
        shared = self._shared()
        return list(dict.fromkeys(k for m in self.matrices for k in _named(m) if k not in shared))

    def sheet(self) -> Sheet:
        """Return what is shown, in words."""
        heads = [m._heads() for m in self.matrices]
        joined = tuple(
            (lines[0][0], *(text for line in lines for text in line[1:]))
            for lines in zip(*heads, strict=True)
        )
        rows = [dict(m._rows()) for m in self.matrices]
        body = tuple(
            (test, tuple(cell for part in rows for cell in part[test]))
            for test in self.matrices[0].test
        )
        widths = tuple(len(m.train) for m in self.matrices)
        groups = tuple(zip(self.captions, widths, strict=True))
        own = self._own()
        by = f" by {own[0] or 'model'}" if len(own) == 1 else ""
        title = (_words(self._shared()) + by).strip()
        return Sheet(title, groups, joined, body, self.matrices[0]._foot())


def side_by_side(matrices: Sequence[PerformanceMatrix]) -> SideBySide:
    """Return matrices beside each other: uniform and distance weights, MAE and MSE.

    Raises
    ------
    InvalidOptionError
        Where they differ in their test subsets or in how hyper-parameters were chosen.
    """
    if not matrices:
        raise InvalidOptionError("side_by_side needs at least one matrix")
    first = matrices[0]
    for name in ("test", "best", "sweep", "loss_high", "measures", "by", "balanced"):
        for other in matrices[1:]:
            if getattr(other, name) != getattr(first, name):
                raise InvalidOptionError(
                    f"matrices side by side must agree in {name}, not have "
                    f"{getattr(first, name)!r} and {getattr(other, name)!r}"
                )
    return SideBySide(tuple(matrices))


def _named(matrix: PerformanceMatrix) -> dict[str, Any]:
    return {"": matrix.model, **matrix.parameters}


def _words(named: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {value_text(v)}" if k else str(v) for k, v in named.items())


def value_text(value: Any) -> str:
    """Return a hyper-parameter's value as it is shown."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def number_text(value: float) -> str:
    """Return LOSS or ACC as the paper prints it; a dash where there is none."""
    if math.isnan(value):
        return NOTHING
    # + 0.0: no minus before a zero
    return f"{round(value, DECIMALS) + 0.0:.{DECIMALS}f}" if abs(value) < 1e6 else f"{value:.3g}"


def _highest(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values of a row are its highest, as far as they are printed; NaN never is.

    A single column has nothing to be better than.
    """
    if values.shape[1] < 2:
        return np.zeros(values.shape, np.bool_)
    shown = np.where(np.isnan(values), -np.inf, np.round(values, DECIMALS))
    top = shown == shown.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(top & ~np.isnan(values))
