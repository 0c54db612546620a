"""One launcher from start to end: locks, socket, signals, drain."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import os
import signal
import socket
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from trainerd.actors.launcher import devices
from trainerd.actors.launcher.checkpoints import Checkpoints
from trainerd.actors.launcher.checks import Checks
from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.coordinators import Coordinators
from trainerd.actors.launcher.exits import ExitStore
from trainerd.actors.launcher.live import bury_the_dead
from trainerd.actors.launcher.log_keeping import LogKeeper
from trainerd.actors.launcher.processes import Children
from trainerd.actors.launcher.replays import Replays
from trainerd.actors.launcher.runs import RunFiles
from trainerd.actors.launcher.service import LauncherService
from trainerd.actors.launcher.snapshot_places import SnapshotPlaces
from trainerd.actors.launcher.standby_key import Wanted
from trainerd.actors.launcher.standbys import Standbys
from trainerd.actors.launcher.step_metrics import rescue_steps
from trainerd.actors.launcher.trainers import TrainerCommand, Trainers, trainer_command
from trainerd.v1 import launcher_pb2, launcher_pb2_grpc, protocol, service_manager

SERVICE = launcher_pb2.DESCRIPTOR.services_by_name["LauncherService"].full_name

DRAIN_MARGIN_S = 20.0
"""Seconds that the end may take beyond the grace of the trainers."""

_log = structlog.get_logger("trainerd.launcher")


class AlreadyServed(Exception):
    """Another launcher has the state directory or the socket."""


async def serve(config: LauncherConfig, *, command: TrainerCommand = trainer_command) -> None:
    """Serve until SIGTERM or SIGINT, then drain the trainers.

    Raise `AlreadyServed` if another launcher has the state directory or the socket, OSError if
    a directory, the socket or its group cannot be had.
    """
    _own_session()
    config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(config.state):
        exits = ExitStore(config.state / "exits.jsonl")
        bury_the_dead(config.state / "live.json", exits, config.state)
        children = Children()
        children.watch()
        ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        loop.add_signal_handler(signal.SIGHUP, _say_that_nothing_is_reloaded)
        snapshots = _snapshot_places(config)
        trainers = Trainers(
            config,
            children,
            exits,
            command=command,
            standbys=_standbys(config, children, command),
            snapshots=snapshots,
        )
        checks = Checks(config, children)
        replays = Replays(config, children, trainers_alive=lambda: bool(trainers.situation()))
        trainers.before_start = replays.yield_devices
        instance = uuid.uuid4().hex
        checkpoints = Checkpoints(config, children)
        coordinators = Coordinators(config, children)
        service = LauncherService(
            instance=instance,
            trainers=trainers,
            exits=exits,
            checks=checks,
            replays=replays,
            checkpoints=checkpoints,
            coordinators=coordinators,
            devices=devices.told(config.devices),
        )
        keeper = LogKeeper(
            config.state,
            lambda: ((each.run, each.incarnation) for each in trainers.situation()),
            most_bytes=config.logs.trainer_bytes,
            run_bytes=config.logs.run_bytes,
        )
        server = await _listen(config, service)
        keeping = asyncio.create_task(keeper.run())
        _log.info(
            "launcher_ready",
            socket=str(config.socket),
            state=str(config.state),
            pid=os.getpid(),
            instance=instance,
        )
        _tell_systemd("READY=1")
        await ending.wait()
        _log.info("launcher_draining", trainers=len(trainers.situation()))
        # The unit's own patience need not know how long trainers may take to save.
        patience_us = int((config.launcher.grace_s + DRAIN_MARGIN_S) * 1e6)
        _tell_systemd(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={patience_us}")
        checks.kill()
        replays.kill()
        checkpoints.kill()
        await trainers.drain(config.launcher.grace_s)
        # After the trainers, who cannot save without it.
        await coordinators.drain()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await asyncio.to_thread(snapshots.close, trainers.unsaved)
        service.end()
        await server.stop(grace=1.0)
        with contextlib.suppress(FileNotFoundError):
            config.socket.unlink()
        _log.info("launcher_ended")


def _say_that_nothing_is_reloaded() -> None:
    _log.warning(
        "configuration_not_reloaded",
        problems=["a launcher does not reload: restart it; its trainers save, and go on after it"],
    )


def _tell_systemd(state: str) -> None:
    try:
        service_manager.sd_notify(state)
    except OSError as error:
        _log.warning("systemd_not_told", state=state, error=str(error))


def _snapshot_places(config: LauncherConfig) -> SnapshotPlaces:
    loop = asyncio.get_running_loop()
    places = SnapshotPlaces(
        config.state,
        run_in_background=lambda work: loop.run_in_executor(None, work),
        before_removal=lambda run, place: rescue_steps(config.state, run, place),
    )
    places.sweep(lambda run: RunFiles.of(config.state, run).root.is_dir())
    return places


def _standbys(config: LauncherConfig, children: Children, command: TrainerCommand) -> Standbys:
    return Standbys(
        children,
        # A standby forks the trainer of this package and no other.
        enabled=config.launcher.standby and command is trainer_command,
        quiet_s=config.launcher.standby_after_s,
        unfit=lambda wanted, reason: _say_unfit(config, wanted, reason),
    )


def _say_unfit(config: LauncherConfig, wanted: Wanted, reason: str) -> None:
    """Say so where the run's own words are, too."""
    files = RunFiles.of(config.state, wanted.run)
    line = f"trainerd: trainers of this program start cold, from now on: {reason}\n"
    try:
        with files.log(files.newest_incarnation()).open("a", encoding="utf-8") as log:
            log.write(line)
    except OSError as error:
        _log.warning("standby_unfit_not_said", run=wanted.run, error=str(error))


