"""Replays: a process in the user's Python trains again up to an incident's batch."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import structlog
from google.protobuf.message import DecodeError

from trainerd.actors.launcher import devices, environment, incidents, interpreter
from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.errands import Errand, Errands
from trainerd.actors.launcher.processes import Children
from trainerd.actors.launcher.programs import Programs
from trainerd.actors.launcher.refusals import Refused, refuse_problems
from trainerd.actors.launcher.runs import RunFiles, checkpoint_places
from trainerd.v1 import fault_pb2, incident_pb2, launcher_pb2

REPLAYABLE = frozenset(
    {
        fault_pb2.FAULT_CLASS_NON_FINITE_MICROBATCH,
        fault_pb2.FAULT_CLASS_NON_FINITE_STEP,
        fault_pb2.FAULT_CLASS_LOSS_SPIKE,
        fault_pb2.FAULT_CLASS_DATA_ERROR,
        fault_pb2.FAULT_CLASS_STEP_EXCEPTION,
        fault_pb2.FAULT_CLASS_DEVICE_OOM,
        fault_pb2.FAULT_CLASS_DEVICE_ERROR,
    }
)
"""Classes of faults that a trainer witnesses at a batch."""

_log = structlog.get_logger("trainerd.launcher")


class Replays:
    """Replays one incident at a time. On the devices only while no trainer wants them."""

    def __init__(
        self,
        config: LauncherConfig,
        children: Children,
        *,
        trainers_alive: Callable[[], bool],
        has_gpu: Callable[[], bool] = devices.has_nvidia_gpu,
    ) -> None:
        self._config = config
        self._children = children
        self._programs = Programs(config.programs, config.state)
        self._errands = Errands(children)
        self._trainers_alive = trainers_alive
        self._has_gpu = has_gpu
        self._busy = False
        self._on_devices = False
        self._ended_because = ""

    async def replay(
        self, files: RunFiles, request: launcher_pb2.ReplayIncidentRequest
    ) -> launcher_pb2.ReplayIncidentResponse:
        """Train from the incident's checkpoint to its batch; say what happened. Raise `Refused`."""
        incident, place = _replayable(files, request.number)
        with self._alone():
            request = self._programs.resolved_in(request)
            python = interpreter.resolved_python(request.spec.trainer)
            variables = self._environment(request, python)
            problems = self._programs.problems(request.spec)
            refuse_problems(
                problems or await interpreter.probe_problems(python, variables, self._children)
            )
            _log.info("replay_started", run=request.run, incident=incident.number, cpu=request.cpu)
            told = _told(files, request)
            argv = [python, "-m", "trainerd.actors.replayer"]
            argv += [str(place / incidents.INCIDENT), str(os.getpid())]
            with self._devices(cpu=request.cpu) as inherited:
                errand = await self._run(argv, told, variables, inherited)
            return self._answer(errand, incident)

    def yield_devices(self) -> None:
        """A trainer wants the devices: end a replay that is on them."""
        if self._on_devices:
            self._end("a trainer needs the devices")

    def kill(self) -> None:
        """End the replay that runs: the launcher is ending."""
        self._end("the launcher is ending")

    def _end(self, because: str) -> None:
        if self._busy:
            self._ended_because = because
            self._errands.kill()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._busy:
            raise Refused(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="REPLAY_RUNNING",
                message="another replay runs on this host",
                suggestion="wait until it has ended",
            )
        self._busy, self._ended_because = True, ""
        try:
            yield
        finally:
            self._busy = False

    @contextlib.contextmanager
    def _devices(self, *, cpu: bool) -> Iterator[tuple[int, ...]]:
        """Hold the devices, unless the replay is on the CPU; yield what it inherits."""
        if cpu:
            yield ()
            return
        if self._trainers_alive():
            raise _busy("a trainer holds the devices of this host")
        try:
            lock = devices.DeviceLock.take(self._config.state, self._config.devices)
        except devices.DevicesBusy as error:
            raise _busy(str(error)) from error
        self._on_devices = True
        try:
            yield (lock.descriptor,)
        finally:
            self._on_devices = False
            lock.close()

    def _environment(
        self, request: launcher_pb2.ReplayIncidentRequest, python: str
    ) -> dict[str, str]:
        """A trainer's, or one that shows nothing but the CPU."""
        bound, has_gpu = self._config.devices, self._has_gpu
        if request.cpu:
            bound = dataclasses.replace(bound, platform="cpu", visible="all")
        return environment.build_environment(
            python=python,
            user=environment.User.current(),
            devices=devices.device_environment(bound, request.spec.train, has_gpu=has_gpu),
            extra=dict(request.spec.trainer.env),
        )

    async def _run(
        self,
        argv: list[str],
        told: launcher_pb2.ReplayIncidentRequest,
        variables: dict[str, str],
        inherited: tuple[int, ...],
    ) -> Errand:
        with tempfile.TemporaryDirectory(prefix="replay-", dir=self._config.state) as scratch:
            try:
                return await self._errands.run(
                    argv,
                    told=told.SerializeToString(),
                    environment=variables,
                    directory=told.spec.trainer.workdir or scratch,
                    timeout_s=self._config.launcher.replay_timeout_s,
                    inherited=inherited,
                )
            except OSError as error:
                raise _failed(f"the replay could not be started: {error}") from error

    def _answer(
        self, errand: Errand, incident: incident_pb2.Incident
    ) -> launcher_pb2.ReplayIncidentResponse:
        if self._ended_because:
            raise Refused(
                code=grpc.StatusCode.ABORTED,
                reason="REPLAY_ENDED",
                message=f"the replay was ended: {self._ended_because}",
                suggestion="replay on the CPU, or when the host is free",
            )
        if errand.ended is None:
            timeout_s = self._config.launcher.replay_timeout_s
            raise Refused(
                code=grpc.StatusCode.DEADLINE_EXCEEDED,
                reason="REPLAY_TIMED_OUT",
                message=f"the replay took more than {timeout_s:g} s to batch "
                f"{incident.fault.batch}",
                suggestion="raise launcher.replay_timeout_s, or save more often",
            )
        if errand.ended.exit_code == 0:
            try:
                return launcher_pb2.ReplayIncidentResponse.FromString(errand.answer)
            except DecodeError as error:
                raise _failed(f"the replay's answer cannot be read: {error}") from error
        ended = errand.ended
        how = (
            f"signal {ended.signal} ({signal.Signals(ended.signal).name})"
            if ended.signal
            else f"exit code {ended.exit_code}"
        )
        raise _failed(f"the replay's process ended with {how}: {_last_line(errand.said)}")


