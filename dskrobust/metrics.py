"""Feature metrics as objects. Each says how the kernels compute it; the kernels do the work.

A new metric is a subclass of `Metric` here, named in `_PLAIN`, and, where pairs need a sum of their
own, a code with its branches in `kernels/distances`. What kernels may do with a metric is said by
the properties of its `KernelForm`, and by nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .blas import one_blas_thread
from .covariance import mean_and_covariance
from .display import meant
from .errors import InvalidOptionError
from .own_code import described

# What a kernel accumulates over the columns of a pair of rows.
EUCLIDEAN, CHORD, CITYBLOCK, CHEBYSHEV, MINKOWSKI, HAMMING, FUNCTION = range(7)

FEW_COLUMNS = 16  # up to so many, boxes around rows rule most pairs out


@dataclass(frozen=True)
class KernelForm:
    """A metric as the kernels see it.

    Attributes
    ----------
    code : int
        What is accumulated (EUCLIDEAN, ...).
    factor : float
        The distance of scaled rows over that of stored rows (columns for HAMMING).
    p : float
        Exponent for MINKOWSKI.
    unit_rows : bool
        Rows are divided by their Euclidean norm first.
    matrix : ndarray (d, d) float64, optional
        Rows are centred by `center` and multiplied by the matrix first.
    center : ndarray (d,) float64, optional
    function : callable, optional
        For FUNCTION: f(row, row) of float64 rows.
    """

    code: int
    factor: float = 1.0
    p: float = 2.0
    unit_rows: bool = False
    matrix: NDArray[np.float64] | None = None
    center: NDArray[np.float64] | None = None
    function: Callable[[NDArray[Any], NDArray[Any]], float] | None = None

    @property
    def screened(self) -> bool:
        """Whether a matrix product bounds this distance."""
        return self.code in (EUCLIDEAN, CHORD)

    @property
    def exponent(self) -> float | None:
        """The p of the p-norm of differences that this distance is; None where it is no norm."""
        known = {EUCLIDEAN: 2.0, CITYBLOCK: 1.0, CHEBYSHEV: np.inf, MINKOWSKI: self.p}
        return known.get(self.code)

    @property
    def byte_bounded(self) -> bool:
        """Whether bytes of grouped columns bound this distance."""
        return self.code in (CITYBLOCK, CHEBYSHEV, MINKOWSKI)

    @property
    def homogeneous(self) -> bool:
        """Whether rows times c are c times as far apart, so that tiny ones may be scaled up."""
        return self.code in (EUCLIDEAN, CITYBLOCK, CHEBYSHEV, MINKOWSKI)

    @property
    def stretch(self) -> float:
        """Largest ratio of a distance to the norm under it: π/2 of an angle to its chord."""
        return np.pi / 2 if self.code == CHORD else 1.0

    def boxed(self, columns: int) -> bool:
        """Whether boxes around rows bound this distance, and well enough to be tried."""
        known = (EUCLIDEAN, CHORD, CITYBLOCK, CHEBYSHEV, MINKOWSKI)
        return columns <= FEW_COLUMNS and self.code in known

    @property
    def widened(self) -> bool:
        """Whether rows become float64 before pairs are looked at."""
        return self.unit_rows or self.matrix is not None or self.code == FUNCTION


class Metric:
    """Base class of feature metrics; subclasses are frozen and compare by value."""

    name = "metric"

    def form(self, columns: int, scale: float) -> KernelForm:
        """Return how kernels compute this metric on rows that are `scale` times what is stored."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Euclidean(Metric):
    """The Euclidean distance, the paper's choice."""

    name = "euclidean"

    def form(self, columns: int, scale: float) -> KernelForm:
        return KernelForm(EUCLIDEAN, scale)


@dataclass(frozen=True)
class Cityblock(Metric):
    """The sum of absolute differences."""

    name = "cityblock"

    def form(self, columns: int, scale: float) -> KernelForm:
        return KernelForm(CITYBLOCK, scale)


@dataclass(frozen=True)
class Chebyshev(Metric):
    """The largest absolute difference."""

    name = "chebyshev"

    def form(self, columns: int, scale: float) -> KernelForm:
        return KernelForm(CHEBYSHEV, scale)


@dataclass(frozen=True)
class Minkowski(Metric):
    """``(Σ|x − x′|^p)^(1/p)`` for p ≥ 1.

    Attributes
    ----------
    p : float
        The exponent; infinity is `Chebyshev`.
    """

    p: float = 2.0
    name = "minkowski"

    def __post_init__(self) -> None:
        if not self.p >= 1:
            raise InvalidOptionError(f"minkowski needs p ≥ 1, not {self.p!r}")

    def form(self, columns: int, scale: float) -> KernelForm:
        if self.p in (1.0, 2.0, np.inf):
            code = {1.0: CITYBLOCK, 2.0: EUCLIDEAN, np.inf: CHEBYSHEV}[float(self.p)]
            return KernelForm(code, scale)
        return KernelForm(MINKOWSKI, scale, p=float(self.p))

    def __str__(self) -> str:
        short = f"{self.p:g}"
        return f"minkowski({short if float(short) == self.p else repr(float(self.p))})"


@dataclass(frozen=True)
class Angular(Metric):
    """The angle between two rows in radians, 0 to π."""

    name = "angular"

    def form(self, columns: int, scale: float) -> KernelForm:
        return KernelForm(CHORD, unit_rows=True)


@dataclass(frozen=True)
class Hamming(Metric):
    """The share of columns in which two rows differ, 0 to 1."""

    name = "hamming"

    def form(self, columns: int, scale: float) -> KernelForm:
        return KernelForm(HAMMING, float(columns))


