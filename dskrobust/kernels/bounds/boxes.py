"""Few columns: the rows of a leaf look for their nearest among boxes, nearest boxes first.

A box gives every row outside it a least distance. It is summed up like a distance, and rounding
never turns an order around, so it is a bound but for the order of summation (`Rules.slack`).
Pairs that no box rules out are compared in float64, in the order of `distances.reduced`; what can
change a state is computed by `reduced` itself and accepted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...labels import CATEGORICAL
from ...metrics import CHEBYSHEV, CHORD, CITYBLOCK, MINKOWSKI
from ..compiling import inlined, kernel
from ..distances import SCRATCH, finish, reduced, unfinish
from ..job import Measure, PairJob
from ..label_distances import ANY, label_difference
from ..proof import Side
from ..reductions.base import NOBODY, accept, better, last_row, radius, steepest
from .box_bounds import TINY, between, label_bounds, label_gap, to_box
from .leaf_sums import accumulate
from .trees import CHILD, LOWEST, PART, PLACE, START, STOP, WIDTH, Trees, padded

STEEP = 1e308  # larger quotients count as infinite
STACK = 4096  # nodes waiting; trees are halved, but for regions parted by label
TRIAL = 32  # every 32nd leaf goes first, to see whether boxes rule pairs out
FEW_LEAVES = 8  # not worth a trial
LIMIT, WEIGHT, BOUND, BOX_DY = range(4)  # rows of `Work.need`


class Rules(NamedTuple):
    """What a pair is measured by.

    Attributes
    ----------
    measure : Measure
    label_code : int
    quotients : bool
    stretch : float
        Σt² is at most this times the square of what the metric accumulates (Minkowski only).
    slack : float
        Relative, for sums in different orders: (d + 8)·2⁻⁵⁰, where they differ by 2d·2⁻⁵³.
    """

    measure: Measure
    label_code: int
    quotients: bool
    stretch: float
    slack: float


class Work(NamedTuple):
    """Scratch of one search.

    Attributes
    ----------
    need : ndarray (4, w) float64
        For every row of the leaf that searches: LIMIT, what a pair that lowers the reach may
        accumulate at most; WEIGHT, label differences times this beat the quotient (0 without
        quotients); BOUND and BOX_DY, the bounds for the box at hand.
    last : ndarray (w,) int64
        Rows from this number on change nothing any more.
    chosen : ndarray (w,) int64
        Rows that are near enough to the box at hand.
    value, dy : ndarray (w,) float64
        What one row and the rows of a leaf accumulate, and their label differences, rounded up.
    parts, rows, lanes : scratch
    stack, bounds : ndarray (STACK,), (STACK, 2)
        Nodes waiting, each with the least distance and the largest ‖Δy‖ of its box.
    """

    need: NDArray[np.float64]
    last: NDArray[np.int64]
    chosen: NDArray[np.int64]
    value: NDArray[np.float64]
    dy: NDArray[np.float64]
    parts: NDArray[np.float64]
    rows: NDArray[np.float64]
    lanes: NDArray[np.float64]
    stack: NDArray[np.int64]
    bounds: NDArray[np.float64]


class Search(NamedTuple):
    """All that the rows of some leaves need to look for pairs in the trees of the other side.

    Attributes
    ----------
    mine, theirs : Trees
    rules : Rules
    work : Work
    a, b : Side
        Of the rows that search, and of the others.
    counts : ndarray (3,) int64
        Pairs of rows compared, pairs proven, pairs of leaves compared.
    own : bool
        Whether both are the same trees, where no row makes a pair with itself.
    """

    mine: Trees
    theirs: Trees
    rules: Rules
    work: Work
    a: Side
    b: Side
    counts: NDArray[np.int64]
    own: bool


def make_rules(job: PairJob, columns: int) -> Rules:
    """Return the rules of a job whose metric has box bounds."""
    measure, stretch = job.measure, 1.0
    if measure.code == MINKOWSKI:  # ‖t‖₂ ≤ d^(1/2 − 1/p)·‖t‖ₚ, and ‖t‖₂ ≤ ‖t‖ₚ for p ≤ 2
        stretch = columns ** max(0.0, 1 - 2 / measure.p) * (1 + 1e-12)
    slack = (columns + 8) * 2.0**-50
    return Rules(measure, job.label_code, job.reduction.quotients, stretch, slack)


def make_work(width: int, columns: int) -> Work:
    """Return scratch for leaves of at most `width` rows."""
    return Work(
        np.zeros((4, width)),
        np.empty(width, np.int64),
        np.empty(width, np.int64),
        np.empty(width),
        np.empty(width),
        np.empty((padded(columns), width)),
        np.empty((2, columns)),
        np.empty(SCRATCH),
        np.empty(STACK, np.int64),
        np.empty((STACK, 2)),
    )


def reduce_trees(
    mine: Trees, theirs: Trees, job: PairJob, sides: tuple[Side, Side]
) -> tuple[bool, NDArray[np.int64]]:
    """Reduce all pairs between the trees of two panels, or find that boxes rule out too few.

    What was accepted by then is right and stays; the caller goes through all pairs another way.
    Where that way is no product of categories, leaves are faster even if nothing is ruled out.

    Parameters
    ----------
    mine, theirs : Trees
        May be the same.
    job : PairJob
    sides : (Side, Side)
        Of both panels; written to.

    Returns
    -------
    bool
        Whether all pairs were reduced.
    ndarray (3,) int64
        Pairs of rows compared, pairs proven, and pairs of leaves between which any was compared.
    """
    counts, rules = np.zeros(3, np.int64), make_rules(job, mine.low.shape[1])
    products = job.form.screened and not job.reduction.quotients
    ways = [(mine, theirs, sides)]
    if mine is not theirs:
        ways.append((theirs, mine, (sides[1], sides[0])))
    for one, two, (a, b) in ways:
        places = np.arange(len(one.leaves))
        first = places % TRIAL == 0
        before = counts[0]
        search_leaves(one, two, places[first], rules, a, b, counts)
        everything = first.sum() * len(one.order) / len(places) * len(two.order)
        few = job.tuning.pays / job.reduction.named * everything  # more are proven of each
        if products and len(places) > FEW_LEAVES and counts[0] - before > few:
            return False, counts
        search_leaves(one, two, places[~first], rules, a, b, counts)
    return True, counts


def search_leaves(
    mine: Trees,
    theirs: Trees,
    places: NDArray[np.int64],
    rules: Rules,
    a: Side,
    b: Side,
    counts: NDArray[np.int64],
) -> None:
    """Let the rows of some leaves look for the pairs that matter to them in other trees.

    places: the leaves, as indices of `mine.leaves`. The others are as in `reduce_trees`.
    """
    width = max(mine.blocks.shape[2], theirs.blocks.shape[2])
    work = make_work(width, mine.low.shape[1])
    _search(Search(mine, theirs, rules, work, a, b, counts, mine is theirs), places)


@kernel()
def _search(search, some):
    mine, theirs, rules, work = search.mine, search.theirs, search.rules, search.work
    for s in some:
        for root in range(theirs.roots):
            _load(mine, s, theirs.nodes[root, PART], rules, work, search.a.state)
            _descend(search, s, root)


@kernel()
def _load(mine, place, part, rules, work, state):
    """Fetch what a leaf's rows have reached already."""
    leaf = mine.leaves[place]
    start = mine.nodes[leaf, START]
    need, last, order = work.need, work.last, mine.order
    for i in range(mine.nodes[leaf, STOP] - start):
        _refresh(need, last, i, order[start + i], part, rules, state)


