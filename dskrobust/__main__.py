"""`python -m dskrobust` is the command `dskrobust`."""

from .cli import main

main(prog_name="dskrobust")
