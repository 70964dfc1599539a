"""The script that sets our tables beside the paper's, on made-up trials; the paper's numbers."""

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, load_script

from dskrobust.evaluation import read_experiment

TABLES = ROOT / "notebooks" / "paper" / "tables.toml"

pytestmark = pytest.mark.skipif(not TABLES.exists(), reason="the notebooks are not here")


@pytest.fixture(scope="module")
def script():
    return load_script("paper/tables")


@pytest.fixture(scope="module")
def paper(script):
    return {table.number: table for table in script.read_paper(TABLES)}


def test_the_papers_tables_are_complete(paper):
    assert list(paper) == [5, 6, 7, 8, 9]
    for number, table in paper.items():
        assert len(table.matrices) == (1 if number == 5 else 2)
        for matrix in table.matrices:
            assert matrix.acc.shape == (5, 5 if number == 5 else 3)
            assert ((matrix.acc > 0.2) & (matrix.acc < 0.7)).all()
            assert number == 5 or (np.abs(matrix.loss) < 1).all()
            assert matrix.best_acc.any(axis=1).all()


@pytest.mark.parametrize(("one", "each"), [(6, 7), (8, 9)])
def test_where_acc_was_highest_on_t_is_highest_for_t(paper, one, each):
    for a, b in zip(paper[one].matrices, paper[each].matrices, strict=True):
        np.testing.assert_array_equal(a.acc[0], b.acc[0])
        np.testing.assert_array_equal(a.loss[0], b.loss[0])
        np.testing.assert_array_equal(a.values[0], b.values[0])
        assert (b.acc >= a.acc).all()  # the best of each cell is no worse than that of t


@pytest.mark.parametrize("number", [5, 6, 7, 8, 9])
def test_the_papers_observations_hold_in_the_paper(script, paper, number):
    lines = script.observations(paper[number], paper[number].matrices)
    assert lines
    for line in lines:
        assert line.endswith((": yes", "2 of 2 (paper 2)")), line


def trials_of(paper):
    """Trials whose matrices are the paper's."""
    rows = []
    for side in paper.matrices:
        for (i, j), acc in np.ndenumerate(side.acc):
            here = {"train": side.train[j], "test": side.test[i], "model": paper.model}
            here |= {**side.parameters, "loss": side.loss[i, j], "trial": 1}
            swept = {paper.sweep: side.values[i, j]} if paper.sweep else {}
            rows.append({**here, **swept, "acc": acc})
            rows += [{**here, paper.sweep: k, "acc": acc / 2}
                     for k in range(1, 16) if paper.sweep and k != side.values[i, j]]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("number", [5, 6, 7, 8, 9])
def test_the_papers_own_numbers_agree_in_every_cell(script, paper, number):
    table = paper[number]
    ours = script.our_matrices(table, trials_of(table), loss_high=True)
    text = script.section(table, ours)
    cells = sum(m.acc.size for m in table.matrices)
    assert f"ACC: {cells} of {cells} cells within" in text
    printed = [line for line in text.splitlines() if line.startswith("| ")]
    assert printed[: len(printed) // 2] == printed[len(printed) // 2 :]
    if table.sweep:
        chosen = cells if table.best == "each" else 6
        assert f"{table.sweep}: {chosen} of {chosen} the same" in text


def test_what_differs_is_counted(script, paper):
    table = paper[5]
    trials = trials_of(table)
    trials.loc[0, "acc"] += 0.0010
    trials.loc[1, "acc"] += 0.0012
    ours = script.our_matrices(table, trials, loss_high=False)
    lines = script.agreement(table, ours)
    assert lines[0].startswith("ACC: 24 of 25 cells within 0.001; mean absolute difference 0.0001")


def test_the_experiments_are_those_of_the_tables(paper):
    for table in paper.values():
        experiment = read_experiment(ROOT / "notebooks" / "experiments" / table.experiment)
        assert tuple(experiment.train) == table.matrices[0].train
        assert tuple(experiment.test) == table.matrices[0].test
        grid = experiment.models[0].grid
        for side in table.matrices:
            for name, value in side.parameters.items():
                assert value in grid[name]
            for value in side.values.ravel():
                assert value is None or value in grid[table.sweep]