@kernel()
def _refresh(need, until, i, row, part, rules, state):
    """Note what row i of the leaf has reached."""
    code, factor, reach = rules.measure.code, rules.measure.factor, radius(state, row, part)
    if reach < 0.0:  # closed: no pair matters
        need[LIMIT, i], need[WEIGHT, i], until[i] = -1.0, 0.0, -1
        return
    value = unfinish(code, factor, reach)
    if code == MINKOWSKI:
        value = value * value * rules.stretch + TINY
    need[LIMIT, i] = value * (1.0 + rules.slack)
    # At distance 0 only a lower row number is better, and at an infinite quotient.
    until[i] = last_row(state, row, part) if reach == 0.0 else NOBODY
    if rules.quotients:
        q, witness = steepest(state, row, part)
        scale = 1.0 if code == CHORD else factor  # an angle is no shorter than its chord
        weight = 1.0 / min(q, STEEP) / scale if q > 0.0 else np.inf
        need[WEIGHT, i] = weight * np.sqrt(rules.stretch) * (1.0 + 1e-12)
        until[i] = max(until[i], witness) if q == np.inf else NOBODY


@inlined()
def _weakest(need, last, size):
    """Return the leaf's largest limit, largest weight and last row number that matters."""
    limit, weight, until = 0.0, 0.0, last[0]
    for i in range(size):
        limit, weight = max(limit, need[LIMIT, i]), max(weight, need[WEIGHT, i])
        until = max(until, last[i])
    return limit, weight, until


