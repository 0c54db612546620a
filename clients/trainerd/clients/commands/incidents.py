"""incidents, incident, replay: what is kept of the faults that changed a run's course."""

from __future__ import annotations

from argparse import Namespace

from trainerd.clients.errors import ExitCode
from trainerd.clients.incident_report import incident_line, incident_text, replay_text
from trainerd.clients.progress import waiting
from trainerd.clients.session import Session


def incidents(args: Namespace, session: Session) -> int:
    """A line an incident, oldest first."""
    with session.client() as client:
        response = client.list_incidents(args.run)
        while response.next_page_token:
            page = client.list_incidents(args.run, page_token=response.next_page_token)
            response.incidents.extend(page.incidents)
            response.next_page_token = page.next_page_token
    session.emit(response)
    for each in response.incidents:
        session.say(incident_line(each))
    if not response.incidents:
        session.say("no incidents")
    return ExitCode.OK


def incident(args: Namespace, session: Session) -> int:
    """One incident with its evidence."""
    with session.client() as client:
        response = client.get_incident(args.run, args.number)
    session.emit(response)
    for line in incident_text(response):
        session.say(line)
    return ExitCode.OK


def replay(args: Namespace, session: Session) -> int:
    """Train an incident's batch again; 0 when that could be done, whatever came of it."""
    parting = "the replay may go on; what it shows is not told: ask again"
    doing = f"training an incident of {args.run} again"
    with session.client() as client, waiting(session, doing, parting=parting):
        response = client.replay_incident(args.run, args.number, cpu=args.cpu)
    session.emit(response)
    for line in replay_text(response):
        session.say(line)
    return ExitCode.OK
