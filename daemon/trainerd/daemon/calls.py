"""Layers around the calls of the control service: durations, defects, access, quotas, deadlines."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
import structlog
from prometheus_client import Histogram

from trainerd.daemon.api_config import LimitsConfig
from trainerd.daemon.guarding import Call
from trainerd.daemon.refusals import refuse
from trainerd.daemon.roles import LEAST

log = structlog.get_logger()

OURS = "trainerd.v1."
LAST_WORD_S = 0.05
"""Seconds that open streams have before they are ended."""


class CallTimes:
    """Observes the duration of each call by method and status code; health's and reflection's
    are left out."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    @contextlib.asynccontextmanager
    async def __call__(self, call: Call) -> AsyncIterator[None]:
        """The layer."""
        began = time.monotonic()
        failed: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            if call.service.startswith(OURS):
                code = code_of(call, failed)
                self._histogram.labels(call.name, code).observe(time.monotonic() - began)


def code_of(call: Call, failed: BaseException | None) -> str:
    """What the client sees of a call that ended so; one that it has left is CANCELLED."""
    code = call.context.code()
    if isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK:
        return code.name
    if failed is None:
        return grpc.StatusCode.OK.name
    left = isinstance(failed, asyncio.CancelledError | GeneratorExit)
    return (grpc.StatusCode.CANCELLED if left else grpc.StatusCode.UNKNOWN).name


@contextlib.asynccontextmanager
async def defects(call: Call) -> AsyncIterator[None]:
    """A handler that raises is a defect of ours: the log has it whole, the client its number."""
    try:
        yield
    except (grpc.aio.AbortError, grpc.aio.InternalError):
        # Refused; or the client is gone while it is being answered, which gRPC tells apart.
        raise
    except NotImplementedError:
        message = f"{call.method} is not served here"
        await refuse(call.context, grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", message)
    except Exception as error:
        log.exception("call_failed", method=call.method, peer=call.peer.identity)
        await refuse(
            call.context,
            grpc.StatusCode.INTERNAL,
            "DEFECT",
            f"a defect of the daemon ({type(error).__name__}): its log says where, at call_failed",
        )


@contextlib.asynccontextmanager
async def access(call: Call) -> AsyncIterator[None]:
    """Refuses who has not the role that the RPC needs, and everybody an RPC without one."""
    needed = LEAST.get(call.method)
    if call.method not in LEAST or not call.peer.may(needed):
        wanted = f"the role {needed.value}" if needed else "a role"
        await refuse(
            call.context,
            grpc.StatusCode.PERMISSION_DENIED,
            "ROLE_REQUIRED",
            f"{call.name} needs {wanted}; the certificate of {call.peer.identity} has the role "
            f"{call.peer.role}: the daemon's [api.roles] says which certificate has which",
            metadata={
                "identity": call.peer.identity,
                "role": call.peer.role,
                "needed": needed.value if needed else "any",
            },
        )
    yield


class Quotas:
    """Bounds how many calls and streams there are at once: of all, and of one identity.

    Each service has its own count, so that those who watch keep no host out.
    """

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        """May be replaced; what is held already stays."""
        self._held: collections.Counter[tuple[str, ...]] = collections.Counter()

    @contextlib.asynccontextmanager
    async def __call__(self, call: Call) -> AsyncIterator[None]:
        """The layer."""
        limits = self.limits
        kind = "streams" if call.streams else "calls"
        most = limits.streams if call.streams else limits.calls
        most_each = limits.streams_per_client if call.streams else limits.calls_per_client
        everybody = (kind, call.service)
        one = (*everybody, call.peer.transport, call.peer.identity)
        for key, limit, name, whose in (
            (one, most_each, f"{kind}_per_client", f"{call.peer.identity} has"),
            (everybody, most, kind, "all clients together have"),
        ):
            if self._held[key] >= limit:
                await refuse(
                    call.context,
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"TOO_MANY_{kind.upper()}",
                    f"{whose} {limit} {kind} at once, limits.{name} = {limit}: end some first",
                )
        self._held.update((one, everybody))
        try:
            yield
        finally:
            for key in (one, everybody):
                self._held[key] -= 1
                if not self._held[key]:
                    del self._held[key]


class Deadlines:
    """A call whose client gives no deadline has the daemon's; a stream has none."""

    def __init__(self, limits: LimitsConfig) -> None:
        self.call_s = limits.call_s
        """May be replaced; it counts for calls to come."""

    @contextlib.asynccontextmanager
    async def __call__(self, call: Call) -> AsyncIterator[None]:
        """The layer."""
        if call.streams or call.context.time_remaining() is not None:
            yield
            return
        call_s = self.call_s
        try:
            async with asyncio.timeout(call_s) as allowed:
                yield
        except TimeoutError:
            if not allowed.expired():
                raise
            await refuse(
                call.context,
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "NO_DEADLINE_GIVEN",
                f"not done within limits.call_s = {call_s:g} s, which holds where the "
                f"client gives no deadline; what was asked for may still happen",
            )


class Ending:
    """Ends the calls in order when the daemon does: quick ones finish, the others are told."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[object], Call] = {}
        self._ending = False

    @contextlib.asynccontextmanager
    async def __call__(self, call: Call) -> AsyncIterator[None]:
        """The layer."""
        if self._ending:
            await _refuse_ending(call)
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = call
        try:
            yield
        except asyncio.CancelledError:
            if not self._ending or call.context.cancelled():
                raise
            task.uncancel()
            await _refuse_ending(call)
        finally:
            self._tasks.pop(task, None)

    async def close(self, grace_s: float) -> None:
        """Refuse new calls; give those under way `grace_s`, then end them with UNAVAILABLE."""
        self._ending = True
        calls = [task for task, call in self._tasks.items() if not call.streams]
        if calls:
            await asyncio.wait(calls, timeout=grace_s)
        if self._tasks:
            # A stream may have a last word that waits: health's, that nothing serves any more.
            await asyncio.wait(list(self._tasks), timeout=LAST_WORD_S)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=grace_s)


async def _refuse_ending(call: Call) -> None:
    await refuse(
        call.context,
        grpc.StatusCode.UNAVAILABLE,
        "DAEMON_ENDING",
        "the daemon is ending; training goes on: call again when its successor answers",
    )
