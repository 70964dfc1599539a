"""What is checked in and what is declared fit together."""

import os
import re
import subprocess
import tomllib
from importlib import metadata

import pytest
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dskrobust


def test_version_is_the_installed_one():
    assert dskrobust.__version__ == metadata.version("dskrobust")


def test_tracked_files_are_small():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    large = [str(path) for path in paths if path.is_file() and path.stat().st_size > 2**20]
    assert large == []


def test_scripts_are_executable():
    scripts = [ROOT / ".ci" / "run", *ROOT.glob("scripts/*.sh")]
    assert [path.name for path in scripts if not os.access(path, os.X_OK)] == []


def test_constraints_pin_every_dependency_within_its_range():
    lines = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["bench"]]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_constraints_name_no_index():
    text = (ROOT / "scripts" / "constraints.txt").read_text()
    assert not re.search(r"://|--|@", text)
