"""GetPolicy, SetPolicy: the policy of a run while it lives."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from trainerd.daemon import codec
from trainerd.daemon.changes import Changes
from trainerd.daemon.refusals import refuse, refuse_invalid
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.events import PolicyTrialEnded
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.terms import policy_with_defaults
from trainerd.daemon.validation import policy_problems
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, fault_pb2

_Context = grpc.aio.ServicerContext[Any, Any]


UNSET_BY_ZERO = ("loss_spike_z", "hang_floor_s")
"""Settings that may be without a value: 0 in a change takes it away."""


class Policies:
    """Reads and changes policies, one change at a time."""

    def __init__(self, runtime: Runtime, views: Views, changes: Changes) -> None:
        self._runtime = runtime
        self._views = views
        self._changes = changes
        self._one_by_one = asyncio.Lock()

    def get(self, run: Run) -> control_pb2.GetPolicyResponse:
        """The run's policy now, and the one on trial."""
        return control_pb2.GetPolicyResponse(
            policy=self._views.policy(run), version=run.policy_version, trial=_trial(run)
        )

    async def set(
        self, context: _Context, run_id: str, request: control_pb2.SetPolicyRequest
    ) -> control_pb2.SetPolicyResponse:
        """Change the policy, or its trial; what changes nothing is not journalled."""
        if request.end_dry_run and (request.dry_run or request.HasField("policy")):
            await refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                "BAD_POLICY_CHANGE",
                "end_dry_run cannot be given together with policy or dry_run",
            )
        # What a change starts from is what the one before it has made.
        async with self._one_by_one:
            run = await self._live(context, run_id)
            if request.end_dry_run:
                if run.trial is not None:
                    await self._changes.request(context, PolicyTrialEnded(run=run.id))
            else:
                await self._change(context, run, request)
            run = self._runtime.state.runs.get(run_id, run)
        return control_pb2.SetPolicyResponse(
            policy=self._views.policy(run), version=run.policy_version, trial=_trial(run)
        )

    async def _change(
        self, context: _Context, run: Run, request: control_pb2.SetPolicyRequest
    ) -> None:
        wanted = await changed_policy(context, self._views.policy(run), request.policy)
        event = codec.policy_change(run.id, wanted, trial=request.dry_run)
        if request.dry_run:
            present = run.trial.message if run.trial is not None else None
        else:
            present = self._views.policy(run).SerializeToString(deterministic=True)
        if event.message != present:
            await self._changes.request(context, event)

    async def _live(self, context: _Context, run_id: str) -> Run:
        run = self._runtime.state.runs.get(run_id)
        if run is None or run.terminal:
            story = f"has ended: it is {run.state.value}" if run else "is deleted"
            await refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                "REFUSED_IN_THIS_STATE",
                f"run {run_id} {story}",
            )
        return run


async def changed_policy(
    context: _Context, present: fault_pb2.Policy, changes: fault_pb2.Policy
) -> fault_pb2.Policy:
    """The policy with these changes; ends the call if that is not a possible one."""
    wanted = fault_pb2.Policy()
    wanted.CopyFrom(present)
    wanted.MergeFrom(changes)
    for name in UNSET_BY_ZERO:
        if changes.HasField(name) and getattr(changes, name) == 0:
            wanted.ClearField(name)
    problems = list(policy_problems(wanted))
    if problems:
        await refuse_invalid(context, problems, what="policy")
    return policy_with_defaults(wanted)


def _trial(run: Run) -> fault_pb2.Policy | None:
    if run.trial is None:
        return None
    return policy_with_defaults(fault_pb2.Policy.FromString(run.trial.message))
