"""The launcher's configuration: a TOML file, overridden by flags."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainerd.actors.launcher.programs_config import ProgramsSection, programs_problems
from trainerd.v1 import protocol

FORMATS = ("auto", "json", "pretty")
LEVELS = ("debug", "info", "warning", "error")
LEAST_LOG_BYTES = 65_536
PLATFORMS = ("auto", "cpu", "cuda", "rocm", "tpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherSection:
    """`[launcher]`: where the host actor keeps its files, and its patience."""

    state_directory: str = ""
    """Runs, logs, exit records. Default: `trainerd-launcher` in the user's state directory."""
    socket: str = ""
    """Unix socket of LauncherService, at most 107 bytes. Default: in the runtime directory."""
    socket_group: str = ""
    """Group that may open the socket (the daemon's). Default: none but the launcher's user."""
    host: str = ""
    """This host's name in reports. Default: the kernel's host name."""
    grace_s: float = 30.0
    """Seconds a trainer may take to save when the launcher itself is told to end. ≥ 0."""
    check_timeout_s: float = 120.0
    """Seconds a program check may take: it imports the user's program, and jax. > 0."""
    replay_timeout_s: float = 570.0
    """Seconds the replay of an incident may take; the daemon waits for 600. > 0."""
    orphan_grace_s: float = 86_400.0
    """Seconds a trainer trains on without a daemon, unless the daemon says otherwise. ≥ 0."""
    standby: bool = True
    """Whether a process that has imported what the trainer imports waits to fork its successor."""
    standby_after_s: float = 3.0
    """Seconds a trainer has the machine to itself before its standby is prepared. ≥ 0."""
    snapshot_share: float = 0.25
    """Share of this host's memory that a run's snapshots may take. 0: none are taken. ≤ 0.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesSection:
    """`[devices]`: what trainers are bound to."""

    platform: str = "auto"
    """One of auto, cpu, cuda, rocm, tpu. auto: the GPUs if there are any, else the CPU."""
    visible: str = "all"
    """`all`, or the GPUs' indices as in CUDA_VISIBLE_DEVICES: `0,1`."""
    cpu_count: int = 1
    """Devices that XLA makes of the CPU, where the platform is the CPU. 1 to 256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSection:
    """`[log]`: the launcher's own log, on standard error."""

    format: str = "auto"
    """One of auto, json, pretty. auto: pretty on a terminal, else JSON."""
    level: str = "info"
    """One of debug, info, warning, error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsSection:
    """`[logs]`: how much is kept of what programs print; the oldest goes first."""

    trainer_bytes: int = 64 * 1024 * 1024
    """Of one trainer. ≥ 65,536."""
    run_bytes: int = 512 * 1024 * 1024
    """Of all trainers of a run together. ≥ trainer_bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherConfig:
    """The whole configuration, validated."""

    launcher: LauncherSection = field(default_factory=LauncherSection)
    devices: DevicesSection = field(default_factory=DevicesSection)
    log: LogSection = field(default_factory=LogSection)
    logs: LogsSection = field(default_factory=LogsSection)
    programs: ProgramsSection = field(default_factory=ProgramsSection)

    @property
    def state(self) -> Path:
        """The state directory."""
        return Path(self.launcher.state_directory)

    @property
    def socket(self) -> Path:
        """The socket."""
        return Path(self.launcher.socket)


