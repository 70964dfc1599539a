"""Products by BLAS: no flag of a lane that it drops becomes a warning."""

import ast
from pathlib import Path

import numpy as np

import dskrobust
from dskrobust.blas import matmul


def test_flags_of_a_product_are_not_asked():
    """Warnings are errors here; an infinity times zero raises the flag that BLAS may leave."""
    a, b = np.array([[np.inf, 1.0]]), np.array([[0.0], [1.0]])
    assert np.isnan(matmul(a, b)).all()
    assert (matmul(np.full((2, 2), 1e308), np.full((2, 2), 1e308)) == np.inf).all()


def test_the_engine_multiplies_by_nothing_else():
    """Wherever a spurious flag could end a run, the product is this one."""
    root, found = Path(dskrobust.__file__).parent, []
    for path in [*root.glob("kernels/**/*.py"), root / "metrics.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
            if product or (isinstance(node, ast.Attribute) and node.attr in {"matmul", "dot"}):
                found.append(f"{path.relative_to(root)}:{node.lineno}")
    assert not found
