"""events, logs: what happened, and what the trainers wrote."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterable

from trainerd.clients.client import Client
from trainerd.clients.errors import ExitCode
from trainerd.clients.following import Patience, follow_events
from trainerd.clients.loglines import LogReader
from trainerd.clients.sentences import kind_of, sentence
from trainerd.clients.session import Session
from trainerd.clients.wording import date_and_clock, one_line, size
from trainerd.v1 import control_pb2, event_pb2

_KIND_WIDTH = 20


def events(args: Namespace, session: Session) -> int:
    """The journal's records of a run, or of all, one line each."""
    run, newest = args.run or "", args.after
    try:
        with session.client() as client:
            for response in _stream(client, session, args):
                newest = response.event.sequence
                session.emit(response, streamed=True)
                session.say(event_line(response.event, with_run=not run))
                if args.follow:
                    session.out.flush()
    except KeyboardInterrupt:
        words = ["trainerctl events", *filter(None, [run]), f"-f --after {newest}"]
        session.note(f"to go on from here: {' '.join(words)}")
        raise
    return ExitCode.OK


def _stream(
    client: Client, session: Session, args: Namespace
) -> Iterable[control_pb2.ListEventsResponse]:
    run = args.run or ""
    if not args.follow:
        return client.list_events(run, after_sequence=args.after)
    patience = Patience(session.note)
    return follow_events(client, run, after_sequence=args.after, patience=patience)


def event_line(event: event_pb2.Event, *, with_run: bool) -> str:
    """Time, kind, sentence; the run in front of the sentence where several are listed."""
    run = f"{one_line(event.run)}: " if with_run and event.run else ""
    when = date_and_clock(event.time)
    return f"{when}  {kind_of(event):<{_KIND_WIDTH}}  {run}{sentence(event)}"


def logs(args: Namespace, session: Session) -> int:
    """A trainer's log, byte for byte; every later incarnation's too with --follow."""
    with session.client() as client:
        return _copy(client, args, session)


def _copy(client: Client, args: Namespace, session: Session) -> int:
    reader = LogReader(
        client,
        args.run,
        incarnation=args.incarnation,
        follow=args.follow,
        host=args.host,
        patience=Patience(session.note),
        sleep=time.sleep,
    )
    shown, offset = 0, 0
    for response in reader.parts():
        session.emit(response, streamed=True)
        if session.as_json:
            continue
        if shown and response.incarnation != shown:
            session.note(f"incarnation {response.incarnation}:")
        if response.incarnation != shown:
            offset = 0
        if response.offset > offset:
            session.note(f"{size(response.offset - offset)} before this are gone: the log is cut")
        shown, offset = response.incarnation, response.next_offset
        session.out.flush()
        session.out.buffer.write(response.data)
        session.out.buffer.flush()
    return ExitCode.OK
