"""hosts, drain, undrain: the cluster."""

from __future__ import annotations

from argparse import Namespace

from trainerd.clients.errors import ExitCode
from trainerd.clients.host_report import hosts_table, state_of
from trainerd.clients.session import Session


def hosts(args: Namespace, session: Session) -> int:  # noqa: ARG001 - a command's signature
    """A table of hosts."""
    with session.client() as client:
        response = client.list_hosts()
    session.emit(response)
    for line in hosts_table(response.hosts):
        session.say(line)
    return ExitCode.OK


def drain(args: Namespace, session: Session) -> int:
    """Have a host's trainers save and end."""
    with session.client() as client:
        response = client.drain_host(args.host, no_wait=args.no_wait)
    session.emit(response)
    session.say(f"{args.host}: {state_of(response.host)}")
    return ExitCode.OK


def undrain(args: Namespace, session: Session) -> int:
    """Let a host have trainers again."""
    with session.client() as client:
        response = client.undrain_host(args.host)
    session.emit(response)
    session.say(f"{args.host}: {state_of(response.host)}")
    return ExitCode.OK
