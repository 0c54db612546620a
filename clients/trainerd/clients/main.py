"""`trainerctl`: reads the command line, runs a subcommand, turns what happens into an exit code."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from trainerd.clients.arguments import Globals, global_options, parser
from trainerd.clients.errors import BadInput, ExitCode, InvalidRun, TrainerdError
from trainerd.clients.interrupts import Terminated, raise_on_sigterm
from trainerd.clients.private_daemon import DAEMON_COMMAND
from trainerd.clients.wording import printable

if TYPE_CHECKING:
    from trainerd.clients.address import Tls
    from trainerd.clients.session import Session

# Module and function of each subcommand; imported when needed, so that --help is fast.
_COMMANDS = {
    "run": ("run", "run"),
    "submit": ("submission", "submit"),
    "check": ("submission", "check"),
    "list": ("overview", "list_runs"),
    "status": ("overview", "status"),
    "watch": ("watch", "watch"),
    "why": ("why", "why"),
    "incidents": ("incidents", "incidents"),
    "incident": ("incidents", "incident"),
    "metrics": ("metrics", "metrics"),
    "profile": ("inspection", "profile"),
    "stacks": ("inspection", "stacks"),
    "events": ("history", "events"),
    "logs": ("history", "logs"),
    "pause": ("control", "pause"),
    "resume": ("control", "resume"),
    "restart": ("control", "restart"),
    "checkpoint": ("control", "checkpoint"),
    "checkpoints": ("checkpoints", "checkpoints"),
    "stop": ("control", "stop"),
    "delete": ("control", "delete"),
    "policy": ("policy", "policy"),
    "inject": ("inject", "inject"),
    "replay": ("incidents", "replay"),
}
_VIEWERS = frozenset({"watch", "events", "logs"})


def main(
    argv: Sequence[str] | None = None, *, daemon_command: Sequence[str] = DAEMON_COMMAND
) -> int:
    """Run `trainerctl` and return its exit code.

    `argv` defaults to the process's own; `daemon_command` is what `run` starts a private daemon
    with. Call from the main thread: signals are handled.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Before gRPC is imported: what it logs is for its developers, our errors say it better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    before = signal.getsignal(signal.SIGTERM)
    raise_on_sigterm()
    try:
        code = _guarded(arguments, tuple(daemon_command))
        sys.stdout.flush()
        return int(code)
    except BrokenPipeError:
        _discard_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _discard_output()
        what = f"{error.filename}: " if error.filename else "cannot write the output: "
        print(f"trainerctl: {what}{error.strerror}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    finally:
        signal.signal(signal.SIGTERM, before)


def _guarded(arguments: list[str], daemon_command: tuple[str, ...]) -> int:
    """Run; every expected end becomes an exit code and, if it is an error, a message."""
    command = ""
    try:
        _tolerate_any_character()
        args = parser(_version()).parse_args(arguments)
        command = args.command
        return _command(command)(args, _session(global_options(args), daemon_command))
    except TrainerdError as error:
        sys.stdout.flush()
        print(_complaint(error, as_json="--json" in arguments), file=sys.stderr)
        return int(error.exit_code)
    except Terminated:
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        return ExitCode.OK if command in _VIEWERS else 128 + signal.SIGINT
    except SystemExit as end:
        # --help and --version.
        return end.code if isinstance(end.code, int) else ExitCode.OK


def _command(name: str) -> Callable[[Namespace, Session], int]:
    module, function = _COMMANDS[name]
    loaded = importlib.import_module(f"trainerd.clients.commands.{module}")
    return cast("Callable[[Namespace, Session], int]", getattr(loaded, function))


def _session(options: Globals, daemon_command: tuple[str, ...]) -> Session:
    from trainerd.clients.session import Session  # noqa: PLC0415 - imports gRPC

    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    address = options.address or os.environ.get("TRAINERD_ADDRESS") or None
    return Session(
        address=address,
        timeout_s=options.timeout_s,
        tls=_tls(options, address),
        as_json=options.as_json,
        live=sys.stdout.isatty() and not plain,
        out=sys.stdout,
        err=sys.stderr,
        daemon_command=daemon_command,
        progress=sys.stderr.isatty() and not plain and not options.as_json,
    )


def _tls(options: Globals, address: str | None) -> Tls | None:
    """The files of the options, or where there are none those of the environment, for TCP."""
    if address is not None and not address.startswith(("unix:", "/")):
        ca, cert, key = (
            Path(file) if (file := os.environ.get(f"TRAINERD_TLS_{name}")) else None
            for name in ("CA", "CERT", "KEY")
        )
        options = dataclasses.replace(
            options,
            tls_ca=options.tls_ca or ca,
            tls_cert=options.tls_cert or cert,
            tls_key=options.tls_key or key,
        )
    if options.tls_ca is None and options.tls_cert is None and options.tls_key is None:
        return None
    if (options.tls_cert is None) != (options.tls_key is None):
        raise BadInput("a certificate needs its key: give --tls-cert and --tls-key together")
    from trainerd.clients.address import Tls  # noqa: PLC0415 - imports gRPC

    return Tls(ca=options.tls_ca, cert=options.tls_cert, key=options.tls_key)


def _complaint(error: TrainerdError, *, as_json: bool) -> str:
    if not as_json:
        return f"trainerctl: {printable(error.message)}"
    document: dict[str, object] = {
        "kind": error.kind,
        "message": error.message,
        "exitCode": int(error.exit_code),
    }
    if isinstance(error, InvalidRun):
        document["problems"] = [
            {
                "file": error.file,
                "line": line,
                "field": problem.field,
                "message": problem.message,
                "suggestion": problem.suggestion,
                "detail": problem.detail,
            }
            for line, problem in zip(error.lines, error.problems, strict=True)
        ]
    return json.dumps({"error": document}, ensure_ascii=False)


def _version() -> str:
    from trainerd.v1.protocol import SOFTWARE  # noqa: PLC0415 - imports protobuf

    return SOFTWARE


def _tolerate_any_character() -> None:
    """A terminal that cannot show "≥" gets "?": an error message must not fail itself."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _discard_output() -> None:
    """Nobody reads any more: what is still buffered must not fail at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
