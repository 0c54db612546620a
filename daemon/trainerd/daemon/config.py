"""The daemon's configuration: nested frozen dataclasses, built once from TOML and flags.

Unknown keys and impossible values are refused, all at once, each with its key path.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainerd.daemon.api_config import (
    ApiConfig,
    AuditConfig,
    LimitsConfig,
    api_problems,
    limit_problems,
)
from trainerd.v1.protocol import (
    MAX_SOCKET_PATH,
    default_control_address,
    runtime_directory,
    state_directory,
)

DEFAULT_METRICS_ADDRESS = "127.0.0.1:9469"


class ConfigError(Exception):
    """Everything that is wrong with a configuration; one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """`[daemon]`: where the daemon keeps its state and whom it answers.

    state_directory: journal and keys, mode 0700. control_socket: for clients. attach_socket: for
    trainers, in a directory of its own so that user code cannot reach the control service.
    control_group, attach_group: whose members may open them; "": the group that their directory
    gives a new file (the daemon's own, or with set-group-ID the directory's).
    """

    state_directory: Path = field(default_factory=lambda: state_directory() / "trainerd")
    control_socket: Path = field(
        default_factory=lambda: Path(default_control_address().removeprefix("unix:"))
    )
    control_group: str = ""
    attach_socket: Path = field(
        default_factory=lambda: runtime_directory() / "trainerd-link" / "attach.sock"
    )
    attach_group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherConfig:
    """`[launcher]`: where it is, and how to start it where nobody else does.

    start: start it when its socket does not answer; false under systemd, whose unit does. python:
    its interpreter (default: the daemon's own). config: its own configuration file.
    """

    socket: Path = field(
        default_factory=lambda: runtime_directory() / "trainerd-launcher" / "launcher.sock"
    )
    start: bool = True
    state_directory: Path = field(default_factory=lambda: state_directory() / "trainerd-launcher")
    python: str = ""
    config: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """`[metrics]`: address is host:port of the HTTP server; port 0: any free one; "": none."""

    address: str = DEFAULT_METRICS_ADDRESS


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """`[log]`: format is "auto" (pretty on a terminal, else JSON), "json" or "pretty".

    file: where it goes; "": standard error. One that has grown to 64 MiB begins anew; the one
    before is kept.
    """

    file: str = ""
    format: str = "auto"
    level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionConfig:
    """`[injection]`: allowed says whether clients may have faults happen on purpose."""

    allowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig:
    """`[retention]`: whether ended runs age out, with all their files, checkpoints included.

    Then one is deleted that ended more than `keep_days` days ago, unless it is among the newest
    `keep_runs` ended ones, or another run began with its state.
    """

    enabled: bool = False
    keep_runs: int = 100
    keep_days: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration."""

    daemon: DaemonConfig = field(default_factory=DaemonConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    injection: InjectionConfig = field(default_factory=InjectionConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    api: ApiConfig = field(default_factory=ApiConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)


def load(path: Path | None) -> Config:
    """Read a configuration file; None: the defaults. Raise `ConfigError`."""
    if path is None:
        return checked(Config())
    try:
        text = path.read_bytes().decode()
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigError((f"{path}: {error.strerror}",)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError((f"{path}: not valid TOML: {error}",)) from error
    problems: list[str] = []
    sections: dict[str, Any] = {}
    known = {each.name: each for each in dataclasses.fields(Config)}
    for name, table in document.items():
        if name not in known:
            problems.append(f"{path}: unknown section [{name}]; known: {_names(known)}")
        elif not isinstance(table, dict):
            problems.append(f"{path}: {name} must be a table, got {_type(table)}")
        else:
            cls = typing.get_type_hints(Config)[name]
            sections[name] = _section(cls, path, name, table, problems)
    config = Config(**sections)
    problems += _impossible(config)
    if problems:
        raise ConfigError(tuple(problems))
    return config


def checked(config: Config) -> Config:
    """The configuration, if its values are possible. Raise `ConfigError`."""
    problems = _impossible(config)
    if problems:
        raise ConfigError(tuple(problems))
    return config


def _impossible(config: Config) -> list[str]:
    problems = []
    sockets = {
        "daemon.control_socket": config.daemon.control_socket,
        "daemon.attach_socket": config.daemon.attach_socket,
        "launcher.socket": config.launcher.socket,
    }
    for name, path in sockets.items():
        length = len(str(path).encode())
        if length > MAX_SOCKET_PATH:
            problems.append(f"{name} must have at most {MAX_SOCKET_PATH} bytes, got {length}")
        if not path.is_absolute():
            problems.append(f'{name} must be an absolute path, got "{path}"')
    if len(set(sockets.values())) < len(sockets):
        problems.append(f"{', '.join(sockets)} must be three different sockets")
    host, _, port = config.metrics.address.rpartition(":")
    if config.metrics.address and not (host and port.isdecimal() and int(port) < 65536):
        problems.append(
            f'metrics.address must be "host:port" or "", got "{config.metrics.address}"'
        )
    if config.log.format not in ("auto", "json", "pretty"):
        problems.append(f'log.format must be "auto", "json" or "pretty", got "{config.log.format}"')
    if config.log.file and not Path(config.log.file).is_absolute():
        problems.append(f'log.file must be an absolute path or "", got "{config.log.file}"')
    for name in ("keep_runs", "keep_days"):
        if (value := getattr(config.retention, name)) < 0:
            problems.append(f"retention.{name} must be ≥ 0, got {value}")
    levels = ("debug", "info", "warning", "error")
    if config.log.level not in levels:
        problems.append(f'log.level must be one of {", ".join(levels)}, got "{config.log.level}"')
    return [
        *problems,
        *api_problems(config.api),
        *limit_problems("limits", config.limits),
        *limit_problems("audit", config.audit),
    ]


def _section(cls: Any, path: Path, name: str, table: dict[str, Any], problems: list[str]) -> Any:  # noqa: ANN401
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in table.items():
        if key not in hints:
            problems.append(f"{path}: unknown key {name}.{key}; known: {_names(hints)}")
            continue
        kind = hints[key]
        expected, what = _EXPECTED.get(kind, (kind, f"a {getattr(kind, '__name__', kind)}"))
        if dataclasses.is_dataclass(kind) and type(value) is dict:
            values[key] = _section(kind, path, f"{name}.{key}", value, problems)
        elif kind is float and type(value) is int:
            values[key] = float(value)
        elif type(value) is not expected or (
            expected is list and not all(type(each) is str for each in value)
        ):
            what = "a table" if dataclasses.is_dataclass(kind) else what
            problems.append(f"{path}: {name}.{key} must be {what}, got {_type(value)}")
        elif expected is list:
            values[key] = tuple(value)
        else:
            # Relative paths speak of the file's own folder, wherever the daemon was started.
            values[key] = path.parent.resolve() / value if kind in _PATHS else value
    return cls(**values)


_PATHS = (Path, Path | None)
_EXPECTED: typing.Mapping[Any, tuple[type, str]] = types.MappingProxyType(
    {
        Path: (str, "a str"),
        Path | None: (str, "a str"),
        tuple[str, ...]: (list, "a list of strings"),
    }
)
"""What TOML has for a type, and how to say so; all others are their own."""


def _names(names: typing.Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _type(value: object) -> str:
    return f"{type(value).__name__} {value!r}"
