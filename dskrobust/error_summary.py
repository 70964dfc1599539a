"""The largest values of a model's error, and the samples that attain them: merged of blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .display import caption, card, counted, number, table


class Place(NamedTuple):
    """A largest value and where it is attained: by a row, and its partner (-1 for none)."""

    value: float
    row: int
    other: int = -1


class Peak(NamedTuple):
    """Where |Q_y − Q_F| is largest.

    Attributes
    ----------
    value : float
    row : int
    label_quotient, model_quotient : float
        Q_y and Q_F there.
    label_partner, model_partner : int
        The rows that attain them; -1 where there is none.
    """

    value: float
    row: int
    label_quotient: float
    label_partner: int
    model_quotient: float
    model_partner: int


class Sums(NamedTuple):
    """What is counted: all rows, of infinite quotients, whose γ is 0; the sum of ‖ε‖."""

    rows: int
    infinite: int
    aligned: int
    deviations: float


class BlockSummary(NamedTuple):
    """The largest values of some rows; `finite` is L without the rows that have an infinite one.

    Of a block that has no others its value is -1, so that all others are larger.
    """

    lipschitz: Place
    finite: Place
    deviation: Place
    bound: Peak
    gamma: Place
    sums: Sums


@dataclass(frozen=True)
class ErrorSummary:
    """The error F − y of a model in a few numbers, and the rows to look at.

    Attributes
    ----------
    x, t : str
        Training and test set.
    lipschitz : Place
        L(F − y) on x ∪ t, and the two rows that attain it.
    finite : Place, optional
        The same over the rows whose quotients are finite; equal rows of different errors have
        infinite ones. None where all rows have.
    deviation : Place
        ‖F − y‖∞ and the row that attains it.
    bound : Peak
        A.4's lower bound on L(F − y).
    gamma : Place
        The largest γ_z.
    sums : Sums
    """

    x: str
    t: str
    lipschitz: Place
    finite: Place | None
    deviation: Place
    bound: Peak
    gamma: Place
    sums: Sums

    @classmethod
    def of(cls, x: str, t: str, blocks: Sequence[BlockSummary]) -> ErrorSummary:
        """Return what blocks that follow each other say together."""
        found = merge_summaries(blocks)
        finite = found.finite if found.sums.infinite < found.sums.rows else None
        return cls(x, t, found.lipschitz, finite, *found[2:])

    @property
    def norm(self) -> float:
        """‖F − y‖∞ + L(F − y), the norm of Lip(x ∪ t) (paper, 3.5)."""
        return self.deviation.value + self.lipschitz.value

    @property
    def share(self) -> float:
        """How much of L(F − y) the bound explains, from 0 to 1; 1 where both are 0 or infinite.

        Also where F is so large that y is lost in F − y, and L with it.
        """
        bound, whole = self.bound.value, self.lipschitz.value
        return 1.0 if bound >= whole else bound / whole

    @property
    def mean_deviation(self) -> float:
        """Mean of ‖F(z) − y(z)‖ over x ∪ t."""
        return self.sums.deviations / self.sums.rows

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values; what is infinite is None."""
        places = {name: getattr(self, name) for name in _PLACES}
        places = {name: place and place._asdict() for name, place in places.items()}
        whole = {"lipschitz_error": self.lipschitz.value, "norm": self.norm, "share": self.share,
                 "mean_deviation": self.mean_deviation}  # fmt: skip
        found = {"x": self.x, "t": self.t, **whole, **places, **self.sums._asdict()}
        return {key: _plain(value) for key, value in found.items()}

    def words(self) -> list[str]:
        """Return what was found and what to do about it, a sentence or two each."""
        return [*_told_of_norm(self), *_told_of_bound(self), *_told_of_gamma(self)]

    def _repr_html_(self) -> str:
        rows = [
            ("L(F − y)", number(self.lipschitz.value), _rows(self.lipschitz)),
            ("‖F − y‖∞", number(self.deviation.value), f"row {self.deviation.row:,}"),
            ("their sum", number(self.norm), ""),
            ("bound (A.4)", number(self.bound.value), f"row {self.bound.row:,}"),
            ("largest γ", number(self.gamma.value), f"row {self.gamma.row:,}"),
        ]
        head = ("", "value", "attained by")
        said = [caption(text) for text in self.words()]
        return card("Model error", f"{self.x} ∪ {self.t}", table(head, rows, (0, 2)), *said)


