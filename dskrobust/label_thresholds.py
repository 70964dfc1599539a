"""From which score on a sample is suspicious: a threshold a class, told by planted errors.

Let G(t) be the share of a class's samples that score at most t, and F(t) that of the errors planted
in it. Were a share π of the labels wrong before, G(t) would be at least π F(t); so the least of
G/F, over scores that many planted errors reach, is at least π unless others score like errors do.
Its lower confidence limit is taken; 0 where planted errors do not stand out themselves; and for no
class less than for all together. The threshold is the largest t at which at least half of what is
flagged is planted or was wrong before: (PLANTED + π) F(t) ≥ (PLANTED F(t) + G(t)) / 2. That share
is an estimate, of errors that come at random and as many as PLANTED beside those from before. In
clean data π is near 0, and then at most PLANTED of a class is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from .engine.spec import PairSpec
from .errors import InvalidOptionError
from .label_fit import LabelQuality
from .label_models import ModelEvidence
from .label_planting import BESIDE, GIVEN, PLANTED, PLANTED_ERROR, PlantedScores, planted_scores
from .store import keep_small, read_small

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1  # of what is kept in stores: one more where thresholds come out otherwise
HIGHEST = 0.4  # threshold; a sample that suspicion puts half again above the balance of 1
STEP = 0.005  # of thresholds that are tried
FEW = 100  # samples of a class: smaller ones are judged together
SAID = 20  # planted errors of a class that tell shares; of fewer, those of all classes do
PRECISE = 0.5  # share of what is flagged, at least
REACHED = (0.3, 0.5, 0.7, 0.9)  # shares of planted errors at whose scores G/F is looked at
STANDING_OUT = 0.5  # share of planted errors; where fewer score low, right labels do so like wrong
MANY_FOUND = 0.75  # with fewer planted errors found the list is worth a longer look
CONFIDENCE = 0.95
TRIED = np.arange(0.0, HIGHEST + STEP / 2, STEP)
REST = -1  # position of what is said of the classes that are judged together

JUDGED = np.dtype(
    [("rows", np.int64), ("planted", np.int64), ("threshold", float), ("found", float),
     ("precision", float), ("wrong", float)]
)  # fmt: skip


@dataclass(frozen=True)
class Thresholds:
    """The threshold of every class, and what it is worth.

    Attributes
    ----------
    labels : ndarray (k,)
        The classes that are judged by themselves, rising.
    judged : ndarray (k + 1,)
        A record each, and one of all other classes together: ``rows`` and ``planted`` errors that
        were looked at, the ``threshold`` (NaN: nothing is an issue), which share of the planted
        errors is ``found``, the estimated ``precision`` where PLANTED of the labels is wrong
        beside those that were before, and the share that was ``wrong`` before, at least.
    by_model : bool
        Whether a model's probabilities counted, which it made without the planted errors.
    """

    labels: NDArray[Any]
    judged: NDArray[np.void]
    by_model: bool = False

    @classmethod
    def fixed(cls, threshold: float) -> Thresholds:
        """Return one threshold for all, of which nothing is known.

        Raises
        ------
        InvalidOptionError
            Where it is no score.
        """
        if not 0 <= threshold <= 1:
            raise InvalidOptionError(f"threshold must lie between 0 and 1, but is {threshold!r}")
        judged = np.zeros(1, JUDGED)
        judged["threshold"] = threshold
        judged["found"] = judged["precision"] = judged["wrong"] = np.nan
        return cls(np.empty(0), judged)

    @classmethod
    def of(cls, scores: PlantedScores, *, by_class: bool = True) -> Thresholds:
        """Return thresholds as planted errors tell them; one for all where not by class."""
        labels, code = np.unique(scores.label, return_inverse=True)
        rows = np.bincount(code[scores.kind == GIVEN], minlength=len(labels))
        own = np.flatnonzero((rows >= FEW) & by_class)
        judged = np.zeros(len(own) + 1, JUDGED)
        overall = _wrong_before(*(np.sort(scores.score[scores.kind == k])
                                  for k in (PLANTED_ERROR, GIVEN)))  # fmt: skip
        for place, members in enumerate(_members(code, own)):
            judged[place] = _judged(scores, members, overall)
        return cls(labels[own], judged)

    @classmethod
    def calibrated_for(
        cls, quality: LabelQuality, evidence: ModelEvidence | None = None
    ) -> Thresholds:
        """Plant errors and return what they tell; a store keeps it where no model counts."""
        kept = None if evidence is not None else cls.kept_for(quality)
        if kept is not None:
            return kept
        made = cls.of(planted_scores(quality, evidence))
        made = replace(made, by_model=evidence is not None)
        store, spec = quality.scores.store, quality.scores.spec
        if store is not None and spec is not None and evidence is None:
            keep_small(store, _depends(spec), {"labels": made.labels, "judged": made.judged})
        return made

    @classmethod
    def kept_for(cls, quality: LabelQuality) -> Thresholds | None:
        """Return what a store keeps of them; None where nothing was planted yet."""
        store, spec = quality.scores.store, quality.scores.spec
        if store is None or spec is None:
            return None
        kept = read_small(store, _depends(spec))
        return None if kept is None else cls(kept["labels"], kept["judged"])

    @property
    def calibrated(self) -> bool:
        """Whether planted errors told them."""
        return bool(self.judged["rows"].any())

    @property
    def rows(self) -> int:
        """Samples that were looked at."""
        return int(self.judged["rows"].sum())

    @property
    def planted(self) -> int:
        """Errors that were planted, in all rounds together."""
        return int(self.judged["planted"].sum())

    def overall(self, share: str) -> float:
        """Return a share of all classes together, weighted by the planted errors of each."""
        weights = self.judged["planted"]
        known = (weights > 0) & ~np.isnan(self.judged[share])
        if not known.any():
            return float("nan")
        return float(np.average(self.judged[share][known], weights=weights[known]))

    def words(self) -> str:
        """Return what planted errors tell, in a sentence or two; "" where none were planted."""
        if not self.calibrated:
            return ""
        found, precision = self.overall("found"), self.overall("precision")
        if not self.planted or np.isnan(found):
            return "Too few errors could be planted to tell how sure this is."
        said = (
            f"Of {self.planted:,} errors planted among {self.rows:,} samples {found:.0%} are found"
        )
        if not np.isnan(precision):
            said += (
                "; were 1 % of the labels wrong beside those that are, about "
                f"{precision:.0%} of what is flagged would be errors (an estimate)"
            )
        hidden = (
            " Most wrong labels look like right ones here: one that is not listed is not thereby "
            "right."
        )
        further = " What is flagged is the surer part: look down the list, wrong labels come first."
        hidden = hidden if found < STANDING_OUT else further if found < MANY_FOUND else ""
        optimistic = (
            " Both are optimistic: the model whose probabilities count never saw these errors."
        )
        return f"{said}.{hidden}{optimistic if self.by_model else ''}"

    def at(self, labels: da.Array) -> da.Array:
        """Return the threshold of every sample (n,) by its label, lazy."""
        return da.map_blocks(self._at, labels, dtype=np.float64, meta=np.empty(0))

    def _at(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        return self.judged["threshold"][self.place(labels)]

    def place(self, labels: NDArray[Any]) -> NDArray[np.intp]:
        """Return which record is of which label, (n,)."""
        if not len(self.labels):
            return np.full(len(labels), REST)
        place = np.minimum(np.searchsorted(self.labels, labels), len(self.labels) - 1)
        return np.where(self.labels[place] == labels, place, REST)

    def frame(self, names: NDArray[np.object_]) -> pd.DataFrame:
        """Return them as a table, a class a row; names (k,): of the classes that have their own."""
        import pandas as pd

        table = pd.DataFrame({name: self.judged[name] for name in JUDGED.names or ()})
        labels = [*names.tolist(), "others" if len(names) else "all"]
        table.insert(0, "label", labels)
        return table[(table["rows"] > 0) | (len(table) == 1)]


def _depends(spec: PairSpec) -> dict[str, Any]:
    return {"of": "label thresholds", "version": VERSION, **spec.parameters()}


def _members(code: NDArray[np.intp], own: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield which samples are of each class that is judged by itself, then the rest."""
    for one in own.tolist():
        yield np.flatnonzero(code == one)
    yield np.flatnonzero(~np.isin(code, own))


