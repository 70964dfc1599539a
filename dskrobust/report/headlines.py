"""What matters most in a store, in words with numbers: each with its evidence and a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from shlex import join
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..display import counted, shown_name
from ..errors import InvalidOptionError
from ..evaluation.commands import evaluate_command
from ..evaluation.matrices import PerformanceMatrix
from ..metrics import resolve_metric
from ..store import Store
from ..subsets import class_name
from .results import StoredResults
from .tables import column_shares
from .trials import ModelTrials, trial_values

MOST = 5
OVERLAP = 0.01  # of a class, from which on it is worth a word
RARE = 0.01  # of all samples
MOSTLY = 0.5  # of the distance, by one column


class Headline(NamedTuple):
    """One of the things that matter.

    Attributes
    ----------
    words : str
        A sentence with its numbers.
    section : str
        The page's section with the evidence.
    command : str
        What acts on it; "" where there is none that works on this store.
    """

    words: str
    section: str
    command: str


def headlines(results: StoredResults) -> list[Headline]:
    """Return what matters most, at most `MOST`, the most urgent first.

    What is known comes before what nobody has looked at yet.
    """
    known: list[Callable[[StoredResults], Iterator[Headline]]] = [
        _contradictions, _suspicious, _overlaps, _columns, _models, _alignment, _oddities, _next,
    ]  # fmt: skip
    found = (headline for look in known for headline in look(results))
    return list(islice(found, MOST))


# -- commands that work on this store ----------------------------------------------------------


def search_command(results: StoredResults, command: str, *words: str) -> str:
    """Return a command of the stored metric; "" for a metric that only Python can give."""
    try:
        resolve_metric(results.metric)
    except InvalidOptionError:
        if results.metric != "mahalanobis":
            return ""
    metric = [] if results.metric == "euclidean" else ["-m", results.metric]
    return join(["dskrobust", command, results.store.url, *metric, *words])


def model_command(store: Store) -> tuple[str, str]:
    """Return the command that evaluates a model, or else why there is none."""
    try:
        return evaluate_command(store), ""
    except InvalidOptionError as error:
        return "", error.on_command_line


# -- what is known -----------------------------------------------------------------------------


def _contradictions(results: StoredResults) -> Iterator[Headline]:
    if count := results.contradictions:
        verb = "contradicts another" if count == 1 else "contradict others"
        said = f"{counted(count, 'sample')} {verb}: equal features, another label."
        yield Headline(said, "pairs", search_command(results, "issues", "--kind", "contradictions"))


def _suspicious(results: StoredResults) -> Iterator[Headline]:
    findings = results.label_findings
    if findings is None or not results.suspicious:
        return
    count = results.suspicious
    share = _share(count / results.store.rows)
    said = f"{count:,} label{'s are' if count > 1 else ' is'} suspicious ({share} of all)"
    precision = (
        findings.thresholds.overall("precision") if findings.thresholds.calibrated else np.nan
    )
    if not np.isnan(precision):
        said += f"; about {precision:.0%} of them would be wrong, were 1 % of all labels"
    yield Headline(f"{said}.", "issues", search_command(results, "review"))


def _overlaps(results: StoredResults) -> Iterator[Headline]:
    """The pair of classes of which one lies most in the other; a rare class beside it."""
    found = results.data_issues
    if found is not None and len(found.overlaps) and found.overlaps["share"][0] >= OVERLAP:
        label, other, rows, share = found.overlaps.iloc[0]
        of_all = rows / share / results.store.rows
        rare = f" is {_share(of_all)} of the data and" if of_all < RARE else ""
        said = (
            f"Class {shown_name(label)}{rare} overlaps {shown_name(other)}: {share:.1%} of it "
            f"({counted(rows, 'sample')}) {'lies' if rows == 1 else 'lie'} nearest to "
            f"{shown_name(other)}."
        )
        yield Headline(said, "issues", search_command(results, "issues", "--kind", "overlaps"))
    elif results.categorical and len(results.label_counts) > 1:
        value, rows = min(results.label_counts.tolist(), key=lambda pair: pair[1])
        if rows < RARE * results.store.rows:
            said = (
                f"Class {shown_name(class_name(results.store, value))} is "
                f"{_share(rows / results.store.rows)} of the data ({counted(rows, 'sample')})."
            )
            yield Headline(said, "robustness", search_command(results, "hardness"))


def _columns(results: StoredResults) -> Iterator[Headline]:
    shares = column_shares(results)
    if len(shares) > 1 and shares.iloc[0] >= MOSTLY:
        said = (
            f"Column {shown_name(shares.index[0])} makes {shares.iloc[0]:.0%} of the distance "
            f"between samples and their witnesses; the next one {shares.iloc[1]:.0%}. If that is "
            "not meant, ingest the data with --scale standard."
        )
        yield Headline(said, "samples", "")


def _models(results: StoredResults) -> Iterator[Headline]:
    """The training subset that changes most what a model makes of all test samples."""
    changes = [
        (*change, model.spec.kind)
        for evaluation in results.evaluations
        if evaluation.fold is None
        for model in evaluation.models
        for matrix in model.matrices(evaluation.tests[0])
        if (change := _change(model, matrix)) is not None
    ]
    if changes:
        _, said, kind = max(changes, key=lambda change: abs(change[0]))
        tailor = join(["dskrobust", "tailor", results.store.url, "--model", kind])
        yield Headline(said, "models", tailor)


def _change(model: ModelTrials, matrix: PerformanceMatrix) -> tuple[float, str] | None:
    """Return what another training subset than the first one changes, and how to say it."""
    measure = "acc" if "acc" in model.measures else "loss"
    values = getattr(matrix, measure)[0]
    if len(values) < 2 or not np.isfinite(values[0]) or not np.isfinite(values[1:]).any():
        return None
    gains = values - values[0]
    best = int(np.nanargmax(np.abs(gains[1:]))) + 1
    spread = _spread(model.table, matrix, measure, best)
    change = f"{gains[best]:+.4f}".replace("-", "−")
    return gains[best], (
        f"{model.spec.name} trained on {matrix.train[best]} instead of {matrix.train[0]}: "
        f"{measure.upper()} on {matrix.test[0]} changes by {change}{spread} "
        f"({values[0]:.4f} → {values[best]:.4f})."
    )


def _spread(table: pd.DataFrame, matrix: PerformanceMatrix, measure: str, best: int) -> str:
    """Return the standard error of a difference of means, where there were several trials."""
    if matrix.trials[0] < 2:
        return ""
    trials = (trial_values(table, matrix, measure, 0, k) for k in (0, best))
    squares = sum(float(values.var(ddof=1)) / len(values) for values in trials)
    return f" ± {np.sqrt(squares):.4f}"


def _alignment(results: StoredResults) -> Iterator[Headline]:
    if results.alignment is None:
        return
    made, found = results.alignment
    if found.kolmogorov > found.chance:
        size = str(max(2, min(found.size_t, found.size_x // 2)))
        command = search_command(
            results, "match", "--within", made.x, "--to", made.t, "--size", size
        )
        yield Headline(" ".join(found.words[:2]), "alignment", command)


def _oddities(results: StoredResults) -> Iterator[Headline]:
    said = {
        "duplicate": ("{} equal{} another of the same label, or nearly.", "duplicates"),
        "isolated": ("{} {} far from all others: errors of measurement, or something rare.",
                     "isolated"),
    }  # fmt: skip
    found = results.data_issues
    for kind, (words, option) in said.items() if found is not None else ():
        count = found.counts.get(kind, 0)  # type: ignore[union-attr]
        verb = ("is" if count == 1 else "are") if kind == "isolated" else "s" * (count == 1)
        if count:
            command = search_command(results, "issues", "--kind", option)
            yield Headline(words.format(counted(count, "sample"), verb), "issues", command)


def _next(results: StoredResults) -> Iterator[Headline]:
    """What nobody has looked at yet."""
    if results.label_findings is None and (results.categorical or results.has_real_labels):
        said = "Nobody has looked for suspicious labels yet."
        yield Headline(said, "issues", search_command(results, "issues"))
    if not results.evaluations:
        command, _ = model_command(results.store)
        if command:
            yield Headline("No model was trained on the subsets yet.", "models", command)


# -- words -------------------------------------------------------------------------------------


def _share(part: float) -> str:
    return f"{part:.1%}" if part >= 0.001 else "less than 0.1 %"
