"""Stored evaluations of folds, as one: mean and spread over the folds."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..evaluation.fold_matrices import FoldsMatrix, fold_matrix
from ..evaluation.protocol import Choice
from .trials import ModelTrials, StoredEvaluation

Folded = tuple[StoredEvaluation, ...]  # by the fold's number


def by_folds(
    evaluations: Sequence[StoredEvaluation],
) -> tuple[list[StoredEvaluation], list[Folded]]:
    """Return evaluations of one split, and those of folds together where every fold has some."""
    single: list[StoredEvaluation] = []
    folded: dict[str, dict[int, StoredEvaluation]] = {}
    for evaluation in evaluations:
        if evaluation.fold is None:
            single.append(evaluation)
            continue
        number, *same = (evaluation.fold[name] for name in ("number", "of", "drawn"))
        identity = json.dumps([evaluation.facts["experiment"], *same])
        folded.setdefault(identity, {})[number] = evaluation
    whole = [
        tuple(known[number] for number in sorted(known))
        for known in folded.values()
        if len(known) == next(iter(known.values())).fold["of"]  # type: ignore[index]
    ]
    return single, whole


def models_of(folds: Folded) -> list[tuple[ModelTrials, ...]]:
    """Return the models that every fold has, with their trials of each."""
    known = [{_identity(model): model for model in fold.models} for fold in folds]
    return [
        tuple(models[name] for models in known)
        for name in known[0]
        if all(name in models for models in known)
    ]


def fold_matrices(models: Sequence[ModelTrials], first: str) -> list[FoldsMatrix]:
    """Return the matrices of a model over folds, as `ModelTrials.matrices` has them of one.

    Parameters
    ----------
    models : sequence of ModelTrials
        The model's, of every fold.
    first : str
        The test subset that chooses.
    """
    own = models[0]
    return [
        fold_matrix(
            [model.table for model in models],
            Choice(own.sweep, best, own.by),
            loss_high=own.loss_high,
            fixed=setting,
            loss=loss,
        )
        for best in own.ways(first)
        for loss in own.losses
        for setting in own.settings
    ]


def _identity(model: ModelTrials) -> str:
    return json.dumps([model.spec.name, model.spec.identity()], sort_keys=True)
