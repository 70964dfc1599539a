"""Prefixes of a run: chosen from a sample, made block by block, kept with a store.

What is in a store keeps its prefixes there, and later runs and appended rows use the same basis;
what is not keeps them as the graph's own arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..blas import one_blas_thread
from ..kernels import (
    Basis,
    Depths,
    PairJob,
    Projector,
    Sample,
    choose_basis,
    kernel_rows,
    sample_pieces,
    sketch_rows,
)
from ..labels import LabelMap
from ..store import PREFIX_ROWS, PrefixArrays, SourceAddress, Store, load_basis, save_basis
from .sources import Source

READ_BYTES = 8 * 2**20  # features read at once to be projected
PART_BYTES = 8 * 2**20  # of prefixes written at once
FARTHEST = 1e12  # rows beyond this many units of a kept basis ask for a new one


@dataclass(frozen=True)
class Choice:
    """The basis of a run, and where a store keeps its prefixes.

    Attributes
    ----------
    basis : Basis
    arrays : PrefixArrays, optional
    missing : tuple of int
        Segments whose prefixes have to be made.
    """

    basis: Basis
    arrays: PrefixArrays | None = None
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """Prefixes of some rows: their checksums where they were written, else the values."""

    lo: int
    hi: int
    checksums: tuple[int, ...] = ()
    values: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RunPrefixes:
    """Finished prefixes of all rows of a run."""

    depths: Depths
    arrays: PrefixArrays | None
    parts: tuple[Part, ...] = ()

    def read(self, lo: int, hi: int) -> NDArray[np.float32]:
        """Prefixes of rows lo:hi, (hi - lo, k + 2) float32."""
        if self.arrays is not None:
            return self.arrays.read(lo, hi)
        found = [
            part.values[max(lo - part.lo, 0) : hi - part.lo]
            for part in self.parts
            if part.values is not None and part.lo < hi and lo < part.hi
        ]
        return found[0] if len(found) == 1 else np.concatenate(found)


def cut_parts(segments: tuple[int, ...], unit_rows: int, parts: int) -> list[tuple[int, int]]:
    """Cut every segment into ranges of whole chunks and units, about `parts` altogether."""
    unit = max(unit_rows, PREFIX_ROWS)
    size = -(-sum(segments) // max(1, parts))
    size = max(unit, -(-size // unit) * unit)
    found, start = [], 0
    for rows in segments:
        found += [(a, min(a + size, start + rows)) for a in range(start, start + rows, size)]
        start += rows
    return found


def take(
    source: Source,
    address: SourceAddress | None,
    job: PairJob,
    labels: LabelMap,
    plan: SamplePlan,
    part: tuple[int, int],
) -> Sample | None:
    """Take one of some parts of a run's sample; None where a store keeps a basis already.

    part: its number, and how many there are.
    """
    if address is not None and _kept(address.open(), plan, job) is not None:
        return None
    return _sample(source, job, labels, plan, part)


def choose(
    source: Source,
    address: SourceAddress | None,
    job: PairJob,
    labels: LabelMap,
    plan: SamplePlan,
    parts: Sequence[Sample | None],
) -> Choice | None:
    """Find the basis of a run: the one its store keeps, or a new one, or None if none pays.

    parts: what `take` took.
    """
    kept = _kept(address.open(), plan, job) if address is not None else None
    if kept is not None:
        return _prepare(kept)
    taken = [part for part in parts if part is not None]
    if len(taken) < len(parts):  # what was kept then is gone
        taken = [_sample(source, job, labels, plan)]
    basis = _find(taken, job, plan)
    if basis is None or address is None:
        return None if basis is None else Choice(basis)
    try:
        name = save_basis(address, plan.digest, _arrays_of(basis), _facts_of(basis))
        width = basis.depths.width
        return _prepare(Choice(basis, PrefixArrays(address, plan.digest, name, width)))
    except PermissionError:  # a store we may only read is screened by whole rows
        return None


def projected_depths(
    store: Store, job: PairJob, labels: LabelMap, plan: SamplePlan
) -> Depths | None:
    """Return the depths that a run on a store would choose, about; nothing is written.

    A run may take the sample in other parts, whose sketches are rounded differently.
    """
    kept = _kept(store, plan, job)
    if kept is not None:
        return kept.basis.depths
    if not plan.pieces:
        return None
    basis = _find([_sample(store, job, labels, plan)], job, plan)
    return None if basis is None else basis.depths


def _sample(
    source: Source,
    job: PairJob,
    labels: LabelMap,
    plan: SamplePlan,
    part: tuple[int, int] = (0, 1),
) -> Sample:
    """Read and sketch a part of the sample."""
    number, count = part
    pieces = plan.pieces[
        len(plan.pieces) * number // count : len(plan.pieces) * (number + 1) // count
    ]
    rows, codes = [], []
    for lo, hi in pieces:
        rows.append(kernel_rows(source.read("features", lo, hi), range(lo, hi), job))
        codes.append(labels.encode(source.read("labels", lo, hi))[:, 0])
    total = sum(hi - lo for lo, hi in plan.pieces)
    with one_blas_thread():
        return sketch_rows(np.concatenate(rows), np.concatenate(codes), job.screen, total)


def _find(parts: Sequence[Sample], job: PairJob, plan: SamplePlan) -> Basis | None:
    with one_blas_thread():
        return choose_basis(parts, job.screen, plan.rows)


@dataclass(frozen=True)
class SamplePlan:
    """What a basis is chosen for.

    Attributes
    ----------
    kind : str
        Everything that rows depend on before they are projected.
    rows, columns : int
    budget : int, optional
        Bytes that may be used.
    """

    kind: str
    rows: int
    columns: int
    budget: int | None

    @property
    def digest(self) -> str:
        """Short name of the kind."""
        return hashlib.sha256(self.kind.encode()).hexdigest()[:16]

    @cached_property
    def pieces(self) -> list[tuple[int, int]]:
        """Runs of rows that make the sample."""
        return sample_pieces(self.rows, self.columns, self.budget)


def _kept(store: Store, plan: SamplePlan, job: PairJob) -> Choice | None:
    """The basis that a store keeps, unless rows were appended that are far larger."""
    found = load_basis(store, plan.digest)
    if found is None:
        return None
    name, values, facts = found
    depths = Depths(**facts["depths"])
    if job.screen.unit * FARTHEST < depths.unit:
        return None
    basis = Basis(values["center"], values["matrix"], float(facts["stretch"]), depths)
    return Choice(basis, PrefixArrays(store.address, plan.digest, name, depths.width))


def _prepare(choice: Choice) -> Choice | None:
    """Create the arrays of segments that have no prefixes yet."""
    assert choice.arrays is not None
    missing = choice.arrays.missing()
    try:
        for segment in missing:
            choice.arrays.create(segment)
    except PermissionError:
        return None
    return replace(choice, missing=tuple(missing))


def _arrays_of(basis: Basis) -> dict[str, NDArray[Any]]:
    return {"center": basis.center, "matrix": basis.matrix}


def _facts_of(basis: Basis) -> dict[str, Any]:
    depths = basis.depths
    named = {k: getattr(depths, k) for k in ("columns", "short", "long", "unit")}
    return {"stretch": basis.stretch, "depths": named}


def make_part(source: Source, choice: Choice | None, job: PairJob, lo: int, hi: int) -> Part | None:
    """Project rows lo:hi (of one segment) and keep their prefixes."""
    if choice is None:
        return None
    segment, start = 0, 0
    if choice.arrays is not None:
        segment, start = _segment_of(choice.arrays.address.open(), lo)
        if segment not in choice.missing:
            return None
    checksums: list[int] = []
    project = Projector(choice.basis)
    width, arrays = choice.basis.depths.width, choice.arrays
    # what goes to a store goes there piece by piece: memory stays the same for any number of rows
    size = (
        hi - lo if arrays is None else PREFIX_ROWS * max(1, PART_BYTES // (PREFIX_ROWS * 4 * width))
    )
    for first in range(lo, hi, size):
        last = min(first + size, hi)
        out = np.empty((last - first, width), np.float32)
        with one_blas_thread():
            for a, b in _steps(source, first, last, choice.basis.depths.columns):
                rows = kernel_rows(source.read("features", a, b), range(a, b), job)
                project(rows, out[a - first : b - first])
        if arrays is None:
            return Part(lo, hi, values=out)
        checksums += arrays.write(segment, first - start, out)
    return Part(lo, hi, tuple(checksums))


def _steps(source: Source, lo: int, hi: int, columns: int) -> list[tuple[int, int]]:
    """Ranges of rows that are read at once: whole units of a store."""
    size = max(1, READ_BYTES // (8 * columns * source.unit_rows)) * source.unit_rows
    return [(a, min(a + size, hi)) for a in range(lo, hi, size)]


def _segment_of(store: Store, row: int) -> tuple[int, int]:
    """Number and first row of the segment that a row lies in."""
    start = 0
    for k, (rows, _) in enumerate(store.segments):
        if row < start + rows:
            return k, start
        start += rows
    raise IndexError(f"row {row} lies beyond the {start} rows there are")


def finish(choice: Choice | None, parts: list[Part | None]) -> RunPrefixes | None:
    """Make the prefixes of all rows readable."""
    if choice is None:
        return None
    made = sorted((part for part in parts if part is not None), key=lambda part: part.lo)
    if choice.arrays is None:
        return RunPrefixes(choice.basis.depths, None, tuple(made))
    store = choice.arrays.address.open()
    for segment in choice.missing:
        mine = [part for part in made if _segment_of(store, part.lo)[0] == segment]
        choice.arrays.commit(segment, [c for part in mine for c in part.checksums])
    return RunPrefixes(choice.basis.depths, choice.arrays)
