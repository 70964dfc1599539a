"""Plans as arithmetic: every pair once, bytes as they are read, a peak that is within the limit."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel_cases import Arrays, reduce_ranges

import dskrobust as dr
from dskrobust.engine.plan import (
    BASE_BYTES,
    KEPT_BYTES,
    MIB,
    USABLE,
    Resources,
    make_plan,
    pairs_of,
)
from dskrobust.engine.spec import PairSpec, make_context
from dskrobust.engine.workload import (
    BOXED_BLOCK,
    SPLIT_EVERY,
    WHOLE_UNITS,
    Workload,
    cut_blocks,
)
from dskrobust.errors import MemoryPlanError
from dskrobust.labels import LabelMap
from dskrobust.store import Block, summarise

GIB = 2**30


@st.composite
def workloads(draw, rows=100_000, segments=4):
    parts = draw(st.lists(st.integers(1, rows), min_size=1, max_size=segments))
    stored = draw(st.sampled_from([1, 2, 4, 8]))
    done = draw(st.integers(0, len(parts) - 1))
    return Workload(
        tuple(parts),
        draw(st.integers(1, 20_000)),
        stored,
        draw(st.sampled_from([b for b in (1, 4, 8) if b >= stored or stored == 2])),
        draw(st.booleans()),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 2)),
        draw(st.sampled_from([1, 16, 1024, 65_536])),
        done,
        prefixed=draw(st.booleans()),
        stored=draw(st.booleans()),
    )


resources = st.builds(
    Resources,
    st.integers(1, 32),
    st.integers(1, 8),
    st.none() | st.integers(300 * MIB, 64 * GIB),
)
sizes = st.none() | st.integers(1, 5_000)


def planned(work, have, block=None, panel=None):
    """Make a plan where there is one."""
    try:
        return make_plan(work, have, block_rows=block, panel_rows=panel)
    except MemoryPlanError:
        assume(False)


@given(work=workloads(), have=resources, block=st.none() | st.integers(500, 9_000), panel=sizes)
def test_blocks_and_tiles_cover_every_pair_once(work, have, block, panel):
    plan = planned(work, have, block, panel)
    edges = np.cumsum([0, *work.segments])
    assert plan.blocks[0][0] == 0
    assert plan.blocks[-1][1] == work.rows
    for (_, hi), (lo, _) in zip(plan.blocks[:-1], plan.blocks[1:], strict=True):
        assert hi == lo
    for lo, hi in plan.blocks:
        assert lo < hi
        assert not ((edges > lo) & (edges < hi)).any()  # none crosses into another segment
    done = sum(work.segments[: work.done_segments])
    assert len(set(plan.tiles)) == len(plan.tiles)
    assert all(i <= j and plan.blocks[j][1] > done for i, j in plan.tiles)
    n = work.rows
    assert plan.pairs == n * (n - 1) // 2 - done * (done - 1) // 2
    assert plan.operations == 2.0 * work.columns * plan.pairs


@given(work=workloads(rows=60, segments=3), block=st.integers(1, 25))
def test_every_pair_is_in_exactly_one_tile(work, block):
    plan = make_plan(work, block_rows=block)
    seen = np.zeros((work.rows, work.rows), int)
    for i, j in plan.tiles:
        (a, b), (c, d) = plan.blocks[i], plan.blocks[j]
        seen[a:b, c:d] += 1
    done = sum(work.segments[: work.done_segments])
    upper = np.triu(np.ones_like(seen), 1)
    upper[:done, :done] = 0
    assert (seen[upper > 0] == 1).all()
    assert (seen[:done, :done] == 0).all()


@given(
    work=workloads(),
    have=resources,
    blocks=st.lists(st.integers(100, 9_000), min_size=2, max_size=2).map(sorted),
    panels=st.lists(st.integers(16, 9_000), min_size=2, max_size=2).map(sorted),
)
def test_peak_grows_with_blocks_and_panels(work, have, blocks, panels):
    have = replace(have, memory_limit=None)
    work = replace(work, stored=False)  # what is kept is what there is room for
    small, large = (make_plan(work, have, block_rows=b, panel_rows=panels[0]) for b in blocks)
    assert small.peak_bytes <= large.peak_bytes
    small, large = (make_plan(work, have, block_rows=blocks[0], panel_rows=p) for p in panels)
    assert small.peak_bytes <= large.peak_bytes
    assert small.bytes_read >= large.bytes_read
    more = make_plan(work, replace(have, threads=have.threads + 1), block_rows=100, panel_rows=16)
    assert more.peak_bytes > make_plan(work, have, block_rows=100, panel_rows=16).peak_bytes


@given(work=workloads(), have=resources, block=sizes, panel=sizes)
def test_peak_is_within_the_limit_or_refused(work, have, block, panel):
    assume(block is None or work.rows / block < 200)
    try:
        plan = make_plan(work, have, block_rows=block, panel_rows=panel)
    except MemoryPlanError as error:
        assert have.memory_limit is not None
        message = str(error)
        assert f"{work.rows:,} × {work.columns:,}" in message
        assert f"{have.memory_limit / MIB:,.0f} MiB" in message
        assert len(re.findall(r"[\d,]+ MiB", message)) == 2
        return
    assert plan.peak_bytes >= BASE_BYTES
    if have.memory_limit is not None:
        assert plan.peak_bytes <= have.memory_limit * USABLE
    # What a worker must hold at least: its panels, as they are computed from.
    panels = have.threads * sum(plan.panel_rows) * work.panel_row_bytes
    assert plan.peak_bytes >= panels + plan.kept_bytes
    if plan.kept_bytes:  # only what is read as a whole, and again
        largest = max(hi - lo for lo, hi in plan.blocks)
        assert work.stored
        assert len(plan.blocks) > 1
        assert min(plan.panel_rows) == largest
        assert largest * work.columns * work.stored_bytes <= plan.kept_bytes <= KEPT_BYTES


@given(work=workloads(), have=resources)
def test_what_waits_fits_or_is_in_the_store(work, have):
    work = replace(work, stored=True, resumable=True, state_bytes=1_000)
    plan = planned(work, have)
    waiting = min(len(plan.blocks), SPLIT_EVERY) * work.rows * work.state_bytes // have.workers
    assert plan.in_rounds or plan.peak_bytes >= BASE_BYTES + plan.kept_bytes + waiting


@given(work=workloads(), have=resources)
def test_a_refusal_says_what_would_do(work, have):
    have = replace(have, memory_limit=have.memory_limit or 400 * MIB)
    try:
        make_plan(work, have)
    except MemoryPlanError as error:
        needed = int(re.findall(r"([\d,]+) MiB", str(error))[1].replace(",", "")) + 1
        assert needed * MIB > have.memory_limit
        plan = make_plan(work, replace(have, memory_limit=needed * MIB))
        assert plan.peak_bytes <= needed * MIB * USABLE


@given(work=workloads(rows=200), panel=sizes)
def test_small_segments_are_not_refused(work, panel):
    # Blocks end where segments end, so panels may be smaller than the smallest that are chosen.
    roomy = Resources(1, 1, 1024 * GIB)
    plan = make_plan(work, roomy, block_rows=8, panel_rows=panel)
    assert plan.panel_rows[0] <= 8


def test_small_appends_fit():
    work = Workload((10, 10), 5, 8, 8, True, 1)
    assert len(make_plan(work, Resources(1, 1, 16 * GIB)).tiles) == 3


@settings(max_examples=100)
@given(
    rows=st.integers(1, 10_000_000),
    columns=st.sampled_from([1, 10, 58, 784, 3072, 16_384, 100_000]),
    have=resources,
    screened=st.booleans(),
)
def test_graphs_stay_small(rows, columns, have, screened):
    work = Workload((rows,), columns, 4, 4, screened, 2)
    plan = planned(work, replace(have, memory_limit=None))
    assert plan.tasks <= 12_000
    assert len(plan.tiles) <= 10_000
    assert len(plan.blocks) <= 140


@given(
    segments=st.lists(st.integers(1, 3_000), min_size=1, max_size=300),
    columns=st.sampled_from([10, 784]),
)
def test_many_appends_keep_the_graph_small(segments, columns):
    # Only the last segment is new: the others' pairs are known.
    work = Workload(tuple(segments), columns, 4, 4, True, 1, done_segments=len(segments) - 1)
    assert make_plan(work).tasks <= 12_000


@given(
    rows=st.integers(100_000, 5_000_000),
    columns=st.integers(1, 20_000),
    have=st.builds(Resources, st.integers(1, 32), st.integers(1, 8)),
)
def test_all_threads_have_work(rows, columns, have):
    plan = make_plan(Workload((rows,), columns, 4, 4, True, 1), have)
    each = 2 if columns <= max(BOXED_BLOCK) else 4
    assert len(plan.tiles) >= each * have.workers * have.threads


@given(
    segments=st.lists(st.integers(1, 5_000), min_size=1, max_size=5),
    size=st.integers(1, 6_000),
    unit=st.integers(1, 70),
)
def test_blocks_are_equal_and_long_ones_whole_units(segments, size, unit):
    blocks = cut_blocks(tuple(segments), size, unit)
    start = 0
    for rows in segments:
        mine = [hi - lo for lo, hi in blocks if start <= lo < start + rows]
        assert sum(mine) == rows
        assert len(set(mine[:-1])) <= 1
        assert mine[-1] <= mine[0] < size + unit
        if mine[0] >= WHOLE_UNITS * unit:
            assert len(mine) == 1 or mine[0] % unit == 0
        else:
            assert mine[0] - mine[-1] < len(mine)
        start += rows


def test_pairs_of():
    assert pairs_of((0, 10), (0, 10)) == 45
    assert pairs_of((0, 10), (10, 13)) == 30
    assert pairs_of((3, 4), (3, 4)) == 0


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("segments", [(100,), (60, 40), (33, 7, 60)])
@pytest.mark.parametrize(("block", "panel"), [(None, None), (50, None), (50, 17), (13, 5), (8, 1)])
def test_bytes_read_are_those_read(dtype, segments, block, panel):
    if panel == 1:  # a step for every pair of rows: fewer of them
        segments = tuple(-(-rows // 4) for rows in segments)
    n, rng = sum(segments), np.random.default_rng(0)
    X, y = rng.integers(0, 9, (n, 6)).astype(dtype), rng.integers(0, 3, n)
    codes, itemsize = np.zeros(n, np.int16), np.dtype(dtype).itemsize
    spec = PairSpec(dr.Euclidean(), LabelMap("categorical"), ("all",), 6, 1.0, (0,), X.dtype)
    work = Workload(segments, 6, itemsize, itemsize, True, 1)
    plan = make_plan(work, block_rows=block, panel_rows=panel)
    job = make_context(summarise(Block(X, y, codes)), spec).job(spec)
    arrays, rows = Arrays(X, y), 0
    for i, j in plan.tiles:
        tile = plan.blocks[i], plan.blocks[j], plan.panel_rows
        rows += reduce_ranges(arrays, *tile, job)[2].rows_read
    assert rows == sum(hi - lo for lo, hi in arrays.asked)
    assert plan.bytes_read == rows * 6 * itemsize
    assert plan.pairs == n * (n - 1) // 2
    assert max(hi - lo for lo, hi in arrays.asked) <= max(plan.panel_rows)


def test_panels_shrink_with_the_limit():
    work = Workload((65_000,), 16_384, 4, 4, True, 1)
    panels = [
        make_plan(work, Resources(2, 1, limit * MIB)).panel_rows for limit in (512, 1024, 8192)
    ]
    assert panels == sorted(panels)
    assert panels[0][0] < panels[2][0]
    assert make_plan(work, Resources(2, 1, None)).panel_rows[0] >= panels[2][0]
