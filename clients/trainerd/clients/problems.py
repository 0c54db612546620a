"""Problems of a run file, as an editor would list them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainerd.clients.errors import InvalidRun
from trainerd.clients.runfile import RunFile
from trainerd.clients.wording import one_line, printable
from trainerd.v1 import control_pb2


def merged(file: RunFile, from_daemon: Iterable[control_pb2.Problem]) -> list[control_pb2.Problem]:
    """The client's and the daemon's problems by line, each once.

    What the client could not read the daemon finds missing; only the client's word counts there.
    """
    own = {problem.field for problem in file.problems}
    every = [
        *file.problems,
        *(problem for problem in from_daemon if not _concerns(problem.field, own)),
    ]
    return sorted(every, key=lambda problem: file.line(problem.field) or 0)


def refusal(file: RunFile, problems: Sequence[control_pb2.Problem]) -> InvalidRun:
    """The error for a run file with problems: its message lists them, in the order given."""
    listing = [f"{file.name}: {count(problems)}", *(rendered(p, file) for p in problems)]
    lines = [file.line(problem.field) for problem in problems]
    return InvalidRun(problems, "\n".join(listing), file=file.name, lines=lines)


def rendered(problem: control_pb2.Problem, file: RunFile) -> str:
    """`run.toml:12: train.steps must be ≥ 1, got 0`, suggestion and evidence indented below."""
    line = file.line(problem.field)
    where = f"{file.name}:{line}" if line is not None else file.name
    lines = [f"{where}: {one_line(problem.message)}"]
    if problem.suggestion:
        lines.append(f"    {one_line(problem.suggestion)}")
    lines += [f"    | {detail}" for detail in printable(problem.detail).rstrip().splitlines()]
    return "\n".join(lines)


def count(problems: Sequence[control_pb2.Problem]) -> str:
    """`1 problem`, `3 problems`."""
    return f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"


def _concerns(field: str, own: set[str]) -> bool:
    """Whether a field, or the table or array it is in, is already complained about."""
    return any(field == mine or field.startswith((f"{mine}.", f"{mine}[")) for mine in own if mine)
