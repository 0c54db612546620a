"""pause, resume, stop, restart, checkpoint, delete: one call each."""

from __future__ import annotations

from argparse import Namespace

from trainerd.clients.errors import ExitCode
from trainerd.clients.sentences import state_word
from trainerd.clients.session import Session
from trainerd.v1 import control_pb2

_RunAnswer = (
    control_pb2.PauseRunResponse
    | control_pb2.ResumeRunResponse
    | control_pb2.StopRunResponse
    | control_pb2.RestartRunResponse
)


def pause(args: Namespace, session: Session) -> int:
    """Hold a run after an agreed step."""
    with session.client() as client:
        return _answer(session, client.pause_run(args.run, no_wait=args.no_wait), args)


def resume(args: Namespace, session: Session) -> int:
    """Go on with a paused run."""
    with session.client() as client:
        return _answer(session, client.resume_run(args.run, no_wait=args.no_wait), args)


def stop(args: Namespace, session: Session) -> int:
    """End a run so that it can be resumed."""
    with session.client() as client:
        response = client.stop_run(args.run, no_wait=args.no_wait, no_checkpoint=args.no_checkpoint)
    return _answer(session, response, args)


def restart(args: Namespace, session: Session) -> int:
    """Start a new trainer process."""
    with session.client() as client:
        return _answer(session, client.restart_run(args.run, no_wait=args.no_wait), args)


def checkpoint(args: Namespace, session: Session) -> int:
    """Save a checkpoint now."""
    with session.client() as client:
        response = client.checkpoint_run(args.run, no_wait=args.no_wait)
    session.emit(response)
    if args.no_wait:
        session.say(f"{response.run.id}: asked for a checkpoint")
    else:
        session.say(
            f"{response.run.id}: checkpoint of step {response.step:,} is durable: {response.path}"
        )
    return ExitCode.OK


def delete(args: Namespace, session: Session) -> int:
    """Remove an ended run and its files."""
    with session.client() as client:
        response = client.delete_run(args.run)
    session.emit(response)
    session.say(f"deleted {args.run}")
    return ExitCode.OK


def _answer(session: Session, response: _RunAnswer, args: Namespace) -> int:
    """Say which state was reached or, with --no-wait, in which the request found the run."""
    session.emit(response)
    run = response.run
    asked = f"asked to {args.command}; now " if args.no_wait else ""
    session.say(f"{run.id}: {asked}{state_word(run.state)} at step {run.step:,}")
    return ExitCode.OK
