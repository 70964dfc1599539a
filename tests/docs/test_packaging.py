"""What is checked in and what is declared fit together."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
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


# -- what is built -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel that is made of an sdist, which is made of this folder."""
    pytest.importorskip("hatchling", reason="the package is built with hatchling")
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run([*build, "--target", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    subprocess.run([*build, "--target", "wheel"], cwd=unpacked, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel, unpacked


def tracked(*folders):
    """Return the files of some folders that git has, or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def test_the_sdist_has_what_the_repository_has(built):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    _, _, unpacked = built
    there = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    own = {".gitignore", ".pre-commit-config.yaml", ".ci/run"}  # of the checkout
    assert tracked() - own - there == set()
    assert there - tracked() == {"PKG-INFO"}


def test_the_wheel_has_the_package_and_its_experiments(built):
    _, wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = tracked("dskrobust")
    experiments = tracked("notebooks/experiments")
    wanted |= {name.replace("notebooks/", "dskrobust/") for name in experiments}
    assert wanted - names == set()
    beside = {name for name in names - wanted if ".dist-info/" not in name}
    assert beside == set()


def test_the_readme_is_the_description(built):
    _, wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        found = Parser().parsestr(archive.read(name).decode())
    assert found["Version"] == dskrobust.__version__
    assert found["Description-Content-Type"] == "text/markdown"
    assert found.get_payload().strip() == (ROOT / "README.md").read_text().strip()


def test_twine_has_no_objection(built):
    pytest.importorskip("twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built[:2])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# -- dependencies ------------------------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def rows_under(heading, page="installation.md"):
    """Return the cells of the table below a heading."""
    text = (ROOT / "notebooks" / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names_in(requirements):
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def test_the_page_says_what_each_dependency_is_for():
    rows = rows_under("What each dependency is for")
    named = [name for packages, _ in rows for name in re.findall(r"`(.+?)`", packages)]
    assert sorted(named) == sorted(names_in(PROJECT["dependencies"]))
    assert all(purpose for _, purpose in rows)


def test_the_page_has_the_extras():
    rows = {row[0].strip("`"): set(re.findall(r"`(.+?)`", row[2])) for row in rows_under("Extras")}
    extras = PROJECT["optional-dependencies"]
    assert set(rows) == set(extras)
    for name, told in rows.items():
        own = names_in(extras[name]) - {"dskrobust"}
        assert name in ("docs", "bench", "dev") or told == own, name


def test_libraries_of_extras_are_in_them():
    """A library that is told to be in an extra is there, and no dependency."""
    from dskrobust.extras import EXTRAS

    extras = PROJECT["optional-dependencies"]
    names = {"sklearn": "scikit-learn"}
    for module, extra in EXTRAS.items():
        assert names.get(module, module) in names_in(extras[extra])
        assert names.get(module, module) not in names_in(PROJECT["dependencies"])


CONDA = {"dask": "dask-core", "matplotlib": "matplotlib-base"}  # without what we do not need


def flat(extra):
    """Yield the requirements of an extra, and of the extras that it consists of."""
    for text in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "dskrobust":
            for part in requirement.extras:
                yield from flat(part)
        else:
            yield requirement


def test_the_conda_recipe_asks_for_the_same():
    text = (ROOT / "scripts" / "conda" / "recipe.yaml").read_text()
    asked = dict(
        re.findall(r"^    - ([\w-]+) >=([\d.]+)$", text.split("  run:\n")[1], re.MULTILINE)
    )
    wanted = [*map(Requirement, PROJECT["dependencies"]), *flat("full")]
    lowest = {CONDA.get(r.name, r.name): str(r.specifier).removeprefix(">=") for r in wanted}
    assert asked == lowest
    hatchling = Requirement(tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
                            ["requires"][0])  # fmt: skip
    assert f"    - hatchling {hatchling.specifier}\n" in text


def test_the_conda_recipe_is_one():
    """rattler-build reads it, whose schema knows no other keys, and makes what it would build."""
    build = pytest.importorskip("rattler_build", reason="pip install py-rattler-build")
    recipe = build.Stage0Recipe.from_file(str(ROOT / "scripts" / "conda" / "recipe.yaml"))
    (made,) = recipe.render(build.VariantConfig({"python_min": ["3.11"]}))
    assert made.recipe.package.name == "dskrobust"
    assert str(made.recipe.package.version) == dskrobust.__version__
    assert (
        len(made.recipe.requirements.run)
        == len(PROJECT["dependencies"])
        + len({requirement.name for requirement in flat("full")})
        + 1
    )  # Python


def test_nothing_is_printed_but_by_the_command_line():
    """The library tells by logging, warnings and what it returns."""
    own = ("cli", "show", "kernels/families.py")
    package = ROOT / "dskrobust"
    printing = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"(?<![\w.])print\(", path.read_text(encoding="utf-8"))
    ]
    assert [name for name in printing if not name.startswith(own)] == []
