"""profile, stacks: a live run from the inside."""

from __future__ import annotations

import os
from argparse import Namespace

from trainerd.clients.errors import ExitCode
from trainerd.clients.progress import waiting
from trainerd.clients.session import Session
from trainerd.clients.stack_report import stack_lines
from trainerd.clients.wording import one_line, plural


def profile(args: Namespace, session: Session) -> int:
    """Take a profile of the next steps; prints where it is."""
    # Relative to where the user stands, as everywhere.
    directory = os.path.abspath(os.path.expanduser(args.output)) if args.output else ""
    with (
        session.client() as client,
        waiting(
            session,
            f"profiling {plural(args.steps, 'step')} of {args.run}",
            parting=f"the profile is taken all the same; see: trainerctl events {args.run}",
        ),
    ):
        response = client.profile_run(
            args.run, args.steps, directory=directory, no_wait=args.no_wait
        )
    session.emit(response)
    run = response.run.id
    if args.no_wait:
        session.say(f"{run}: asked for a profile; trainerctl events {run} will say where it is")
        return ExitCode.OK
    session.say(one_line(response.path))
    last = response.step + response.steps - 1
    session.note(f"{run}: {plural(response.steps, 'step')}, {response.step:,} to {last:,}")
    return ExitCode.OK


def stacks(args: Namespace, session: Session) -> int:
    """The stacks of all threads of the live trainer."""
    with session.client() as client, waiting(session, f"collecting stacks of {args.run}"):
        response = client.collect_run_stacks(args.run)
    session.emit(response)
    for each in stack_lines(response):
        session.say(each)
    return ExitCode.OK
