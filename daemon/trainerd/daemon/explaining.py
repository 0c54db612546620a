"""ExplainRun: the supervisor's explanation, and the story from the journal."""

from __future__ import annotations

from trainerd.daemon import codec
from trainerd.daemon.deadlines import Deadlines
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision import state as supervision
from trainerd.daemon.supervision.explanation import Upcoming, explain
from trainerd.daemon.views import Views
from trainerd.v1 import control_pb2, event_pb2

FIRST = 8
NEWEST = 32
"""Records of a story: its beginning, and its end."""

STORY = frozenset(
    {
        "pause_requested",
        "resume_requested",
        "stop_requested",
        "restart_requested",
        "trainer_spawned",
        "trainer_spawn_failed",
        "trainer_exited",
        "trainer_finished",
        "fault_raised",
        "fault_injected",
        "rolled_back",
        "deadline_expired",
        "decision_made",
        "policy_changed",
        "run_state_changed",
    }
)
"""Kinds of records that explain a state."""

_CLASS = control_pb2.BudgetUse.DESCRIPTOR.fields_by_name["class"]
_PHASE = control_pb2.Upcoming.DESCRIPTOR.fields_by_name["phase"]
_KIND = control_pb2.Upcoming.DESCRIPTOR.fields_by_name["kind"]


async def explanation(
    runtime: Runtime, views: Views, deadlines: Deadlines, run: supervision.Run, *, now: float
) -> control_pb2.ExplainRunResponse:
    """Why a run is in its state at monotonic time `now`."""
    told = explain(runtime.state, run, now=now)
    answer = control_pb2.ExplainRunResponse(
        run=views.snapshot(run, now),
        cycles=told.cycles,
        max_cycles=told.max_cycles,
        upcoming=[_upcoming(each) for each in told.upcoming],
    )
    for use in told.budgets:
        budget = answer.budgets.add(
            used=use.used,
            limit=use.limit,
            window_s=use.window_s,
            in_a_row=use.in_a_row,
            consecutive=use.consecutive,
        )
        setattr(budget, "class", codec.enum_value(_CLASS, use.fault_class))
    silence = deadlines.silence(run, now=now)
    if silence is not None:
        upcoming = answer.upcoming.add(kind=control_pb2.UPCOMING_KIND_HANG)
        upcoming.in_s = max(0.0, silence.deadline_s - silence.waited_s)
        upcoming.phase = codec.enum_value(_PHASE, silence.phase)  # type: ignore[assignment]
    answer.story.extend(await _story(runtime, run.id, views.story(run.id)))
    return answer


async def _story(runtime: Runtime, run: str, begins: int) -> list[event_pb2.Event]:
    after = max(0, begins - 1)
    first = await runtime.history(run, after, FIRST, kinds=STORY)
    newest = await runtime.history(run, after, NEWEST, kinds=STORY, newest_first=True)
    records = {stored.sequence: stored.message for stored in (*first, *newest)}
    return [records[sequence] for sequence in sorted(records)]


def _upcoming(upcoming: Upcoming) -> control_pb2.Upcoming:
    message = control_pb2.Upcoming(run=upcoming.run, in_s=upcoming.in_s)
    message.kind = codec.enum_value(_KIND, upcoming.kind)  # type: ignore[assignment]
    return message
