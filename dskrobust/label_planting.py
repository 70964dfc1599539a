"""Errors planted in a data set's own labels: how they score beside the labels that are there.

About PLANTED of the labels of every class are changed at random, and all is searched again: in a
sample of at most SAMPLE_ROWS rows, in several rounds where there are few. A sample is runs of
consecutive rows, so that a large store is not read as a whole; distances in it are larger than in
all rows, for right and for wrong labels alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from .cluster.workers import cores_here
from .datasets.labelled import LabelledArrays
from .engine.footprint import USABLE
from .engine.plan import MIB, Resources, base_bytes, smallest_peak
from .label_fit import LabelQuality, quality_of
from .label_models import ModelEvidence
from .memory import KERNELS
from .robustness import score_both
from .runs import PairData, RunOptions, data_spec
from .store import SourceAddress
from .witnesses import at_witness

PLANTED = 0.01  # of the labels of every class, in a round
SAMPLE_ROWS, SAMPLE_BYTES = 10_000, 64 * 2**20  # of a sample, at most
MEMORY = 512 * 2**20  # of the process that searches a sample, at most
THREADS, PANELS = 4, 112 * MIB  # that its plan may use, however many cores there are
RUNS = 256  # of consecutive rows that a sample is made of
ENOUGH, ROUNDS = 200, 12  # planted errors that will do; rounds at most
GIVEN, BESIDE, PLANTED_ERROR = 0, 1, 2  # what a score is of
GIVEN_UP = 0.1  # of a class, at most, are called something else


class PlantedScores(NamedTuple):
    """Samples of all rounds together, (m,).

    Attributes
    ----------
    label : ndarray (m,)
        As given or as planted.
    score : ndarray (m,) float64
        Infinite where the witness fits no better, or there is no score: then it is no issue.
    kind : ndarray (m,) int8
        GIVEN in the round without errors, BESIDE errors or PLANTED_ERROR in the others.
    rounds : int
        With errors.
    """

    label: NDArray[Any]
    score: NDArray[np.float64]
    kind: NDArray[np.int8]
    rounds: int


@dataclass(frozen=True)
class Planting:
    """How errors are planted: what the search is made of, and from how many rows.

    Attributes
    ----------
    metric : str or Metric
    scale : float
    groups : tuple of str
    rows : int
        Of the data set.
    sample : int
        Rows that are searched.
    """

    metric: Any
    scale: float
    groups: tuple[str, ...]
    rows: int
    sample: int

    @property
    def rounds(self) -> int:
        """How often errors are planted."""
        return rounds_for(self.sample)


def rounds_for(rows: int) -> int:
    """Return how often errors are planted in so many rows."""
    return int(np.clip(np.ceil(ENOUGH / (PLANTED * rows)), 1, ROUNDS))


def planting_of(quality: LabelQuality) -> Planting:
    """Return how errors are planted in the data of a search."""
    scores, spec = quality.scores, quality.scores.spec
    assert spec is not None
    data = PairData(scores.store, scores.arrays, spec.scale)
    columns = spec.columns
    fitting = max(1, SAMPLE_BYTES // max(1, columns * data.dtype.itemsize))
    sample = min(quality.rows, SAMPLE_ROWS, fitting)
    return Planting(spec.metric, spec.scale, data.groups, quality.rows, sample)


def planting_memory(quality: LabelQuality) -> int:
    """Return how many bytes the process that plants errors, and searches them, holds for it."""
    planting = planting_of(quality)
    spec = quality.scores.spec
    assert spec is not None
    return KERNELS + min(
        MEMORY, 64 * MIB + 16 * planting.sample * spec.columns * spec.dtype.itemsize
    )


def planted_scores(quality: LabelQuality, evidence: ModelEvidence | None = None) -> PlantedScores:
    """Plant errors in the labels of some data and score them; on a worker where there are some."""
    planting = planting_of(quality)
    rows = sample_rows(planting.rows, planting.sample)
    beside = None if evidence is None else evidence.at(rows)
    arrays, store = quality.scores.arrays, quality.scores.store
    if store is not None:
        task = delayed(_of_store, pure=True)(store.address, planting, beside)
    elif arrays is not None and arrays.lazy:
        X, y = da.asarray(arrays.X)[rows], da.asarray(arrays.y)[rows]
        task = delayed(_plant, pure=True)(X, y, np.asarray(arrays.split)[rows], planting, beside)
    else:  # the arrays are here
        assert arrays is not None
        X, y, split = (np.asarray(part)[rows] for part in (arrays.X, arrays.y, arrays.split))
        return _plant(X, y, split, planting, beside)
    (made,) = compute(task)
    return made


def sample_rows(rows: int, count: int) -> NDArray[np.int64]:
    """Return which rows are looked at, rising: one run at random of every equal part."""
    if count >= rows:
        return np.arange(rows)
    runs = min(RUNS, count)
    rng = np.random.default_rng(rows)
    parts = np.arange(runs + 1) * rows // runs
    lengths = np.diff(parts * count // rows)  # none is longer than its part
    starts = parts[:-1] + rng.integers(0, np.diff(parts) - lengths + 1)
    return np.concatenate([np.arange(a, a + n) for a, n in zip(starts, lengths, strict=True)])


def planted_labels(
    labels: NDArray[Any], split: NDArray[np.int16], seed: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return labels (n,) of which about PLANTED of every class are wrong, and which ones are.

    Every class of a group gets that many samples of others, drawn at random; none gives up more
    than GIVEN_UP of its own.
    """
    rng, noisy = np.random.default_rng(seed), labels.copy()
    planted = np.zeros(len(labels), bool)
    for group in np.unique(split).tolist():
        own = np.flatnonzero(split == group)
        classes, code, sizes = np.unique(labels[own], return_inverse=True, return_counts=True)
        wanted = _rounded(PLANTED * sizes, rng)
        left = _rounded(GIVEN_UP * sizes, rng)
        for target in np.flatnonzero(wanted).tolist():
            others = rng.permutation(np.flatnonzero((code != target) & ~planted[own]))
            # of every class only so many: its first ones in a random order
            others = others[_place_in_class(code[others]) < left[code[others]]][: wanted[target]]
            left -= np.bincount(code[others], minlength=len(classes))
            noisy[own[others]], planted[own[others]] = classes[target], True
    return noisy, planted


