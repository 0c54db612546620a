"""Whether a checkpoint holds the program's state: leaf by leaf, never by their count."""

from __future__ import annotations

from collections.abc import Mapping

from trainerd.actors.errors import CheckpointMismatchError

_SHOWN_LEAVES = 8


def compare(step: int, there: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raise `CheckpointMismatchError` unless both have the same leaves, shapes and dtypes.

    `there` and `here`: what `leaf_kinds` says of the checkpoint of `step` and of the program's
    state. The text names every leaf that differs, up to a bound, and what it may be called by now.
    """
    renamed = _renamed(there, here)
    problems = [
        _difference(name, there.get(name), here.get(name), renamed.get(name))
        for name in sorted(there.keys() | here.keys(), key=_parameters_first)
        if there.get(name) != here.get(name)
    ]
    if problems:
        more = len(problems) - _SHOWN_LEAVES
        raise CheckpointMismatchError(
            f"the checkpoint of step {step} holds another state than the program's: "
            + "; ".join(problems[:_SHOWN_LEAVES])
            + (f"; and {more} more" if more > 0 else ""),
            suggestion="name the leaves as they were, for nothing is loaded in part; or run the "
            "program and arguments that made it, or begin a new run"
            if renamed
            else "run the program and arguments that made it, or begin a new run",
        )


def _renamed(there: Mapping[str, str], here: Mapping[str, str]) -> dict[str, str]:
    """Of leaves that only the checkpoint has: what each may be called in the program.

    The one of equal shape and dtype whose path differs least, if there is exactly one such.
    """
    gone = [name for name in there if name not in here]
    new = [name for name in here if name not in there]
    found: dict[str, str] = {}
    for name in gone:
        alike = sorted(
            (_distance(name, other), other) for other in new if here[other] == there[name]
        )
        if alike and (len(alike) == 1 or alike[0][0] < alike[1][0]):
            found[name] = alike[0][1]
    taken = list(found.values())
    return {name: other for name, other in found.items() if taken.count(other) == 1}


def _distance(one: str, other: str) -> int:
    """How many parts two paths do not share at their beginnings and ends."""
    first, second = one.split("/"), other.split("/")
    shared = _common(first, second)
    shared += _common(first[shared:][::-1], second[shared:][::-1])
    return max(len(first), len(second)) - shared


def _common(first: list[str], second: list[str]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _parameters_first(name: str) -> tuple[bool, str]:
    return not name.startswith("params/"), name


def _difference(name: str, there: str | None, here: str | None, renamed: str | None) -> str:
    if there is None:
        return f"{name} ({here}) is not in the checkpoint"
    if here is None:
        maybe = "" if renamed is None else f", which has {renamed} of that kind: renamed to it?"
        return f"{name} ({there}) is not in the program{maybe}"
    return f"{name} is {there} in the checkpoint, {here} in the program"
