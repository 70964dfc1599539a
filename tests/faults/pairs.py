"""Two commands at once on one store; afterwards it is as after one of the possible orders."""

from __future__ import annotations

import random
from itertools import permutations

from .bench import Bench, Site, State, made_anew
from .commands import ALL, HANG, LOCAL, RIGHT, WRONG, Process, judge, wait_until
from .found import Found
from .kills import difference

STARTS = 3.0  # seconds, about, that a process with a cluster of its own takes longer

PAIRS = (
    ("fresh", "compute", "compute"),
    ("scored", "compute cityblock", "compute cityblock"),
    ("fresh", "compute", "compute cityblock"),
    ("fresh", "compute", "append"),
    ("scored", "append", "append others"),
    ("scored", "append", "append"),
    ("fresh", "ingest", "compute"),
    ("scored", "ingest", "neighbours"),
    ("scored", "neighbours", "issues"),
    ("scored", "evaluate knn", "evaluate knn"),
    ("done", "report", "compute cityblock"),
    ("done", "kept issues", "compute cityblock"),
    ("done", "verify", "neighbours of 4"),
    ("done", "kept knn", "more of knn"),
    ("scored", "subsets", "append"),
    ("scored", "export", "ingest"),
    ("scored", "verify", "append"),
    ("scored", "match", "match"),
    ("scored", "hardness", "issues"),
    ("scored", "hardness", "append"),
    ("scored", "evaluate folds", "evaluate folds"),
    ("scored", "evaluate folds", "ingest"),
    ("scored", "tailor", "spectrum"),
    ("scored", "review", "review"),
    ("scored", "review", "append"),
    ("reviewed", "apply", "apply"),
    ("reviewed", "apply", "append"),
    ("reviewed", "apply", "compute cityblock"),
    ("reviewed", "apply", "ingest"),
    ("compared", "compare", "issues cleaned"),
    ("compared", "compare", "append"),
)


def attempt(bench: Bench, seed: int) -> list[Found]:
    """Run one pair."""
    rng = random.Random(f"pairs {seed}")
    base, *names = PAIRS[seed % len(PAIRS)]
    if rng.random() < 0.5:
        names.reverse()
    with bench.site(base) as site:
        outcome, note = _attempt(site, base, names, rng.random() * rng.random())
    return [Found("two at once", " + ".join(sorted(names)), outcome, note)]


def _attempt(site: Site, base: str, names: list[str], share: float) -> tuple[str, str]:
    """Start one command, after a share of its time the other, and wait for both."""
    bench = site.bench
    orders = {done: bench.serial(base, done) for n in (0, 1, 2) for done in permutations(names, n)}
    sites = [Site(bench, site.name, site.folder / f"{k}", site.url) for k in range(2)]
    usual = STARTS + orders[(names[0],)].seconds
    processes: list[Process] = []
    for own, name in zip(sites, names, strict=True):
        own.folder.mkdir()
        if processes:
            wait_until(lambda: False, processes[0], share * usual)
        processes.append(own.start(ALL[name], LOCAL))
    ends = [judge(process.wait(bench.limit)) for process in processes]
    for (kind, note), name in zip(ends, names, strict=True):
        if kind in (WRONG, HANG):
            return kind, f"{name}: {note}"
    did = [k for k in range(2) if ends[k][0] == RIGHT]
    left = [orders[order] for order in orders if sorted(order) == sorted(names[k] for k in did)]
    states = [one.state for one in orders.values()]
    wrong = unexplained(site.state(), [one.state for one in left], states)
    if wrong:
        return WRONG, f"{wrong}; {' / '.join(note for _, note in ends)}"
    for k in did:
        products = {
            one.products[order.index(names[k])]
            for order, one in orders.items()
            if names[k] in order
        }
        dated = ALL[names[k]].ends == ".html"  # a report says when and how fast results were made
        if not dated and sites[k].product(ALL[names[k]]) not in products:
            return WRONG, f"{names[k]}: the file that it wrote is that of no order"
    checked = judge(site.run(ALL["verify anything"]).ran)
    if checked[0] != RIGHT:
        return WRONG, f"verify afterwards: {checked[1]}"
    return min(ends, key=lambda end: end[0] == RIGHT)


def unexplained(state: State, orders: list[State], known: list[State]) -> str:
    """Say what in a state no order of what was done explains; nothing where one does."""
    if "error" in state:
        return f"the store cannot be read: {state['error'][:300]}"
    fit = [order for order in orders if order.get("rows") == state["rows"]]
    if not fit:
        return f"{state['count']} rows, which no order gives"
    surely = set.intersection(*map(made_anew, fit))
    if surely - made_anew(state):
        return difference(state, fit[0])
    if made_anew(state) - set().union(*map(made_anew, known)):
        return "a result that no order gives"
    return ""
