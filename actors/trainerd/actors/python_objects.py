"""What Python itself knows of an object: its name, and whether all of its state can be seen."""

from __future__ import annotations

import copyreg
import sys
import types
from typing import Any

from trainerd.actors.modules import is_installed

_MANAGED_DICT = 1 << 4
_POINTER_BYTES = 8


def cell_content(cell: types.CellType) -> Any:
    """What a variable of an enclosing function holds."""
    try:
        return cell.cell_contents
    except ValueError:
        # Not assigned yet: reading it would raise.
        return Ellipsis


def name_of(value: Any) -> tuple[str, str]:
    """Module and name of a function or a class."""
    return str(value.__module__), str(value.__qualname__)


def is_importable(value: Any) -> bool:
    """Whether a value is what an installed module offers under the value's own name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not is_installed(module):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def hidden_state(kind: type) -> str:
    """Name a type whose instances hold more than Python can see; empty: they do not.

    The same reckoning as `object.__reduce_ex__` makes before it copies an instance.
    """
    size = object.__basicsize__ + _POINTER_BYTES * len(copyreg._slotnames(kind))  # type: ignore[attr-defined]
    if kind.__dictoffset__ != 0 and not kind.__flags__ & _MANAGED_DICT:
        size += _POINTER_BYTES
    if kind.__weakrefoffset__ > 0:
        size += _POINTER_BYTES
    if kind.__basicsize__ > size or kind.__itemsize__:
        return f"a {kind.__module__}.{kind.__qualname__}"
    return ""


def slots_of(value: Any) -> list[tuple[str, Any]]:
    """The slots of an instance that hold something, with what they hold."""
    names: list[str] = copyreg._slotnames(type(value))  # type: ignore[attr-defined]
    held = ((name, getattr(value, name, _NOTHING)) for name in names)
    return [(name, content) for name, content in held if content is not _NOTHING]


_NOTHING = object()
