"""One self-contained HTML page of what a store holds. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..datasets import feature_texts
from ..declared_types import check_types, checked_arguments
from ..display import moment, shown_name
from ..export import ID, with_ids
from ..label_comparison import compare_samples
from ..outputs import check_output, whole_file
from ..show.overview import TOGETHER
from ..store import ResultTables, Store, current_results, open_store
from ..whole_numbers import check_whole
from . import figures
from .drawing import with_pictures
from .explorer import explorer
from .folds import Folded, by_folds, fold_matrices, models_of
from .further import further_sections
from .headlines import headlines, model_command, search_command
from .provenance import data_facts, data_notes, model_cost, score_costs
from .rendering import Image, drawn, photo, render_page
from .results import MOST_CLASSES, StoredResults, Subsets
from .tables import (
    CONTRADICTORY,
    NEARLY,
    class_table,
    closest_pairs,
    extremes,
    group_table,
    label_tables,
    subset_labels,
)
from .trials import ModelTrials, StoredEvaluation

TABULAR_RANKS = 10  # where there are no classes: of either end
TITLES = {  # of the page's sections, in their order
    "explore": "Samples to look through",
    "robustness": "How robust the samples are",
    "alignment": "Training and test set",
    "folds": "Folds",
    "samples": "Least and most robust samples",
    "pairs": "Contradictory and close pairs",
    "issues": "Suspicious labels",
    "hardness": "Instance hardness",
    "labels": "Labels of the subsets",
    "models": "What the subsets do to models",
    "tailoring": "What to train on for which samples",
    "data": "Data and provenance",
    "cost": "What it cost",
}
OPTIONAL = ("alignment", "folds", "hardness", "tailoring")  # sections that not every store has
FEATURES = 3  # that differ most, of a sample and its witness


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows.

    Attributes
    ----------
    samples : int
        Least and most robust samples of every class.
    pairs : int
        Closest pairs of different labels.
    issues : int
        Samples whose labels look wrong.
    subsets : mapping of str to str, or sequence of str
        Selections whose labels are shown; see `StoredResults`.
    anonymous : bool
        Whether folders, hosts and users are left out: of addresses the last part is shown.
    """

    samples: int = 4
    pairs: int = 20
    issues: int = 12
    subsets: Subsets = ()
    anonymous: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("samples", "pairs", "issues"):
            check_whole(name, getattr(self, name))


@checked_arguments()
def write_report(
    store: str | Path | Store,
    out: str | Path,
    result: ResultTables | None = None,
    options: ReportOptions | None = None,
) -> Path | str:
    """Write a report of a store's results as one HTML page that needs no network.

    Parameters
    ----------
    store : str or Store
    out : str or Path
        Of the page: a path or an fsspec URL.
    result : ResultTables, optional
        The newest one by default.
    options : ReportOptions, optional

    Raises
    ------
    StaleResultsError
        Where the store has no results for its data.
    InvalidOptionError
        Where matplotlib or Jinja is not installed, or a selection means nothing.
    """
    opened, options, path = open_store(store), options or ReportOptions(), check_output(out)
    results = StoredResults(opened, result or current_results(opened), options.subsets)
    page = render(results, options)
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def render(results: StoredResults, options: ReportOptions) -> str:
    """Return the page."""
    picked = explorer(results)
    shown = {"explorer": picked, **_shown(results, options)}
    return render_page(
        "report.html.jinja", shown, [results.store.url], picked.scripts,
        anonymous=options.anonymous,
    )  # fmt: skip


def _shown(results: StoredResults, options: ReportOptions) -> dict[str, Any]:
    """Everything that the page shows, by the template's names."""
    further = further_sections(results)
    titles = {k: title for k, title in TITLES.items() if k not in OPTIONAL or k in further}
    return {
        "titles": titles,
        "sections": list(titles.items()),
        "further": further,
        "store": results.store,
        "results": results,
        "version": version("dskrobust"),
        "date": moment(datetime.now(UTC).isoformat()),
        "headlines": headlines(results),
        "facts": data_facts(results, nameless=options.anonymous),
        "notes": data_notes(results),
        "groups": group_table(results),
        "distribution": _distribution(results),
        "alignment": _alignment(results),
        "sampled": results.overview.sample_line() if results.overview.is_sample else None,
        "classes": class_table(results.samples) if results.categorical else None,
        "most_classes": MOST_CLASSES,
        "more_classes": len(results.label_counts) - MOST_CLASSES if results.categorical else 0,
        "gallery": _gallery(results, options.samples),
        "close": {CONTRADICTORY: results.contradictions, NEARLY: results.near},
        "pairs": _pairs(results, options.pairs),
        "issues": _issues(results, options.issues),
        "issues_worth": _issues_worth(results),
        "oddities": _oddities(results),
        "find_issues": search_command(results, "issues"),
        "labels": label_tables(results),
        "label_figure": _label_figure(results),
        "evaluate": None if results.evaluations else model_command(results.store),
        "evaluations": _evaluations(results),
        "costs": score_costs(results.result),
        "model_costs": [model_cost(m) for e in results.evaluations for m in e.models],
    }


