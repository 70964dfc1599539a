"""Figures 5 and 12 as numbers, and whether robustness goes with what networks say (D.2).

The probabilities are those of the true class, of images that were trained on, by the trimmed mean
over the networks (C.3: of 25 the ten highest and the ten lowest go, of n ⌊0.4 n⌋ each).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, spearmanr

import dskrobust as dr
from dskrobust.evaluation import Evaluation

SHOWN = 5  # most and least robust samples of a class
LEVEL = 0.95
NO_RELATION = "there is no definitive relationship between robustness and mean probability"
WEAK = 0.1  # |ρ| below which a correlation is called weak; ρ² is then 1 % at most


class RankCorrelation(NamedTuple):
    """Spearman's ρ of two columns, the ends of its interval, and the number of rows."""

    rho: float
    low: float
    high: float
    rows: int

    @property
    def has_sign(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    @property
    def is_known(self) -> bool:
        """Whether there were ranks to compare."""
        return not np.isnan(self.rho)

    def words(self) -> str:
        """Return what it says of "no definitive relationship"."""
        if not self.is_known:
            return f"no verdict: the ranks of {self.rows:,} rows cannot be compared"
        kind = "a weak" if abs(self.rho) < WEAK else "a clear"
        said = f"contradicted: there is {kind} one" if self.has_sign else "holds"
        return (
            f"{said}, Spearman's rho is {self.rho:.3f} [{self.low:.3f}, {self.high:.3f}] over "
            f"{self.rows:,} rows"
        )


def rank_correlation(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> RankCorrelation:
    """Return Spearman's ρ with an interval by Fisher's transformation.

    The variance is that of Bonett and Wright (2000), (1 + ρ²/2) / (n − 3). Without a rank to speak
    of (a constant column, fewer than four rows) all three are NaN.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankCorrelation(np.nan, np.nan, np.nan, len(x))
    rho = float(spearmanr(x, y).statistic)
    off = norm.ppf((1 + level) / 2) * np.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    centre = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    return RankCorrelation(rho, float(np.tanh(centre - off)), float(np.tanh(centre + off)), len(x))


def asked_samples(evaluation: Evaluation) -> pd.DataFrame:
    """Return row, class, R and probability of every training sample that networks were asked of."""
    p = evaluation.true_class_probability("x", of="train")
    robustness = np.asarray(dr.sample_robustness(evaluation.store).robustness)[p["row"]]
    names = evaluation.store.spec.classes
    labels = p["label"] if names is None else np.array(names, dtype=object)[p["label"]]
    return p.assign(label=labels, robustness=robustness)


def extremes(samples: pd.DataFrame, count: int = SHOWN) -> pd.DataFrame:
    """Return the most and the least robust samples of every class, by rank (Figures 5 and 12)."""
    ordered = samples.sort_values(["robustness", "row"], kind="stable")
    parts = []
    for _, own in ordered.groupby("label", sort=True):
        for end, part in (("least", own.head(count)), ("most", own.tail(count)[::-1])):
            parts.append(part.assign(end=end, rank=range(1, len(part) + 1)))
    columns = ["label", "end", "rank", "row", "robustness", "probability"]
    return pd.concat(parts)[columns].round(5).reset_index(drop=True)


def correlations(samples: pd.DataFrame, classes: Sequence[Any] = ()) -> dict[str, RankCorrelation]:
    """Return ρ of R and probability over all rows, the figure's rows, and those of some classes."""
    first = extremes(samples, 1)
    parts = {"all training images": samples, "the figure's images": first}
    parts |= {f"training images of {name}": samples[samples["label"] == name] for name in classes}
    return {
        name: rank_correlation(part["robustness"], part["probability"])
        for name, part in parts.items()
    }


def relation_row(found: RankCorrelation, of: str, size: str) -> dict[str, Any]:
    """Return what the claim of D.2 comes to over some rows; `observation_row` adds the rest."""
    return {
        "claim": f"{NO_RELATION}, over {of}",
        "holds": int(found.is_known and not found.has_sign),
        "of": 1,
        "verdict": f"{found.words()} ({size})",
    }
