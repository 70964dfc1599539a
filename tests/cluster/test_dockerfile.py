"""The image's steps, run without Docker: what is copied is enough to install, compile and run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from helpers import ROOT

pytest.importorskip("hatchling", reason="the package is built with hatchling")

DOCKERFILE = ROOT / "scripts" / "jobs" / "Dockerfile"
# What is installed here stands for what the image downloads.
SITE = os.pathsep.join(path for path in sys.path if Path(path).name == "site-packages")
KNOWN = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "CMD"}


def instructions():
    """Return the Dockerfile's instructions with what follows them."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


class Image:
    """A folder in place of the image's root, and the environment that its steps have."""

    def __init__(self, root):
        self.root, self.folder = root, root
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(root), "PYTHONPATH": SITE,
        }  # fmt: skip

    def inside(self, text):
        """Return a text with paths of the image as those below the folder."""
        return re.sub(r"(?<![\w.])/(?=srv/|tmp\b)", f"{self.root}/", text)

    def arg(self, text):
        name, _, value = text.partition("=")
        self.environment[name] = value

    def env(self, text):
        for pair in shlex.split(text):
            name, _, value = pair.partition("=")
            value = value.replace("$PATH", self.environment["PATH"])
            self.environment[name] = self.inside(value)

    def workdir(self, text):
        self.folder = Path(self.inside(text))
        self.folder.mkdir(parents=True, exist_ok=True)

    def copy(self, text):
        *sources, target = text.split()
        for source in sources:
            assert not ignored(source), f"{source} is kept from the build"
            place = self.folder / target / (source if target == "./" else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place,
                                ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
            else:
                shutil.copy(ROOT / source, place)

    def run(self, text):
        command = self.inside(text).replace("python -m venv", f"{sys.executable} -m venv")
        command = command.replace("pip install", "pip install --no-deps --no-build-isolation")
        # Compiling takes minutes, and is tested elsewhere: only that the command is one.
        command = re.sub(r"(-m dskrobust.kernels.families .*)", r"\1 --help", command)
        done = subprocess.run(
            ["/bin/sh", "-ec", command], cwd=self.folder, env=self.environment,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        return done.stdout


def ignored(path):
    """Whether the .dockerignore keeps a path from the build: the last line that fits decides."""
    kept = True
    for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split():
        pattern = line.removeprefix("!")
        if fnmatch(path, pattern) or path.startswith(f"{pattern}/"):
            kept = line.startswith("!")
    return not kept


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    made = Image(tmp_path_factory.mktemp("image"))
    for name, rest in instructions():
        if name in ("ARG", "ENV", "WORKDIR", "COPY", "RUN"):
            getattr(made, name.lower())(rest)
    return made


def test_it_has_no_other_instructions():
    assert {name for name, _ in instructions()} == KNOWN


def test_nothing_else_of_the_repository_is_sent():
    sent = {path for name, rest in instructions() if name == "COPY" for path in rest.split()[:-1]}
    for path in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split():
        if not ignored(path):
            assert any(path == known or path.startswith(f"{known}/") for known in sent), path


def test_the_image_runs_what_it_is_for(image):
    for command in (
        "dskrobust --version",
        "python -m dask worker --version",
        "dskrobust run --help",
    ):
        image.run(command)
    where = image.run("python -c 'import dskrobust; print(dskrobust.__file__)'").strip()
    assert where.startswith(f"{image.root}/srv/dskrobust/.venv/")
    names = image.run(
        "python -c 'from dskrobust.evaluation.experiment import paper_experiments as known; "
        "print(*known())'"
    )
    assert "table5-cifar10-knn" in names.split()


def test_kernels_are_kept_where_everybody_may_add_some(image):
    kept = image.root / "srv" / "dskrobust" / "kernels"
    assert kept.stat().st_mode & 0o1777 == 0o1777
    assert image.environment["NUMBA_CACHE_DIR"] == str(kept)