def _rounded(values: NDArray[np.floating[Any]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return whole numbers of the same mean, rounded up or down at random."""
    return np.floor(values + rng.random(len(values))).astype(np.int64)


def _place_in_class(codes: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return how many before each one have the same code."""
    order = np.argsort(codes, kind="stable")
    _, first, sizes = np.unique(codes[order], return_index=True, return_counts=True)
    place = np.empty(len(codes), np.int64)
    place[order] = np.arange(len(codes)) - np.repeat(first, sizes)
    return place


# -- what tasks do ----------------------------------------------------------------------------


def _of_store(
    address: SourceAddress, planting: Planting, evidence: ModelEvidence | None
) -> PlantedScores:
    source, rows = address.open(), sample_rows(planting.rows, planting.sample)
    ends = np.flatnonzero(np.diff(rows) > 1) + 1
    runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(rows, ends)]
    X, y, split = (
        np.concatenate([source.read(name, *run) for run in runs])
        for name in ("features", "labels", "split")
    )
    return _plant(X, y.reshape(len(y)), split, planting, evidence)


def _plant(
    X: NDArray[Any],
    y: NDArray[Any],
    split: NDArray[np.int16],
    planting: Planting,
    evidence: ModelEvidence | None,
) -> PlantedScores:
    """Score all rounds one after another, with this process's threads."""
    kept = _comparable(y, split)
    X, y, split = X[kept], y[kept], split[kept]
    evidence = None if evidence is None else evidence.at(kept)
    one = partial(_round, X, y, split, planting, evidence)
    with dask.config.set(scheduler="threads"):  # in a task, too: all of it is here
        rounds = [one(seed) for seed in (None, *range(planting.rounds)) if len(y)]
    if not rounds:
        return PlantedScores(y, np.empty(0), np.empty(0, np.int8), 1)
    labels, scores, kinds = map(np.concatenate, zip(*rounds, strict=True))
    return PlantedScores(labels, scores, kinds, len(rounds) - 1)


def _resources(data: PairData, metric: Any) -> Resources:
    """What a search in a sample may take, on a worker with other tasks too.

    Neither many cores nor wide rows make it too little: then fewer tiles run at once.
    """
    work = data.workload(data_spec(data, metric, "categorical", "both"))
    most = base_bytes() + PANELS

    def least(threads: int) -> int:
        return smallest_peak(work, Resources(1, threads), work.rows)

    threads = next((t for t in range(min(cores_here(), THREADS), 1, -1) if least(t) <= most), 1)
    return Resources(1, threads, int(max(most, least(1)) / USABLE) + 1)


def _comparable(y: NDArray[Any], split: NDArray[np.int16]) -> NDArray[np.intp]:
    """Return the rows of groups that have several labels, each more than twice."""
    kept = np.zeros(len(y), bool)
    for group in np.unique(split).tolist():
        own = np.flatnonzero(split == group)
        _, code, sizes = np.unique(y[own], return_inverse=True, return_counts=True)
        often = sizes > 2
        kept[own] = often[code] & (often.sum() > 1)
    return np.flatnonzero(kept)


def _round(
    X: NDArray[Any],
    y: NDArray[Any],
    split: NDArray[np.int16],
    planting: Planting,
    evidence: ModelEvidence | None,
    seed: int | None,
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int8]]:
    """Return labels, scores and kinds of all rows; without a seed nothing is planted."""
    noisy, kind = y, np.full(len(y), GIVEN, np.int8)
    if seed is not None:
        noisy, planted = planted_labels(y, split, seed)
        kind = np.where(planted, PLANTED_ERROR, BESIDE).astype(np.int8)
    present, codes = np.unique(split, return_inverse=True)
    groups = tuple(planting.groups[k] for k in present.tolist())
    arrays = LabelledArrays(X, noisy, codes.astype(np.int16), groups)
    data = PairData(arrays=arrays, scale=planting.scale)
    options = RunOptions(_resources(data, planting.metric))
    quality = quality_of(*score_both(data, planting.metric, options))
    if evidence is not None:
        quality = replace(quality, score=evidence.joined(quality.score, quality.labels))
    beside = at_witness(quality.score, quality.scores.nearest)
    own, other = compute(quality.score, beside, scheduler="threads")
    return noisy, np.where(own <= other, own, np.inf), kind
