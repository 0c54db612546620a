"""The audit log: who asked for what change, and what came of it.

Two lines a call in `audit.jsonl`: one before anything is done (`asked`), one with the outcome
(`ended`). As with the journal, what cannot be recorded is not done: without space for the first
line the call is refused. Who has not the role has one line (`denied`), and only a few a minute:
nobody may push the others' lines out with them.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Callable

import grpc
import structlog
from google.protobuf.message import Message

from trainerd.daemon.audit_file import AuditFile
from trainerd.daemon.calls import code_of
from trainerd.daemon.guarding import Call
from trainerd.daemon.refusals import refuse
from trainerd.daemon.roles import changes_something
from trainerd.v1 import run_pb2

log = structlog.get_logger()

MOST_TEXT = 200
"""Characters of one text of a request that are kept."""
DENIALS = 20
"""Lines a minute about calls that were denied; the next line says how many more there were."""
MINUTE_S = 60.0

_DENIED = grpc.StatusCode.PERMISSION_DENIED.name


class Audit:
    """Records every call that may change something."""

    def __init__(
        self, file: AuditFile, *, wall: Callable[[], float], on_failure: Callable[[], None]
    ) -> None:
        """`on_failure` is called for each line that could not be written."""
        self._file = file
        self._wall = wall
        self._on_failure = on_failure
        # Unlike the numbers of any earlier daemon.
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._lost = 0
        self._minute = -1
        self._denials = 0

    @contextlib.asynccontextmanager
    async def denials(self, call: Call) -> AsyncIterator[None]:
        """The layer around the one that refuses for want of a role."""
        try:
            yield
        except BaseException as error:
            if code_of(call, error) == _DENIED:
                self._deny(call)
            raise

    @contextlib.asynccontextmanager
    async def __call__(self, call: Call) -> AsyncIterator[None]:
        """The layer around the calls that are let in."""
        if not changes_something(call.method):
            yield
            return
        number = f"{self._prefix}-{next(self._numbers)}"
        try:
            self._write(call, "asked", number, request=summary(call.request))
        except OSError as error:
            await refuse(
                call.context,
                grpc.StatusCode.UNAVAILABLE,
                "AUDIT_UNWRITABLE",
                f"the audit log cannot be written, so nothing is changed ({error.strerror}); "
                f"training goes on",
            )
        failed: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            code = code_of(call, failed)
            said = call.context.details()
            message = said.decode(errors="replace") if isinstance(said, bytes) else said or ""
            with contextlib.suppress(OSError):
                self._write(call, "ended", number, code=code, message=message[:MOST_TEXT])

    def _deny(self, call: Call) -> None:
        minute = int(self._wall() // MINUTE_S)
        if minute != self._minute:
            more = max(0, self._denials - DENIALS)
            self._minute, self._denials = minute, 0
            if more:
                log.warning("denials_not_recorded", count=more)
        self._denials += 1
        if self._denials <= DENIALS:
            with contextlib.suppress(OSError):
                self._write(call, "denied", f"{self._prefix}-{next(self._numbers)}", code=_DENIED)

    def _write(self, call: Call, stage: str, number: str, **told: object) -> None:
        wall = datetime.datetime.fromtimestamp(self._wall(), datetime.UTC)
        line = {
            "time": wall.isoformat(timespec="milliseconds"),
            "call": number,
            "stage": stage,
            "method": call.name,
            "identity": call.peer.identity,
            "role": call.peer.role,
            "transport": call.peer.transport,
            "peer": call.address,
            **{key: value for key, value in told.items() if value not in ("", None)},
        }
        log.info("call_audited", **{key: line[key] for key in line if key != "time"})
        if self._lost:
            line["lines_lost_before"] = self._lost
        try:
            self._file.append(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            self._lost += 1
            self._on_failure()
            log.error("audit_write_failed", error=str(error))
            raise
        self._lost = 0


def summary(request: object) -> dict[str, object]:
    """What a request asks for, without the values of its environment variables.

    Its own texts, numbers and switches; of a specification the name, the entry, the interpreter
    and the names of its variables; and a digest of it all, the values left out.
    """
    if not isinstance(request, Message):
        return {}
    told: dict[str, object] = {}
    for field, value in request.ListFields():
        if isinstance(value, str):
            told[field.name] = value[:MOST_TEXT]
        elif isinstance(value, int | float):
            told[field.name] = value
        elif isinstance(value, run_pb2.RunSpec):
            told[field.name] = {
                "name": value.name[:MOST_TEXT],
                "entry": value.entry[:MOST_TEXT],
                "python": value.trainer.python[:MOST_TEXT],
                "env": sorted(name[:MOST_TEXT] for name in value.trainer.env)[:50],
            }
    told["digest"] = hashlib.sha256(without_values(request)).hexdigest()
    return told


def without_values(request: Message) -> bytes:
    """A request in bytes, the values of environment variables left out."""
    copy = type(request)()
    copy.CopyFrom(request)
    for _, value in copy.ListFields():
        if isinstance(value, run_pb2.RunSpec):
            for name in value.trainer.env:
                value.trainer.env[name] = ""
    return copy.SerializeToString(deterministic=True)
