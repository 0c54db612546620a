"""A typed client of the daemon's control service."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import grpc

from trainerd.clients.address import Tls, normalised, open_channel
from trainerd.clients.errors import ApiError
from trainerd.clients.failures import from_rpc_error
from trainerd.v1 import control_pb2, control_pb2_grpc, fault_pb2, inject_pb2, run_pb2
from trainerd.v1.protocol import client_address, protocol, refusal

if TYPE_CHECKING:
    from google.protobuf.message import Message

_HANDSHAKE_TIMEOUT_S = 10.0

Request = TypeVar("Request", bound="Message")
Response = TypeVar("Response", bound="Message")
Received_co = TypeVar("Received_co", covariant=True)


class Call(Protocol[Received_co]):
    """A streaming call under way, as gRPC returns it."""

    def __iter__(self) -> Iterator[Received_co]:
        """The messages."""

    def cancel(self) -> bool:
        """End the call."""


class Stream(Generic[Response]):
    """Messages of a streaming call, in order. Iterate once; `cancel` from any thread ends it.

    It has no deadline of its own: keepalive ends it within seconds when the link is lost.
    """

    def __init__(self, call: Call[Response], address: str) -> None:
        """`call` is the running call to `address`."""
        self._call = call
        self._address = address
        self._cancelled = False

    def __iter__(self) -> Iterator[Response]:
        """Yield until the daemon ends the stream or `cancel`; raises `TrainerdError`."""
        try:
            yield from self._call
        except grpc.RpcError as error:
            if not self._cancelled:
                raise from_rpc_error(error, address=self._address, timeout_s=None) from error

    def cancel(self) -> None:
        """End the stream; whoever iterates over it sees its end."""
        self._cancelled = True
        self._call.cancel()


class Client:
    """Calls the daemon at `address`; use as a context manager.

    The first call shakes hands: a daemon that speaks another protocol is refused with
    `ApiError`. Every method raises `TrainerdError`s only. A run is named by its id or a unique
    beginning of it. Methods may be called from several threads.
    """

    def __init__(
        self,
        address: str | None = None,
        timeout_s: float = 30.0,
        tls: Tls | None = None,
        *,
        work_timeout_s: float | None = None,
    ) -> None:
        """Nothing is connected yet.

        `address`: `unix:PATH` or `host:port`; None: the daemon of this machine.
        `timeout_s`: deadline of a call that only reads.
        `work_timeout_s`: deadline of a call that waits for training to do something (check,
        submit, pause, stop, …); default: 300, or `timeout_s` if that is longer; twice that for a
        replay and for an export, an hour for a verification.
        """
        self.address = normalised(address or client_address())
        self._timeout_s = timeout_s
        self._work_timeout_s = max(300.0, timeout_s) if work_timeout_s is None else work_timeout_s
        replay_timeout_s = 2 * max(300.0, timeout_s)
        self._replay_timeout_s = replay_timeout_s if work_timeout_s is None else work_timeout_s
        verify_timeout_s = max(3600.0, timeout_s)
        self._verify_timeout_s = verify_timeout_s if work_timeout_s is None else work_timeout_s
        self._channel = open_channel(self.address, tls)
        self._stub = control_pb2_grpc.ControlServiceStub(self._channel)
        self._greeted = False

    def __enter__(self) -> Self:
        """Shake hands with the daemon."""
        try:
            self._greet()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the channel."""
        self.close()

    def close(self) -> None:
        """Close the channel; calls under way end."""
        self._channel.close()

    def daemon(self) -> control_pb2.GetDaemonResponse:
        """The daemon's versions and addresses."""
        timeout_s = min(self._timeout_s, _HANDSHAKE_TIMEOUT_S)
        request = control_pb2.GetDaemonRequest(protocol=protocol())
        response = self._bare_call(self._stub.GetDaemon, request, timeout_s)
        refused = refusal(response.protocol, who=f"daemon at {self.address}")
        if refused:
            raise ApiError(refused)
        self._greeted = True
        return response

    def check_run(
        self, spec: run_pb2.RunSpec, *, skip_program: bool = False
    ) -> control_pb2.CheckRunResponse:
        """Everything that is wrong with a specification, and, unless skipped, its program."""
        request = control_pb2.CheckRunRequest(spec=spec, skip_program=skip_program)
        return self._call(self._stub.CheckRun, request, self._work_timeout_s)

    def submit_run(
        self,
        spec: run_pb2.RunSpec,
        *,
        request_id: str = "",
        skip_program_check: bool = False,
        resume_run: str = "",
    ) -> control_pb2.SubmitRunResponse:
        """Submit a run; the same `request_id` answers with the same run.

        `resume_run`: begin with the newest checkpoint of that stopped or failed run.

        Raises `InvalidRun` with every problem.
        """
        request = control_pb2.SubmitRunRequest(
            spec=spec,
            request_id=request_id,
            skip_program_check=skip_program_check,
            resume_run=resume_run,
        )
        pending = "the run was sent" if request_id else ""
        return self._call(self._stub.SubmitRun, request, self._work_timeout_s, pending)

    def get_run(self, run: str) -> control_pb2.GetRunResponse:
        """One run."""
        return self._call(self._stub.GetRun, control_pb2.GetRunRequest(run=run))

    def list_runs(
        self, *, page_size: int = 0, page_token: str = ""
    ) -> control_pb2.ListRunsResponse:
        """A page of runs, newest first; `page_size` 0: 100."""
        request = control_pb2.ListRunsRequest(page_size=page_size, page_token=page_token)
        return self._call(self._stub.ListRuns, request)

    def delete_run(self, run: str, *, no_wait: bool = False) -> control_pb2.DeleteRunResponse:
        """Remove an ended run and its files; answers when they are gone, or cannot be removed."""
        request = control_pb2.DeleteRunRequest(run=run, no_wait=no_wait)
        return self._call(self._stub.DeleteRun, request, self._work_timeout_s)

    def pause_run(self, run: str, *, no_wait: bool = False) -> control_pb2.PauseRunResponse:
        """Hold a run after an agreed step; answers when it holds."""
        request = control_pb2.PauseRunRequest(run=run, no_wait=no_wait)
        return self._work(self._stub.PauseRun, request, f"the pause of {run} was asked for")

    def resume_run(self, run: str, *, no_wait: bool = False) -> control_pb2.ResumeRunResponse:
        """Go on with a paused run; answers when it goes on."""
        request = control_pb2.ResumeRunRequest(run=run, no_wait=no_wait)
        return self._work(self._stub.ResumeRun, request, f"the resumption of {run} was asked for")

    def stop_run(
        self, run: str, *, no_wait: bool = False, no_checkpoint: bool = False
    ) -> control_pb2.StopRunResponse:
        """End a run so that it can be resumed; answers when it has ended."""
        request = control_pb2.StopRunRequest(run=run, no_wait=no_wait, no_checkpoint=no_checkpoint)
        return self._work(self._stub.StopRun, request, f"the stop of {run} was asked for")

    def restart_run(self, run: str, *, no_wait: bool = False) -> control_pb2.RestartRunResponse:
        """Start a new trainer process; answers when it trains."""
        request = control_pb2.RestartRunRequest(run=run, no_wait=no_wait)
        return self._work(self._stub.RestartRun, request, f"the restart of {run} was asked for")

    def checkpoint_run(
        self, run: str, *, no_wait: bool = False
    ) -> control_pb2.CheckpointRunResponse:
        """Save a checkpoint now; answers when it is durable."""
        request = control_pb2.CheckpointRunRequest(run=run, no_wait=no_wait)
        pending = f"the checkpoint of {run} was asked for"
        return self._work(self._stub.CheckpointRun, request, pending)

    def list_checkpoints(
        self, run: str, *, page_size: int = 0, page_token: str = ""
    ) -> control_pb2.ListCheckpointsResponse:
        """A page of the checkpoints on the host's disk, newest first, damaged ones included."""
        request = control_pb2.ListCheckpointsRequest(
            run=run, page_size=page_size, page_token=page_token
        )
        return self._call(self._stub.ListCheckpoints, request)

    def verify_checkpoints(self, run: str) -> control_pb2.VerifyCheckpointsResponse:
        """Read all of the run's checkpoints; one that is not what was saved is marked."""
        request = control_pb2.VerifyCheckpointsRequest(run=run)
        return self._call(self._stub.VerifyCheckpoints, request, self._verify_timeout_s)

    def adopt_checkpoint(self, run: str, step: int) -> control_pb2.AdoptCheckpointResponse:
        """Make the run's checkpoint of this step durable, which has no manifest, as it is."""
        request = control_pb2.AdoptCheckpointRequest(run=run, step=step)
        return self._call(self._stub.AdoptCheckpoint, request, self._verify_timeout_s)

    def export_checkpoint(
        self, run: str, directory: str, *, step: int | None = None
    ) -> control_pb2.ExportCheckpointResponse:
        """Write a checkpoint's parameters to `directory`, an absolute path on the run's host.

        `step` None: the newest durable checkpoint.
        """
        request = control_pb2.ExportCheckpointRequest(run=run, directory=directory, step=step)
        pending = f"the export of a checkpoint of {run} was asked for"
        return self._call(self._stub.ExportCheckpoint, request, self._replay_timeout_s, pending)

    def watch_run(
        self, run: str, *, after_sequence: int = 0
    ) -> Stream[control_pb2.WatchRunResponse]:
        """A run's situation now and after every change, until it ends.

        `after_sequence`: the `sequence` of an earlier stream's newest message, to miss nothing.
        """
        request = control_pb2.WatchRunRequest(run=run, after_sequence=after_sequence)
        return self._stream(self._stub.WatchRun, request)

    def list_events(
        self, run: str = "", *, after_sequence: int = 0, follow: bool = False
    ) -> Stream[control_pb2.ListEventsResponse]:
        """Journal records after a sequence; of all runs without `run`."""
        request = control_pb2.ListEventsRequest(
            run=run, after_sequence=after_sequence, follow=follow
        )
        return self._stream(self._stub.ListEvents, request)

    def explain_run(self, run: str) -> control_pb2.ExplainRunResponse:
        """Why a run is in its state: story, budgets, what happens next."""
        return self._call(self._stub.ExplainRun, control_pb2.ExplainRunRequest(run=run))

    def list_incidents(
        self, run: str, *, page_size: int = 0, page_token: str = ""
    ) -> control_pb2.ListIncidentsResponse:
        """A page of the incidents of a run that are kept, oldest first."""
        request = control_pb2.ListIncidentsRequest(
            run=run, page_size=page_size, page_token=page_token
        )
        return self._call(self._stub.ListIncidents, request)

    def get_incident(self, run: str, number: int = 0) -> control_pb2.GetIncidentResponse:
        """One incident with its evidence; `number` 0: the newest."""
        request = control_pb2.GetIncidentRequest(run=run, number=number)
        return self._call(self._stub.GetIncident, request)

    def replay_incident(
        self, run: str, number: int = 0, *, cpu: bool = False
    ) -> control_pb2.ReplayRunIncidentResponse:
        """Train again up to an incident's batch; `number` 0: the newest; `cpu`: not on devices."""
        request = control_pb2.ReplayRunIncidentRequest(run=run, number=number, cpu=cpu)
        pending = f"the replay of an incident of {run} was asked for"
        return self._call(self._stub.ReplayRunIncident, request, self._replay_timeout_s, pending)

    def get_policy(self, run: str) -> control_pb2.GetPolicyResponse:
        """A run's policy, and the one on trial."""
        return self._call(self._stub.GetPolicy, control_pb2.GetPolicyRequest(run=run))

    def set_policy(
        self,
        run: str,
        policy: fault_pb2.Policy | None = None,
        *,
        dry_run: bool = False,
        end_dry_run: bool = False,
    ) -> control_pb2.SetPolicyResponse:
        """Change what is set in `policy`, or only put the changed policy on trial (`dry_run`).

        `end_dry_run`, alone: end the trial, if there is one. Raises `InvalidRun` with every
        problem.
        """
        request = control_pb2.SetPolicyRequest(
            run=run, policy=policy, dry_run=dry_run, end_dry_run=end_dry_run
        )
        return self._call(self._stub.SetPolicy, request)

    def simulate_policy(
        self, run: str, policy: fault_pb2.Policy
    ) -> control_pb2.SimulatePolicyResponse:
        """What the run's policy with these changes would have decided, fault by fault."""
        request = control_pb2.SimulatePolicyRequest(run=run, policy=policy)
        return self._call(self._stub.SimulatePolicy, request, self._work_timeout_s)

    def inject_fault(
        self, run: str, injection: inject_pb2.Injection
    ) -> control_pb2.InjectFaultResponse:
        """Make a fault happen, where the daemon's configuration allows it."""
        request = control_pb2.InjectFaultRequest(run=run, injection=injection)
        return self._call(self._stub.InjectFault, request)

    def read_run_log(
        self,
        run: str,
        *,
        incarnation: int = 0,
        offset: int = 0,
        max_bytes: int = 0,
        host: str = "",
    ) -> control_pb2.ReadRunLogResponse:
        """A part of a run's log; see `ReadRunLogRequest`."""
        request = control_pb2.ReadRunLogRequest(
            run=run, incarnation=incarnation, offset=offset, max_bytes=max_bytes, host=host
        )
        return self._call(self._stub.ReadRunLog, request)

    def list_step_metrics(
        self, run: str, *, after_step: int = 0, page_size: int = 0, page_token: str = ""
    ) -> control_pb2.ListStepMetricsResponse:
        """A page of a run's step metrics, by step; `page_size` 0: 1,000."""
        request = control_pb2.ListStepMetricsRequest(
            run=run, after_step=after_step, page_size=page_size, page_token=page_token
        )
        return self._call(self._stub.ListStepMetrics, request)

    def profile_run(
        self, run: str, steps: int, *, directory: str = "", no_wait: bool = False
    ) -> control_pb2.ProfileRunResponse:
        """Profile the next steps; answers when it is written. `directory`: on the run's host."""
        request = control_pb2.ProfileRunRequest(
            run=run, steps=steps, directory=directory, no_wait=no_wait
        )
        return self._work(self._stub.ProfileRun, request, f"a profile of {run} was asked for")

    def collect_run_stacks(self, run: str) -> control_pb2.CollectRunStacksResponse:
        """Where all threads of the run's live trainer are."""
        request = control_pb2.CollectRunStacksRequest(run=run)
        return self._call(self._stub.CollectRunStacks, request)

    def _greet(self) -> None:
        if not self._greeted:
            self.daemon()

    def _stream(
        self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request
    ) -> Stream[Response]:
        self._greet()
        return Stream(method(request), self.address)

    def _work(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        pending: str,
    ) -> Response:
        return self._call(method, request, self._work_timeout_s, pending)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None = None,
        pending: str = "",
    ) -> Response:
        self._greet()
        return self._bare_call(
            method, request, self._timeout_s if timeout_s is None else timeout_s, pending
        )

    def _bare_call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float,
        pending: str = "",
    ) -> Response:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise from_rpc_error(
                error, address=self.address, timeout_s=timeout_s, pending=pending
            ) from error
