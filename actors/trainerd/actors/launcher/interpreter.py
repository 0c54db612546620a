"""The Python a run asks for, and the places it names: what can be checked without running it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from trainerd.actors.launcher.environment import SYSTEM_PATH
from trainerd.actors.launcher.processes import Children
from trainerd.v1 import control_pb2, run_pb2

PROBE_TIMEOUT_S = 30.0
_NOT_IMPORTABLE = 3
_PROBE = f"""\
import importlib.util, sys
try:
    found = importlib.util.find_spec("trainerd.actors.trainer")
except ModuleNotFoundError:
    found = None
sys.exit(0 if found else {_NOT_IMPORTABLE})
"""


def resolved_python(spec: run_pb2.TrainerSpec) -> str:
    """The interpreter's path: as given, a bare name as found on the system's path, or our own."""
    if not spec.python:
        return sys.executable
    if os.sep not in spec.python:
        return shutil.which(spec.python, path=SYSTEM_PATH) or spec.python
    return spec.python


def place_problems(spec: run_pb2.TrainerSpec) -> list[control_pb2.Problem]:
    """What is wrong with the interpreter, the working directory and the module path."""
    problems = []
    python = resolved_python(spec)
    if not os.path.isabs(python) or not os.path.isfile(python):
        problems.append(
            control_pb2.Problem(
                field="trainer.python",
                message=f"no interpreter {spec.python!r} on this host",
                suggestion="name the absolute path of a Python that has trainerd installed, or "
                "leave it empty for the launcher's own",
            )
        )
    elif not os.access(python, os.X_OK):
        problems.append(
            control_pb2.Problem(
                field="trainer.python",
                message=f"{python} is not executable by the launcher's user",
                suggestion="give the launcher's user the right to execute it",
            )
        )
    places = [("trainer.path", entry) for entry in spec.path]
    if spec.workdir:
        places.append(("trainer.workdir", spec.workdir))
    for field, place in places:
        if not os.path.isabs(place):
            message = f"{field} must be absolute, got {place!r}"
        elif not os.path.exists(place):
            message = f"{place} does not exist on this host"
        elif field == "trainer.workdir" and not os.path.isdir(place):
            message = f"{place} is not a directory"
        elif not os.access(place, os.R_OK):
            message = f"{place} is not readable by the launcher's user"
        else:
            continue
        problems.append(
            control_pb2.Problem(
                field=field, message=message, suggestion="create it, or correct the path"
            )
        )
    return problems


async def probe_problems(
    python: str, environment: Mapping[str, str], children: Children
) -> list[control_pb2.Problem]:
    """Whether a foreign interpreter runs and finds trainerd; asked of the interpreter itself."""
    if python == sys.executable:
        return []
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        child = children.spawn(
            [python, "-c", _PROBE],
            environment=environment,
            directory="/",
            stdin=null,
            stdout=null,
            stderr=null,
        )
    except OSError as error:
        return [_not_python(python, f"it cannot be executed: {error.strerror}")]
    finally:
        os.close(null)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            ended = await asyncio.shield(child.ended)
    except TimeoutError:
        return [_not_python(python, f"it gave no answer in {PROBE_TIMEOUT_S:g} s")]
    finally:
        child.kill()
    if ended.exit_code == _NOT_IMPORTABLE:
        return [
            control_pb2.Problem(
                field="trainer.python",
                message=f"trainerd is not installed for {python}",
                suggestion=f"{python} -m pip install trainerd",
            )
        ]
    if ended.exit_code != 0:
        how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.exit_code}"
        return [_not_python(python, f"a one-line program ended with {how}")]
    return []


def _not_python(python: str, why: str) -> control_pb2.Problem:
    return control_pb2.Problem(
        field="trainer.python",
        message=f"{python} is not a working Python: {why}",
        suggestion="name a Python ≥ 3.11 that has trainerd installed",
    )


def directory_problems(field: str, directory: Path) -> list[control_pb2.Problem]:
    """Whether a directory can be made and written. Leaves nothing behind."""
    made: list[Path] = []
    try:
        missing = [p for p in (directory, *directory.parents) if not p.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o700)
            made.append(path)
        probe = directory / f".trainerd-probe-{os.getpid()}"
        probe.write_bytes(b"trainerd")
        probe.unlink()
    except OSError as error:
        return [
            control_pb2.Problem(
                field=field,
                message=f"{directory} cannot be written: {error.strerror or error}",
                suggestion="choose a directory that the launcher's user may write",
            )
        ]
    finally:
        for path in reversed(made):
            path.rmdir()
    return []
