"""A part of one set whose samples are as robust, among themselves, as those of another set.

The paper asks for x̃ ⊂ x that is aligned with t (3.5). R within x̃ is not R within x: with fewer
samples around it R rises, the more so the fewer are left. So a choice by R within x says little of
what comes out. It is made, scored among itself, and corrected until it stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from .declared_types import checked_arguments
from .definitions import robustness_of
from .display import caption, card, counted, span, table
from .distributions import Distances, Sample, chance, distances, quantiles
from .engine.lazy import LazyArrays
from .errors import Hint, InvalidOptionError
from .kernels import QuotientState
from .members import inside
from .memory import check_memory
from .ranking import in_chunks
from .row_sets import ListedRows, cut_sets
from .runs import PairData, RunOptions
from .scores import Scores, checked_scores
from .searches import searching, symmetric_search
from .staircase import STEPS, Staircase, count_strata, rows_taken, staircase, taken
from .subsets import Subset
from .whole_numbers import check_whole, is_whole

if TYPE_CHECKING:
    import pandas as pd

ROUNDS = 10  # passes over the pairs of a choice, at most
TOLERANCE = 0.01  # Kolmogorov distance of two choices that count as the same
ROW_BYTES = 160  # of a sample that is taken: row, both R, and both in order
KEPT_BYTES = 24  # of one of a match that is kept: row and both R
_FEWER = Hint("take fewer samples", "take fewer samples")


class Round(NamedTuple):
    """A choice that was scored.

    Attributes
    ----------
    wasserstein, kolmogorov : float
        Distances of R within the choice from R within what it is to be like.
    wasserstein_within, kolmogorov_within : float
        The same of R within the set that was chosen from.
    shift : float
        Kolmogorov distance from the closest choice before; 1 for the first one.
    """

    wasserstein: float
    kolmogorov: float
    wasserstein_within: float
    kolmogorov_within: float
    shift: float


@dataclass(frozen=True)
class Match(Subset):
    """Samples of one set that are as robust, among themselves, as those of another set.

    A `Subset`: selections, evaluations and exports take it.

    Attributes
    ----------
    name : str
        Such as ``train_as_test_500``.
    indices : ndarray (k,) int64
        Global row numbers, from the least to the most robust within the choice.
    size : int
    scores : Scores
        What it was chosen by.
    intervals : None
        It is no interval of ranks.
    within, to : str
        What it was chosen from, and what it is to be like.
    rounds : tuple of Round
        All choices that were scored; the first one takes even steps of all, whatever their R.
    best : int
        Which of them this is: the one with the lowest Wasserstein distance.
    stable : bool
        Whether the last choice is as the closest one before, or it is as near as asked: within the
        tolerance, or within what two random draws of these sizes differ by.
    robustness : ndarray (k,) float64
        R within the choice, ascending, in the order of `indices`.
    robustness_within : ndarray (k,) float64
        R of the same samples in what they were chosen from.
    chance : float
        Below it lie 95 % of Kolmogorov distances of independent draws of these sizes.
    """

    within: str = ""
    to: str = ""
    rounds: tuple[Round, ...] = ()
    best: int = 0
    stable: bool = False
    robustness: Any = field(default=None, repr=False, compare=False)
    robustness_within: Any = field(default=None, repr=False, compare=False)
    chance: float = 0.0

    @property
    def distances(self) -> Round:
        """How far it is from what it is to be like."""
        return self.rounds[self.best]

    @property
    def words(self) -> list[str]:
        """What was found, in sentences."""
        found, even = self.distances, self.rounds[0]
        said = [
            f"{self.size:,} samples of {self.within} whose R among themselves is "
            f"{found.kolmogorov:.4f} from {self.to}'s (Kolmogorov; Wasserstein "
            f"{found.wasserstein:.4f}); as many at even steps are {even.kolmogorov:.4f} "
            f"({even.wasserstein:.4f}) from it."
        ]
        if found.kolmogorov <= self.chance:
            said.append(
                f"Two random draws of these sizes lie up to {self.chance:.4f} apart: this is as "
                "close as can be told."
            )
        elif self.stable:
            said.append(
                f"No choice of this size that was tried comes closer: {self.within} has too few "
                "samples of the kind. Try another size."
            )
        if not self.stable:
            said.append(
                f"Not stable: after {len(self.rounds)} choices they still change by "
                f"{self.rounds[-1].shift:.4f}; the closest one is kept. Here a few samples decide "
                "R of many others, so that a choice upsets what it was made by: judge the closest "
                "one by its distance alone, or try another size or weights."
            )
        return said

    def to_frame(self) -> pd.DataFrame:
        """Return row numbers and R within both sets as a table, least robust first.

        Columns: ``row``, ``robustness`` (within the choice), ``robustness_within`` (within what
        it was chosen from).
        """
        import pandas as pd

        columns = (self.indices, self.robustness, self.robustness_within)
        names = ("row", "robustness", "robustness_within")
        return pd.DataFrame(dict(zip(names, columns, strict=True)))

    def _repr_html_(self) -> str:
        head = ("choice", "Kolmogorov", "Wasserstein", f"by R within {self.within}", "shift")
        rows = [
            (f"{k + 1}{' (kept)' * (k == self.best)}", f"{r.kolmogorov:.4f}",
             f"{r.wasserstein:.4f}", f"{r.kolmogorov_within:.4f}", f"{r.shift:.4f}")
            for k, r in enumerate(self.rounds)
        ]  # fmt: skip
        state = "stable" if self.stable else "not stable"
        subtitle = f"{self.size:,} samples of {self.within}, like {self.to}, {state}"
        said = " ".join(self.words)
        return card(self.name, subtitle, said, caption("Choices, scored"), table(head, rows))


@checked_arguments("scores")
def match(
    scores: Scores,
    within: str,
    to: str,
    size: int,
    *,
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
    options: RunOptions | None = None,
) -> Match:
    """Choose samples of one set whose robustness among themselves is distributed as another's.

    The first choice takes even steps of the set. Every choice is scored among itself, in one pass
    over its own pairs, which says how R within it goes with R within the whole set; so the next one
    asks for what would have led to the wished distribution. Of the choices the closest is returned.

    Parameters
    ----------
    scores : Scores
        Computed or stored, against both sets.
    within, to : str
        Groups or reference sets; samples of `within` are chosen to be as robust as those of `to`.
    size : int
        How many samples.
    rounds : int
        Choices at most.
    tolerance : float
        Kolmogorov distance from `to`, or from the closest choice before, at which it is stable.
    options : RunOptions, optional
        How the passes run; results do not depend on it.

    Returns
    -------
    Match
        A subset, computed.

    Raises
    ------
    InvalidOptionError
        For an unknown set, more samples than there are, or scores that are not computed.
    MemoryPlanError
        Where what is chosen does not fit into this process.
    """
    sides = Sides.of(scores, within, to)
    size = _checked(sides.x, within, size, rounds)
    own, wished = sides.quantiles()
    made = [_scored(scores, sides, staircase(own, own), size, options)]
    kept, target, step = made[0], own, 1.0
    while len(made) < rounds and not kept.within(tolerance):
        further = target + step * (_corrected(wished, kept) - target)
        made.append(_scored(scores, sides, staircase(further, own), size, options, kept))
        if made[-1].found.wasserstein < kept.found.wasserstein:
            kept, target = made[-1], further
        else:
            step /= 2  # what a few samples do to all others is not told by quantiles
        if made[-1].found.shift <= tolerance:
            break
    near, last = chance(size, sides.t.size), made[-1].found.shift
    order = np.lexsort((kept.rows, kept.robustness))
    return Match(
        f"{within}_as_{to}_{size}", kept.rows[order], size, scores, None, within, to,
        tuple(choice.found for choice in made), made.index(kept),
        kept.within(max(tolerance, near)) or last <= max(tolerance, chance(size, size)),
        kept.robustness[order], kept.robustness_within[order], near,
    )  # fmt: skip


def matching_memory(sizes: Sequence[int]) -> int:
    """Return how many bytes matches of so many samples hold at most, one after the other."""
    return sum(sizes) * KEPT_BYTES + max(sizes) * ROW_BYTES


@checked_arguments("scores")
def match_curve(
    scores: Scores,
    within: str,
    to: str,
    sizes: Sequence[int],
    *,
    options: RunOptions | None = None,
) -> pd.DataFrame:
    """Match for several sizes: how close a part of a set can come, against how large it is.

    Parameters
    ----------
    scores : Scores
        Computed or stored, against both sets.
    within, to : str
        As for `match`.
    sizes : sequence of int
        How many samples, each in turn.
    options : RunOptions, optional
        How the passes run.

    Returns
    -------
    DataFrame
        A row per size: ``size``, ``share`` (of the set), ``kolmogorov``, ``wasserstein``, ``even``
        (Kolmogorov distance of as many samples at even steps), ``chance``, ``stable``, ``rounds``.
    """
    import pandas as pd

    made = [match(scores, within, to, size, options=options) for size in sizes]
    total = int(inside(scores, within).sum().compute())
    return pd.DataFrame(
        {
            "size": [m.size for m in made],
            "share": [m.size / total for m in made],
            "kolmogorov": [m.distances.kolmogorov for m in made],
            "wasserstein": [m.distances.wasserstein for m in made],
            "even": [m.rounds[0].kolmogorov for m in made],
            "chance": [m.chance for m in made],
            "stable": [m.stable for m in made],
            "rounds": [len(m.rounds) for m in made],
        }
    )


def blocks_of(columns: Sequence[da.Array]) -> list[Any]:
    """Return the delayed blocks of every column."""
    return [column.to_delayed().ravel() for column in columns]


@dataclass(frozen=True, eq=False)  # told apart by identity
class _Choice:
    """Rows (k,), rising, R of each within the whole set and among themselves, how far that is."""

    rows: NDArray[np.int64]
    robustness_within: NDArray[np.float64]
    robustness: NDArray[np.float64]
    found: Round

    def within(self, tolerance: float) -> bool:
        """Whether it is as near as asked."""
        return self.found.kolmogorov <= tolerance


class Sides(NamedTuple):
    """R of what is chosen from, and of what it is to be like."""

    x: Sample
    t: Sample

    @classmethod
    def of(cls, scores: Scores, within: str, to: str) -> Sides:
        lazy = checked_scores(scores).result is None and isinstance(scores.robustness, da.Array)
        if lazy or scores.spec is None:
            raise InvalidOptionError(
                "matching takes scores that are computed, and know what with",
                Hint(
                    "give those of sample_robustness(…).compute(), or .write() in a store",
                    "run `dskrobust compute STORE` before",
                ),
            )
        rows = inside(scores, within), inside(scores, to)
        sizes = compute(rows[0].sum(), rows[1].sum())
        for name, size in zip((within, to), sizes, strict=True):
            if not size:
                raise InvalidOptionError(f"{name} has no samples; choose another set")
        values = (
            in_chunks(scores.robustness_against(within)),
            in_chunks(scores.robustness_against(to)),
        )
        return cls(*(Sample(v, r, int(s)) for v, r, s in zip(values, rows, sizes, strict=True)))

    def quantiles(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Quantiles of both, at even steps."""
        even = np.linspace(0, 1, STEPS + 1).tolist()
        found = compute(*(quantiles(side.keys, side.size, even) for side in self))
        return found[0], found[1]


