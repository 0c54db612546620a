"""What a user hands over: functions and data, and how they are loaded by name."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import optax

from trainerd.actors.errors import ProgramError
from trainerd.actors.traceback_text import user_traceback

PyTree: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One training problem. All functions but `evaluate` and `weight` are traced by JAX.

    `init(key)` returns the parameters, any pytree of floating-point arrays. `loss(params, batch,
    key)` returns the mean loss over a slot's examples, a scalar, or `(loss, metrics)` with a flat
    dict of scalars. `data` has a length and gives an example, a pytree of arrays or numbers, for
    an index; or it is an iterable of examples whose iterator says where it stands, such as a Grain
    `IterDataset`. `evaluate(params)` returns named numbers. `weight(batch)` returns a slot's
    weight, a number ≥ 0 computed on the host; without it slots weigh the same. Only ratios of
    weights matter.
    """

    init: Callable[[Any], PyTree]
    loss: Callable[[PyTree, PyTree, Any], Any]
    optimizer: optax.GradientTransformation
    data: Any
    evaluate: Callable[[PyTree], Mapping[str, Any]] | None = None
    callbacks: tuple[Any, ...] = ()
    weight: Callable[[PyTree], float] | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be a function, got {type(value).__name__}"
            for name, value, optional in (
                ("init", self.init, False),
                ("loss", self.loss, False),
                ("evaluate", self.evaluate, True),
                ("weight", self.weight, True),
            )
            if not callable(value) and not (optional and value is None)
        ]
        if not isinstance(self.optimizer, optax.GradientTransformation):
            problems.append(
                "optimizer must be an optax.GradientTransformation, "
                f"got {type(self.optimizer).__name__}"
            )
        if self.data is None:
            problems.append(
                "data must have a length and give an example for an index, or be an iterable that "
                "can be resumed, got None"
            )
        if problems:
            raise ProgramError("Program: " + "; ".join(problems))
        object.__setattr__(self, "callbacks", tuple(self.callbacks))


def load_entry(entry: str, args: Mapping[str, Any]) -> Program:
    """Import `"package.module:function"`, call the function with `args`, return its Program.

    Everything that can go wrong is a `ProgramError`; where the user's code raised, its `detail` is
    the user's traceback.
    """
    return build_program(entry, entry_function(entry), args)


def entry_function(entry: str) -> Callable[..., Any]:
    """The function that `"package.module:function"` names; imports the module.

    Raises `ProgramError`.
    """
    module_name, _, function_name = entry.partition(":")
    if not module_name or not function_name.isidentifier():
        raise ProgramError(
            f'entry must be "package.module:function", got "{entry}"',
            suggestion="name the function that returns the Program",
        )
    return _function(_module(module_name), module_name, function_name)


def build_program(entry: str, build: Callable[..., Any], args: Mapping[str, Any]) -> Program:
    """Call what `entry_function` returned with `args`. Raises `ProgramError`."""
    _check_arguments(entry, build, args)
    try:
        program = build(**args)
    except Exception as error:
        raise ProgramError(
            f"{entry} raised {type(error).__name__}: {error}", detail=user_traceback(error)
        ) from error
    if not isinstance(program, Program):
        raise ProgramError(
            f"{entry} must return a trainerd.actors Program, got {type(program).__name__}",
            suggestion="return Program(init=…, loss=…, optimizer=…, data=…)",
        )
    return program


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(missing + "."):
            raise ProgramError(
                f'module "{missing}" not found on sys.path ({_search_path()})',
                suggestion="add its directory to [trainer] path",
            ) from error
        raise ProgramError(
            f'module "{name}" imports "{missing}", which is not installed in {sys.executable}',
            suggestion="install it there, or name another interpreter in [trainer] python",
            detail=user_traceback(error),
        ) from error
    except Exception as error:
        raise ProgramError(
            f'importing "{name}" raised {type(error).__name__}: {error}',
            detail=user_traceback(error),
        ) from error


def _function(module: Any, module_name: str, function_name: str) -> Callable[..., Any]:
    found = vars(module).get(function_name)
    if callable(found):
        function: Callable[..., Any] = found
        return function
    names = sorted(
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module_name and name[0] != "_"
    )
    raise ProgramError(
        f'module "{module_name}" has no function "{function_name}"',
        suggestion=f"it has {', '.join(names)}" if names else "it defines no function",
    )


def _check_arguments(entry: str, build: Callable[..., Any], args: Mapping[str, Any]) -> None:
    parameters = inspect.signature(build).parameters.values()
    problems = [
        f"needs {p.name}"
        for p in parameters
        if p.default is p.empty
        and p.name not in args
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        problems += [f"does not know {name}" for name in args if name not in known]
    positional = [
        p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty
    ]
    problems += [f"takes {name} by position only" for name in positional]
    if problems:
        raise ProgramError(
            f"{entry} {', '.join(problems)}",
            suggestion=f"[args] can hold {', '.join(known) or 'nothing'}",
        )


def _search_path() -> str:
    shown = [path or "." for path in sys.path[:4]]
    return ", ".join(shown + (["…"] if len(sys.path) > len(shown) else []))
