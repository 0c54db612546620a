"""SimulatePolicy: what another policy would have decided about the faults of a run."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from trainerd.daemon import codec
from trainerd.daemon.journal import Stored
from trainerd.daemon.policies import changed_policy
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.events import AnyEvent
from trainerd.daemon.supervision.simulate import STORY, Supposition, simulate
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.terms import policy_of
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, event_pb2, fault_pb2, run_pb2

MAX_DECISIONS = 1000
"""Decisions in one answer: the newest."""
PAGE = 500

_STORY = frozenset(codec.kind_of_class(cls) for cls in STORY)
_Context = grpc.aio.ServicerContext[Any, Any]


async def simulated(
    context: _Context, runtime: Runtime, views: Views, run: Run, changes: fault_pb2.Policy
) -> control_pb2.SimulatePolicyResponse:
    """What the run's policy with these changes would have decided, fault by fault."""
    wanted = await changed_policy(context, views.policy(run), changes)
    spec = run_pb2.RunSpec(policy=wanted, checkpoint=views.spec(run.id).checkpoint)
    story: list[tuple[float, AnyEvent]] = []
    decisions: list[Stored] = []
    after = 0
    while page := await runtime.history(run.id, after, PAGE, kinds=_STORY):
        for stored in page:
            story.append((stored.now, codec.decode(stored.message)))
            if stored.kind == "decision_made" and _ruled(stored.message.decision_made):
                decisions.append(stored)
        after = page[-1].sequence
    supposed = await asyncio.to_thread(simulate, story, policy_of(spec))
    pairs = list(zip(decisions, supposed, strict=True))
    return control_pb2.SimulatePolicyResponse(
        decisions=[_simulated(*pair) for pair in pairs[-MAX_DECISIONS:]],
        left_out=max(0, len(pairs) - MAX_DECISIONS),
    )


def _ruled(made: event_pb2.DecisionMade) -> bool:
    """Whether a policy that was in force had a say in it."""
    return not made.trial and not codec.is_uncharged(made.fault)


def _simulated(stored: Stored, supposed: Supposition) -> control_pb2.SimulatedDecision:
    made = stored.message.decision_made
    simulated = control_pb2.SimulatedDecision(
        sequence=stored.sequence,
        time=stored.message.time,
        fault=made.fault,
        decision=made.decision,
    )
    codec.fill(simulated.simulated, supposed.supposed)
    return simulated
