"""What a function that is traced must not use: it would not be a function of its arguments."""

from __future__ import annotations

import sys
from typing import Any

_IMPURE_BUILTINS = frozenset(
    {"open", "input", "eval", "exec", "compile", "globals", "locals", "id", "hash", "breakpoint"}
)
_PURE_STANDARD = frozenset(
    {
        "__future__",
        "_operator",
        "abc",
        "bisect",
        "builtins",
        "cmath",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "logging",
        "math",
        "numbers",
        "operator",
        "re",
        "statistics",
        "string",
        "struct",
        "textwrap",
        "types",
        "typing",
        "warnings",
    }
)
_IMPURE_INSTALLED = ("numpy.random",)
_IMPURE_NAMES = frozenset({"load", "loadtxt", "genfromtxt", "fromfile", "memmap"})
"""NumPy's ways to read a file."""


class Opaque(Exception):
    """Something cannot be digested; the text says what."""


def refuse_impure_module(name: str) -> None:
    """Raise `Opaque` for a module of Python's own, or an installed one, that is not pure."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names and top not in _PURE_STANDARD:
        raise Opaque(f"it uses the module {name}")
    if name.startswith(_IMPURE_INSTALLED):
        raise Opaque(f"it uses {name}")


def refuse_impure_builtin(user: str, name: str) -> None:
    """Raise `Opaque` where the function `user` calls one of Python's own that is not pure."""
    if name in _IMPURE_BUILTINS:
        raise Opaque(f"{user} uses {name}()")


def refuse_reading(user: str, value: Any) -> None:
    """Raise `Opaque` where the function `user` uses one of NumPy's that reads a file."""
    if getattr(value, "__name__", "") in _IMPURE_NAMES and "numpy" in str(value.__module__):
        raise Opaque(f"{user} uses {value.__module__}.{value.__name__}")
