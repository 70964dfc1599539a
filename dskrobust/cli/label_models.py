"""What `issues --probabilities` names: a file, a model, or what an evaluation found best."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..label_fit import LabelQuality
    from ..label_models import ModelEvidence
    from ..report.trials import ModelTrials
    from ..store import Store

EVALUATION = "evaluation"
NAMES = {"knn": {"neighbors": "n_neighbors"}, "forest": {"trees": "n_estimators"}}


def asked_model(asked: str | None, store: Store, quality: LabelQuality) -> Any:
    """Return what is to judge all labels: evidence of a file, an estimator, or None.

    asked: the path of a .npy file, ``evaluation`` (the best model of the newest evaluation in the
    store that can be fitted again) or ``evaluation:KIND``, or a model as `bound` takes it. What
    there is none of is refused here, before anything runs.
    """
    from ..datasets.arrays import mapped_array
    from ..label_models import ModelEvidence
    from .bound import named_estimator

    if asked is None:
        return None
    if asked.lower().endswith(".npy"):
        return ModelEvidence.of(quality, mapped_array(asked))
    kind, _, wanted = asked.partition(":")
    if kind == EVALUATION:
        return _evaluated(store, wanted)
    return named_estimator(store, asked, ())


def evidence_of(model: Any, store: Store, quality: LabelQuality) -> ModelEvidence | None:
    """Return what an asked model says of all labels.

    Estimators are fitted on folds, so that none has seen the labels that it judges.
    """
    from ..held_out import held_out_probabilities
    from ..label_models import ModelEvidence

    if model is None or isinstance(model, ModelEvidence):
        return model
    return ModelEvidence.of(quality, held_out_probabilities(store, model).persist())


def _evaluated(store: Store, wanted: str) -> Any:
    """Return the estimator that an evaluation found best, not fitted."""
    from ..errors import Hint, InvalidOptionError
    from ..report.trials import stored_evaluations
    from .bound import named_estimator

    for evaluation in reversed(stored_evaluations(store)):
        known = [m for m in evaluation.models if wanted in ("", m.spec.kind) and _again(m)]
        if known:
            best = max(known, key=lambda model: _best(model)[1])
            names = NAMES.get(best.spec.kind, {})
            settings = {**best.spec.parameters, **_best(best)[0]}
            estimator = named_estimator(store, best.spec.kind, ())
            return estimator.set_params(**{names.get(k, k): v for k, v in settings.items()})
    what = f" of {wanted}" if wanted else ""
    raise InvalidOptionError(
        f"{store.url} has no evaluation{what} whose model can be fitted on folds (knn, forest, or "
        "the import path of an estimator)",
        Hint("call dr.evaluate", f"run `dskrobust evaluate {quote(store.url)} --model knn`"),
    )


def _again(model: ModelTrials) -> bool:
    """Whether a model can be fitted as an estimator of scikit-learn."""
    kind = model.spec.kind
    return kind in NAMES or ("." in kind and ":" not in kind)


def _best(model: ModelTrials) -> tuple[dict[str, Any], float]:
    """Return the setting with the highest mean accuracy over all subsets, and that."""
    names = list(model.spec.grid)
    if not names:
        return {}, float(model.table["acc"].mean())
    means = model.table.groupby(names, sort=True)["acc"].mean()
    first = means.idxmax()
    values = first if isinstance(first, tuple) else (first,)
    plain = (value.item() if hasattr(value, "item") else value for value in values)
    return dict(zip(names, plain, strict=True)), float(means.max())
