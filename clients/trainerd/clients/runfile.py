"""A run file: TOML on disk → `RunSpec`, with the line of every key.

Relative paths in it (`trainer.python` if it has a slash, `trainer.path`, `trainer.workdir`,
`checkpoint.directory`, `checkpoint.fallback_directory`) are relative to the file; `~` is the
user's home directory. Where `trainer.path` is not given and the entry's module lies next to the
run file, the run file's directory is put on `trainer.path`, so that `entry = "my_program:build"`
finds `my_program.py` there.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainerd.clients.errors import BadInput
from trainerd.clients.spec_reader import key_text, read_spec
from trainerd.clients.toml_lines import key_lines
from trainerd.v1 import control_pb2, run_pb2

MAX_RUN_FILE_BYTES = 4 * 1024 * 1024
"""Larger run files are refused unread."""

_POSITION = re.compile(r"\s*\(at line (\d+), column (\d+)\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A run file that is TOML.

    `name` is the file as the user named it; `problems` is what is wrong with keys and types, in
    which case `spec` lacks those; `lines` maps key paths to lines.
    """

    name: str
    spec: run_pb2.RunSpec
    problems: tuple[control_pb2.Problem, ...]
    lines: Mapping[str, int]

    def line(self, field: str) -> int | None:
        """The line of a key path such as "train.steps" or "trainer.path[0]".

        A key that is not in the file stands where its table does; None: that is not there
        either.
        """
        path = _plain(field)
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path.rpartition(".")[0]
        return None


def load_run_file(file: str | os.PathLike[str]) -> RunFile:
    """Read a run file. Raises `BadInput`, with line and column, if it is not readable TOML."""
    name = os.fspath(file)
    text = _read(name)
    try:
        document = tomllib.loads(text)
        lines = key_lines(text)
        spec, problems = read_spec(document)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(_syntax_error(name, str(error))) from error
    except RecursionError as error:
        raise BadInput(f"{name}: nested too deeply") from error
    directory = Path(os.path.abspath(name)).parent
    _resolve_paths(spec, directory)
    if "path" not in document.get("trainer", {}):
        _find_program(spec, directory)
    return RunFile(
        name=name,
        spec=spec,
        problems=tuple(problems),
        lines={_plain(key_text(path)): line for path, line in lines.items()},
    )


def _read(name: str) -> str:
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_RUN_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise BadInput(f"there is no run file {name}") from error
    except IsADirectoryError as error:
        raise BadInput(f"{name} is a directory, expected a run file (TOML)") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"cannot read {name}: {reason}") from error
    if len(data) > MAX_RUN_FILE_BYTES:
        raise BadInput(f"{name} is larger than {MAX_RUN_FILE_BYTES} bytes; is it a run file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{name}:{line}: must be UTF-8, got the byte 0x{data[error.start]:02x}"
        ) from error


def _syntax_error(name: str, message: str) -> str:
    position = _POSITION.search(message)
    if position is None:
        return f"{name}: not valid TOML: {message}"
    what = message[: position.start()]
    return f"{name}:{position[1]}:{position[2]}: not valid TOML: {what}"


def _resolve_paths(spec: run_pb2.RunSpec, directory: Path) -> None:
    if "/" in spec.trainer.python:
        spec.trainer.python = _absolute(spec.trainer.python, directory)
    for index, entry in enumerate(spec.trainer.path):
        spec.trainer.path[index] = _absolute(entry, directory)
    if spec.trainer.workdir:
        spec.trainer.workdir = _absolute(spec.trainer.workdir, directory)
    if spec.checkpoint.directory:
        spec.checkpoint.directory = _absolute(spec.checkpoint.directory, directory)
    if spec.checkpoint.fallback_directory:
        fallback = _absolute(spec.checkpoint.fallback_directory, directory)
        spec.checkpoint.fallback_directory = fallback


def _absolute(path: str, directory: Path) -> str:
    if "://" in path:
        return path
    return os.path.normpath(directory / os.path.expanduser(path))


def _find_program(spec: run_pb2.RunSpec, directory: Path) -> None:
    module = spec.entry.partition(":")[0]
    if not all(part.isidentifier() for part in module.split(".")):
        return
    place = directory.joinpath(*module.split("."))
    if place.is_dir() or place.with_name(f"{place.name}.py").is_file():
        spec.trainer.path.append(str(directory))


def _plain(field: str) -> str:
    """`a."b"[0]` as `a.b.0`: the daemon may write a key path in another of the usual ways."""
    return re.sub(r"\[(\d+)\]", r".\1", field).replace('"', "")
