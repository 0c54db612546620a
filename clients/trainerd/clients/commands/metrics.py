"""metrics: every applied update of a run, as a table, as CSV, or page by page as JSON."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Iterator

from trainerd.clients.client import Client
from trainerd.clients.errors import ExitCode
from trainerd.clients.session import Session
from trainerd.clients.step_table import csv_heading, csv_row, heading, line
from trainerd.v1 import control_pb2

_LARGEST_PAGE = 5_000


def metrics(args: Namespace, session: Session) -> int:
    """The step metrics, by step."""
    lost = 0
    with session.client() as client:
        first = True
        for page in _pages(client, args.run, args.after, args.limit):
            lost = page.lost
            session.emit(page, streamed=True)
            if not session.as_json:
                _show(session, page, as_csv=args.csv, with_heading=first)
            first = False
    if lost:
        session.note(f"{lost:,} steps could not be kept: the disk of the run's host was full")
    return ExitCode.OK


def _pages(
    client: Client, run: str, after: int, limit: int
) -> Iterator[control_pb2.ListStepMetricsResponse]:
    """At most `limit` steps (0: all), in pages; at least one page."""
    token, came = "", 0
    while True:
        size = min(limit - came, _LARGEST_PAGE) if limit else _LARGEST_PAGE
        page = client.list_step_metrics(run, after_step=after, page_size=size, page_token=token)
        token, came = page.next_page_token, came + len(page.steps)
        yield page
        if not token or not page.steps or (limit and came >= limit):
            return


def _show(
    session: Session,
    page: control_pb2.ListStepMetricsResponse,
    *,
    as_csv: bool,
    with_heading: bool,
) -> None:
    names = list(page.names)
    if as_csv:
        writer = csv.writer(session.out, lineterminator="\n")
        if with_heading:
            writer.writerow(csv_heading(names))
        writer.writerows(csv_row(step, names) for step in page.steps)
        return
    if with_heading:
        session.say(heading(names) if page.steps else "no steps")
    for step in page.steps:
        session.say(line(step, names))