@kernel()
def _descend(search, place, root):
    """Walk down a tree, the nearer child first, passing over boxes that are too far."""
    mine, theirs, rules, work = search.mine, search.theirs, search.rules, search.work
    code, steep, size = rules.measure.code, rules.quotients, _rows(mine, place)
    leaf, nodes, need, last = mine.leaves[place], theirs.nodes, work.need, work.last
    low, high, their_low, their_high = mine.low, mine.high, theirs.low, theirs.high
    labels = mine.label_low, mine.label_high, theirs.label_low, theirs.label_high
    stack, bounds, numbers = work.stack, work.bounds, search.b.numbers
    most, weight, until = _weakest(need, last, size)
    stack[0], bounds[0, 0] = root, 0.0
    bounds[0, 1] = label_gap(*labels, leaf, root, rules.label_code)
    top = 1
    while top > 0:
        top -= 1
        node = stack[top]
        bound, dy = bounds[top]
        if bound > most and not (steep and bound <= _steep(dy, weight, code)):
            continue
        if dy == 0.0 or numbers[nodes[node, LOWEST]] >= until:
            continue
        number = _active(mine, place, theirs, node, numbers, rules, work)
        if number == 0:
            continue
        near = nodes[node, CHILD]
        if near < 0:
            if _meet(search, number, place, node):
                most, weight, until = _weakest(need, last, size)
            continue
        far = near + 1
        near_bound, off = between(low, high, leaf, their_low, their_high, near, code)
        far_bound, far_off = between(low, high, leaf, their_low, their_high, far, code)
        if far_off < off:
            near, near_bound, far, far_bound = far, far_bound, near, near_bound
        for child, value in ((far, far_bound), (near, near_bound)):
            stack[top], bounds[top, 0] = child, value
            bounds[top, 1] = label_gap(*labels, leaf, child, rules.label_code)
            top += 1


@kernel(inline="always")
def _rows(trees, place):
    leaf = trees.leaves[place]
    return trees.nodes[leaf, STOP] - trees.nodes[leaf, START]


@kernel(inline="always")
def _steep(dy, weight, code):
    """What may be accumulated at most where ‖Δy‖ = dy beats a quotient."""
    t = dy * weight
    return (t if code in (CITYBLOCK, CHEBYSHEV) else t * t) + TINY


@inlined()
def _active(mine, place, theirs, node, numbers, rules, work):
    """Count the rows of a leaf that are near enough to a box, and list them for a leaf."""
    code, steep, need, size = rules.measure.code, rules.quotients, work.need, _rows(mine, place)
    box, lowest = (theirs.low[node], theirs.high[node]), numbers[theirs.nodes[node, LOWEST]]
    to_box(mine.blocks[place], size, *box, code, need[BOUND])
    if steep:
        box = theirs.label_low[node], theirs.label_high[node]
        label_bounds(mine.labels[place], size, *box, rules.label_code, need[BOX_DY])
    number = _count(need, size, steep, code)
    if number > 0 and theirs.nodes[node, CHILD] < 0:
        return _choose(need, work.last, size, lowest, steep, code, work.chosen)
    return number


@kernel(inline="always")
def _is_near(need, i, steep, code):
    within = need[BOUND, i] <= need[LIMIT, i]
    if steep:
        within |= need[BOUND, i] <= _steep(need[BOX_DY, i], need[WEIGHT, i], code)
    return within


@inlined()
def _count(need, size, steep, code):
    """Count the rows that are near enough; without a branch, so in vector code."""
    number = 0
    for i in range(size):
        number += _is_near(need, i, steep, code)
    return number


@inlined()
def _choose(need, last, size, lowest, steep, code, chosen):
    """List the rows that are near enough and not done with, and return how many."""
    number = 0
    for i in range(size):
        chosen[number] = i
        number += _is_near(need, i, steep, code) & (lowest < last[i])
    return number


