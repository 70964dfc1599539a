"""Tiles in rounds, each block at most once in each; rounds in waves, graphs that a scheduler holds.

As in a tournament where everybody meets everybody: a tile takes what the one before it left of
either block and hands it on, so of every row one state is there at a time, however many blocks
there are. A tree of merges holds one of every tile until it is merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from .plan import WAVE_TILES, Plan

Tile = tuple[int, int]


def round_of(tile: Tile, blocks: int) -> int:
    """Return the round of a tile: 0 on the diagonal, then by the circle method.

    With m − 1 blocks on a circle, i and j meet in the round i + j modulo m − 1; the last block
    meets i where i would meet itself.

    Examples
    --------
    >>> [round_of(tile, 4) for tile in ((1, 2), (0, 3), (0, 1), (2, 3), (0, 2), (1, 3))]
    [1, 1, 2, 2, 3, 3]
    """
    i, j = tile
    if i == j:
        return 0
    last = blocks - 1 + blocks % 2
    return 1 + (2 * i if j == last else i + j) % last


def cut_waves(plan: Plan) -> list[list[Tile]]:
    """Return the tiles of a plan round by round, in waves: whole rounds of about WAVE_TILES."""
    count = len(plan.blocks)
    ordered = sorted(plan.tiles, key=lambda tile: round_of(tile, count))
    waves: list[list[Tile]] = []
    for one in _rounds(ordered, count):
        if waves and len(waves[-1]) + len(one) <= WAVE_TILES:
            waves[-1] += one
        else:
            waves.append(one)
    return waves


def _rounds(ordered: Sequence[Tile], count: int) -> Iterator[list[Tile]]:
    for _, tiles in groupby(ordered, key=lambda tile: round_of(tile, count)):
        yield list(tiles)


def last_rounds(plan: Plan, waves: Iterable[Iterable[Tile]]) -> dict[int, int]:
    """Return block → its last round in some waves, of those that have one."""
    count, last = len(plan.blocks), dict[int, int]()
    for tile in (tile for wave in waves for tile in wave):
        last |= dict.fromkeys(tile, round_of(tile, count))
    return last
