"""How far the robustness of samples in two sets is aligned (paper, 3.5): x ∼ t."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from .collection import ArraysMixin
from .declared_types import checked_arguments
from .definitions import robustness_of
from .display import caption, card, table
from .distributions import Sample, chance, distances, quantiles
from .errors import Hint, InvalidOptionError
from .members import inside
from .memory import check_memory
from .ranking import in_chunks, sorted_keys, sorting_memory
from .scores import Scores, checked_scores

SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)  # at which differences are told
CLOSE, APART = 0.05, 0.2  # Kolmogorov distances, for words
ROW_BYTES = 40  # of a sample: Q in both sets, and whether it is in them; in chunks and joined
SORTED = 6  # columns that a summary sorts: R of both sets, alone and together, and differences
_INSTEAD = Hint("take summary(), which reads them chunk by chunk", "compare smaller sets")
UNEQUAL = 1.5  # times the samples: from there on size alone is worth a word


@dataclass(frozen=True)
class Alignment(ArraysMixin):
    """Q and R of every sample in two sets x and t, lazy until `compute` is called.

    Arrays have an entry for every row of the data; those of x ∪ t are the ones that count.

    Attributes
    ----------
    x, t : str
        Groups or reference sets.
    lipschitz_x, lipschitz_t : array (n,) float64
        Q_x(z) and Q_t(z); no sample is compared with itself.
    in_x, in_t : array (n,) bool
        Whether a row is in the set.
    label_norm : float or 0-d array
        ‖y‖∞.
    """

    x: str
    t: str
    lipschitz_x: Any
    lipschitz_t: Any
    in_x: Any
    in_t: Any
    label_norm: Any

    @property
    def robustness_x(self) -> Any:
        """R_x(z), (n,) float64."""
        return robustness_of(self.lipschitz_x, self.label_norm)

    @property
    def robustness_t(self) -> Any:
        """R_t(z), (n,) float64."""
        return robustness_of(self.lipschitz_t, self.label_norm)

    @property
    def robustness_union(self) -> Any:
        """R in x ∪ t, the smaller of both, (n,) float64."""
        return np.minimum(self.robustness_x, self.robustness_t)

    @property
    def difference(self) -> Any:
        """``|R_x(z) − R_t(z)|``, (n,) float64: how far 3.5's equality is missed."""
        return np.abs(self.robustness_x - self.robustness_t)

    @property
    def gamma(self) -> Any:
        """By how much t's Q is above x's, (n,) float64: γ_z = Q_{x∪t}(z) − Q_x(z), 0 for none."""
        more = self.lipschitz_t > self.lipschitz_x  # only there: ∞ − ∞ is no number
        return np.where(more, self.lipschitz_t, 0.0) - np.where(more, self.lipschitz_x, 0.0)

    @property
    def attained(self) -> Any:
        """Which set attains the union's Q, (n,) int8: 1 for x, -1 for t, 0 for both."""
        x, t = self.lipschitz_x, self.lipschitz_t
        return (x > t).astype(np.int8) - (t > x).astype(np.int8)

    def compute(self, **kwargs: Any) -> Alignment:
        """Return the same with NumPy arrays.

        Raises
        ------
        MemoryPlanError
            Where they do not fit into this process.
        """
        check_memory("a NumPy copy of an alignment", self.in_x.shape[0], ROW_BYTES, _INSTEAD)
        arrays = self.lazy_arrays
        values = compute(*arrays.values(), **kwargs)
        return replace(self, **dict(zip(arrays, values, strict=True)))

    def persist(self, **kwargs: Any) -> Alignment:
        """Return the same with its arrays kept on the workers, in chunks."""
        return replace(self, **{n: a.persist(**kwargs) for n, a in self.lazy_arrays.items()})

    def summary(self) -> AlignmentSummary:
        """Compute what it comes to, chunk by chunk.

        Raises
        ------
        InvalidOptionError
            Where one of the sets has no samples.
        """
        in_x, in_t = in_chunks(self.in_x), in_chunks(self.in_t)
        either = in_x | in_t
        counts = compute(in_x.sum(), in_t.sum(), either.sum())
        size_x, size_t, size = (int(count) for count in counts)
        for name, count in ((self.x, size_x), (self.t, size_t)):
            if not count:
                raise InvalidOptionError(f"{name} has no samples; choose another set")
        one = Sample(self.robustness_x, in_x, size_x)
        other = Sample(self.robustness_t, in_t, size_t)
        spread = [
            _quantiles(self.difference, either, size, SHARES),
            _quantiles(self.gamma, either, size, SHARES),
            quantiles(one.keys, size_x, (0.5,)),
            quantiles(other.keys, size_t, (0.5,)),
        ]
        found = compute(distances(one, other), self._pairs(either), *spread)
        apart, pairs, difference, gamma, (median_x,), (median_t,) = found
        return AlignmentSummary(
            self.x, self.t, size_x, size_t, size, apart.wasserstein, apart.kolmogorov,
            float(median_x), float(median_t), pairs.total / size, pairs.row, pairs.attained,
            dict(zip(SHARES, difference.tolist(), strict=True)),
            dict(zip(SHARES, gamma.tolist(), strict=True)),
        )  # fmt: skip

    def _pairs(self, either: da.Array) -> Delayed:
        columns = [either, *(in_chunks(a) for a in (self.difference, self.attained))]
        blocks = zip(*(c.to_delayed().ravel() for c in columns), strict=True)
        starts = np.cumsum([0, *either.chunks[0]]).tolist()
        parts = [
            delayed(_pairs_of, pure=True)(*block, lo)
            for block, lo in zip(blocks, starts, strict=False)
        ]
        return delayed(_joined, pure=True)(parts)

    def _repr_html_(self) -> str:
        if self.lazy_arrays:
            return card(f"Alignment of {self.x} and {self.t}", "not computed yet", caption(
                "summary() computes what it comes to"))  # fmt: skip
        return self.summary()._repr_html_()