def _judged(scores: PlantedScores, members: NDArray[np.intp], overall: float) -> tuple[Any, ...]:
    """Return the record of some classes' samples; overall: share wrong before, of all classes."""
    score, kind = scores.score[members], scores.kind[members]
    given, beside, wrong = (np.sort(score[kind == k]) for k in (GIVEN, BESIDE, PLANTED_ERROR))
    likeness = wrong
    if len(wrong) < SAID:
        likeness = np.sort(scores.score[scores.kind == PLANTED_ERROR])
    if not len(likeness) or not len(given):
        return len(given), len(wrong), np.nan, np.nan, np.nan, 0.0
    reached, flagged = _shares(likeness), np.maximum(_shares(given), _shares(beside))
    before = max(overall, _wrong_before(likeness, given))  # few samples tell little of their own
    with np.errstate(invalid="ignore"):
        precision = (PLANTED + before) * reached / (PLANTED * reached + flagged)
    good = precision >= PRECISE
    if (scores.kind == GIVEN).sum() < 1 / PLANTED:  # one is more than that share of them
        good |= flagged * len(given) <= 1
    if not good.any():
        return len(given), len(wrong), np.nan, 0.0, np.nan, before
    k = int(np.flatnonzero(good)[-1])
    expected = min(1.0, float(np.nan_to_num(precision[k])))
    return len(given), len(wrong), TRIED[k], reached[k], expected, before


def _shares(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which share of scores, rising, reaches each of TRIED."""
    return np.searchsorted(scores, TRIED, side="right") / max(1, len(scores))


def _wrong_before(likeness: NDArray[np.float64], given: NDArray[np.float64]) -> float:
    """Return which share of labels was wrong before, at least: a lower confidence limit.

    likeness, given: scores of planted errors and of samples as they are, rising.
    """
    from scipy.special import betaincinv

    if not len(likeness) or np.mean(likeness <= HIGHEST) < STANDING_OUT:
        return 0.0
    limits = []
    for share in REACHED:
        score = likeness[min(len(likeness) - 1, int(share * len(likeness)))]
        if not score <= HIGHEST:
            continue
        found = np.searchsorted(likeness, score, side="right")
        seen = np.searchsorted(given, score, side="right")
        if seen <= 0:
            return 0.0
        low = betaincinv(seen, len(given) - seen + 1, 1 - CONFIDENCE)
        left = len(likeness) - found
        high = betaincinv(found + 1, left, CONFIDENCE) if left else 1.0
        limits.append(low / high)
    return float(min(limits, default=0.0))
