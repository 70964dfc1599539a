"""The fault matrix in short: a few tries of every kind, with fixed seeds, in real processes."""

from functools import partial

import pytest
from faults import found, matrix

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def benches(tmp_path_factory):
    """Benches of all places, with the stores that tries begin with."""
    folder = tmp_path_factory.mktemp("faults")
    with matrix.benches(folder, lanes=1, limit=120, bases=("done", "half")) as bench_of:
        yield bench_of


@pytest.mark.parametrize("name", [part.name for part in matrix.PARTS.values() if part.few])
def test_part(name, benches):
    told = matrix.run([name], benches, partial(matrix.seeds, short=True), 1, lambda row: None)
    assert told.rows
    assert found.repeats(told.rows) == ""