@dataclass(frozen=True)
class AlignmentSummary:
    """What the alignment of two sets comes to.

    Attributes
    ----------
    x, t : str
    size_x, size_t, size : int
        Samples of x, of t and of x ∪ t.
    wasserstein, kolmogorov : float
        Distances of the distributions of R_x over x and R_t over t: Wasserstein-1, in units of R,
        and the largest difference of the distribution functions, from 0 to 1.
    median_x, median_t : float
        Of R_x over x and R_t over t.
    mean : float
        Mean of |R_x(z) − R_t(z)| over x ∪ t.
    row : int
        Where it is largest.
    attained : tuple of int
        For how many z the union's Q is attained in x alone, in t alone, in both.
    difference, gamma : dict of float to float
        Quantiles of |R_x(z) − R_t(z)| and of γ_z over x ∪ t; that at 1 is the largest.
    """

    x: str
    t: str
    size_x: int
    size_t: int
    size: int
    wasserstein: float
    kolmogorov: float
    median_x: float
    median_t: float
    mean: float
    row: int
    attained: tuple[int, int, int]
    difference: Mapping[float, float]
    gamma: Mapping[float, float]

    @property
    def chance(self) -> float:
        """Below it lie 95 % of Kolmogorov distances of independent draws of these sizes."""
        return chance(self.size_x, self.size_t)

    @property
    def verdict(self) -> str:
        """How near the distributions are, in words."""
        if self.kolmogorov <= self.chance:
            return "as close as two random draws"
        if self.kolmogorov <= CLOSE:
            return "close"
        return "apart" if self.kolmogorov <= APART else "far apart"

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The figures, named."""
        shares = [f"{count / self.size:.1%}" for count in self.attained]
        difference, gamma = self.difference, self.gamma
        return [
            ("R over the set, median", f"{self.median_x:.4f} in {self.x}, "
             f"{self.median_t:.4f} in {self.t}"),
            ("Kolmogorov", f"{self.kolmogorov:.4f} (two random draws: up to {self.chance:.4f})"),
            ("Wasserstein", f"{self.wasserstein:.4f}"),
            ("|R_x − R_t|", f"{self.mean:.4f} on average, half up to {difference[0.5]:.4f}, "
             f"95 % up to {difference[0.95]:.4f}, {difference[1.0]:.4f} at most (row {self.row})"),
            ("γ", f"half up to {gamma[0.5]:.4g}, 95 % up to {gamma[0.95]:.4g}, "
             f"{gamma[1.0]:.4g} at most"),
            ("Q of the union", f"attained in {self.x} for {shares[0]}, in {self.t} for "
             f"{shares[1]}, in both for {shares[2]} of the samples"),
        ]  # fmt: skip

    @property
    def words(self) -> list[str]:
        """What was found, in sentences."""
        said = [f"The robustness of {self.x} and of {self.t} is {self.verdict}."]
        (low, lower), (high, higher) = sorted(((self.median_x, self.x), (self.median_t, self.t)))
        if self.kolmogorov > self.chance:
            said.append(f"{higher} is more robust: its median is {high - low:.4f} above {lower}'s.")
        size, other = (self.size_x, self.size_t) if lower == self.x else (self.size_t, self.size_x)
        if size > UNEQUAL * other:
            said.append(
                f"{lower} has {size / other:.1f} times the samples of {higher}: as a set grows, R "
                "in it can only fall, so size alone makes a part of the difference."
            )
        return said

    def _repr_html_(self) -> str:
        sizes = f"{self.size_x:,} and {self.size_t:,} samples, {self.size:,} together"
        figures = table(("", ""), self.rows, text=(0, 1))
        return card(f"Alignment of {self.x} and {self.t}", sizes, figures, " ".join(self.words))


@checked_arguments("scores")
def alignment(scores: Scores, x: str, t: str) -> Alignment:
    """Compare the robustness of samples in two sets, R_x and R_t; nothing is computed yet.

    Where both are alike on x ∪ t, the robustness in the union is that in either set, and what a
    model trained on x makes of t is bounded by the data (paper, 3.5 and A.4).

    Parameters
    ----------
    scores : Scores
        Against both sets: groups, and references of `sample_robustness`.
    x, t : str
        Names of groups or reference sets; the second one as a rule what a model is tested on.

    Returns
    -------
    Alignment
        Lazy arrays; its `summary` computes distances and quantiles.

    Raises
    ------
    InvalidOptionError
        For an unknown name, or a reference set whose rows these scores do not know.
    """
    return Alignment(
        x,
        t,
        in_chunks(checked_scores(scores).lipschitz_against(x)),
        in_chunks(scores.lipschitz_against(t)),
        inside(scores, x),
        inside(scores, t),
        scores.label_norm,
    )


def alignment_memory(rows: int, tasks: int) -> int:
    """Return how many bytes a summary of so many rows holds at most, with so many tasks at once."""
    return SORTED * sorting_memory(rows, tasks)


class _Pairs(NamedTuple):
    """The sum of differences of some rows, the largest, where it is, and who attains Q."""

    total: float
    largest: float
    row: int
    attained: tuple[int, int, int]


def _quantiles(values: Any, either: da.Array, size: int, shares: Sequence[float]) -> Delayed:
    return quantiles(sorted_keys(in_chunks(values), either, size), size, shares)


def _pairs_of(
    either: NDArray[np.bool_],
    difference: NDArray[np.float64],
    attained: NDArray[np.int8],
    first: int,
) -> _Pairs:
    """Return what a chunk's rows come to."""
    rows = np.flatnonzero(either)
    if not len(rows):
        return _Pairs(0.0, -1.0, -1, (0, 0, 0))
    difference, attained = difference[rows], attained[rows]
    worst = int(difference.argmax())
    x, t, both = (int((attained == side).sum()) for side in (1, -1, 0))
    largest, where = float(difference[worst]), first + int(rows[worst])
    return _Pairs(float(difference.sum()), largest, where, (x, t, both))


def _joined(parts: Sequence[_Pairs]) -> _Pairs:
    worst = max(parts, key=lambda part: part.largest)  # the first of equals
    x, t, both = (sum(side) for side in zip(*(part.attained for part in parts), strict=True))
    return _Pairs(sum(part.total for part in parts), worst.largest, worst.row, (x, t, both))