@inlined()
def _meet(search, number, place, node):
    """Compare the chosen rows of a leaf with the rows of another; whether anything changed."""
    mine, theirs, rules, work = search.mine, search.theirs, search.rules, search.work
    code, leaf, other = rules.measure.code, mine.leaves[place], theirs.nodes[node, PLACE]
    width = -(-_rows(theirs, other) // WIDTH) * WIDTH
    need, value, dy = work.need, work.value, work.dy
    labels, their_labels = mine.labels[place], theirs.labels[other]
    pure = rules.label_code == ANY or (_pure(mine, leaf) and _pure(theirs, node))
    mixed = rules.quotients or not pure
    blocks, their_blocks, chosen = mine.blocks, theirs.blocks, work.chosen
    changed = False
    for c in range(number):
        i = chosen[c]
        limit, weight = need[LIMIT, i], need[WEIGHT, i]
        hits = accumulate(blocks[place], i, their_blocks[other], width, limit, code, work)
        if mixed:
            one = labels[:, i]
            label_bounds(their_labels, width, one, one, rules.label_code, dy)
            hits = _mixed_hits(value, dy, width, limit, weight, rules.quotients, code)
        if hits > 0:
            pair = place, i, other
            changed |= _settle(search, pair, mixed)
    search.counts[0] += number * width
    search.counts[2] += 1
    return changed


@inlined()
def _pure(trees, node):
    """Whether all rows below a node have one label."""
    for k in range(trees.label_low.shape[1]):
        if trees.label_low[node, k] != trees.label_high[node, k]:
            return False
    return True


@kernel()
def _mixed_hits(value, dy, width, limit, weight, steep, code):
    """How many rows differ in label and are near enough for the reach or the quotient."""
    hits = 0
    for j in range(width):
        within = value[j] <= limit
        if steep:
            within |= value[j] <= _steep(dy[j], weight, code)
        hits += within & (dy[j] > 0.0)
    return hits


@kernel()
def _settle(search, pair, mixed):
    """Prove the pairs of one row and a leaf that can change results.

    Return whether what the row needs has changed: by its own pairs, or by those of a row of its
    own leaf that came before.
    """
    mine, theirs, rules, work = search.mine, search.theirs, search.rules, search.work
    a, b = search.a, search.b
    code, factor = rules.measure.code, rules.measure.factor
    place, i, other = pair
    start = theirs.nodes[theirs.leaves[other], START]
    row = mine.order[mine.nodes[mine.leaves[place], START] + i]
    part_a = mine.nodes[mine.leaves[place], PART]
    part_b = theirs.nodes[theirs.leaves[other], PART]
    need, value, order, numbers = work.need, work.value, theirs.order, b.numbers
    limit, weight = need[LIMIT, i], need[WEIGHT, i]
    _refresh(need, work.last, i, row, part_b, rules, a.state)
    changed = need[LIMIT, i] < limit or need[WEIGHT, i] < weight
    for j in range(_rows(theirs, other)):
        dy = work.dy[j] if mixed else 1.0
        within = value[j] <= need[LIMIT, i]
        if rules.quotients and not within:
            within = value[j] <= _steep(dy, need[WEIGHT, i], code)
        second = order[start + j]
        if not within or dy == 0.0 or (search.own and second == row):
            continue
        # The value is `reduced`'s, bit by bit; ties with higher row numbers are common.
        if code != MINKOWSKI and not _changes(
            finish(code, factor, value[j]), dy, numbers[second], row, part_b, a.state
        ):
            continue
        exact = _prove(mine.blocks[place, :, i], theirs.blocks[other, :, j], rules, work)
        if exact < np.inf:
            if rules.label_code != CATEGORICAL:
                one, two = mine.labels[place, :, i], theirs.labels[other, :, j]
                dy = label_difference(one, two, rules.label_code) if len(one) > 1 else dy
            distance = finish(code, factor, exact)
            accept(a.state, row, part_b, distance, dy, numbers[second], 1)
            accept(b.state, second, part_a, distance, dy, a.numbers[row], 1)
            _refresh(need, work.last, i, row, part_b, rules, a.state)
            search.counts[1] += 1
            changed = True
    return changed


@kernel()
def _changes(distance, dy, number, row, part, state):
    """Whether a pair comes before the best of its row; dy may be rounded up."""
    if better(distance, number, radius(state, row, part), last_row(state, row, part)):
        return True
    q, (most, witness) = dy / distance if distance > 0.0 else np.inf, steepest(state, row, part)
    return better(-q, number, -most, witness)


@kernel()
def _prove(one, two, rules, work):
    """What `reduced` accumulates for two rows, given as columns of blocks."""
    code, p = rules.measure.code, rules.measure.p
    for k in range(work.rows.shape[1]):
        work.rows[0, k], work.rows[1, k] = one[k], two[k]
    return reduced(code, p, work.rows[0], work.rows[1], np.inf, work.lanes)
