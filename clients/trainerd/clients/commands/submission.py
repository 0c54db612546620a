"""check, submit: a run file to the daemon, with every problem at once."""

from __future__ import annotations

import uuid
from argparse import Namespace

from trainerd.clients.client import Client
from trainerd.clients.commands.watch import to_end
from trainerd.clients.errors import BadInput, ExitCode, InvalidRun, Unreachable
from trainerd.clients.problems import count, merged, refusal, rendered
from trainerd.clients.progress import waiting
from trainerd.clients.runfile import RunFile, load_run_file
from trainerd.clients.session import Session
from trainerd.clients.watching import Watching, leave
from trainerd.v1 import control_pb2, run_pb2

_OF_THE_PROGRAM = ("entry", "args", "trainer")


def check(args: Namespace, session: Session) -> int:
    """Say everything that is wrong with a run file, without running it."""
    try:
        file = load_run_file(args.file)
    except BadInput as error:
        session.emit(
            control_pb2.CheckRunResponse(problems=[control_pb2.Problem(message=error.message)])
        )
        raise
    try:
        with session.client() as client, waiting(session, f"checking {file.name}"):
            problems = _problems(client, file, skip_program=args.no_program_check)
        syntax_only = False
    except Unreachable:
        problems, syntax_only = merged(file, ()), True
    session.emit(control_pb2.CheckRunResponse(problems=problems))
    for problem in problems:
        session.say(rendered(problem, file))
    if syntax_only:
        session.note("no daemon answers: only keys and types were checked")
    if problems:
        session.note(f"{file.name}: {count(problems)}")
        return ExitCode.BAD_INPUT
    session.say(f"{file.name}: no problems found")
    return ExitCode.OK


def submit(args: Namespace, session: Session) -> int:
    """Submit a run and print its id; with --wait watch it to its end."""
    file = load_run_file(args.file)
    client = session.client()
    try:
        client.daemon()
    except Unreachable:
        client.close()
        refuse_if_wrong(file)
        raise
    with client:
        run = submit_file(
            client,
            file,
            session,
            request_id=args.request_id or "",
            skip_program=args.no_program_check,
            resume_run=args.resume or "",
            streamed=args.wait,
        )
        session.say(run.id)
        if not args.wait:
            return ExitCode.OK
        return to_end(client, run, session, Watching(interrupted=leave))


def submit_file(
    client: Client,
    file: RunFile,
    session: Session,
    *,
    request_id: str,
    skip_program: bool,
    resume_run: str,
    streamed: bool,
) -> run_pb2.Run:
    """Submit a run file; raises `InvalidRun` with the client's and daemon's problems."""
    if file.problems:
        raise refusal(file, _problems(client, file, skip_program=skip_program))
    try:
        with waiting(session, f"submitting {file.name}"):
            response = client.submit_run(
                file.spec,
                request_id=request_id or uuid.uuid4().hex,
                skip_program_check=skip_program,
                resume_run=resume_run,
            )
    except InvalidRun as error:
        raise refusal(file, merged(file, error.problems)) from error
    session.emit(response, streamed=streamed)
    return response.run


def refuse_if_wrong(file: RunFile) -> None:
    """Raise `InvalidRun` with the problems that need no daemon to be seen."""
    if file.problems:
        raise refusal(file, merged(file, ()))


def _problems(client: Client, file: RunFile, *, skip_program: bool) -> list[control_pb2.Problem]:
    """The client's problems and the daemon's. A program whose own keys are wrong is not loaded."""
    wrong = any(p.field.partition(".")[0] in _OF_THE_PROGRAM for p in file.problems)
    try:
        response = client.check_run(file.spec, skip_program=skip_program or wrong)
    except InvalidRun as error:
        return merged(file, error.problems)
    return merged(file, response.problems)
