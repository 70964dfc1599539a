"""What a command's own process holds: said after it ran, and refused before where it is too much.

Shown are the peak as measured and as projected; a command imports first what it needs, so that
the projection counts it.
"""

from __future__ import annotations


def say_memory(projected: int, name: str = "memory") -> None:
    """Say what this process has held at most, beside what was projected.

    name: "client" where "memory" is that of workers.
    """
    from ..processes import peak_memory
    from ..show import terminal

    measured = terminal.size(peak_memory() or 0)
    terminal.fact(name, f"{measured} at most, {terminal.size(projected)} projected")
