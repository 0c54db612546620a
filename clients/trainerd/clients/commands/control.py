"""pause, resume, stop, restart, checkpoint, delete: one call each."""

from __future__ import annotations

from argparse import Namespace
from contextlib import AbstractContextManager

from trainerd.clients.errors import ExitCode
from trainerd.clients.progress import waiting
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
    with session.client() as client, _waiting(args, session, "pausing"):
        response = client.pause_run(args.run, no_wait=args.no_wait)
    return _answer(session, response, args)


def resume(args: Namespace, session: Session) -> int:
    """Go on with a paused run."""
    with session.client() as client, _waiting(args, session, "resuming"):
        response = client.resume_run(args.run, no_wait=args.no_wait)
    return _answer(session, response, args)


def stop(args: Namespace, session: Session) -> int:
    """End a run so that it can be resumed."""
    with session.client() as client, _waiting(args, session, "stopping"):
        response = client.stop_run(args.run, no_wait=args.no_wait, no_checkpoint=args.no_checkpoint)
    return _answer(session, response, args)


def restart(args: Namespace, session: Session) -> int:
    """Start a new trainer process."""
    with session.client() as client, _waiting(args, session, "restarting"):
        response = client.restart_run(args.run, no_wait=args.no_wait)
    return _answer(session, response, args)


def checkpoint(args: Namespace, session: Session) -> int:
    """Save a checkpoint now."""
    with session.client() as client, _waiting(args, session, "saving"):
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
    with session.client() as client, _waiting(args, session, "deleting"):
        response = client.delete_run(args.run, no_wait=args.no_wait)
    session.emit(response)
    session.say(f"deleted {args.run}")
    if not (response.files_removed or args.no_wait):
        session.note("its files are still there: they go when a launcher can remove them")
    return ExitCode.OK


def _waiting(args: Namespace, session: Session, doing: str) -> AbstractContextManager[None]:
    """Ctrl-C ends the waiting and nothing else."""
    parting = f"the {args.command} goes on; see: trainerctl status {args.run}"
    return waiting(session, f"{doing} {args.run}", parting=parting)


def _answer(session: Session, response: _RunAnswer, args: Namespace) -> int:
    """Say which state was reached or, with --no-wait, in which the request found the run."""
    session.emit(response)
    run = response.run
    asked = f"asked to {args.command}; now " if args.no_wait else ""
    session.say(f"{run.id}: {asked}{state_word(run.state)} at step {run.step:,}")
    return ExitCode.OK
