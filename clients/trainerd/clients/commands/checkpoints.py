"""checkpoints: what there is of a run on its host's disk, verified or exported on request."""

from __future__ import annotations

import os
from argparse import Namespace

from trainerd.clients.checkpoint_report import checkpoint_lines, export_text, found_damaged
from trainerd.clients.errors import BadInput, ExitCode
from trainerd.clients.session import Session


def checkpoints(args: Namespace, session: Session) -> int:
    """List, verify or export; 1 when a verification has found a damaged one."""
    if args.export is not None:
        return _export(args, session)
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
    return ExitCode.RUN_FAILED if found_damaged(response.checkpoints) else ExitCode.OK


def _export(args: Namespace, session: Session) -> int:
    # Relative to where the user stands, as everywhere.
    directory = os.path.abspath(os.path.expanduser(args.export))
    with session.client() as client:
        response = client.export_checkpoint(args.run, directory, step=args.step)
    session.emit(response)
    for line in export_text(response):
        session.say(line)
    return ExitCode.OK