def _checked(x: Sample, within: str, size: Any, rounds: Any) -> int:
    if not is_whole(size, 2, x.size):
        raise InvalidOptionError(
            f"cannot choose {size!r} of the {counted(x.size, 'sample')} in {within}; give "
            f"{span(2, x.size)}"
        )
    check_whole("rounds", rounds)
    check_memory("a matched set", int(size), ROW_BYTES, _FEWER)
    return int(size)


def _chosen(
    x: Sample, wished: Staircase, size: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows (size,) that are taken, rising, and their R within the whole set."""
    values, rows = blocks_of(x.columns)
    edges = delayed(wished.edges)
    tally = delayed(count_strata, pure=True)
    tallies = compute(*(tally(v, i, edges) for v, i in zip(values, rows, strict=True)))
    before = np.cumsum([np.zeros_like(tallies[0]), *tallies], axis=0)
    available = before[-1]
    wanted = taken(available, wished, size)
    take = delayed(_taken, pure=True)
    starts = np.cumsum([0, *x.columns[0].chunks[0]]).tolist()
    parts = compute(
        *(
            take(v, i, edges, np.stack([so_far, available, wanted]), lo)
            for v, i, so_far, lo in zip(values, rows, before[:-1], starts[:-1], strict=True)
        )
    )
    found, own = (np.concatenate(column) for column in zip(*parts, strict=True))
    return found, own


def _taken(
    values: NDArray[np.float64],
    rows: NDArray[np.bool_],
    edges: NDArray[np.float64],
    counts: NDArray[np.int64],
    first: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    places = rows_taken(values, rows, edges, counts)
    return first + places, values[places]


def _among(scores: Scores, rows: NDArray[np.int64], options: RunOptions) -> NDArray[np.float64]:
    """Return R (k,) of rows among themselves: one pass over their pairs."""
    assert scores.spec is not None
    data = PairData(scores.store, scores.arrays, scores.spec.scale)
    parts = cut_sets(data.rows, (ListedRows(rows),)).references
    spec = replace(scores.spec, groups=("chosen",), require_labels=(), sets=None)
    search = symmetric_search(data, spec, parts, options)

    def task(state: Any, block: tuple[int, int]) -> tuple[Any, ...]:
        return (take_lipschitz, state)

    lazy = LazyArrays(search.graph).by_block("among", task, search.rows, (), np.float64)
    with searching([search]):
        lipschitz = lazy.compute()
    return np.asarray(robustness_of(lipschitz, float(np.asarray(scores.label_norm))))


def take_lipschitz(state: QuotientState) -> NDArray[np.float64]:
    """Q of a block's rows, in the one part there is."""
    return np.asarray(state.lipschitz[:, 0])


def _scored(
    scores: Scores,
    sides: Sides,
    wished: Staircase,
    size: int,
    options: RunOptions | None,
    kept: _Choice | None = None,
) -> _Choice:
    """Return a choice, scored among itself; kept: the closest one so far."""
    rows, before = _chosen(sides.x, wished, size)
    after = _among(scores, rows, options or RunOptions())
    own = Sample(after, None, size)
    asked = [distances(own, sides.t), distances(Sample(before, None, size), sides.t)]
    if kept is not None:
        asked.append(distances(own, Sample(kept.robustness, None, size)))
    found: tuple[Distances, ...] = compute(*asked)
    shift = 1.0 if kept is None else found[2].kolmogorov
    return _Choice(rows, before, after, Round(*found[0], *found[1], shift))


def _corrected(wished: NDArray[np.float64], choice: _Choice) -> NDArray[np.float64]:
    """Return the quantiles of R within the whole set that would have led to the wished ones.

    Quantiles of R before and after go with each other; beyond them both move alike.
    """
    even, before, after = (
        np.linspace(0, 1, len(wished)),
        choice.robustness_within,
        choice.robustness,
    )
    low, high = np.quantile(before, even), np.quantile(after, even)
    inner = np.interp(wished, high, low)
    beyond = np.minimum(wished - high[0], 0) + np.maximum(wished - high[-1], 0)
    return np.maximum.accumulate(inner + beyond)
