"""What the daemon asks about checkpoints: list, verify, export. Processes do what takes long."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import structlog

from trainerd.actors.launcher import devices, environment, interpreter
from trainerd.actors.launcher.checkpoint_listing import stored
from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.errands import Errand, Errands
from trainerd.actors.launcher.processes import Children
from trainerd.actors.launcher.programs import Programs
from trainerd.actors.launcher.refusals import Refused, refuse_problems
from trainerd.actors.launcher.runs import RunFiles, checkpoint_places
from trainerd.v1 import checkpoint_pb2, launcher_pb2, run_pb2

VERIFY_TIMEOUT_S = 3570.0
"""Seconds that reading all checkpoints of a run may take: a terabyte, at 300 MB/s."""
EXPORT_TIMEOUT_S = 570.0

_log = structlog.get_logger("trainerd.launcher")


class Checkpoints:
    """Answers about the checkpoints of runs; verifies, adopts and exports one run's at a time."""

    def __init__(self, config: LauncherConfig, children: Children) -> None:
        self._config = config
        self._children = children
        self._programs = Programs(config.programs, config.state)
        self._errands = Errands(children)
        self._free = asyncio.Lock()

    async def read(
        self, files: RunFiles, request: launcher_pb2.ReadCheckpointsRequest
    ) -> launcher_pb2.ReadCheckpointsResponse:
        """List a run's checkpoints, verify them, or adopt one. Raise `Refused`."""
        directories = _directories(files, request.run, request.checkpoint)
        adopts = request.HasField("adopt_step")
        if not (request.verify or adopts):
            return launcher_pb2.ReadCheckpointsResponse(checkpoints=await _listed(directories))
        told = launcher_pb2.ReadCheckpointsRequest(
            run=request.run, verify=True, directories=map(str, directories)
        )
        if adopts:
            told.adopt_step = request.adopt_step
        python = interpreter.resolved_python(run_pb2.TrainerSpec())
        async with self._free:
            _log.info("adoption_started" if adopts else "verification_started", run=request.run)
            errand = await self._run(
                [python, "-m", "trainerd.actors.verifier", str(os.getpid())],
                told.SerializeToString(),
                self._environment(run_pb2.RunSpec(), python),
                VERIFY_TIMEOUT_S,
            )
        answer = launcher_pb2.ReadCheckpointsResponse.FromString(
            _answer(errand, "the verification", VERIFY_TIMEOUT_S)
        )
        if answer.problem:
            raise Refused(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="NOT_ADOPTED",
                message=f"{answer.problem}; nothing was changed",
                suggestion=f"`trainerctl checkpoints {request.run}` lists what there is",
            )
        return answer

    async def export(
        self, files: RunFiles, request: launcher_pb2.ExportParametersRequest
    ) -> launcher_pb2.ExportParametersResponse:
        """Write the parameters of a run's checkpoint. Raise `Refused`."""
        target = Path(request.directory)
        if not target.is_absolute():
            raise _invalid(f"directory must be an absolute path, got {request.directory!r}")
        if await asyncio.to_thread(_occupied, target):
            raise Refused(
                code=grpc.StatusCode.ALREADY_EXISTS,
                reason="EXPORT_EXISTS",
                message=f"{target} is there already, and not an empty directory",
                suggestion="name another one",
            )
        found = await _listed(_directories(files, request.run, request.spec.checkpoint))
        chosen = _chosen(found, request)
        told = launcher_pb2.ExportParametersRequest(
            run=request.run, step=chosen.step, directory=str(target), path=chosen.path
        )
        spec = self._programs.resolved(request.spec)
        python = interpreter.resolved_python(spec.trainer)
        variables = self._environment(spec, python)
        problems = self._programs.problems(spec)
        problems += self._programs.export_problems(request.directory)
        refuse_problems(
            problems or await interpreter.probe_problems(python, variables, self._children)
        )
        async with self._free:
            _log.info("export_started", run=request.run, step=chosen.step, directory=str(target))
            errand = await self._run(
                [python, "-m", "trainerd.actors.exporter", str(os.getpid())],
                told.SerializeToString(),
                variables,
                EXPORT_TIMEOUT_S,
            )
        answer = launcher_pb2.ExportParametersResponse.FromString(
            _answer(errand, "the export", EXPORT_TIMEOUT_S)
        )
        if answer.problem:
            raise _failed(answer.problem)
        return answer

    def kill(self) -> None:
        """End what runs: the launcher is ending."""
        self._errands.kill()

    def _environment(self, spec: run_pb2.RunSpec, python: str) -> dict[str, str]:
        """A trainer's, but with the CPU alone: no device is touched."""
        on_cpu = dataclasses.replace(self._config.devices, platform="cpu", visible="all")
        return environment.build_environment(
            python=python,
            user=environment.User.current(),
            devices=devices.device_environment(on_cpu, spec.train, has_gpu=lambda: False),
            extra=dict(spec.trainer.env),
        )

    async def _run(
        self, argv: Sequence[str], told: bytes, variables: Mapping[str, str], timeout_s: float
    ) -> Errand:
        with tempfile.TemporaryDirectory(prefix="checkpoints-", dir=self._config.state) as scratch:
            try:
                return await self._errands.run(
                    argv,
                    told=told,
                    environment=variables,
                    directory=scratch,
                    timeout_s=timeout_s,
                )
            except OSError as error:
                raise _failed(f"its process could not be started: {error}") from error


def _directories(files: RunFiles, run: str, spec: run_pb2.CheckpointSpec) -> list[Path]:
    places = checkpoint_places(files, run, spec)
    return [places.directory, *places.fallbacks]


async def _listed(directories: Sequence[Path]) -> list[checkpoint_pb2.StoredCheckpoint]:
    return await asyncio.to_thread(stored, directories)


def _chosen(
    found: Sequence[checkpoint_pb2.StoredCheckpoint],
    request: launcher_pb2.ExportParametersRequest,
) -> checkpoint_pb2.StoredCheckpoint:
    """The newest durable checkpoint, or that of the step that is asked for."""
    durable = [each for each in found if each.state == checkpoint_pb2.CHECKPOINT_STATE_DURABLE]
    for each in durable:
        if not request.HasField("step") or each.step == request.step:
            return each
    steps = ", ".join(str(each.step) for each in durable)
    raise Refused(
        code=grpc.StatusCode.NOT_FOUND,
        reason="NO_CHECKPOINT",
        message=f"{request.run} has no durable checkpoint"
        + (f" of step {request.step} on this host" if request.HasField("step") else ""),
        suggestion=f"there is one of step {steps}" if steps else "",
    )


def _occupied(target: Path) -> bool:
    try:
        return any(target.iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _answer(errand: Errand, what: str, timeout_s: float) -> bytes:
    ended = errand.ended
    if ended is None:
        raise Refused(
            code=grpc.StatusCode.DEADLINE_EXCEEDED,
            reason="CHECKPOINTS_TIMED_OUT",
            message=f"{what} took more than {timeout_s:g} s",
        )
    if ended.exit_code == 0 and not ended.signal:
        return errand.answer
    lines = errand.said.strip().splitlines() or ["it said nothing"]
    how = signal.Signals(ended.signal).name if ended.signal else f"exit code {ended.exit_code}"
    raise _failed(f"{what} ended with {how}: {lines[-1]}")


def _invalid(message: str) -> Refused:
    return Refused(
        code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_ARGUMENT", message=message
    )


def _failed(message: str) -> Refused:
    return Refused(code=grpc.StatusCode.INTERNAL, reason="CHECKPOINTS_UNREADABLE", message=message)
