"""The `trainerd` command."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import socket
import sys
from pathlib import Path

from trainerd.daemon.config import Config, ConfigError, load
from trainerd.v1.lean_imports import lean_imports
from trainerd.v1.protocol import SOFTWARE


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0 ok, 2 bad input, 1 anything else."""
    arguments = _parser().parse_args(argv)
    if arguments.command == "certs":
        from trainerd.daemon.making_certificates import certs  # noqa: PLC0415

        return certs(arguments)
    try:
        config = load(arguments.config)
    except ConfigError as error:
        return _bad_configuration(error)
    if arguments.command == "check-config":
        if problems := _certificate_problems(config):
            return _bad_configuration(ConfigError(problems))
        print(f"{arguments.config}: ok")
        return 0
    return _serve(config, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainerd", description="Keeps JAX training runs alive on this host."
    )
    parser.add_argument("--version", action="version", version=f"trainerd {SOFTWARE}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the daemon")
    serve.add_argument("--config", type=Path, help="configuration file (TOML)")
    serve.add_argument("--address", help="unix:PATH of the control socket, over the configuration")
    serve.add_argument(
        "--private",
        action="store_true",
        help="belong to the parent: when standard input closes, stop all runs and end",
    )
    serve.add_argument(
        "--ready-fd", type=int, help="write 'READY <control> <metrics>' to this fd once serving"
    )
    check = commands.add_parser("check-config", help="validate a configuration file")
    check.add_argument("config", type=Path, help="configuration file (TOML)")
    certs = commands.add_parser("certs", help="make a development CA and certificates for TLS")
    certs.add_argument("directory", type=Path, metavar="DIR", help="where; nothing is overwritten")
    certs.add_argument(
        "--host", action="append", default=[], help="a name or address that clients reach it by"
    )
    certs.add_argument("--daemon", default="daemon", metavar="NAME", help="default: daemon")
    certs.add_argument("--days", type=int, default=365, help="validity (default: %(default)s)")
    return parser


def _certificate_problems(config: Config) -> tuple[str, ...]:
    from trainerd.daemon.certificates import certificate_problems  # noqa: PLC0415

    return certificate_problems(config.api)


def _bad_configuration(error: ConfigError) -> int:
    for problem in error.problems:
        print(f"trainerd: {problem}", file=sys.stderr)
    return 2


def _serve(config: Config, arguments: argparse.Namespace) -> int:
    # The parts are imported only now: a typo in the configuration is told at once.
    with lean_imports():
        from trainerd.daemon import serve as serving  # noqa: PLC0415
        from trainerd.daemon.announcing import Manner  # noqa: PLC0415
        from trainerd.daemon.journal import JournalError  # noqa: PLC0415
        from trainerd.daemon.logs import Log  # noqa: PLC0415
        from trainerd.daemon.sockets import OccupiedError  # noqa: PLC0415

    if arguments.address and not arguments.address.startswith("unix:/"):
        print(
            f'trainerd: --address must be "unix:/PATH", got "{arguments.address}"',
            file=sys.stderr,
        )
        return 2

    def again() -> Config:
        config = load(arguments.config)
        return serving.for_address(config, arguments.address) if arguments.address else config

    try:
        if arguments.address:
            config = serving.for_address(config, arguments.address)
        name = config.cluster.host or socket.gethostname()
        log = Log(config.log, host=name, stderr=sys.stderr.fileno())
    except ConfigError as error:
        return _bad_configuration(error)
    log.configure()
    # What a daemon that hangs was doing is told when systemd ends it.
    faulthandler.enable()
    manner = Manner(
        private=arguments.private, ready_fd=arguments.ready_fd, load=again, live=(log.live(),)
    )
    try:
        asyncio.run(serving.serve(config, manner))
    except (OccupiedError, JournalError, OSError) as error:
        print(f"trainerd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
