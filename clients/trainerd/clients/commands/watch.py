"""watch: a run to its end, live on a terminal, in plain lines elsewhere."""

from __future__ import annotations

import signal
from argparse import Namespace

from trainerd.clients.client import Client
from trainerd.clients.errors import ExitCode
from trainerd.clients.plain_view import JsonView, PlainView
from trainerd.clients.report import outcome
from trainerd.clients.session import Session
from trainerd.clients.watching import EXIT_CODES, View, Watching, leave
from trainerd.v1 import run_pb2


def watch(args: Namespace, session: Session) -> int:
    """Watch a run; exit with its result. Ctrl-C leaves it alone and exits with 0."""
    with session.client() as client:
        run = client.get_run(args.run).run
        code = to_end(client, run, session, Watching(interrupted=leave))
    return ExitCode.OK if code == 128 + signal.SIGINT else code


def to_end(
    client: Client,
    run: run_pb2.Run,
    session: Session,
    how: Watching,
    *,
    parting: str = "the run goes on; come back with: trainerctl watch",
) -> int:
    """Watch a run and print how it ended; the exit code of its result.

    128 + the signal's number if a signal ended the watching and not the run; then `parting`
    and the run's id are said.
    """
    watched = how.to_end(client, run, _view(session))
    if watched.left_by is not None:
        session.note(f"{parting} {run.id}")
        return 128 + watched.left_by
    for line in outcome(watched.run):
        session.say(line)
    return EXIT_CODES[watched.run.state]


def _view(session: Session) -> View:
    if session.as_json:
        return JsonView(session)
    if not session.live:
        return PlainView(session)
    # Slow to import, and of use on a terminal only.
    from rich.console import Console  # noqa: PLC0415

    from trainerd.clients.live_view import LiveView  # noqa: PLC0415

    return LiveView(Console(file=session.out))
