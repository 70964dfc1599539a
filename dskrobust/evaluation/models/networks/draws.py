"""Everything that is drawn at random in training, from a trial's own seed alone.

Nothing depends on how many trials train together, and nothing has to be kept to go on later: a
trial's batch order and the keys of its steps follow from (seed, epoch), and the random words of a
step are a hash of (key, number of the word), made where they are needed for all trials at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Which of a step's keys is for what.
MOVES, DROPOUT = 0, 1

_WEIGHTS, _EPOCH, _START = 0, 1, 2  # streams of a seed


def weights_seed(seed: int) -> int:
    """Return the seed below 2⁶⁴ from which a trial's first weights are drawn."""
    state = np.random.SeedSequence(seed, spawn_key=(_WEIGHTS,)).generate_state(1, np.uint64)
    return int(state[0])


def epoch_draws(
    seed: int, epoch: int, rows: int, steps: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the batch order (rows,) of an epoch and the keys (steps, 2, 2) of its steps."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_EPOCH, epoch)))
    order = rng.permutation(rows)
    keys = rng.integers(0, 1 << 32, (steps, 2, 2), dtype=np.uint32)
    return order, keys.view(np.int32)


def start_keys(seeds: Sequence[int], rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the keys (rows, seeds, 2) of an attack's random starts, by row numbers."""
    words = [
        np.random.SeedSequence(seed, spawn_key=(_START,)).generate_state(2, np.uint32)
        for seed in seeds
    ]
    halves = np.stack([rows >> 32, rows & 0xFFFFFFFF], axis=1).astype(np.uint32)
    return (halves[:, None] ^ np.stack(words)).view(np.int32)


def random_words(keys: Tensor, count: int) -> Tensor:
    """Return 32 random bits for each of `count` numbers and every trial.

    A counter goes through two rounds of multiplication and shift (the constants are those of
    Wellons' "lowbias32"), with one word of the key before and one between them, so that two keys
    never give shifted copies of one sequence.

    Parameters
    ----------
    keys : Tensor (T, 2) of int32
    count : int

    Returns
    -------
    Tensor (T, count) of int32
    """
    first, second = keys[:, :1], keys[:, 1:]
    words = torch.arange(count, dtype=torch.int32, device=keys.device) + first
    words = _fold(words, 16).mul_(0x7FEB352D).bitwise_xor_(second)
    words = _fold(words, 15).mul_(0x846CA68B - (1 << 32))  # the same number, signed
    return _fold(words, 16)


def _fold(words: Tensor, shift: int) -> Tensor:
    """Return words ^ (words >> shift), in place, with zeros shifted in."""
    upper = (words >> shift).bitwise_and_((1 << (32 - shift)) - 1)
    return words.bitwise_xor_(upper)


def random_bytes(keys: Tensor, count: int) -> Tensor:
    """Return random bytes (T, count) of uint8; `count` is a multiple of 4."""
    return random_words(keys, count // 4).view(torch.uint8)


def uniforms(keys: Tensor, count: int) -> Tensor:
    """Return random numbers (T, count) in [0, 1), multiples of 2⁻²⁴, of float32."""
    return (random_words(keys, count) >> 8).bitwise_and_((1 << 24) - 1).to(torch.float32) * 2**-24
