"""policy: what is done about faults, what is to be done, and what would have been done."""

from __future__ import annotations

import tomllib
from argparse import Namespace
from collections.abc import Sequence

from trainerd.clients.client import Client
from trainerd.clients.errors import BadInput, ExitCode, InvalidRun
from trainerd.clients.policy_report import differences, policy_text, simulation_text
from trainerd.clients.problems import merged, refusal
from trainerd.clients.runfile import RunFile, load_run_file
from trainerd.clients.session import Session
from trainerd.clients.spec_reader import read_policy
from trainerd.v1 import control_pb2, fault_pb2

_SIMULATE = "simulate"
_OFF = "off"
_MAY_BE_OFF = (("loss_spike_z",), ("hang_floor_s",))


def policy(args: Namespace, session: Session) -> int:
    """Show, change or simulate a policy."""
    if len(args.words) > 1:
        return _simulate(args, session)
    (run,) = args.words
    if args.policy is not None:
        raise BadInput(f"--policy is for 'policy simulate RUN --policy FILE', got 'policy {run}'")
    if args.dry_run == "on" and not args.changes:
        raise BadInput("--dry-run on needs --set: it says what is put on trial")
    if args.dry_run == "off" and args.changes:
        raise BadInput("--dry-run off ends the trial: it cannot be given together with --set")
    changes = _changes(args.changes)
    with session.client() as client:
        if not changes.ListFields() and args.dry_run is None:
            shown = client.get_policy(run)
            session.emit(shown)
            _say(session, policy_text(shown))
        else:
            _change(client, session, run, changes, args.dry_run)
    return ExitCode.OK


def _change(
    client: Client, session: Session, run: str, changes: fault_pb2.Policy, dry_run: str | None
) -> None:
    before = client.get_policy(run)
    if dry_run == "off":
        after = client.set_policy(run, end_dry_run=True)
        ended = "the trial is over" if before.HasField("trial") else "no policy was on trial"
        lines = [f"{run}: {ended}"]
    else:
        after = client.set_policy(run, changes, dry_run=dry_run == "on")
        told = after.trial if dry_run == "on" else after.policy
        changed = differences(before.policy, told) or ["nothing changes"]
        where = "on trial" if dry_run == "on" else f"policy version {after.version}"
        lines = [f"{run}: {where}", *(f"  {line}" for line in changed)]
    session.emit(after)
    _say(session, lines)


def _simulate(args: Namespace, session: Session) -> int:
    verb, run, *rest = args.words
    if verb != _SIMULATE or rest:
        raise BadInput(
            f"expected 'policy RUN' or 'policy simulate RUN', got 'policy {' '.join(args.words)}'"
        )
    if args.policy is None:
        raise BadInput("'policy simulate' needs --policy FILE")
    if args.changes or args.dry_run:
        raise BadInput("'policy simulate' changes nothing: --set and --dry-run are not for it")
    file = _policy_file(args.policy)
    with session.client() as client:
        try:
            response = client.simulate_policy(run, file.spec.policy)
        except InvalidRun as error:
            raise refusal(file, merged(file, error.problems)) from error
    session.emit(response)
    _say(session, simulation_text(response))
    return ExitCode.OK


def _policy_file(name: str) -> RunFile:
    """A run file, of which only the policy counts, or a file with that table alone."""
    file = load_run_file(name)
    problems = [each for each in file.problems if each.field.partition(".")[0] == "policy"]
    if not file.spec.HasField("policy") and not problems:
        if file.problems:
            raise refusal(file, file.problems)
        raise BadInput(f"{name} has no table [policy]")
    if problems:
        raise refusal(file, problems)
    return file


def _changes(settings: Sequence[str]) -> fault_pb2.Policy:
    """The policy of `key=value` settings; every mistake at once."""
    document: dict[str, object] = {}
    problems: list[control_pb2.Problem] = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        path = key.strip().removeprefix("policy.").split(".")
        if not equals or not all(path):
            problems.append(
                control_pb2.Problem(
                    message=f"--set must be KEY=VALUE, got {setting!r}",
                    suggestion="for example --set crash.limit=5 hang.then=fail",
                )
            )
        elif not _put(document, path, _setting(path, value.strip())):
            problems.append(
                control_pb2.Problem(field=key, message=f"{key} is set twice, or is a table")
            )
    changes, wrong = read_policy(document)
    problems += wrong
    if problems:
        told = [
            f"{each.message}; {each.suggestion}" if each.suggestion else each.message
            for each in problems
        ]
        raise InvalidRun(problems, "\n".join(told))
    return changes


def _put(document: dict[str, object], path: Sequence[str], value: object) -> bool:
    """Set a value at a path; False: something else is there."""
    table: object = document
    for key in path[:-1]:
        if not isinstance(table, dict):
            return False
        table = table.setdefault(key, {})
    if not isinstance(table, dict) or path[-1] in table:
        return False
    table[path[-1]] = value
    return True


def _setting(path: Sequence[str], text: str) -> object:
    """The value of a setting; what may be without one is `off` then, which goes as 0."""
    return 0 if text == _OFF and tuple(path) in _MAY_BE_OFF else _value(text)


def _value(text: str) -> object:
    """A value as a run file would have it; a bare word is a string."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if document.keys() == {"value"} else text


def _say(session: Session, lines: Sequence[str]) -> None:
    for line in lines:
        session.say(line)
