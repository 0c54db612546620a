"""The launcher's command line."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainerd.actors.launcher.config import PLATFORMS, ConfigError, LauncherConfig, load
from trainerd.v1.lean_imports import lean_imports

if TYPE_CHECKING:
    from trainerd.actors.launcher.trainers import TrainerCommand

EXIT_USAGE = 2
EXIT_REFUSED = 4

_FLAGS: tuple[tuple[str, str, type, str], ...] = (
    ("--state-directory", "launcher.state_directory", str, "runs, logs, exit records"),
    ("--socket", "launcher.socket", str, "Unix socket of LauncherService"),
    ("--socket-group", "launcher.socket_group", str, "group that may open the socket"),
    ("--host", "launcher.host", str, "this host's name in reports"),
    ("--grace-s", "launcher.grace_s", float, "seconds trainers may take to save at the end"),
    ("--check-timeout-s", "launcher.check_timeout_s", float, "seconds a program check may take"),
    ("--replay-timeout-s", "launcher.replay_timeout_s", float, "seconds a replay may take"),
    ("--orphan-grace-s", "launcher.orphan_grace_s", float, "seconds to train without a daemon"),
    ("--standby-after-s", "launcher.standby_after_s", float, "seconds before it is prepared"),
    (
        "--snapshot-share",
        "launcher.snapshot_share",
        float,
        "share of memory for snapshots",
    ),
    ("--advertise", "launcher.advertise", str, "this host's address for other hosts"),
    ("--bind", "launcher.bind", str, "address that gangs meet at; default: the advertised one"),
    ("--visible", "devices.visible", str, "`all`, or GPU indices such as 0,1"),
    ("--cpu-count", "devices.cpu_count", int, "devices that XLA makes of the CPU"),
)


def main(argv: Sequence[str] | None = None, *, command: TrainerCommand | None = None) -> int:
    """Run the launcher until SIGTERM or SIGINT; return its exit code.

    `argv`: the arguments; None: this process's. `command` makes the argument vector of a trainer;
    None: that of the usual one.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trainerd.actors.launcher",
        description="Starts, watches and ends trainer processes on this host.",
    )
    parser.add_argument("--config", type=Path, help="TOML file; flags win over it")
    parser.add_argument(
        "--platform", dest="devices.platform", choices=PLATFORMS, help="what trainers run on"
    )
    parser.add_argument(
        "--no-standby",
        dest="launcher.standby",
        action="store_const",
        const=False,
        help="start every trainer as a new process",
    )
    for flag, destination, kind, text in _FLAGS:
        parser.add_argument(flag, dest=destination, type=kind, help=text)
    given = vars(parser.parse_args(argv))
    path = given.pop("config")
    try:
        config = load(path, {key: value for key, value in given.items() if value is not None})
    except ConfigError as error:
        for problem in error.problems:
            print(f"trainerd launcher: {problem}", file=sys.stderr)
        return EXIT_USAGE
    return _serve(config, command)


def _serve(config: LauncherConfig, command: TrainerCommand | None) -> int:
    # The parts are imported only now: a typo in the configuration is told at once.
    with lean_imports():
        from trainerd.actors.launcher.logging import configure_logging  # noqa: PLC0415
        from trainerd.actors.launcher.server import AlreadyServed, serve  # noqa: PLC0415
        from trainerd.actors.launcher.trainers import trainer_command  # noqa: PLC0415

    configure_logging(config)
    try:
        asyncio.run(serve(config, command=command or trainer_command))
    except AlreadyServed as error:
        print(f"trainerd launcher: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except OSError as error:
        print(f"trainerd launcher: {error}", file=sys.stderr)
        return EXIT_USAGE
    return 0
