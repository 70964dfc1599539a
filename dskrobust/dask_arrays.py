"""What is an array of Dask, told without importing them: workers that read rows need none.

They would bring SciPy's sparse matrices along, and xarray with pandas where it is installed: 27 to
100 MiB of every worker.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    import dask.array as da


def is_dask_array(value: Any) -> TypeGuard[da.Array]:
    """Whether a value is a Dask array; none is where nobody has imported them."""
    loaded = sys.modules.get("dask.array.core")
    return isinstance(value, getattr(loaded, "Array", ()))
