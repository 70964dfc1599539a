"""Scoring one's own samples against a scored store, with their witnesses (Figure 13)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..definitions import lipschitz_of, norms_of, robustness_of
from ..engine.spec import Context, PairSpec
from ..errors import InvalidDataError
from ..kernels import NOBODY, QuotientState
from ..kernels.reference import reduce_rows
from ..runs import pair_spec
from ..subsets import class_name
from ..verify import slices
from .pictures import as_picture
from .results import StoredResults

LIKELY = 1.5, 8.0  # times what the store's largest value is; images beyond have other units


def score_own(
    results: StoredResults, X: ArrayLike, y: ArrayLike, within: str | None = None
) -> pd.DataFrame:
    """Return the robustness of own samples in a group of a scored store, by brute force.

    The store is read block by block; nothing is written.

    Parameters
    ----------
    results : StoredResults
    X : array_like (k, ...)
        In the units of the stored features: pixels of 0 … 255 where the store has bytes.
    y : array_like (k,) or (k, m)
        Labels; for classes their names or codes, also ones that the store does not have.
    within : str, optional
        The group; the one with the most samples by default.

    Returns
    -------
    DataFrame
        label, robustness, lipschitz, reach, witness (-1 for none), witness_label; and picture and
        witness_picture where the store holds images.

    Raises
    ------
    InvalidDataError
        For features of another size, values that are no numbers, images in other units than the
        store's, or a label whose norm exceeds ‖y‖∞ of the store (paper, 3.4 asks for that).
    """
    store, parameters = results.store, results.result.parameters
    features = _features(np.asarray(X), store.columns)
    if store.spec.image_shape is not None:
        _check_units(features, store.summary.largest_feature)
    group = results.scores.group_code(within or results.main_group)
    kind = str(parameters["labels"])
    labels = f"{kind}-{parameters['norm']}" if "norm" in parameters else kind
    spec = pair_spec(store, results.metric, labels)
    names, codes = _labels(results, np.asarray(y), spec)
    if not len(features) == len(codes):
        raise InvalidDataError(f"there are {len(features)} samples, but {len(codes)} labels")
    tables = _brute_force(results, spec, features, codes)
    reach = tables.reach[:, group]
    witness, lipschitz = tables.nearest[:, group], lipschitz_of(reach)
    if spec.quotients:
        witness, lipschitz = tables.witness[:, group], tables.quotient[:, group]
    witness = np.where(witness == NOBODY, -1, witness)
    table = pd.DataFrame(
        {
            "label": names,
            "robustness": robustness_of(lipschitz, results.scores.label_norm),
            "lipschitz": lipschitz,
            "reach": reach,
            "witness": witness,
            "witness_label": np.where(witness < 0, "", results.label_texts(witness)),
        }
    )
    if store.spec.image_shape is not None:
        shown = results.pictures(witness)
        table["picture"] = [
            as_picture(x, store.spec.image_shape, store.spec.scale) for x in features
        ]
        table["witness_picture"] = [shown[int(row)] for row in witness]
    return table


def _features(X: NDArray[Any], columns: int) -> NDArray[Any]:
    features = X.reshape(len(X), -1) if X.ndim > 1 and len(X) else X
    if features.ndim != 2 or features.shape[1] != columns:
        raise InvalidDataError(
            f"own samples must have the shape (k, {columns}) or that of k images, not {X.shape}"
        )
    if features.dtype.kind not in "biuf" or not np.isfinite(features).all():
        raise InvalidDataError("own samples must be numbers, none of them NaN or infinite")
    return np.ascontiguousarray(features)


def _check_units(features: NDArray[Any], largest: float) -> None:
    """Refuse images whose largest value is nowhere near the store's: they would all look dark."""
    own = float(np.abs(features.astype(np.float64)).max(initial=0.0))
    above, below = LIKELY
    if own > above * largest or 0 < own < largest / below:
        raise InvalidDataError(
            f"the own images have values up to {own:g}, those of the store up to {largest:g}: "
            "bring them to the store's units, such as 0 to 255 for bytes"
        )


def _labels(
    results: StoredResults, y: NDArray[Any], spec: PairSpec
) -> tuple[list[str], NDArray[np.float64]]:
    """What the labels are called, and the labels as kernels take them."""
    if not results.categorical:
        codes = spec.labels.encode(y)
        norm = spec.labels.norm if spec.labels.kind == "vector" else "linf"
        norms = norms_of(codes, norm) * (1 - 1e-14)
        if len(norms) and norms.max() > results.scores.label_norm:
            row = int(norms.argmax())
            raise InvalidDataError(
                f"label row {row} has the norm {norms[row]:g}, beyond ‖y‖∞ = "
                f"{results.scores.label_norm:g} of the store (in its units)"
            )
        return [", ".join(f"{v:g}" for v in row) for row in codes], codes
    values = results.label_counts["value"].tolist()
    known: dict[Any, float] = {class_name(results.store, v): float(v) for v in values}
    known |= {v: float(v) for v in values if v not in known}
    for label in y.tolist():  # new labels get numbers behind the known ones
        known.setdefault(label, max(known.values()) + 1)
    codes = np.array([known[label] for label in y.tolist()])
    calls = {float(v): class_name(results.store, v) for v in values}
    names = [calls.get(code, str(label)) for code, label in zip(codes, y.tolist(), strict=True)]
    return names, spec.labels.encode(codes)


def _brute_force(
    results: StoredResults, spec: PairSpec, features: NDArray[Any], labels: NDArray[np.float64]
) -> QuotientState:
    store, summary = results.store, results.store.summary
    dtype = np.result_type(features.dtype, store.row_shape("features")[1])
    largest = max(summary.largest_feature, float(np.abs(features.astype(np.float64)).max()))
    job = Context(summary.center, largest, 1.0).job(spec)
    state: QuotientState = spec.reduction.empty(len(features), spec.parts)
    numbers = store.rows + np.arange(len(features))  # rows that come after all others
    for lo, hi in slices(store):
        block = store.read_block(lo, hi)
        encoded = spec.labels.encode(block.labels)
        there = lo, block.features.astype(dtype, copy=False), encoded, block.split
        reduce_rows((numbers, features.astype(dtype, copy=False), labels), there, job, state)
    return state
