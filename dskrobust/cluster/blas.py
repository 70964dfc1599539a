"""Whether the BLAS under NumPy uses what the processor has, and how to change it.

OpenBLAS takes some AVX-512 processors for older ones and multiplies at half their speed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from threadpoolctl import threadpool_info

VARIABLE = "OPENBLAS_CORETYPE"
FASTER = "SkylakeX"  # OpenBLAS's name for its AVX-512 kernels
_SLOWER = ("haswell", "zen", "sandybridge", "prescott", "excavator", "steamroller", "piledriver")


def faster_core(flags: frozenset[str] | None = None) -> str | None:
    """Return the value of OPENBLAS_CORETYPE that would make products faster, if there is one.

    Parameters
    ----------
    flags : frozenset of str, optional
        The processor's features; this machine's by default.

    Notes
    -----
    It has to be in the environment before NumPy is imported:
    ``OPENBLAS_CORETYPE=SkylakeX jupyter lab``. Our own local clusters set it for their workers.
    """
    if os.environ.get(VARIABLE):
        return None
    have = processor_flags() if flags is None else flags
    wide = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"} <= have
    cores = [
        str(library.get("architecture", "")).lower()
        for library in threadpool_info()
        if library["internal_api"] == "openblas"
    ]
    return FASTER if wide and any(core in _SLOWER for core in cores) else None


def processor_flags() -> frozenset[str]:
    """Return the features of this machine's processor; empty where they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    match = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match.group(1).split()) if match else frozenset()
