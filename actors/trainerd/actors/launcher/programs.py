"""What a run may use of this host: checked at submit, at each start, and once more before exec.

Paths are resolved first, then compared with the operator's list, and what was resolved is what is
used: a symlink that is turned elsewhere afterwards changes nothing. Of an interpreter the directory
is resolved, not its last link: it decides, by the `pyvenv.cfg` beside it, which packages there are.
Who may write below an allowed directory may put any code there, by a symlink or without.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from trainerd.actors.launcher.environment import environment_problems
from trainerd.actors.launcher.interpreter import place_problems, resolved_python
from trainerd.actors.launcher.programs_config import BELOW, ProgramsSection
from trainerd.v1 import control_pb2, launcher_pb2, run_pb2

_WithSpec = TypeVar("_WithSpec", launcher_pb2.Assignment, launcher_pb2.ReplayIncidentRequest)


class Programs:
    """The operator's allow-list, and what is wrong with a specification on this host."""

    def __init__(self, section: ProgramsSection, state: Path) -> None:
        """`state`: the launcher's own directory, where a run may always save."""
        self._section = section
        self._state = state

    def resolved(self, spec: run_pb2.RunSpec) -> run_pb2.RunSpec:
        """The specification with the real paths of what it names, where a list says which."""
        copy = run_pb2.RunSpec()
        copy.CopyFrom(spec)
        if self._section.pythons is not None and spec.trainer.python:
            copy.trainer.python = _real_python(resolved_python(spec.trainer))
        if self._section.paths is not None:
            copy.trainer.path[:] = [os.path.realpath(entry) for entry in spec.trainer.path]
            if spec.trainer.workdir:
                copy.trainer.workdir = os.path.realpath(spec.trainer.workdir)
        return copy

    def resolved_in(self, message: _WithSpec) -> _WithSpec:
        """A copy of a message whose specification is `resolved`."""
        copy = type(message)()
        copy.CopyFrom(message)
        copy.spec.CopyFrom(self.resolved(message.spec))
        return copy

    def problems(self, spec: run_pb2.RunSpec) -> list[control_pb2.Problem]:
        """What is wrong with a specification that `resolved` returned."""
        return [
            *environment_problems(spec.trainer.env),
            *self._not_allowed(spec),
            *place_problems(spec.trainer),
        ]

    def unchanged(self, spec: run_pb2.RunSpec) -> bool:
        """Whether what `resolved` returned is still what it was: to be asked right before exec."""
        return self.resolved(spec) == spec

    def export_problems(self, directory: str) -> list[control_pb2.Problem]:
        """Whether parameters may be written there."""
        return list(self._outside("directory", [directory]))

    def _not_allowed(self, spec: run_pb2.RunSpec) -> Iterator[control_pb2.Problem]:
        lists, trainer = self._section, spec.trainer
        module = spec.entry.partition(":")[0]
        if lists.entries is not None and not any(_holds(each, module) for each in lists.entries):
            yield _refused("entry", f"the module {module}", "programs.entries", lists.entries)
        if lists.pythons is not None and trainer.python:
            own = _real_python(sys.executable)
            allowed = {own, *(_real_python(each) for each in lists.pythons if BELOW not in each)}
            below = [each.removesuffix(BELOW) for each in lists.pythons if each.endswith(BELOW)]
            if trainer.python not in allowed and not _below(trainer.python, below):
                yield _refused("trainer.python", trainer.python, "programs.pythons", lists.pythons)
        if lists.paths is not None:
            places = [("trainer.path", entry) for entry in trainer.path]
            if trainer.workdir:
                places.append(("trainer.workdir", trainer.workdir))
            for field, place in places:
                if not _below(place, _bare(lists.paths)):
                    yield _refused(field, place, "programs.paths", lists.paths)
        for name in sorted(trainer.env):
            if lists.env is not None and not any(_named(each, name) for each in lists.env):
                yield _refused(f"trainer.env.{name}", name, "programs.env", lists.env)
        for field in ("directory", "fallback_directory"):
            yield from self._outside(f"checkpoint.{field}", [getattr(spec.checkpoint, field)])

    def _outside(self, field: str, places: Iterable[str]) -> Iterator[control_pb2.Problem]:
        allowed = self._section.directories
        if allowed is None:
            return
        for place in places:
            if place and not _below(os.path.realpath(place), [*_bare(allowed), str(self._state)]):
                yield _refused(field, place, "programs.directories", allowed)


def _real_python(path: str) -> str:
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _bare(entries: Sequence[str]) -> list[str]:
    return [entry.removesuffix(BELOW) or "/" for entry in entries]


def _below(path: str, directories: Iterable[str]) -> bool:
    """Whether a real path is one of these directories, or below one."""
    for each in directories:
        real = os.path.realpath(each)
        if path == real or path.startswith(real.rstrip("/") + "/"):
            return True
    return False


def _holds(entry: str, module: str) -> bool:
    package = entry.removesuffix(".*")
    return module == package or (entry != package and module.startswith(f"{package}."))


def _named(entry: str, name: str) -> bool:
    return name.startswith(entry[:-1]) if entry.endswith("*") else name == entry


def _refused(field: str, what: str, key: str, allowed: Sequence[str]) -> control_pb2.Problem:
    shown = ", ".join(allowed) or "none"
    return control_pb2.Problem(
        field=field,
        message=f"{what} is not allowed on this host",
        suggestion=f"the operator allows, by {key} of the launcher: {shown}",
    )
