"""list, status: what the daemon knows of its runs."""

from __future__ import annotations

import datetime
from argparse import Namespace

from trainerd.clients.client import Client
from trainerd.clients.errors import ExitCode
from trainerd.clients.report import detail, table
from trainerd.clients.session import Session
from trainerd.v1 import control_pb2

_LARGEST_PAGE = 1_000


def list_runs(args: Namespace, session: Session) -> int:
    """A table of runs, newest first."""
    with session.client() as client:
        response = _pages(client, args.limit)
    session.emit(response)
    for line in table(response.runs, datetime.datetime.now(datetime.UTC)):
        session.say(line)
    if response.next_page_token:
        session.note(f"there are more than {len(response.runs)} runs; see --limit")
    return ExitCode.OK


def status(args: Namespace, session: Session) -> int:
    """One run in detail."""
    with session.client() as client:
        response = client.get_run(args.run)
    session.emit(response)
    for line in detail(response.run, datetime.datetime.now(datetime.UTC)):
        session.say(line)
    return ExitCode.OK


def _pages(client: Client, limit: int) -> control_pb2.ListRunsResponse:
    every = control_pb2.ListRunsResponse()
    while True:
        wanted = min(limit - len(every.runs), _LARGEST_PAGE)
        page = client.list_runs(page_size=wanted, page_token=every.next_page_token)
        every.runs.extend(page.runs)
        every.next_page_token = page.next_page_token
        if not page.next_page_token or not page.runs or len(every.runs) >= limit:
            return every