# -- parts of the page -----------------------------------------------------------------------


def _distribution(results: StoredResults) -> list[tuple[Image, str]]:
    """Figures of R, with their captions."""
    samples = results.samples
    groups = ", ".join(map(str, samples["group"].cat.categories))
    medians = group_table(results)["median"].drop(TOGETHER, errors="ignore")
    said = ", ".join(f"{group} {value:.3f}" for group, value in medians.items())
    images = [
        (
            drawn(figures.robustness_by_group(samples), f"Histogram of R, medians: {said}"),
            f"How R is distributed in {groups} (as the paper's Figure 9).",
        )
    ]
    if results.categorical:
        by_class = figures.robustness_by_class(samples)
        alt = "Histograms of R of every class; the medians are in the table below"
        caption = "How R is distributed in every class (as the paper's Figure 4)."
        images.append((drawn(by_class, alt), caption))
    return images


def _alignment(results: StoredResults) -> tuple[Image, str] | None:
    """The figure of the main group beside the next one, and what their alignment comes to."""
    if results.alignment is None:
        return None
    made, found = results.alignment
    near = f"Kolmogorov {found.kolmogorov:.3f}, Wasserstein {found.wasserstein:.3f}"
    figure = drawn(figures.aligned_robustness(made), f"R of {made.x} and of {made.t}: {near}")
    return figure, f"{' '.join(found.words)} ({near}; the paper's 3.5.)"


def _gallery(results: StoredResults, count: int) -> list[dict[str, Any]]:
    """The least and most robust samples of every class, as pictures or as rows of tables."""
    ranks = count if results.categorical else max(count, TABULAR_RANKS)
    samples = results.extreme_samples(ranks, results.labels_called(()), known=False)
    table = extremes(samples, results.main_group, ranks, MOST_CLASSES)
    names = list(table["label"].unique())
    table = table[table["witness"] >= 0]
    if results.store.spec.image_shape is None:
        table = table.assign(differs=_differences(results, table))
    rows = _sample_rows(results, table)
    return [
        {
            "name": name,
            "ends": {
                end: [row for row in rows if (row["label"], row["end"]) == (name, end)]
                for end in ("least", "most")
            },
        }
        for name in names
    ]


def _pairs(results: StoredResults, count: int) -> list[dict[str, Any]]:
    """The closest pairs of different labels."""
    samples, medians = results.lowest_pairs(count), results.median_lipschitz
    return _sample_rows(results, closest_pairs(samples, count, medians))


def _issues(results: StoredResults, count: int) -> list[dict[str, Any]] | None:
    """The labels that fit least, each between its witness and its nearest of the same label."""
    findings, found = results.label_findings, results.label_issues(count)
    if findings is None or found is None:
        return None
    table = with_ids(found, results.scores.ids)
    values = None
    if results.store.spec.image_shape is None:
        values = compare_samples(findings.quality, found)
    numbers = table[["row", "witness", "nearest_same"]].to_numpy(np.int64)
    pictures = results.pictures(numbers) if results.store.spec.image_shape is not None else {}
    issues = []
    named = table.reset_index() if table.index.name == ID else table
    for row, own in zip(named.to_dict("records"), numbers.tolist(), strict=True):
        labels = row["given_label"], row["suggested_label"], row["given_label"]
        row["samples"] = [
            {"row": k, "label": label, "picture": photo(pictures[k], f"row {k}, {label}")}
            if k in pictures
            else {"row": k, "label": label}
            for k, label in zip(own, labels, strict=True)
        ]
        for sample, name in zip(row["samples"], (ID, "witness_id", "nearest_same_id"), strict=True):
            sample |= {"id": row[name]} if name in row else {}
        own = None if values is None else values[values["row"] == row["row"]]
        row["values"] = [] if own is None else own.drop(columns="row").to_dict("records")
        issues.append(row)
    return issues


def _issues_worth(results: StoredResults) -> str:
    """How sure the suspicion is, in words; nothing where no errors were planted."""
    findings = results.label_findings
    return "" if findings is None else findings.thresholds.words()


