"""The command line of `trainerctl`."""

from __future__ import annotations

import argparse
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from trainerd.clients.errors import BadInput
from trainerd.clients.option_values import (
    count,
    probability,
    request_id,
    run_name,
    seconds,
    slot_numbers,
)

_EXIT_CODES = """\
exit codes: 0 ok, 1 the run failed, 2 usage or bad input, 3 not found, 4 refused in this state,
5 daemon unreachable, 6 permission denied, 75 the run stopped and can be resumed.
Ctrl-C leaves watch, events -f and logs -f with 0; other commands end with 128 + the signal.
RUN is a run's id or a unique beginning of it."""


_WRONG_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are `BadInput`, reported like every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise it; a word that is nearly one of the choices gets a suggestion."""
        wrong = _WRONG_CHOICE.search(message)
        near = (
            difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), n=1)
            if wrong
            else []
        )
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise BadInput(f"{message}{hint}; see '{self.prog} --help'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Globals:
    """The options that every subcommand takes, before or after its name."""

    address: str | None
    as_json: bool
    timeout_s: float | None
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None


def parser(version: str) -> argparse.ArgumentParser:
    """The parser. `command` in its result names the subcommand."""
    shared = _global_options()
    top = Parser(
        prog="trainerctl",
        description="Controls training runs of the trainerd daemon.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"trainerctl {version}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str, description: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=description or f"{summary[0].upper()}{summary[1:]}.",
            parents=[shared],
            allow_abbrev=False,
        )

    _add_file_commands(command)
    _add_reading_commands(command)
    _add_control_commands(command)
    _add_supervision_commands(command)
    return top


def global_options(args: argparse.Namespace) -> Globals:
    """The global options of a parsed command line, wherever they stood."""
    given = vars(args)
    return Globals(
        address=given.get("address"),
        as_json=given.get("json", False),
        timeout_s=given.get("timeout"),
        tls_ca=given.get("tls_ca"),
        tls_cert=given.get("tls_cert"),
        tls_key=given.get("tls_key"),
    )


def _global_options() -> Parser:
    # No defaults: what stands before the subcommand must survive the subcommand's own parsing.
    shared = Parser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    group = shared.add_argument_group("global options")
    group.add_argument(
        "--address",
        metavar="ADDRESS",
        help="the daemon's unix:PATH or host:port (default: TRAINERD_ADDRESS, or this machine's)",
    )
    group.add_argument(
        "--json", action="store_true", help="print the API's messages as JSON, a line each if many"
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="deadline of a call (default: 30, and 300 where training has to do something)",
    )
    for name, text in (
        ("ca", "trusted certificates (PEM; default: TRAINERD_TLS_CA)"),
        ("cert", "own certificate (PEM; default: TRAINERD_TLS_CERT)"),
        ("key", "its key (PEM; default: TRAINERD_TLS_KEY)"),
    ):
        group.add_argument(f"--tls-{name}", type=Path, metavar="FILE", help=text)
    return shared


class _AddCommand(Protocol):
    def __call__(
        self, name: str, summary: str, description: str = ""
    ) -> argparse.ArgumentParser: ...


def _add_file_commands(command: _AddCommand) -> None:
    run = command(
        "run",
        "submit a run file and watch it, with a private daemon if none answers",
        "Submits RUN.toml, watches it and exits with its result. If no daemon answers, one is "
        "started for as long as this command lives; Ctrl-C then stops the run with a checkpoint, "
        "a second one stops it at once. On a daemon that runs already, Ctrl-C leaves the run be.",
    )
    submit = command("submit", "submit a run file and print the run's id")
    submit.add_argument(
        "--wait", action="store_true", help="watch the run and exit with its result"
    )
    submit.add_argument(
        "--request-id",
        type=request_id,
        metavar="ID",
        help="submitting again with the same id answers with the same run",
    )
    check = command(
        "check",
        "say everything that is wrong with a run file",
        "Says everything that is wrong with RUN.toml, without running it. Where no daemon "
        "answers, only keys and types are checked.",
    )
    for each in (run, submit):
        each.add_argument(
            "--resume",
            type=run_name,
            metavar="RUN",
            help="begin with the newest checkpoint of this stopped or failed run",
        )
    for each in (run, submit, check):
        each.add_argument("file", metavar="RUN.toml", help="the run file")
        each.add_argument(
            "--no-program-check", action="store_true", help="do not load the program to check it"
        )


def _add_reading_commands(command: _AddCommand) -> None:
    runs = command("list", "list runs, newest first")
    runs.add_argument(
        "--limit", type=count, default=100, metavar="N", help="most runs to list (default: 100)"
    )
    _with_run(command("status", "show a run in detail"))
    _with_run(
        command(
            "watch",
            "watch a run to its end and exit with its result",
            "Watches a run to its end and exits with its result: live on a terminal, else (or "
            "with NO_COLOR) in plain lines. Ctrl-C leaves the run alone.",
        )
    )
    _with_run(
        command(
            "why",
            "say why a run is in the state it is in",
            "Says why RUN is in the state it is in: the fault, the decision about it and what came "
            "of it, what the run's faults have used up, and what happens next.",
        )
    )
    _with_run(command("incidents", "list the incidents of a run that are kept"))
    incident = command(
        "incident",
        "show an incident with its evidence",
        "Shows an incident of RUN: fault, decision, versions, the last steps, the stacks where "
        "they were collected, and the end of the log.",
    )
    _with_run(incident)
    incident.add_argument(
        "number", metavar="N", type=count, nargs="?", default=0, help="default: the newest"
    )
    metrics = command(
        "metrics",
        "print the step metrics: every update ever applied",
        "Prints a row for every applied update of RUN, by step: loss, gradient norm, duration and "
        "the program's own metrics. What was trained again after a crash is there once.",
    )
    _with_run(metrics)
    metrics.add_argument("--csv", action="store_true", help="as CSV, with every digit")
    metrics.add_argument(
        "--after", type=count, default=0, metavar="STEP", help="only steps after this one"
    )
    metrics.add_argument(
        "--limit", type=count, default=0, metavar="N", help="most steps to print (default: all)"
    )
    events = command("events", "list what happened, and why")
    events.add_argument("run", metavar="RUN", nargs="?", help="the run (default: all runs)")
    events.add_argument(
        "--after", type=count, default=0, metavar="N", help="only records after number N"
    )
    logs = command("logs", "print a run's log")
    _with_run(logs)
    logs.add_argument(
        "--incarnation",
        type=count,
        default=0,
        metavar="N",
        help="the trainer's log to print (default: the newest's)",
    )
    logs.add_argument("--host", default="", metavar="H", help="the host whose trainer's log it is")
    for each in (events, logs):
        each.add_argument("-f", "--follow", action="store_true", help="wait for more")


def _add_control_commands(command: _AddCommand) -> None:
    pause = command("pause", "hold a run after an agreed step, durably saved")
    resume = command("resume", "go on with a paused run")
    restart = command("restart", "start a new trainer process for a run")
    checkpoint = command("checkpoint", "save a checkpoint now")
    stop = command("stop", "end a run so that it can be resumed")
    stop.add_argument("--no-checkpoint", action="store_true", help="do not save first")
    for each in (pause, resume, restart, checkpoint, stop):
        each.add_argument(
            "--no-wait", action="store_true", help="answer once the request is journalled"
        )
    delete = command("delete", "remove an ended run and its files")
    delete.add_argument(
        "--no-wait", action="store_true", help="answer before the files are removed"
    )
    for each in (pause, resume, restart, checkpoint, stop, delete):
        _with_run(each)
    checkpoints = command(
        "checkpoints",
        "list a run's checkpoints, verify them, adopt or export one",
        "Lists the checkpoints of RUN on its host's disk: durable or not, and why. --verify reads "
        "all of them from the disk and compares every file with what was saved; one that differs "
        "is marked and never restored from, and the exit code is 1. --adopt makes one durable, as "
        "it is, that has no manifest and that you trust; the run must not be training. --export "
        "writes the parameters of one, and nothing else of it, for Orbax to read.",
    )
    _with_run(checkpoints)
    task = checkpoints.add_mutually_exclusive_group()
    task.add_argument("--verify", action="store_true", help="read all of them")
    task.add_argument(
        "--adopt", type=count, metavar="N", help="make that of step N durable, which is unverified"
    )
    task.add_argument(
        "--export", metavar="DIR", help="write parameters to DIR, on the run's host; not there yet"
    )
    checkpoints.add_argument(
        "--step", type=count, metavar="N", help="of --export: which one (default: the newest)"
    )


def _add_supervision_commands(command: _AddCommand) -> None:
    policy = command(
        "policy",
        "show or change the policy of a live run, or simulate another one",
        "Shows the policy of RUN: what is done about each class of fault. --set changes it, with "
        "keys as in the table [policy] of a run file; it counts from the next step on. With "
        "--dry-run on the changed policy is only put on trial: what it would have decided is "
        "recorded, nothing else. 'policy simulate RUN --policy FILE' says what the policy of FILE "
        "would have decided about each fault so far.",
    )
    policy.usage = (
        "trainerctl policy [options] RUN [--set KEY=VALUE …] [--dry-run on|off]\n"
        "       trainerctl policy [options] simulate RUN --policy FILE"
    )
    policy.add_argument("words", metavar="[simulate] RUN", type=run_name, nargs="+")
    policy.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        dest="changes",
        help="such as crash.limit=5 or hang.then=fail",
    )
    policy.add_argument(
        "--dry-run", choices=("on", "off"), help="put the changes on trial, or end the trial"
    )
    policy.add_argument(
        "--policy", metavar="FILE", help="a run file, or a file with the table [policy] alone"
    )
    inject = command(
        "inject",
        "make a fault happen on purpose",
        "Makes FAULT happen in RUN, where the daemon's configuration allows it: at the next step, "
        "at a step, or with a probability.",
    )
    _with_run(inject)
    inject.add_argument("fault", metavar="FAULT", help="such as exception, nan, hang or sigkill")
    when = inject.add_mutually_exclusive_group()
    when.add_argument("--step", type=count, metavar="N", help="at the N-th applied update")
    when.add_argument(
        "--probability", type=probability, metavar="P", help="at each step with this probability"
    )
    inject.add_argument(
        "--slots",
        type=slot_numbers,
        default=(),
        metavar="N,…",
        help="of nan and loss_spike (default: all)",
    )
    inject.add_argument(
        "--times", type=count, default=0, metavar="N", help="how often at most (default: once)"
    )
    inject.add_argument(
        "--seconds", type=seconds, metavar="S", help="of slow_step: how much longer"
    )
    inject.add_argument("--exit-code", type=count, default=0, metavar="N", help="of exit: its code")
    profile = command(
        "profile",
        "take a profile of a live run",
        "Takes a trace of the next steps of RUN with JAX's profiler, writes it on the run's host "
        "and prints where: TensorBoard and XProf read it. Training goes on meanwhile, slower.",
    )
    _with_run(profile)
    profile.add_argument(
        "--steps", type=count, required=True, metavar="N", help="how many steps; at most 200"
    )
    profile.add_argument(
        "--output", metavar="DIR", help="where, on the run's host (default: below its directory)"
    )
    profile.add_argument(
        "--no-wait", action="store_true", help="answer once the request is journalled"
    )
    _with_run(
        command(
            "stacks",
            "print the stacks of all threads of a live run",
            "Prints where all threads of the trainer of RUN are, without stopping it.",
        )
    )
    replay = command(
        "replay",
        "train an incident's batch again: does the fault happen again?",
        "Trains again from the checkpoint of an incident of RUN up to its batch, in a process of "
        "its own, and says whether the fault happens again. The run's devices must be free, unless "
        "--cpu is given.",
    )
    _with_run(replay)
    replay.add_argument(
        "number", metavar="N", type=count, nargs="?", default=0, help="default: the newest"
    )
    replay.add_argument(
        "--cpu", action="store_true", help="on the CPU, whatever the run trained on"
    )


def _with_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", type=run_name, help="the run's id or its beginning")