def _numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidOptionError(f"{name} must hold numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise InvalidOptionError(f"{name} must be finite; it has NaN or infinite values")
    return numbers


class Mahalanobis(Metric):
    """√((x − x′)ᵀ VI (x − x′)), computed as a Euclidean distance of whitened rows.

    Parameters
    ----------
    VI : array_like, shape (d, d)
        Inverse covariance of the scaled features; symmetric and positive definite.
    center : array_like, shape (d,), optional
        Subtracted before whitening, for accuracy; it does not change the distance.
    """

    name = "mahalanobis"

    def __init__(self, VI: ArrayLike, center: ArrayLike | None = None) -> None:
        inverse = _numbers(VI, "VI")
        if inverse.ndim != 2 or inverse.shape[0] != inverse.shape[1]:
            raise InvalidOptionError(f"VI must be a square matrix, not of shape {inverse.shape}")
        if not np.allclose(inverse, inverse.T, rtol=1e-8, atol=1e-12 * np.abs(inverse).max()):
            raise InvalidOptionError("VI must be symmetric")
        try:
            self._matrix = np.ascontiguousarray(np.linalg.cholesky((inverse + inverse.T) / 2).T)
        except np.linalg.LinAlgError as error:
            raise InvalidOptionError(
                "VI is not positive definite; drop columns that others determine"
            ) from error
        size = len(inverse)
        self._center = np.zeros(size) if center is None else _numbers(center, "center")
        if self._center.shape != (size,):
            raise InvalidOptionError(
                f"center must have the shape ({size},) as VI has it, not {self._center.shape}"
            )
        digest = hashlib.sha256(self._matrix.tobytes() + self._center.tobytes())
        self._token = digest.hexdigest()[:16]

    @classmethod
    def fit(cls, X: Any, scale: float = 1.0) -> Mahalanobis:
        """Take mean and covariance from the rows of X (anything sliced by rows, or a Dask array).

        Rows are summed 4,096 at a time and in that order, whatever the array's chunks; those of a
        Dask array by its tasks, on the workers of a cluster where there is one.

        Raises
        ------
        InvalidOptionError
            Where the covariance is singular.
        """
        mean, covariance = mean_and_covariance(X, scale)
        with one_blas_thread():  # so that bits do not depend on how many there are
            if np.linalg.matrix_rank(covariance, hermitian=True) < len(covariance):
                raise InvalidOptionError(
                    "the features' covariance is singular, so it has no inverse; drop constant and "
                    "dependent columns or give VI (a pseudo-inverse is not a metric)"
                )
            inverse = np.linalg.inv(covariance)
            return cls((inverse + inverse.T) / 2, mean)

    def form(self, columns: int, scale: float) -> KernelForm:
        if columns != len(self._center):
            raise InvalidOptionError(
                f"VI is {len(self._center)} × {len(self._center)} but the features have "
                f"{columns} columns"
            )
        return KernelForm(EUCLIDEAN, matrix=self._matrix * scale, center=self._center / scale)

    def __str__(self) -> str:
        return f"mahalanobis({self._token})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mahalanobis) and self._token == other._token

    def __hash__(self) -> int:
        return hash(self._token)


@dataclass(frozen=True)
class Function(Metric):
    """A user's callable f(x, x′) → float ≥ 0, symmetric, of two float64 rows.

    It is called once for every pair of differently labelled rows, lower row number first, and with
    copies of the first pair of every block in both orders, to check it.
    Stored results are found again by the function's own code, defaults and closure; change a
    helper that it calls and they are stale without a sign of it.
    """

    function: Callable[[NDArray[Any], NDArray[Any]], float]
    name = "function"

    def form(self, columns: int, scale: float) -> KernelForm:
        return KernelForm(FUNCTION, scale, function=self.function)

    def __str__(self) -> str:
        return described(self.function)


_PLAIN = {cls.name: cls for cls in (Euclidean, Cityblock, Chebyshev, Minkowski, Angular, Hamming)}
METRIC_ALIASES = {
    "manhattan": "cityblock",
    "l1": "cityblock",
    "l2": "euclidean",
    "linf": "chebyshev",
}
METRIC_NAMES = (*(n for n in _PLAIN if n != "minkowski"), "minkowski(p)", "mahalanobis")


def resolve_metric(metric: str | Metric | Callable[..., float]) -> Metric:
    """Return the metric of that name, the metric itself, or a callable as a metric.

    Names are those of `METRIC_NAMES`; "manhattan" and "l1" are "cityblock", "l2" is "euclidean" and
    "linf" is "chebyshev".

    Raises
    ------
    InvalidOptionError
        For an unknown name.
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        return Function(metric)
    match = re.fullmatch(r"(\w+)(?:\((.+)\))?", str(metric).strip().lower())
    name, argument = match.groups() if match else (str(metric), None)
    name = METRIC_ALIASES.get(name, name)
    if name == "cosine":
        raise InvalidOptionError(
            "one minus the cosine is no metric (it breaks the triangle inequality); "
            "angular is the metric of it"
        )
    if name == "mahalanobis":
        raise InvalidOptionError(
            "mahalanobis needs its matrix: give Mahalanobis(VI) or Mahalanobis.fit(X)"
        )
    if name not in _PLAIN or (argument is not None and name != "minkowski"):
        raise InvalidOptionError(
            f"metric {metric!r} is unknown{meant(metric, (*METRIC_NAMES, *METRIC_ALIASES))}; "
            f"choose one of {', '.join(METRIC_NAMES)}"
        )
    if argument is None:
        return _PLAIN[name]()
    try:
        return Minkowski(float(argument))
    except ValueError as error:
        if isinstance(error, InvalidOptionError):
            raise
        raise InvalidOptionError(f"minkowski({argument}): p must be a number") from error
