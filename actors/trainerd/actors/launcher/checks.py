"""Program checks: a process in the user's Python says everything that is wrong with a program."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError

from trainerd.actors.launcher import devices, environment, interpreter
from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.errands import Errands
from trainerd.actors.launcher.processes import Children, Ended
from trainerd.actors.launcher.programs import Programs
from trainerd.v1 import control_pb2, launcher_pb2, run_pb2

CONCURRENT_CHECKS = 2
_BEFORE = frozenset({"entry", "trainer.python", "trainer.path", "trainer.workdir"})
"""What must be in order before the program is loaded."""

_log = structlog.get_logger("trainerd.launcher")


class Checks:
    """Checks programs, a few at a time, each within a deadline."""

    def __init__(self, config: LauncherConfig, children: Children) -> None:
        self._config = config
        self._children = children
        self._programs = Programs(config.programs, config.state)
        self._free = asyncio.Semaphore(CONCURRENT_CHECKS)
        self._errands = Errands(children)

    async def check(self, spec: run_pb2.RunSpec) -> list[control_pb2.Problem]:
        """Every problem found. A check that does not end in time claims nothing."""
        spec = self._programs.resolved(spec)
        problems = self._programs.problems(spec)
        for field in ("directory", "fallback_directory"):
            directory = getattr(spec.checkpoint, field)
            if directory and f"checkpoint.{field}" not in {p.field for p in problems}:
                problems += interpreter.directory_problems(f"checkpoint.{field}", Path(directory))
        if any(p.field in _BEFORE for p in problems):
            return problems
        python = interpreter.resolved_python(spec.trainer)
        variables = self._environment(spec, python, {problem.field for problem in problems})
        foreign = await interpreter.probe_problems(python, variables, self._children)
        if foreign:
            return problems + foreign
        async with self._free:
            return problems + await self._run(spec, python, variables)

    def kill(self) -> None:
        """End the checks that run; each claims nothing."""
        self._errands.kill()

    def _environment(
        self, spec: run_pb2.RunSpec, python: str, refused: Collection[str]
    ) -> dict[str, str]:
        """The trainer's environment, but with the CPU alone: a check touches no device."""
        on_cpu = dataclasses.replace(self._config.devices, platform="cpu", visible="all")
        allowed = {
            name: value
            for name, value in spec.trainer.env.items()
            if f"trainer.env.{name}" not in refused
        }
        return environment.build_environment(
            python=python,
            user=environment.User.current(),
            devices=devices.device_environment(on_cpu, spec.train, has_gpu=lambda: False),
            extra=allowed,
        )

    async def _run(
        self, spec: run_pb2.RunSpec, python: str, variables: Mapping[str, str]
    ) -> list[control_pb2.Problem]:
        timeout_s = self._config.launcher.check_timeout_s
        with tempfile.TemporaryDirectory(prefix="check-", dir=self._config.state) as scratch:
            errand = await self._errands.run(
                [python, "-m", "trainerd.actors.checker"],
                told=spec.SerializeToString(),
                environment=variables,
                directory=spec.trainer.workdir or scratch,
                timeout_s=timeout_s,
            )
        if errand.ended is None:
            _log.warning("program_check_timed_out", timeout_s=timeout_s)
        return _problems(errand.ended, errand.answer, errand.said)


def _problems(ended: Ended | None, data: bytes, said: str) -> list[control_pb2.Problem]:
    if ended is None:
        return []
    if ended.exit_code == 0:
        try:
            return list(launcher_pb2.CheckProgramResponse.FromString(data).problems)
        except DecodeError as error:
            _log.error("program_check_unreadable", error=str(error), said=said)
            return []
    if ended.signal == signal.SIGKILL:
        # The kernel's choice for want of memory, or this launcher's end: says nothing of the user.
        _log.warning("program_check_killed")
        return []
    how = (
        f"signal {ended.signal} ({signal.Signals(ended.signal).name})"
        if ended.signal
        else f"exit code {ended.exit_code}"
    )
    return [
        control_pb2.Problem(
            field="entry",
            message=f"the process that loaded the program ended with {how}",
            suggestion="import the module and call the function by hand with the same Python",
            detail=said,
        )
    ]