def _oddities(results: StoredResults) -> list[tuple[str, int, str]]:
    """What else the searches found: kinds, numbers of samples, meanings."""
    found = results.data_issues
    if found is None:
        return []
    lines = [line for line in found.lines() if line[1]]
    for label, other, rows, _ in found.overlaps.itertuples(index=False):
        lines.append(
            (
                f"of {shown_name(label)}",
                rows,
                f"nearest to {shown_name(other)}: the classes overlap most",
            )
        )
    return lines


def _sample_rows(results: StoredResults, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table of samples with names of labels, and pictures where there are some."""
    table = table.assign(
        own_label=results.label_texts(table["row"]),
        witness_label=results.label_texts(table["witness"]),
    )
    if results.store.has_ids:
        table = table.assign(id=results.ids(table["row"]), witness_id=results.ids(table["witness"]))
    if results.store.spec.image_shape is not None:
        table = with_pictures(results, table)
    rows = []
    for values in table.itertuples(index=False):
        row = values._asdict()
        for picture, number, label in (
            ("picture", "row", "own_label"),
            ("witness_picture", "witness", "witness_label"),
        ):
            if picture in row:
                row[picture] = photo(row[picture], f"row {row[number]}, {row[label]}")
        rows.append(row)
    return rows


def _differences(results: StoredResults, table: pd.DataFrame) -> list[list[str]]:
    """The features in which samples and their witnesses differ most, in their own units."""
    store = results.store
    rows = np.unique(np.concatenate([table["row"], table["witness"]]))
    features = store.features[rows].astype(np.float64)
    names = store.spec.column_names(store.columns)
    place = {int(row): k for k, row in enumerate(rows)}
    differences = []
    for row, witness in zip(table["row"], table["witness"], strict=True):
        pair = features[[place[row], place[witness]]]
        gap = np.abs(pair[0] - pair[1])
        own, other = (feature_texts(store.spec, values) for values in pair)
        order = [k for k in np.argsort(-gap, kind="stable")[:FEATURES] if gap[k] > 0]
        differences.append([f"{names[k]} {own[k]} → {other[k]}" for k in order])
    return differences


def _label_figure(results: StoredResults) -> Image | None:
    if not results.has_real_labels:
        return None
    subsets = [subset for several in results.subsets.values() for subset in several]
    figure = figures.label_histograms(subset_labels(results, subsets))
    names = ", ".join(subset.name for subset in subsets)
    return drawn(figure, f"Histograms of the labels in {names}; quantiles are in the tables")


def _evaluations(results: StoredResults) -> list[dict[str, Any]]:
    single, folded = by_folds(results.evaluations)
    return [*map(_evaluation, single), *map(_folds, folded)]


def _folds(folds: Folded) -> dict[str, Any]:
    return {
        "seed": folds[0].facts["experiment"]["seed"],
        "models": [_model_of_folds(models, folds[0].tests[0]) for models in models_of(folds)],
    }


def _model_of_folds(models: Sequence[ModelTrials], first: str) -> dict[str, Any]:
    matrices = fold_matrices(models, first)
    return {
        "name": f"{models[0].spec.name}, {len(models)} folds",
        "steps": sum(len(model.steps) for model in models),
        "finished": moment(max(model.steps["date"].max() for model in models)),
        "matrices": [matrix.sheet() for matrix in matrices],
        "advice": matrices[0].advice(),
        "curves": [],
    }


def _evaluation(evaluation: StoredEvaluation) -> dict[str, Any]:
    return {
        "seed": evaluation.facts["experiment"]["seed"],
        "models": [_model(model, evaluation.tests[0]) for model in evaluation.models],
    }


def _model(model: ModelTrials, first: str) -> dict[str, Any]:
    matrices = [
        m for best in model.ways(first) for loss in model.losses for m in model.matrices(best, loss)
    ]
    curves = []
    for measure in model.measures if model.is_curve else ():
        assert model.sweep is not None
        figure = figures.hyperparameter_curves(model.table, model.sweep, [measure], model.others)
        words = f"{measure.upper()} of {model.spec.name} over {model.sweep}"
        curves.append((drawn(figure, f"{words}, a panel for each test subset"), words))
    for measure in ("loss", "acc") if model.curves is not None else ():
        assert model.curves is not None
        words = f"{measure.upper()} of {model.spec.name} over the epochs"
        curves.append((drawn(figures.learning_curves(model.curves, measure), words), words))
    return {
        "name": model.spec.name,
        "steps": len(model.steps),
        "finished": moment(model.steps["date"].max()),
        "matrices": [m.sheet() for m in matrices],
        "advice": [],
        "curves": curves,
    }
