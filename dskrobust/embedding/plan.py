"""From what a first batch took to the rows of a block, and the peak of a worker."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.footprint import USABLE
from ..engine.plan import MIB, Resources, base_bytes
from ..engine.workload import READ_BYTES
from ..errors import Hint, MemoryPlanError

BLOCK_BYTES = 32 * MIB  # of a block as it is stored, and of what comes out of it
BLOCK_SECONDS = 15.0  # that a block should take at most
BLOCKS_PER_THREAD = 4
WRITES = 4  # pieces of a write that a thread holds: blocks, joined, coded, those of the next

LESS = Hint(
    "give workers more memory, fewer threads, or take a smaller EmbeddingOptions(batch_rows=…)",
    "give workers more, --memory-limit SIZE, fewer --threads, or take a smaller --batch-rows",
)


@dataclass(frozen=True)
class Probe:
    """What one worker found when it loaded the model and embedded the first rows.

    Attributes
    ----------
    width : int
        Columns of the embedding.
    model_bytes : int
        By which its process grew as the model was loaded, libraries included.
    batch_bytes : int
        By which it grew beyond that while a batch was worked on, at most.
    resident_bytes : int
        Of its process with the model in it.
    seconds : float
        That a batch took.
    """

    width: int
    model_bytes: int
    batch_bytes: int
    resident_bytes: int
    seconds: float


@dataclass(frozen=True)
class EmbeddingPlan:
    """How rows are cut, and what that takes of a worker.

    Attributes
    ----------
    blocks : tuple of (first row, last row + 1)
        They begin at multiples of a batch.
    peak_bytes : int
        Projected peak of a worker process.
    """

    blocks: tuple[tuple[int, int], ...]
    peak_bytes: int


@dataclass(frozen=True)
class EmbeddingWork:
    """What is to be embedded.

    Attributes
    ----------
    rows, batch_rows : int
    row_bytes : int
        Of a stored row.
    unit_bytes : int
        Of what is decoded together at least.
    write_rows : int
        Rows of one write of the new store.
    """

    rows: int
    batch_rows: int
    row_bytes: int
    unit_bytes: int
    write_rows: int


def make_embedding_plan(work: EmbeddingWork, probe: Probe, resources: Resources) -> EmbeddingPlan:
    """Choose blocks that keep the memory limit, and of which every thread has some.

    Raises
    ------
    MemoryPlanError
        Where not even blocks of a single batch do.

    Examples
    --------
    >>> work = EmbeddingWork(10_000, 64, 784, 4 * MIB, 32_768)
    >>> plan = make_embedding_plan(work, Probe(512, 0, 0, 0, 0.01), Resources(2, 1))
    >>> plan.blocks[0], len(plan.blocks)
    ((0, 1216), 9)
    """
    a_row = work.row_bytes + 4 * probe.width
    threads = resources.workers * resources.threads
    most = min(
        BLOCK_BYTES // a_row,
        int(work.batch_rows * BLOCK_SECONDS / max(probe.seconds, 1e-6)),
        work.rows // (BLOCKS_PER_THREAD * threads),
    )
    own = max(base_bytes() + probe.model_bytes, probe.resident_bytes) + probe.batch_bytes
    written = WRITES * min(work.write_rows, work.rows) * 4 * probe.width
    fixed = own + resources.threads * (written + 2 * max(READ_BYTES, work.unit_bytes))
    limit = resources.memory_limit
    if limit is not None:
        left = int(limit * USABLE) - fixed
        most = min(most, left // (resources.threads * a_row))
        if left < resources.threads * a_row * min(work.batch_rows, work.rows):
            needed = fixed + resources.threads * a_row * min(work.batch_rows, work.rows)
            raise MemoryPlanError(
                f"embedding takes about {needed / MIB:,.0f} MiB of a worker of "
                f"{resources.threads} thread(s), {own / MIB:,.0f} MiB of it the model and a batch "
                f"of {work.batch_rows} rows; the limit is {limit / MIB:,.0f} MiB, of which Dask "
                f"leaves {USABLE:.0%} usable",
                LESS,
            )
    step = max(1, most // work.batch_rows) * work.batch_rows
    blocks = tuple((a, min(a + step, work.rows)) for a in range(0, work.rows, step))
    peak = fixed + resources.threads * a_row * min(step, work.rows)
    return EmbeddingPlan(blocks, peak)
