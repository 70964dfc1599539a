"""Folds on the command line: which are meant, and what their scores come to."""

from __future__ import annotations

from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..engine.spec import PairSpec
    from ..folds import Folds
    from ..scores import Scores
    from ..store import Store

MOST_ROWS = 1_000_000  # of folds that are summed up without being asked for
SHOWN = ("least", "median", "largest")


def against_folds(
    store: Store, count: int | None, seed: int, spec: PairSpec
) -> tuple[Folds | None, PairSpec]:
    """Return the folds of a store's split or those to draw, and a run that scores against them."""
    from ..folds import has_folds, make_folds
    from ..references import reference_sets
    from ..runs import PairData

    if count is None and not has_folds(store):
        return None, spec
    folds = make_folds(store, count, seed=seed)
    if folds.references:
        sets = reference_sets(PairData(store, scale=spec.scale), folds.references)[0]
        spec = replace(spec, sets=sets)
    return folds, spec


def say_folds(folds: Folds, scores: Scores) -> None:
    """Say what R is in the training and the test sets of folds, with its spread over them.

    What the same pass says of the groups alone is kept for the other commands.
    """
    from ..folds import keep_groups
    from ..show import terminal

    keep_groups(scores)
    if scores.rows > MOST_ROWS:
        return
    shown = terminal.table("R in", "samples", *SHOWN)
    for group, found in folds.summary(scores).groupby("group", sort=False):
        low, high = (f"{end:,}" for end in (found["samples"].min(), found["samples"].max()))
        cells = [f"{found[name].mean():.4f} ± {found[name].std():.4f}" for name in SHOWN]
        terminal.add_row(shown, group, low if low == high else f"{low} to {high}", *cells)
    terminal.show(shown)
    drawn = folds.drawn or f"{folds.count} folds, groups of the split"
    terminal.fact("folds", drawn)
    terminal.fact("", "train is all folds but one, test that one; ± is the deviation over them")


def folds_summary_memory(folds: Folds, tasks: int) -> int:
    """Return how many bytes `say_folds` takes at most, with so many tasks at once."""
    from ..ranking import sorting_memory

    rows = sum(folds.sizes)
    return folds.count * sorting_memory(rows, tasks) if rows <= MOST_ROWS else 0


def next_command(address: str, folds: Folds | None) -> str:
    """Return what to do with the results of a run."""
    if folds is None or not folds.drawn:
        return f"dskrobust show {quote(address)}"
    seed = f" --seed {folds.seed}" if folds.seed else ""
    return f"dskrobust evaluate {quote(address)} --model knn --folds {folds.count}{seed}"
