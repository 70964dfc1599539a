"""The paper's definitions in one place: ‖y‖, Q of a reach, and R of Q and ‖y‖∞ (3.3, 3.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMS: dict[str, float] = {"l1": 1, "l2": 2, "linf": np.inf}  # as NumPy calls them


def norms_of(labels: NDArray[Any], norm: str) -> NDArray[np.float64]:
    """Return ‖y‖ of labels (n, m), shape (n,)."""
    return np.asarray(np.linalg.norm(labels, NORMS[norm], axis=1))


def lipschitz_of(reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Q = 1 / reach of categories (paper, A.3): ∞ at 0, and 0 where nothing is reached."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(1.0 / reach)


def robustness_of(lipschitz: Any, label_norm: Any) -> Any:
    """Return R = ‖y‖∞ / (Q + ‖y‖∞) (paper, 3.4)."""
    return label_norm / (lipschitz + label_norm)
