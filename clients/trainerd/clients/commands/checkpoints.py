"""checkpoints: what there is of a run on its host's disk, verified, adopted or exported."""

from __future__ import annotations

import os
from argparse import Namespace

from trainerd.clients.checkpoint_report import checkpoint_lines, export_text, found_damaged
from trainerd.clients.client import Client
from trainerd.clients.errors import BadInput, ExitCode
from trainerd.clients.progress import waiting
from trainerd.clients.session import Session
from trainerd.v1 import control_pb2


def checkpoints(args: Namespace, session: Session) -> int:
    """List, verify, adopt or export; 1 when a verification has found a damaged one, or could not
    read one."""
    if args.export is not None:
        return _export(args, session)
    if args.adopt is not None:
        return _adopt(args, session)
    if args.step is not None:
        raise BadInput("--step needs --export: it says which checkpoint is exported")
    response: control_pb2.VerifyCheckpointsResponse | control_pb2.ListCheckpointsResponse
    with session.client() as client:
        if args.verify:
            parting = "the verification may go on; its end is not told: ask again"
            with waiting(session, f"reading the checkpoints of {args.run}", parting=parting):
                response = client.verify_checkpoints(args.run)
        else:
            response = _every(client, args.run)
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
    parting = f"the export may go on; look into {directory} on the run's host"
    doing = f"exporting a checkpoint of {args.run}"
    with session.client() as client, waiting(session, doing, parting=parting):
        response = client.export_checkpoint(args.run, directory, step=args.step)
    session.emit(response)
    for line in export_text(response):
        session.say(line)
    return ExitCode.OK


def _every(client: Client, run: str) -> control_pb2.ListCheckpointsResponse:
    every = client.list_checkpoints(run)
    while every.next_page_token:
        page = client.list_checkpoints(run, page_token=every.next_page_token)
        every.checkpoints.extend(page.checkpoints)
        every.next_page_token = page.next_page_token
    return every
