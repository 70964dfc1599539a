"""A bit of one file is flipped, or a file is cut, removed or swapped: found, or without effect."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .bench import Bench, Site
from .children import Ran
from .commands import ALL, ERROR, RIGHT, WRONG, Command, error_line, judge
from .found import Found

GROUPS = {
    "tiles": "memo", "prefixes": "prefixes", "evaluations": "evaluations", "claims": "claims",
    "checkpoints": "checkpoints", "results": "results", "decisions": "decisions",
    "diagnosis": "notes",
}  # fmt: skip
METADATA = (".json", ".record", ".blob", ".decisions")
TABLES = ("subsets", "export", "kept issues", "kept neighbours")
RECORDS = ("report", "kept knn", "kept forest")
READING = {  # what reads the pieces of a base; of other kinds of files: any of both
    "done": {"results": TABLES, "evaluations": RECORDS, "notes": ("append",)},
    "reviewed": {"decisions": ("apply", "review of all")},
    "cleaned": {"results": ("compute cleaned", "issues cleaned")},
    "compared": {"results": ("compare",)},
    "measured": {
        "results": ("kept hardness", "kept match", "kept align", "adversarials", "bound"),
        "evaluations": ("kept folds", "kept tailor", "kept spectrum"),
    },
}
GOING_ON = {"half": "interrupted compute", "trained": "interrupted cnn"}  # what was killed
DAMAGED = (*READING, *GOING_ON)
COMPUTING = ("compute cityblock", "neighbours of 4", "more of knn")
CHANGED_BY = ("notes",)  # what is only read by commands that change the store
UNREAD = ("claims",)  # what nobody takes anything from but that somebody is there
CUTS = ("emptied", "halved", "deleted", "swapped")


def kind_of(file: str) -> str:
    """What a file of a store is for, told by its path."""
    path = PurePosixPath(file)
    group = next((GROUPS[part] for part in reversed(path.parts) if part in GROUPS), "data")
    return f"{group}, metadata" if path.suffix in METADATA else group


def kinds(files: Sequence[str]) -> dict[str, list[str]]:
    """Files by what they are for."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(kind_of(file), []).append(file)
    return found


def pieces(bench: Bench) -> list[tuple[str, str, str]]:
    """What can be damaged, as base, kind and file; of a killed run, only what runs leave.

    Of what further commands left only that: what they began with is damaged elsewhere.
    """

    def make() -> list[tuple[str, str, str]]:
        listed = []
        only = {"half": ("memo", "prefixes", "claims"), "trained": ("checkpoints",),
                "measured": ("results", "evaluations"), "reviewed": ("decisions",),
                "cleaned": ("results", "data"), "compared": ("results",)}  # fmt: skip
        for base in bench.bases:
            further = base in ("measured", "reviewed")
            before = set(_files(bench.base("scored"))) if further else set()
            for file in _files(bench.base(base)):
                kind = kind_of(file)
                if file not in before and kind.startswith(only.get(base, "")):
                    listed.append((base, kind, file))
        return listed

    found: list[tuple[str, str, str]] = bench.known("pieces", make)
    return found


def _files(root: Path) -> list[str]:
    return sorted(f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file())


