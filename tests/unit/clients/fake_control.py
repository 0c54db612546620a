"""A control service that answers what a test tells it to, on a Unix socket of its own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from trainerd.v1 import control_pb2 as api
from trainerd.v1 import control_pb2_grpc, run_pb2
from trainerd.v1.protocol import SERVER_OPTIONS, protocol

Answer = Callable[[Any, grpc.ServicerContext], Any]

STREAMING = frozenset({"WatchRun", "ListEvents"})
METHODS = [method.name for method in api.DESCRIPTOR.services_by_name["ControlService"].methods]


def a_run(state: str = "running", **fields: Any) -> run_pb2.Run:
    """A run half way, with whatever differs."""
    run = run_pb2.Run(
        id="demo-1a2b",
        state=run_pb2.RunState.Value(f"RUN_STATE_{state.upper()}"),
        reason="trains",
        step=200,
        loss=2.5,
        first_loss=5.5,
        durable_step=150,
        snapshot_step=192,
        snapshot_every=12,
        incarnation=1,
        attached=True,
        pid=4711,
    )
    run.spec.name = "demo"
    run.spec.train.steps = 400
    run.spec.train.global_batch = 32
    run.MergeFrom(run_pb2.Run(**fields))
    return run


def completed(**fields: Any) -> run_pb2.Run:
    result = run_pb2.RunResult(
        step=400,
        batches=401,
        skipped_batches=1,
        loss=1.5,
        state_digest="ab" * 32,
        durable_step=400,
        checkpoint="/ckpt/400",
    )
    return a_run(
        "completed", reason="all steps are applied", step=400, loss=1.5, result=result, **fields
    )


def fail(
    context: grpc.ServicerContext, code: grpc.StatusCode, message: str, *details: Message
) -> None:
    """End a call with a status and google.rpc details."""
    packed = []
    for detail in details:
        item = any_pb2.Any()
        item.Pack(detail)
        packed.append(item)
    number = code_pb2.Code.Value(code.name)
    status = status_pb2.Status(code=number, message=message, details=packed)
    context.abort_with_status(rpc_status.to_status(status))


def refuse_invalid(context: grpc.ServicerContext, *problems: api.Problem) -> None:
    """Refuse a specification as the daemon does."""
    request = error_details_pb2.BadRequest()
    for problem in problems:
        request.field_violations.add(field=problem.field, description=problem.message)
    code = grpc.StatusCode.INVALID_ARGUMENT
    fail(context, code, "problems", request, api.CheckRunResponse(problems=problems))


class FakeControl:
    """`answers` maps a method to what is called for it; requests are kept, in order."""

    def __init__(self) -> None:
        self.address = ""
        self.answers: dict[str, Answer] = {
            "GetDaemon": lambda request, context: api.GetDaemonResponse(protocol=protocol()),
        }
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.closing = threading.Event()

    def answer(self, method: str, response: Message | Sequence[Message]) -> None:
        """Always answer with this."""
        self.answers[method] = lambda request, context: response

    def refuse(self, method: str, code: grpc.StatusCode, message: str, *details: Message) -> None:
        """Always end with this status."""
        self.answers[method] = lambda request, context: fail(context, code, message, *details)

    def _call(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests[method].append(request)
        answer = self.answers.get(method)
        if answer is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no answer for {method}")
        return answer(request, context)

    def servicer(self) -> control_pb2_grpc.ControlServiceServicer:
        servicer = control_pb2_grpc.ControlServiceServicer()
        for method in METHODS:
            setattr(servicer, method, self._handler(method))
        return servicer

    def _handler(self, method: str) -> Answer:
        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            return self._call(method, request, context)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            yield from self._call(method, request, context)

        return stream if method in STREAMING else unary


@contextlib.contextmanager
def serving(fake: FakeControl, place: Path | None = None) -> Iterator[FakeControl]:
    """Serve until the end of the block; `fake.address` is set.

    `place`: the folder of its socket, which whoever made it removes; None: one of its own.
    """
    directory = place or Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))
    pool = futures.ThreadPoolExecutor(16)
    server = grpc.server(pool, options=SERVER_OPTIONS)
    control_pb2_grpc.add_ControlServiceServicer_to_server(fake.servicer(), server)
    fake.address = f"unix:{directory}/control.sock"
    server.add_insecure_port(fake.address)
    server.start()
    try:
        yield fake
    finally:
        fake.closing.set()
        server.stop(0).wait(10)
        pool.shutdown()
        if place is None:
            shutil.rmtree(directory)


RUN_FILE = """\
name = "demo"
entry = "trainerd.actors.examples.stdlib_lm:build"

[train]
steps = 400
global_batch = 32
"""


def environment(**changes: str) -> Mapping[str, str]:
    """This process's environment for a `trainerctl` of its own."""
    import os

    return {**os.environ, "TRAINERD_ADDRESS": "", **changes}
