"""What a function's code refers to beyond its own variables: globals, and attributes of modules."""

from __future__ import annotations

import builtins
import dis
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A value that code looks up by name when it runs.

    Where it was reached through modules, `via` are those, outermost first. A module is the value
    itself only where something else than one of its attributes is used. `builtin`: it was found
    among Python's own names.
    """

    name: str
    value: Any
    via: tuple[ModuleType, ...] = ()
    builtin: bool = False


def code_objects(code: CodeType) -> Iterator[CodeType]:
    """`code` and the code of all functions that are defined within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


def references(code: CodeType, names: Mapping[str, Any]) -> Iterator[Reference]:
    """What `code` refers to, with `names` as its globals. A name that is not there is left out:
    looking it up would raise. So is a module that is not imported yet; see `unimported`."""
    for part in code_objects(code):
        instructions = [x for x in dis.get_instructions(part) if x.opname not in _NOTHING]
        for index, instruction in enumerate(instructions):
            name = instruction.argval
            match instruction.opname:
                case "LOAD_GLOBAL" | "LOAD_NAME" if name in names:
                    value, builtin = names[name], False
                case "LOAD_GLOBAL" | "LOAD_NAME" if name in vars(builtins):
                    value, builtin = vars(builtins)[name], True
                case "IMPORT_NAME" if name in sys.modules:
                    value, builtin = sys.modules[name], False
                case _:
                    continue
            attributes = []
            for following in instructions[index + 1 :]:
                if following.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                attributes.append(following.argval)
            yield _followed(name, value, attributes, builtin=builtin)


def unimported(code: CodeType) -> str | None:
    """A module that `code` imports when it runs, and that nobody has imported yet; None: none."""
    for part in code_objects(code):
        for instruction in dis.get_instructions(part):
            if instruction.opname == "IMPORT_NAME" and instruction.argval not in sys.modules:
                return str(instruction.argval)
    return None


def _followed(name: str, value: Any, attributes: list[str], *, builtin: bool) -> Reference:
    via: list[ModuleType] = []
    for attribute in attributes:
        if not isinstance(value, ModuleType) or attribute not in vars(value):
            break
        via.append(value)
        value = vars(value)[attribute]
    return Reference(name=name, value=value, via=tuple(via), builtin=builtin)


_NOTHING = ("CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "RESUME")