def _told(
    files: RunFiles, request: launcher_pb2.ReplayIncidentRequest
) -> launcher_pb2.ReplayIncidentRequest:
    """The request with the directories of the run's own checkpoints."""
    told = launcher_pb2.ReplayIncidentRequest()
    told.CopyFrom(request)
    places = checkpoint_places(files, request.run, request.spec.checkpoint)
    told.restore_directories.extend(map(str, (places.directory, *places.fallbacks)))
    return told


def _replayable(files: RunFiles, number: int) -> tuple[incident_pb2.Incident, Path]:
    try:
        incident, _, place = incidents.read(files, number)
    except incidents.NoIncident as error:
        raise Refused(
            code=grpc.StatusCode.NOT_FOUND, reason="NO_INCIDENT", message=str(error)
        ) from error
    fault = incident.fault
    fault_class = getattr(fault, "class")
    if fault_class in REPLAYABLE and fault.batch >= 0:
        return incident, place
    name = fault_pb2.FaultClass.Name(fault_class).removeprefix("FAULT_CLASS_").lower()
    raise Refused(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="NOT_REPLAYABLE",
        message=f"incident {incident.number} ({name}) cannot be replayed: which batch it happened "
        "at is not known",
        suggestion="only faults at a batch can be replayed",
    )


def _busy(message: str) -> Refused:
    return Refused(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="DEVICES_BUSY",
        message=message,
        suggestion="replay on the CPU, or when no run is training here",
    )


def _failed(message: str) -> Refused:
    return Refused(code=grpc.StatusCode.INTERNAL, reason="REPLAY_FAILED", message=message)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