def _own_session() -> None:
    """A session of its own: a terminal's hang-up is not the trainers' business."""
    with contextlib.suppress(PermissionError):  # leads its process group already
        os.setsid()


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    path = state / "launcher.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyServed(
                f"another launcher (process {holder}) uses {state}; stop it, or choose another "
                f"--state-directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def _listen(config: LauncherConfig, service: LauncherService) -> grpc.aio.Server:
    path = config.socket
    group = _group_id(config.launcher.socket_group)
    if not path.parent.exists():
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _give_to_group(path.parent, group)
    _remove_stale(path)
    server = grpc.aio.server(options=protocol.SERVER_OPTIONS)
    launcher_pb2_grpc.add_LauncherServiceServicer_to_server(service, server)
    healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)  # type: ignore[no-untyped-call]
    # The mask is the process's, so it is put back before any trainer inherits it.
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
        await server.start()
    except RuntimeError as error:
        raise OSError(f"cannot listen on {path}: {error}") from error
    finally:
        os.umask(before)
    if group is not None:
        _give_to_group(path, group)
        os.chmod(path, 0o660)
    await healthy.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    return server


def _give_to_group(path: Path, group: int | None) -> None:
    """Make a group the file's; None: leave it. Raise OSError that says what to do."""
    if group is None or path.stat().st_gid == group:
        return
    try:
        os.chown(path, -1, group)
    except OSError as error:
        raise OSError(
            f"launcher.socket_group: {path} cannot be given to group {group}: {error.strerror}; "
            f"make the launcher's user a member of it"
        ) from error


def _group_id(name: str) -> int | None:
    """The id of a group; None for no name. Raise OSError if there is no such group."""
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise OSError(f"launcher.socket_group: no group {name!r} on this host") from None


def _remove_stale(path: Path) -> None:
    """Remove the socket of a dead launcher. Raise `AlreadyServed` if somebody listens on it."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(f"{path} exists and is not a socket; remove it, or choose another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except TimeoutError:
            pass
    raise AlreadyServed(f"another process listens on {path}; stop it, or choose another --socket")