class ConfigError(Exception):
    """The configuration is wrong; `problems` lists everything at once."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(path: Path | None, overrides: Mapping[str, object]) -> LauncherConfig:
    """Build the configuration from a TOML file and flags.

    `overrides` maps key paths ("launcher.socket") to values and wins over the file. Raise
    `ConfigError` with every problem: unreadable file, unknown keys, wrong types, bad values.
    """
    tables = _read(path) if path is not None else {}
    for key_path, value in overrides.items():
        section, key = key_path.split(".")
        table = tables.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
    problems: list[str] = []
    config = _build(LauncherConfig, tables, "", problems)
    if problems:
        raise ConfigError(problems)
    config = _with_defaults(config)
    problems = _violations(config)
    if problems:
        raise ConfigError(problems)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} is not valid TOML: {error}"]) from error


_Section = typing.TypeVar("_Section")


def _build(
    section: type[_Section], table: Mapping[str, Any], prefix: str, problems: list[str]
) -> _Section:
    hints = typing.get_type_hints(section)
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{prefix}{key}"
        if key not in hints:
            known = ", ".join(sorted(hints))
            problems.append(f"{where} is not a known key; known here: {known}")
            continue
        wanted = hints[key]
        if dataclasses.is_dataclass(wanted):
            if isinstance(value, dict):
                values[key] = _build(typing.cast(type[Any], wanted), value, f"{where}.", problems)
            else:
                problems.append(f"{where} must be a table, got {value!r}")
        elif wanted is float and type(value) is int:
            values[key] = float(value)
        elif wanted == _LIST:
            if type(value) is list and all(type(each) is str for each in value):
                values[key] = tuple(value)
            else:
                problems.append(f"{where} must be a list of strings, got {value!r}")
        elif type(value) is not wanted:
            problems.append(f"{where} must be {_NAMES[wanted]}, got {value!r}")
        else:
            values[key] = value
    return section(**values)


_LIST = tuple[str, ...] | None
_NAMES: Mapping[type, str] = types.MappingProxyType(
    {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
)


def _with_defaults(config: LauncherConfig) -> LauncherConfig:
    section = config.launcher
    state = section.state_directory or str(protocol.state_directory() / "trainerd-launcher")
    default_socket = protocol.runtime_directory() / "trainerd-launcher" / "launcher.sock"
    return dataclasses.replace(
        config,
        launcher=dataclasses.replace(
            section,
            state_directory=os.path.abspath(state),
            socket=os.path.abspath(section.socket or default_socket),
            host=section.host or socket.gethostname(),
        ),
    )


def _violations(config: LauncherConfig) -> list[str]:
    found: list[str] = []
    launcher, devices = config.launcher, config.devices
    length = len(os.fsencode(launcher.socket))
    if length > protocol.MAX_SOCKET_PATH:
        found.append(
            f"launcher.socket must be at most {protocol.MAX_SOCKET_PATH} bytes, got {length} "
            f"({launcher.socket}); choose a shorter directory"
        )
    for name in ("grace_s", "orphan_grace_s", "standby_after_s"):
        value = getattr(launcher, name)
        if not (math.isfinite(value) and value >= 0):
            found.append(f"launcher.{name} must be a finite number ≥ 0, got {value}")
    if not 0 <= launcher.snapshot_share <= 0.5:
        found.append(f"launcher.snapshot_share must be 0 to 0.5, got {launcher.snapshot_share}")
    for name in ("check_timeout_s", "replay_timeout_s"):
        value = getattr(launcher, name)
        if not (math.isfinite(value) and value > 0):
            found.append(f"launcher.{name} must be a finite number > 0, got {value}")
    if config.logs.trainer_bytes < LEAST_LOG_BYTES:
        found.append(
            f"logs.trainer_bytes must be ≥ {LEAST_LOG_BYTES}, got {config.logs.trainer_bytes}"
        )
    if config.logs.run_bytes < config.logs.trainer_bytes:
        found.append(
            f"logs.run_bytes must be ≥ logs.trainer_bytes, {config.logs.trainer_bytes}, "
            f"got {config.logs.run_bytes}"
        )
    if devices.platform not in PLATFORMS:
        found.append(
            f"devices.platform must be one of {', '.join(PLATFORMS)}, got {devices.platform!r}"
        )
    if config.log.format not in FORMATS:
        found.append(f"log.format must be one of {', '.join(FORMATS)}, got {config.log.format!r}")
    if config.log.level not in LEVELS:
        found.append(f"log.level must be one of {', '.join(LEVELS)}, got {config.log.level!r}")
    if not 1 <= devices.cpu_count <= 256:
        found.append(f"devices.cpu_count must be 1 to 256, got {devices.cpu_count}")
    indices = devices.visible.split(",")
    if devices.visible != "all" and not all(index.isdigit() for index in indices):
        found.append(
            f'devices.visible must be "all" or indices such as "0,1", got {devices.visible!r}'
        )
    elif devices.visible != "all" and devices.platform == "cpu":
        found.append(
            'devices.visible must be "all" where devices.platform is "cpu", got '
            f"{devices.visible!r}; use devices.cpu_count"
        )
    return [*found, *programs_problems(config.programs)]