_PLACES = ("lipschitz", "finite", "deviation", "bound", "gamma")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _rows(place: Place) -> str:
    return f"rows {place.row:,} and {place.other:,}" if place.other >= 0 else "no pair"


def _told_of_norm(found: ErrorSummary) -> list[str]:
    """Say how large the error is, and which two rows to look at."""
    if found.lipschitz.value == 0:
        return [f"F − y is the same everywhere, {number(found.deviation.value)} at most: "
                "the model is right up to a constant."]  # fmt: skip
    if np.isinf(found.lipschitz.value):
        others = found.sums.infinite - 2  # those two attain it, too
        more = f", nor at {counted(others, 'more row')}" if others else ""
        told = (
            f"L(F − y) is infinite: rows {found.lipschitz.row:,} and {found.lipschitz.other:,} are "
            f"equal, but the model's errors there are not{more}. Equal rows with different labels "
            "do that to every model: look at them first."
        )
        if found.finite is None:
            return [told]
        rest = f"Over the other rows L is {number(found.finite.value)} ({_rows(found.finite)})."
        return [told, rest]
    return [
        f"The error changes fastest between rows {found.lipschitz.row:,} and "
        f"{found.lipschitz.other:,}: look at these two, at their labels first."
    ]


def _told_of_bound(found: ErrorSummary) -> list[str]:
    """Say what A.4 explains, and which side is the steeper one."""
    bound = found.bound
    if bound.value == 0:
        return ["A.4 bounds L(F − y) by 0: at every sample the model is as steep as the labels."]
    steeper = bound.label_quotient > bound.model_quotient
    if steeper:
        told = (
            f"The labels are steeper than the model, most at row {bound.row:,} (Q of y "
            f"{number(bound.label_quotient)}, of F {number(bound.model_quotient)}): the model "
            f"smooths over row {bound.label_partner:,} of another label. A wrong label, or too "
            "smooth a model."
        )
    else:
        told = (
            f"The model is steeper than the labels, most at row {bound.row:,} (Q of F "
            f"{number(bound.model_quotient)}, of y {number(bound.label_quotient)}), towards row "
            f"{bound.model_partner:,}: a less flexible model would vary less there."
        )
    share = f"A.4 explains {found.share:.0%} of L(F − y)." if np.isfinite(bound.value) else ""
    return [f"{told} {share}".strip()]


def _told_of_gamma(found: ErrorSummary) -> list[str]:
    """Say how well x alone stands for x ∪ t."""
    part = found.sums.aligned / found.sums.rows
    return [
        f"For {part:.0%} of the samples {found.x} alone gives the Q that {found.x} ∪ {found.t} "
        f"has (γ = 0); the largest γ is {number(found.gamma.value)}, at row {found.gamma.row:,}."
    ]


# -- of blocks -----------------------------------------------------------------------------------


def block_summary(columns: Mapping[str, NDArray[Any]]) -> BlockSummary:
    """Return the largest values of a block's rows; columns: those of `ModelError`, and `bound`."""
    rows, quotient, bound = (columns[name] for name in ("rows", "quotient", "bound"))
    k = int(np.argmax(bound))
    names = ("label_quotient", "label_partner", "model_quotient", "model_partner")
    peak = Peak(float(bound[k]), int(rows[k]), *(columns[name][k].item() for name in names))
    sums = Sums(
        len(rows),
        int(np.isinf(quotient).sum()),
        int((columns["gamma"] == 0).sum()),
        float(columns["deviation"].sum()),
    )
    finite = np.where(np.isinf(quotient), -1.0, quotient)
    return BlockSummary(
        _largest(quotient, rows, columns["partner"]),
        _largest(finite, rows, columns["partner"]),
        _largest(columns["deviation"], rows),
        peak,
        _largest(columns["gamma"], rows),
        sums,
    )


def _largest(
    values: NDArray[np.float64], rows: NDArray[np.int64], others: NDArray[np.int64] | None = None
) -> Place:
    """Return the largest value, of the lowest row that has it."""
    k = int(np.argmax(values))
    return Place(float(values[k]), int(rows[k]), -1 if others is None else int(others[k]))


def merge_summaries(blocks: Sequence[BlockSummary]) -> BlockSummary:
    """Return the largest values of blocks that follow each other; of equal ones the first."""
    best = [max(column, key=_value) for column in zip(*(b[:-1] for b in blocks), strict=True)]
    sums = (sum(column) for column in zip(*(b.sums for b in blocks), strict=True))
    return BlockSummary._make((*best, Sums._make(sums)))


def _value(place: Place | Peak) -> float:
    return place.value
