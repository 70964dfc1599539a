"""Rows joined with their witnesses block by block, as NumPy joins them whole."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dskrobust import witnesses


@settings(max_examples=12)
@given(
    rows=st.integers(1, 40), block=st.integers(1, 50), chunk=st.integers(1, 50),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_grid_of_blocks_joins_as_numpy_does(rows, block, chunk, seed):
    rng = np.random.default_rng(seed)
    witness, values = rng.integers(-1, rows, rows), rng.random(rows)
    values[rng.random(rows) < 0.2] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(witnesses, "ROWS", block)
        for of in (witness, da.from_array(witness, chunks=chunk)):
            counts = witnesses.witness_counts(of)
            found = witnesses.at_witness(da.from_array(values, chunks=chunk), of)
            assert max(*counts.chunks[0], *found.chunks[0]) <= block
            counts, found = counts.compute(), found.compute()
            assert counts.tolist() == np.bincount(witness[witness >= 0], minlength=rows).tolist()
            expected = np.where(witness < 0, np.nan, values[witness])
            np.testing.assert_array_equal(found, expected)
