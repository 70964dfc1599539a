"""The script for Tables 2 to 4: the paper's numbers and observations, the experiments, figures."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, load_script

from dskrobust.evaluation import read_experiment

TABLES = ROOT / "notebooks" / "paper" / "tables-cnn.toml"

pytestmark = pytest.mark.skipif(not TABLES.exists(), reason="the notebooks are not here")


@pytest.fixture(scope="module")
def script():
    """The script, beside whose folder `tables` is found as when it is run."""
    return load_script("paper/cnn")


@pytest.fixture(scope="module")
def paper(script):
    return {table.number: table for table in script.read_paper(TABLES)}


def test_the_papers_tables_are_complete(paper):
    assert list(paper) == [2, 3, 4]
    for table in paper.values():
        (matrix,) = table.matrices
        assert matrix.acc.shape == matrix.loss.shape == (5, 5)
        assert ((matrix.acc > 0.68) & (matrix.acc < 0.87)).all()
        assert ((matrix.loss > 0.6) & (matrix.loss < 1.2)).all()
        assert not matrix.loss_high
    bold = paper[2].matrices[0]
    assert bold.best_loss.argmax(axis=1).tolist() == [0, 1, 2, 1, 2]  # as printed
    assert paper[4].matrices[0].best_acc[:, 0].all()


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_papers_observations_hold_in_the_paper(script, paper, number):
    text = script.section(paper[number], paper[number].matrices, script.OBSERVATIONS)
    said = text.split("observes, here:")[1].strip().splitlines()
    assert len(said) >= 3
    assert all(line.endswith(": yes") for line in said), said
    assert "ACC: 25 of 25 cells" in text
    assert (
        "LOSS"
        not in script.section(paper[number], paper[number].matrices, [], comparable=False).split(
            "observes"
        )[1]
    )


def test_the_experiments_are_those_of_the_tables(script, paper):
    small = read_experiment(ROOT / "notebooks" / "experiments" / script.SMALL)
    for table in paper.values():
        experiment = read_experiment(ROOT / "notebooks" / "experiments" / table.experiment)
        assert tuple(experiment.train) == tuple(small.train) == table.matrices[0].train
        assert tuple(experiment.test) == tuple(small.test) == table.matrices[0].test
        assert [m.kind for m in experiment.models] == [table.model]
        assert experiment.trials == (15 if table.number == 4 else 25)
        for part, share in script.EVERY.items():
            for name, chosen in getattr(experiment, part).items():
                group, _, size = chosen.partition(":")
                wanted = f"{group}:{size[0]}{int(size[1:]) // share}" if size else group
                assert getattr(small, part)[name] == wanted


def test_figures_6_and_7_show_the_trial_that_is_nearest_to_the_mean(script):
    losses = {1: 0.5, 2: 0.71, 3: 0.9}
    rows = [
        {"train": "x", "test": t, "model": "cnn", "trial": k, "epoch": e, "loss": v / e, "acc": 0.5}
        for k, v in losses.items() for e in (1, 2) for t in ("t", "t_L")
    ]  # fmt: skip
    made = SimpleNamespace(
        curves=pd.DataFrame(rows),
        experiment=SimpleNamespace(test={"t": "test", "t_L": "test:L9"}),
        matrix=lambda: SimpleNamespace(values=np.array([[2]])),
    )
    shown = script.prototype(made)
    assert set(shown["trial"]) == {2}
    assert list(shown) == ["test", "trial", "epoch", "loss", "acc"]
    assert len(shown) == 4
