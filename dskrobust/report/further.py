"""What a store has of alignments, folds, tailoring and instance hardness. Computes no search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, islice
from typing import Any, NamedTuple

import pandas as pd

from ..advice_tables import StoredAdvice, kept_advice
from ..alignments import AlignmentSummary, alignment, alignment_memory
from ..errors import InvalidOptionError
from ..folds import known_folds
from ..hard_samples import CLASS_HEAD, class_rows, hardest_rows, hardness_memory
from ..hardness import InstanceHardness, instance_hardness
from ..label_fit import most_labels
from ..labels import LabelMap
from ..ranking import sorting_memory
from ..robustness import sample_robustness
from ..scores import Scores
from ..store import ResultTables, Store, find_results
from ..subsets import INDEX_BYTES, Subset, select_subset
from .results import MOST_CLASSES, StoredResults

MOST_GROUPS = 8  # beside the main one, that it is compared with
MOST_SELECTIONS = 8  # pairs of them, that are compared
MOST_FOLDED = 1_000_000  # rows of folds that are summed up
HARDNESS = "instance hardness"  # the search of stored measures
HARDEST = 12  # samples that are listed
FOLD_SHARES = ("least", "median", "largest")


class Table(NamedTuple):
    """A table of texts.

    Attributes
    ----------
    caption : str
    heads : tuple of str
    rows : list of sequence of str
    text : tuple of int
        Columns of text, to the left.
    """

    caption: str
    heads: tuple[str, ...]
    rows: list[Any]
    text: tuple[int, ...] = (0,)


class Section(NamedTuple):
    """What a section of the page says.

    Attributes
    ----------
    words : list of str
        Sentences, what was decided first.
    tables : list of Table
    """

    words: list[str]
    tables: list[Table]


def alignment_section(results: StoredResults) -> Section | None:
    """Return how R is aligned in groups, and in the selections that the store has scores against.

    None where there is one group and no such selection.
    """
    main, counts = results.main_group, results.group_counts
    others = sorted((g for g in counts if counts[g] and g != main), key=lambda g: -counts[g])
    groups = [alignment(results.scores, main, other).summary() for other in others[:MOST_GROUPS]]
    selections = [
        alignment(scores, x, t).summary()
        for scores, x, t in islice(_selected_pairs(results), MOST_SELECTIONS)
    ]
    words = [line for one in (*groups, *selections) for line in one.words]
    tables = [_groups_table(groups)] if groups else []
    tables += [_selections_table(selections)] if selections else []
    return Section(list(dict.fromkeys(words)), tables) if tables else None


def _groups_table(found: list[AlignmentSummary]) -> Table:
    heads = ("group", "samples", "median R", "Kolmogorov", "by chance", "Wasserstein", "how near")
    caption = (
        f"R in {found[0].x} (median {found[0].median_x:.4f}) beside R in every other group (the "
        "paper's 3.5); by chance: what two random draws of these sizes stay below."
    )
    rows = [(one.t, f"{one.size_t:,}", f"{one.median_t:.4f}", *_apart(one)) for one in found]
    return Table(caption, heads, rows, (0, 6))


def _selections_table(found: list[AlignmentSummary]) -> Table:
    heads = ("set", "samples", "median R", "beside", "samples", "median R", "Kolmogorov",
             "by chance", "Wasserstein", "how near")  # fmt: skip
    rows = [
        (one.x, f"{one.size_x:,}", f"{one.median_x:.4f}",
         one.t, f"{one.size_t:,}", f"{one.median_t:.4f}", *_apart(one))
        for one in found
    ]  # fmt: skip
    return Table("R in selections that were scored, beside other sets.", heads, rows, (0, 3, 9))


def _apart(one: AlignmentSummary) -> tuple[str, ...]:
    numbers = (one.kolmogorov, one.chance, one.wasserstein)
    return (*(f"{value:.4f}" for value in numbers), one.verdict)


def _selected_pairs(results: StoredResults) -> Iterator[tuple[Scores, str, str]]:
    """Yield scores against selections with the names of two sets, the newest scores first.

    Selections that were scored together are compared with each other, one alone with the groups
    that it takes no samples of.
    """
    for known in reversed(_all_results(results.store)):
        if not _is_selected(known, results.result.parameters) or not known.covers(results.store):
            continue
        try:
            chosen = {
                name: select_subset(results.scores, name).compute()
                for name in known.facts["references"]
            }
        except InvalidOptionError:  # folds, or rows that were listed: no selections in words
            continue
        scores = sample_robustness(
            results.store, metric=results.metric, labels=LabelMap.of(results.result.parameters),
            references=chosen,
        )  # fmt: skip
        if scores.result is not None:  # else these names stood for other rows
            yield from ((scores, x, t) for x, t in _pairs(results, chosen))


def _pairs(results: StoredResults, chosen: Mapping[str, Subset]) -> Iterator[tuple[str, str]]:
    if len(chosen) > 1:
        yield from combinations(chosen, 2)
        return
    counts, names = results.group_counts, results.store.groups
    for name, subset in chosen.items():
        codes = {code for code, _ in subset.intervals or ()}
        if None in codes:  # of samples of all groups
            continue
        own = {names[code] for code in codes if code is not None}
        yield from ((name, group) for group in counts if counts[group] and group not in own)


def _is_selected(result: ResultTables, parameters: Mapping[str, Any]) -> bool:
    """Tell whether a result is of scores like some others, but against further sets."""
    own = {k: v for k, v in result.parameters.items() if k != "references"}
    return bool(result.facts.get("references")) and own == dict(parameters)


# -- folds -------------------------------------------------------------------------------------


def folds_section(results: StoredResults) -> Section | None:
    """Return R in the training and test sets of folds; None where no scores against any are there.

    Only the result's own metric and label map count.
    """
    if results.store.rows > MOST_FOLDED:
        return None
    labels = LabelMap.of(results.result.parameters)
    tables = []
    for folds in known_folds(results.store):
        try:
            scores = folds.robustness(metric=results.metric, labels=labels)
        except InvalidOptionError:  # a metric that only its function could compute
            return None
        if scores.result is None:
            continue
        found = folds.summary(scores)
        drawn = folds.drawn or f"{folds.count} folds, groups of the split"
        tables.append(_folds_table(drawn, found))
    if not tables:
        return None
    words = ["Of a fold, train is all others together and test is the fold itself."]
    return Section(words, tables)


def _folds_table(drawn: str, found: pd.DataFrame) -> Table:
    """Return R of either set of every fold, and its mean and deviation over them."""
    rows = [
        (f"{row['fold']}", row["group"], f"{row['samples']:,}",
         *(f"{row[name]:.4f}" for name in FOLD_SHARES))
        for row in found.to_dict("records")
    ]  # fmt: skip
    for group, part in found.groupby("group", sort=False):
        spread = (f"{part[name].mean():.4f} ± {part[name].std():.4f}" for name in FOLD_SHARES)
        rows.append(("all", str(group), f"{part['samples'].mean():,.0f}", *spread))
    heads = ("fold", "set", "samples", *(f"{name} R" for name in FOLD_SHARES))
    return Table(f"R in the sets of folds: {drawn}; ± is the deviation over them.", heads, rows,
                 (0, 1))  # fmt: skip


# -- tailoring ---------------------------------------------------------------------------------


def tailoring_section(results: StoredResults) -> Section | None:
    """Return what tailoring decided; None where nobody has tailored."""
    found = kept_advice(results.store)
    if not found:
        return None
    return Section(list(_decisions(found)), [_advice_table(one) for one in found])


def _decisions(found: list[StoredAdvice]) -> Iterator[str]:
    for one in found:
        before = f"{one.title}: " if len(found) > 1 else ""
        yield from (f"{before}{line}" for line in one.findings)


def _advice_table(one: StoredAdvice) -> Table:
    caption = f"Parts of the test spectrum, from the least to the most robust: {one.title}."
    return Table(caption, tuple(one.heads), list(one.rows), (0, 1, 2, 6))


# -- instance hardness -------------------------------------------------------------------------


def hardness_section(results: StoredResults) -> Section | None:
    """Return which classes and samples are hard; None where nobody has measured that."""
    found = _stored_hardness(results)
    if found is None:
        return None
    classes, hardest = found.by_class(), found.hardest(HARDEST)
    hard = int(classes["hard"].sum())
    words = [
        f"{hard:,} of {found.rows:,} samples are hard: most of their {found.k} nearest have "
        "another label.",
        "N2 above 0.5: the nearest is an enemy, a sample of another label. Useful: lies in so many "
        "local sets; harmful: is the nearest enemy of so many; Tomek: an enemy, both being the "
        "nearest of each other.",
    ]
    more = f", the first {MOST_CLASSES} of {len(classes):,}" if len(classes) > MOST_CLASSES else ""
    heads, rows = hardest_rows(hardest)
    return Section(words, [
        Table(f"Classes by their share of hard samples{more}.", CLASS_HEAD,
              class_rows(classes, MOST_CLASSES), (0, 1)),
        Table(f"The {len(rows)} hardest samples.", heads, rows, (0, 1, 2)),
    ])  # fmt: skip


def _stored_hardness(results: StoredResults) -> InstanceHardness | None:
    """Return the newest measures that the store holds, for the result's metric."""
    if results.label_findings is None:  # what some measures are read from
        return None
    for known in reversed(_all_results(results.store)):
        if _is_hardness(known, results.result.parameters) and known.covers(results.store):
            made = instance_hardness(
                results.store, k=int(known.parameters["k"]), metric=results.metric
            )
            return made if made.result is not None else None
    return None


