"""inject: a fault on purpose."""

from __future__ import annotations

from argparse import Namespace
from typing import cast

from trainerd.clients.errors import BadInput, ExitCode
from trainerd.clients.sentences import injection_text
from trainerd.clients.session import Session
from trainerd.clients.spec_reader import enum_number
from trainerd.v1 import inject_pb2


def inject(args: Namespace, session: Session) -> int:
    """Have a fault happen in a run."""
    injection = inject_pb2.Injection(
        fault=_fault(args.fault),
        step=args.step or 0,
        probability=args.probability or 0.0,
        slots=args.slots,
        times=_fits("--times", args.times),
        seconds=args.seconds or 0.0,
        exit_code=_fits("--exit-code", args.exit_code),
    )
    if args.step == 0:
        raise BadInput("--step must be ≥ 1, got 0; without it the fault happens at the next step")
    with session.client() as client:
        response = client.inject_fault(args.run, injection)
    session.emit(response)
    session.say(f"injection {response.number} of {args.run}: {injection_text(injection)}")
    return ExitCode.OK


def _fault(text: str) -> inject_pb2.InjectedFault:
    number, problem = enum_number(inject_pb2.InjectedFault.DESCRIPTOR, text)
    if number is None:
        raise BadInput(f"FAULT {problem}")
    return cast("inject_pb2.InjectedFault", number)


def _fits(option: str, value: int) -> int:
    if value >= 2**31:
        raise BadInput(f"{option} must fit in 32 bits, got {value}")
    return value
