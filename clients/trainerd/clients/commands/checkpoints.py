"""checkpoints: what there is of a run on its host's disk, verified, adopted or exported."""

from __future__ import annotations

import os
from argparse import Namespace

from trainerd.clients.checkpoint_report import checkpoint_lines, export_text, found_damaged
from trainerd.clients.errors import BadInput, ExitCode
from trainerd.clients.session import Session


def checkpoints(args: Namespace, session: Session) -> int:
    """List, verify, adopt or export; 1 when a verification has found a damaged one, or could not
    read one."""
    if args.export is not None:
        return _export(args, session)
    if args.adopt is not None:
        return _adopt(args, session)
    if args.step is not None:
        raise BadInput("--step needs --export: it says which checkpoint is exported")
    with session.client() as client:
        response = (
            client.verify_checkpoints(args.run)
            if args.verify
            else client.list_checkpoints(args.run)
        )
    session.emit(response)
    for line in checkpoint_lines(response.checkpoints):
        session.say(line)
    failed = args.verify and found_damaged(response.checkpoints)
    return ExitCode.RUN_FAILED if failed else ExitCode.OK


def _adopt(args: Namespace, session: Session) -> int:
    if args.step is not None:
        raise BadInput("--step needs --export: --adopt says itself which checkpoint")
    with session.client() as client:
        response = client.adopt_checkpoint(args.run, args.adopt)
    session.emit(response)
    for line in checkpoint_lines([response.checkpoint]):
        session.say(line)
    return ExitCode.OK


def _export(args: Namespace, session: Session) -> int:
    # Relative to where the user stands, as everywhere.
    directory = os.path.abspath(os.path.expanduser(args.export))
    with session.client() as client:
        response = client.export_checkpoint(args.run, directory, step=args.step)
    session.emit(response)
    for line in export_text(response):
        session.say(line)
    return ExitCode.OK
