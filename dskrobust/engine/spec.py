"""What a run and its tiles are, as frozen values; what is asked of the data as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Hint, InvalidDataError
from ..kernels import (
    ANY,
    SAME,
    LargestQuotient,
    PairJob,
    Reduction,
    Screen,
    Tuning,
    sample_pieces,
    warm_up,
)
from ..labels import OWN, LabelMap
from ..metrics import KernelForm, Metric
from ..store import SourceAddress, Summary, TileMemo
from .footprint import Footprint

SMALLEST_SIZE, LARGEST_SIZE = 1e-290, 1e150  # of features as distances are taken of them


TINY = 1e-100  # rows below this are multiplied up, or their squares would underflow


ONE_LABEL = Hint(
    "draw the split by class (test_size=0.2, stratify=True of ingest), or put the rows into a "
    "group with others",
    "ingest the data with a split by class (--test-size 0.2 --stratify), or put the rows into a "
    "group with others",
)

RULES = ("different", "same", "both", "any")  # which pairs count, by labels; no row with itself


@dataclass(frozen=True)
class ReferenceSets:
    """Overlapping sets of reference rows, cut into parts: rows that lie in the same sets.

    Attributes
    ----------
    names : tuple of str
    parts : tuple of tuple of int
        The parts that make up each set.
    count : int
        How many parts there are.
    digest : str
        Of which row lies in which part.
    """

    names: tuple[str, ...]
    parts: tuple[tuple[int, ...], ...]
    count: int
    digest: str


@dataclass(frozen=True)
class PairSpec:
    """What all tiles of a run share: rows × pair rule × metric × reduction.

    Attributes
    ----------
    metric : Metric
    labels : LabelMap
    groups : tuple of str
        Reference groups, the codes of a source's split; none where no row is scored in its own.
    columns : int
        Columns of the features.
    scale : float
    require_labels : tuple of int
        Codes of the groups that must hold two labels at least (paper, 3.1).
    dtype : numpy.dtype
        Of the features.
    rule : {"different", "same", "both", "any"}
        Labels of the pairs that count; of "both" rules each by itself (`BothLabels`).
    reduction : Reduction
    sets : ReferenceSets, optional
        Without them every group is a part of its own.
    prefixes : bool
        Whether prefixes of rows may be made: not where few new rows meet all others once.
    plain : bool
        Whether all pairs are computed without bounds (`Workload.plain`).
    """

    metric: Metric
    labels: LabelMap
    groups: tuple[str, ...]
    columns: int
    scale: float
    require_labels: tuple[int, ...]
    dtype: np.dtype[Any]
    rule: str = "different"
    reduction: Reduction = LargestQuotient()  # noqa: RUF009  frozen
    sets: ReferenceSets | None = None
    prefixes: bool = True
    plain: bool = False

    @property
    def form(self) -> KernelForm:
        """The metric as kernels take it."""
        return self.metric.form(self.columns, self.scale)

    @property
    def parts(self) -> int:
        """Into how many parts the reference rows are cut."""
        return len(self.groups) if self.sets is None else self.sets.count

    @property
    def set_names(self) -> tuple[str, ...]:
        """What rows are scored against."""
        return self.groups if self.sets is None else self.sets.names

    @property
    def scored(self) -> bool:
        """Whether the pairs of a row in its own group make its score."""
        return self.rule in ("different", "both") and bool(self.groups)

    @property
    def quotients(self) -> bool:
        """Whether Q is more than the reach's reciprocal."""
        return self.reduction.quotients

    @property
    def label_code(self) -> int:
        """How the kernels take ‖Δy‖, and which pairs count."""
        return {"same": SAME, "any": ANY}.get(self.rule, self.labels.code)

    @property
    def prefixed(self) -> bool:
        """Whether pairs can be screened by prefixes of their rows."""
        return self.prefixes and self.form.screened and not (self.quotients or self.plain)

    def warm_up(self, rows: int | None = None) -> None:
        """Compile the kernels (or load them from Numba's cache) before workers ask for them.

        Compiling takes seconds and more memory than a tile; workers on this machine then only
        load what one process compiled.

        rows: of the data set; without it what any number of rows may need is compiled.
        """
        context = Context(np.zeros(self.columns), 1.0, 1.0)
        prefixes = rows is None or bool(sample_pieces(rows, self.columns))
        warm_up(context.job(self), self.dtype, self.columns, prefixes=prefixes)

    def parameters(self) -> dict[str, Any]:
        """Return what results depend on, beside the data, as plain values."""
        labels = self.labels.parameters()
        if self.rule != "different":
            labels = {"labels": self.rule, "bound": None}
        sets = {} if self.sets is None else {"references": self.sets.digest}
        return {"metric": str(self.metric), "scale": self.scale, **labels, **sets}