def _all_results(store: Store) -> list[ResultTables]:
    return find_results(store, everything=True)


def _is_hardness(result: ResultTables, parameters: Mapping[str, Any]) -> bool:
    own = result.parameters
    return own.get("search") == HARDNESS and own["metric"] == parameters["metric"]


def further_memory(store: Store, tasks: int) -> int:
    """Return how many bytes these sections hold at most, with so many tasks in this process."""
    held = 0
    if any(known.parameters.get("search") == HARDNESS for known in _all_results(store)):
        classes = min(most_labels(store) * len(store.groups), store.rows)
        held = hardness_memory(HARDEST, classes, tasks or 1)
    if any(known.facts.get("references") for known in _all_results(store)):
        held = max(held, INDEX_BYTES * store.rows + alignment_memory(store.rows, tasks or 1))
    if tasks and store.rows <= MOST_FOLDED:
        folds = max((one.count for one in known_folds(store)), default=0)
        held = max(held, folds * sorting_memory(store.rows, tasks))
    return held


def further_sections(results: StoredResults) -> dict[str, Section]:
    """Return the sections that there are by their names on the page."""
    made = {
        "alignment": alignment_section(results),
        "folds": folds_section(results),
        "tailoring": tailoring_section(results),
        "hardness": hardness_section(results),
    }
    return {name: section for name, section in made.items() if section is not None}
