"""OpenBLAS's threads: one in the standby, which must not have more, as many as usual in a trainer.

OpenBLAS starts its threads when it is loaded and reads their number from the environment then; a
library that was loaded before can still be told another number.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

LIMIT_VARIABLE = "OPENBLAS_NUM_THREADS"
_VARIABLES = (LIMIT_VARIABLE, "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
_SETTERS = tuple(
    f"{prefix}openblas_set_num_threads{suffix}"
    for prefix in ("scipy_", "")
    for suffix in ("64_", "", "_64")
)


def usual_threads(environment: Mapping[str, str]) -> int:
    """How many threads OpenBLAS would start under `environment`."""
    for name in _VARIABLES:
        value = environment.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return len(os.sched_getaffinity(0))


def set_threads(count: int) -> None:
    """Tell every loaded OpenBLAS."""
    for path in _loaded():
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            for name in _SETTERS:
                setter = getattr(library, name, None)
                if setter is not None:
                    setter(count)
                    break


def _loaded() -> Iterator[str]:
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    paths = {line.partition("/")[2] for line in lines if "/" in line}
    yield from (f"/{path}" for path in sorted(paths) if "openblas" in path.rpartition("/")[2])
