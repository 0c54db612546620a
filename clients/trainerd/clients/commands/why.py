"""why: the reasons for a run's state."""

from __future__ import annotations

from argparse import Namespace

from trainerd.clients.errors import ExitCode
from trainerd.clients.explanation import explained
from trainerd.clients.session import Session


def why(args: Namespace, session: Session) -> int:
    """State and reason, the story behind them, budgets, what happens next."""
    with session.client() as client:
        response = client.explain_run(args.run)
    session.emit(response)
    for line in explained(response):
        session.say(line)
    return ExitCode.OK