@dataclass(frozen=True)
class Context:
    """What tiles need to know of all rows: how to centre them, and ‖y‖∞."""

    center: NDArray[np.float64]
    largest_feature: float
    label_norm: float

    def job(self, spec: PairSpec) -> PairJob:
        """Return the kernels' view of the run."""
        form, up = spec.form, 1.0
        if 0 < self.largest_feature < TINY and not form.widened:
            up = 2.0 ** min(-np.floor(np.log2(self.largest_feature)), 1000.0)
        screen = self._screen(form, up)
        norm = spec.labels.own_norm if spec.rule == "different" else None
        tuning = Tuning(plain=spec.plain)
        return PairJob(
            form, spec.label_code, spec.reduction, spec.parts, screen, up, tuning, norm
        )  # fmt: skip

    def _screen(self, form: KernelForm, up: float) -> Screen:
        if form.unit_rows:
            return Screen(None, 0.5)
        if form.matrix is not None:
            shift = 0.0 if form.center is None else float(np.abs(form.center).max())
            reach = (self.largest_feature + shift) * float(np.abs(form.matrix).sum(axis=1).max())
            return Screen(None, _power_below(reach))
        return Screen(self.center * up, _power_below(2 * self.largest_feature * up))


def _power_below(size: float) -> float:
    """Return the power of two that brings `size` to at most 1."""
    return float(2.0 ** min(-np.ceil(np.log2(size)), 1000.0)) if size > 0 else 1.0


def check_summary(summary: Summary, spec: PairSpec, own_norm: float = 0.0) -> float:
    """Check what the definitions ask of the data (paper, 3.1) and return ‖y‖∞.

    own_norm: the largest norm of a label by a user's norm, where somebody has looked.

    Raises
    ------
    InvalidDataError
        For fewer than two rows, or a group with one label.
    """
    if summary.rows < 2:
        raise InvalidDataError(f"robustness needs two samples at least, not {summary.rows}")
    for code in spec.require_labels:
        name = spec.groups[code]
        group = summary.groups.get(code)
        if group is None:
            raise InvalidDataError(f"group {name!r} has no rows; drop it from the split")
        if not group.varied:
            label = group.label[0] if len(group.label) == 1 else group.label
            same = f"the label {label:g}" if isinstance(label, float) else "the same label"
            raise InvalidDataError(
                f"all {group.rows} samples of group {name!r} have {same}; robustness needs two "
                "different labels in every group (paper, 3.1)",
                ONE_LABEL,
            )
    return spec.labels.norm_bound({**summary.label_bounds, OWN: own_norm})


def _check_sizes(largest: float, spec: PairSpec) -> None:
    """Refuse a scale or matrix that takes float64 squares or distances of the rows away."""
    form, size = spec.form, largest
    if form.matrix is not None:
        shift = 0.0 if form.center is None else float(np.abs(form.center).max())
        with np.errstate(over="ignore"):
            size = (largest + shift) * float(np.abs(form.matrix).sum(axis=1).max())
    elif not form.unit_rows and spec.scale != 1.0:
        size = largest * spec.scale
    else:
        return
    if largest > 0 and not SMALLEST_SIZE < size < LARGEST_SIZE:
        raise InvalidDataError(
            f"features of up to {largest:g} become {size:g} by {spec.metric} with a scale of "
            f"{spec.scale:g}; their distances would vanish or overflow. Choose another scale"
        )


@dataclass(frozen=True)
class TileSpec:
    """A `PairSpec` with how its tiles run.

    Attributes
    ----------
    pairs : PairSpec
    panel_rows : (int, int)
        Rows of either side in memory at once.
    memo : TileMemo, optional
        Where finished tiles are kept.
    budget : int, optional
        What the panels of a tile may take, in bytes.
    one_sided : bool
        Whether only the rows of a tile ask (queries), and its columns answer (references).
    need : Footprint, optional
        What a worker must have.
    """

    pairs: PairSpec
    panel_rows: tuple[int, int]
    memo: TileMemo | None = None
    budget: int | None = None
    one_sided: bool = False
    need: Footprint | None = None


@dataclass(frozen=True)
class Turn:
    """A tile's place in rounds (`rounds`).

    Attributes
    ----------
    number : int
        Its round.
    names : tuple of str
        Names under which the states of its blocks are memoised; one on the diagonal.
    """

    number: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class StateAddress:
    """Where a block's state is in the memo, after its round `number` or a later one.

    What tiles in rounds hand on, so that no worker holds states of rows it does not work on.
    """

    name: str
    number: int


@dataclass(frozen=True)
class TileTask:
    """A tile: two ranges of rows, the name under which it is memoised, its run and all its rows.

    turn: where tiles run in rounds, the tile's, and then the states of its blocks are memoised.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    memo_name: str
    run: str
    total: int
    turn: Turn | None = None

    @property
    def sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns."""
        return self.rows, self.columns


def make_context(summary: Summary, spec: PairSpec, norms: Sequence[float] = ()) -> Context:
    """Check the data as a whole and keep what tiles need; norms: the largest of every block."""
    norm = check_summary(summary, spec, max(norms, default=0.0))
    _check_sizes(summary.largest_feature, spec)
    return Context(summary.center, summary.largest_feature, norm)


def merged_context(known: Context, spec: PairSpec, more: Sequence[Summary]) -> Context:
    """Return what tiles need to know where more rows stand behind those of a data set."""
    largest = max(known.largest_feature, *(summary.largest_feature for summary in more))
    _check_sizes(largest, spec)
    return replace(known, largest_feature=largest)


def store_context(address: SourceAddress, spec: PairSpec, norms: Sequence[float] = ()) -> Context:
    """Like `make_context`, from the summary that the store keeps."""
    return make_context(address.open().summary, spec, norms)