def flip(bench: Bench, seed: int) -> list[Found]:
    """Flip one bit of one file; kinds of files come in turn."""
    rng = random.Random(f"flips {seed}")
    every = pieces(bench)
    names = sorted({kind for _, kind, _ in every})
    kind = names[seed % len(names)]
    base, _, file = rng.choice([piece for piece in every if piece[1] == kind])
    with bench.site(base) as site:
        value = bytearray(bench.place.read(site.name, file))
        if not value:
            return []
        bit = rng.randrange(8 * len(value))
        value[bit // 8] ^= 1 << bit % 8
        bench.place.write(site.name, file, bytes(value))
        return consequences(site, base, (f"bit of {kind}", f"{file} bit {bit}"), rng)


def cut(bench: Bench, seed: int) -> list[Found]:
    """Empty, halve, remove or swap one file: every file comes once, in every way."""
    rng = random.Random(f"files {seed}")
    every = pieces(bench)
    base, kind, file = every[seed // len(CUTS) % len(every)]
    how = CUTS[seed % len(CUTS)]
    with bench.site(base) as site:
        place, value = bench.place, bench.place.read(site.name, file)
        if how == "deleted":
            place.delete(site.name, file)
        elif how == "swapped":
            others = [f for b, k, f in every if (b, k) == (base, kind) and f != file]
            other = rng.choice(others or [file])
            theirs = place.read(site.name, other)
            if theirs == value:
                return []
            place.write(site.name, file, theirs)
            place.write(site.name, other, value)
            file = f"{file} and {other}"
        else:
            place.write(site.name, file, value[: len(value) // 2] if how == "halved" else b"")
        return consequences(site, base, (f"{kind} {how}", file), rng)


def every_cut(bench: Bench) -> int:
    """How many tries it takes to meet every file in every way."""
    return len(CUTS) * len(pieces(bench))


def consequences(site: Site, base: str, what: tuple[str, str], rng: random.Random) -> list[Found]:
    """Verify, read, compute: each gives the right bytes, or one line that names what is damaged."""
    fault, where = what
    names = [GOING_ON.get(base, "")]
    if base in READING:
        kinds_of_base = READING[base]
        readers = [part for of, part in kinds_of_base.items() if of not in CHANGED_BY]
        every = tuple(name for part in readers for name in part)
        kind = kind_of(where).partition(",")[0]
        names = [rng.choice(kinds_of_base.get(kind, every))]
        names += [rng.choice(COMPUTING)] if base == "done" and kind not in CHANGED_BY else []
    before = site.run(ALL["verify anything"]).ran
    found = [_checked(site, base, ALL[name], where) for name in names]
    checked = judge(before)
    if checked[0] == ERROR and not named(before, where):
        checked = WRONG, f"names nothing: {checked[1]}"
    must = matters(where) and not fault.endswith("deleted")  # what can be made again may be gone
    if checked[0] == RIGHT and (must or any(f.outcome != RIGHT for f in found)):
        checked = WRONG, "verify says that all is good"
    found.append(Found("", "verify", *checked))
    return [f._replace(fault=fault, note=f"{where}: {f.note}") for f in found]


def _checked(site: Site, base: str, command: Command, where: str) -> Found:
    """Run a command on a damaged store."""
    undisturbed = site.bench.serial(base, (command.name,))
    answer = site.run(command)
    kind, note = judge(answer.ran)
    if kind == ERROR and not named(answer.ran, where):
        kind, note = WRONG, f"names nothing: {note}"
    if kind == RIGHT and answer.product != undisturbed.products[0]:
        kind, note = WRONG, "other bytes, and nothing said"
    if kind == RIGHT and command.cluster:
        left = site.state()
        if "Traceback" in left.get("error", ""):
            kind, note = WRONG, f"read afterwards: {left['error'][:200]}"
        elif (
            "error" not in left
            and not left["results"].items() <= undisturbed.state["results"].items()
        ):
            kind, note = WRONG, "a result is another, and nothing said"
    return Found("", command.name, kind, note)


def matters(where: str) -> bool:
    """Whether any change of a file must be found: JSON has blanks, other files no idle bit."""
    file = where.partition(" ")[0]
    return not file.endswith((".json", ".made")) and kind_of(file) not in UNREAD


def named(ran: Ran, where: str) -> bool:
    """Whether a message names the file, or the array or group that it is a part of."""
    said = error_line(ran)
    for file in where.partition(" bit ")[0].split(" and "):
        parts = [p for p in PurePosixPath(file).parts if p not in ("c", "zarr.json")]
        telling = [p for p in parts if not p.isdigit()]
        if any(part in said for part in telling) or (not telling and ".zarr" in said):
            return True
    return False
