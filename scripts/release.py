"""Move the fragments in notebooks/changes under the version's number into released.md.

    python scripts/release.py [--date 2026-11-30]

The number is that of pyproject.toml, which dskrobust/__init__.py and scripts/conda/recipe.yaml have
too. The page *Changes* of the documentation then shows it as a release.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHANGES = ROOT / "notebooks" / "changes"
BESIDE = ("README.md", "released.md")
KINDS = {
    "new": "New",
    "changed": "Changed",
    "fixed": "Fixed",
    "faster": "Faster",
    "inside": "For those who carry it on",
}


def fragments(folder: Path = CHANGES) -> dict[str, list[Path]]:
    """Return the fragments by kind, in the order of KINDS; kinds without any are left out.

    Raises
    ------
    ValueError
        For a file that is named otherwise than NAME.KIND.md.
    """
    found: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for path in sorted(folder.glob("*.md")):
        if path.name in BESIDE:
            continue
        kind = path.name.split(".")[1]
        if path.name.count(".") != 2 or kind not in found:
            raise ValueError(f"{path.name} must be NAME.KIND.md with a kind of {', '.join(KINDS)}")
        found[kind].append(path)
    return {kind: paths for kind, paths in found.items() if paths}


def section(title: str, kinds: Mapping[str, Sequence[Path]]) -> str:
    """Return the changes of a release, or those to come, as Markdown."""
    parts = [f"## {title}"]
    for kind, paths in kinds.items():
        lines = [f"- {' '.join(path.read_text(encoding='utf-8').split())}" for path in paths]
        parts.append(f"### {KINDS[kind]}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def release(version: str, day: str, folder: Path = CHANGES) -> None:
    """Write the fragments of a folder into its released.md, before earlier releases.

    Raises
    ------
    ValueError
        Where there are none, or the version is there already.
    """
    kinds = fragments(folder)
    released = folder / "released.md"
    before = released.read_text(encoding="utf-8") if released.exists() else ""
    if not kinds or f"\n## {version} " in f"\n{before}":
        raise ValueError(f"{version} is released already, or there are no fragments to release")
    text = section(f"{version} ({day})", kinds)
    released.write_text(f"{text}\n{before}" if before else text, encoding="utf-8")
    for paths in kinds.values():
        for path in paths:
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--date", default=date.today().isoformat())
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    release(project["version"], options.date)


if __name__ == "__main__":
    main()
