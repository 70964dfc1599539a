"""`dskrobust hardness`: the measures are kept, written and said in words."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from dskrobust import cli, create_store, instance_hardness, label_quality


def call(*arguments, code=0):
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="dskrobust")
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


@pytest.mark.cluster
def test_hardness_is_kept_and_said(tmp_path, local_cluster):
    rng = np.random.default_rng(3)
    y = np.arange(120) % 2
    X = rng.standard_normal((120, 4)) + y[:, None]
    names = np.array(["ham", "spam"])[y]
    store = create_store(str(tmp_path / "some.zarr"), X, names)
    label_quality(store).write()
    where = "--scheduler", local_cluster.scheduler_address
    said = call("hardness", store.url, "--k", 5, "--top", 3, *where)
    found = instance_hardness(store, k=5)
    assert found.result is not None
    kdn = np.asarray(found.kdn)
    assert f"{(kdn > 0.5).sum()} of 120 samples are hard" in said
    assert f"dskrobust issues {store.url}" in " ".join(said.split())
    facts = json.loads(call("hardness", store.url, "--k", 5, "--json", "--out",
                            tmp_path / "all.csv"))  # fmt: skip
    assert sum(one["hard"] for one in facts["classes"]) == (kdn > 0.5).sum()
    assert facts["hardest"][0]["kdn"] == kdn.max()
    table = pd.read_csv(tmp_path / "all.csv")
    np.testing.assert_array_equal(table["kdn"], kdn)


def test_what_has_no_classes_is_refused(tmp_path):
    X = np.random.default_rng(0).standard_normal((20, 3))
    store = create_store(str(tmp_path / "real.zarr"), X, X[:, 0])
    assert "real labels" in call("hardness", store.url, code=1)
    assert ".parquet" in call("hardness", store.url, "--out", tmp_path / "a.txt", code=1)
