"""Scoring one's own samples against a scored store, with their witnesses (Figure 13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..datasets.containers import plain
from ..datasets.frames import take_labels
from ..datasets.labelled import LabelledArrays
from ..datasets.new_rows import class_text, is_number
from ..definitions import robustness_of
from ..engine.spec import PairSpec
from ..errors import InvalidDataError, InvalidOptionError
from ..labels import LabelMap
from ..new_samples import check_label_norms, score_outside
from ..references import row_set
from ..runs import PairData, pair_spec
from ..subsets import class_name
from .pictures import as_picture
from .results import StoredResults

LIKELY = 1.5, 8.0  # times what the store's largest value is; images beyond have other units


def score_own(
    results: StoredResults, X: ArrayLike, y: ArrayLike, within: str | None = None
) -> pd.DataFrame:
    """Return the robustness of own samples in a group of a scored store, as a search would.

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
    features = _features(plain(X, "X"), store.columns)
    if store.spec.image_shape is not None:
        _check_units(features, store.summary.largest_feature)
    group = results.scores.group_code(within or results.main_group)
    spec = pair_spec(store, results.metric, _label_map(parameters))
    names, codes = _labels(results, take_labels(y), spec)
    if not len(features) == len(codes):
        raise InvalidDataError(f"there are {len(features)} samples, but {len(codes)} labels")
    name = results.scores.groups[group]
    data = PairData(store, scale=store.spec.scale)
    new = LabelledArrays(features, codes, np.zeros(len(codes), np.int16), ("own",))
    found = score_outside(data, new, spec, (name, row_set(data, name, name))).compute()
    table = pd.DataFrame(
        {
            "label": names,
            "robustness": robustness_of(found.lipschitz, results.scores.label_norm),
            "lipschitz": found.lipschitz,
            "reach": found.reach,
            "witness": found.witness,
            "witness_label": np.where(found.witness < 0, "", results.label_texts(found.witness)),
        }
    )
    if store.spec.image_shape is not None:
        shown = results.pictures(found.witness)
        table["picture"] = [
            as_picture(x, store.spec.image_shape, store.spec.scale) for x in features
        ]
        table["witness_picture"] = [shown[int(row)] for row in found.witness]
    return table


def _label_map(parameters: Mapping[str, Any]) -> LabelMap:
    """Return the label map of a result.

    Raises
    ------
    InvalidOptionError
        Where its norm is a function, which no result keeps.
    """
    kind, norm = str(parameters["labels"]), str(parameters.get("norm", "l2"))
    if norm.startswith("function"):
        raise InvalidOptionError(
            f"the label norm of these results is {norm}; score own samples with "
            "dskrobust.score_samples, which takes it"
        )
    return LabelMap(kind, norm, parameters["bound"])


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
        check_label_norms(spec.labels, codes, results.scores.label_norm)
        return [", ".join(f"{v:g}" for v in row) for row in codes], codes
    values = results.label_counts["value"].tolist()
    known: dict[Any, float] = {class_name(results.store, v): float(v) for v in values}
    given: list[Any] = y.tolist()
    if all(map(is_number, results.store.spec.classes or ("",))):  # then numbers are names
        given = [class_text(label) for label in given]
    else:
        known |= {v: float(v) for v in values if v not in known}
    for label in given:  # new labels get numbers behind the known ones
        known.setdefault(label, max(known.values()) + 1)
    codes = np.array([known[label] for label in given])
    calls = {float(v): class_name(results.store, v) for v in values}
    names = [calls.get(code, str(label)) for code, label in zip(codes, given, strict=True)]
    return names, spec.labels.encode(codes)
